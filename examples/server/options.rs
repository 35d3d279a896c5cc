//! The command line: flags, their environment variables, and the help text.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Parser;

use crate::database::SCHEMA_DEFAULT;

const ROUTES: &str = "\
Routes of the application (--listen):
  GET  /products/{id}              a product, read through the cache (`x-cache` says how)
  POST /products/{id}/reviews      {rating: 1..5, text}: a review, counted at its product
  GET  /rates/{currency}           an exchange rate, asked of the upstream through a breaker
  POST /orders                     {product_id, quantity, email}: an order, its product's counter
                                   and its confirmation mail, all or nothing
  GET  /orders/{id}                an order
  PATCH /orders/{id}               {status: pending|paid|shipped|cancelled}
  POST /mails                      {to, subject, text, html?}, `Idempotency-Key`: a mail; the same
                                   key and content is the same mail
  GET  /mails/{id}                 how far a mail is, with every attempt
  POST /webhooks/standard          an event of a Standard Webhooks source
  POST /webhooks/github            an event of GitHub
  GET  /events/{id}                an event that was received; /events/{id}/raw its exact bytes
  POST /reports                    {name}: a job of 20 ms that gives way under overload
  GET  /jobs/{id}                  how far a job is
  GET  /livez /readyz /startupz    probes; `?verbose` lists the checks
  GET  /demo/upstream              what has really arrived at the upstream
  PUT  /demo/upstream              {service?: rates|mail, mode, latency_ms?} with mode one of
                                   ok slow error hang refuse garbage stall reset throttle
  GET  /demo/panic                 a handler that panics
  GET  /demo/slow?ms=N             an answer after N ms, at most 60000
  POST /demo/actors/flaky/count    an actor that counts
  POST /demo/actors/flaky/poison   a message that makes it panic
  POST /demo/counters/damage       makes every product's counters wrong
  POST /demo/counters/repair       a job that puts them right while others write
  GET  /demo/counters/report       what the newest repairs have found
  GET  /demo/stats                 what a test needs to count
Routes of the administration (--admin):
  GET  /livez /readyz /startupz    the same probes, with reasons

Honoured on every request: X-Request-Id, X-Request-Timeout-Ms, traceparent.";

/// A service that survives its faults: the example server of steadfast.
///
/// It needs nothing installed. Once it serves, it prints one line to standard output:
/// `ready app=http://… admin=http://… upstream=http://…`; its log goes to standard error.
/// SIGTERM lets it finish what it has begun.
#[derive(Debug, Clone, Parser)]
#[command(name = "server", version, after_help = ROUTES)]
pub(crate) struct Options {
    /// Address of the application; port 0 takes a free one.
    #[arg(long, env = "STEADFAST_LISTEN", value_name = "ADDRESS")]
    #[arg(default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,

    /// Address of probes and administration; port 0 takes a free one.
    #[arg(long, env = "STEADFAST_ADMIN", value_name = "ADDRESS")]
    #[arg(default_value = "127.0.0.1:9090")]
    pub(crate) admin: SocketAddr,

    /// Where the data lives: `sqlite:PATH` or `postgres://USER:PASSWORD@HOST/DATABASE`. Several
    /// servers may share it. Without it, SQLite in a fresh temporary folder that the log names
    /// and that goes away with the server.
    #[arg(long, env = "STEADFAST_DATABASE", value_name = "URL")]
    pub(crate) database: Option<DatabaseUrl>,

    /// The schema of the library's tables on PostgreSQL. The server's own tables are in the
    /// default schema of the connection; with another name than `steadfast` here, in a schema
    /// named `NAME_shop`.
    #[arg(long, env = "STEADFAST_SCHEMA", value_name = "NAME")]
    #[arg(default_value = SCHEMA_DEFAULT, value_parser = schema)]
    pub(crate) schema: String,

    /// Base address of the third party. Without it, the server starts its own fault simulator
    /// on a free loopback port.
    #[arg(long, env = "STEADFAST_UPSTREAM", value_name = "URL")]
    pub(crate) upstream: Option<UpstreamUrl>,

    /// A TOML file with settings.
    #[arg(long, env = "STEADFAST_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// The secret of the webhook source `standard`: `whsec_` and Base64 of 24 to 64 bytes.
    #[arg(long, env = "STEADFAST_WEBHOOK_STANDARD_SECRET", value_name = "SECRET")]
    #[arg(default_value = STANDARD_SECRET, hide_env_values = true)]
    pub(crate) webhook_standard_secret: String,

    /// The secret of the webhook source `github`.
    #[arg(long, env = "STEADFAST_WEBHOOK_GITHUB_SECRET", value_name = "SECRET")]
    #[arg(default_value = GITHUB_SECRET, hide_env_values = true)]
    pub(crate) webhook_github_secret: String,

    /// How long a cached product is fresh, in milliseconds.
    #[arg(long, env = "STEADFAST_PRODUCT_TTL_MS", value_name = "MS")]
    #[arg(default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(1..=86_400_000))]
    product_ttl_ms: u64,
}

/// Known to everybody: for a demonstration on loopback, and nothing else.
const STANDARD_SECRET: &str = "whsec_c3RlYWRmYXN0LWRlbW8tc2VjcmV0LW5vdC1hLXNlY3JldA==";
const GITHUB_SECRET: &str = "steadfast-demo-secret";

impl Options {
    /// How long a cached product is fresh.
    pub(crate) const fn product_ttl(&self) -> Duration {
        Duration::from_millis(self.product_ttl_ms)
    }
}

/// The databases this server can use.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum DatabaseUrl {
    /// One file on this host.
    Sqlite(PathBuf),
    /// A server. Read when it is opened: what the command line refuses is repeated in the
    /// refusal, and this may hold a password.
    Postgres(String),
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(file) => f.debug_tuple("Sqlite").field(file).finish(),
            Self::Postgres(_) => f.write_str("Postgres"),
        }
    }
}

impl FromStr for DatabaseUrl {
    type Err = &'static str;

    fn from_str(url: &str) -> Result<Self, Self::Err> {
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return Ok(Self::Postgres(url.to_owned()));
        }
        match url.strip_prefix("sqlite:") {
            Some("") | None => Err("expected sqlite:PATH or postgres://USER@HOST/DATABASE"),
            Some(path) => Ok(Self::Sqlite(path.strip_prefix("//").unwrap_or(path).into())),
        }
    }
}

/// Leaves room for `_shop`; what else a schema must be, the store says.
fn schema(name: &str) -> Result<String, &'static str> {
    if name.len() <= 58 { Ok(name.to_owned()) } else { Err("expected at most 58 letters") }
}

/// The base address of an upstream: `http://HOST[:PORT]`, without a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UpstreamUrl(pub(crate) String);

impl FromStr for UpstreamUrl {
    type Err = &'static str;

    fn from_str(url: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "expected http://HOST[:PORT]";
        let parsed = reqwest::Url::parse(url).map_err(|_malformed| EXPECTED)?;
        let plain = parsed.scheme() == "http"
            && parsed.has_host()
            && parsed.path() == "/"
            && parsed.query().is_none()
            && parsed.username().is_empty();
        if !plain {
            return Err(EXPECTED);
        }
        Ok(Self(url.trim_end_matches('/').to_owned()))
    }
}

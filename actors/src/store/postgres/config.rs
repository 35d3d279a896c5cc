//! Where the server is and how it is used: a builder that checks, and what it has checked.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use crate::store::StoreError;

const MILLI: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// What tokio-postgres takes where nobody says otherwise: too long to notice a peer that is gone.
const KEEPALIVES_IDLE_UNSET: Duration = Duration::from_secs(2 * 3600);

/// Where the PostgreSQL server is and how a [`PgStore`](super::PgStore) uses it.
///
/// # TLS
///
/// `sslmode` is `disable`, `prefer` or `require`. Whenever TLS is used the certificate is
/// verified, also under `prefer` and `require`, where libpq would not: encryption to somebody
/// unknown protects nothing. So `verify-ca` and `verify-full` are read as `require`. Where the
/// address names no mode it is `prefer`, but `disable` when every host is this one.
#[derive(Clone)]
#[must_use = "options do nothing until a store is connected with them"]
pub struct PgOptions {
    config: Config,
    schema: String,
    connections: usize,
    statement_timeout: Duration,
    call_timeout: Duration,
    connect_timeout: Duration,
    acquire_timeout: Duration,
    ping_every: Duration,
    quiet: Duration,
    root_certificates: Option<Vec<u8>>,
    listen: bool,
}

impl PgOptions {
    /// Reads an address such as `postgres://user:password@host:5432/database?sslmode=require`.
    ///
    /// # Errors
    ///
    /// [`StoreError::InvalidSetting`]: correct the address.
    pub fn parse(address: &str) -> Result<Self, StoreError> {
        let strict = address
            .replace("sslmode=verify-full", "sslmode=require")
            .replace("sslmode=verify-ca", "sslmode=require");
        // What the parser says is left out: it may quote the password.
        let mut config: Config = strict.parse().or(Err(StoreError::InvalidSetting {
            setting: "database address",
            expected: "of the form `postgres://user:password@host:5432/database`",
        }))?;
        if !address.contains("sslmode") && is_local(&config) {
            config.ssl_mode(SslMode::Disable);
        }
        Ok(Self {
            config,
            schema: "steadfast".to_owned(),
            connections: 10,
            statement_timeout: Duration::from_secs(10),
            call_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
            acquire_timeout: Duration::from_secs(5),
            ping_every: Duration::from_secs(15),
            quiet: Duration::from_secs(15),
            root_certificates: None,
            listen: true,
        })
    }

    /// The schema that the library owns; also the name of its notification channel.
    /// Default `steadfast`; 1 to 63 lower-case letters, digits and `_`, no digit first, not
    /// beginning with `pg_`, and no word that SQL reserves.
    pub fn schema(mut self, schema: &str) -> Self {
        schema.clone_into(&mut self.schema);
        self
    }

    /// Connections in the pool; one more listens. Default 10; 1 to 200. Too low: callers wait
    /// for each other. Too high: the server spends its memory on processes.
    pub const fn connections(mut self, connections: usize) -> Self {
        self.connections = connections;
        self
    }

    /// How long the server works on one statement; half of it, how long one waits for a lock.
    /// Default 10 s; 10 ms to 1 h. Too high: one bad plan holds a connection for that long.
    pub const fn statement_timeout(mut self, timeout: Duration) -> Self {
        self.statement_timeout = timeout;
        self
    }

    /// How long one [`run`](super::PgStore::run) takes at most, all its statements together,
    /// also when the server says nothing at all any more. The deadline of the request may be
    /// earlier. Default 30 s; 10 ms to 1 h. Keep it above the statement timeout.
    pub const fn call_timeout(mut self, timeout: Duration) -> Self {
        self.call_timeout = timeout;
        self
    }

    /// How long connecting takes at most, TLS and password included.
    /// Default 5 s; 10 ms to 1 min.
    pub const fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long one waits for a free connection of the pool.
    /// Default 5 s; 1 ms to 1 min. Too high: overload becomes latency instead of errors.
    pub const fn acquire_timeout(mut self, timeout: Duration) -> Self {
        self.acquire_timeout = timeout;
        self
    }

    /// The certificates, as PEM, under one of which the server's must have been issued.
    /// Default: those the operating system trusts.
    pub fn root_certificates(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.root_certificates = Some(pem.into());
        self
    }

    /// Whether one connection listens for news of other processes. On by default. Off, they are
    /// found by polling alone: for `PgBouncer` in transaction mode, which cannot carry `LISTEN`.
    /// There, set its `ignore_startup_parameters = options` and the time-outs on the role.
    pub const fn listen(mut self, listen: bool) -> Self {
        self.listen = listen;
        self
    }

    /// How often the listening connection is asked whether it lives.
    #[cfg(test)]
    pub(super) const fn ping_every(mut self, every: Duration) -> Self {
        self.ping_every = every;
        self
    }

    /// After how long in the pool a connection is asked whether it lives.
    #[cfg(test)]
    pub(super) const fn quiet(mut self, quiet: Duration) -> Self {
        self.quiet = quiet;
        self
    }

    pub(super) fn check(self) -> Result<Settings, StoreError> {
        check_schema(&self.schema)?;
        if !(1..=200).contains(&self.connections) {
            return invalid("connections", "1 to 200");
        }
        let ten_millis = MILLI * 10;
        within("statement_timeout", self.statement_timeout, ten_millis..=HOUR, "10 ms to 1 h")?;
        within("call_timeout", self.call_timeout, ten_millis..=HOUR, "10 ms to 1 h")?;
        within("connect_timeout", self.connect_timeout, ten_millis..=MINUTE, "10 ms to 1 min")?;
        within("acquire_timeout", self.acquire_timeout, MILLI..=MINUTE, "1 ms to 1 min")?;
        Ok(Settings {
            roots: self.root_certificates.as_deref().map(read_roots).transpose()?,
            config: self.server_config(),
            schema: self.schema.into(),
            connections: self.connections,
            call_timeout: self.call_timeout,
            connect_timeout: self.connect_timeout,
            acquire_timeout: self.acquire_timeout,
            ping_every: self.ping_every,
            quiet: self.quiet,
            listen: self.listen,
        })
    }

    /// The address with what every connection of ours is to have. What the address says itself
    /// stands.
    fn server_config(&self) -> Config {
        let mut config = self.config.clone();
        config.connect_timeout(self.connect_timeout);
        if config.get_application_name().is_none() {
            config.application_name("steadfast");
        }
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(Duration::from_secs(15));
        }
        if config.get_keepalives_idle() == KEEPALIVES_IDLE_UNSET {
            config.keepalives_idle(Duration::from_secs(15));
            config.keepalives_interval(Duration::from_secs(5)).keepalives_retries(3);
        }
        // ORDER: the address's own last, because the last one wins.
        let own = self.config.get_options().unwrap_or_default();
        config.options(format!("{} {own}", self.session_options()).trim());
        config
    }

    /// Always a plan for the values at hand: a queue's table is empty at one moment and holds a
    /// million rows at the next, and a plan kept from the first would scan all of them.
    fn session_options(&self) -> String {
        let statement = self.statement_timeout.as_millis();
        let lock = (statement / 2).max(1);
        let idle = self.call_timeout.as_millis();
        format!(
            "-c statement_timeout={statement} -c lock_timeout={lock} \
             -c idle_in_transaction_session_timeout={idle} -c plan_cache_mode=force_custom_plan"
        )
    }
}

/// Without the address, which holds the password.
impl fmt::Debug for PgOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgOptions")
            .field("schema", &self.schema)
            .field("connections", &self.connections)
            .field("listen", &self.listen)
            .finish_non_exhaustive()
    }
}

/// Options that were checked.
pub(super) struct Settings {
    pub(super) config: Config,
    pub(super) schema: Arc<str>,
    pub(super) connections: usize,
    pub(super) call_timeout: Duration,
    pub(super) connect_timeout: Duration,
    pub(super) acquire_timeout: Duration,
    pub(super) ping_every: Duration,
    /// A connection that lay idle for so long is asked whether it lives before it is lent:
    /// firewalls and NAT forget a connection without telling its ends.
    pub(super) quiet: Duration,
    pub(super) roots: Option<Vec<CertificateDer<'static>>>,
    pub(super) listen: bool,
}

/// Whether a schema can be written into SQL as it is.
pub(super) fn check_schema(schema: &str) -> Result<(), StoreError> {
    let named = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
    let fits = (1..=63).contains(&schema.len())
        && schema.bytes().all(named)
        && !schema.starts_with(|first: char| first.is_ascii_digit())
        && !schema.starts_with("pg_");
    if fits { Ok(()) } else { invalid("schema", SCHEMA_EXPECTED) }
}

pub(super) const SCHEMA_EXPECTED: &str = "1 to 63 lower-case letters, digits and `_`, not \
     beginning with a digit or `pg_`, and no reserved word";

fn within(
    setting: &'static str,
    value: Duration,
    range: std::ops::RangeInclusive<Duration>,
    expected: &'static str,
) -> Result<(), StoreError> {
    if range.contains(&value) { Ok(()) } else { invalid(setting, expected) }
}

fn invalid<T>(setting: &'static str, expected: &'static str) -> Result<T, StoreError> {
    Err(StoreError::InvalidSetting { setting, expected })
}

fn read_roots(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, StoreError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match read {
        Ok(roots) if !roots.is_empty() => Ok(roots),
        Ok(_) | Err(_) => invalid("root_certificates", "certificates in PEM"),
    }
}

/// Whether every host is this one, so that nothing goes over a wire.
fn is_local(config: &Config) -> bool {
    let named = config.get_hosts().iter().all(|host| match host {
        Host::Tcp(name) => name == "localhost" || is_loopback(name),
        #[cfg(unix)]
        Host::Unix(_) => true,
    });
    named && config.get_hostaddrs().iter().all(IpAddr::is_loopback)
}

fn is_loopback(name: &str) -> bool {
    name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

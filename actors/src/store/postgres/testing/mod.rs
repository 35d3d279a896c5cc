//! What tests need to reach PostgreSQL: a schema of their own on the server of the environment.

use std::io::Write as _;
use std::thread;

use tokio_postgres::NoTls;

use super::{PgOptions, PgStore};

mod cluster;

pub(crate) use cluster::Cluster;

/// Where the server is if the environment does not say.
const DEFAULT: &str = "postgres://postgres@127.0.0.1:5432/test";

/// A schema of its own on a server that can be reached; dropped with this.
pub(crate) struct TestSchema {
    address: String,
    name: String,
}

impl TestSchema {
    /// `None`, and a line that says so, when there is no server; a panic where one is required.
    pub(crate) async fn find() -> Option<Self> {
        let address = std::env::var("STEADFAST_TEST_POSTGRES").unwrap_or_else(|_| DEFAULT.into());
        let address = with(&address, "sslmode=disable");
        if let Err(error) = execute(&address, "select 1").await {
            skip_or_panic(&format!("no PostgreSQL at {}", place(&address)), &error.to_string());
            return None;
        }
        let name = format!("sf_test_{:016x}", fastrand::u64(..));
        Some(Self { address, name })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The server, with the schema's name as the application's, so that a test tells its own
    /// connections from those of others.
    pub(crate) fn address(&self) -> String {
        with(&self.address, &format!("application_name={}", self.name))
    }

    pub(crate) fn options(&self) -> PgOptions {
        PgOptions::parse(&self.address()).unwrap().schema(&self.name)
    }

    /// A store with all migrations in this schema.
    pub(crate) async fn store(&self) -> PgStore {
        PgStore::connect(self.options()).await.unwrap()
    }

    /// A connection beside those of the store.
    pub(crate) async fn observer(&self) -> tokio_postgres::Client {
        open(&with(&self.address, "application_name=observer")).await.unwrap()
    }
}

/// From any thread, also one that must not block a runtime: so on a thread of its own.
impl Drop for TestSchema {
    fn drop(&mut self) {
        let drop_schema = format!("drop schema if exists {} cascade", self.name);
        let address = self.address.clone();
        let dropping = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(execute(&address, &drop_schema))
        });
        match dropping.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => eprintln!("schema {} is left behind: {error}", self.name),
            Err(_) => eprintln!("schema {} is left behind", self.name),
        }
    }
}

fn skip_or_panic(missing: &str, why: &str) {
    let required = std::env::var("STEADFAST_REQUIRE_SERVICES").is_ok_and(|set| set == "1");
    assert!(!required, "{missing}, and it is required: {why}");
    skip(missing);
}

/// Says that a test does nothing for want of a service. Past the capture of tests that pass: nobody
/// should take it for one that was tried.
pub(crate) fn skip(missing: &str) {
    let _nobody_reads = writeln!(std::io::stderr(), "skipped: {missing}");
}

async fn execute(address: &str, sql: &str) -> Result<(), tokio_postgres::Error> {
    open(address).await?.batch_execute(sql).await
}

async fn open(address: &str) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(address, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

fn with(address: &str, parameter: &str) -> String {
    let (name, _) = parameter.split_once('=').unwrap();
    let separator = if address.contains('?') { '&' } else { '?' };
    let present = address.contains(&format!("{name}="));
    if present { address.to_owned() } else { format!("{address}{separator}{parameter}") }
}

/// The address without what may be secret.
fn place(address: &str) -> &str {
    address.rsplit('@').next().unwrap_or_default()
}

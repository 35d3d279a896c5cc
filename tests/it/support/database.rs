//! Databases of a test's own, and the example server on them.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

use super::server::Server;

/// Where PostgreSQL is if the environment does not say.
const POSTGRES_DEFAULT: &str = "postgres://postgres@127.0.0.1:5432/test";

/// A database that only one test uses. What is in it goes away with it.
#[derive(Debug)]
pub(crate) struct TestDatabase {
    place: Place,
    /// What the servers on it have in common, as on a real host: where they show that they live.
    temporary: TempDir,
}

#[derive(Debug)]
enum Place {
    Sqlite(PathBuf),
    Postgres { address: String, schema: String },
}

impl TestDatabase {
    /// One of each kind that can be reached.
    pub(crate) async fn each() -> Vec<Self> {
        [Some(Self::sqlite()), Self::postgres().await].into_iter().flatten().collect()
    }

    /// A file that is not there yet.
    pub(crate) fn sqlite() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        Self { place: Place::Sqlite(temporary.path().join("shop.db")), temporary }
    }

    /// A schema that is not there yet. `None`, and a line that says so, where there is no
    /// server; a panic where one is required.
    pub(crate) async fn postgres() -> Option<Self> {
        let address = postgres_address();
        if let Err(error) = connect(&address).await {
            let required = std::env::var("STEADFAST_REQUIRE_SERVICES").is_ok_and(|set| set == "1");
            assert!(!required, "PostgreSQL is required and cannot be used: {error}");
            let place = address.rsplit('@').next().unwrap_or_default();
            eprintln!("skipped: no PostgreSQL at {place}");
            return None;
        }
        let temporary = tempfile::tempdir().unwrap();
        let unique = temporary.path().file_name().unwrap().to_string_lossy().to_lowercase();
        let unique: String = unique.chars().filter(char::is_ascii_alphanumeric).collect();
        let schema = format!("sf_it_{}_{unique}", std::process::id());
        Some(Self { place: Place::Postgres { address, schema }, temporary })
    }

    pub(crate) const fn is_sqlite(&self) -> bool {
        matches!(self.place, Place::Sqlite(_))
    }

    /// A server on it.
    #[track_caller]
    pub(crate) fn server(&self) -> Server {
        self.server_with(|_| {})
    }

    /// A server on it whose command line or environment the test has changed.
    #[track_caller]
    pub(crate) fn server_with(&self, change: impl FnOnce(&mut Command)) -> Server {
        Server::start_with(|command| {
            command.args(self.arguments()).env("TMPDIR", self.temporary.path());
            change(command);
        })
    }

    /// What tells a server to use it.
    pub(crate) fn arguments(&self) -> Vec<String> {
        match &self.place {
            Place::Sqlite(file) => {
                vec!["--database".into(), format!("sqlite:{}", file.display())]
            }
            Place::Postgres { address, schema } => {
                let (address, schema) = (address.clone(), schema.clone());
                vec!["--database".into(), address, "--schema".into(), schema]
            }
        }
    }

    /// Runs statements in which `{shop}` stands before the server's tables and `{library}`
    /// before the library's.
    pub(crate) async fn execute(&self, sql: &str) {
        self.try_execute(sql).await.unwrap();
    }

    /// As [`execute`](Self::execute), with what the database says against it.
    pub(crate) async fn try_execute(&self, sql: &str) -> Result<(), String> {
        let sql = self.resolved(sql);
        match &self.place {
            Place::Sqlite(file) => {
                open(file).execute_batch(&sql).map_err(|error| error.to_string())
            }
            Place::Postgres { address, .. } => {
                let executed = connect(address).await.unwrap().batch_execute(&sql).await;
                executed.map_err(|error| error.as_db_error().unwrap().to_string())
            }
        }
    }

    /// The numbers in the first column of what a query finds.
    pub(crate) async fn numbers(&self, sql: &str) -> Vec<i64> {
        let sql = self.resolved(sql);
        match &self.place {
            Place::Sqlite(file) => {
                let connection = open(file);
                let mut query = connection.prepare(&sql).unwrap();
                query.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
            }
            Place::Postgres { address, .. } => {
                let rows = connect(address).await.unwrap().query(&sql, &[]).await.unwrap();
                rows.iter().map(|row| row.get(0)).collect()
            }
        }
    }

    fn resolved(&self, sql: &str) -> String {
        let (shop, library) = match &self.place {
            Place::Sqlite(_) => (String::new(), "sf_".to_owned()),
            Place::Postgres { schema, .. } => (format!("{schema}_shop."), format!("{schema}.")),
        };
        sql.replace("{shop}", &shop).replace("{library}", &library)
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let Place::Postgres { address, schema } = &self.place else { return };
        let drop_both = format!("drop schema if exists {schema}, {schema}_shop cascade");
        let address = address.clone();
        // From any thread, also one that must not block its runtime.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime
                .unwrap()
                .block_on(async { connect(&address).await?.batch_execute(&drop_both).await })
        });
        if !matches!(dropping.join(), Ok(Ok(()))) {
            eprintln!("the schema {schema} is left behind");
        }
    }
}

/// The server that tests may use.
pub(crate) fn postgres_address() -> String {
    std::env::var("STEADFAST_TEST_POSTGRES").unwrap_or_else(|_| POSTGRES_DEFAULT.to_owned())
}

fn open(file: &PathBuf) -> rusqlite::Connection {
    let connection = rusqlite::Connection::open(file).unwrap();
    connection.busy_timeout(Duration::from_secs(10)).unwrap();
    connection
}

async fn connect(address: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(address, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

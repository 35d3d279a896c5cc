//! The one handle for either database.

use std::path::PathBuf;

use super::postgres::{PgOptions, PgStore};
use super::sqlite::{SqliteOptions, SqliteStore};
use super::{StoreError, Wakes};

/// A durable store: SQLite in a file of this host, or PostgreSQL. Cheap to clone.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Store {
    /// SQLite, embedded.
    Sqlite(SqliteStore),
    /// PostgreSQL.
    Postgres(PgStore),
}

impl Store {
    /// Opens what the address names, with the default options, and brings its tables up to date:
    /// `sqlite:PATH` or `postgres://…`.
    ///
    /// # Errors
    ///
    /// [`StoreError`] says what to do: correct the address, mend permissions, try again later,
    /// upgrade this process.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the tables are up to date or as they were.
    pub async fn open(address: &str) -> Result<Self, StoreError> {
        let is_postgres =
            ["postgres://", "postgresql://"].iter().any(|scheme| address.starts_with(scheme));
        if is_postgres {
            return Ok(Self::Postgres(PgStore::connect(PgOptions::parse(address)?).await?));
        }
        match address.strip_prefix("sqlite:").map(|path| path.strip_prefix("//").unwrap_or(path)) {
            Some("") | None => Err(StoreError::InvalidSetting {
                setting: "database",
                expected: "sqlite:PATH or postgres://USER@HOST/DATABASE",
            }),
            Some(path) => Ok(Self::Sqlite(SqliteStore::open(SqliteOptions::file(path)).await?)),
        }
    }

    /// Who waits for new rows.
    #[must_use]
    pub fn wakes(&self) -> &Wakes {
        match self {
            Self::Sqlite(store) => store.wakes(),
            Self::Postgres(store) => store.wakes(),
        }
    }

    /// The schema of the library's tables, on PostgreSQL.
    #[must_use]
    pub fn schema(&self) -> Option<&str> {
        match self {
            Self::Sqlite(_) => None,
            Self::Postgres(store) => Some(store.schema()),
        }
    }

    /// Asks the database whether it answers.
    ///
    /// # Errors
    ///
    /// [`StoreError`] says why not.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn ping(&self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(store) => {
                store.read(|connection| Ok(connection.query_row("select 1", [], |_| Ok(()))?)).await
            }
            Self::Postgres(store) => store.ping().await,
        }
    }

    /// Where processes of this host show each other that they live.
    pub(crate) fn presence_folder(&self) -> Option<PathBuf> {
        match self {
            Self::Sqlite(store) => store.presence_folder(),
            Self::Postgres(_) => Some(std::env::temp_dir().join("steadfast-nodes")),
        }
    }

    /// Closes it: what was accepted is written first.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it goes on closing.
    pub async fn close(&self) {
        match self {
            Self::Sqlite(store) => store.close().await,
            Self::Postgres(store) => store.close().await,
        }
    }
}

impl From<SqliteStore> for Store {
    fn from(store: SqliteStore) -> Self {
        Self::Sqlite(store)
    }
}

impl From<PgStore> for Store {
    fn from(store: PgStore) -> Self {
        Self::Postgres(store)
    }
}

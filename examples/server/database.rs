//! The server's own data: one SQLite file, opened, migrated and seeded at start-up.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use serde::Serialize;
use tempfile::TempDir;

use crate::options::DatabaseUrl;

/// LIMIT: how long a statement waits for another process that writes to the same file.
const BUSY_MAX: Duration = Duration::from_secs(5);
const PRODUCTS: u32 = 100;

const SCHEMA: &str = "\
CREATE TABLE IF NOT EXISTS products (
    id            INTEGER PRIMARY KEY,
    name          TEXT    NOT NULL,
    price_cents   INTEGER NOT NULL CHECK (price_cents >= 0),
    orders_count  INTEGER NOT NULL DEFAULT 0 CHECK (orders_count >= 0),
    reviews_count INTEGER NOT NULL DEFAULT 0 CHECK (reviews_count >= 0)
) STRICT";

/// A row of `products`, as a client sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Product {
    id: u32,
    name: String,
    price_cents: i64,
    orders_count: i64,
    reviews_count: i64,
}

/// The open database. Clones share one connection.
///
/// One is enough: it is only asked for what the cache does not have.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    connection: Arc<Mutex<Connection>>,
    /// Removes the default folder when the server ends.
    _folder: Option<Arc<TempDir>>,
}

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DatabaseError {
    /// No temporary folder could be made.
    #[error("cannot make a temporary folder")]
    Folder(#[from] std::io::Error),
    /// SQLite refused.
    #[error("cannot use the database")]
    Sqlite(#[from] rusqlite::Error),
    /// The blocking pool is shutting down.
    #[error("the database task was cut short")]
    Cut(#[from] tokio::task::JoinError),
}

impl Database {
    /// Opens the database that `url` names, or a fresh one in a temporary folder.
    ///
    /// Opening is idempotent: rows that are there already stay as they are, and several
    /// processes may open the same file at the same time.
    pub(crate) fn open(url: Option<&DatabaseUrl>) -> Result<Self, DatabaseError> {
        let (path, folder) = locate(url)?;
        let mut connection = Connection::open(&path)?;
        connection.busy_timeout(BUSY_MAX)?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        seed(&mut connection)?;
        tracing::info!(path = %path.display(), temporary = folder.is_some(), "database opened");
        let connection = Arc::new(Mutex::new(connection));
        Ok(Self { connection, _folder: folder.map(Arc::new) })
    }

    /// Reads one product; `None` when there is no such row.
    ///
    /// # Cancel safety
    ///
    /// Dropping this leaves the statement to finish on the blocking pool, without effect.
    pub(crate) async fn product(&self, id: u32) -> Result<Option<Product>, DatabaseError> {
        let connection = Arc::clone(&self.connection);
        let read = move || {
            // A poisoned lock means that a reader panicked; the connection itself is sound.
            read_product(&connection.lock().unwrap_or_else(PoisonError::into_inner), id)
        };
        Ok(tokio::task::spawn_blocking(read).await??)
    }
}

fn locate(url: Option<&DatabaseUrl>) -> Result<(PathBuf, Option<TempDir>), DatabaseError> {
    match url {
        Some(DatabaseUrl::Sqlite(path)) => Ok((path.clone(), None)),
        None => {
            let folder = tempfile::Builder::new().prefix("steadfast-").tempdir()?;
            Ok((folder.path().join("server.db"), Some(folder)))
        }
    }
}

fn seed(connection: &mut Connection) -> Result<(), rusqlite::Error> {
    // IMMEDIATE: two processes that start together take turns instead of failing half-way.
    let write = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    write.execute(SCHEMA, [])?;
    {
        let sql = "INSERT OR IGNORE INTO products (id, name, price_cents) VALUES (?1, ?2, ?3)";
        let mut insert = write.prepare(sql)?;
        for id in 1..=PRODUCTS {
            insert.execute(params![id, format!("Product {id}"), 500 + 25 * id])?;
        }
    }
    write.commit()
}

fn read_product(connection: &Connection, id: u32) -> Result<Option<Product>, rusqlite::Error> {
    let sql = "SELECT id, name, price_cents, orders_count, reviews_count \
               FROM products WHERE id = ?1";
    let read = |row: &rusqlite::Row<'_>| {
        Ok(Product {
            id: row.get(0)?,
            name: row.get(1)?,
            price_cents: row.get(2)?,
            orders_count: row.get(3)?,
            reviews_count: row.get(4)?,
        })
    };
    connection.prepare_cached(sql)?.query_row([id], read).optional()
}

//! The server's own data: one SQLite file, opened, migrated and seeded at start-up.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OptionalExtension, TransactionBehavior, params};
use serde::Serialize;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

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

/// Where the database is. Dropping it removes what is only temporary.
#[derive(Debug)]
pub(crate) struct Place {
    file: PathBuf,
    temporary: Option<TempDir>,
}

impl Place {
    /// The place that `url` names, or a fresh temporary folder.
    ///
    /// # Errors
    ///
    /// No temporary folder could be made.
    pub(crate) fn find(url: Option<&DatabaseUrl>) -> std::io::Result<Self> {
        match url {
            Some(DatabaseUrl::Sqlite(file)) => Ok(Self { file: file.clone(), temporary: None }),
            None => {
                let folder = tempfile::Builder::new().prefix("steadfast-").tempdir()?;
                Ok(Self { file: folder.path().join("server.db"), temporary: Some(folder) })
            }
        }
    }
}

/// The open database. Clones share one connection.
///
/// One is enough: it is only asked for what the cache does not have.
#[derive(Debug, Clone)]
pub(crate) struct Database(Arc<Mutex<Connection>>);

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DatabaseError {
    /// SQLite refused.
    #[error("cannot use the database")]
    Sqlite(#[from] rusqlite::Error),
    /// The blocking pool is shutting down.
    #[error("the database task was cut short")]
    Cut(#[from] tokio::task::JoinError),
}

impl Database {
    /// Opens the database and makes sure that it has its tables and rows.
    ///
    /// Opening is idempotent: rows that are there already stay as they are, and several
    /// processes may open the same file at the same time.
    pub(crate) async fn open(place: &Place) -> Result<Self, DatabaseError> {
        let mut connection = Connection::open(&place.file)?;
        connection.busy_timeout(BUSY_MAX)?;
        enable_wal(&connection).await?;
        seed(&mut connection)?;
        let (file, temporary) = (place.file.display(), place.temporary.is_some());
        tracing::info!(%file, temporary, "database opened");
        Ok(Self(Arc::new(Mutex::new(connection))))
    }

    /// Whether the database answers. Blocks.
    pub(crate) fn ping(&self) -> Result<(), DatabaseError> {
        let connection = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(connection.query_row("SELECT 1", [], |_| Ok(()))?)
    }

    /// Reads one product; `None` when there is no such row.
    ///
    /// # Cancel safety
    ///
    /// Dropping this leaves the statement to finish on the blocking pool, without effect.
    pub(crate) async fn product(&self, id: u32) -> Result<Option<Product>, DatabaseError> {
        let connection = Arc::clone(&self.0);
        let read = move || {
            // A poisoned lock means that a reader panicked; the connection itself is sound.
            read_product(&connection.lock().unwrap_or_else(PoisonError::into_inner), id)
        };
        Ok(tokio::task::spawn_blocking(read).await??)
    }
}

/// Lets readers and a writer work side by side.
///
/// When processes start together, one may change the mode while the others look; SQLite does not
/// wait there, whatever its busy timeout is. So we do.
async fn enable_wal(connection: &Connection) -> Result<(), rusqlite::Error> {
    let give_up = Instant::now() + BUSY_MAX;
    loop {
        match connection.pragma_update(None, "journal_mode", "wal") {
            Err(error) if is_busy(&error) && Instant::now() < give_up => {
                sleep(Duration::from_millis(5)).await;
            }
            outcome => return outcome,
        }
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
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

//! The server's own data, in the same database as the library's tables: opened, migrated and
//! seeded at start-up.
//!
//! `sqlite.rs` and `postgres.rs` hold the same operations. Each that writes an order writes its
//! confirmation in the same transaction.

mod postgres;
mod sqlite;

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use steadfast::mailer::Mailer;
use steadfast::schema_enum::{Dialect, SchemaEnums};
use steadfast::store::{PgOptions, PgStore, SqliteOptions, SqliteStore, Store, StoreError};
use tempfile::TempDir;

use crate::options::DatabaseUrl;
use crate::orders::{NewOrder, Order, OrderError, Status};
use crate::reviews::{NewReview, Review, ReviewError};

use self::postgres::PostgresShop;
pub(crate) use self::postgres::SCHEMA_DEFAULT;
use self::sqlite::SqliteShop;

const PRODUCTS: u32 = 100;
/// LIMIT: how long what was accepted may take to be written when the server leaves.
const CLOSE_MAX: Duration = Duration::from_secs(5);

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
    url: DatabaseUrl,
    temporary: Option<TempDir>,
}

impl Place {
    /// The place that `url` names, or a fresh temporary folder.
    ///
    /// # Errors
    ///
    /// No temporary folder could be made.
    pub(crate) fn find(url: Option<&DatabaseUrl>) -> std::io::Result<Self> {
        if let Some(url) = url {
            return Ok(Self { url: url.clone(), temporary: None });
        }
        let folder = tempfile::Builder::new().prefix("steadfast-").tempdir()?;
        let file: PathBuf = folder.path().join("server.db");
        Ok(Self { url: DatabaseUrl::Sqlite(file), temporary: Some(folder) })
    }
}

/// The database cannot be used; the source says what to correct, to mend or to wait for.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the database")]
pub(crate) struct CannotOpen(#[from] StoreError);

/// The statements that make the tables, with the constraint of the order's status.
fn tables(statements: &str, dialect: Dialect) -> String {
    #[expect(clippy::expect_used, reason = "the names are constants")]
    let constraints = SchemaEnums::of::<Status>().constraints(dialect).expect("names");
    statements.replace("{status}", &constraints.concat())
}

/// The open database. Clones share it.
#[derive(Debug, Clone)]
pub(crate) enum Database {
    Sqlite(SqliteShop),
    Postgres(PostgresShop),
}

impl Database {
    /// Opens the database and makes sure that it has its tables and rows; the library's are in
    /// `schema`, on PostgreSQL.
    ///
    /// Opening is idempotent: rows that are there already stay as they are, and several
    /// processes may open the same database at the same time.
    ///
    /// # Errors
    ///
    /// [`CannotOpen`], with why.
    pub(crate) async fn open(place: &Place, schema: &str) -> Result<Self, CannotOpen> {
        match &place.url {
            DatabaseUrl::Sqlite(file) => {
                let store = SqliteStore::open(SqliteOptions::file(file)).await?;
                let (file, temporary) = (file.display(), place.temporary.is_some());
                tracing::info!(%file, temporary, "database opened");
                Ok(Self::Sqlite(SqliteShop::open(store).await?))
            }
            DatabaseUrl::Postgres(address) => {
                let store = PgStore::connect(PgOptions::parse(address)?.schema(schema)).await?;
                tracing::info!(schema, "database opened");
                Ok(Self::Postgres(PostgresShop::open(store).await?))
            }
        }
    }

    /// The store that holds it, for the library's own tables.
    pub(crate) fn store(&self) -> Store {
        match self {
            Self::Sqlite(shop) => Store::from(shop.store().clone()),
            Self::Postgres(shop) => Store::from(shop.store().clone()),
        }
    }

    /// Where a table of the shop is.
    pub(crate) fn table(&self, name: &str) -> String {
        match self {
            Self::Sqlite(_) => name.to_owned(),
            Self::Postgres(shop) => shop.table(name),
        }
    }

    /// The columns that are enums.
    pub(crate) fn enums(&self) -> SchemaEnums {
        match self {
            Self::Sqlite(_) => SchemaEnums::registered(),
            Self::Postgres(shop) => shop.enums(),
        }
    }

    /// Writes what was accepted, and closes it.
    pub(crate) async fn close(&self) {
        if tokio::time::timeout(CLOSE_MAX, self.store().close()).await.is_err() {
            tracing::warn!("the database does not close");
        }
    }

    /// Reads one product; `None` when there is no such row.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(crate) async fn product(&self, id: u32) -> Result<Option<Product>, StoreError> {
        match self {
            Self::Sqlite(shop) => shop.product(id).await,
            Self::Postgres(shop) => shop.product(id).await,
        }
    }

    /// Writes an order, counts it at its product, and stores its confirmation: all or nothing.
    ///
    /// # Errors
    ///
    /// [`OrderError::UnknownProduct`]; or the store or the mailer failed.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the order may be placed all the same.
    pub(crate) async fn place_order(
        &self,
        new: NewOrder,
        mailer: Mailer,
    ) -> Result<Order, OrderError> {
        match self {
            Self::Sqlite(shop) => shop.place_order(new, mailer).await,
            Self::Postgres(shop) => shop.place_order(new, mailer).await,
        }
    }

    /// Reads one order; `None` when there is no such row.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(crate) async fn order(&self, id: i64) -> Result<Option<Order>, StoreError> {
        match self {
            Self::Sqlite(shop) => shop.order(id).await,
            Self::Postgres(shop) => shop.order(id).await,
        }
    }

    /// Moves an order to another status; the order as it is then.
    ///
    /// # Errors
    ///
    /// [`OrderError::Unknown`], [`OrderError::IllegalTransition`]; or the store failed.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it may be carried out all the same.
    pub(crate) async fn move_order(&self, id: i64, to: Status) -> Result<Order, OrderError> {
        match self {
            Self::Sqlite(shop) => shop.move_order(id, to).await,
            Self::Postgres(shop) => shop.move_order(id, to).await,
        }
    }

    /// Writes a review and counts it at its product: both or neither.
    ///
    /// # Errors
    ///
    /// [`ReviewError::UnknownProduct`]; or the store failed.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it may be written all the same.
    pub(crate) async fn write_review(
        &self,
        product: u32,
        new: NewReview,
    ) -> Result<Review, ReviewError> {
        match self {
            Self::Sqlite(shop) => shop.write_review(product, new).await,
            Self::Postgres(shop) => shop.write_review(product, new).await,
        }
    }

    /// Gives every product counters that are wrong; how many products there are.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it may be done all the same.
    pub(crate) async fn damage_counters(&self) -> Result<u64, StoreError> {
        match self {
            Self::Sqlite(shop) => shop.damage_counters().await,
            Self::Postgres(shop) => shop.damage_counters().await,
        }
    }
}

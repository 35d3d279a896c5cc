//! Products: rows of the database, read through the cache.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use steadfast::cache_fill::{Cache, ConfigError, FillCtx, FillError, Hit, Loaded, Loader};
use steadfast::runtime::Builder;
use steadfast::store::StoreError;

use crate::database::{Database, Product};

/// LIMIT: a reader that has waited this long for the database is better off with an error.
const WAIT_MAX: Duration = Duration::from_secs(2);
/// How long an old row may stand in for one that cannot be read.
const STALE_IF_ERROR: Duration = Duration::from_secs(60);

/// The cached products. Clones share one cache.
#[derive(Debug, Clone)]
pub(crate) struct Products {
    cache: Cache<u32, Product>,
    loads: Arc<AtomicU64>,
}

impl Products {
    /// Declares the cache, whose rows are fresh for `ttl`.
    ///
    /// # Errors
    ///
    /// `ttl` is out of the cache's range.
    pub(crate) fn declare(
        builder: &mut Builder,
        database: Database,
        ttl: Duration,
    ) -> Result<Self, ConfigError> {
        let loads = Arc::default();
        let cache = Cache::builder("products", Rows { database, loads: Arc::clone(&loads) })
            .ttl(ttl)
            .negative_ttl(ttl)
            .stale_if_error(STALE_IF_ERROR);
        Ok(Self { cache: builder.cache(cache)?, loads })
    }

    /// Reads one product.
    ///
    /// # Errors
    ///
    /// [`FillError::Absent`] when there is no such product, else why it could not be read.
    ///
    /// # Cancel safety
    ///
    /// Dropping it ends only this wait; a load goes on for the others.
    pub(crate) async fn get(&self, id: u32) -> Result<Hit<Product>, FillError> {
        self.cache.get(&id).wait(WAIT_MAX).await
    }

    /// Reads a product anew next time. Other servers on the same database find out when their
    /// entries expire.
    pub(crate) fn forget(&self, id: u32) {
        self.cache.invalidate(&id);
    }

    /// How often the database was really asked.
    pub(crate) fn loads(&self) -> u64 {
        self.loads.load(Ordering::Relaxed)
    }
}

/// Loads rows, and counts how often.
struct Rows {
    database: Database,
    loads: Arc<AtomicU64>,
}

impl Loader<u32, Product> for Rows {
    type Error = StoreError;

    async fn load(&self, id: u32, _: FillCtx<Product>) -> Result<Loaded<Product>, StoreError> {
        self.loads.fetch_add(1, Ordering::Relaxed);
        let row = self.database.product(id).await?;
        Ok(row.map_or_else(Loaded::absent, Loaded::value))
    }
}

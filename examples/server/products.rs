//! Products: rows of the database, read through the cache.

use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use steadfast::cache_fill::{Cache, ConfigError, FillCtx, FillError, Hit, Loaded, Loader};
use steadfast::kernel::RequestContext;
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

    /// Does work that changes a product; then the next read sees it. Other servers on the same
    /// database find out when their entries expire.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it goes on to its end: what is committed is also seen.
    pub(crate) async fn change<T: 'static>(
        &self,
        id: u32,
        work: impl Future<Output = T> + 'static,
    ) -> T {
        let cache = self.cache.clone();
        let changing = async move {
            let done = work.await;
            // Also after an error: the commit may have been made.
            cache.invalidate(&id);
            done
        };
        to_its_end(changing).await
    }

    /// Reads every product anew next time.
    pub(crate) fn forget_all(&self) {
        self.cache.clear();
    }

    /// How often the database was really asked.
    pub(crate) fn loads(&self) -> u64 {
        self.loads.load(Ordering::Relaxed)
    }
}

/// Does work that its caller may leave, under the caller's request.
async fn to_its_end<T: 'static>(work: impl Future<Output = T> + 'static) -> T {
    let request = RequestContext::current();
    let work = async move {
        match request {
            Some(request) => request.scope(work).await,
            None => work.await,
        }
    };
    match actix_web::rt::spawn(work).await {
        Ok(done) => done,
        Err(ended) => match ended.try_into_panic() {
            Ok(panic) => panic::resume_unwind(panic),
            // Its thread ends, and so does whoever waits here.
            Err(_cancelled) => std::future::pending().await,
        },
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

//! Products: rows of the database, read through the cache.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::database::{Database, DatabaseError, Product};

/// The cached products. Clones share one cache.
#[derive(Debug, Clone)]
pub(crate) struct Products {
    database: Database,
    loads: Arc<AtomicU64>,
}

impl Products {
    pub(crate) fn new(database: Database) -> Self {
        Self { database, loads: Arc::default() }
    }

    /// Reads one product.
    pub(crate) async fn get(&self, id: u32) -> Result<Option<Product>, DatabaseError> {
        self.loads.fetch_add(1, Ordering::Relaxed);
        self.database.product(id).await
    }

    /// How often the database was really asked.
    pub(crate) fn loads(&self) -> u64 {
        self.loads.load(Ordering::Relaxed)
    }
}

//! How many clients are connected.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts open connections over all workers. Clones share one count.
#[derive(Debug, Clone, Default)]
pub(crate) struct Connections(Arc<AtomicU64>);

impl Connections {
    /// Counts a connection for as long as the guard lives.
    pub(crate) fn open(&self) -> ConnectionGuard {
        self.0.fetch_add(1, Ordering::Relaxed);
        ConnectionGuard(self.clone())
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One open connection. Kept in the connection's own data, which is dropped when it closes.
#[derive(Debug)]
pub(crate) struct ConnectionGuard(Connections);

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

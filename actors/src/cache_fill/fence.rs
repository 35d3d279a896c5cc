//! Generations: what keeps a slow load from bringing an old value back.
//!
//! Every `invalidate`, `insert`, `expire` and `clear` raises a counter *before* it
//! takes the lock of the shard it changes. A fill notes the counters when it begins
//! and compares them again under that same lock before it stores.
//!
//! ORDER: either the commit holds the lock first, and the removal that follows sees
//! the value and takes it out; or the removal holds it first, and the commit then
//! sees the raised counter and stores nothing. There is no third order.

use std::sync::atomic::{AtomicU64, Ordering};

/// LIMIT: 8 KiB per cache. Two keys that share a counter cost one store that was
/// not made, never a wrong one: at 64 fills in flight an invalidation of some other
/// key hits one of them with a chance of 6 %.
const COUNTERS: usize = 1024;

/// The generation a key had at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Generation {
    key: u64,
    all: u64,
}

/// The generation counters of one cache.
#[derive(Debug)]
pub(super) struct Fence {
    keys: Box<[AtomicU64]>,
    all: AtomicU64,
}

impl Fence {
    pub(super) fn new() -> Self {
        Self { keys: (0..COUNTERS).map(|_| AtomicU64::new(0)).collect(), all: AtomicU64::new(0) }
    }

    /// The generation of the key with this hash, now.
    pub(super) fn generation(&self, hash: u64) -> Generation {
        let key = self.counter(hash).map_or(0, |counter| counter.load(Ordering::SeqCst));
        Generation { key, all: self.all.load(Ordering::SeqCst) }
    }

    /// Makes every fill of this key that has begun until now unfit to be stored.
    pub(super) fn raise(&self, hash: u64) {
        if let Some(counter) = self.counter(hash) {
            counter.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// The same for all keys.
    pub(super) fn raise_all(&self) {
        self.all.fetch_add(1, Ordering::SeqCst);
    }

    // INVARIANT: the remainder is below the number of counters, so there always is one.
    fn counter(&self, hash: u64) -> Option<&AtomicU64> {
        self.keys.get(usize::try_from(hash % COUNTERS as u64).ok()?)
    }
}

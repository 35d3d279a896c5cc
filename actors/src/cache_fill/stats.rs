//! What a cache has done, in numbers.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// What a cache has done since it was started, and what it holds now.
///
/// Each number is exact; they are read one after the other, so they may be apart by
/// what happened meanwhile.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// Reads answered with a fresh stored value.
    pub hits: u64,
    /// Reads answered with the knowledge that there is no value.
    pub absent_hits: u64,
    /// Reads answered with an old value, for whatever reason.
    pub stale: u64,
    /// Reads that waited for a load that another read had begun.
    pub joined: u64,
    /// Loads whose loader was called.
    pub loads: u64,
    /// Loads that ended in an error of the loader.
    pub failed: u64,
    /// Loads that ended in a panic of the loader.
    pub panicked: u64,
    /// Loads that were given up because they took too long.
    pub timed_out: u64,
    /// Loads that were dropped: nobody waited any more, or the cache stopped.
    pub aborted: u64,
    /// Results not stored because the key was changed after the load had begun.
    pub fenced: u64,
    /// Loads refused or given up because too many were under way.
    pub shed: u64,
    /// Values that had to make room for others.
    pub evicted: u64,
    /// Values stored now.
    pub values: usize,
    /// Keys known to have no value now.
    pub absent: usize,
    /// Loads that have not ended now.
    pub in_flight: usize,
    /// Of those, the ones that hold a permit of their own: at most `max_fills`.
    pub running: usize,
    /// Of those, the ones that wait for a permit.
    pub queued: usize,
}

#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters behind [`Stats`], without those that each shard keeps for itself.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) absent_hits: Counter,
    pub(super) stale: Counter,
    pub(super) joined: Counter,
    pub(super) loads: Counter,
    pub(super) failed: Counter,
    pub(super) panicked: Counter,
    pub(super) timed_out: Counter,
    pub(super) aborted: Counter,
    pub(super) fenced: Counter,
    pub(super) shed: Counter,
}

//! Work that takes its time, and the count of what became of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;

/// Counts the slow work of this process. Clones share one count.
#[derive(Debug, Clone, Default)]
pub(crate) struct SlowWork(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    started: AtomicU64,
    completed: AtomicU64,
    dropped: AtomicU64,
}

/// What became of the slow work so far. What is neither completed nor dropped is under way.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct SlowCounts {
    started: u64,
    completed: u64,
    dropped: u64,
}

impl SlowWork {
    /// Works for this long.
    ///
    /// # Cancel safety
    ///
    /// Dropping it stops the work, and counts it as dropped.
    pub(crate) async fn run(&self, duration: Duration) {
        let mut underway = Underway::begin(&self.0);
        tokio::time::sleep(duration).await;
        underway.completed = true;
    }

    pub(crate) fn counts(&self) -> SlowCounts {
        // ORDER: `started` last, so that it is never less than the sum of the others.
        let completed = self.0.completed.load(Ordering::Acquire);
        let dropped = self.0.dropped.load(Ordering::Acquire);
        SlowCounts { started: self.0.started.load(Ordering::Acquire), completed, dropped }
    }
}

/// One piece of work; knows when it was dropped unfinished.
struct Underway<'a> {
    counts: &'a Counts,
    completed: bool,
}

impl<'a> Underway<'a> {
    fn begin(counts: &'a Counts) -> Self {
        counts.started.fetch_add(1, Ordering::AcqRel);
        Self { counts, completed: false }
    }
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        let ended = if self.completed { &self.counts.completed } else { &self.counts.dropped };
        ended.fetch_add(1, Ordering::AcqRel);
    }
}

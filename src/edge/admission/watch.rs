//! What operators are told of shedding: one line when it begins, and one while it goes on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// LIMIT: a line per refusal would be one more load, and the log has one per request anyway.
const TOLD_EVERY: Duration = Duration::from_secs(10);
/// Nothing was shed for this long: it is over.
const OVER_AFTER: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct ShedWatch {
    began: Instant,
    /// In milliseconds after `began`; 0 for never.
    last: AtomicU64,
    told: AtomicU64,
    shed: AtomicU64,
    pub(super) rate_limited: AtomicU64,
}

impl ShedWatch {
    pub(super) fn new(now: Instant) -> Self {
        let zero = || AtomicU64::new(0);
        Self { began: now, last: zero(), told: zero(), shed: zero(), rate_limited: zero() }
    }

    pub(super) fn shed(&self, now: Instant) {
        let at = self.at(now);
        self.last.store(at, Ordering::Relaxed);
        let total = self.shed.fetch_add(1, Ordering::Relaxed) + 1;
        let told = self.told.load(Ordering::Relaxed);
        let due = told == 0 || at.saturating_sub(told) >= millis(TOLD_EVERY);
        let first = || self.told.compare_exchange(told, at, Ordering::Relaxed, Ordering::Relaxed);
        if due && first().is_ok() {
            tracing::warn!(total, "admission.shedding");
        }
    }

    pub(super) fn too_many(&self) {
        self.rate_limited.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether anything was shed in the last seconds.
    pub(super) fn is_shedding(&self, now: Instant) -> bool {
        let last = self.last.load(Ordering::Relaxed);
        last > 0 && self.at(now).saturating_sub(last) < millis(OVER_AFTER)
    }

    fn at(&self, now: Instant) -> u64 {
        // Never 0, which is never.
        millis(now.saturating_duration_since(self.began)).max(1)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shedding_is_over_five_seconds_after_the_last() {
        let began = Instant::now();
        let watch = ShedWatch::new(began);
        assert!(!watch.is_shedding(began));
        watch.shed(began);
        assert!(watch.is_shedding(began + Duration::from_millis(5_000)));
        assert!(!watch.is_shedding(began + Duration::from_millis(5_001)));
        watch.shed(began + Duration::from_secs(20));
        assert!(watch.is_shedding(began + Duration::from_secs(24)));
    }
}

//! The right to make one call.

use std::fmt;
use std::sync::Arc;

use super::Outcome;
use super::core::Core;

/// The right to make one call now. [`finish`](Self::finish) it with what came of it.
///
/// Dropped without that, it counts by what is known: a panic is a failure; a call dropped
/// at [`slow_after`](super::BreakerBuilder::slow_after) or later is a failure too, because
/// that is what a timeout around it looks like; a call dropped earlier counts for nothing,
/// because that is what a client that went away looks like. In every case a probe's slot
/// is free again, and dropping never waits.
#[must_use = "a permit that is dropped at once counts for nothing"]
pub struct Permit {
    core: Arc<Core>,
    epoch: u64,
    started_ns: u64,
    settled: bool,
}

impl Permit {
    #[inline]
    pub(super) const fn new(core: Arc<Core>, epoch: u64, started_ns: u64) -> Self {
        Self { core, epoch, started_ns, settled: false }
    }

    /// Counts the call. Ignored if the breaker has changed its state since.
    #[inline]
    pub fn finish(mut self, outcome: Outcome) {
        self.settled = true;
        self.core.settle(self.epoch, self.started_ns, outcome);
    }

    /// Gives the permit back unused: a later stage refused the call. Counts for nothing,
    /// however long it was held.
    pub fn release(mut self) {
        self.settled = true;
        self.core.give_back(self.epoch);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        let outcome = if std::thread::panicking() { Outcome::Failure } else { Outcome::Cancelled };
        self.core.settle(self.epoch, self.started_ns, outcome);
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("dependency", &self.core.dependency())
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}

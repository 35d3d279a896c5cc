//! The right to make one call.

use std::fmt;
use std::ops::Deref;

use super::Outcome;
use super::core::{Admission, Core};
use super::lanes::Lane;

/// The right to make one call now. [`finish`](Self::finish) it with what came of it.
///
/// Dropped without that, it counts by what is known: a panic is a failure; a call dropped
/// at [`slow_after`](super::BreakerBuilder::slow_after) or later is a failure too, because
/// that is what a timeout around it looks like; a call dropped earlier counts for nothing,
/// because that is what a client that went away looks like. In every case a probe's slot
/// is free again, and dropping never waits.
#[must_use = "a permit that is dropped at once counts for nothing"]
pub struct Permit(Hold<Lane>);

impl Permit {
    #[inline]
    pub(super) const fn new(lane: Lane, admission: Admission) -> Self {
        Self(Hold::new(lane, admission))
    }

    #[cfg(test)]
    pub(super) const fn epoch(&self) -> u64 {
        self.0.admission.epoch
    }

    /// Counts the call. Ignored if the breaker has changed its state since.
    #[inline]
    pub fn finish(self, outcome: Outcome) {
        self.0.finish(outcome);
    }

    /// Gives the permit back unused: a later stage refused the call. Counts for nothing,
    /// however long it was held.
    pub fn release(mut self) {
        self.0.settled = true;
        self.0.core.give_back(self.0.admission);
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("dependency", &self.0.core.dependency())
            .field("epoch", &self.0.admission.epoch)
            .finish_non_exhaustive()
    }
}

/// What a permit does, over a core that is owned or, where it can be, only borrowed.
pub(super) struct Hold<C: Deref<Target = Core>> {
    core: C,
    admission: Admission,
    settled: bool,
}

impl<C: Deref<Target = Core>> Hold<C> {
    #[inline]
    pub(super) const fn new(core: C, admission: Admission) -> Self {
        Self { core, admission, settled: false }
    }

    #[inline]
    pub(super) fn finish(mut self, outcome: Outcome) {
        self.settled = true;
        self.core.settle(self.admission, outcome);
    }
}

impl<C: Deref<Target = Core>> Drop for Hold<C> {
    #[inline]
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        let outcome = if std::thread::panicking() { Outcome::Failure } else { Outcome::Cancelled };
        self.core.settle(self.admission, outcome);
    }
}

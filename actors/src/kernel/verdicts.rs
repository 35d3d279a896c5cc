//! Why a reply channel was closed without an answer.
//!
//! actix can only close the channel. Carrying the reason in every message would cost
//! an allocation each; failures are rare, so the reason is left here under the
//! message's ticket, and the caller that finds its channel closed looks it up.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::error::CallError;

#[derive(Debug, Default)]
pub(crate) struct Verdicts {
    /// Lets a caller that leaves early skip the lock: almost always zero.
    count: AtomicUsize,
    reasons: Mutex<Reasons>,
}

#[derive(Debug, Default)]
struct Reasons {
    /// For callers that were there when it was left: as many as there are callers.
    awaited: BTreeMap<u64, CallError>,
    /// For callers that may have gone before. LIMIT: [`KEPT`], the oldest go first.
    unsure: BTreeMap<u64, CallError>,
}

/// LIMIT: reasons kept that perhaps nobody asks for. A caller that finds none is told that
/// its message may have run, which is the safe side.
const KEPT: usize = 4096;

impl Reasons {
    fn len(&self) -> usize {
        self.awaited.len() + self.unsure.len()
    }

    fn has(&self, ticket: u64) -> bool {
        self.awaited.contains_key(&ticket) || self.unsure.contains_key(&ticket)
    }
}

impl Verdicts {
    /// Leaves the reason for the caller of `ticket`. The caller must still be there:
    /// see [`Verdicts::forget`] for one that left meanwhile.
    pub(crate) fn record(&self, ticket: u64, verdict: CallError) {
        let mut reasons = self.reasons.lock();
        // The first reason is the true one: a drop after a panic must not hide the panic.
        if !reasons.has(ticket) {
            reasons.awaited.insert(ticket, verdict);
        }
        self.count.store(reasons.len(), Ordering::SeqCst);
    }

    /// Leaves the reason where it cannot be seen whether the caller of `ticket` still waits.
    pub(crate) fn record_unsure(&self, ticket: u64, verdict: CallError) {
        let mut reasons = self.reasons.lock();
        if !reasons.has(ticket) {
            reasons.unsure.insert(ticket, verdict);
        }
        if reasons.unsure.len() > KEPT {
            reasons.unsure.pop_first();
        }
        self.count.store(reasons.len(), Ordering::SeqCst);
    }

    /// The reason left for `ticket`, once.
    pub(crate) fn take(&self, ticket: u64) -> Option<CallError> {
        let mut reasons = self.reasons.lock();
        let unsure = reasons.unsure.remove(&ticket);
        let verdict = reasons.awaited.remove(&ticket).or(unsure);
        self.count.store(reasons.len(), Ordering::SeqCst);
        verdict
    }

    /// Removes a reason nobody will ask for.
    ///
    /// ORDER: a leaving caller drops its channel and then calls this; a recorder records
    /// and then looks whether the channel is closed, and if so calls this. Whoever comes
    /// second removes the entry, so none is left behind.
    pub(crate) fn forget(&self, ticket: u64) {
        if self.count.load(Ordering::SeqCst) > 0 {
            drop(self.take(ticket));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_stands_and_is_given_once() {
        let verdicts = Verdicts::default();
        verdicts.record(7, CallError::Stopped);
        verdicts.record(7, CallError::Overloaded);
        assert_eq!(verdicts.take(7), Some(CallError::Stopped));
        assert_eq!(verdicts.take(7), None);
    }

    #[test]
    fn reasons_nobody_asks_for_do_not_pile_up() {
        let verdicts = Verdicts::default();
        verdicts.record(KEPT as u64 + 1, CallError::Stopped);
        for ticket in 0..=KEPT as u64 {
            verdicts.record_unsure(ticket, CallError::Stopped);
        }
        assert_eq!(verdicts.take(0), None, "one past the limit, the oldest goes");
        assert_eq!(verdicts.take(1), Some(CallError::Stopped), "at the limit, all stay");
        let awaited = verdicts.take(KEPT as u64 + 1);
        assert_eq!(awaited, Some(CallError::Stopped), "what is awaited is not counted");
        verdicts.forget(2);
        assert_eq!(verdicts.take(2), None);
    }
}

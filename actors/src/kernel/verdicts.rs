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
    by_ticket: Mutex<BTreeMap<u64, CallError>>,
}

/// LIMIT: reasons kept. Some are left for callers that had gone already, where that
/// could not be seen; the oldest go first. A caller that finds none is told that its
/// message may have run, which is the safe side.
const KEPT: usize = 4096;

impl Verdicts {
    /// Leaves the reason for the caller of `ticket`. The caller must still be there:
    /// see [`Verdicts::forget`] for one that left meanwhile.
    pub(crate) fn record(&self, ticket: u64, verdict: CallError) {
        let mut by_ticket = self.by_ticket.lock();
        // The first reason is the true one: a drop after a panic must not hide the panic.
        by_ticket.entry(ticket).or_insert(verdict);
        if by_ticket.len() > KEPT {
            by_ticket.pop_first();
        }
        self.count.store(by_ticket.len(), Ordering::SeqCst);
    }

    /// The reason left for `ticket`, once.
    pub(crate) fn take(&self, ticket: u64) -> Option<CallError> {
        let mut by_ticket = self.by_ticket.lock();
        let verdict = by_ticket.remove(&ticket);
        self.count.store(by_ticket.len(), Ordering::SeqCst);
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
        for ticket in 0..=KEPT as u64 {
            verdicts.record(ticket, CallError::Stopped);
        }
        assert_eq!(verdicts.take(0), None, "one past the limit, the oldest goes");
        assert_eq!(verdicts.take(1), Some(CallError::Stopped), "at the limit, all stay");
        verdicts.forget(2);
        assert_eq!(verdicts.take(2), None);
    }
}

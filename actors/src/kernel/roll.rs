//! Finds an actor by its number, for a message that is dropped where its actor is unknown.
//!
//! A message that passed the gate has to account for itself wherever it ends. Holding its
//! actor's [`Shared`] for that would cost every message two locked instructions on a
//! cache line that all senders and the actor write. Messages that end unrun are rare, so
//! they carry a number and look the actor up here.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::shared::Shared;

/// Names one actor among all of this process, whatever tree they are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Number(NonZeroU64);

/// LIMIT: one entry per actor that somebody can still reach; it goes when the actor goes.
static ROLL: Mutex<BTreeMap<Number, Weak<Shared>>> = Mutex::new(BTreeMap::new());

impl Number {
    pub(crate) fn next() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let next = LAST.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        Self(NonZeroU64::new(next).unwrap_or(NonZeroU64::MAX))
    }
}

pub(crate) fn enter(shared: &Arc<Shared>) {
    let replaced = ROLL.lock().insert(shared.number, Arc::downgrade(shared));
    debug_assert!(replaced.is_none(), "numbers are unique");
}

pub(crate) fn leave(number: Number) {
    // Dropped after the lock, like all that is taken out here.
    let _gone = ROLL.lock().remove(&number);
}

/// The actor, unless it is gone: then nobody is left who could ask what became of it.
pub(crate) fn find(number: Number) -> Option<Arc<Shared>> {
    // ORDER: upgraded after the lock: dropping the last handle comes back here to leave.
    let found = ROLL.lock().get(&number).cloned();
    found?.upgrade()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::dead_letters::DeadLetters;
    use crate::kernel::gate::Gate;

    #[test]
    fn an_actor_is_found_until_its_last_handle_is_dropped() {
        let name = Arc::from("listed");
        let shared = Shared::new(1, name, "Listed", Gate::new(1), Arc::new(DeadLetters::new()));
        let number = shared.number;
        let found = find(number).expect("it is there");
        assert!(Arc::ptr_eq(&found, &shared));
        drop((found, shared));
        assert!(find(number).is_none());
        assert!(!ROLL.lock().contains_key(&number), "its entry went with it");
    }

    #[test]
    fn no_two_actors_have_the_same_number() {
        assert_ne!(Number::next(), Number::next());
    }
}

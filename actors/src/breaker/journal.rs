//! Transitions in the order of their epochs, whichever threads made them.
//!
//! A thread that won a transition hands it in here and goes on. One of the threads that
//! do so publishes for all: outside the lock, so that a subscriber may use the breaker.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::broadcast;

use super::gate::EPOCH_MASK;
use super::{BreakerState, Cause, DependencyId};

/// One change of a breaker's state.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// Whose breaker.
    pub dependency: DependencyId,
    /// The number of this change: 1, 2, 3, … A gap means that a subscriber was too slow.
    pub epoch: u64,
    /// The state that ended.
    pub from: BreakerState,
    /// The state that began.
    pub to: BreakerState,
    /// Why.
    pub cause: Cause,
    /// How long the new state lasts, if that is certain.
    pub lasts: Option<Duration>,
    /// When, on the breaker's own clock, which began when it was built.
    pub at: Duration,
}

/// LIMIT: transitions kept to look back at, and for subscribers that lag behind.
pub(super) const KEPT: usize = 64;

#[derive(Debug)]
pub(super) struct Journal {
    book: Mutex<Book>,
    sender: broadcast::Sender<Event>,
}

#[derive(Debug, Default)]
struct Book {
    /// Handed in, and not published because an earlier one is still missing.
    early: Vec<Event>,
    /// Published, oldest first.
    history: VecDeque<Event>,
    published: u64,
    publishing: bool,
}

impl Journal {
    pub(super) fn new() -> Self {
        Self { book: Mutex::default(), sender: broadcast::channel(KEPT).0 }
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.sender.subscribe()
    }

    pub(super) fn history(&self) -> Vec<Event> {
        self.book.lock().history.iter().cloned().collect()
    }

    pub(super) fn last(&self) -> Option<Event> {
        self.book.lock().history.back().cloned()
    }

    /// Takes a transition in, and publishes what can be published. `event.epoch` is the
    /// gate's, of 24 bits; here it becomes the full number.
    pub(super) fn hand_in(&self, event: Event) {
        {
            let mut book = self.book.lock();
            book.early.push(event);
            if book.publishing {
                return;
            }
            book.publishing = true;
        }
        let mut turn = Turn { journal: self, over: false };
        while let Some(event) = self.take_next() {
            report(&event);
            // Nobody listening is no fault.
            let _listeners = self.sender.send(event);
        }
        turn.over = true;
    }

    /// The next transition in order; ends this thread's turn if there is none.
    fn take_next(&self) -> Option<Event> {
        let mut book = self.book.lock();
        let wanted = (book.published + 1) & EPOCH_MASK;
        let distance = |event: &Event| event.epoch.wrapping_sub(wanted) & EPOCH_MASK;
        let nearest = (0..book.early.len()).min_by_key(|at| book.early.get(*at).map(distance));
        let ahead = nearest.and_then(|at| book.early.get(at)).map(distance);
        // LIMIT: behind this many, one that is still missing is given up.
        let ready = ahead == Some(0) || book.early.len() > KEPT;
        let (Some(at), Some(ahead), true) = (nearest, ahead, ready) else {
            book.publishing = false;
            return None;
        };
        let mut event = book.early.swap_remove(at);
        book.published += 1 + ahead;
        event.epoch = book.published;
        if book.history.len() == KEPT {
            book.history.pop_front();
        }
        book.history.push_back(event.clone());
        Some(event)
    }
}

/// The turn to publish; given up even if a subscriber's waker panics.
struct Turn<'a> {
    journal: &'a Journal,
    /// `take_next` has ended the turn, and it may be another thread's by now.
    over: bool,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if !self.over {
            self.journal.book.lock().publishing = false;
        }
    }
}

fn report(event: &Event) {
    let Event { dependency, epoch, from, to, cause, lasts, at: _ } = event;
    let lasts_ms = lasts.map(|lasts| u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX));
    let from = from.as_str();
    macro_rules! say {
        ($level:ident, $name:literal) => {
            tracing::$level!(%dependency, epoch, from, ?cause, lasts_ms, $name)
        };
    }
    match to {
        BreakerState::Closed => say!(info, "breaker.closed"),
        BreakerState::Open => say!(warn, "breaker.opened"),
        BreakerState::HalfOpen => say!(info, "breaker.half_opened"),
        BreakerState::ForcedOpen => say!(warn, "breaker.forced_open"),
        BreakerState::Disabled => say!(warn, "breaker.disabled"),
        BreakerState::MetricsOnly => say!(warn, "breaker.metrics_only"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    fn event(epoch: u64) -> Event {
        Event {
            dependency: DependencyId::parse("rates").unwrap(),
            epoch: epoch & EPOCH_MASK,
            from: BreakerState::Closed,
            to: BreakerState::Open,
            cause: Cause::PauseOver,
            lasts: None,
            at: Duration::ZERO,
        }
    }

    fn told(receiver: &mut broadcast::Receiver<Event>) -> Vec<u64> {
        std::iter::from_fn(|| receiver.try_recv().ok()).map(|event| event.epoch).collect()
    }

    #[test]
    fn an_early_event_waits_for_those_before_it() {
        let journal = Journal::new();
        let mut receiver = journal.subscribe();
        for (epoch, expect) in [(3, vec![]), (2, vec![]), (1, vec![1, 2, 3]), (4, vec![4])] {
            journal.hand_in(event(epoch));
            assert_eq!(told(&mut receiver), expect, "after {epoch}");
        }
    }

    #[test]
    fn an_event_that_never_comes_is_given_up_after_64_others() {
        let journal = Journal::new();
        for epoch in 2..=65 {
            journal.hand_in(event(epoch));
        }
        assert_eq!(journal.last(), None);
        journal.hand_in(event(66));
        assert_eq!(journal.last().unwrap().epoch, 66);
        assert_eq!(journal.history().first().unwrap().epoch, 3);
    }

    #[test]
    fn the_number_goes_on_where_the_gates_wraps() {
        let journal = Journal::new();
        journal.book.lock().published = EPOCH_MASK - 1;
        for epoch in EPOCH_MASK..EPOCH_MASK + 3 {
            journal.hand_in(event(epoch));
            assert_eq!(journal.last().unwrap().epoch, epoch);
        }
    }

    #[test]
    fn threads_publish_in_one_order() {
        let journal = Journal::new();
        let mut receiver = journal.subscribe();
        let (next, mut seen) = (AtomicU64::new(1), Vec::new());
        for _ in 0..1_000 {
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        for _ in 0..8 {
                            journal.hand_in(event(next.fetch_add(1, Ordering::Relaxed)));
                        }
                    });
                }
            });
            seen.extend(told(&mut receiver));
        }
        assert!(seen.iter().copied().eq(1..=32_000), "out of order");
    }
}

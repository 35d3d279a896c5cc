//! The admission gate: an exact bound on what an actor has accepted and not finished.
//!
//! actix's own bound is none: every clone of an address has a slot of its own, and
//! `do_send` ignores it. So the mailbox underneath is unbounded and this gate stands
//! before it. Counters that only grow: `entered`, raised by senders, and those that are
//! raised when a message is finished, which add up to what left. The difference is the
//! depth; `entered` is also the ticket that names a message.
//!
//! Most messages are finished on the actor's own thread. They have a counter of their own,
//! `left_here`: with one writer it is raised without a locked instruction.
//!
//! A slot is held until the work is finished: by a queued message, by a reply future,
//! by a [`Reply::task`](super::Reply::task). So the bound covers work in flight too.

#[cfg(steadfast_loom)]
use loom::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
#[cfg(not(steadfast_loom))]
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crossbeam_utils::CachePadded;
use tokio::sync::{Mutex, Notify};

#[derive(Debug)]
pub(crate) struct Gate {
    entry: CachePadded<Entry>,
    exit: CachePadded<Exit>,
    waiting: AtomicUsize,
    /// Only the first in line waits for a slot; the others wait, in order, to be the first.
    line: Mutex<()>,
    freed: Notify,
    capacity: u64,
    /// Whether anyone ever waits in line.
    has_line: bool,
}

/// What senders write.
#[derive(Debug)]
struct Entry {
    entered: AtomicU64,
    /// An earlier value of what left. Senders look at the real one, which is in the
    /// cache of the actor's thread, only when this one says that the gate is full.
    left_seen: AtomicU64,
}

/// What is written when a message is finished.
#[derive(Debug)]
struct Exit {
    /// Written by the actor's own thread alone.
    left_here: AtomicU64,
    /// Written by any thread.
    left: AtomicU64,
}

impl Exit {
    /// ORDER: `SeqCst` pairs with `leave`, so that a waiter that saw a full gate after
    /// announcing itself is sure to be notified.
    fn sum(&self) -> u64 {
        self.left_here.load(Ordering::Acquire) + self.left.load(Ordering::SeqCst)
    }
}

impl Gate {
    /// A gate at which nobody waits: whoever finds it full goes away.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            entry: CachePadded::new(Entry {
                entered: AtomicU64::new(0),
                left_seen: AtomicU64::new(0),
            }),
            exit: CachePadded::new(Exit { left_here: AtomicU64::new(0), left: AtomicU64::new(0) }),
            waiting: AtomicUsize::new(0),
            line: Mutex::new(()),
            freed: Notify::new(),
            capacity: u64::try_from(capacity).unwrap_or(u64::MAX),
            has_line: false,
        }
    }

    /// A gate before which senders may wait in line with [`Gate::enter`].
    pub(crate) fn with_line(capacity: usize) -> Self {
        Self { has_line: true, ..Self::new(capacity) }
    }

    /// Takes a slot and returns its ticket; `None` when all are taken.
    ///
    /// INVARIANT: what left never passes `entered`, and `entered` less what left never
    /// exceeds the capacity (but for the moment of a [`Gate::displace`]): an old count
    /// of what left makes the check stricter, never looser.
    #[inline]
    pub(crate) fn try_enter(&self) -> Option<u64> {
        let Entry { entered: counter, left_seen } = &*self.entry;
        let mut entered = counter.load(Ordering::Relaxed);
        loop {
            if entered.saturating_sub(left_seen.load(Ordering::Relaxed)) >= self.capacity {
                let left = self.exit.sum();
                if entered.saturating_sub(left) >= self.capacity {
                    return None;
                }
                left_seen.store(left, Ordering::Relaxed);
            }
            match counter.compare_exchange_weak(
                entered,
                entered + 1,
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(ticket) => return Some(ticket),
                Err(now) => entered = now,
            }
        }
    }

    /// Takes a slot whether one is free or not, for a message that displaces another:
    /// the displaced one gives its slot back at once.
    pub(crate) fn displace(&self) -> u64 {
        self.entry.entered.fetch_add(1, Ordering::AcqRel)
    }

    /// Takes a slot unless others wait for one.
    pub(crate) fn try_enter_behind(&self) -> Option<u64> {
        if self.waiting.load(Ordering::SeqCst) > 0 { None } else { self.try_enter() }
    }

    /// Takes a slot, waiting in line for one: first come, first served.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future takes nothing; a wake-up meant for it goes to the next in line.
    pub(crate) async fn enter(&self) -> u64 {
        let _waiting = Waiting::announce(&self.waiting);
        let _first = self.line.lock().await;
        loop {
            let notified = self.freed.notified();
            tokio::pin!(notified);
            // ORDER: in line before looking, so that a slot freed in between is not missed.
            notified.as_mut().enable();
            if let Some(ticket) = self.try_enter() {
                return ticket;
            }
            notified.await;
        }
    }

    /// Gives one slot back.
    pub(crate) fn leave(&self) {
        self.exit.left.fetch_add(1, Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.freed.notify_one();
        }
    }

    /// Gives one slot back, on the actor's own thread.
    #[inline]
    pub(crate) fn leave_here(&self) {
        if self.has_line {
            // A waiter must not be missed, and that takes the stronger write.
            return self.leave();
        }
        let left = self.exit.left_here.load(Ordering::Relaxed);
        self.exit.left_here.store(left + 1, Ordering::Release);
    }

    /// Has everyone in line look again, because the actor is gone.
    pub(crate) fn wake_waiting(&self) {
        self.freed.notify_waiters();
    }

    /// Slots taken now.
    pub(crate) fn depth(&self) -> u64 {
        // ORDER: what left first: it never passes `entered`, so the difference is never negative.
        let left = self.exit.sum();
        self.entry.entered.load(Ordering::SeqCst).saturating_sub(left)
    }

    /// Slots ever taken: what was accepted since the start.
    pub(crate) fn entered(&self) -> u64 {
        self.entry.entered.load(Ordering::SeqCst)
    }

    pub(crate) const fn capacity(&self) -> u64 {
        self.capacity
    }
}

/// Counts one waiter for as long as it lives.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn announce(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::SeqCst);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Run with `RUSTFLAGS="--cfg steadfast_loom" cargo test -p steadfast-actors --lib gate`.
#[cfg(all(test, steadfast_loom))]
mod tests {
    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicU64, Ordering};
    use loom::thread;

    use super::Gate;

    #[test]
    fn no_interleaving_admits_more_than_the_capacity() {
        loom::model(|| {
            let gate = Arc::new(Gate::new(1));
            let inside = Arc::new(AtomicU64::new(0));
            let enter = || {
                let (gate, inside) = (Arc::clone(&gate), Arc::clone(&inside));
                thread::spawn(move || {
                    if gate.try_enter().is_some() {
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two are inside");
                        inside.fetch_sub(1, Ordering::SeqCst);
                        gate.leave();
                    }
                })
            };
            let threads = [enter(), enter()];
            for thread in threads {
                thread.join().expect("no assertion failed");
            }
            assert_eq!(gate.depth(), 0, "every slot came back");
            assert!(gate.try_enter().is_some(), "and can be taken again");
        });
    }

    #[test]
    fn slots_left_here_and_elsewhere_add_up() {
        loom::model(|| {
            let gate = Arc::new(Gate::new(2));
            assert!(gate.try_enter().is_some() && gate.try_enter().is_some());
            let other = Arc::clone(&gate);
            // The actor's thread, and one that drops a reply of its own.
            let here = thread::spawn(move || other.leave_here());
            let other = Arc::clone(&gate);
            let elsewhere = thread::spawn(move || other.leave());
            let sender = gate.try_enter();
            here.join().expect("it ended");
            elsewhere.join().expect("it ended");
            assert_eq!(gate.depth(), u64::from(sender.is_some()), "both slots came back");
            assert!(gate.try_enter().is_some(), "an old count of what left is refreshed");
        });
    }

    #[test]
    fn no_two_messages_get_the_same_ticket() {
        loom::model(|| {
            let gate = Arc::new(Gate::new(2));
            let other = Arc::clone(&gate);
            let thread = thread::spawn(move || other.try_enter());
            let own = gate.try_enter();
            let other = thread.join().expect("it ended");
            assert!(own.is_some() && other.is_some(), "there is room for two");
            assert_ne!(own, other);
        });
    }
}

//! What an actor's senders, its supervisor and the operator share with it.
//!
//! Everything here can be read and written from any thread without the actor's help,
//! so nothing depends on its mailbox being served.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::task::Waker;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::dead_letters::{DeadLetter, DeadLetterReason, DeadLetters};
use super::error::{CallError, Refused};
use super::gate::Gate;
use super::request_id::RequestId;
use super::roll::{self, Number};
use super::timer::in_time;
use super::verdicts::Verdicts;

/// Where an actor is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ActorState {
    /// Its first incarnation is being built. Messages queue.
    Starting,
    /// It handles messages.
    Running,
    /// It failed and waits to be rebuilt. Messages queue.
    Restarting,
    /// Its supervisor holds it while its group restarts. Messages queue.
    Suspended,
    /// It failed too often and rests. Messages are refused.
    Quarantined,
    /// It finishes what it accepted and takes nothing new.
    Draining,
    /// It is gone for good.
    Stopped,
}

impl ActorState {
    const ALL: [Self; 7] = [
        Self::Starting,
        Self::Running,
        Self::Restarting,
        Self::Suspended,
        Self::Quarantined,
        Self::Draining,
        Self::Stopped,
    ];

    const fn encode(self) -> u8 {
        match self {
            Self::Starting => 0,
            Self::Running => 1,
            Self::Restarting => 2,
            Self::Suspended => 3,
            Self::Quarantined => 4,
            Self::Draining => 5,
            Self::Stopped => 6,
        }
    }

    #[inline]
    fn decode(code: u8) -> Self {
        Self::ALL.get(usize::from(code)).copied().unwrap_or(Self::Stopped)
    }
}

/// What [`Watch`](super::Watch) reports: where an actor is now.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LifecycleEvent {
    /// Where it is in its life.
    pub state: ActorState,
    /// Which incarnation; the first is 1, and 0 means none was built yet.
    pub generation: u32,
    /// Why the last incarnation failed, if one did.
    pub last_failure: Option<Arc<str>>,
}

/// What the control lane asks of an actor. It bypasses the mailbox.
#[derive(Debug)]
pub(crate) enum Command {
    /// Drop all work in flight, keep the queue, and wait for `Rebuild`.
    Suspend { done: oneshot::Sender<()> },
    /// Build a new incarnation now; `done` when that has begun.
    Rebuild { done: oneshot::Sender<()> },
    /// Take nothing new, finish what was accepted until `deadline`, then stop.
    Drain { deadline: Instant },
    /// The supervisor is gone: stop if you wait for it.
    Abandon,
}

/// What a child tells its supervisor, and how.
pub(crate) trait Parent: Send + Sync {
    /// The child failed; its restart policy says to rebuild it after this pause. The
    /// child waits for the supervisor when this returns `true`, else it rebuilds itself.
    fn child_failed(&self, child: usize, after: Duration) -> bool;
    /// The child exhausted its policy and asks the group to fail with it. Returns whether
    /// anyone will act on it; else the child stops.
    fn child_escalated(&self, child: usize, reason: Arc<str>) -> bool;
    /// The child is gone for good.
    fn child_stopped(&self, child: usize);
    /// The supervisor's number in the tree; the root has none.
    fn node(&self) -> Option<u64> {
        None
    }
}

/// The supervisor above a node and the node's place under it.
#[derive(Clone)]
pub(crate) struct Seat {
    pub(crate) parent: Arc<dyn Parent>,
    pub(crate) index: usize,
}

/// Adds one to a counter that only the actor's own thread writes, which saves the locked
/// instruction of a shared one.
#[inline]
pub(crate) fn count_here(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

/// What became of the messages an actor accepted. Each message is in exactly one count.
#[derive(Debug, Default)]
pub(crate) struct Outcomes {
    /// Like the next three, written by the actor's own thread alone: see [`count_here`].
    pub(crate) handled: AtomicU64,
    pub(crate) expired: AtomicU64,
    pub(crate) abandoned: AtomicU64,
    pub(crate) panicked: AtomicU64,
    /// Written by whichever thread drops the message.
    pub(crate) dead_lettered: AtomicU64,
}

pub(crate) struct Shared {
    pub(crate) id: u64,
    pub(crate) number: Number,
    pub(crate) name: Arc<str>,
    pub(crate) kind: &'static str,
    pub(crate) gate: Gate,
    /// Messages that came through a plain `Addr`, past the gate.
    pub(crate) foreign: AtomicU64,
    /// Messages that passed the gate and found the mailbox closed: never accepted.
    pub(crate) bounced: AtomicU64,
    pub(crate) outcomes: Outcomes,
    pub(crate) verdicts: Verdicts,
    pub(crate) dead_letters: Arc<DeadLetters>,
    seat: Mutex<Option<Seat>>,
    pub(crate) failures: AtomicU64,
    pub(crate) restarts: AtomicU64,
    pub(crate) task_panics: AtomicU64,
    state: AtomicU8,
    generation: AtomicU32,
    launched: AtomicBool,
    /// Its policy ended it, not a stop.
    fallen: AtomicBool,
    /// Accepted work was cut at the end of its drain.
    cut: AtomicBool,
    rest_until: Mutex<Option<Instant>>,
    last_failure: Mutex<Option<Arc<str>>>,
    lifecycle: watch::Sender<LifecycleEvent>,
    commands: Mutex<Vec<Command>>,
    commanded: AtomicBool,
    /// Stays when it is used: a task that is polled again has nothing to register.
    waker: Mutex<Option<Waker>>,
}

impl Shared {
    pub(crate) fn new(
        id: u64,
        name: Arc<str>,
        kind: &'static str,
        gate: Gate,
        dead_letters: Arc<DeadLetters>,
    ) -> Arc<Self> {
        let born =
            LifecycleEvent { state: ActorState::Starting, generation: 0, last_failure: None };
        let shared = Arc::new(Self {
            id,
            number: Number::next(),
            name,
            kind,
            gate,
            foreign: AtomicU64::new(0),
            bounced: AtomicU64::new(0),
            outcomes: Outcomes::default(),
            verdicts: Verdicts::default(),
            dead_letters,
            seat: Mutex::new(None),
            failures: AtomicU64::new(0),
            restarts: AtomicU64::new(0),
            task_panics: AtomicU64::new(0),
            state: AtomicU8::new(ActorState::Starting.encode()),
            generation: AtomicU32::new(0),
            launched: AtomicBool::new(false),
            fallen: AtomicBool::new(false),
            cut: AtomicBool::new(false),
            rest_until: Mutex::new(None),
            last_failure: Mutex::new(None),
            lifecycle: watch::Sender::new(born),
            commands: Mutex::new(Vec::new()),
            commanded: AtomicBool::new(false),
            waker: Mutex::new(None),
        });
        roll::enter(&shared);
        shared
    }

    #[inline]
    pub(crate) fn state(&self) -> ActorState {
        ActorState::decode(self.state.load(Ordering::Acquire))
    }

    pub(crate) fn generation(&self) -> u32 {
        self.generation.load(Ordering::Acquire)
    }

    pub(crate) fn last_failure(&self) -> Option<Arc<str>> {
        self.last_failure.lock().clone()
    }

    /// Time left of a quarantine; zero outside of one.
    pub(crate) fn rest_left(&self) -> Duration {
        if self.state() != ActorState::Quarantined {
            return Duration::ZERO;
        }
        let until = *self.rest_until.lock();
        until.map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now()))
    }

    pub(crate) fn watch(&self) -> watch::Receiver<LifecycleEvent> {
        self.lifecycle.subscribe()
    }

    /// Moves to `state` and tells whoever watches. `Stopped` is final, and what drains
    /// can only stop.
    pub(crate) fn enter(&self, state: ActorState) {
        self.lifecycle.send_modify(|event| {
            let stays = match self.state() {
                ActorState::Stopped => true,
                ActorState::Draining => state != ActorState::Stopped,
                ActorState::Starting
                | ActorState::Running
                | ActorState::Restarting
                | ActorState::Suspended
                | ActorState::Quarantined => false,
            };
            if !stays {
                self.state.store(state.encode(), Ordering::SeqCst);
            }
            event.state = self.state();
            event.generation = self.generation();
            event.last_failure = self.last_failure();
        });
    }

    pub(crate) fn rest(&self, cooldown: Duration) {
        *self.rest_until.lock() = Some(in_time(cooldown));
        self.enter(ActorState::Quarantined);
    }

    /// Counts a new incarnation and returns its number.
    pub(crate) fn next_generation(&self) -> u32 {
        self.generation.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Notes a failure and returns how many there have been.
    pub(crate) fn note_failure(&self, reason: &Arc<str>) -> u64 {
        *self.last_failure.lock() = Some(Arc::clone(reason));
        self.failures.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Whether a new message may be queued now.
    #[inline]
    pub(crate) fn admits(&self) -> Result<(), Refused> {
        if self.state.load(Ordering::Acquire) == ActorState::Running.encode() {
            return Ok(());
        }
        self.admits_meanwhile()
    }

    /// Whether a message may be queued while the actor is not running.
    #[cold]
    fn admits_meanwhile(&self) -> Result<(), Refused> {
        match self.state() {
            ActorState::Starting
            | ActorState::Running
            | ActorState::Restarting
            | ActorState::Suspended => Ok(()),
            ActorState::Quarantined => Err(Refused::Quarantined { retry_after: self.rest_left() }),
            ActorState::Draining | ActorState::Stopped => Err(Refused::Stopped),
        }
    }

    /// Puts the actor under its supervisor; the first seat stands.
    pub(crate) fn sit(&self, seat: Seat) {
        self.seat.lock().get_or_insert(seat);
    }

    /// The supervisor's number in the tree, until the actor has stopped.
    pub(crate) fn parent(&self) -> Option<u64> {
        self.seat()?.parent.node()
    }

    fn seat(&self) -> Option<Seat> {
        self.seat.lock().clone()
    }

    /// Leaves the rebuild to the group, if the group wants it. An actor that drains is on
    /// its way out: it takes nobody along.
    pub(crate) fn asks_its_group(&self, after: Duration) -> bool {
        self.state() != ActorState::Draining
            && self.seat().is_some_and(|seat| seat.parent.child_failed(seat.index, after))
    }

    /// Asks the group to fail with this actor; whether anyone will act on it.
    pub(crate) fn escalate(&self, reason: &Arc<str>) -> bool {
        let ask = |seat: Seat| seat.parent.child_escalated(seat.index, Arc::clone(reason));
        self.state() != ActorState::Draining && self.seat().is_some_and(ask)
    }

    /// Takes nothing more, without telling anyone yet: what is inside is still being
    /// accounted for.
    pub(crate) fn close(&self) {
        // ORDER: under the same lock as `enter`, which looks before it writes and must not
        // take an actor that is over for one that drains.
        self.lifecycle.send_if_modified(|_| {
            self.state.store(ActorState::Stopped.encode(), Ordering::SeqCst);
            false
        });
    }

    /// Lets messages past the check of an actor that has stopped, as a race does.
    #[cfg(test)]
    pub(crate) fn reopen_for_test(&self) {
        self.state.store(ActorState::Running.encode(), Ordering::SeqCst);
    }

    /// A message passed the gate and found the mailbox closed: it was never accepted.
    pub(crate) fn bounced(&self) {
        self.bounced.fetch_add(1, Ordering::Relaxed);
        self.leave();
    }

    pub(crate) fn note_launched(&self) {
        self.launched.store(true, Ordering::Release);
    }

    /// Whether there is a task that can obey a command.
    pub(crate) fn was_launched(&self) -> bool {
        self.launched.load(Ordering::Acquire)
    }

    pub(crate) fn note_fallen(&self) {
        self.fallen.store(true, Ordering::Release);
    }

    pub(crate) fn has_fallen(&self) -> bool {
        self.fallen.load(Ordering::Acquire)
    }

    pub(crate) fn note_cut(&self) {
        self.cut.store(true, Ordering::Release);
    }

    pub(crate) fn was_cut(&self) -> bool {
        self.cut.load(Ordering::Acquire)
    }

    /// All is accounted for: tells whoever watches, and the tree.
    pub(crate) fn stopped(&self) {
        self.enter(ActorState::Stopped);
        self.gate.wake_waiting();
        // A supervisor holds its children, and they it: the circle ends here.
        let seat = self.seat.lock().take();
        if let Some(seat) = seat {
            seat.parent.child_stopped(seat.index);
        }
    }

    /// Accounts for a message that was dropped unrun, and says what its caller is told.
    pub(crate) fn bury(&self, letter: Unrun) -> CallError {
        self.outcomes.dead_lettered.fetch_add(1, Ordering::Relaxed);
        let (reason, verdict) = if letter.displaced {
            (DeadLetterReason::Displaced, CallError::Overloaded)
        } else if self.state() == ActorState::Quarantined {
            let retry_after = self.rest_left();
            (DeadLetterReason::Quarantined, CallError::Quarantined { retry_after })
        } else {
            (DeadLetterReason::Stopped, CallError::Stopped)
        };
        self.dead_letters.report(DeadLetter {
            actor: Arc::clone(&self.name),
            message: letter.message,
            reason,
            request_id: letter.request_id,
            waited: letter.waited,
        });
        verdict
    }

    /// Has the actor look at its control lane and its ring.
    pub(crate) fn wake(&self) {
        // Woken after the lock: a waker may be anybody's code.
        let waker = self.waker.lock().clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Puts a command on the control lane and wakes the actor.
    pub(crate) fn command(&self, command: Command) {
        self.commands.lock().push(command);
        self.commanded.store(true, Ordering::Release);
        self.wake();
    }

    /// Takes nothing new from now on, and has the actor stop when it has finished what it
    /// accepted, at the latest at `deadline`.
    pub(crate) fn drain(&self, deadline: Instant) {
        self.enter(ActorState::Draining);
        self.command(Command::Drain { deadline });
    }

    pub(crate) fn take_commands(&self) -> Vec<Command> {
        // Every poll looks here, so looking must not write.
        if !self.commanded.load(Ordering::Acquire) {
            return Vec::new();
        }
        self.commanded.store(false, Ordering::Release);
        std::mem::take(&mut *self.commands.lock())
    }

    /// Whom [`Shared::wake`] wakes from now on.
    pub(crate) fn register(&self, waker: &Waker) {
        *self.waker.lock() = Some(waker.clone());
    }

    /// Gives one slot back, and wakes an actor that waits for its last one to stop.
    pub(crate) fn leave(&self) {
        self.gate.leave();
        // ORDER: SeqCst pairs with `enter`: either this sees the drain, or the drain sees the
        // slot free.
        if self.state.load(Ordering::SeqCst) == ActorState::Draining.encode() {
            self.wake();
        }
    }

    /// The same on the actor's own thread, where it costs less: a drain is looked at there
    /// too, after the message.
    #[inline]
    pub(crate) fn leave_here(&self) {
        self.gate.leave_here();
        if self.state() == ActorState::Draining {
            self.wake();
        }
    }
}

/// What is known about a message that was dropped unrun.
pub(crate) struct Unrun {
    pub(crate) message: &'static str,
    pub(crate) displaced: bool,
    pub(crate) request_id: Option<RequestId>,
    pub(crate) waited: Option<Duration>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("name", &self.name)
            .field("state", &self.state())
            .field("generation", &self.generation())
            .field("depth", &self.gate.depth())
            .finish_non_exhaustive()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        roll::leave(self.number);
    }
}

/// One slot of an actor's gate, held by a reply that is still to come and given back when
/// it is dropped.
#[derive(Debug)]
pub(crate) struct Slot(Arc<Shared>);

impl Slot {
    pub(crate) const fn taken(shared: Arc<Shared>) -> Self {
        Self(shared)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.leave();
    }
}

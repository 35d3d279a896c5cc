//! A circuit breaker per dependency: fails fast, tries recovery, never wedges.
//!
//! ```
//! use steadfast_actors::breaker::{Breaker, BreakerError, Classify};
//!
//! #[derive(Debug, thiserror::Error)]
//! #[error("the rates service is down")]
//! struct Down;
//! impl Classify for Down {}
//!
//! async fn rate(breaker: &Breaker) -> Result<f64, BreakerError<Down>> {
//!     breaker.call(|| async { Ok(1.09) }).await
//! }
//! ```
//!
//! The decision whether a call may pass is one atomic read, made by the caller. The actor
//! behind a breaker only makes the transitions that are due while nobody calls, and obeys
//! operators; with no actor the breaker still opens, tries and closes.
//!
//! # Guarantees
//!
//! - While open, no call is made, and the closure that would make it is not even called.
//! - Never more probes at a time than configured, whatever the number of callers.
//! - A probe's slot comes back however its call ends: finished, dropped, panicked or given
//!   back; and one that hangs is taken back when its lease is over.
//! - A result counts only in the state its call was admitted in. What comes later is ignored.
//! - Each change of state is made by one thread and announced once, in order.
//! - A client that goes away counts for nothing; a timeout around a hung call counts as the
//!   failure it is. What tells them apart is [`slow_after`](BreakerBuilder::slow_after).
//! - Only monotonic time is read: setting the clock changes nothing.
//! - Passing, counting and refusing allocate nothing.
//! - A panic in the actor loses nothing: all state is shared with the handles.
//! - With a [`Memory`], a restarted process goes on with what is left of the pause or of an
//!   operator's command. A command is acknowledged when it holds, a moment before it is saved.
//!
//! # What it does not do
//!
//! - It remembers across restarts of the process only with a [`Memory`], and replicas do not
//!   talk.
//! - It does not retry, time out or limit calls; put a timeout outside or inside, both count.
//! - The rates are judged when a call fails or is slow, not when old successes leave the window.
//!
//! # Events
//!
//! Each [`Event`] goes to every receiver of [`Breaker::events`] and to the log:
//!
//! | log message | level | when |
//! |---|---|---|
//! | `breaker.opened` | warn | a limit was reached, or probes failed |
//! | `breaker.half_opened` | info | the pause is over; the dependency is tried |
//! | `breaker.closed` | info | the probes passed, or an operator closed it |
//! | `breaker.forced_open` | warn | an operator refuses all calls |
//! | `breaker.disabled`, `breaker.metrics_only` | warn | an operator lets all calls pass |
//!
//! With a [`Memory`], also `breaker.memory_failed` (warn), once until `breaker.memory_recovered`
//! (info).
mod actor;
mod classify;
mod clock;
mod config;
mod core;
mod dependency;
mod error;
mod gate;
mod journal;
mod keeper;
mod lanes;
mod memory;
mod messages;
mod operator;
mod permit;
mod state;
mod window;

#[cfg(test)]
mod tests;

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use actix::{Handler, Message};
use tokio::sync::broadcast;
use tokio::time::Instant;

use self::core::Core;
use self::keeper::Keeper;
use self::lanes::Lanes;
use self::permit::Hold;
use crate::kernel::{CallError, Ref, Spec, Tree};

pub use self::actor::BreakerActor;
pub use self::classify::{Classifier, Classify, Outcome};
pub use self::clock::{Clock, ManualClock};
pub use self::config::BreakerBuilder;
pub use self::dependency::DependencyId;
pub use self::error::{BreakerError, ConfigError, RejectCause, Rejected};
pub use self::journal::Event;
pub use self::memory::{Memory, MemoryError, Remembered};
pub use self::messages::{Ack, Disable, ForceClose, ForceOpen, MetricsOnly, Reset, Snapshot};
pub use self::permit::Permit;
pub use self::state::{BreakerState, Cause};

/// The circuit breaker of one dependency. Cheap to clone; clones are the same breaker.
#[derive(Clone)]
pub struct Breaker {
    core: Arc<Core>,
    lanes: Lanes,
    actor: Option<Ref<BreakerActor>>,
}

impl Breaker {
    /// Begins a breaker for the dependency `name`: 1 to 63 characters of `A-Z a-z 0-9 . _ -`.
    pub fn builder(name: &str) -> BreakerBuilder {
        BreakerBuilder::new(name)
    }

    /// Asks to make one call now. Never waits, takes no lock and allocates nothing.
    ///
    /// For calls that are not one future; [`call`](Self::call) is shorter for those that are.
    ///
    /// # Errors
    ///
    /// [`Rejected`]: do not make the call. It says for how long.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast_actors::breaker::{Breaker, Outcome};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let breaker = Breaker::builder("rates").without_actor()?;
    /// let permit = breaker.try_acquire()?;
    /// // … make the call …
    /// permit.finish(Outcome::Success);
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn try_acquire(&self) -> Result<Permit, Rejected> {
        let admission = self.core.admit()?;
        Ok(Permit::new(self.lanes.pick(&self.core), admission))
    }

    /// Makes a call, if it may be made, and counts what came of it.
    ///
    /// `make` is only called if the call may pass, and the call's time begins then: a
    /// future that is never polled counts for nothing.
    ///
    /// # Errors
    ///
    /// [`BreakerError::Rejected`] if the call was not made; else the call's own error.
    ///
    /// # Cancel safety
    ///
    /// Dropping this drops the call. It counts as failed if it was slow by then, else not
    /// at all; a probe's slot is free again.
    pub async fn call<T, E, F>(&self, make: impl FnOnce() -> F) -> Result<T, BreakerError<E>>
    where
        F: Future<Output = Result<T, E>>,
        E: Classify,
    {
        self.call_with(&classify::by_error, make).await
    }

    /// Like [`call`](Self::call), with `classifier` to say what a result means.
    ///
    /// # Errors
    ///
    /// As [`call`](Self::call).
    ///
    /// # Cancel safety
    ///
    /// As [`call`](Self::call).
    pub async fn call_with<T, E, F, C>(
        &self,
        classifier: &C,
        make: impl FnOnce() -> F,
    ) -> Result<T, BreakerError<E>>
    where
        F: Future<Output = Result<T, E>>,
        C: Classifier<T, E>,
    {
        let hold = Hold::new(&*self.core, self.core.admit()?);
        let result = make().await;
        hold.finish(classifier.classify(&result));
        result.map_err(BreakerError::Inner)
    }

    /// The dependency this breaker guards.
    #[must_use]
    pub fn dependency(&self) -> DependencyId {
        self.core.dependency()
    }

    /// The breaker as it is now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.core.snapshot()
    }

    /// Each change of state from now on, in order.
    ///
    /// A receiver that falls more than 64 changes behind is told how many it lost;
    /// [`history`](Self::history) has the last 64.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.core.subscribe()
    }

    /// The last changes of state, oldest first; at most 64.
    #[must_use]
    pub fn history(&self) -> Vec<Event> {
        self.core.history()
    }

    /// Refuses all calls, until `until` or another command. Then the dependency is tried.
    ///
    /// `why` is shown with the state, and cut at 256 bytes.
    ///
    /// # Errors
    ///
    /// [`CallError`] of the actor behind. Sending a command again is always safe.
    ///
    /// # Cancel safety
    ///
    /// Once polled, the command may be carried out even if this is dropped.
    pub async fn force_open(&self, until: Option<Instant>, why: &str) -> Result<Ack, CallError> {
        self.command(ForceOpen { until, why: why.into() }).await
    }

    /// Closes the breaker with an empty window; from then on calls decide again.
    ///
    /// Earlier openings still lengthen the next pause; [`reset`](Self::reset) forgets them.
    ///
    /// # Errors
    ///
    /// [`CallError`] of the actor behind. Sending a command again is always safe.
    ///
    /// # Cancel safety
    ///
    /// Once polled, the command may be carried out even if this is dropped.
    pub async fn force_close(&self, why: &str) -> Result<Ack, CallError> {
        self.command(ForceClose { why: why.into() }).await
    }

    /// Lets all calls pass unmeasured, until `until` or another command. Then it closes.
    ///
    /// # Errors
    ///
    /// [`CallError`] of the actor behind. Sending a command again is always safe.
    ///
    /// # Cancel safety
    ///
    /// Once polled, the command may be carried out even if this is dropped.
    pub async fn disable(&self, until: Option<Instant>, why: &str) -> Result<Ack, CallError> {
        self.command(Disable { until, why: why.into() }).await
    }

    /// Lets all calls pass and measures them, until `until` or another command. Then it closes.
    ///
    /// # Errors
    ///
    /// [`CallError`] of the actor behind. Sending a command again is always safe.
    ///
    /// # Cancel safety
    ///
    /// Once polled, the command may be carried out even if this is dropped.
    pub async fn metrics_only(&self, until: Option<Instant>, why: &str) -> Result<Ack, CallError> {
        self.command(MetricsOnly { until, why: why.into() }).await
    }

    /// Makes the breaker as good as new: closed, window empty, earlier openings forgotten.
    ///
    /// # Errors
    ///
    /// [`CallError`] of the actor behind. Sending a command again is always safe.
    ///
    /// # Cancel safety
    ///
    /// Once polled, the command may be carried out even if this is dropped.
    pub async fn reset(&self, why: &str) -> Result<Ack, CallError> {
        self.command(Reset { why: why.into() }).await
    }

    async fn command<M>(&self, message: M) -> Result<Ack, CallError>
    where
        M: Message<Result = Ack> + Send + 'static,
        BreakerActor: Handler<M>,
    {
        match &self.actor {
            Some(actor) => actor.call(message).await,
            None => Err(CallError::Stopped),
        }
    }
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Snapshot { dependency, state, epoch, .. } = self.snapshot();
        f.debug_struct("Breaker")
            .field("dependency", &dependency)
            .field("state", &state)
            .field("epoch", &epoch)
            .finish_non_exhaustive()
    }
}

impl BreakerBuilder {
    /// Starts the breaker's actor in `tree`, on this thread, as `breaker.NAME`.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the setting and the range it must be in.
    pub fn start(self, tree: &Tree) -> Result<Breaker, ConfigError> {
        self.start_with(|spec| tree.start(spec))
    }

    /// Has `start` start the breaker's actor: in a group, on another thread, with other
    /// bounds.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the setting and the range it must be in.
    ///
    /// # Examples
    ///
    /// ```
    /// # use actix_rt::ArbiterHandle;
    /// # use steadfast_actors::breaker::{Breaker, ConfigError};
    /// # use steadfast_actors::kernel::{Placement, Tree};
    /// # fn start(tree: &Tree, apart: ArbiterHandle) -> Result<Breaker, ConfigError> {
    /// Breaker::builder("rates")
    ///     .start_with(|spec| tree.start(spec.place(Placement::On(apart))))
    /// # }
    /// ```
    pub fn start_with(
        mut self,
        start: impl FnOnce(Spec<BreakerActor>) -> Ref<BreakerActor>,
    ) -> Result<Breaker, ConfigError> {
        let memory = self.memory.take();
        let core = self.core()?;
        let keeper = memory.map(|memory| Arc::new(Keeper::new(memory)));
        let shared = Arc::clone(&core);
        let name = format!("breaker.{}", core.dependency());
        let new = move || BreakerActor::new(Arc::clone(&shared), keeper.clone());
        let spec = Spec::new(name, new);
        Ok(Breaker { lanes: Lanes::new(&core), core, actor: Some(start(spec)) })
    }

    /// A breaker without an actor: for where no actor runs, such as a plain thread.
    ///
    /// Transitions that are due are made by the next call, and operators' commands answer
    /// [`CallError::Stopped`].
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the setting and the range it must be in.
    pub fn without_actor(self) -> Result<Breaker, ConfigError> {
        if self.memory.is_some() {
            return Err(ConfigError::new("memory", "left out of a breaker without an actor"));
        }
        let core = self.core()?;
        Ok(Breaker { lanes: Lanes::new(&core), core, actor: None })
    }

    fn core(self) -> Result<Arc<Core>, ConfigError> {
        let (dependency, clock, config) = self.check()?;
        Ok(Arc::new(Core::new(dependency, clock, config)))
    }
}

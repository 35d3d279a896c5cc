//! How one actor is built, bounded, placed and supervised.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use actix::Actor;
use actix_rt::ArbiterHandle;

use super::error::BuildError;
use super::host::{Context, Factory};
use super::lifecycle::Lifecycle;
use super::restart::{Backoff, Exhausted, Policy, Restart};

/// What happens to a message that finds the mailbox full.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overflow {
    /// It is refused at once. The default: whoever sends can shed or slow down.
    #[default]
    Reject,
    /// A [`call`](super::Ref::call) waits in line for a free slot, at most until its
    /// deadline; a [`tell`](super::Ref::tell) is refused, because nobody waits for it.
    Wait,
    /// It takes the place of the oldest queued message, which becomes a dead letter and
    /// whose caller is told `Overloaded`. For readings that the next one makes useless.
    ///
    /// Such an actor's queue is not actix's own: messages that come through a plain
    /// `Addr` are handled before those that came through a `Ref`.
    DropOldest,
}

/// The thread an actor runs on.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum Placement {
    /// The thread that starts it; in a group, the thread of its supervisor.
    #[default]
    Here,
    /// This arbiter's thread. Keep actors off the arbiters that serve HTTP: whatever
    /// blocks one would block the other.
    On(ArbiterHandle),
}

/// How one actor is built, bounded, placed and supervised.
///
/// The factory is asked for every incarnation, so what it captures outlives a restart
/// and what the actor holds does not. It must be quick, because it runs on the actor's
/// thread; what takes time belongs in `started`, as a `ctx.wait`. It builds the next
/// incarnation before the failed one is dropped: what only one can have, such as a port or
/// a lock file, is taken in `started` too, when the old one is gone.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use steadfast_actors::kernel::{Context, Exhausted, Spec};
/// # #[derive(Default)]
/// # struct Counter;
/// # impl actix::Actor for Counter { type Context = Context<Self>; }
///
/// let spec = Spec::new("counter", Counter::default)
///     .capacity(64)
///     .intensity(3, Duration::from_secs(10))
///     .exhausted(Exhausted::Stop);
/// ```
#[must_use = "a spec does nothing until a tree starts it"]
pub struct Spec<A>
where
    A: Actor<Context = Context<A>>,
{
    pub(super) name: Arc<str>,
    pub(super) factory: Factory<A>,
    pub(super) capacity: usize,
    pub(super) overflow: Overflow,
    pub(super) policy: Policy,
    pub(super) budget: u32,
    pub(super) drain: Duration,
    pub(super) start_within: Duration,
    pub(super) placement: Placement,
}

impl<A> Spec<A>
where
    A: Actor<Context = Context<A>>,
{
    /// An actor that `factory` builds.
    pub fn new(name: impl Into<Arc<str>>, factory: impl Fn() -> A + Send + 'static) -> Self {
        Self::fallible(name, move |_| Ok(factory()))
    }

    /// An actor whose `factory` is told about the incarnation and may fail; a failure
    /// counts like a panic of the actor.
    pub fn fallible(
        name: impl Into<Arc<str>>,
        factory: impl Fn(&Lifecycle) -> Result<A, BuildError> + Send + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            factory: Box::new(factory),
            capacity: 1024,
            overflow: Overflow::default(),
            policy: Policy::default(),
            budget: 256,
            drain: Duration::from_secs(5),
            start_within: Duration::from_secs(10),
            placement: Placement::default(),
        }
    }

    /// Messages accepted and not finished, those being answered included. Default 1,024;
    /// 0 counts as 1. Too low refuses work in a burst; too high keeps callers waiting for
    /// answers that come too late.
    pub fn capacity(mut self, messages: usize) -> Self {
        self.capacity = messages.max(1);
        self
    }

    /// What happens to a message beyond the capacity. Default [`Overflow::Reject`].
    pub const fn overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }

    /// Which endings are followed by a rebuild. Default [`Restart::Permanent`].
    pub const fn restart(mut self, restart: Restart) -> Self {
        self.policy.restart = restart;
        self
    }

    /// At most `restarts` in any period of `within`; one more exhausts the policy.
    /// Default 5 in 30 s.
    pub const fn intensity(mut self, restarts: u32, within: Duration) -> Self {
        self.policy.max_restarts = restarts;
        self.policy.within = within;
        self
    }

    /// The pause before a rebuild. Default 50 ms, doubling to 10 s, full jitter.
    pub const fn backoff(mut self, backoff: Backoff) -> Self {
        self.policy.backoff = backoff;
        self
    }

    /// How long an incarnation must live for the next pause to start from the minimum
    /// again. Default 30 s.
    pub const fn healthy_after(mut self, period: Duration) -> Self {
        self.policy.healthy_after = period;
        self
    }

    /// What happens when it failed too often. Default: 30 s of quarantine.
    pub const fn exhausted(mut self, exhausted: Exhausted) -> Self {
        self.policy.exhausted = exhausted;
        self
    }

    /// Messages handled in a row before other tasks of the thread get a turn. Default
    /// 256; 0 counts as 1.
    pub fn budget(mut self, messages: u32) -> Self {
        self.budget = messages.max(1);
        self
    }

    /// How long it may take to finish what it has accepted when the tree stops. Default
    /// 5 s, within the deadline of the whole stop.
    pub const fn drain(mut self, within: Duration) -> Self {
        self.drain = within;
        self
    }

    /// How long the children after it in its group wait for it to be up. Default 10 s;
    /// then they start without it, because one slow child must not keep a service down.
    pub const fn start_within(mut self, within: Duration) -> Self {
        self.start_within = within;
        self
    }

    /// The thread it runs on. Default [`Placement::Here`].
    pub fn place(mut self, placement: Placement) -> Self {
        self.placement = placement;
        self
    }
}

impl<A> fmt::Debug for Spec<A>
where
    A: Actor<Context = Context<A>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spec")
            .field("name", &self.name)
            .field("capacity", &self.capacity)
            .field("overflow", &self.overflow)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

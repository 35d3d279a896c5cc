//! The handle that senders hold.

use std::collections::VecDeque;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use actix::dev::{Envelope, ToEnvelope};
use actix::{Actor, Addr, Handler, Message, Recipient};
use parking_lot::Mutex;

use super::call::Call;
use super::context::Context;
use super::letter::{Stamp, displace, stamped};
use crate::kernel::error::Refused;
use crate::kernel::lifecycle::Watch;
use crate::kernel::request::Ambient;
use crate::kernel::shared::{ActorState, Shared};
use crate::kernel::spec::Overflow;
use crate::kernel::timer::in_time;
use crate::kernel::tree::NodeInfo;

/// A handle to a supervised actor. Cheap to clone, and valid across restarts.
///
/// [`call`](Ref::call) asks and waits for the answer; [`tell`](Ref::tell) does not wait.
/// Both pass the actor's admission gate first, so what it has accepted and not finished
/// is bounded exactly, and both inherit the current
/// [`RequestContext`](crate::kernel::RequestContext).
///
/// An actor lives until it is stopped, also when the last handle is dropped.
pub struct Ref<A: Actor>(Arc<Mailbox<A>>);

struct Mailbox<A: Actor> {
    addr: Addr<A>,
    shared: Arc<Shared>,
    overflow: Overflow,
    /// The queue of an actor that drops its oldest message when it is full.
    ring: Mutex<VecDeque<Envelope<A>>>,
}

impl<A> Ref<A>
where
    A: Actor<Context = Context<A>>,
{
    pub(crate) fn new(addr: Addr<A>, shared: Arc<Shared>, overflow: Overflow) -> Self {
        Self(Arc::new(Mailbox { addr, shared, overflow, ring: Mutex::new(VecDeque::new()) }))
    }

    /// Sends `message` and waits for its answer.
    ///
    /// The message is sent when the returned future is first polled. Without
    /// [`Call::deadline`] it has the deadline of the current request, if any: whoever
    /// opened that request gives up waiting, and the actor skips what is past it.
    ///
    /// # Errors
    ///
    /// [`CallError`](crate::kernel::CallError); its `ran()` says whether sending again is safe.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future abandons the answer. A message not yet handled is skipped; a
    /// handler that runs already is not undone.
    pub fn call<M>(&self, message: M) -> Call<'_, A, M>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        Call::new(self, message)
    }

    /// Sends `message` without waiting for it to be handled.
    ///
    /// `Ok` means it is queued. It does not mean it will run: it becomes a dead letter
    /// if the actor stops first, and is skipped once the current request's deadline has
    /// passed. An actor with [`Overflow::Wait`] refuses here when it is full, because
    /// there is nobody to wait.
    ///
    /// # Errors
    ///
    /// [`Refused`] says why nothing was queued.
    pub fn tell<M>(&self, message: M) -> Result<(), Refused>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        let shared = &self.0.shared;
        shared.admits()?;
        let ambient = Ambient::capture();
        if ambient.is_over() {
            return Err(Refused::Expired);
        }
        if self.0.overflow == Overflow::DropOldest {
            let ticket = shared.gate.try_enter();
            return self.push(ticket, |ticket| {
                let stamp = self.stamp(ticket, ambient);
                stamped(stamp, || <Context<A> as ToEnvelope<A, M>>::pack(message, None)).0
            });
        }
        let ticket = match self.0.overflow {
            // Calls that wait were here first.
            Overflow::Wait => shared.gate.try_enter_behind(),
            Overflow::Reject | Overflow::DropOldest => shared.gate.try_enter(),
        };
        let ticket = ticket.ok_or(Refused::Overloaded)?;
        let (_, unsent) = stamped(self.stamp(ticket, ambient), || self.0.addr.do_send(message));
        match unsent {
            None => Ok(()),
            Some(_closed) => {
                shared.bounced();
                Err(Refused::Stopped)
            }
        }
    }

    /// The plain actix address, for code that knows no `Ref`. It stays valid across
    /// restarts. Messages sent through it pass no gate and are told no reason.
    #[must_use]
    pub fn addr(&self) -> &Addr<A> {
        &self.0.addr
    }

    /// A plain actix recipient of `M`; see [`Ref::addr`] for what it does without.
    #[must_use]
    pub fn recipient<M>(&self) -> Recipient<M>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        self.0.addr.clone().recipient()
    }

    /// The actor's name in its tree.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.shared.name
    }

    /// Where the actor is in its life. Reads one atomic.
    #[must_use]
    pub fn state(&self) -> ActorState {
        self.0.shared.state()
    }

    /// Messages accepted and not finished.
    #[must_use]
    pub fn depth(&self) -> u64 {
        self.0.shared.gate.depth()
    }

    /// What the tree knows of this actor.
    #[must_use]
    pub fn info(&self) -> NodeInfo {
        NodeInfo::of(&self.0.shared)
    }

    /// Follows the actor's life.
    #[must_use]
    pub fn watch(&self) -> Watch {
        Watch::new(self.0.shared.watch())
    }

    /// Stops the actor for good: it takes nothing new, finishes what it has accepted, at
    /// most for `within`, and drops the rest as dead letters. Returns at once; wait for
    /// [`ActorState::Stopped`] with [`Ref::watch`].
    pub fn stop(&self, within: Duration) {
        self.0.shared.drain(in_time(within));
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0.shared
    }

    pub(super) fn overflow(&self) -> Overflow {
        self.0.overflow
    }

    /// The stamp of a message that holds the slot of `ticket`.
    pub(super) fn stamp(&self, ticket: u64, ambient: Ambient) -> Stamp {
        Stamp::new(self.0.shared.number, ticket, ambient, None)
    }

    /// Queues a message on the ring; without a free slot it takes the place of the oldest,
    /// and is refused when none is queued: all slots are held by work in flight.
    ///
    /// The displaced message is dropped after the lock: its drop runs the user's code.
    pub(super) fn push(
        &self,
        ticket: Option<u64>,
        pack: impl FnOnce(u64) -> Envelope<A>,
    ) -> Result<(), Refused> {
        let gate = &self.0.shared.gate;
        let displaced = {
            let mut ring = self.0.ring.lock();
            let oldest = if ticket.is_none() { ring.pop_front() } else { None };
            let ticket = match (ticket, &oldest) {
                (Some(ticket), _) => ticket,
                (None, Some(_)) => gate.displace(),
                // The actor may have finished something since the first look.
                (None, None) => gate.try_enter().ok_or(Refused::Overloaded)?,
            };
            ring.push_back(pack(ticket));
            oldest
        };
        if let Some(oldest) = displaced {
            displace(oldest);
        }
        self.0.shared.wake();
        // ORDER: push, then look: an actor that stopped meanwhile has emptied the ring before.
        if self.state() == ActorState::Stopped {
            drop(self.drain_ring());
        }
        Ok(())
    }

    pub(super) fn pop(&self) -> Option<Envelope<A>> {
        self.0.ring.lock().pop_front()
    }

    pub(super) fn drain_ring(&self) -> VecDeque<Envelope<A>> {
        std::mem::take(&mut *self.0.ring.lock())
    }
}

impl<A: Actor> Clone for Ref<A> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<A: Actor> PartialEq for Ref<A> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<A: Actor> Eq for Ref<A> {}

impl<A: Actor> Hash for Ref<A> {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.0.shared.id.hash(hasher);
    }
}

impl<A: Actor> fmt::Debug for Ref<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ref").field(&self.0.shared).finish()
    }
}

//! The envelope: what travels with a message, and what happens when it arrives.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use actix::dev::{Envelope, EnvelopeProxy, MessageResponse, OneshotSender, ToEnvelope};
use actix::{Actor, Handler, Message};
use tokio::time::Instant;

use super::context::{Context, Dispatch};
use crate::kernel::error::CallError;
use crate::kernel::panic;
use crate::kernel::request::Ambient;
use crate::kernel::shared::{Shared, Slot, Unrun};

thread_local! {
    /// How [`Ref`](super::Ref) hands a stamp to `pack`, which actix calls synchronously
    /// inside `Addr::send` with the message alone.
    static OUTBOUND: RefCell<Option<Stamp>> = const { RefCell::new(None) };
    /// Set while a message is dropped to make room for a newer one.
    static DISPLACING: Cell<bool> = const { Cell::new(false) };
    /// Whose mailbox is being emptied: a message that came through a plain `Addr` does
    /// not know its actor.
    static EMPTYING: RefCell<Option<Arc<Shared>>> = const { RefCell::new(None) };
}

/// Sends through `send` with this stamp; the stamp comes back if nothing was packed,
/// which is how a closed mailbox shows itself.
pub(super) fn stamped<T>(stamp: Stamp, send: impl FnOnce() -> T) -> (T, Option<Stamp>) {
    OUTBOUND.set(Some(stamp));
    let sent = send();
    (sent, OUTBOUND.take())
}

/// Drops an envelope because a newer message takes its place.
pub(super) fn displace<A: Actor>(oldest: Envelope<A>) {
    DISPLACING.set(true);
    drop(oldest);
    DISPLACING.set(false);
}

/// Drops `mailbox`, and with it every message still inside, on behalf of this actor.
pub(super) fn empty<T>(shared: &Arc<Shared>, mailbox: T) {
    // The thread may be ending; then messages without a slot go uncounted.
    let set = |of| EMPTYING.try_with(|cell| cell.replace(of)).ok().flatten();
    let outer = set(Some(Arc::clone(shared)));
    let dropped = panic::catch(|| drop(mailbox));
    drop(set(outer));
    if let Err(caught) = dropped {
        tracing::error!(actor = &*shared.name, panic = %caught.message(), "actor.panic_in_drop");
    }
}

/// Shared by a caller with a deadline and its envelope, so that exactly one of "it ran"
/// and "it expired" is true even when both happen at the same moment.
#[derive(Debug, Default)]
pub(super) struct Progress(AtomicU8);

impl Progress {
    const QUEUED: u8 = 0;
    const RUNNING: u8 = 1;
    const EXPIRED: u8 = 2;

    /// The envelope's side: `false` when the caller gave up first.
    fn begin(&self) -> bool {
        self.leave_queue(Self::RUNNING)
    }

    /// The caller's side: `false` when the handler began first.
    ///
    /// `true` also when the envelope saw the deadline pass first: it did not run either way.
    pub(super) fn expire(&self) -> bool {
        self.leave_queue(Self::EXPIRED) || self.0.load(Ordering::Acquire) == Self::EXPIRED
    }

    fn leave_queue(&self, to: u8) -> bool {
        let swap = self.0.compare_exchange(Self::QUEUED, to, Ordering::AcqRel, Ordering::Acquire);
        swap.is_ok()
    }
}

/// Everything that travels with a message, whatever its type.
pub(super) struct Stamp {
    /// `None` for a message that came through a plain `Addr`, past the gate.
    slot: Option<Slot>,
    ticket: u64,
    ambient: Ambient,
    progress: Option<Arc<Progress>>,
    sent_at: Option<Instant>,
    span: Option<tracing::Span>,
}

/// Every 64th message notes when it was sent.
const CLOCKED: u64 = 64;

impl Stamp {
    pub(super) fn new(
        slot: Slot,
        ticket: u64,
        ambient: Ambient,
        progress: Option<Arc<Progress>>,
    ) -> Self {
        let sent_at = ticket.is_multiple_of(CLOCKED).then(Instant::now);
        let span = sender_span();
        Self { slot: Some(slot), ticket, ambient, progress, sent_at, span }
    }

    fn foreign() -> Self {
        Self {
            slot: None,
            ticket: 0,
            ambient: Ambient::capture(),
            progress: None,
            sent_at: None,
            span: sender_span(),
        }
    }
}

fn sender_span() -> Option<tracing::Span> {
    tracing::enabled!(target: "steadfast::message", tracing::Level::DEBUG)
        .then(tracing::Span::current)
}

/// Why a message that arrived is not handled.
enum Skip {
    Abandoned,
    Expired,
}

pub(super) struct Letter<M: Message> {
    message: Option<M>,
    reply: Option<OneshotSender<M::Result>>,
    stamp: Stamp,
}

impl<A, M> ToEnvelope<A, M> for Context<A>
where
    A: Actor<Context = Self> + Handler<M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    fn pack(message: M, reply: Option<OneshotSender<M::Result>>) -> Envelope<A> {
        let stamp = OUTBOUND.take().unwrap_or_else(Stamp::foreign);
        Envelope::with_proxy(Box::new(Letter { message: Some(message), reply, stamp }))
    }
}

impl<M: Message> Letter<M> {
    /// Looks at the message as it is dequeued. No user code is needed for any of this.
    fn skip(&self) -> Option<Skip> {
        let caller_left = self.reply.as_ref().is_some_and(OneshotSender::is_closed);
        if caller_left || self.stamp.ambient.is_cancelled() {
            return Some(Skip::Abandoned);
        }
        let past = self.stamp.ambient.deadline().is_some_and(|at| at <= Instant::now());
        let lost = self
            .stamp
            .progress
            .as_ref()
            .is_some_and(|progress| if past { !progress.expire() } else { !progress.begin() });
        (past || lost).then_some(Skip::Expired)
    }

    /// Leaves `verdict` for a caller that still waits.
    fn answer(&self, shared: &Shared, verdict: CallError) {
        if let (Some(reply), Some(_)) = (&self.reply, &self.stamp.slot) {
            record(shared, self.stamp.ticket, reply, verdict);
        }
    }
}

/// Leaves `verdict` under `ticket` unless the caller has left.
pub(super) fn record<T>(
    shared: &Shared,
    ticket: u64,
    reply: &OneshotSender<T>,
    verdict: CallError,
) {
    if reply.is_closed() {
        return;
    }
    shared.verdicts.record(ticket, verdict);
    // ORDER: record, then look again; see `Verdicts::forget`.
    if reply.is_closed() {
        shared.verdicts.forget(ticket);
    }
}

impl<A, M> EnvelopeProxy<A> for Letter<M>
where
    A: Actor<Context = Context<A>> + Handler<M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    fn handle(&mut self, act: &mut A, ctx: &mut Context<A>) {
        ctx.take_turn();
        if self.stamp.slot.is_none() {
            ctx.shared().foreign.fetch_add(1, Ordering::Relaxed);
        }
        if ctx.is_resting() {
            self.bury(&Arc::clone(ctx.shared()));
            return;
        }
        let outcomes = &ctx.shared().outcomes;
        match self.skip() {
            Some(Skip::Abandoned) => {
                outcomes.abandoned.fetch_add(1, Ordering::Relaxed);
                self.answer(ctx.shared(), CallError::Expired);
                self.discard(ctx.shared());
                return;
            }
            Some(Skip::Expired) => {
                outcomes.expired.fetch_add(1, Ordering::Relaxed);
                self.answer(ctx.shared(), CallError::Expired);
                self.discard(ctx.shared());
                return;
            }
            None => {}
        }
        let Some(message) = self.message.take() else { return };
        let _span = ctx.message_span::<M>(self.stamp.span.take(), &self.stamp.ambient);
        self.run(message, act, ctx);
    }
}

impl<M: Message + Send + 'static> Letter<M>
where
    M::Result: Send,
{
    fn run<A>(&mut self, message: M, act: &mut A, ctx: &mut Context<A>)
    where
        A: Actor<Context = Context<A>> + Handler<M>,
    {
        let ambient = self.stamp.ambient.clone();
        let asked = self.reply.is_some() && self.stamp.slot.is_some();
        let ticket = asked.then_some(self.stamp.ticket);
        // The slot moves with the work: a reply future takes it from here.
        ctx.begin_dispatch(Dispatch::new(ticket, self.take_slot_for_reply(), ambient));
        let reply = &mut self.reply;
        let outcome = panic::catch(|| {
            self.stamp.ambient.enter(|| {
                let response = act.handle(message, ctx);
                ctx.replying();
                response.handle(ctx, reply.take());
            });
        });
        match outcome {
            Ok(()) => {
                ctx.shared().outcomes.handled.fetch_add(1, Ordering::Relaxed);
            }
            Err(caught) => {
                ctx.shared().outcomes.panicked.fetch_add(1, Ordering::Relaxed);
                match (&self.reply, ticket) {
                    (Some(reply), Some(ticket)) => {
                        record(ctx.shared(), ticket, reply, ctx.verdict(&caught));
                    }
                    // The response panicked, and had the channel already.
                    (None, Some(ticket)) => {
                        ctx.shared().verdicts.record_unsure(ticket, ctx.verdict(&caught));
                    }
                    (_, None) => {}
                }
                ctx.panicked(&caught, Some(std::any::type_name::<M>()));
            }
        }
        // Its slot goes back here, unless a reply took it along.
        drop(ctx.end_dispatch());
    }

    const fn take_slot_for_reply(&mut self) -> Option<Slot> {
        self.stamp.slot.take()
    }
}

impl<M: Message> Letter<M> {
    /// Accounts for a message that will not run.
    fn bury(&mut self, shared: &Shared) {
        let verdict = shared.bury(Unrun {
            message: std::any::type_name::<M>(),
            displaced: DISPLACING.try_with(Cell::get).unwrap_or(false),
            request_id: self.stamp.ambient.request().map(|context| context.id().clone()),
            waited: self.stamp.sent_at.map(|at| at.elapsed()),
        });
        self.answer(shared, verdict);
        self.discard(shared);
    }

    /// Drops the message. Its drop is the user's code, and this runs inside actix.
    fn discard(&mut self, shared: &Shared) {
        if let Err(caught) = panic::catch(|| self.message = None) {
            tracing::error!(
                actor = &*shared.name,
                panic = &**caught.message(),
                "actor.panic_in_drop"
            );
        }
    }
}

impl<M: Message> Drop for Letter<M> {
    fn drop(&mut self) {
        if self.message.is_none() {
            return;
        }
        if let Some(slot) = &self.stamp.slot {
            self.bury(&Arc::clone(slot.shared()));
        } else if let Some(shared) = EMPTYING.try_with(|of| of.borrow().clone()).ok().flatten() {
            shared.foreign.fetch_add(1, Ordering::Relaxed);
            self.bury(&shared);
        }
    }
}

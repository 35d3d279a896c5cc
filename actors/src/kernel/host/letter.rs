//! The envelope: what travels with a message, and what happens when it arrives.

use std::cell::{Cell, RefCell};
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use actix::dev::{Envelope, EnvelopeProxy, MessageResponse, OneshotSender, ToEnvelope};
use actix::{Actor, Handler, Message};
use tokio::time::Instant;
use tracing::level_filters::LevelFilter;

use super::context::Context;
use crate::kernel::error::CallError;
use crate::kernel::panic;
use crate::kernel::request::Ambient;
use crate::kernel::roll::{self, Number};
use crate::kernel::shared::{Shared, Unrun, count_here};

thread_local! {
    /// How [`Ref`](super::Ref) hands a stamp to `pack`, which actix calls synchronously
    /// inside `Addr::send` with the message alone.
    static OUTBOUND: Outbound = const { Outbound::empty() };
    /// The luggage of that message, if it has any.
    static LUGGAGE: Cell<Option<Luggage>> = const { Cell::new(None) };
    /// Set while a message is dropped to make room for a newer one.
    static DISPLACING: Cell<bool> = const { Cell::new(false) };
    /// Whose mailbox is being emptied: a message that came through a plain `Addr` does
    /// not know its actor.
    static EMPTYING: RefCell<Option<Arc<Shared>>> = const { RefCell::new(None) };
}

/// Sends through `send` with this stamp; the stamp comes back if nothing was packed,
/// which is how a closed mailbox shows itself.
#[inline]
pub(super) fn stamped<T>(stamp: Stamp, send: impl FnOnce() -> T) -> (T, Option<Stamp>) {
    OUTBOUND.with(|outbound| outbound.put(stamp));
    let sent = send();
    let unsent = OUTBOUND.with(Outbound::take);
    if unsent.is_some() {
        drop(Luggage::collect());
    }
    (sent, unsent)
}

/// The stamp on its way to `pack`. Cells of one word, because a wider read of what was
/// just written in words stalls.
struct Outbound {
    actor: Cell<Option<Number>>,
    ticket: Cell<u64>,
    /// Whether luggage waits for it too.
    laden: Cell<bool>,
}

impl Outbound {
    const fn empty() -> Self {
        Self { actor: Cell::new(None), ticket: Cell::new(0), laden: Cell::new(false) }
    }

    #[inline]
    fn put(&self, stamp: Stamp) {
        self.actor.set(Some(stamp.actor));
        self.ticket.set(stamp.ticket);
    }

    #[inline]
    fn take(&self) -> Option<Stamp> {
        let actor = self.actor.take()?;
        Some(Stamp { actor, ticket: self.ticket.get() })
    }
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
    let set = |of| drop(EMPTYING.try_with(|cell| cell.replace(of)));
    set(Some(Arc::clone(shared)));
    let dropped = panic::catch(|| drop(mailbox));
    set(None);
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
    #[inline]
    fn begin(&self) -> bool {
        self.leave_queue(Self::RUNNING)
    }

    /// The caller's side: `false` when the handler began first.
    #[inline]
    pub(super) fn expire(&self) -> bool {
        self.leave_queue(Self::EXPIRED)
    }

    fn leave_queue(&self, to: u8) -> bool {
        let swap = self.0.compare_exchange(Self::QUEUED, to, Ordering::AcqRel, Ordering::Acquire);
        swap.is_ok()
    }
}

/// What travels with every message that passed the gate: small, because most have no more.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stamp {
    actor: Number,
    ticket: u64,
}

/// What travels with a message besides its stamp, if there is anything.
#[derive(Debug)]
pub(super) struct Luggage {
    ambient: Ambient,
    progress: Option<Arc<Progress>>,
    sent_at: Option<Instant>,
    /// Boxed because it is rare and larger than all the rest.
    span: Option<Box<tracing::Span>>,
}

/// Every 64th message notes when it was sent.
const CLOCKED: u64 = 64;

impl Stamp {
    /// A stamp to be used by [`stamped`] at once: its luggage waits in this thread.
    #[inline]
    pub(super) fn new(
        actor: Number,
        ticket: u64,
        ambient: Ambient,
        progress: Option<Arc<Progress>>,
    ) -> Self {
        let clocked = ticket.is_multiple_of(CLOCKED);
        if clocked || progress.is_some() || !ambient.is_nothing() || spans_are_on() {
            Luggage::stow(ambient, progress, clocked);
        }
        Self { actor, ticket }
    }
}

impl Luggage {
    fn new(ambient: Ambient, progress: Option<Arc<Progress>>, clocked: bool) -> Self {
        let sent_at = clocked.then(Instant::now);
        let span = spans_are_on().then(|| Box::new(tracing::Span::current()));
        Self { ambient, progress, sent_at, span }
    }

    /// For a message that came through a plain `Addr`, past the gate.
    fn foreign() -> Option<Self> {
        let ambient = Ambient::capture();
        let laden = !ambient.is_nothing() || spans_are_on();
        laden.then(|| Self::new(ambient, None, false))
    }

    #[inline(never)]
    fn stow(ambient: Ambient, progress: Option<Arc<Progress>>, clocked: bool) {
        LUGGAGE.set(Some(Self::new(ambient, progress, clocked)));
        OUTBOUND.with(|outbound| outbound.laden.set(true));
    }

    #[inline]
    fn collect() -> Option<Self> {
        let laden = OUTBOUND.with(|outbound| outbound.laden.replace(false));
        if laden { LUGGAGE.take() } else { None }
    }
}

#[inline]
fn spans_are_on() -> bool {
    LevelFilter::current() >= LevelFilter::DEBUG && span_is_wanted()
}

#[cold]
fn span_is_wanted() -> bool {
    tracing::enabled!(target: "steadfast::message", tracing::Level::DEBUG)
}

/// What a letter may carry. A letter without any is smaller, and the compiler leaves out
/// what asks for it: a tell costs 60 ns in all, so each line counts.
pub(super) trait Carried {
    fn ambient(&self) -> &Ambient;
    fn progress(&self) -> Option<&Progress>;
    fn sent_at(&self) -> Option<Instant>;
    fn take_span(&mut self) -> Option<Box<tracing::Span>>;
}

/// Nothing is carried.
struct Light;

impl Carried for Light {
    fn ambient(&self) -> &Ambient {
        &Ambient::Nothing
    }

    fn progress(&self) -> Option<&Progress> {
        None
    }

    fn sent_at(&self) -> Option<Instant> {
        None
    }

    fn take_span(&mut self) -> Option<Box<tracing::Span>> {
        None
    }
}

impl Carried for Luggage {
    fn ambient(&self) -> &Ambient {
        &self.ambient
    }

    fn progress(&self) -> Option<&Progress> {
        self.progress.as_deref()
    }

    fn sent_at(&self) -> Option<Instant> {
        self.sent_at
    }

    fn take_span(&mut self) -> Option<Box<tracing::Span>> {
        self.span.take()
    }
}

/// Why a message that arrived is not handled.
enum Skip {
    /// Its actor rests after too many failures.
    Refused,
    Abandoned,
    Expired,
}

pub(super) struct Letter<M: Message, C: Carried> {
    message: Option<M>,
    reply: Option<OneshotSender<M::Result>>,
    /// Whose slot it holds; `None` if it came through a plain `Addr`, past the gate.
    actor: Option<Number>,
    ticket: u64,
    carried: C,
}

impl<A, M> ToEnvelope<A, M> for Context<A>
where
    A: Actor<Context = Self> + Handler<M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    fn pack(message: M, reply: Option<OneshotSender<M::Result>>) -> Envelope<A> {
        let Some(Stamp { actor, ticket }) = OUTBOUND.with(Outbound::take) else {
            return match Luggage::foreign() {
                None => seal(message, reply, None, 0, Light),
                Some(luggage) => seal(message, reply, None, 0, luggage),
            };
        };
        match Luggage::collect() {
            None => seal(message, reply, Some(actor), ticket, Light),
            Some(luggage) => seal(message, reply, Some(actor), ticket, luggage),
        }
    }
}

#[inline]
fn seal<A, M, C>(
    message: M,
    reply: Option<OneshotSender<M::Result>>,
    actor: Option<Number>,
    ticket: u64,
    carried: C,
) -> Envelope<A>
where
    A: Actor<Context = Context<A>> + Handler<M>,
    M: Message + Send + 'static,
    M::Result: Send,
    C: Carried + Send + 'static,
{
    // ORDER: the box first, so that the letter is written there and not copied there.
    let space: Box<MaybeUninit<Letter<M, C>>> = Box::new_uninit();
    let message = Some(message);
    let letter = Box::write(space, Letter { message, reply, actor, ticket, carried });
    Envelope::with_proxy(letter)
}

impl<M: Message, C: Carried> Letter<M, C> {
    /// Looks at the message as it is dequeued. No user code is needed for any of this.
    fn skip(&self, resting: bool) -> Option<Skip> {
        if resting {
            return Some(Skip::Refused);
        }
        let caller_left = self.reply.as_ref().is_some_and(OneshotSender::is_closed);
        let ambient = self.carried.ambient();
        if caller_left || ambient.is_cancelled() {
            return Some(Skip::Abandoned);
        }
        let past = ambient.deadline().is_some_and(|at| at <= Instant::now());
        let lost = self
            .carried
            .progress()
            .is_some_and(|progress| if past { !progress.expire() } else { !progress.begin() });
        (past || lost).then_some(Skip::Expired)
    }

    /// Ends the message unrun, on its actor's thread.
    #[cold]
    fn pass_over(&mut self, why: &Skip, shared: &Shared) {
        let counter = match why {
            Skip::Refused => None,
            Skip::Abandoned => Some(&shared.outcomes.abandoned),
            Skip::Expired => Some(&shared.outcomes.expired),
        };
        if let Some(counter) = counter {
            count_here(counter);
            self.answer(shared, CallError::Expired);
            self.discard(shared);
        } else {
            self.bury(shared);
        }
        if self.actor.is_some() {
            shared.leave_here();
        }
    }

    /// Leaves `verdict` for a caller that still waits.
    fn answer(&self, shared: &Shared, verdict: CallError) {
        if let (Some(reply), Some(_)) = (&self.reply, &self.actor) {
            record(shared, self.ticket, reply, verdict);
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

impl<A, M, C> EnvelopeProxy<A> for Letter<M, C>
where
    A: Actor<Context = Context<A>> + Handler<M>,
    M: Message + Send + 'static,
    M::Result: Send,
    C: Carried,
{
    fn handle(&mut self, act: &mut A, ctx: &mut Context<A>) {
        ctx.take_turn();
        if self.actor.is_none() {
            ctx.shared().foreign.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(why) = self.skip(ctx.is_resting()) {
            self.pass_over(&why, ctx.shared());
            return;
        }
        if let Some(sender) = self.carried.take_span() {
            let _span = ctx.message_span::<M>(&sender, self.carried.ambient());
            self.run(act, ctx);
        } else {
            self.run(act, ctx);
        }
    }
}

impl<M, C> Letter<M, C>
where
    M: Message + Send + 'static,
    M::Result: Send,
    C: Carried,
{
    #[inline]
    fn run<A>(&mut self, act: &mut A, ctx: &mut Context<A>)
    where
        A: Actor<Context = Context<A>> + Handler<M>,
    {
        let asked = self.reply.is_some() && self.actor.is_some();
        let ticket = asked.then_some(self.ticket);
        // The slot moves with the work: a reply future takes it from here.
        let ambient = self.carried.ambient().clone();
        ctx.begin_dispatch(ticket, self.actor.is_some(), ambient);
        let mut turn = Turn { letter: self, act, ctx };
        // A closure of one word: what it captures is copied, and copying what was just
        // written stalls.
        let outcome = panic::catch(|| turn.handle());
        turn.finish(outcome, ticket);
    }
}

/// A message in its handler's hands.
struct Turn<'a, A, M: Message, C: Carried>
where
    A: Actor<Context = Context<A>>,
{
    letter: &'a mut Letter<M, C>,
    act: &'a mut A,
    ctx: &'a mut Context<A>,
}

impl<A, M, C> Turn<'_, A, M, C>
where
    A: Actor<Context = Context<A>> + Handler<M>,
    M: Message + Send + 'static,
    M::Result: Send,
    C: Carried,
{
    #[inline]
    fn handle(&mut self) {
        let Self { letter, act, ctx } = self;
        let Letter { message, reply, carried, .. } = &mut **letter;
        let Some(message) = message.take() else { return };
        carried.ambient().enter(|| {
            let response = act.handle(message, ctx);
            ctx.replying();
            response.handle(ctx, reply.take());
        });
    }

    #[inline]
    fn finish(&mut self, outcome: Result<(), panic::Panic>, ticket: Option<u64>) {
        match outcome {
            Ok(()) => count_here(&self.ctx.shared().outcomes.handled),
            Err(caught) => self.panicked(&caught, ticket),
        }
        self.ctx.end_dispatch();
    }

    #[cold]
    fn panicked(&mut self, caught: &panic::Panic, ticket: Option<u64>) {
        let ctx = &mut *self.ctx;
        count_here(&ctx.shared().outcomes.panicked);
        if let (Some(reply), Some(ticket)) = (&self.letter.reply, ticket) {
            record(ctx.shared(), ticket, reply, ctx.verdict(caught));
        }
        ctx.panicked(caught, Some(std::any::type_name::<M>()));
    }
}

impl<M: Message, C: Carried> Letter<M, C> {
    /// Accounts for a message that will not run.
    fn bury(&mut self, shared: &Shared) {
        let verdict = shared.bury(Unrun {
            message: std::any::type_name::<M>(),
            displaced: DISPLACING.try_with(Cell::get).unwrap_or(false),
            request_id: self.carried.ambient().request().map(|context| context.id().clone()),
            waited: self.carried.sent_at().map(|at| at.elapsed()),
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

impl<M: Message, C: Carried> Drop for Letter<M, C> {
    fn drop(&mut self) {
        if self.message.is_none() {
            return;
        }
        if let Some(actor) = self.actor {
            if let Some(shared) = roll::find(actor) {
                self.bury(&shared);
                shared.leave();
            }
        } else if let Some(shared) = EMPTYING.try_with(|of| of.borrow().clone()).ok().flatten() {
            shared.foreign.fetch_add(1, Ordering::Relaxed);
            self.bury(&shared);
        }
    }
}

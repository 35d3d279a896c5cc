//! The execution context of one supervised actor.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use std::collections::VecDeque;

use actix::dev::{AsyncContextParts, ContextParts, Envelope};
use actix::{
    Actor, ActorContext, ActorFuture, ActorState as ActixState, Addr, AsyncContext, Message,
    SpawnHandle,
};
use tokio::time::Instant;
use tracing::span::EnteredSpan;

use super::reference::Ref;
use super::reply::{ReplyWork, RunningTasks};
use super::waits::{Cooldown, Rebuild, Ring, Suspension, Up};
use super::work::{Origin, WorkFuture, WorkInFlight, refuse};
use crate::kernel::error::{BuildError, CallError, CutShort};
use crate::kernel::lifecycle::Lifecycle;
use crate::kernel::panic::Panic;
use crate::kernel::request::{Ambient, RequestContext};
use crate::kernel::restart::{Decision, Ending, Policy, Restart, Strikes};
use crate::kernel::shared::{ActorState, Shared, Slot};
use crate::kernel::spec::Overflow;

/// Builds an incarnation.
pub(crate) type Factory<A> = Box<dyn Fn(&Lifecycle) -> Result<A, BuildError> + Send>;

/// The execution context of a supervised actor.
///
/// Write `type Context = steadfast::Context<Self>;` and otherwise plain actix: handlers,
/// timers, streams and `ResponseActFuture` work as they do there. What differs:
///
/// - A panic, wherever it happens, drops this incarnation and its work in flight; a new
///   one is built from the factory and serves the messages that were queued.
/// - `stop()` and `terminate()` end the incarnation; its [`Restart`](crate::kernel::Restart)
///   decides whether another follows.
/// - The mailbox yields to other tasks of its thread after
///   [`Spec::budget`](crate::kernel::Spec::budget) messages.
pub struct Context<A>
where
    A: Actor<Context = Self>,
{
    parts: ContextParts<A>,
    myself: Ref<A>,
    factory: Factory<A>,
    restart: Restart,
    strikes: Strikes,
    work: WorkInFlight<A>,
    tasks: RunningTasks,
    dispatch: Option<Dispatch>,
    /// Counts endings, so that a rebuild that was overtaken by another knows it.
    ending: u64,
    standing: Standing,
    /// Messages handled since this task last let others run.
    turns: u32,
    budget: u32,
}

/// What may still run on the instance.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Everything.
    Whole,
    /// Nothing: it has ended, and the next one comes after a pause. Messages wait.
    Ended,
    /// Nothing: it failed too often. Until the next one, messages are refused.
    Resting,
    /// Nothing: the supervisor decides when the next one comes. Messages wait.
    Suspended,
    /// Nothing: it failed for good, and its task ends without another line of it run.
    Doomed,
}

/// The message being handled.
struct Dispatch {
    ticket: Option<u64>,
    /// It holds a slot of the gate, until a reply takes the slot over.
    holds_slot: bool,
    ambient: Ambient,
    /// The handler has returned and its reply is being sent: what is spawned now is the
    /// reply, and holds the message's slot until it is done.
    replying: bool,
}

impl Dispatch {
    /// The slot, for a reply that outlives the handler.
    fn take_slot(&mut self, shared: &Arc<Shared>) -> Option<Slot> {
        std::mem::take(&mut self.holds_slot).then(|| Slot::taken(Arc::clone(shared)))
    }
}

impl<A> Context<A>
where
    A: Actor<Context = Self>,
{
    pub(super) fn new(
        parts: ContextParts<A>,
        myself: Ref<A>,
        factory: Factory<A>,
        policy: Policy,
        budget: u32,
    ) -> Self {
        let tasks = RunningTasks::new(Arc::clone(myself.shared()));
        Self {
            parts,
            myself,
            factory,
            restart: policy.restart,
            strikes: Strikes::new(policy),
            work: WorkInFlight::new(),
            tasks,
            dispatch: None,
            ending: 0,
            standing: Standing::Ended,
            turns: 0,
            budget,
        }
    }

    /// This actor's name in its tree.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared().name
    }

    /// Which incarnation this is; the first is 1.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.shared().generation()
    }

    /// A handle to this actor, to send to itself or to hand out.
    #[must_use]
    pub fn myself(&self) -> Ref<A> {
        self.myself.clone()
    }

    /// The request the message being handled belongs to.
    #[must_use]
    pub fn request(&self) -> Option<&RequestContext> {
        self.dispatch.as_ref()?.ambient.request()
    }

    /// Time left until the deadline of the message being handled; `None` without one.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        let deadline = self.dispatch.as_ref()?.ambient.deadline()?;
        Some(deadline.saturating_duration_since(Instant::now()))
    }

    /// Fails this incarnation as a panic would, without one: for an actor that finds its
    /// state or its resource beyond repair. The message being handled gets its reply.
    ///
    /// What the incarnation spawns after that is dropped at once, and so is an answer that
    /// takes a future of the actor. To end it twice counts once.
    pub fn fail(&mut self, reason: impl Into<Arc<str>>) {
        if self.standing == Standing::Whole {
            self.end(Ending::Failed, &reason.into(), None);
        }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        self.myself.shared()
    }

    // ===== fairness =====

    /// Counts a message; after the budget the task yields.
    ///
    /// tokio's own yield is needed: a bare wake-up would be served again before the
    /// timer driver runs (33 ms late instead of 3, measured).
    #[inline]
    pub(super) fn take_turn(&mut self) {
        self.turns += 1;
        if self.turns >= self.budget {
            self.let_others_run();
        }
    }

    #[cold]
    fn let_others_run(&mut self) {
        self.turns = 0;
        self.parts.wait(actix::fut::wrap_future(tokio::task::yield_now()));
    }

    pub(super) const fn new_turn(&mut self) {
        self.turns = 0;
    }

    // ===== dispatch =====

    #[inline]
    pub(super) fn begin_dispatch(
        &mut self,
        ticket: Option<u64>,
        holds_slot: bool,
        ambient: Ambient,
    ) {
        self.dispatch = Some(Dispatch { ticket, holds_slot, ambient, replying: false });
    }

    pub(super) fn replying(&mut self) {
        if let Some(dispatch) = &mut self.dispatch {
            dispatch.replying = true;
        }
    }

    /// Gives the message's slot back, unless a reply took it along.
    #[inline]
    pub(super) fn end_dispatch(&mut self) {
        let holds_slot = self.dispatch.as_ref().is_some_and(|dispatch| dispatch.holds_slot);
        self.dispatch = None;
        if holds_slot {
            self.shared().leave_here();
        }
    }

    /// Whose work a future spawned right now is.
    pub(super) fn origin(&mut self) -> Origin {
        let shared = self.myself.shared();
        match &mut self.dispatch {
            // Inside another future of the actor, there may be a request all the same.
            None => Origin::background(Ambient::capture().detached()),
            Some(dispatch) if dispatch.replying => {
                let slot = dispatch.take_slot(shared);
                Origin::reply(dispatch.ticket, slot, dispatch.ambient.clone())
            }
            // It may outlive the message (a timer, a stream): it keeps the request's id and
            // sheds its deadline.
            Some(dispatch) => Origin::background(dispatch.ambient.detached()),
        }
    }

    /// What a reply task carries over from the message being answered.
    pub(super) fn take_reply_work(&mut self) -> ReplyWork {
        let generation = self.generation();
        match &mut self.dispatch {
            Some(dispatch) => ReplyWork {
                ticket: dispatch.ticket,
                _slot: dispatch.take_slot(self.myself.shared()),
                ambient: dispatch.ambient.clone(),
                generation,
            },
            None => ReplyWork { ticket: None, _slot: None, ambient: Ambient::Nothing, generation },
        }
    }

    pub(super) const fn tasks(&self) -> &RunningTasks {
        &self.tasks
    }

    pub(super) const fn work(&mut self) -> &mut WorkInFlight<A> {
        &mut self.work
    }

    pub(super) fn message_span<M: Message>(
        &self,
        sender: &tracing::Span,
        ambient: &Ambient,
    ) -> EnteredSpan {
        let span = tracing::debug_span!(
            target: "steadfast::message",
            parent: None,
            "message",
            actor = self.name(),
            message = std::any::type_name::<M>(),
            generation = self.generation(),
            request_id = ambient.request().map(|context| context.id().as_str()),
        );
        // A link, not a parent: spans of actors that message each other would nest for ever.
        span.follows_from(sender);
        span.entered()
    }

    // ===== failure and rebuild =====

    /// What the caller of the message that panicked is told.
    pub(super) fn verdict(&self, caught: &Panic) -> CallError {
        CallError::Panicked { message: Arc::clone(caught.message()), generation: self.generation() }
    }

    /// Ends this incarnation because of a panic.
    pub(super) fn panicked(&mut self, caught: &Panic, message: Option<&'static str>) {
        let reason = Arc::clone(caught.message());
        self.end(Ending::Failed, &reason, Some((caught, message)));
    }

    fn end(
        &mut self,
        ending: Ending,
        reason: &Arc<str>,
        panic: Option<(&Panic, Option<&'static str>)>,
    ) {
        self.end_work();
        let decision = self.judge(ending, reason, panic);
        self.obey(decision, ending, reason);
    }

    /// Counts an ending, reports it, and decides what follows.
    pub(super) fn judge(
        &mut self,
        ending: Ending,
        reason: &Arc<str>,
        panic: Option<(&Panic, Option<&'static str>)>,
    ) -> Decision {
        let failures = match ending {
            Ending::Failed => self.shared().note_failure(reason),
            Ending::Stopped => 0,
        };
        let decision = self.strikes.ended(ending, Instant::now(), fastrand::f64());
        let caught = panic.map(|(caught, _)| caught);
        tracing::warn!(
            actor = self.name(),
            generation = self.generation(),
            reason = &**reason,
            location = caught.and_then(Panic::location),
            message = panic.and_then(|(_, message)| message),
            request_id = self.request().map(|context| context.id().as_str()),
            failures,
            ?decision,
            "actor.ended"
        );
        // A crash loop must not fill the log with backtraces, nor hide where it comes from.
        if failures.is_power_of_two()
            && let Some(backtrace) = caught.and_then(Panic::backtrace_text)
        {
            tracing::warn!(actor = self.name(), failures, backtrace, "actor.panic_backtrace");
        }
        decision
    }

    fn obey(&mut self, decision: Decision, ending: Ending, reason: &Arc<str>) {
        match decision {
            Decision::Rebuild { after } => self.restart(after, ending),
            Decision::Quarantine { cooldown } => {
                self.standing = Standing::Resting;
                self.shared().rest(cooldown);
                let cooldown = Cooldown::new(self.ending, cooldown);
                self.parts.spawn(cooldown);
            }
            Decision::Escalate => self.escalate(reason),
            Decision::Stop => self.doom(),
        }
    }

    fn restart(&mut self, after: Duration, ending: Ending) {
        if self.shared().asks_its_group(after) {
            self.suspend();
        } else {
            self.shared().enter(ActorState::Restarting);
            self.parts.wait(Rebuild::new(self.ending, after, ending));
        }
    }

    /// Hands the failure to the supervisor and waits for what it decides. At the root,
    /// the actor stops: nobody is left who could rebuild it.
    fn escalate(&mut self, reason: &Arc<str>) {
        if self.shared().escalate(reason) {
            self.suspend();
        } else {
            self.doom();
        }
    }

    fn doom(&mut self) {
        self.shared().note_fallen();
        self.standing = Standing::Doomed;
        self.parts.wait(Suspension);
    }

    pub(super) fn is_doomed(&self) -> bool {
        self.standing == Standing::Doomed
    }

    /// Drops this incarnation's work, and lets no pause that is running rebuild.
    fn end_work(&mut self) {
        self.cut_short(CutShort::Restart);
        self.standing = Standing::Ended;
        self.ending += 1;
    }

    /// Drops all work in flight; its callers are told why.
    pub(super) fn cut_short(&mut self, why: CutShort) {
        let shared = Arc::clone(self.shared());
        self.work.clear(&shared, why);
        self.tasks.clear(why);
    }

    /// Obeys the supervisor.
    pub(super) fn suspend_now(&mut self) {
        self.end_work();
        self.suspend();
    }

    /// Holds the mailbox until the supervisor asks for a rebuild.
    fn suspend(&mut self) {
        self.standing = Standing::Suspended;
        self.parts.wait(Suspension);
        self.shared().enter(ActorState::Suspended);
    }

    /// The supervisor it may wait for is gone.
    pub(super) fn abandoned(&mut self) {
        if self.standing == Standing::Suspended {
            self.doom();
        }
    }

    pub(super) fn is_suspended(&self) -> bool {
        matches!(self.standing, Standing::Suspended | Standing::Doomed)
    }

    /// Rebuilds at once because the supervisor says so.
    pub(super) fn rebuild_now(&mut self) {
        self.end_work();
        self.shared().enter(ActorState::Restarting);
        self.parts.wait(Rebuild::new(self.ending, Duration::ZERO, Ending::Failed));
    }

    pub(super) const fn is_current(&self, ending: u64) -> bool {
        self.ending == ending
    }

    /// Builds an incarnation; a panic in the factory is an error like any other.
    pub(super) fn build(&self) -> Result<A, Arc<str>> {
        let shared = self.shared();
        let life = Lifecycle::new(
            Arc::clone(&shared.name),
            shared.generation() + 1,
            shared.last_failure(),
        );
        match crate::kernel::panic::catch(|| (self.factory)(&life)) {
            Ok(Ok(actor)) => Ok(actor),
            Ok(Err(error)) => Err(Arc::from(error.to_string())),
            Err(caught) => Err(Arc::clone(caught.message())),
        }
    }

    pub(super) fn build_failed(&mut self, reason: &Arc<str>) {
        self.end(Ending::Failed, reason, None);
    }

    /// A new incarnation takes over; its `started` comes next.
    ///
    /// ORDER: actix polls the newest `wait` first, so what `started` waits for is done
    /// before the actor counts as up.
    pub(super) fn reborn(&mut self) {
        self.standing = Standing::Whole;
        self.parts.wait(Up::new(self.ending));
        if self.shared().next_generation() > 1 {
            self.shared().restarts.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The incarnation's `started` returned: it handles messages from now on.
    pub(super) fn up(&mut self) {
        self.strikes.started(Instant::now());
        self.shared().enter(ActorState::Running);
    }

    /// Whether queued messages are refused rather than handled.
    pub(super) fn is_resting(&self) -> bool {
        self.standing == Standing::Resting
    }

    /// Whether the mailbox stands still until somebody outside acts.
    pub(super) fn handles_nothing(&self) -> bool {
        self.is_resting() || self.is_suspended()
    }

    /// Whether this incarnation has ended and the next is still to come.
    pub(super) fn has_ended(&self) -> bool {
        self.standing != Standing::Whole
    }

    // ===== the ring of an actor that drops its oldest message =====

    pub(super) fn attend_ring(&mut self) {
        if self.myself.overflow() == Overflow::DropOldest {
            self.parts.spawn(Ring);
        }
    }

    pub(super) fn pop_ring(&self) -> Option<Envelope<A>> {
        self.myself.pop()
    }

    pub(super) fn drain_ring(&self) -> VecDeque<Envelope<A>> {
        self.myself.drain_ring()
    }

    // ===== the end =====

    /// Marks the context as ended, so that actix does not poll it while it is dropped.
    pub(super) fn forget_parts(&mut self) {
        self.parts.terminate();
    }

    /// For the supervisor and the drain: no restart kind has a say.
    pub(super) fn stop_now(&mut self) {
        self.parts.stop();
    }
}

impl<A> ActorContext for Context<A>
where
    A: Actor<Context = Self>,
{
    fn stop(&mut self) {
        match self.restart {
            Restart::Permanent if self.has_ended() => {}
            Restart::Permanent => {
                self.end(Ending::Stopped, &Arc::from("it stopped itself"), None);
            }
            Restart::Transient | Restart::Temporary => self.parts.stop(),
        }
    }

    fn terminate(&mut self) {
        match self.restart {
            Restart::Permanent => self.stop(),
            Restart::Transient | Restart::Temporary => self.parts.terminate(),
        }
    }

    fn state(&self) -> ActixState {
        self.parts.state()
    }
}

impl<A> AsyncContext<A> for Context<A>
where
    A: Actor<Context = Self>,
{
    fn address(&self) -> Addr<A> {
        self.parts.address()
    }

    fn spawn<F>(&mut self, future: F) -> SpawnHandle
    where
        F: ActorFuture<A, Output = ()> + 'static,
    {
        let origin = self.origin();
        if self.has_ended() {
            refuse(self.shared(), &origin, future);
            return self.parts.spawn(actix::fut::ready(()));
        }
        let handle = Rc::new(Cell::new(None));
        let key = self.work.insert(Box::pin(future), origin, Rc::clone(&handle));
        let spawned = self.parts.spawn(WorkFuture::new(key));
        handle.set(Some(spawned));
        spawned
    }

    fn wait<F>(&mut self, future: F)
    where
        F: ActorFuture<A, Output = ()> + 'static,
    {
        let origin = self.origin();
        if self.has_ended() {
            return refuse(self.shared(), &origin, future);
        }
        let key = self.work.insert(Box::pin(future), origin, Rc::default());
        self.parts.wait(WorkFuture::new(key));
    }

    fn waiting(&self) -> bool {
        self.parts.waiting()
    }

    fn cancel_future(&mut self, handle: SpawnHandle) -> bool {
        self.work.cancel(handle);
        self.parts.cancel_future(handle)
    }
}

impl<A> AsyncContextParts<A> for Context<A>
where
    A: Actor<Context = Self>,
{
    fn parts(&mut self) -> &mut ContextParts<A> {
        &mut self.parts
    }
}

impl<A> fmt::Debug for Context<A>
where
    A: Actor<Context = Self>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("actor", self.shared()).finish_non_exhaustive()
    }
}

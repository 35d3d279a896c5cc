//! The task of one supervised actor, over all its incarnations.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll, Waker, ready};

use actix::dev::channel::{AddressReceiver, channel};
use actix::dev::{ContextFut, ContextParts, Mailbox};
use actix::{Actor, ActorContext, Addr};
use futures_util::{FutureExt, Stream};
use tokio::time::{Instant, Sleep};

use super::context::{Context, Factory};
use super::letter::empty;
use super::reference::Ref;
use crate::kernel::error::CutShort;
use crate::kernel::panic;
use crate::kernel::restart::{Decision, Ending, Policy};
use crate::kernel::shared::{ActorState, Command, Shared};

/// A mailbox without actix's bound, which is none; the gate stands before it.
pub(crate) fn mailbox<A: Actor>() -> (Addr<A>, AddressReceiver<A>) {
    let (sender, receiver) = channel(0);
    (Addr::new(sender), receiver)
}

/// An actor on its way to its thread. One that never gets there ends like any other: its
/// callers are told, and the tree forgets it.
pub(crate) struct Host<A>(Option<Unhosted<A>>)
where
    A: Actor<Context = Context<A>>;

/// What it takes to host an actor; made from its [`Spec`](crate::kernel::Spec).
pub(crate) struct Unhosted<A>
where
    A: Actor<Context = Context<A>>,
{
    pub(crate) myself: Ref<A>,
    pub(crate) receiver: AddressReceiver<A>,
    pub(crate) factory: Factory<A>,
    pub(crate) policy: Policy,
    pub(crate) budget: u32,
}

impl<A> Host<A>
where
    A: Actor<Context = Context<A>>,
{
    pub(crate) const fn new(unhosted: Unhosted<A>) -> Self {
        Self(Some(unhosted))
    }

    /// Starts the task on the current thread, which must run actix or a `LocalSet`.
    pub(crate) fn run(mut self) {
        if let Some(unhosted) = self.0.take() {
            drop(tokio::task::spawn_local(Hosted::new(unhosted)));
        }
    }
}

impl<A> Drop for Host<A>
where
    A: Actor<Context = Context<A>>,
{
    fn drop(&mut self) {
        let Some(Unhosted { myself, receiver, factory, .. }) = self.0.take() else { return };
        let shared = Arc::clone(myself.shared());
        shared.close();
        empty(&shared, (receiver, factory));
        empty(&shared, myself.drain_ring());
        shared.stopped();
    }
}

/// Either the actor's first incarnation is still to be built, or actix runs it.
struct Hosted<A>
where
    A: Actor<Context = Context<A>>,
{
    shared: Arc<Shared>,
    myself: Ref<A>,
    phase: Phase<A>,
    drain: Option<Drain>,
    /// The waker that the control lane has.
    registered: Option<Waker>,
}

enum Phase<A>
where
    A: Actor<Context = Context<A>>,
{
    Boot(Box<Boot<A>>),
    Live(Box<ContextFut<A, Context<A>>>),
    Over,
}

/// Before the first incarnation: actix needs an instance to run anything at all.
struct Boot<A>
where
    A: Actor<Context = Context<A>>,
{
    receiver: AddressReceiver<A>,
    context: Context<A>,
    pause: Option<Pin<Box<Sleep>>>,
    suspended: bool,
    /// Its supervisor is gone.
    abandoned: bool,
}

struct Drain {
    deadline: Pin<Box<Sleep>>,
    stopping: bool,
}

/// What the task does next.
enum Step {
    Again,
    Wait,
    End,
}

impl<A> Unpin for Hosted<A> where A: Actor<Context = Context<A>> {}

impl<A> Hosted<A>
where
    A: Actor<Context = Context<A>>,
{
    fn new(unhosted: Unhosted<A>) -> Self {
        let Unhosted { myself, receiver, factory, policy, budget } = unhosted;
        let parts = ContextParts::new(receiver.sender_producer());
        let context = Context::new(parts, myself.clone(), factory, policy, budget);
        let boot = Boot { receiver, context, pause: None, suspended: false, abandoned: false };
        Self {
            shared: Arc::clone(myself.shared()),
            myself,
            phase: Phase::Boot(Box::new(boot)),
            drain: None,
            registered: None,
        }
    }

    /// Has the control lane wake this task; a task mostly keeps its waker.
    fn register(&mut self, waker: &Waker) {
        if self.registered.as_ref().is_none_or(|known| !known.will_wake(waker)) {
            self.registered = Some(waker.clone());
            self.shared.register(waker);
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Drain { deadline } => self.start_drain(deadline),
            Command::Suspend { done } => {
                match &mut self.phase {
                    Phase::Boot(boot) => boot.suspend(),
                    Phase::Live(live) => live.ctx().suspend_now(),
                    Phase::Over => {}
                }
                // The supervisor may have given up waiting; the command is obeyed all the same.
                let _gave_up = done.send(());
            }
            Command::Rebuild { done } => {
                match &mut self.phase {
                    Phase::Boot(boot) => boot.resume(),
                    Phase::Live(live) => live.ctx().rebuild_now(),
                    Phase::Over => {}
                }
                let _gave_up = done.send(());
            }
            Command::Abandon => match &mut self.phase {
                Phase::Boot(boot) => boot.abandoned = true,
                Phase::Live(live) => live.ctx().abandoned(),
                Phase::Over => {}
            },
        }
    }

    /// A second drain may bring the end forward, and never puts it off.
    fn start_drain(&mut self, deadline: Instant) {
        match &mut self.drain {
            Some(drain) => {
                let earliest = deadline.min(drain.deadline.deadline());
                drain.deadline.as_mut().reset(earliest);
            }
            None => {
                let deadline = Box::pin(tokio::time::sleep_until(deadline));
                self.drain = Some(Drain { deadline, stopping: false });
            }
        }
    }

    fn step(&mut self, cx: &mut task::Context<'_>) -> Step {
        if self.boot_is_over(cx) {
            return Step::End;
        }
        match &mut self.phase {
            Phase::Over => Step::End,
            Phase::Boot(boot) => match boot.poll(cx) {
                Poll::Pending => Step::Wait,
                Poll::Ready(None) => Step::End,
                Poll::Ready(Some(first)) => self.go_live(first),
            },
            Phase::Live(live) => {
                live.ctx().new_turn();
                match panic::catch(|| live.poll_unpin(cx)) {
                    Ok(Poll::Ready(())) => Step::End,
                    Ok(Poll::Pending) if live.ctx().is_doomed() => Step::End,
                    Ok(Poll::Pending) => self.poll_drain(cx),
                    Err(caught) => Self::panicked_outside(live.ctx(), &caught),
                }
            }
        }
    }

    fn go_live(&mut self, first: A) -> Step {
        let Phase::Boot(boot) = std::mem::replace(&mut self.phase, Phase::Over) else {
            return Step::End;
        };
        let Boot { receiver, mut context, .. } = *boot;
        context.reborn();
        context.attend_ring();
        let live = ContextFut::new(context, first, Mailbox::new(receiver));
        self.phase = Phase::Live(Box::new(live));
        Step::Again
    }

    /// `started`, `stopping` or `stopped` panicked, or a value did in its drop.
    fn panicked_outside(ctx: &mut Context<A>, caught: &panic::Panic) -> Step {
        if ctx.state() != actix::ActorState::Running {
            tracing::error!(actor = ctx.name(), panic = &**caught.message(), "actor.panic_in_stop");
            return Step::End;
        }
        ctx.panicked(caught, None);
        Step::Again
    }

    /// Whether an actor that drains need not be built any more: nothing is queued, nothing
    /// is served, or its time is up.
    fn boot_is_over(&mut self, cx: &mut task::Context<'_>) -> bool {
        let (Some(drain), Phase::Boot(boot)) = (&mut self.drain, &self.phase) else {
            return false;
        };
        let idle = self.shared.gate.depth() == 0;
        if !idle && !boot.suspended && drain.deadline.poll_unpin(cx).is_pending() {
            return false;
        }
        if !idle {
            self.shared.note_cut();
        }
        true
    }

    /// Stops a draining actor once its last slot is free, or its time is up.
    fn poll_drain(&mut self, cx: &mut task::Context<'_>) -> Step {
        let (Some(drain), Phase::Live(live)) = (&mut self.drain, &mut self.phase) else {
            return Step::Wait;
        };
        let finished = self.shared.gate.depth() == 0;
        let late = drain.deadline.poll_unpin(cx).is_ready();
        let stuck = live.ctx().handles_nothing();
        if !finished && !late && !stuck {
            return Step::Wait;
        }
        if !finished {
            self.shared.note_cut();
        }
        if stuck || live.ctx().has_ended() {
            // There is no whole instance that could say good-bye.
            return Step::End;
        }
        if drain.stopping {
            // Its `stopping` asked to go on: granted until the deadline.
            return if late { Step::End } else { Step::Wait };
        }
        drain.stopping = true;
        live.ctx().stop_now();
        Step::Again
    }

    /// The end of the actor: whatever is still inside is accounted for.
    fn end(&mut self) {
        if matches!(self.phase, Phase::Over) {
            return;
        }
        self.shared.close();
        let phase = std::mem::replace(&mut self.phase, Phase::Over);
        match phase {
            Phase::Boot(boot) => empty(&self.shared, boot),
            Phase::Live(mut live) => {
                live.ctx().cut_short(CutShort::Stop);
                // ORDER: actix polls a context that is dropped alive once more.
                live.ctx().forget_parts();
                empty(&self.shared, live);
            }
            Phase::Over => {}
        }
        empty(&self.shared, self.myself.drain_ring());
        self.shared.stopped();
    }
}

impl<A> Future for Hosted<A>
where
    A: Actor<Context = Context<A>>,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<()> {
        let this = &mut *self;
        this.register(cx.waker());
        loop {
            for command in this.shared.take_commands() {
                this.obey(command);
            }
            let step = this.step(cx);
            match step {
                Step::Again => {}
                Step::Wait => return Poll::Pending,
                Step::End => {
                    this.end();
                    return Poll::Ready(());
                }
            }
        }
    }
}

impl<A> Drop for Hosted<A>
where
    A: Actor<Context = Context<A>>,
{
    /// Its thread ends: the actor ends with it.
    fn drop(&mut self) {
        self.end();
    }
}

impl<A> Boot<A>
where
    A: Actor<Context = Context<A>>,
{
    fn suspend(&mut self) {
        self.suspended = true;
        self.pause = None;
        self.context.shared().enter(ActorState::Suspended);
    }

    fn resume(&mut self) {
        self.suspended = false;
        self.pause = None;
        self.context.shared().enter(ActorState::Starting);
    }

    /// The first incarnation, or `None` when there will never be one.
    fn poll(&mut self, cx: &mut task::Context<'_>) -> Poll<Option<A>> {
        loop {
            if self.context.shared().state() == ActorState::Quarantined {
                self.refuse_queued(cx);
            }
            if self.suspended && self.abandoned {
                self.context.shared().note_fallen();
                return Poll::Ready(None);
            }
            if self.suspended {
                return Poll::Pending;
            }
            if let Some(pause) = &mut self.pause {
                ready!(pause.poll_unpin(cx));
                self.resume();
            }
            match self.context.build() {
                Ok(first) => return Poll::Ready(Some(first)),
                Err(reason) => {
                    if !self.failed(&reason) {
                        return Poll::Ready(None);
                    }
                }
            }
        }
    }

    /// Whether another try follows.
    fn failed(&mut self, reason: &Arc<str>) -> bool {
        let shared = Arc::clone(self.context.shared());
        let pause = match self.context.judge(Ending::Failed, reason, None) {
            Decision::Rebuild { after } => {
                shared.enter(ActorState::Restarting);
                after
            }
            Decision::Quarantine { cooldown } => {
                shared.rest(cooldown);
                cooldown
            }
            Decision::Escalate => {
                let heard = shared.escalate(reason);
                if heard {
                    self.suspend();
                } else {
                    shared.note_fallen();
                }
                return heard;
            }
            Decision::Stop => {
                shared.note_fallen();
                return false;
            }
        };
        self.pause = Some(Box::pin(tokio::time::sleep(pause)));
        true
    }

    fn refuse_queued(&mut self, cx: &mut task::Context<'_>) {
        while let Poll::Ready(Some(queued)) = Pin::new(&mut self.receiver).poll_next(cx) {
            empty(self.context.shared(), queued);
        }
        empty(self.context.shared(), self.context.drain_ring());
    }
}

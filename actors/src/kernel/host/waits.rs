//! What the context waits for: rebuilds, rests and suspensions.
//!
//! All of them are `ActorFuture`s, because only those get at the instance.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll, ready};
use std::time::Duration;

use actix::dev::EnvelopeProxy;
use actix::{Actor, ActorFuture, AsyncContext};
use futures_util::FutureExt;
use tokio::time::Sleep;

use super::context::Context;
use crate::kernel::error::CutShort;
use crate::kernel::panic;
use crate::kernel::restart::Ending;
use crate::kernel::shared::ActorState;

/// Replaces the instance after a pause.
pub(super) struct Rebuild {
    ending: u64,
    how: Ending,
    pause: Pin<Box<Sleep>>,
}

impl Rebuild {
    pub(super) fn new(ending: u64, after: Duration, how: Ending) -> Self {
        Self { ending, how, pause: Box::pin(tokio::time::sleep(after)) }
    }
}

impl<A> ActorFuture<A> for Rebuild
where
    A: Actor<Context = Context<A>>,
{
    type Output = ();

    fn poll(
        mut self: Pin<&mut Self>,
        act: &mut A,
        ctx: &mut Context<A>,
        cx: &mut task::Context<'_>,
    ) -> Poll<()> {
        if !ctx.is_current(self.ending) {
            return Poll::Ready(());
        }
        if self.how == Ending::Stopped {
            self.how = Ending::Failed;
            // It stopped on purpose, so it is whole and may say good-bye.
            let _panicked = panic::catch(|| act.stopped(ctx));
            ctx.cut_short(CutShort::Restart);
        }
        ready!(self.pause.poll_unpin(cx));
        replace(act, ctx);
        Poll::Ready(())
    }
}

/// Comes back from a quarantine. Unlike [`Rebuild`] it does not hold the mailbox, so the
/// messages that are queued are refused at once.
pub(super) struct Cooldown {
    ending: u64,
    pause: Pin<Box<Sleep>>,
}

impl Cooldown {
    pub(super) fn new(ending: u64, cooldown: Duration) -> Self {
        Self { ending, pause: Box::pin(tokio::time::sleep(cooldown)) }
    }
}

impl<A> ActorFuture<A> for Cooldown
where
    A: Actor<Context = Context<A>>,
{
    type Output = ();

    fn poll(
        mut self: Pin<&mut Self>,
        act: &mut A,
        ctx: &mut Context<A>,
        cx: &mut task::Context<'_>,
    ) -> Poll<()> {
        if !ctx.is_current(self.ending) {
            return Poll::Ready(());
        }
        ready!(self.pause.poll_unpin(cx));
        ctx.shared().enter(ActorState::Restarting);
        replace(act, ctx);
        Poll::Ready(())
    }
}

/// Puts a new incarnation in the place of the old one.
fn replace<A>(act: &mut A, ctx: &mut Context<A>)
where
    A: Actor<Context = Context<A>>,
{
    let new = match ctx.build() {
        Ok(new) => new,
        Err(reason) => return ctx.build_failed(&reason),
    };
    let old = std::mem::replace(act, new);
    let shared = Arc::clone(ctx.shared());
    if let Err(caught) = panic::catch(|| drop(old)) {
        tracing::error!(actor = &*shared.name, panic = &**caught.message(), "actor.panic_in_drop");
    }
    ctx.reborn();
    if let Err(caught) = panic::catch(|| act.started(ctx)) {
        ctx.panicked(&caught, None);
    }
}

/// Says that an incarnation is up, once what its `started` waits for is done.
pub(super) struct Up {
    ending: u64,
}

impl Up {
    pub(super) const fn new(ending: u64) -> Self {
        Self { ending }
    }
}

impl<A> ActorFuture<A> for Up
where
    A: Actor<Context = Context<A>>,
{
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        _: &mut A,
        ctx: &mut Context<A>,
        _: &mut task::Context<'_>,
    ) -> Poll<()> {
        if ctx.is_current(self.ending) {
            ctx.up();
        }
        Poll::Ready(())
    }
}

/// Holds the mailbox until the supervisor asks for a rebuild. The control lane polls it.
pub(super) struct Suspension;

impl<A> ActorFuture<A> for Suspension
where
    A: Actor<Context = Context<A>>,
{
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        _: &mut A,
        ctx: &mut Context<A>,
        _: &mut task::Context<'_>,
    ) -> Poll<()> {
        if ctx.is_suspended() { Poll::Pending } else { Poll::Ready(()) }
    }
}

/// Handles what is on the ring of an actor that drops its oldest messages.
pub(super) struct Ring;

impl<A> ActorFuture<A> for Ring
where
    A: Actor<Context = Context<A>>,
{
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        act: &mut A,
        ctx: &mut Context<A>,
        _: &mut task::Context<'_>,
    ) -> Poll<()> {
        while !ctx.waiting() {
            let Some(mut next) = ctx.pop_ring() else { break };
            next.handle(act, ctx);
        }
        Poll::Pending
    }
}

//! The shell around the shared core: timers, operators and what outlives the process.
//!
//! INVARIANT: it holds no state of its own but its alarm. A new incarnation reads
//! everything from the core, and a dead one is not missed by any call.

use std::sync::Arc;

use actix::{Actor, AsyncContext, Handler, SpawnHandle, StreamHandler, WrapFuture};
use futures_util::stream;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use super::core::Core;
use super::keeper::Keeper;
use super::messages::{Ack, Disable, ForceClose, ForceOpen, MetricsOnly, Reset};
use super::operator::Command;
use crate::kernel::Context;

/// Makes a breaker's transitions that are due while nobody calls, and obeys operators.
///
/// [`Breaker`](super::Breaker) is its handle. It takes [`ForceOpen`], [`ForceClose`],
/// [`Disable`], [`MetricsOnly`] and [`Reset`].
#[derive(Debug)]
pub struct BreakerActor {
    core: Arc<Core>,
    keeper: Option<Arc<Keeper>>,
    alarm: Option<SpawnHandle>,
}

impl BreakerActor {
    pub(super) const fn new(core: Arc<Core>, keeper: Option<Arc<Keeper>>) -> Self {
        Self { core, keeper, alarm: None }
    }

    /// Makes what is due, and sets the alarm for what is due next.
    fn look(&mut self, ctx: &mut Context<Self>) {
        if let Some(alarm) = self.alarm.take() {
            ctx.cancel_future(alarm);
        }
        if let Some(wait) = self.core.tick() {
            self.alarm = Some(ctx.run_later(wait, Self::wake));
        }
    }

    fn wake(&mut self, ctx: &mut Context<Self>) {
        self.alarm = None;
        self.look(ctx);
    }

    fn obey(&self, command: Command, until: Option<Instant>, why: &str) -> Ack {
        let left = |until: Instant| until.saturating_duration_since(Instant::now());
        self.core.command(command, until.map(left), why)
    }
}

/// The state has changed, by whichever thread.
struct Changed;

impl Actor for BreakerActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // ORDER: subscribed before the first look, so that no change falls between.
        let changes = stream::unfold(self.core.subscribe(), |mut events| async {
            match events.recv().await {
                Ok(_) | Err(RecvError::Lagged(_)) => Some((Changed, events)),
                Err(RecvError::Closed) => None,
            }
        });
        ctx.add_stream(changes);
        if let Some(keeper) = &self.keeper {
            let kept = Arc::clone(keeper).keep(Arc::clone(&self.core));
            ctx.spawn(kept.into_actor(self));
        }
        self.look(ctx);
    }
}

impl StreamHandler<Changed> for BreakerActor {
    fn handle(&mut self, Changed: Changed, ctx: &mut Self::Context) {
        self.look(ctx);
    }
}

impl Handler<ForceOpen> for BreakerActor {
    type Result = Ack;

    fn handle(&mut self, msg: ForceOpen, _: &mut Self::Context) -> Ack {
        self.obey(Command::ForceOpen, msg.until, &msg.why)
    }
}

impl Handler<ForceClose> for BreakerActor {
    type Result = Ack;

    fn handle(&mut self, msg: ForceClose, _: &mut Self::Context) -> Ack {
        self.obey(Command::ForceClose, None, &msg.why)
    }
}

impl Handler<Disable> for BreakerActor {
    type Result = Ack;

    fn handle(&mut self, msg: Disable, _: &mut Self::Context) -> Ack {
        self.obey(Command::Disable, msg.until, &msg.why)
    }
}

impl Handler<MetricsOnly> for BreakerActor {
    type Result = Ack;

    fn handle(&mut self, msg: MetricsOnly, _: &mut Self::Context) -> Ack {
        self.obey(Command::MetricsOnly, msg.until, &msg.why)
    }
}

impl Handler<Reset> for BreakerActor {
    type Result = Ack;

    fn handle(&mut self, msg: Reset, _: &mut Self::Context) -> Ack {
        self.obey(Command::Reset, None, &msg.why)
    }
}

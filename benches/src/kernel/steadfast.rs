//! The same actor under supervision.

use std::time::Duration;

use actix::{Actor, Handler};
use steadfast_actors::kernel::{Context, Ref, RequestContext, RequestId, Spec, Tree};
use tokio::time::Instant;

use super::peer::{CAPACITY, Peer, WITHIN};
use super::raw_actix::Add;

/// The actor, with steadfast's context.
#[derive(Debug, Default)]
pub(super) struct Counter {
    sum: u64,
}

impl Actor for Counter {
    type Context = Context<Self>;
}

impl Handler<Add> for Counter {
    type Result = u64;

    fn handle(&mut self, _: Add, _: &mut Self::Context) -> u64 {
        self.sum += 1;
        self.sum
    }
}

/// A handle to a supervised actor.
#[derive(Debug, Clone)]
pub struct Steadfast(pub(super) Ref<Counter>);

impl Peer for Steadfast {
    const NAME: &'static str = "steadfast";

    async fn start() -> Self {
        let spec = Spec::new("counter", Counter::default).capacity(CAPACITY);
        Self(Tree::new().start(spec))
    }

    async fn ask(&self) -> u64 {
        self.0.call(Add).await.expect("it answers")
    }

    async fn ask_within(&self, within: Duration) -> u64 {
        self.0.call(Add).deadline(within).await.expect("it answers in time")
    }

    fn tell(&self) {
        self.0.tell(Add).expect("there is room");
    }
}

/// Asks one at a time inside a request that has a deadline, as an HTTP handler does.
pub(super) async fn in_request(peer: Steadfast, asks: u64) {
    let context = RequestContext::new(RequestId::generate()).with_deadline(Instant::now() + WITHIN);
    context.scope(super::peer::serial(peer, asks)).await;
}

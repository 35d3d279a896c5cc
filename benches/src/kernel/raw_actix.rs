//! Plain actix 0.13: the floor, because steadfast is built on it.

use std::time::Duration;

use actix::{Actor, Addr, Context, Handler, Message};

use super::peer::Peer;

/// Adds 1.
#[derive(Debug, Message)]
#[rtype(result = "u64")]
pub(super) struct Add;

/// The actor of every actix-like peer.
#[derive(Debug, Default)]
pub(super) struct Counter {
    sum: u64,
}

impl Actor for Counter {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // Unbounded, as steadfast has it underneath: actix's own bound would park the sender.
        ctx.set_mailbox_capacity(0);
    }
}

impl Handler<Add> for Counter {
    type Result = u64;

    fn handle(&mut self, _: Add, _: &mut Self::Context) -> u64 {
        self.sum += 1;
        self.sum
    }
}

/// The address of a plain actix actor.
#[derive(Debug, Clone)]
pub struct RawActix(Addr<Counter>);

impl Peer for RawActix {
    const NAME: &'static str = "actix 0.13";

    async fn start() -> Self {
        Self(Counter::default().start())
    }

    async fn ask(&self) -> u64 {
        self.0.send(Add).await.expect("it answers")
    }

    async fn ask_within(&self, within: Duration) -> u64 {
        self.0.send(Add).timeout(within).await.expect("it answers in time")
    }

    fn tell(&self) {
        self.0.do_send(Add);
    }
}

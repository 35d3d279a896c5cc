//! kameo 0.22: supervised actors on tokio tasks.

use std::convert::Infallible;
use std::time::Duration;

use kameo::actor::{Actor, ActorRef, Spawn};
use kameo::mailbox;
use kameo::message::{Context, Message};

use super::peer::{CAPACITY, Peer};

/// Adds 1.
#[derive(Debug)]
struct Add;

/// The actor.
#[derive(Debug, Default)]
pub(super) struct Counter {
    sum: u64,
}

impl Actor for Counter {
    type Args = Self;
    type Error = Infallible;

    async fn on_start(args: Self, _: ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(args)
    }
}

impl Message<Add> for Counter {
    type Reply = u64;

    async fn handle(&mut self, _: Add, _: &mut Context<Self, u64>) -> u64 {
        self.sum += 1;
        self.sum
    }
}

/// A reference to a kameo actor.
#[derive(Debug, Clone)]
pub struct Kameo(ActorRef<Counter>);

impl Peer for Kameo {
    const NAME: &'static str = "kameo 0.22";

    async fn start() -> Self {
        Self(Counter::spawn_with_mailbox(Counter::default(), mailbox::bounded(CAPACITY)))
    }

    async fn ask(&self) -> u64 {
        self.0.ask(Add).await.expect("it answers")
    }

    async fn ask_within(&self, within: Duration) -> u64 {
        self.0.ask(Add).reply_timeout(within).await.expect("it answers in time")
    }

    fn tell(&self) {
        self.0.tell(Add).try_send().expect("there is room");
    }
}

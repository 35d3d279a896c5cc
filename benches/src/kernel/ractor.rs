//! ractor 0.16: actors on tokio tasks, with an unbounded mailbox.

use std::time::Duration;

use ractor::rpc::CallResult;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};

use super::peer::Peer;

/// A message, with the way back if an answer is wanted.
#[derive(Debug)]
pub(super) enum Add {
    /// Without an answer.
    Tell,
    /// With one.
    Ask(RpcReplyPort<u64>),
}

/// The actor; its state is the sum.
#[derive(Debug)]
struct Counter;

impl Actor for Counter {
    type Msg = Add;
    type State = u64;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Add>, (): ()) -> Result<u64, ActorProcessingErr> {
        Ok(0)
    }

    async fn handle(
        &self,
        _: ActorRef<Add>,
        message: Add,
        sum: &mut u64,
    ) -> Result<(), ActorProcessingErr> {
        *sum += 1;
        if let Add::Ask(reply) = message {
            let _caller_left = reply.send(*sum);
        }
        Ok(())
    }
}

/// A reference to a ractor actor.
#[derive(Debug, Clone)]
pub struct Ractor(ActorRef<Add>);

impl Ractor {
    async fn call(&self, within: Option<Duration>) -> u64 {
        match self.0.call(Add::Ask, within).await.expect("it runs") {
            CallResult::Success(sum) => sum,
            CallResult::Timeout | CallResult::SenderError => panic!("it answers in time"),
        }
    }
}

impl Peer for Ractor {
    const NAME: &'static str = "ractor 0.16";

    async fn start() -> Self {
        let (actor, _task) = Actor::spawn(None, Counter, ()).await.expect("it starts");
        Self(actor)
    }

    async fn ask(&self) -> u64 {
        self.call(None).await
    }

    async fn ask_within(&self, within: Duration) -> u64 {
        self.call(Some(within)).await
    }

    fn tell(&self) {
        self.0.cast(Add::Tell).expect("it runs");
    }
}

//! A task with a channel: what an actor is without a library.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::peer::{CAPACITY, Peer};

/// A message, with the way back if an answer is wanted.
#[derive(Debug)]
struct Add {
    reply: Option<oneshot::Sender<u64>>,
}

/// The sending half of the task's channel.
#[derive(Debug, Clone)]
pub struct TokioMpsc(mpsc::Sender<Add>);

impl TokioMpsc {
    async fn send(&self) -> oneshot::Receiver<u64> {
        let (reply, answer) = oneshot::channel();
        self.0.send(Add { reply: Some(reply) }).await.expect("the task runs");
        answer
    }
}

impl Peer for TokioMpsc {
    const NAME: &'static str = "tokio mpsc + oneshot";

    async fn start() -> Self {
        let (sender, mut receiver) = mpsc::channel::<Add>(CAPACITY);
        let _runs_until_the_sender_is_gone = actix_rt::spawn(async move {
            let mut sum = 0;
            while let Some(message) = receiver.recv().await {
                sum += 1;
                if let Some(reply) = message.reply {
                    let _caller_left = reply.send(sum);
                }
            }
        });
        Self(sender)
    }

    async fn ask(&self) -> u64 {
        self.send().await.await.expect("it answers")
    }

    async fn ask_within(&self, within: Duration) -> u64 {
        let answer = tokio::time::timeout(within, async { self.send().await.await }).await;
        answer.expect("in time").expect("it answers")
    }

    fn tell(&self) {
        self.0.try_send(Add { reply: None }).expect("there is room");
    }
}

//! Many threads, one actor, real time: the accounts must still balance.

use std::sync::Arc;
use std::time::Duration;

use super::support::{Add, How, Journal, Poison, PoisonFuture, Sleep, Worker, fixed, worker};
use crate::kernel::{CallError, Exhausted, Overflow, Placement, Ref, Tree};

const THREADS: u64 = 4;
const ROUNDS: u64 = 500;

/// Sends, asks, leaves and poisons; returns how many calls were answered.
async fn storm(worker: Ref<Worker>, seed: u64) -> u64 {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut answered = 0;
    for _ in 0..ROUNDS {
        let answer = match random.u8(0..20) {
            0 => worker.call(Poison(How::Sync)).await,
            1 => worker.call(PoisonFuture).await,
            2 => worker.call(Poison(How::Task)).await,
            3 => worker.call(Sleep(Duration::from_micros(200))).await,
            4 => {
                let leave = Duration::from_micros(random.u64(0..300));
                let asked = worker.call(Sleep(Duration::from_micros(100)));
                tokio::time::timeout(leave, asked).await.unwrap_or(Err(CallError::Expired))
            }
            5..10 => {
                drop(worker.tell(Add(1)));
                continue;
            }
            10..13 => {
                let within = Duration::from_micros(random.u64(0..300));
                worker.call(Add(1)).deadline(within).await.map(drop)
            }
            _ => worker.call(Add(1)).await.map(drop),
        };
        answered += u64::from(answer.is_ok());
    }
    answered
}

#[track_caller]
fn check(overflow: Overflow) {
    let tree = Tree::new();
    let (report, info, answered) = actix_rt::System::new().block_on(async {
        let arbiter = actix_rt::Arbiter::new();
        let spec = worker("w", &Journal::default())
            .capacity(8)
            .overflow(overflow)
            .backoff(fixed(Duration::from_micros(50)))
            .exhausted(Exhausted::Quarantine { cooldown: Duration::from_millis(1) })
            .intensity(20, Duration::from_millis(5))
            .place(Placement::On(arbiter.handle()));
        let worker = tree.start(spec);
        let threads: Vec<_> = (0..THREADS)
            .map(|seed| {
                let worker = worker.clone();
                std::thread::spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .enable_time()
                        .build()
                        .expect("a runtime");
                    runtime.block_on(async {
                        let storm = storm(worker, seed);
                        tokio::time::timeout(Duration::from_secs(60), storm).await
                    })
                })
            })
            .collect();
        let threads = tokio::task::spawn_blocking(move || {
            threads.into_iter().map(|thread| thread.join().expect("it ended")).collect::<Vec<_>>()
        });
        let answered: u64 = threads
            .await
            .expect("it ended")
            .into_iter()
            .map(|thread| thread.expect("no caller waits for ever"))
            .sum();
        let report = tree.stop(Duration::from_secs(10)).await;
        (report, worker.info(), answered)
    });
    assert!(report.is_clean(), "{report:?}");
    let ended = info.handled + info.expired + info.abandoned + info.panicked + info.dead_lettered;
    assert_eq!(info.sent, ended, "{info:?}");
    assert_eq!(info.depth, 0, "{info:?}");
    assert!(answered > 0 && answered <= info.handled, "{answered} {info:?}");
    assert!(info.restarts > 0, "{info:?}");
}

#[test]
fn every_message_of_many_threads_is_accounted_for() {
    for overflow in [Overflow::Reject, Overflow::Wait, Overflow::DropOldest] {
        check(overflow);
    }
}

#[test]
fn many_threads_never_get_past_the_bound() {
    actix_rt::System::new().block_on(async {
        let tree = Tree::new();
        let spec = worker("w", &Journal::default()).capacity(16);
        let worker = tree.start(spec);
        let senders: Vec<_> = (0..8)
            .map(|_| {
                let worker = worker.clone();
                std::thread::spawn(move || {
                    (0..500).filter(|_| worker.clone().tell(Add(1)).is_ok()).count()
                })
            })
            .collect();
        // The actor shares this thread, which waits: it handles nothing meanwhile.
        let accepted: usize = senders.into_iter().map(|one| one.join().expect("it ended")).sum();
        assert_eq!(accepted, 16);
        assert_eq!(worker.depth(), 16);
        assert_eq!(Arc::new(worker).call(Add(0)).await, Err(CallError::Overloaded));
    });
}

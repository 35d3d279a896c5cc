//! Failing, resting and coming back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::support::{
    Add, Hold, How, Journal, Poison, PoisonAtomic, PoisonFuture, Sleep, StopYourself, Worker,
    fixed, paused, start, worker, worker_that,
};
use crate::kernel::{
    ActorState, BuildError, CallError, CutShort, DeadLetterReason, Exhausted, Refused,
    RequestContext, RequestId, Restart, Spec, Tree,
};

const MINUTE: Duration = Duration::from_secs(60);

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[test]
fn a_storm_of_poison_loses_nothing_and_keeps_the_order() {
    paused(|| async {
        let spec = worker("w", &Journal::default()).capacity(100_000).backoff(fixed(seconds(0)));
        let (_tree, worker) = start(spec);
        let asks: Vec<_> = (0..100_000_u32)
            .map(|number| {
                let worker = worker.clone();
                tokio::task::spawn_local(async move {
                    if number % 1000 == 999 {
                        worker.call(Poison(How::Sync)).await.map(|()| 0)
                    } else {
                        worker.call(Add(1)).await
                    }
                })
            })
            .collect();
        let (mut answered, mut panicked) = (0, 0);
        for (number, ask) in asks.into_iter().enumerate() {
            match ask.await.expect("the task ended") {
                // Each incarnation counts from one: the answers show order and gaps.
                Ok(count) => {
                    assert_eq!(count, number as u64 % 1000 + 1, "answer {number} is in order");
                    answered += 1;
                }
                Err(CallError::Panicked { .. }) => panicked += 1,
                Err(other) => panic!("ask {number} got {other:?}"),
            }
        }
        assert_eq!((answered, panicked), (99_900, 100));
        assert_eq!((worker.info().restarts, worker.depth()), (100, 0));
    });
}

#[test]
fn queued_messages_wait_for_the_next_incarnation_in_order() {
    paused(|| async {
        let (_tree, worker) = start(worker("w", &Journal::default()).backoff(fixed(seconds(1))));
        let (poison, first, second) =
            tokio::join!(worker.call(Poison(How::Sync)), worker.call(Add(1)), worker.call(Add(1)));
        assert!(matches!(poison, Err(CallError::Panicked { .. })));
        assert_eq!((first, second), (Ok(1), Ok(2)));
        assert_eq!(worker.info().generation, 2);
    });
}

#[test]
fn siblings_in_flight_fail_at_once_and_not_after_the_pause() {
    paused(|| async {
        let (_tree, worker) = start(worker("w", &Journal::default()).backoff(fixed(MINUTE)));
        assert_eq!(worker.call(Add(0)).await, Ok(0));
        let began = Instant::now();
        let (task, future, poison) = tokio::join!(
            worker.call(Sleep(MINUTE)),
            worker.call(PoisonFuture),
            worker.call(Poison(How::Sync))
        );
        assert_eq!(task, Err(CallError::Cancelled(CutShort::Restart)));
        assert_eq!(future, Err(CallError::Cancelled(CutShort::Restart)));
        assert!(matches!(poison, Err(CallError::Panicked { .. })));
        assert_eq!(began.elapsed(), Duration::ZERO);
    });
}

#[test]
fn every_way_to_panic_rebuilds_the_actor() {
    paused(|| async {
        let (_tree, worker) = start(worker("w", &Journal::default()));
        assert!(worker.call(Poison(How::Sync)).await.is_err());
        assert!(worker.call(PoisonFuture).await.is_err());
        assert!(worker.call(PoisonAtomic).await.is_err());
        assert_eq!(worker.call(Poison(How::Timer)).await, Ok(()));
        tokio::time::sleep(seconds(1)).await;
        assert_eq!(worker.call(Add(1)).await, Ok(1));
        assert_eq!(worker.info().restarts, 4);
    });
}

#[test]
fn a_timer_dies_with_its_incarnation() {
    paused(|| async {
        let (_tree, worker) = start(worker("w", &Journal::default()));
        assert_eq!(worker.call(Poison(How::Timer)).await, Ok(()));
        assert!(worker.call(Poison(How::Sync)).await.is_err());
        tokio::time::sleep(seconds(1)).await;
        assert_eq!(worker.info().restarts, 1, "the timer's panic never came");
    });
}

#[test]
fn a_message_whose_deadline_passed_during_the_pause_does_not_run() {
    paused(|| async {
        let spec = worker_that("w", &Journal::default(), |ctx| {
            if ctx.generation() == 2 {
                // The jitter may make the pause short; the start makes it long.
                actix::AsyncContext::wait(
                    ctx,
                    actix::fut::wrap_future(tokio::time::sleep(seconds(10))),
                );
            }
        });
        let (_tree, worker) = start(spec);
        let (poison, late, patient) = tokio::join!(
            worker.call(Poison(How::Sync)),
            worker.call(Add(1)).deadline(seconds(5)),
            worker.call(Add(10)),
        );
        assert!(matches!(poison, Err(CallError::Panicked { .. })));
        assert_eq!(late, Err(CallError::Expired));
        assert_eq!(patient, Ok(10));
        assert_eq!(worker.info().abandoned, 1, "its caller had been told at its deadline");
    });
}

#[test]
fn a_told_message_whose_deadline_passed_in_the_queue_does_not_run() {
    paused(|| async {
        let (_tree, worker) = start(worker("w", &Journal::default()));
        assert_eq!(worker.tell(Hold(seconds(10))), Ok(()));
        let request = RequestContext::new(RequestId::generate()).child(seconds(5));
        assert_eq!(request.scope(async { worker.tell(Add(1)) }).await, Ok(()));
        assert_eq!(worker.call(Add(10)).await, Ok(10));
        assert_eq!(worker.info().expired, 1);
    });
}

#[test]
fn an_actor_counts_as_up_when_what_its_start_waits_for_is_done() {
    paused(|| async {
        let spec = worker_that("w", &Journal::default(), |ctx| {
            actix::AsyncContext::wait(ctx, actix::fut::wrap_future(tokio::time::sleep(seconds(3))));
        });
        let (_tree, worker) = start(spec);
        let began = Instant::now();
        let mut life = worker.watch();
        assert!(life.reached(ActorState::Running).await.is_some());
        assert_eq!(began.elapsed(), seconds(3));
    });
}

/// An actor whose first `failures` builds fail, by error or by panic in `started`.
fn stubborn(failures: u32, panics: bool) -> (Tree, crate::kernel::Ref<Worker>) {
    let journal = Journal::default();
    let tries = Arc::new(AtomicU32::new(0));
    let failing = move || tries.fetch_add(1, Ordering::Relaxed) < failures;
    let spec = if panics {
        worker_that("stubborn", &journal, move |_| assert!(!failing(), "not yet"))
    } else {
        let inner = worker("inner", &journal);
        Spec::fallible("stubborn", move |life| {
            if failing() {
                return Err(BuildError::new("no socket"));
            }
            (inner.factory)(life)
        })
    };
    start(spec.intensity(3, seconds(60)).exhausted(Exhausted::Stop).backoff(fixed(seconds(1))))
}

#[test]
fn failed_builds_and_panics_in_started_are_strikes() {
    for panics in [false, true] {
        paused(|| async {
            let (_tree, worker) = stubborn(3, panics);
            assert_eq!(worker.call(Add(1)).await, Ok(1), "three strikes are allowed");
            assert_eq!(worker.info().failures, 3);
        });
        paused(|| async {
            let (tree, worker) = stubborn(4, panics);
            assert_eq!(worker.call(Add(1)).await, Err(CallError::Stopped), "four are not");
            assert_eq!(worker.state(), ActorState::Stopped);
            let shown = tree.snapshot().nodes;
            assert!(shown.iter().any(|node| &*node.name == "stubborn"), "a fallen actor is shown");
        });
    }
}

#[test]
fn an_intensity_of_three_allows_three_restarts() {
    paused(|| async {
        let spec = worker("w", &Journal::default()).intensity(3, MINUTE).exhausted(Exhausted::Stop);
        let (_tree, worker) = start(spec);
        for _ in 0..4 {
            let error = worker.call(Poison(How::Sync)).await.unwrap_err();
            assert!(matches!(error, CallError::Panicked { .. }), "{error:?}");
        }
        assert_eq!(worker.call(Add(1)).await, Err(CallError::Stopped));
    });
}

#[test]
fn a_quarantined_actor_refuses_at_once_and_comes_back_after_the_cooldown() {
    paused(|| async {
        let cooldown = seconds(30);
        let spec = worker("w", &Journal::default())
            .intensity(0, MINUTE)
            .exhausted(Exhausted::Quarantine { cooldown });
        let (tree, worker) = start(spec);
        assert_eq!(worker.call(Add(1)).await, Ok(1));
        let (poison, queued) = tokio::join!(worker.call(Poison(How::Sync)), worker.call(Add(1)));
        assert!(matches!(poison, Err(CallError::Panicked { .. })));
        assert_eq!(
            queued,
            Err(CallError::Quarantined { retry_after: cooldown }),
            "not kept waiting"
        );
        assert_eq!(tree.dead_letters().recent()[0].reason, DeadLetterReason::Quarantined);
        tokio::time::sleep(seconds(10)).await;
        assert_eq!(worker.tell(Add(1)), Err(Refused::Quarantined { retry_after: seconds(20) }));
        assert_eq!(worker.state(), ActorState::Quarantined);
        tokio::time::sleep(seconds(21)).await;
        assert_eq!(worker.call(Add(1)).await, Ok(1), "a new incarnation");
    });
}

#[test]
fn an_actor_that_cannot_be_built_rests_and_tries_again() {
    paused(|| async {
        let journal = Journal::default();
        let tries = Arc::new(AtomicU32::new(0));
        let inner = worker("inner", &journal);
        let counted = Arc::clone(&tries);
        let spec = Spec::fallible("w", move |life| {
            if counted.fetch_add(1, Ordering::Relaxed) < 2 {
                return Err(BuildError::new("no socket"));
            }
            (inner.factory)(life)
        });
        let spec = spec
            .intensity(1, MINUTE)
            .backoff(fixed(seconds(0)))
            .exhausted(Exhausted::Quarantine { cooldown: seconds(30) });
        let (_tree, worker) = start(spec);
        let queued = worker.call(Add(1)).await;
        assert_eq!(queued, Err(CallError::Quarantined { retry_after: seconds(30) }));
        tokio::time::sleep(seconds(31)).await;
        assert_eq!(worker.call(Add(1)).await, Ok(1));
        assert_eq!(tries.load(Ordering::Relaxed), 3);
    });
}

#[test]
fn an_hour_of_back_off_takes_no_time_to_test() {
    paused(|| async {
        let spec = worker_that("w", &Journal::default(), |ctx| {
            assert!(ctx.generation() > 40, "still failing");
        });
        let backoff = fixed(MINUTE * 5);
        let (_tree, worker) = start(spec.backoff(backoff));
        assert_eq!(worker.call(Add(1)).await, Ok(1));
        assert_eq!(worker.info().failures, 40);
    });
}

#[test]
fn a_restart_kind_decides_what_stop_means() {
    paused(|| async {
        let journal = Journal::default();
        let (_tree, permanent) = start(worker("permanent", &journal));
        assert_eq!(permanent.call(StopYourself).await, Ok(()));
        assert_eq!(permanent.call(Add(1)).await, Ok(1));
        assert_eq!(permanent.info().generation, 2, "stopped and rebuilt");
        assert_eq!(permanent.info().failures, 0, "a stop is no failure");

        let (_tree, transient) = start(worker("transient", &journal).restart(Restart::Transient));
        assert!(transient.call(Poison(How::Sync)).await.is_err());
        assert_eq!(transient.call(Add(1)).await, Ok(1), "a failure is followed by a rebuild");
        assert_eq!(transient.call(StopYourself).await, Ok(()));
        assert_eq!(transient.call(Add(1)).await, Err(CallError::Stopped), "a stop is final");

        let (_tree, temporary) = start(worker("temporary", &journal).restart(Restart::Temporary));
        assert!(temporary.call(Poison(How::Sync)).await.is_err());
        assert_eq!(temporary.call(Add(1)).await, Err(CallError::Stopped));
        let stopped: Vec<_> =
            journal.lines().into_iter().filter(|line| line.ends_with("stopped")).collect();
        assert_eq!(
            stopped,
            ["permanent stopped", "transient stopped"],
            "a failed one says nothing"
        );
    });
}

#[test]
fn an_escalation_without_a_group_reaches_the_root() {
    paused(|| async {
        let tree = Tree::new();
        let heard = Journal::default();
        let hook = heard.clone();
        tree.on_escalation(move |actor, reason| hook.note(format!("{actor}: {reason}")));
        let spec =
            worker("core", &Journal::default()).intensity(0, MINUTE).exhausted(Exhausted::Escalate);
        let worker = tree.start(spec);
        assert!(worker.call(Poison(How::Sync)).await.is_err());
        assert_eq!(worker.call(Add(1)).await, Err(CallError::Stopped));
        assert!(tree.has_escalated());
        assert_eq!(heard.lines(), ["core: poisoned in a handler"]);
    });
}

#[test]
fn a_watcher_sees_the_failure_and_the_return() {
    paused(|| async {
        let (_tree, worker) = start(worker("w", &Journal::default()).backoff(fixed(seconds(1))));
        assert_eq!(worker.call(Add(0)).await, Ok(0));
        let mut life = worker.watch();
        let watched = tokio::task::spawn_local(async move {
            let down = life.changed().await.expect("it lives");
            let up = life.reached(ActorState::Running).await.expect("it comes back");
            (down, up)
        });
        tokio::task::yield_now().await;
        assert!(worker.call(Poison(How::Sync)).await.is_err());
        let (down, up) = watched.await.expect("the watcher ended");
        assert_eq!(down.state, ActorState::Restarting);
        assert_eq!(down.last_failure.as_deref(), Some("poisoned in a handler"));
        assert_eq!((up.state, up.generation), (ActorState::Running, 2));
    });
}

#[test]
fn a_panic_in_the_old_instances_drop_does_not_stop_the_rebuild() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }
    paused(|| async {
        let spec = worker_that("w", &Journal::default(), |ctx| {
            if ctx.generation() == 1 {
                let bomb = Bomb;
                let pending = actix::fut::wrap_future::<_, Worker>(async move {
                    let _armed = bomb;
                    std::future::pending::<()>().await;
                });
                actix::AsyncContext::spawn(ctx, pending);
            }
        });
        let (_tree, worker) = start(spec);
        assert!(worker.call(Poison(How::Sync)).await.is_err());
        assert_eq!(worker.call(Add(1)).await, Ok(1));
        let _held = worker.tell(Hold(seconds(1)));
    });
}

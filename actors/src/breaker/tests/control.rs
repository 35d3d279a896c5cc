//! The actor: operators, timers, and that nothing depends on it.

use std::sync::Arc;

use tokio::task::LocalSet;
use tokio::time::Instant;

use super::*;
use crate::breaker::{BreakerActor, Cause, RejectCause};
use crate::kernel::{ActorState, CallError, Context, Ref, Tree};

/// Runs `test` with a breaker on paused time, whose actor is in a tree.
fn with_actor<F: Future<Output = ()>>(
    change: impl FnOnce(BreakerBuilder) -> BreakerBuilder,
    test: impl FnOnce(Breaker, Ref<BreakerActor>, Tree) -> F,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, async {
        let tree = Tree::new();
        let builder = change(settings(Breaker::builder("rates").clock(Clock::tokio())));
        let mut started = None;
        let breaker = builder.start_with(|spec| started.insert(tree.start(spec)).clone()).unwrap();
        test(breaker, started.unwrap(), tree.clone()).await;
        tree.stop(SECOND).await;
    });
}

async fn sleep(time: Duration) {
    tokio::time::sleep(time).await;
}

/// Makes the actor panic while it handles it.
#[derive(actix::Message)]
#[rtype(result = "()")]
struct Poison;

impl actix::Handler<Poison> for BreakerActor {
    type Result = ();

    fn handle(&mut self, _: Poison, _: &mut Context<Self>) {
        panic!("poisoned");
    }
}

#[test]
fn half_opens_by_itself_when_the_pause_is_over() {
    with_actor(
        |builder| builder,
        |breaker, _, _| async move {
            sleep(MILLI).await;
            trip(&breaker);
            sleep(5 * SECOND - 2 * MILLI).await;
            assert_eq!(breaker.snapshot().state, BreakerState::Open);
            sleep(5 * MILLI).await;
            let tried = breaker.snapshot();
            assert_eq!((tried.state, tried.cause), (BreakerState::HalfOpen, Cause::PauseOver));
        },
    );
}

#[test]
fn a_hung_probe_is_reclaimed_with_nobody_calling() {
    with_actor(
        |builder| builder.probe_lease(2 * SECOND),
        |breaker, _, _| async move {
            trip(&breaker);
            sleep(6 * SECOND).await;
            let hung = acquire(&breaker);
            sleep(2 * SECOND + 5 * MILLI).await;
            assert_eq!(breaker.snapshot().cause, Cause::LeaseOver { missing: 1 });
            drop(hung);
        },
    );
}

#[test]
fn forced_open_refuses_until_its_time_is_over_and_then_tries() {
    with_actor(
        |builder| builder,
        |breaker, _, _| async move {
            let until = Some(Instant::now() + 60 * SECOND);
            let ack = breaker.force_open(until, "maintenance").await.unwrap();
            assert_eq!((ack.from, ack.to), (BreakerState::Closed, BreakerState::ForcedOpen));
            let why = Arc::from("maintenance");
            assert_eq!(breaker.snapshot().cause, Cause::Operator { why });
            let rejected = breaker.try_acquire().unwrap_err();
            assert_eq!(rejected.cause, RejectCause::ForcedOpen);
            assert_eq!(rejected.retry_after, 60 * SECOND);
            sleep(59 * SECOND).await;
            assert_eq!(breaker.snapshot().state, BreakerState::ForcedOpen);
            sleep(2 * SECOND).await;
            assert_eq!(breaker.snapshot().state, BreakerState::HalfOpen);
        },
    );
}

#[test]
fn forced_open_without_an_end_stays_until_it_is_closed() {
    with_actor(
        |builder| builder,
        |breaker, _, _| async move {
            breaker.force_open(None, "").await.unwrap();
            sleep(3_600 * SECOND).await;
            let rejected = breaker.try_acquire().unwrap_err();
            assert_eq!(rejected.retry_after, 5 * SECOND);
            breaker.force_close("").await.unwrap();
            acquire(&breaker).finish(Outcome::Success);
            assert_eq!(breaker.snapshot().calls, 1);
        },
    );
}

#[test]
fn disabled_lets_all_pass_and_counts_nothing() {
    with_actor(
        |builder| builder,
        |breaker, _, _| async move {
            breaker.disable(Some(Instant::now() + 10 * SECOND), "").await.unwrap();
            for _ in 0..100 {
                acquire(&breaker).finish(Outcome::Failure);
            }
            let disabled = breaker.snapshot();
            assert_eq!((disabled.state, disabled.calls), (BreakerState::Disabled, 0));
            sleep(11 * SECOND).await;
            assert_eq!(breaker.snapshot().state, BreakerState::Closed);
            trip(&breaker);
        },
    );
}

#[test]
fn metrics_only_counts_and_never_opens() {
    with_actor(
        |builder| builder,
        |breaker, _, _| async move {
            breaker.metrics_only(Some(Instant::now() + 5 * SECOND), "").await.unwrap();
            for _ in 0..100 {
                acquire(&breaker).finish(Outcome::Failure);
            }
            acquire(&breaker).finish(Outcome::Throttled { retry_after: Some(SECOND) });
            let measured = breaker.snapshot();
            assert_eq!((measured.state, measured.failures), (BreakerState::MetricsOnly, 101));
            sleep(6 * SECOND).await;
            let closed = breaker.snapshot();
            assert_eq!((closed.state, closed.calls), (BreakerState::Closed, 0));
        },
    );
}

#[test]
fn reset_forgets_earlier_openings_and_force_close_does_not() {
    with_actor(
        |builder| builder,
        |breaker, _, _| async move {
            trip(&breaker);
            breaker.force_close("").await.unwrap();
            assert_eq!(breaker.snapshot().openings, 1);
            trip(&breaker);
            assert_eq!(breaker.snapshot().openings, 2);
            breaker.reset("").await.unwrap();
            let fresh = breaker.snapshot();
            assert_eq!((fresh.state, fresh.openings, fresh.calls), (BreakerState::Closed, 0, 0));
        },
    );
}

#[test]
fn a_command_fences_the_calls_under_way() {
    with_actor(
        |builder| builder,
        |breaker, _, _| async move {
            let old: Vec<Permit> = (0..10).map(|_| acquire(&breaker)).collect();
            breaker.reset("").await.unwrap();
            for permit in old {
                permit.finish(Outcome::Failure);
            }
            let after = breaker.snapshot();
            assert_eq!((after.state, after.calls, after.late), (BreakerState::Closed, 0, 10));
        },
    );
}

#[test]
fn an_operators_reason_is_cut_at_256_bytes() {
    for (length, kept) in [(256, 256), (257, 256)] {
        with_actor(
            |builder| builder,
            |breaker, _, _| async move {
                breaker.force_open(None, &"x".repeat(length)).await.unwrap();
                let Cause::Operator { why } = breaker.snapshot().cause else { panic!() };
                assert_eq!(why.len(), kept);
            },
        );
    }
}

#[test]
fn a_panic_of_the_actor_loses_no_state_no_call_and_no_event() {
    with_actor(
        |builder| builder,
        |breaker, actor, _| async move {
            let mut events = breaker.events();
            let held = acquire(&breaker);
            trip(&breaker);
            let poisoned = actor.call(Poison).await;
            assert!(matches!(poisoned, Err(CallError::Panicked { .. })), "{poisoned:?}");
            assert_eq!(breaker.snapshot().state, BreakerState::Open);
            assert!(breaker.try_acquire().is_err());
            held.finish(Outcome::Success);
            sleep(6 * SECOND).await;
            assert_eq!(actor.state(), ActorState::Running);
            assert_eq!(breaker.snapshot().state, BreakerState::HalfOpen);
            assert_eq!(events.recv().await.unwrap().to, BreakerState::Open);
            assert_eq!(events.recv().await.unwrap().to, BreakerState::HalfOpen);
            breaker.force_close("").await.unwrap();
        },
    );
}

#[test]
fn with_its_actor_stopped_it_still_opens_tries_and_closes() {
    with_actor(
        |builder| builder,
        |breaker, _, tree| async move {
            tree.stop(SECOND).await;
            let mut events = breaker.events();
            trip(&breaker);
            sleep(5 * SECOND).await;
            for _ in 0..2 {
                acquire(&breaker).finish(Outcome::Success);
            }
            let mut seen = Vec::new();
            while let Ok(event) = events.try_recv() {
                seen.push(event.to);
            }
            let expect = [BreakerState::Open, BreakerState::HalfOpen, BreakerState::Closed];
            assert_eq!(seen, expect);
            assert_eq!(breaker.reset("").await, Err(CallError::Stopped));
        },
    );
}

#[tokio::test]
async fn without_an_actor_commands_are_refused() {
    let (breaker, _clock) = standard();
    assert_eq!(breaker.force_open(None, "").await, Err(CallError::Stopped));
}

#[test]
fn the_actor_is_named_after_its_dependency() {
    with_actor(
        |builder| builder,
        |_, actor, _| async move {
            assert_eq!(actor.name(), "breaker.rates");
        },
    );
}

//! What becomes of calls that are dropped before they end.

use std::convert::Infallible;
use std::future::pending;

use tokio::time::timeout;

use super::*;
use crate::breaker::Cause;

/// On tokio's clock, which these tests pause.
fn on_tokio() -> Breaker {
    let builder = settings(Breaker::builder("rates").clock(Clock::tokio()));
    builder.without_actor().unwrap()
}

async fn hang(breaker: &Breaker) {
    let never = breaker.call(pending::<Result<(), Infallible>>).await;
    unreachable!("{never:?}");
}

#[test]
fn a_call_dropped_early_counts_for_nothing() {
    let (breaker, clock) = standard();
    for _ in 0..100 {
        let permit = acquire(&breaker);
        clock.advance(5 * MILLI);
        drop(permit);
    }
    assert_eq!(breaker.snapshot().calls, 0);
}

#[test]
fn a_call_dropped_when_slow_counts_as_failed() {
    for (age, expect) in [(999, 0), (1_000, 1)] {
        let (breaker, clock) = standard();
        let permit = acquire(&breaker);
        clock.advance(age * MILLI);
        drop(permit);
        assert_eq!(breaker.snapshot().failures, expect, "dropped after {age} ms");
    }
}

#[test]
fn a_call_given_back_counts_for_nothing_however_old() {
    let (breaker, clock) = standard();
    let permit = acquire(&breaker);
    clock.advance(60 * SECOND);
    permit.release();
    assert_eq!(breaker.snapshot().calls, 0);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_around_a_hung_dependency_opens() {
    let breaker = on_tokio();
    for _ in 0..4 {
        assert!(timeout(2 * SECOND, hang(&breaker)).await.is_err());
    }
    assert_eq!(breaker.snapshot().cause, Cause::FailureRate { failures: 4, calls: 4 });
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_clients_that_leave_does_not_open() {
    let breaker = on_tokio();
    for _ in 0..500 {
        assert!(timeout(50 * MILLI, hang(&breaker)).await.is_err());
    }
    let snapshot = breaker.snapshot();
    assert_eq!((snapshot.state, snapshot.calls), (BreakerState::Closed, 0));
}

#[tokio::test(start_paused = true)]
async fn short_deadlines_of_requests_do_not_open() {
    use crate::kernel::{RequestContext, RequestId};
    let breaker = on_tokio();
    for _ in 0..50 {
        let request = RequestContext::new(RequestId::generate()).child(100 * MILLI);
        assert!(request.run(hang(&breaker)).await.is_err());
    }
    assert_eq!(breaker.snapshot().state, BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_never_polled_is_never_made() {
    let breaker = on_tokio();
    let call = breaker.call(pending::<Result<(), Infallible>>);
    tokio::time::advance(60 * SECOND).await;
    drop(call);
    assert_eq!(breaker.snapshot().calls, 0);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_probe_lets_the_next_one_in() {
    let breaker = on_tokio();
    trip(&breaker);
    tokio::time::advance(5 * SECOND).await;
    for _ in 0..20 {
        assert!(timeout(50 * MILLI, hang(&breaker)).await.is_err());
    }
    for _ in 0..2 {
        breaker.call(|| async { Ok::<_, Infallible>(()) }).await.unwrap();
    }
    assert_eq!(breaker.snapshot().state, BreakerState::Closed);
}

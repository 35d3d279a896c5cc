//! When a breaker opens, what it then answers, and its settings.

use std::cell::Cell;
use std::time::Duration;

use super::*;
use crate::breaker::{
    BreakerError, Cause, Classify, DependencyId, RejectCause, Rejected, classify::Outcome,
};
use crate::kernel::Fault;

#[track_caller]
fn check(script: &str, expect: BreakerState) {
    check_with(|builder| builder, script, expect);
}

#[track_caller]
fn check_with(
    change: impl FnOnce(BreakerBuilder) -> BreakerBuilder,
    script: &str,
    expect: BreakerState,
) {
    let (breaker, clock) = breaker(change);
    play(&breaker, &clock, script);
    assert_eq!(breaker.snapshot().state, expect, "after `{script}`");
}

#[test]
fn opens_at_the_failure_rate_and_not_before_the_minimum_of_calls() {
    for (script, expect) in [
        ("---", BreakerState::Closed),
        ("----", BreakerState::Open),
        ("+++-", BreakerState::Closed),
        ("+++--", BreakerState::Closed),
        ("+++---", BreakerState::Open),
        ("++--", BreakerState::Open),
        ("-+-+", BreakerState::Open),
    ] {
        check(script, expect);
    }
}

#[test]
fn the_success_that_completes_the_minimum_can_open() {
    check("---+", BreakerState::Open);
    check("-++++", BreakerState::Closed);
}

#[test]
fn a_million_old_successes_do_not_hide_a_failing_dependency() {
    let (breaker, clock) = standard();
    for _ in 0..1_000_000 {
        acquire(&breaker).finish(Outcome::Success);
    }
    for _ in 0..1_000 {
        acquire(&breaker).finish(Outcome::Failure);
    }
    assert_eq!(breaker.snapshot().state, BreakerState::Closed);
    clock.advance(10 * SECOND);
    trip(&breaker);
}

#[test]
fn a_failure_leaves_the_window_at_the_edge_of_its_bucket() {
    for (later, expect) in [(9_000, BreakerState::Open), (9_001, BreakerState::Closed)] {
        let (breaker, clock) = standard();
        clock.advance(999 * MILLI);
        play(&breaker, &clock, "---");
        clock.advance(later * MILLI);
        play(&breaker, &clock, "-");
        assert_eq!(breaker.snapshot().state, expect, "{later} ms later");
    }
}

#[test]
fn a_call_is_read_for_ten_buckets_and_not_for_an_eleventh() {
    for (later, expect) in [(9_999, 1), (10_000, 0)] {
        let (breaker, clock) = standard();
        play(&breaker, &clock, "+");
        clock.advance(later * MILLI);
        assert_eq!(breaker.snapshot().calls, expect, "{later} ms later");
    }
}

#[test]
fn a_long_idle_time_empties_the_window_even_where_ticks_wrap() {
    let turn = 10 * MILLI * (1 << 28);
    for idle in [SECOND, turn / 2, turn / 2 + 5 * SECOND, turn - SECOND, turn + SECOND] {
        let (breaker, clock) = breaker(|builder| builder.window(100 * MILLI));
        play(&breaker, &clock, "+-");
        clock.advance(idle);
        assert_eq!(breaker.snapshot().calls, 0, "after {idle:?}");
        for calls in 1..=20 {
            play(&breaker, &clock, "+");
            assert_eq!(breaker.snapshot().calls, calls, "after {idle:?}");
        }
    }
}

#[test]
fn a_full_bucket_keeps_its_rate() {
    let (breaker, _clock) = breaker(|builder| builder.failure_percent(60));
    for _ in 0..2_500_000 {
        call(&breaker, Outcome::Success);
        call(&breaker, Outcome::Failure);
    }
    let snapshot = breaker.snapshot();
    assert_eq!(snapshot.state, BreakerState::Closed);
    assert_eq!(snapshot.failures * 100 / snapshot.calls, 50);
}

#[test]
fn failures_in_a_row_open_without_a_minimum() {
    let three = |builder: BreakerBuilder| builder.consecutive_failures(3);
    check_with(three, "++++++--", BreakerState::Closed);
    check_with(three, "++++++---", BreakerState::Open);
    check_with(three, "++++++--+--", BreakerState::Closed);
    check_with(three, "++++++--i-", BreakerState::Open);
}

#[test]
fn slow_calls_open_without_any_error() {
    let half = |builder: BreakerBuilder| builder.slow_percent(50).slow_after(SECOND);
    check_with(half, "++~~", BreakerState::Open);
    check_with(half, "+++~", BreakerState::Closed);
    check_with(half, "~~~", BreakerState::Closed);
    check("~~~~~~", BreakerState::Closed);
}

#[test]
fn a_slow_success_that_the_caller_declares_counts_as_slow() {
    let (breaker, _clock) = breaker(|builder| builder.slow_percent(100));
    for _ in 0..4 {
        acquire(&breaker).finish(Outcome::Slow);
    }
    assert_eq!(breaker.snapshot().cause, Cause::SlowRate { slow: 4, calls: 4 });
}

#[test]
fn ignored_results_change_nothing() {
    check("---iiiiiiii", BreakerState::Closed);
    check("iiiiiiii", BreakerState::Closed);
    let (breaker, clock) = standard();
    play(&breaker, &clock, "+-iii");
    let snapshot = breaker.snapshot();
    assert_eq!((snapshot.calls, snapshot.failures), (2, 1));
}

#[tokio::test]
async fn while_open_the_call_is_not_even_made() {
    let (breaker, clock) = standard();
    trip(&breaker);
    clock.advance(1_500 * MILLI);
    let made = Cell::new(false);
    let answer = breaker
        .call(|| {
            made.set(true);
            async { Ok::<(), std::io::Error>(()) }
        })
        .await;
    let Err(BreakerError::Rejected(rejected)) = answer else { panic!("{answer:?}") };
    assert!(!made.get());
    assert_eq!(rejected.cause, RejectCause::Open);
    assert_eq!(rejected.retry_after, 3_500 * MILLI);
    assert_eq!(breaker.snapshot().rejected, 1);
}

#[test]
fn stays_open_for_the_whole_pause() {
    let (breaker, clock) = standard();
    trip(&breaker);
    clock.advance(5 * SECOND - MILLI / 1_000);
    let rejected = breaker.try_acquire().unwrap_err();
    assert_eq!(rejected.retry_after, MILLI);
    clock.advance(MILLI / 1_000);
    assert!(breaker.try_acquire().is_ok());
}

#[test]
fn retry_after_opens_at_once_and_for_at_least_that_long() {
    for (asked, expect) in [(7 * SECOND, 7), (SECOND, 5), (3_600 * SECOND, 600)] {
        let (breaker, _clock) = standard();
        acquire(&breaker).finish(Outcome::Throttled { retry_after: Some(asked) });
        let snapshot = breaker.snapshot();
        assert_eq!(snapshot.state, BreakerState::Open);
        assert_eq!(snapshot.remaining, Some(expect * SECOND), "asked for {asked:?}");
        assert_eq!(snapshot.openings, 0);
    }
}

#[test]
fn throttling_without_a_wait_counts_as_a_failure() {
    check("ttt", BreakerState::Closed);
    check("tttt", BreakerState::Open);
    let (breaker, _clock) = standard();
    acquire(&breaker).finish(Outcome::Throttled { retry_after: Some(Duration::ZERO) });
    assert_eq!(breaker.snapshot().failures, 1);
}

#[test]
fn the_cause_says_what_opened_it() {
    let (breaker, clock) = standard();
    assert_eq!(breaker.snapshot().cause, Cause::Built);
    play(&breaker, &clock, "++--");
    assert_eq!(breaker.snapshot().cause, Cause::FailureRate { failures: 2, calls: 4 });
}

#[derive(Debug, thiserror::Error)]
#[error("status {0}")]
struct Status(u16);

impl Classify for Status {
    fn outcome(&self) -> Outcome {
        Outcome::of_http(self.0, Some(SECOND))
    }
}

#[tokio::test]
async fn an_error_that_is_the_callers_fault_is_the_dependencys_success() {
    let (breaker, _clock) = standard();
    for status in [404, 422, 400, 409, 503] {
        let answer: Result<(), _> = breaker.call(|| async move { Err(Status(status)) }).await;
        assert!(matches!(answer, Err(BreakerError::Inner(Status(_)))));
    }
    let snapshot = breaker.snapshot();
    assert_eq!((snapshot.calls, snapshot.failures), (5, 1));
}

#[tokio::test]
async fn a_classifier_sees_successes_too() {
    let (breaker, _clock) = standard();
    let by_value = |result: &Result<u16, Status>| match result {
        Ok(value) if *value > 3 => Outcome::Failure,
        Ok(_) | Err(_) => Outcome::Success,
    };
    for value in [1, 9] {
        let answer = breaker.call_with(&by_value, || async move { Ok(value) }).await;
        assert_eq!(answer.unwrap(), value);
    }
    assert_eq!(breaker.snapshot().failures, 1);
}

#[test]
fn http_answers_are_sorted_by_what_they_say_about_the_dependency() {
    let wait = Some(SECOND);
    for (status, expect) in [
        (200, Outcome::Success),
        (301, Outcome::Success),
        (404, Outcome::Success),
        (408, Outcome::Failure),
        (429, Outcome::Throttled { retry_after: wait }),
        (500, Outcome::Failure),
        (503, Outcome::Failure),
        (599, Outcome::Failure),
    ] {
        assert_eq!(Outcome::of_http(status, wait), expect, "{status}");
    }
}

#[test]
fn each_rejection_has_its_code_and_its_wait() {
    for (cause, code) in [
        (RejectCause::Open, "breaker.open"),
        (RejectCause::TrialsTaken, "breaker.trials_taken"),
        (RejectCause::ForcedOpen, "breaker.forced_open"),
    ] {
        let name = DependencyId::parse("rates").unwrap();
        let rejected = Rejected::new(name, cause, SECOND);
        assert_eq!(rejected.code().as_str(), code);
        let error: BreakerError<crate::kernel::CallError> = rejected.into();
        assert_eq!(error.code().as_str(), code);
        assert_eq!(Fault::retry_after(&error), Some(SECOND));
    }
}

#[test]
fn each_setting_is_refused_one_past_its_range() {
    type Change = fn(BreakerBuilder) -> BreakerBuilder;
    let over_day = 24 * 3_600 * SECOND + MILLI;
    let refused: [(&str, Change); 15] = [
        ("failure_percent", |b| b.failure_percent(0)),
        ("failure_percent", |b| b.failure_percent(101)),
        ("slow_percent", |b| b.slow_percent(101)),
        ("consecutive_failures", |b| b.consecutive_failures(0)),
        ("min_calls", |b| b.min_calls(0)),
        ("min_calls", |b| b.min_calls(100_001)),
        ("window", |b| b.window(99 * MILLI)),
        ("slow_after", |b| b.slow_after(Duration::ZERO)),
        ("open_for", |b| b.open_for(Duration::ZERO)),
        ("open_max", |b| b.open_max(SECOND)),
        ("open_factor", |b| b.open_factor(11)),
        ("jitter_percent", |b| b.jitter_percent(51)),
        ("probes", |b| b.probes(257)),
        ("probes_needed", |b| b.probes(3).probes_needed(4)),
        ("retry_after_max", |b| b.retry_after_max(Duration::ZERO)),
    ];
    for (setting, change) in refused {
        let error = change(Breaker::builder("rates")).without_actor().unwrap_err();
        assert_eq!(error.setting(), setting);
    }
    let lease = Breaker::builder("rates").probe_lease(over_day).without_actor().unwrap_err();
    assert_eq!(lease.setting(), "probe_lease");
}

#[test]
fn each_setting_is_taken_at_its_limit() {
    let day = 24 * 3_600 * SECOND;
    for percent in [1, 100] {
        let builder = Breaker::builder("rates").failure_percent(percent).slow_percent(percent);
        assert!(builder.without_actor().is_ok());
    }
    let largest = Breaker::builder("rates")
        .consecutive_failures(1_000_000)
        .min_calls(100_000)
        .window(3_600 * SECOND)
        .slow_after(3_600 * SECOND)
        .open_for(day)
        .open_max(day)
        .open_factor(10)
        .jitter_percent(50)
        .probes(256)
        .probes_needed(256)
        .probe_lease(day)
        .retry_after_max(day);
    assert!(largest.without_actor().is_ok());
}

#[test]
fn a_name_has_1_to_63_safe_characters() {
    for good in ["a", "Mail-api_2.eu", &"x".repeat(63)] {
        assert_eq!(DependencyId::parse(good).unwrap().as_str(), good);
    }
    for bad in ["", "a b", "a\n", "é", "a/b", &"x".repeat(64)] {
        assert_eq!(DependencyId::parse(bad), None, "{bad:?}");
        assert_eq!(Breaker::builder(bad).without_actor().unwrap_err().setting(), "name");
    }
}

#[test]
fn handles_permits_and_calls_can_go_to_any_thread() {
    fn any_thread<T: Send>(value: T) -> T {
        value
    }
    fn shared<T: Sync>(_: &T) {}
    let (breaker, _clock) = standard();
    shared(&breaker);
    let breaker = any_thread(breaker);
    any_thread(acquire(&breaker)).release();
    drop(any_thread(breaker.call(|| async { Ok::<(), std::io::Error>(()) })));
}

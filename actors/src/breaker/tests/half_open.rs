//! Probes: how many, what they decide, and that they never wedge the breaker.

use std::panic::AssertUnwindSafe;
use std::sync::Barrier;

use super::*;
use crate::breaker::{Cause, RejectCause};
use crate::kernel::panic;

/// Opened, and its pause is over.
fn tried(change: impl FnOnce(BreakerBuilder) -> BreakerBuilder) -> (Breaker, ManualClock) {
    let (breaker, clock) = breaker(change);
    trip(&breaker);
    clock.advance(5 * SECOND);
    (breaker, clock)
}

/// Plays `script` to a breaker whose pause is over and that needs 2 of 3 probes.
#[track_caller]
fn check(script: &str, expect: BreakerState) {
    let (breaker, clock) = tried(|builder| builder);
    play(&breaker, &clock, script);
    assert_eq!(breaker.snapshot().state, expect, "after `{script}`");
}

#[test]
fn decides_as_soon_as_the_verdict_is_certain() {
    for (script, expect) in [
        ("+", BreakerState::HalfOpen),
        ("++", BreakerState::Closed),
        ("-", BreakerState::HalfOpen),
        ("--", BreakerState::Open),
        ("-++", BreakerState::Closed),
        ("+-+", BreakerState::Closed),
        ("+--", BreakerState::Open),
        ("tt", BreakerState::Open),
    ] {
        check(script, expect);
    }
}

#[test]
fn of_a_thousand_callers_exactly_three_are_admitted() {
    let (breaker, _clock) = tried(|builder| builder);
    let start = Barrier::new(8);
    let storm = || {
        start.wait();
        (0..125).filter_map(|_| breaker.try_acquire().ok()).collect::<Vec<_>>()
    };
    let admitted: Vec<Permit> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(storm)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(admitted.len(), 3);
    let rejected = breaker.try_acquire().unwrap_err();
    assert_eq!(rejected.cause, RejectCause::TrialsTaken);
    assert_eq!(rejected.retry_after, SECOND);
}

#[test]
fn a_slot_comes_back_when_its_probe_is_dropped_or_given_back() {
    let (breaker, _clock) = tried(|builder| builder);
    for _ in 0..1_000 {
        let all: Vec<Permit> = (0..3).map(|_| acquire(&breaker)).collect();
        assert!(breaker.try_acquire().is_err());
        for (at, permit) in all.into_iter().enumerate() {
            if at == 0 { permit.release() } else { drop(permit) }
        }
    }
    assert_eq!(breaker.snapshot().state, BreakerState::HalfOpen);
}

#[test]
fn a_probe_that_panics_has_failed() {
    let (breaker, _clock) = tried(|builder| builder);
    for _ in 0..2 {
        let panicked = panic::catch(AssertUnwindSafe(|| {
            let _permit = acquire(&breaker);
            panic!("in the call");
        }));
        assert!(panicked.is_err());
    }
    assert_eq!(breaker.snapshot().cause, Cause::ProbesFailed { ok: 0, failed: 2 });
}

#[test]
fn a_hung_probe_is_reclaimed_and_its_late_answer_ignored() {
    let (breaker, clock) = tried(|builder| builder.probe_lease(2 * SECOND));
    let hung: Vec<Permit> = (0..3).map(|_| acquire(&breaker)).collect();
    clock.advance(2 * SECOND - MILLI);
    assert_eq!(breaker.try_acquire().unwrap_err().cause, RejectCause::TrialsTaken);
    clock.advance(MILLI);
    assert_eq!(breaker.try_acquire().unwrap_err().cause, RejectCause::Open);
    let opened = breaker.snapshot();
    assert_eq!(opened.cause, Cause::LeaseOver { missing: 3 });
    for permit in hung {
        permit.finish(Outcome::Success);
    }
    let after = breaker.snapshot();
    assert_eq!((after.state, after.epoch, after.late), (BreakerState::Open, opened.epoch, 3));
    clock.advance(10 * SECOND);
    play(&breaker, &clock, "++");
    assert_eq!(breaker.snapshot().state, BreakerState::Closed);
}

#[test]
fn the_lease_runs_though_nobody_looks_and_slots_are_free() {
    let (breaker, clock) = tried(|builder| builder.probe_lease(2 * SECOND));
    let hung = acquire(&breaker);
    clock.advance(2 * SECOND);
    assert_eq!(breaker.try_acquire().unwrap_err().cause, RejectCause::Open);
    assert_eq!(breaker.snapshot().cause, Cause::LeaseOver { missing: 1 });
    drop(hung);
}

#[test]
fn each_probe_has_the_whole_lease() {
    let (breaker, clock) = tried(|builder| builder.probe_lease(2 * SECOND));
    let first = acquire(&breaker);
    clock.advance(1_500 * MILLI);
    first.finish(Outcome::Success);
    let second = acquire(&breaker);
    clock.advance(1_500 * MILLI);
    drop(breaker.try_acquire());
    second.finish(Outcome::Success);
    assert_eq!(breaker.snapshot().state, BreakerState::Closed);
}

#[test]
fn a_call_from_before_the_opening_has_no_say_in_the_trial() {
    for outcome in [Outcome::Success, Outcome::Failure, Outcome::Ignored] {
        let (breaker, clock) = standard();
        let old: Vec<Permit> = (0..5).map(|_| acquire(&breaker)).collect();
        trip(&breaker);
        clock.advance(5 * SECOND);
        let probe = acquire(&breaker);
        for permit in old {
            permit.finish(outcome);
        }
        assert_eq!(breaker.snapshot().state, BreakerState::HalfOpen, "{outcome:?}");
        probe.finish(Outcome::Success);
        acquire(&breaker).finish(Outcome::Success);
        assert_eq!(breaker.snapshot().state, BreakerState::Closed, "{outcome:?}");
    }
}

#[test]
fn closes_with_an_empty_window() {
    let (breaker, clock) = tried(|builder| builder.open_for(MILLI));
    play(&breaker, &clock, "++");
    assert_eq!(breaker.snapshot().calls, 0);
    play(&breaker, &clock, "---");
    assert_eq!(breaker.snapshot().state, BreakerState::Closed);
    play(&breaker, &clock, "-");
    assert_eq!(breaker.snapshot().state, BreakerState::Open);
}

#[test]
fn ignored_answers_cannot_keep_it_half_open() {
    check("ii", BreakerState::HalfOpen);
    check("iii", BreakerState::Closed);
    check("-iii", BreakerState::Open);
    check("+iii", BreakerState::Closed);
}

#[test]
fn abandoned_probes_decide_nothing() {
    check("cccccccc", BreakerState::HalfOpen);
    check("cccccccc++", BreakerState::Closed);
}

#[test]
fn a_probe_dropped_when_slow_has_failed() {
    check("hh", BreakerState::Open);
}

#[test]
fn retry_after_from_a_probe_sets_the_next_pause() {
    let (breaker, _clock) = tried(|builder| builder);
    let (probe, other) = (acquire(&breaker), acquire(&breaker));
    other.finish(Outcome::Success);
    probe.finish(Outcome::Throttled { retry_after: Some(30 * SECOND) });
    assert_eq!(breaker.snapshot().remaining, Some(30 * SECOND));
}

/// Fails the first trial and returns the pause that follows.
fn fail_trial(breaker: &Breaker, clock: &ManualClock) -> Duration {
    clock.advance(breaker.snapshot().remaining.unwrap());
    play(breaker, clock, "--");
    breaker.snapshot().remaining.unwrap()
}

#[test]
fn each_failed_trial_doubles_the_pause_up_to_its_limit() {
    let (breaker, clock) = standard();
    trip(&breaker);
    let pauses: Vec<u64> = (0..6).map(|_| fail_trial(&breaker, &clock).as_secs()).collect();
    assert_eq!(pauses, [10, 20, 40, 80, 120, 120]);
}

#[test]
fn the_pause_keeps_within_its_jitter_and_is_not_always_the_same() {
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..200 {
        let (breaker, _clock) = breaker(|builder| builder.jitter_percent(20));
        trip(&breaker);
        let pause = breaker.snapshot().remaining.unwrap();
        assert!((4 * SECOND..=6 * SECOND).contains(&pause), "{pause:?}");
        seen.insert(pause);
    }
    assert!(seen.len() > 50, "{} different pauses", seen.len());
}

#[test]
fn flapping_keeps_growing_the_pause_and_health_shrinks_it() {
    let (breaker, clock) = standard();
    let mut pauses = Vec::new();
    for _ in 0..4 {
        trip(&breaker);
        pauses.push(breaker.snapshot().remaining.unwrap().as_secs());
        clock.advance(breaker.snapshot().remaining.unwrap());
        play(&breaker, &clock, "++.");
    }
    assert_eq!(pauses, [5, 10, 20, 40]);
    clock.advance(2 * 120 * SECOND);
    assert_eq!(breaker.snapshot().openings, 2);
    trip(&breaker);
    assert_eq!(breaker.snapshot().remaining, Some(20 * SECOND));
}

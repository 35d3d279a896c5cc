//! What the breaker promises, on a clock that the tests move.

mod cancellation;
mod concurrency;
mod control;
mod half_open;
mod memory;
mod opening;
mod properties;

use std::time::Duration;

use super::{Breaker, BreakerBuilder, BreakerState, Clock, ManualClock, Outcome, Permit};

const SECOND: Duration = Duration::from_secs(1);
const MILLI: Duration = Duration::from_millis(1);

/// Four calls at least, half of them failed, open for exactly 5 s.
fn settings(builder: BreakerBuilder) -> BreakerBuilder {
    builder.min_calls(4).jitter_percent(0)
}

/// A breaker without an actor, on a clock of its own.
fn breaker(change: impl FnOnce(BreakerBuilder) -> BreakerBuilder) -> (Breaker, ManualClock) {
    let (clock, hand) = Clock::manual();
    let builder = change(settings(Breaker::builder("rates").clock(clock)));
    (builder.without_actor().unwrap(), hand)
}

fn standard() -> (Breaker, ManualClock) {
    breaker(|builder| builder)
}

#[track_caller]
fn acquire(breaker: &Breaker) -> Permit {
    breaker.try_acquire().unwrap()
}

fn call(breaker: &Breaker, outcome: Outcome) {
    if let Ok(permit) = breaker.try_acquire() {
        permit.finish(outcome);
    }
}

#[track_caller]
fn trip(breaker: &Breaker) {
    for _ in 0..4 {
        acquire(breaker).finish(Outcome::Failure);
    }
    assert_eq!(breaker.snapshot().state, BreakerState::Open);
}

/// Plays `script`: `+` success, `-` failure, `~` a success that takes 1 s, `i` ignored,
/// `c` dropped at once, `h` dropped after 1 s, `t` throttled without a wait, `.` a second.
fn play(breaker: &Breaker, clock: &ManualClock, script: &str) {
    for step in script.chars() {
        match step {
            '+' => call(breaker, Outcome::Success),
            '-' => call(breaker, Outcome::Failure),
            'i' => call(breaker, Outcome::Ignored),
            't' => call(breaker, Outcome::Throttled { retry_after: None }),
            'c' => drop(breaker.try_acquire()),
            '~' | 'h' => {
                let permit = breaker.try_acquire();
                clock.advance(SECOND);
                if let (Ok(permit), '~') = (permit, step) {
                    permit.finish(Outcome::Success);
                }
            }
            '.' => clock.advance(SECOND),
            other => panic!("not a step: {other}"),
        }
    }
}

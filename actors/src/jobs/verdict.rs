//! What becomes of a job after a run: what happened in, settlement out. No clock, no I/O.

use std::sync::Arc;
use std::time::Duration;

use super::job::{Fate, JobError, JobPolicy, cut};
use super::store::{Claimed, DeadReason, RunError, Settlement};
use crate::store::Timestamp;

/// How long a job of a kind that this process does not know is left to others.
const UNKNOWN_KIND_WAIT: Duration = Duration::from_secs(60);
/// LIMIT: bytes kept of a backtrace.
const TRACE_MAX: usize = 16 * 1024;

/// What happened in a run.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The handler returned.
    Returned(Result<(), JobError>),
    /// It panicked.
    Panicked { message: Arc<str>, trace: Option<String> },
    /// It took too long.
    TimedOut,
    /// It was stopped because somebody cancelled the job.
    Cancelled,
    /// It was stopped because the process ends or has lost its claim.
    Interrupted,
    /// It was not begun in time.
    Expired,
    /// It was not begun, because its dependency is not well.
    Parked,
    /// It was not begun, because the guard puts it off by this, once more.
    PutOff(Duration),
    /// It was not begun, because the process ends.
    Unstarted,
    /// Nobody here handles this kind.
    UnknownKind,
}

/// What is known besides.
#[derive(Debug)]
pub(super) struct Case<'a> {
    pub(super) claimed: &'a Claimed,
    /// The policy of its kind, where the kind is known.
    pub(super) policy: Option<&'a JobPolicy>,
    /// Whether a breaker of this process watches the job's dependency, so that somebody will
    /// release what is parked for it.
    pub(super) watched: bool,
    /// Whether a retry is within what its dependency is expected to bear.
    pub(super) within_budget: bool,
    /// From 0 to 1.
    pub(super) chance: f64,
    pub(super) now: Timestamp,
}

/// What becomes of the job.
pub(super) fn settlement(outcome: Outcome, case: &Case<'_>) -> Settlement {
    match outcome {
        Outcome::Returned(Ok(())) => {
            Settlement::Done { keep: case.policy.is_none_or(|policy| policy.keep_done) }
        }
        Outcome::Returned(Err(error)) => failed(&error, case),
        Outcome::Panicked { message, trace } => {
            let trace = trace.map(|trace| cut(&trace, TRACE_MAX));
            again(None, RunError { message, trace }, case)
        }
        Outcome::TimedOut => {
            let within = case.policy.map_or(Duration::ZERO, |policy| policy.timeout);
            let message = format!("took longer than {} ms", within.as_millis());
            again(None, RunError { message: message.into(), trace: None }, case)
        }
        Outcome::Cancelled => dead(DeadReason::Cancelled, None),
        Outcome::Expired => dead(DeadReason::Expired, None),
        Outcome::Interrupted | Outcome::Unstarted => later(case.now, true, None),
        Outcome::Parked => park(Duration::ZERO, case),
        Outcome::PutOff(by) => Settlement::PutOff { until: case.now.after(by) },
        Outcome::UnknownKind => {
            let error = RunError { message: "no handler for this kind".into(), trace: None };
            later(case.now.after(UNKNOWN_KIND_WAIT), false, Some(error))
        }
    }
}

fn failed(error: &JobError, case: &Case<'_>) -> Settlement {
    let told = RunError { message: Arc::clone(&error.message), trace: None };
    match error.fate {
        Fate::Retry(wait) => again(wait, told, case),
        Fate::Snooze(wait) => later(case.now.after(wait), false, None),
        Fate::Park(wait) => park(wait, case),
        Fate::Discard => dead(DeadReason::Discarded, Some(told)),
        Fate::Cancel => dead(DeadReason::Cancelled, Some(told)),
    }
}

fn again(wait: Option<Duration>, error: RunError, case: &Case<'_>) -> Settlement {
    let Case { claimed, policy, chance, .. } = *case;
    if claimed.attempt >= claimed.max_attempts {
        return dead(DeadReason::Discarded, Some(error));
    }
    let pause = wait.unwrap_or_else(|| {
        let pause = policy.map(|policy| policy.backoff.wait(claimed.attempt, chance));
        let pause = pause.unwrap_or_default();
        if case.within_budget { pause } else { pause.saturating_mul(2) }
    });
    Settlement::Retry { run_at: case.now.after(pause), error }
}

fn park(wait: Duration, case: &Case<'_>) -> Settlement {
    Settlement::Release {
        run_at: case.now.after(if case.watched { Duration::ZERO } else { wait }),
        parked: case.watched,
        keeps_age: false,
        error: None,
    }
}

const fn later(run_at: Timestamp, keeps_age: bool, error: Option<RunError>) -> Settlement {
    Settlement::Release { run_at, parked: false, keeps_age, error }
}

const fn dead(reason: DeadReason, error: Option<RunError>) -> Settlement {
    Settlement::Dead { reason, error }
}

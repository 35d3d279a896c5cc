//! Running foreign code once: with a deadline, and with its panics caught.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::check::{Check, CheckCx, CheckError, Detail, Grade};
use super::state::Finding;
use crate::kernel::panic::{Panic, catch};

/// What one run of a check found, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) finding: Finding,
    pub(super) reason: Option<Arc<str>>,
}

/// Runs `check` once.
///
/// # Cancel safety
///
/// Dropping it drops the check at its current await point.
pub(super) async fn run(check: &dyn Check, timeout: Duration) -> Outcome {
    let deadline = Instant::now() + timeout;
    // The call itself may panic too, not only the future it returns.
    let asked = async { check.check(CheckCx::new(deadline)).await };
    match within(deadline, asked).await {
        Ok(Ok(detail)) => passed(&detail),
        Ok(Err(error)) => failed(error.into_reason()),
        Err(Broken::TimedOut) => failed(format!("no answer in {} ms", timeout.as_millis()).into()),
        Err(Broken::Panicked(panic)) => failed(format!("panicked: {}", panic.message()).into()),
    }
}

fn passed(detail: &Detail) -> Outcome {
    let finding = match detail.grade() {
        Grade::Good => Finding::Passed,
        Grade::Degraded => Finding::Degraded,
        Grade::Unknown => Finding::Unknown,
    };
    Outcome { finding, reason: detail.text().cloned() }
}

fn failed(reason: Arc<str>) -> Outcome {
    // A panic's message may be long and have line breaks.
    let reason = CheckError::new(reason).into_reason();
    Outcome { finding: Finding::Failed, reason: Some(reason) }
}

/// Why foreign code gave no answer.
#[derive(Debug)]
pub(super) enum Broken {
    TimedOut,
    Panicked(Panic),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut => f.write_str("timed out"),
            Self::Panicked(panic) => write!(f, "panicked: {}", panic.message()),
        }
    }
}

/// Drives `work` to its end, to its panic, or to the deadline.
pub(super) async fn within<T>(
    deadline: Instant,
    work: impl Future<Output = T>,
) -> Result<T, Broken> {
    match timeout_at(deadline, caught(work)).await {
        Ok(Ok(output)) => Ok(output),
        Ok(Err(panic)) => Err(Broken::Panicked(panic)),
        Err(_elapsed) => Err(Broken::TimedOut),
    }
}

async fn caught<T>(work: impl Future<Output = T>) -> Result<T, Panic> {
    let mut work = pin!(work);
    poll_fn(|cx| match catch(|| work.as_mut().poll(cx)) {
        Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
        Ok(Poll::Pending) => Poll::Pending,
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}

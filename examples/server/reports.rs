//! Reports: work that is nice to have, and the first to give way when there is too much.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use steadfast::jobs::guard::{GuardConfig, Overload};
use steadfast::jobs::{Class, Enqueued, Job, JobCx, JobId, JobPolicy, JobResult, Jobs, JobsError};

/// How long a report takes to write.
const WORK: Duration = Duration::from_millis(20);

/// The job that writes a report; also what a client asks for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Report {
    name: Name,
}

/// What a report is called: 1 to 200 characters.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String")]
struct Name(String);

impl TryFrom<String> for Name {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.chars().take(201).count() {
            1..=200 => Ok(Self(text)),
            _ => Err("a name has 1 to 200 characters"),
        }
    }
}

impl Job for Report {
    const KIND: &'static str = "report";
    const QUEUE: &'static str = "reports";
    const CLASS: Class = Class::Sheddable;

    fn policy() -> JobPolicy {
        JobPolicy::default().on_overload(Overload::Reschedule { max: 5 })
    }
}

/// Writes a report.
pub(crate) async fn write(_: Report, cx: JobCx) -> JobResult {
    tokio::time::sleep(WORK).await;
    tracing::debug!(job = cx.id().0, "report.written");
    Ok(())
}

/// When there are too many: so early that a demonstration stays short. A service keeps the
/// defaults, or says how long its users wait.
pub(crate) fn guard() -> Result<GuardConfig, steadfast::jobs::guard::GuardConfigError> {
    GuardConfig::builder()
        .age_target(Class::Sheddable, Duration::from_secs(2))
        .depth_max(20_000)
        .window(Duration::from_secs(2))
        .memory(Duration::from_secs(2))
        .sustain(Duration::from_millis(500))
        .calm(Duration::from_secs(5))
        .defer_max(Duration::from_secs(30))
        .look_every(Duration::from_millis(250))
        .build()
}

/// What became of a report that was asked for.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Requested {
    outcome: Outcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    job_id: Option<JobId>,
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Accepted,
    Deferred,
    Skipped,
}

/// Asks for a report.
///
/// # Errors
///
/// The queue is full, or the store failed.
///
/// # Cancel safety
///
/// Dropped, the report may be written all the same.
pub(crate) async fn request(report: Report, jobs: &Jobs) -> Result<Requested, JobsError> {
    let enqueued = jobs.enqueue(report).await?;
    let outcome = if matches!(enqueued, Enqueued::Deferred { .. }) {
        Outcome::Deferred
    } else if enqueued.id().is_none() {
        Outcome::Skipped
    } else {
        Outcome::Accepted
    };
    Ok(Requested { outcome, job_id: enqueued.id() })
}

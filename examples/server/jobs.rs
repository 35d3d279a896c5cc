//! The job queue: which kinds it runs, and what a client is told of a job.

use std::error::Error;
use std::sync::Arc;

use serde::Serialize;
use steadfast::jobs::{Class, Job, JobId, JobInfo, JobState, Jobs, QueueSpec};
use steadfast::runtime::Builder;
use steadfast::store::Store;

use crate::orders::{self, Confirm};
use crate::reports::{self, Report};

/// None of these jobs ends its process, but whoever tries out `kill -9` does, again and again: let
/// it take many deaths until one of them is blamed.
const POISON_AFTER: i16 = 20;

/// Declares the queue, its kinds of jobs and its workers.
///
/// # Errors
///
/// A setting is out of its range, or the store failed.
pub(crate) async fn declare(builder: &mut Builder, store: &Store) -> Result<Jobs, Box<dyn Error>> {
    let reports = QueueSpec::new(Report::QUEUE).guard(reports::guard()?);
    let jobs = Jobs::builder(store)
        .handle(orders::confirm)
        .handle(reports::write)
        .queue(QueueSpec::new(Confirm::QUEUE))
        .queue(reports)
        .poison_after(POISON_AFTER);
    Ok(builder.jobs(jobs).await?)
}

/// A job, as a client sees it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct JobView {
    id: JobId,
    kind: Arc<str>,
    class: Class,
    state: JobState,
    attempt: i16,
    run: i32,
}

impl From<JobInfo> for JobView {
    fn from(job: JobInfo) -> Self {
        let JobInfo { id, kind, class, state, attempt, run, .. } = job;
        Self { id, kind, class, state, attempt, run }
    }
}

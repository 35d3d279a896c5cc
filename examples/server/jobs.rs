//! The job queue: which kinds it runs, and what a client is told of a job.

use std::error::Error;
use std::sync::Arc;

use serde::Serialize;
use steadfast::jobs::{Class, Job, JobId, JobInfo, JobState, Jobs, JobsBuilder, QueueSpec};
use steadfast::mailer::{Deliver, Mailer};
use steadfast::store::Store;

use crate::counters;
use crate::reports::{self, Report};

/// None of these jobs ends its process, but whoever tries out `kill -9` does, again and again. With
/// the default of 3, each third loop of 60 deaths, all within half a second of the start, puts one
/// job of some thousands away: let it take many deaths until one is blamed.
const POISON_AFTER: i16 = 20;

/// Workers that send mails: each waits for the upstream most of the time.
const MAILERS: u16 = 16;

/// Declares the queues, their kinds of jobs and their workers.
///
/// # Errors
///
/// A setting is out of its range.
pub(crate) fn declare(store: &Store, mailer: &Mailer) -> Result<JobsBuilder, Box<dyn Error>> {
    let reports = QueueSpec::new(Report::QUEUE).guard(reports::guard()?);
    let jobs = Jobs::builder(store)
        .handle(reports::write)
        .queue(QueueSpec::new(Deliver::QUEUE).workers(MAILERS))
        .queue(counters::queue())
        .queue(reports)
        .poison_after(POISON_AFTER);
    Ok(mailer.declare(jobs))
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

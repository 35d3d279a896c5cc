//! What ran, and how it ended.

use std::sync::Arc;

use crate::jobs::JobId;
use crate::jobs::store::{Claimed, DeadReason, Settle, Settlement};
use crate::store::Timestamp;

/// What ran, in order.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct RunReport {
    /// Each run.
    pub runs: Vec<JobRun>,
    /// How often the store failed meanwhile. Without a [`FaultStore`](super::FaultStore): never.
    pub store_failures: u32,
}

impl RunReport {
    /// Runs that did their work.
    #[must_use]
    pub fn done(&self) -> usize {
        self.count(|end| matches!(end, RunEnd::Done))
    }

    /// Runs that failed and whose job is tried again.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.count(|end| matches!(end, RunEnd::Failed { .. }))
    }

    /// Runs that were no attempt: snoozed, parked, put off, or of an unknown kind.
    #[must_use]
    pub fn released(&self) -> usize {
        self.count(|end| matches!(end, RunEnd::Released { .. }))
    }

    /// Runs after which the job is dead.
    #[must_use]
    pub fn died(&self) -> usize {
        self.count(|end| matches!(end, RunEnd::Died { .. }))
    }

    /// The runs of one job.
    pub fn of(&self, id: JobId) -> impl Iterator<Item = &JobRun> {
        self.runs.iter().filter(move |run| run.id == id)
    }

    fn count(&self, is: impl Fn(&RunEnd) -> bool) -> usize {
        self.runs.iter().filter(|run| is(&run.end)).count()
    }
}

/// One run of a job.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct JobRun {
    /// The job.
    pub id: JobId,
    /// Its kind.
    pub kind: Arc<str>,
    /// The queue it was claimed from.
    pub queue: Arc<str>,
    /// Which attempt it was; the first is 1.
    pub attempt: u16,
    /// How it ended.
    pub end: RunEnd,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RunEnd {
    /// It did its work.
    Done,
    /// It failed, and the job is tried again.
    Failed {
        /// What went wrong.
        error: Arc<str>,
        /// Not before this.
        run_at: Timestamp,
    },
    /// It was no attempt: snoozed, parked, put off, or of an unknown kind.
    Released {
        /// Not before this.
        run_at: Timestamp,
        /// Whether it waits for its dependency.
        parked: bool,
    },
    /// The job is dead.
    Died {
        /// Why.
        reason: DeadReason,
        /// What went wrong, if anything did.
        error: Option<Arc<str>>,
    },
}

impl JobRun {
    /// A run that begins.
    pub(super) fn begun(claimed: &Claimed, queue: &Arc<str>) -> Self {
        Self {
            id: claimed.key.id,
            kind: Arc::clone(&claimed.kind),
            queue: Arc::clone(queue),
            attempt: claimed.attempt.unsigned_abs(),
            end: RunEnd::Done,
        }
    }

    /// The run has ended.
    pub(super) fn ended(&mut self, settle: Settle) {
        self.end = match settle.how {
            Settlement::Done { .. } => RunEnd::Done,
            Settlement::Retry { run_at, error } => RunEnd::Failed { error: error.message, run_at },
            Settlement::Release { run_at, parked, .. } => RunEnd::Released { run_at, parked },
            Settlement::PutOff { until } => RunEnd::Released { run_at: until, parked: false },
            Settlement::Dead { reason, error } => {
                RunEnd::Died { reason, error: error.map(|error| error.message) }
            }
        };
    }
}

//! The jobs: a run of a counter, and forgetting old ones.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::core::Core;
use super::error::CounterError;
use super::repair::{Control, End, Repair};
use super::spec::Mode;
use super::store::{self, Begun};
use crate::jobs::tx::transact;
use crate::jobs::{Class, Job, JobCx, JobError, JobResult};
use crate::store::StoreError;

/// LIMIT: so many rows with each statement, and so many statements.
const ROWS: i64 = 500;
const STATEMENTS: u32 = 200;

/// A run of a counter.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct RepairJob {
    pub(super) counter: Arc<str>,
    pub(super) mode: Mode,
}

impl Job for RepairJob {
    const KIND: &'static str = "counters.repair";
    const QUEUE: &'static str = "counters";
    const CLASS: Class = Class::Bulk;
}

impl RepairJob {
    /// One job of this key at a time.
    pub(super) fn key(&self) -> String {
        format!("{}:{}", self.mode.as_str(), self.counter)
    }
}

/// Goes on with the run of a job for one turn.
pub(super) async fn run(core: Arc<Core>, job: RepairJob, cx: JobCx) -> JobResult {
    // The second half of the job's time is for the batch that is under way when the turn ends.
    let until = Instant::now() + core.settings.turn;
    match turn(&core, &job, cx, until).await {
        Ok(End::Done) => Ok(()),
        // Whoever told it to stop knows what becomes of the job; it must not be taken for done.
        Ok(End::Stopped) => Err(JobError::retry("stopped")),
        Ok(End::Later) => Err(JobError::snooze(Duration::from_millis(1))),
        // Nothing that is tried again would mend these.
        Err(Failed::Counter(
            error @ (CounterError::Unknown | CounterError::InvalidSpec { .. }),
        )) => Err(JobError::discard(described(&error))),
        Err(Failed::Counter(error)) => Err(error.into()),
        Err(Failed::Joined(other)) => {
            Err(JobError::cancel(format!("job {other} is at this counter already")))
        }
    }
}

enum Failed {
    Counter(CounterError),
    Joined(crate::jobs::JobId),
}

impl From<CounterError> for Failed {
    fn from(error: CounterError) -> Self {
        Self::Counter(error)
    }
}

async fn turn(core: &Arc<Core>, job: &RepairJob, cx: JobCx, until: Instant) -> Result<End, Failed> {
    let RepairJob { counter, mode } = job;
    let subject = core.subject(counter).await?;
    let (id, now, own, mode) = (cx.id(), core.clock().now(), Arc::clone(counter), *mode);
    let begun: Result<Begun, StoreError> =
        transact!(&core.store, tx => store::begin(&tx, id, &own, mode, now));
    let run = match begun.map_err(CounterError::from)? {
        Begun::Run(run) => *run,
        Begun::Joined(other) => return Err(Failed::Joined(other)),
    };
    let repair = Repair::new(core.store.clone(), subject, core.settings.clone(), core.clock());
    let control = Control {
        request: cx.request().clone(),
        cx: Some(cx),
        jobs: core.jobs(),
        own_queue: RepairJob::QUEUE,
        until,
    };
    let end = repair.run(run, &control).await?;
    if end == End::Done {
        told(core, counter, id).await?;
    }
    Ok(end)
}

/// Says how a run ended.
async fn told(core: &Core, counter: &str, id: crate::jobs::JobId) -> Result<(), CounterError> {
    let run: Result<_, StoreError> = transact!(&core.store, tx => store::find(&tx, id));
    if let Some(run) = run? {
        let (scanned, drifted, repaired) =
            (run.totals.scanned, run.totals.drifted, run.totals.repaired);
        let mode = run.mode.as_str();
        tracing::info!(counter, mode, job = id.0, scanned, drifted, repaired, "counters.finished");
    }
    Ok(())
}

/// An error and what lies beneath it, in a line.
fn described(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Forgets runs that are old enough.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Prune {}

impl Job for Prune {
    const KIND: &'static str = "counters.prune";
    const QUEUE: &'static str = "counters";
    const CLASS: Class = Class::Bulk;
}

pub(super) async fn prune(core: Arc<Core>, cx: JobCx) -> JobResult {
    let before = core.clock().now().before(core.keep_for);
    for _ in 0..STATEMENTS {
        let some: Result<usize, StoreError> =
            transact!(&core.store, tx => store::prune(&tx, before, ROWS));
        if some? < usize::try_from(ROWS).unwrap_or(usize::MAX) || cx.request().stopped().is_some() {
            break;
        }
    }
    Ok(())
}

//! What the actor is asked. [`Counters`](super::Counters) has a method for each.

use std::sync::Arc;
use std::time::Duration;

use actix::Message;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::catalog;
use super::core::Shared;
use super::error::CounterError;
use super::maintain::{Plan, apply};
use super::run::RepairJob;
use super::store::{self, Run};
use crate::jobs::tx::transact;
use crate::jobs::{Enqueued, Job, JobId, JobsError};
use crate::store::StoreError;

/// An operation: what the actor does with the message.
pub(super) trait Operation: Message + Send + 'static {
    fn perform(self, shared: Arc<Shared>) -> BoxFuture<'static, Self::Result>;
}

/// A run that was begun, or one that was joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Started {
    /// The job that does it.
    pub job: JobId,
    /// Whether one was at it already, and this is that one.
    pub joined: bool,
}

/// Begins a run, or joins the one that is under way.
#[derive(Debug, Message)]
#[rtype(result = "Result<Started, CounterError>")]
pub(super) struct StartRun(pub(super) RepairJob);

impl Operation for StartRun {
    fn perform(self, shared: Arc<Shared>) -> BoxFuture<'static, Self::Result> {
        async move {
            let Self(job) = self;
            let core = &shared.core;
            // What cannot run is refused here rather than in a job that dies.
            drop(core.subject(&job.counter).await?);
            let (counter, mode, key) = (Arc::clone(&job.counter), job.mode, job.key());
            let running: Result<Option<JobId>, StoreError> =
                transact!(&core.store, tx => store::running(&tx, &counter, mode));
            if let Some(job) = running? {
                return Ok(Started { job, joined: true });
            }
            let enqueued = shared.jobs.enqueue(job).unique(key).await?;
            let joined = matches!(enqueued, Enqueued::Duplicate(_));
            let job = enqueued.id().ok_or_else(left_out)?;
            Ok(Started { job, joined })
        }
        .boxed()
    }
}

/// The guard left the job out: the queue has too much to do.
fn left_out() -> CounterError {
    let (queue, retry_after) = (RepairJob::QUEUE.into(), Duration::from_secs(60));
    CounterError::Jobs(JobsError::QueueFull { queue, retry_after })
}

/// Which run is meant.
#[derive(Debug, Clone)]
pub(super) enum Which {
    OfJob(JobId),
    Latest(Arc<str>),
}

/// Reads a run.
#[derive(Debug, Message)]
#[rtype(result = "Result<Option<Run>, CounterError>")]
pub(super) struct ReadRun(pub(super) Which);

impl Operation for ReadRun {
    fn perform(self, shared: Arc<Shared>) -> BoxFuture<'static, Self::Result> {
        async move {
            let Self(which) = self;
            let found: Result<Option<Run>, StoreError> =
                transact!(&shared.core.store, tx => read(&tx, &which));
            Ok(found?)
        }
        .boxed()
    }
}

async fn read(tx: &impl crate::jobs::tx::JobTx, which: &Which) -> Result<Option<Run>, StoreError> {
    match which {
        Which::OfJob(job) => store::find(tx, *job).await,
        Which::Latest(counter) => store::latest(tx, counter).await,
    }
}

/// Checks a counter, and says what would keep it true.
#[derive(Debug, Message)]
#[rtype(result = "Result<Plan, CounterError>")]
pub(super) struct MakePlan(pub(super) Arc<str>);

impl Operation for MakePlan {
    fn perform(self, shared: Arc<Shared>) -> BoxFuture<'static, Self::Result> {
        async move { plan(&shared, &self.0).await }.boxed()
    }
}

async fn plan(shared: &Shared, name: &str) -> Result<Plan, CounterError> {
    let subject = shared.core.subject(name).await?;
    let installed = catalog::is_installed(&shared.core.store, &subject).await?;
    Ok(Plan::new(&subject, installed))
}

/// Makes the triggers of a counter, or takes them away.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), CounterError>")]
pub(super) struct ChangeTriggers {
    pub(super) counter: Arc<str>,
    pub(super) make: bool,
}

impl Operation for ChangeTriggers {
    fn perform(self, shared: Arc<Shared>) -> BoxFuture<'static, Self::Result> {
        async move {
            let plan = plan(&shared, &self.counter).await?;
            let statements = if self.make { plan.make } else { plan.remove };
            apply(&shared.core.store, statements).await?;
            let (counter, made) = (&*self.counter, self.make);
            tracing::info!(counter, made, "counters.triggers_changed");
            Ok(())
        }
        .boxed()
    }
}

/// Folds all deltas there are.
#[derive(Debug, Message)]
#[rtype(result = "Result<u64, CounterError>")]
pub(super) struct Flush;

impl Operation for Flush {
    fn perform(self, shared: Arc<Shared>) -> BoxFuture<'static, Self::Result> {
        async move { shared.core.flush().await }.boxed()
    }
}

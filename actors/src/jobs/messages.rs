//! What the job queue's actor is asked. [`Jobs`](super::Jobs) has a method for each.

use std::sync::Arc;

use actix::Message;
use futures_util::future::BoxFuture;

use super::JobId;
use super::error::JobsError;
use super::shared::Shared;
use super::store::{Cancelled, Counts, Inserted, JobInfo, NewJob};
use crate::kernel::Stopped;

/// An operation of the queue: what its actor does with the message.
pub(super) trait Operation: Message + Send + 'static {
    /// Carries it out.
    fn perform(self, shared: Arc<Shared>) -> BoxFuture<'static, Self::Result>;
}

/// Stores jobs, as they are: the guard is not asked.
///
/// The reply means that they are on disk, each with what became of it, in the same order. It
/// does not mean that one has run.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Vec<Inserted>, JobsError>")]
pub struct InsertJobs {
    /// At most 10,000.
    pub jobs: Vec<NewJob>,
}

/// Cancels a job: at once if it waits; one that runs is told to stop, and may still finish.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<Cancelled, JobsError>")]
pub struct CancelJob {
    /// Which.
    pub id: JobId,
}

/// Makes a job that waits due now, or a dead one ready again.
///
/// The reply is `false` if it runs, is done, is unknown, or its unique key is taken.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<bool, JobsError>")]
pub struct RetryJob {
    /// Which.
    pub id: JobId,
}

/// Looks a job up.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<Option<JobInfo>, JobsError>")]
pub struct FindJob {
    /// Which.
    pub id: JobId,
}

/// Pauses or resumes a queue in all processes. What runs goes on.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), JobsError>")]
pub struct PauseQueue {
    /// Which; `*` is all.
    pub queue: Arc<str>,
    /// Whether nothing is claimed from it.
    pub paused: bool,
}

/// Counts the jobs in each state.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<Counts, JobsError>")]
pub struct CountJobs;

impl Operation for InsertJobs {
    fn perform(self, shared: Arc<Shared>) -> BoxFuture<'static, Self::Result> {
        Box::pin(async move { Ok(shared.store.insert(self.jobs, shared.clock.now()).await?) })
    }
}

impl Operation for CancelJob {
    fn perform(self, shared: Arc<Shared>) -> BoxFuture<'static, Self::Result> {
        Box::pin(async move {
            let cancelled = shared.store.cancel(self.id, shared.clock.now()).await?;
            if matches!(cancelled, Cancelled::Running(node) if node == shared.node) {
                shared.running.stop(self.id, Stopped::ClientGone);
            }
            Ok(cancelled)
        })
    }
}

impl Operation for RetryJob {
    fn perform(self, shared: Arc<Shared>) -> BoxFuture<'static, Self::Result> {
        Box::pin(async move { Ok(shared.store.retry(self.id, shared.clock.now()).await?) })
    }
}

impl Operation for FindJob {
    fn perform(self, shared: Arc<Shared>) -> BoxFuture<'static, Self::Result> {
        Box::pin(async move { Ok(shared.store.find(self.id).await?) })
    }
}

impl Operation for PauseQueue {
    fn perform(self, shared: Arc<Shared>) -> BoxFuture<'static, Self::Result> {
        Box::pin(async move {
            shared.store.pause(self.queue, self.paused, shared.clock.now()).await?;
            Ok(())
        })
    }
}

impl Operation for CountJobs {
    fn perform(self, shared: Arc<Shared>) -> BoxFuture<'static, Self::Result> {
        Box::pin(async move { Ok(shared.store.counts().await?) })
    }
}

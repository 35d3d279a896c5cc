//! The handle that everybody holds.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use actix::Handler;
use tokio::sync::broadcast;
use tokio::time::sleep;

use super::actor::JobQueue;
use super::drain::{DrainReport, drain};
use super::enqueue::{Enqueue, Enqueued, Prepared};
use super::events::JobEvent;
use super::guard::GuardSnapshot;
use super::job::Job;
use super::messages::{CancelJob, CountJobs, FindJob, InsertJobs, Operation, PauseQueue, RetryJob};
use super::shared::Shared;
use super::store::{Cancelled, Counts, CronRow, DeadFilter, JobInfo, JobStore, Replayed, RunError};
use super::{JobId, JobsError, NodeId, RunKey};
use crate::kernel::Ref;
use crate::store::{Timestamp, WallClock};

/// LIMIT: jobs that go into one transaction when many are enqueued at once.
const CHUNK: usize = 512;
/// How long one step of a replay is.
const REPLAY_STEP: Duration = Duration::from_millis(100);
/// LIMIT: rows of one page of dead jobs.
const PAGE_MAX: u32 = 1_000;

/// The job queue. Cheap to clone; clones are the same queue.
#[derive(Clone)]
pub struct Jobs {
    shared: Arc<Shared>,
    /// `None` in a test kit, where operations are carried out by whoever asks.
    actor: Option<Ref<JobQueue>>,
}

impl Jobs {
    pub(super) const fn new(shared: Arc<Shared>, actor: Option<Ref<JobQueue>>) -> Self {
        Self { shared, actor }
    }

    /// Adds a job. Nothing happens until the answer is awaited, or put in a transaction.
    ///
    /// The job inherits the id and the trace of the request that is current then.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use steadfast_actors::jobs::{Enqueued, Job, Jobs, JobsError};
    /// # #[derive(serde::Serialize, serde::Deserialize)] struct Report { name: String }
    /// # impl Job for Report { const KIND: &'static str = "report"; }
    /// # async fn example(jobs: Jobs) -> Result<(), JobsError> {
    /// let report = Report { name: "monthly".into() };
    /// let enqueued = jobs.enqueue(report).unique("monthly").delay(Duration::from_secs(5)).await?;
    /// if let Enqueued::Duplicate(id) = enqueued {
    ///     println!("{id} does it already");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn enqueue<J: Job>(&self, job: J) -> Enqueue<'_, J> {
        Enqueue::new(self, job)
    }

    /// Adds many jobs of a kind, 512 to a transaction. The answers are in their order: each job
    /// is taken, put off, left out or refused for itself.
    ///
    /// # Errors
    ///
    /// The store failed. Those of earlier transactions are stored.
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves out the transactions that were not begun.
    pub async fn enqueue_many<J: Job>(
        &self,
        jobs: impl IntoIterator<Item = J>,
    ) -> Result<Vec<Result<Enqueued, JobsError>>, JobsError> {
        let mut answers = Vec::new();
        let mut jobs = jobs.into_iter();
        loop {
            let chunk: Vec<_> =
                jobs.by_ref().take(CHUNK).map(|job| self.enqueue(job).prepare()).collect();
            if chunk.is_empty() {
                return Ok(answers);
            }
            self.store_chunk(chunk, &mut answers).await?;
        }
    }

    async fn store_chunk(
        &self,
        chunk: Vec<Result<Option<Prepared>, JobsError>>,
        answers: &mut Vec<Result<Enqueued, JobsError>>,
    ) -> Result<(), JobsError> {
        let stored = |one: &Result<Option<Prepared>, _>| match one {
            Ok(Some(prepared)) => Some(prepared.job.clone()),
            Ok(None) | Err(_) => None,
        };
        let jobs: Vec<_> = chunk.iter().filter_map(stored).collect();
        let inserted =
            if jobs.is_empty() { Vec::new() } else { self.ask(InsertJobs { jobs }).await? };
        let mut inserted = inserted.into_iter();
        for one in chunk {
            answers.push(match one {
                Ok(Some(prepared)) => match inserted.next() {
                    Some(inserted) => prepared.outcome(&self.shared, inserted),
                    None => Err(prepared.lost()),
                },
                Ok(None) => Ok(Enqueued::Skipped),
                Err(error) => Err(error),
            });
        }
        Ok(())
    }

    /// Cancels a job: at once if it waits; one that runs is told to stop within seconds, and may
    /// still finish.
    ///
    /// # Errors
    ///
    /// The store or the actor failed. Asking again is safe.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it may be carried out all the same.
    pub async fn cancel(&self, id: JobId) -> Result<Cancelled, JobsError> {
        self.ask(CancelJob { id }).await
    }

    /// Makes a job that waits due now, or a dead one ready again with one more attempt at least.
    /// `false` if it runs, is done, is unknown, or its unique key is taken.
    ///
    /// # Errors
    ///
    /// The store or the actor failed. Asking again is safe.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it may be carried out all the same.
    pub async fn retry(&self, id: JobId) -> Result<bool, JobsError> {
        self.ask(RetryJob { id }).await
    }

    /// A job as it is now; `None` if it is unknown or was forgotten.
    ///
    /// # Errors
    ///
    /// The store or the actor failed.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn find(&self, id: JobId) -> Result<Option<JobInfo>, JobsError> {
        self.ask(FindJob { id }).await
    }

    /// What went wrong in each of its runs, oldest first; the newest 32.
    ///
    /// # Errors
    ///
    /// The store failed.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn errors(&self, id: JobId) -> Result<Vec<(RunKey, Timestamp, RunError)>, JobsError> {
        Ok(self.shared.store.errors(id).await?)
    }

    /// Jobs in each state. Counts rows: for operators, not for each request.
    ///
    /// # Errors
    ///
    /// The store or the actor failed.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn counts(&self) -> Result<Counts, JobsError> {
        self.ask(CountJobs).await
    }

    /// Pauses a queue in all processes, or all queues with `*`. What runs goes on.
    ///
    /// # Errors
    ///
    /// The store or the actor failed. Asking again is safe.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it may be carried out all the same.
    pub async fn pause(&self, queue: impl Into<Arc<str>>) -> Result<(), JobsError> {
        self.ask(PauseQueue { queue: queue.into(), paused: true }).await
    }

    /// Lets a paused queue go on, or all with `*`; a queue goes on when neither is paused.
    ///
    /// # Errors
    ///
    /// The store or the actor failed. Asking again is safe.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it may be carried out all the same.
    pub async fn resume(&self, queue: impl Into<Arc<str>>) -> Result<(), JobsError> {
        let queue = queue.into();
        self.ask(PauseQueue { queue: Arc::clone(&queue), paused: false }).await?;
        self.shared.store.wakes().wake_all();
        Ok(())
    }

    /// Dead jobs in the order of their ids, at most 1,000; go on after the last with
    /// [`DeadFilter::after`].
    ///
    /// # Errors
    ///
    /// The store failed.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn dead(&self, filter: DeadFilter) -> Result<Vec<JobInfo>, JobsError> {
        Ok(self.shared.store.dead(filter, PAGE_MAX).await?)
    }

    /// Makes dead jobs ready again, with all their attempts, at most `per_second` of them each
    /// second, so that a mended dependency is not brought down again.
    ///
    /// # Errors
    ///
    /// The store failed. What was moved before stays moved; asking again moves the rest.
    ///
    /// # Cancel safety
    ///
    /// Dropping it ends the replay with the step under way.
    pub async fn replay_dead(
        &self,
        mut filter: DeadFilter,
        per_second: u32,
    ) -> Result<Replayed, JobsError> {
        let mut all = Replayed::default();
        let chunk = (per_second / 10).clamp(1, PAGE_MAX);
        let step = REPLAY_STEP.max(Duration::from_secs(1) / per_second.max(1));
        loop {
            let now = self.shared.clock.now();
            let some = self.shared.store.replay(filter.clone(), chunk, now).await?;
            all.moved += some.moved;
            all.duplicates += some.duplicates;
            let Some(last) = some.last else { return Ok(all) };
            all.last = Some(last);
            filter.after = Some(last);
            sleep(step).await;
        }
    }

    /// The periodic jobs.
    ///
    /// # Errors
    ///
    /// The store failed.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn crons(&self) -> Result<Vec<CronRow>, JobsError> {
        Ok(self.shared.store.crons().await?)
    }

    /// Pauses or resumes a periodic job. `false` if there is none of this name.
    ///
    /// # Errors
    ///
    /// The store failed. Asking again is safe.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it may be carried out all the same.
    pub async fn pause_cron(&self, name: &str, paused: bool) -> Result<bool, JobsError> {
        Ok(self.shared.store.pause_cron(name.into(), paused).await?)
    }

    /// Removes a periodic job that is not declared any more. `false` if there is none.
    ///
    /// # Errors
    ///
    /// The store failed. Asking again is safe.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it may be carried out all the same.
    pub async fn remove_cron(&self, name: &str) -> Result<bool, JobsError> {
        Ok(self.shared.store.remove_cron(name.into()).await?)
    }

    /// How a queue of this process stands with its work; `None` if it is not declared here.
    /// A read of shared memory.
    #[must_use]
    pub fn guard(&self, queue: &str) -> Option<Arc<GuardSnapshot>> {
        Some(self.shared.pool(queue)?.guard.load_full())
    }

    /// The queues of this process.
    pub fn queues(&self) -> impl Iterator<Item = &Arc<str>> {
        self.shared.pools.keys()
    }

    /// What happens to the jobs of this process from now on. A receiver that falls more than
    /// 1,024 events behind is told how many it lost.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<JobEvent> {
        self.shared.events.subscribe()
    }

    /// This process, as the tables call it.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.shared.node
    }

    /// Whether this process prunes, rescues and fires periodic jobs for all.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.shared.is_leader()
    }

    /// The clock that rows are stamped with.
    #[must_use]
    pub fn clock(&self) -> &WallClock {
        &self.shared.clock
    }

    /// The tables themselves, for tools.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn JobStore> {
        &self.shared.store
    }

    /// The actor behind, for plain messages; `None` in a test kit.
    #[must_use]
    pub const fn actor(&self) -> Option<&Ref<JobQueue>> {
        self.actor.as_ref()
    }

    /// Ends the work of this process in order, for good: begins nothing new, lets what runs
    /// finish for `grace`, then tells it to stop; gives back what had not begun, hands all ends
    /// in, and leaves. Enqueueing goes on.
    ///
    /// # Cancel safety
    ///
    /// Dropped half-way, nothing new is begun all the same; what is left behind is rescued by
    /// others when this process is gone. Call it again to go on.
    pub fn drain(&self, grace: Duration) -> impl Future<Output = DrainReport> + Send + 'static {
        drain(Arc::clone(&self.shared), grace)
    }

    pub(super) const fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(super) async fn ask<M, T>(&self, message: M) -> Result<T, JobsError>
    where
        M: Operation + actix::Message<Result = Result<T, JobsError>>,
        JobQueue: Handler<M>,
        T: Send + 'static,
    {
        match &self.actor {
            Some(actor) => actor.call(message).await?,
            None => message.perform(Arc::clone(&self.shared)).await,
        }
    }
}

impl fmt::Debug for Jobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jobs").field("shared", &self.shared).finish_non_exhaustive()
    }
}

//! What a handler knows about its run.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

use super::error::JobsError;
use super::job::cut;
use super::meta::Meta;
#[cfg(feature = "sqlx")]
use super::store::postgres::SqlxConnection;
use super::store::postgres::{PgJobs, Session};
use super::store::{Claimed, Settle, Settlement, sqlite};
use super::{JobId, RunKey};
use crate::kernel::RequestContext;
use crate::store::{SqliteTx, Timestamp, WallClock};

/// LIMIT: bytes of what a handler says of its progress.
const PROGRESS_MAX: usize = 1024;

/// What a handler knows about its run. Cheap to clone.
#[derive(Clone)]
pub struct JobCx(Arc<Inner>);

struct Inner {
    claimed: Claimed,
    meta: Meta,
    request: RequestContext,
    clock: WallClock,
    began: Instant,
    began_at: Timestamp,
    keep_done: bool,
    postgres: Option<Arc<PgJobs>>,
    progress: Mutex<Option<Arc<str>>>,
    /// Whether the end is in the handler's own transaction.
    completed: AtomicBool,
}

/// What a run is begun with.
pub(super) struct Begin {
    pub(super) claimed: Claimed,
    pub(super) timeout: Duration,
    pub(super) keep_done: bool,
    pub(super) clock: WallClock,
    /// The tables, where they are in PostgreSQL.
    pub(super) postgres: Option<Arc<PgJobs>>,
}

impl JobCx {
    pub(super) fn new(begin: Begin) -> Self {
        let Begin { claimed, timeout, keep_done, clock, postgres } = begin;
        let meta = Meta::decode(claimed.meta.as_deref());
        let began = Instant::now();
        Self(Arc::new(Inner {
            request: meta.request().with_deadline(began + timeout),
            meta,
            began,
            began_at: clock.now(),
            clock,
            keep_done,
            postgres,
            progress: Mutex::default(),
            completed: AtomicBool::new(false),
            claimed,
        }))
    }

    /// The job.
    #[must_use]
    pub fn id(&self) -> JobId {
        self.0.claimed.key.id
    }

    /// This run of it: the fence that [`complete_in`](Self::complete_in) checks.
    #[must_use]
    pub fn run(&self) -> RunKey {
        self.0.claimed.key
    }

    /// Which attempt this is; the first is 1.
    #[must_use]
    pub fn attempt(&self) -> u16 {
        self.0.claimed.attempt.unsigned_abs()
    }

    /// Whether a failure now is the end of the job.
    #[must_use]
    pub fn is_last_attempt(&self) -> bool {
        self.0.claimed.attempt >= self.0.claimed.max_attempts
    }

    /// A key that is the same in every run of this job: for a service that drops repeats.
    #[must_use]
    pub fn idempotency_key(&self) -> String {
        format!("job-{}", self.id())
    }

    /// Who this is done for, if whoever enqueued it said so.
    #[must_use]
    pub fn tenant(&self) -> Option<&str> {
        self.0.meta.tenant()
    }

    /// The request that enqueued it, with the deadline of this run. The handler runs under it,
    /// so messages to actors inherit it.
    #[must_use]
    pub fn request(&self) -> &RequestContext {
        &self.0.request
    }

    /// The moment the run is dropped and counts as failed.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.0.request.deadline().unwrap_or(self.0.began)
    }

    /// The token that is cancelled when the run should stop.
    #[must_use]
    pub fn cancel_token(&self) -> &CancellationToken {
        self.0.request.cancel_token()
    }

    /// Completes when the run should stop: cancelled, out of time, or the process ends.
    pub fn cancelled(&self) -> WaitForCancellationFuture<'_> {
        self.0.request.cancelled()
    }

    /// Says how far the work is; cut at 1 KiB, written down within seconds, the last word wins.
    pub fn progress(&self, words: impl AsRef<str>) {
        *self.0.progress.lock() = Some(cut(words.as_ref(), PROGRESS_MAX));
    }

    /// Ends the job in the handler's own transaction on SQLite: what the handler did and that it
    /// is done become true together, or not at all. Return `Ok(())` after the commit.
    ///
    /// # Errors
    ///
    /// [`JobsError::Fenced`]: another run has begun. Roll back.
    pub fn complete_in(&self, tx: &SqliteTx<'_>) -> Result<(), JobsError> {
        if self.0.postgres.is_some() {
            return Err(JobsError::ForeignTransaction);
        }
        let ended = sqlite::complete_in(tx, &self.completion(), self.0.clock.now())?;
        self.completed(ended)
    }

    /// Ends the job in the handler's own transaction on PostgreSQL: what the handler did and that
    /// it is done become true together, or not at all. Return `Ok(())` after the commit.
    ///
    /// # Errors
    ///
    /// [`JobsError::Fenced`]: another run has begun. Roll back.
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves it open whether the transaction has the end in it: roll back.
    pub async fn complete_in_postgres(
        &self,
        tx: &tokio_postgres::Transaction<'_>,
    ) -> Result<(), JobsError> {
        self.complete_within(Session::foreign(tx)).await
    }

    /// Ends the job in the handler's own transaction that sqlx has begun on PostgreSQL, as
    /// [`complete_in_postgres`](Self::complete_in_postgres) does. Feature `sqlx`.
    ///
    /// # Errors
    ///
    /// [`JobsError::Fenced`]: another run has begun. Roll back.
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves it open whether the transaction has the end in it: roll back.
    #[cfg(feature = "sqlx")]
    pub async fn complete_in_sqlx(
        &self,
        tx: &mut sqlx::Transaction<'_, sqlx::Postgres>,
    ) -> Result<(), JobsError> {
        self.complete_within(Session::sqlx(&SqlxConnection::new(tx))).await
    }

    pub(crate) async fn complete_within(&self, session: Session<'_>) -> Result<(), JobsError> {
        let tables = self.0.postgres.as_deref().ok_or(JobsError::ForeignTransaction)?;
        let ended = tables.complete_in(session, &self.completion(), self.0.clock.now()).await?;
        self.completed(ended)
    }

    fn completion(&self) -> Settle {
        self.settle(Settlement::Done { keep: self.0.keep_done })
    }

    fn completed(&self, ended: bool) -> Result<(), JobsError> {
        if !ended {
            return Err(JobsError::Fenced);
        }
        self.0.completed.store(true, Ordering::Release);
        Ok(())
    }

    /// Whether the end may be in the tables already, if the handler's transaction was committed.
    pub(super) fn is_completed(&self) -> bool {
        self.0.completed.load(Ordering::Acquire)
    }

    pub(super) fn claimed(&self) -> &Claimed {
        &self.0.claimed
    }

    pub(super) fn take_progress(&self) -> Option<Arc<str>> {
        self.0.progress.lock().take()
    }

    /// How this run ends now.
    pub(super) fn settle(&self, how: Settlement) -> Settle {
        Settle {
            key: self.0.claimed.key,
            how,
            queued: self.0.began_at.since(self.0.claimed.due_at),
            ran: self.0.began.elapsed(),
        }
    }
}

impl fmt::Debug for JobCx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobCx")
            .field("run", &self.run())
            .field("kind", &self.0.claimed.kind)
            .field("attempt", &self.attempt())
            .finish_non_exhaustive()
    }
}

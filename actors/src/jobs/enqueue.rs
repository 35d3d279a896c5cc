//! Adding a job: what it needs is collected, checked and put to the guard before it is stored.

use std::fmt;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use foldhash::fast::FixedState;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::guard::{Admission, Candidate};
use super::handle::Jobs;
use super::job::{EXPIRES_IN, Job, JobPolicy, is_name};
use super::kinds::ARGS_JSON;
use super::meta::Meta;
use super::pool::Pool;
use super::shared::Shared;
use super::store::postgres::Session;
#[cfg(feature = "sqlx")]
use super::store::postgres::SqlxConnection;
use super::store::{Inserted, NewJob, OnConflict, Unique, sqlite};
use super::{Class, JobId, JobsError, messages::InsertJobs};
use crate::store::{SqliteTx, Timestamp};

/// LIMIT: bytes of a unique key; an index entry must fit a page.
const KEY_MAX: usize = 512;
const DELAY_MAX: Duration = Duration::from_secs(365 * 86_400);
/// When there is no better guess, a full queue has room again after this.
const FULL_WAIT: Duration = Duration::from_secs(1);

/// What became of a job that was enqueued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Enqueued {
    /// It is stored and will run when its time comes.
    Accepted(JobId),
    /// There is one with its key already, which is this; nothing was stored.
    Duplicate(JobId),
    /// It took the place of the one with its key that was waiting.
    Replaced(JobId),
    /// There is too much work: it is stored and put off.
    Deferred {
        /// The job.
        id: JobId,
        /// It runs then, or earlier if there is room earlier.
        until: Timestamp,
    },
    /// There is too much work, and its kind asked to be left out then: nothing was stored.
    Skipped,
}

impl Enqueued {
    /// The job that is stored; `None` if it was left out.
    #[must_use]
    pub const fn id(self) -> Option<JobId> {
        match self {
            Self::Accepted(id) | Self::Duplicate(id) | Self::Replaced(id) => Some(id),
            Self::Deferred { id, .. } => Some(id),
            Self::Skipped => None,
        }
    }
}

/// A job to be stored; await it, or put it in a transaction of your own.
///
/// # Errors
///
/// [`JobsError`] says what is wrong with the job, that there is too much work, or how the store
/// failed; [`JobsError::stored_nothing`] whether it may be stored all the same.
///
/// # Cancel safety
///
/// Dropped after it was first polled, the job may be stored or not. With a
/// [unique key](Self::unique), enqueueing it again is safe.
#[must_use = "nothing is stored until it is awaited"]
pub struct Enqueue<'a, J> {
    jobs: &'a Jobs,
    job: J,
    wishes: Wishes,
}

/// What whoever enqueues wants different from the kind's policy.
#[derive(Debug, Default)]
struct Wishes {
    queue: Option<Arc<str>>,
    class: Option<Class>,
    delay: Duration,
    at: Option<Timestamp>,
    expires_in: Option<Duration>,
    key: Option<Arc<[u8]>>,
    key_for: Option<Duration>,
    conflict: OnConflict,
    tenant: Option<Arc<str>>,
}

impl<'a, J: Job> Enqueue<'a, J> {
    pub(super) fn new(jobs: &'a Jobs, job: J) -> Self {
        Self { jobs, job, wishes: Wishes::default() }
    }

    /// The queue, instead of [`Job::QUEUE`].
    pub fn queue(mut self, queue: impl Into<Arc<str>>) -> Self {
        self.wishes.queue = Some(queue.into());
        self
    }

    /// How dear it is, instead of [`Job::CLASS`].
    pub const fn class(mut self, class: Class) -> Self {
        self.wishes.class = Some(class);
        self
    }

    /// Begins not before this has passed; at most 365 days.
    pub const fn delay(mut self, delay: Duration) -> Self {
        self.wishes.delay = delay;
        self
    }

    /// Begins not before this moment.
    pub const fn at(mut self, at: Timestamp) -> Self {
        self.wishes.at = Some(at);
        self
    }

    /// Begins within this or not at all, instead of what its kind says; 1 ms to 365 days.
    pub const fn expires_in(mut self, within: Duration) -> Self {
        self.wishes.expires_in = Some(within);
        self
    }

    /// At most one live job of its kind with this key, 1 to 512 bytes.
    pub fn unique(mut self, key: impl AsRef<[u8]>) -> Self {
        self.wishes.key = Some(key.as_ref().into());
        self
    }

    /// The [key](Self::unique) stays taken for this long, even when the job is done before.
    pub const fn unique_for(mut self, period: Duration) -> Self {
        self.wishes.key_for = Some(period);
        self
    }

    /// What becomes of it while its key is taken. Default [`OnConflict::Keep`].
    pub const fn on_conflict(mut self, conflict: OnConflict) -> Self {
        self.wishes.conflict = conflict;
        self
    }

    /// Who it is done for, cut at 127 bytes: under rising load the guard decides alike for all
    /// jobs of a tenant and kind.
    pub fn tenant(mut self, tenant: impl Into<Arc<str>>) -> Self {
        self.wishes.tenant = Some(tenant.into());
        self
    }

    /// Checks it and puts it to the guard. `None`: it is to be left out.
    pub(super) fn prepare(&self) -> Result<Option<Prepared>, JobsError> {
        prepare(self.jobs.shared(), &self.job, &self.wishes)
    }

    /// Stores it in a transaction of your own on SQLite: it is there if the transaction is.
    ///
    /// # Errors
    ///
    /// As for the whole; after a store's error, roll back.
    pub fn in_sqlite(self, tx: &SqliteTx<'_>) -> Result<Enqueued, JobsError> {
        let shared = self.jobs.shared();
        if shared.postgres.is_some() {
            return Err(JobsError::ForeignTransaction);
        }
        let Some(prepared) = self.prepare()? else {
            return Ok(Enqueued::Skipped);
        };
        let inserted = sqlite::insert_in(tx, &prepared.job, shared.clock.now())?;
        prepared.outcome(shared, inserted)
    }

    /// Stores it in a transaction of your own on PostgreSQL: it is there if the transaction is.
    ///
    /// # Errors
    ///
    /// As for the whole; after a store's error, roll back.
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves it open whether the transaction has the job in it: roll back.
    pub async fn in_postgres(
        self,
        tx: &tokio_postgres::Transaction<'_>,
    ) -> Result<Enqueued, JobsError> {
        self.within(Session::foreign(tx)).await
    }

    /// Stores it in a transaction of your own that sqlx has begun on PostgreSQL: it is there if
    /// the transaction is. Feature `sqlx`.
    ///
    /// # Errors
    ///
    /// As for the whole; after a store's error, roll back.
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves it open whether the transaction has the job in it: roll back.
    #[cfg(feature = "sqlx")]
    pub async fn in_sqlx(
        self,
        tx: &mut sqlx::Transaction<'_, sqlx::Postgres>,
    ) -> Result<Enqueued, JobsError> {
        self.within(Session::sqlx(&SqlxConnection::new(tx))).await
    }

    pub(crate) async fn within(self, session: Session<'_>) -> Result<Enqueued, JobsError> {
        let shared = self.jobs.shared();
        let tables = shared.postgres.as_deref().ok_or(JobsError::ForeignTransaction)?;
        let Some(prepared) = self.prepare()? else {
            return Ok(Enqueued::Skipped);
        };
        let inserted = tables.insert_in(session, &prepared.job, shared.clock.now()).await?;
        prepared.outcome(shared, inserted)
    }
}

impl<'a, J: Job> IntoFuture for Enqueue<'a, J> {
    type Output = Result<Enqueued, JobsError>;
    type IntoFuture = BoxFuture<'a, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        // Prepared at once: the request that is current now is the one that the job belongs to.
        let (jobs, prepared) = (self.jobs, self.prepare());
        async move {
            let Some(prepared) = prepared? else { return Ok(Enqueued::Skipped) };
            let inserted = jobs.ask(InsertJobs { jobs: vec![prepared.job.clone()] }).await?;
            match inserted.first() {
                Some(inserted) => prepared.outcome(jobs.shared(), *inserted),
                None => Err(prepared.lost()),
            }
        }
        .boxed()
    }
}

impl<J> fmt::Debug for Enqueue<'_, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Enqueue").field("wishes", &self.wishes).finish_non_exhaustive()
    }
}

/// A job that was checked, and that the guard lets in.
#[derive(Debug, Clone)]
pub(super) struct Prepared {
    pub(super) job: NewJob,
}

impl Prepared {
    /// The store gave no answer for it.
    pub(super) fn lost(&self) -> JobsError {
        JobsError::QueueFull { queue: Arc::clone(&self.job.queue), retry_after: FULL_WAIT }
    }

    /// What became of it, and the counters that the guard goes by.
    pub(super) fn outcome(
        &self,
        shared: &Shared,
        inserted: Inserted,
    ) -> Result<Enqueued, JobsError> {
        let job = &self.job;
        match inserted {
            Inserted::New(id) => {
                if let Some(pool) = shared.pool(&job.queue) {
                    note(pool, job, shared);
                }
                let until = job.run_at;
                Ok(if job.deferred {
                    Enqueued::Deferred { id, until }
                } else {
                    Enqueued::Accepted(id)
                })
            }
            Inserted::Duplicate(id) => Ok(Enqueued::Duplicate(id)),
            Inserted::Replaced(id) => Ok(Enqueued::Replaced(id)),
            Inserted::QueueFull => {
                let pool = shared.pool(&job.queue);
                let wait =
                    pool.map_or(FULL_WAIT, |pool| pool.guard.load().retry_after.of(job.class));
                Err(JobsError::QueueFull { queue: Arc::clone(&job.queue), retry_after: wait })
            }
        }
    }
}

fn note(pool: &Pool, job: &NewJob, shared: &Shared) {
    pool.tally.since_look.fetch_add(1, Ordering::Relaxed);
    let now = shared.clock.now();
    if job.run_at > now {
        pool.due_in(job.run_at.since(now), tokio::time::Instant::now());
    } else {
        pool.tally.enqueued.fetch_add(1, Ordering::Relaxed);
    }
}

/// Checks a job and puts it to the guard. `None`: it is to be left out.
fn prepare<J: Job>(
    shared: &Shared,
    job: &J,
    wishes: &Wishes,
) -> Result<Option<Prepared>, JobsError> {
    let policy = match shared.kinds.find(J::KIND) {
        Some(kind) => kind.policy.clone(),
        None => J::policy(),
    };
    policy.check()?;
    let args = encode(job, shared.config.payload_max)?;
    let queue = wishes.queue.clone().unwrap_or_else(|| Arc::from(J::QUEUE));
    let invalid = |setting, expected| JobsError::InvalidSetting { setting, expected };
    if !is_name(&queue) || !is_name(J::KIND) {
        return Err(invalid("queue and kind", "1 to 127 bytes"));
    }
    if wishes.delay > DELAY_MAX {
        return Err(invalid("delay", "at most 365 days"));
    }
    if wishes.expires_in.is_some_and(|within| !EXPIRES_IN.contains(&within)) {
        return Err(invalid("expires_in", "1 ms to 365 days"));
    }
    let (now, meta) = (shared.clock.now(), Meta::capture(wishes.tenant.as_deref()));
    let mut new = NewJob {
        class: wishes.class.unwrap_or(J::CLASS),
        kind: Arc::from(J::KIND),
        run_at: wishes.at.unwrap_or(now).max(now.after(wishes.delay)),
        expires_at: wishes.expires_in.or(policy.expires_in).map(|within| now.after(within)),
        max_attempts: i16::try_from(policy.max_attempts).unwrap_or(i16::MAX),
        dependency: policy.dependency.clone(),
        unique: unique(wishes, now)?,
        args,
        args_format: ARGS_JSON,
        meta: meta.encode(),
        deferred: false,
        depth_limit: shared.pool(&queue).and_then(|pool| pool.depth_limit),
        queue,
    };
    let cohort = cohort(meta.tenant(), J::KIND);
    Ok(admit(shared, &mut new, &policy, cohort)?.then_some(Prepared { job: new }))
}

/// Puts a job to the guard, which may put it off. `false`: it is to be left out.
pub(super) fn admit(
    shared: &Shared,
    new: &mut NewJob,
    policy: &JobPolicy,
    cohort: u64,
) -> Result<bool, JobsError> {
    let Some(pool) = shared.pool(&new.queue) else { return Ok(true) };
    let guard = pool.guard.load();
    let candidate = Candidate {
        class: new.class,
        overload: policy.overload,
        cohort,
        deferrals: 0,
        expires_in: new.expires_at.map(|at| at.since(shared.clock.now())),
        admitted_since: pool.tally.since_look.load(Ordering::Relaxed),
        chance: shared.chance.draw(),
    };
    let admission = guard.admit(&candidate);
    let ramped = matches!(new.class, Class::Normal | Class::Sheddable);
    if ramped && admission != Admission::Accept {
        pool.tally.held_back.fetch_add(1, Ordering::Relaxed);
    }
    match admission {
        Admission::Accept => Ok(true),
        Admission::Defer { by } => {
            let now = shared.clock.now();
            // One that is for later anyway is not put off: by then there may be room.
            if new.run_at < now.after(by) {
                new.run_at = now.after(by);
                new.deferred = true;
            }
            Ok(true)
        }
        Admission::Skip => Ok(false),
        Admission::Reject { retry_after } => {
            let (queue, level) = (Arc::clone(&new.queue), guard.level);
            Err(JobsError::Rejected { queue, level, retry_after })
        }
    }
}

/// The same for all jobs of a tenant and kind, in all processes.
pub(super) fn cohort(tenant: Option<&str>, kind: &str) -> u64 {
    FixedState::default().hash_one((tenant, kind))
}

fn encode<J: Job>(job: &J, limit: usize) -> Result<Arc<[u8]>, JobsError> {
    let args = serde_json::to_vec(job)
        .map_err(|error| JobsError::Unencodable(error.to_string().into()))?;
    if args.len() > limit {
        return Err(JobsError::PayloadTooLarge { size: args.len(), limit });
    }
    Ok(args.into())
}

fn unique(wishes: &Wishes, now: Timestamp) -> Result<Option<Unique>, JobsError> {
    let invalid = |setting, expected| Err(JobsError::InvalidSetting { setting, expected });
    let Some(key) = &wishes.key else {
        let alone = wishes.key_for.is_some() || wishes.conflict != OnConflict::Keep;
        return if alone { invalid("unique", "given too") } else { Ok(None) };
    };
    if !(1..=KEY_MAX).contains(&key.len()) {
        return invalid("unique", "1 to 512 bytes");
    }
    let until = wishes.key_for.map(|period| now.after(period));
    Ok(Some(Unique { key: Arc::clone(key), until, conflict: wishes.conflict }))
}

//! What a test sees of the tables, and what it says when that is not what it expects.
//!
//! All of it is read at once, without an `await`, so that a failure points at the line of the
//! test. That is no harm: the tables are in memory, and a thread of their own reads them.

use std::fmt::Write as _;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use rusqlite::{Row, params};
use serde::Serialize;

use super::kit::TestJobs;
use crate::jobs::meta::Meta;
use crate::jobs::store::DeadReason;
use crate::jobs::{Class, Job, JobId, JobState};
use crate::store::{SqliteStore, StoreError, Timestamp};

/// LIMIT: jobs that one look brings.
const ROWS_MAX: u32 = 10_000;
/// LIMIT: jobs that a message tells of.
const TOLD_MAX: usize = 10;

const LIVE: &str = "select id, state, deferred, queue, class, attempt, max_attempts, run_at,
    expires_at, unique_key, dependency, meta, args
    from sf_job where kind = ?1 order by id limit ?2";

const DEAD: &str = "select id, queue, attempt, reason, args,
    coalesce(message, (select sf_error.message from sf_error where job_id = id
        order by sf_error.run desc limit 1)) as message, died_at
    from sf_dead where kind = ?1 order by id limit ?2";

const NEXT_JOB: &str = "select min(run_at) from sf_job where state = 0 and run_at > ?1";

const NEXT_TICK: &str = "select min(next_at) from sf_cron where paused = 0 and next_at > ?1";

/// A job that was enqueued and is not over.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct EnqueuedJob<J> {
    /// Which.
    pub id: JobId,
    /// Its arguments.
    pub job: J,
    /// Where it is in its life.
    pub state: JobState,
    /// Its queue.
    pub queue: Arc<str>,
    /// How dear it is.
    pub class: Class,
    /// Attempts begun.
    pub attempt: i16,
    /// Attempts in all.
    pub max_attempts: i16,
    /// Not before this.
    pub run_at: Timestamp,
    /// Not begun after this.
    pub expires_at: Option<Timestamp>,
    /// Its unique key.
    pub unique: Option<Vec<u8>>,
    /// The dependency whose breaker parks it.
    pub dependency: Option<Arc<str>>,
    /// Who it is done for.
    pub tenant: Option<String>,
    /// The request that enqueued it.
    pub request_id: Option<String>,
}

/// A job that is over without having done its work.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DeadJob<J> {
    /// Which.
    pub id: JobId,
    /// Its arguments.
    pub job: J,
    /// Its queue.
    pub queue: Arc<str>,
    /// Attempts begun.
    pub attempt: i16,
    /// Why.
    pub reason: DeadReason,
    /// What went wrong last.
    pub error: Option<Arc<str>>,
    /// When.
    pub died_at: Timestamp,
}

impl TestJobs {
    /// The jobs of a kind that were enqueued and are not over, in the order of their ids; at
    /// most 10,000.
    ///
    /// # Panics
    ///
    /// If the arguments of one cannot be read as `J`.
    #[must_use]
    #[track_caller]
    pub fn enqueued<J: Job>(&self) -> Vec<EnqueuedJob<J>> {
        rows(self.store(), LIVE, live::<J>)
    }

    /// The dead jobs of a kind, in the order of their ids; at most 10,000.
    ///
    /// # Panics
    ///
    /// If the arguments of one cannot be read as `J`.
    #[must_use]
    #[track_caller]
    pub fn dead<J: Job>(&self) -> Vec<DeadJob<J>> {
        rows(self.store(), DEAD, dead::<J>)
    }

    /// The first of the [enqueued](Self::enqueued) jobs of a kind that `fits`.
    ///
    /// # Panics
    ///
    /// If none does; the message shows those there are.
    #[track_caller]
    pub fn assert_enqueued<J: Job>(&self, mut fits: impl FnMut(&J) -> bool) -> EnqueuedJob<J> {
        let (mut seen, mut found) = (Vec::new(), None);
        for enqueued in self.enqueued::<J>() {
            if found.is_none() && fits(&enqueued.job) {
                found = Some(enqueued);
            } else {
                seen.push(enqueued);
            }
        }
        match found {
            Some(found) => found,
            None => fail(&format!("no job of kind `{}` fits; {}", J::KIND, list(&seen))),
        }
    }

    /// Makes sure that no job of a kind was enqueued, except for those that are over.
    ///
    /// # Panics
    ///
    /// If there is one; the message shows it.
    #[track_caller]
    pub fn refute_enqueued<J: Job>(&self) {
        let enqueued = self.enqueued::<J>();
        if !enqueued.is_empty() {
            fail(&format!("no job of kind `{}` was expected; {}", J::KIND, list(&enqueued)));
        }
    }
}

/// The next moment after `now` at which a job or a periodic job is due.
pub(super) fn next_due(store: &SqliteStore, now: Timestamp) -> Option<Timestamp> {
    let tick = moment(store, NEXT_TICK, now);
    next_job_due(store, now).into_iter().chain(tick).min()
}

/// The next moment after `now` at which a job is due.
pub(super) fn next_job_due(store: &SqliteStore, now: Timestamp) -> Option<Timestamp> {
    moment(store, NEXT_JOB, now)
}

/// Fails the test.
#[expect(clippy::panic, reason = "this is how a test fails")]
#[track_caller]
pub(super) fn fail(message: &str) -> ! {
    panic!("{message}")
}

/// Blocks until a database in memory has answered.
pub(super) fn wait<T>(answer: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    // A task that has done much already would be told to wait for ever: it cannot yield here.
    let mut answer = pin!(tokio::task::unconstrained(answer));
    loop {
        match answer.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(answer) => return answer,
            Poll::Pending => thread::park(),
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn moment(store: &SqliteStore, sql: &'static str, now: Timestamp) -> Option<Timestamp> {
    let read = store.read(move |db| -> Result<Option<i64>, StoreError> {
        Ok(db.query_row(sql, [now.0], |row| row.get(0))?)
    });
    known(wait(read)).map(Timestamp)
}

#[track_caller]
fn known<T>(answer: Result<T, StoreError>) -> T {
    match answer {
        Ok(known) => known,
        Err(error) => fail(&format!("the tables cannot be read: {error:?}")),
    }
}

/// All rows of a kind, as `read` reads them.
#[track_caller]
fn rows<J: Job, T: Send + 'static>(
    store: &SqliteStore,
    sql: &'static str,
    read: fn(&Row<'_>, J) -> rusqlite::Result<T>,
) -> Vec<T> {
    let read = store.read(move |db| -> Result<Vec<Result<T, String>>, StoreError> {
        let mut statement = db.prepare(sql)?;
        let rows = statement.query_map(params![J::KIND, ROWS_MAX], |row| match decode(row)? {
            Ok(job) => read(row, job).map(Ok),
            Err(unreadable) => Ok(Err(unreadable)),
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    });
    let rows: Result<Vec<T>, String> = known(wait(read)).into_iter().collect();
    match rows {
        Ok(rows) => rows,
        Err(unreadable) => fail(&unreadable),
    }
}

fn decode<J: Job>(row: &Row<'_>) -> rusqlite::Result<Result<J, String>> {
    let (id, args): (i64, Vec<u8>) = (row.get("id")?, row.get("args")?);
    Ok(serde_json::from_slice(&args).map_err(|error| {
        let args = String::from_utf8_lossy(&args);
        format!("the arguments of job {id} of kind `{}` cannot be read: {error}: {args}", J::KIND)
    }))
}

fn live<J>(row: &Row<'_>, job: J) -> rusqlite::Result<EnqueuedJob<J>> {
    let meta = Meta::decode(row.get::<_, Option<String>>("meta")?.as_deref());
    let state = match (row.get::<_, i64>("state")?, row.get::<_, bool>("deferred")?) {
        (0, false) => JobState::Ready,
        (1, _) => JobState::Running,
        (_, _) => JobState::Parked,
    };
    Ok(EnqueuedJob {
        id: JobId(row.get("id")?),
        job,
        state,
        queue: row.get("queue")?,
        class: Class::from_number(row.get("class")?).unwrap_or_default(),
        attempt: row.get("attempt")?,
        max_attempts: row.get("max_attempts")?,
        run_at: Timestamp(row.get("run_at")?),
        expires_at: row.get::<_, Option<i64>>("expires_at")?.map(Timestamp),
        unique: row.get("unique_key")?,
        dependency: row.get("dependency")?,
        tenant: meta.tenant().map(str::to_owned),
        request_id: meta.request_id().map(str::to_owned),
    })
}

fn dead<J>(row: &Row<'_>, job: J) -> rusqlite::Result<DeadJob<J>> {
    let reason: String = row.get("reason")?;
    Ok(DeadJob {
        id: JobId(row.get("id")?),
        job,
        queue: row.get("queue")?,
        attempt: row.get("attempt")?,
        reason: DeadReason::parse(&reason).unwrap_or(DeadReason::Discarded),
        error: row.get("message")?,
        died_at: Timestamp(row.get("died_at")?),
    })
}

/// The jobs there are, for a message.
fn list<J: Serialize>(jobs: &[EnqueuedJob<J>]) -> String {
    if jobs.is_empty() {
        return "there is none".to_owned();
    }
    let mut text = format!("there are {}:", jobs.len());
    for enqueued in jobs.iter().take(TOLD_MAX) {
        let args = serde_json::to_string(&enqueued.job).unwrap_or_default();
        let EnqueuedJob { id, state, queue, .. } = enqueued;
        let _infallible = write!(text, "\n  {id} in `{queue}`, {state:?}: {args}");
    }
    if jobs.len() > TOLD_MAX {
        text.push_str("\n  …");
    }
    text
}

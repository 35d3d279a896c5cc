//! Ending runs.

use rusqlite::{Connection, params};

use super::{execute, optional};
use crate::jobs::store::{DeadReason, RunError, Settle, Settlement};
use crate::jobs::{JobId, RunKey};
use crate::store::{SqliteTx, StoreError, Timestamp, millis};

/// LIMIT: errors that are remembered for each job, the newest.
pub(super) const ERRORS_MAX: i32 = 32;

pub(super) const REMEMBER: &str = "insert into sf_done
    (id, queue, kind, class, attempt, run, queued_ms, ran_ms, finished_at)
    select id, queue, kind, class, attempt, run, ?3, ?4, ?5 from sf_job
    where id = ?1 and run = ?2 and state = 1";

pub(super) const END: &str = "delete from sf_job where id = ?1 and run = ?2 and state = 1";

pub(super) const RUNNING: &str = "select queue, cancel, attempt < max_attempts
    from sf_job where id = ?1 and run = ?2 and state = 1";

pub(super) const RETRY: &str = "update sf_job
    set state = 0, node = null, started_at = null, run_at = ?2, due_at = ?2 where id = ?1";

/// A job without a dependency has nobody who would release it, so it is never parked.
pub(super) const RELEASE: &str = "update sf_job set
    state = case when ?3 and dependency is not null then 2 else 0 end,
    node = null, started_at = null, attempt = max(attempt - 1, 0), run_at = ?2,
    due_at = case when ?4 then due_at else ?2 end
    where id = ?1";

/// As for a release, but it can be pulled forward.
pub(super) const PUT_OFF: &str = "update sf_job set state = 0, node = null, started_at = null,
    attempt = max(attempt - 1, 0), run_at = ?2, due_at = ?2, deferred = 1,
    deferrals = min(deferrals + 1, 32767) where id = ?1";

const BURY: &str = "insert into sf_dead
    (id, queue, kind, class, attempt, max_attempts, run, crashes, deferrals, dependency,
    unique_key, args, args_format, meta, created_at, reason, message, died_at)
    select id, queue, kind, class, attempt, max_attempts, run, crashes, deferrals, dependency,
    unique_key, args, args_format, meta, created_at, ?2, ?3, ?4 from sf_job where id = ?1";

const FORGET_JOB: &str = "delete from sf_job where id = ?1";

const NOTE_ERROR: &str = "insert or replace into sf_error (job_id, run, at, message, trace)
    values (?1, ?2, ?3, ?4, ?5)";

const FORGET_OLD_ERRORS: &str = "delete from sf_error where job_id = ?1 and run <=
    (select run from sf_error where job_id = ?1 order by run desc limit 1 offset ?2)";

const FORGET_ERRORS: &str = "delete from sf_error where job_id = ?1";

/// Ends a run in the transaction `tx`, together with what its handler writes there. `false`:
/// the run was over before, so that the transaction must be rolled back.
///
/// # Errors
///
/// What the database says.
pub(crate) fn complete_in(
    tx: &SqliteTx<'_>,
    settle: &Settle,
    now: Timestamp,
) -> Result<bool, StoreError> {
    Ok(settle_one(tx, settle, now)?)
}

/// Ends runs; returns those that were over before.
pub(super) fn settle_all(
    tx: &SqliteTx<'_>,
    settles: &[Settle],
    now: Timestamp,
) -> rusqlite::Result<Vec<RunKey>> {
    let mut stale = Vec::new();
    for settle in settles {
        if !settle_one(tx, settle, now)? {
            stale.push(settle.key);
        }
    }
    Ok(stale)
}

/// Moves a live job to the dead ones.
pub(super) fn bury(
    db: &Connection,
    id: JobId,
    reason: DeadReason,
    message: Option<&str>,
    now: Timestamp,
) -> rusqlite::Result<()> {
    execute(db, BURY, params![id.0, reason.as_str(), message, now.0])?;
    execute(db, FORGET_JOB, [id.0])?;
    Ok(())
}

/// Forgets what went wrong in a job.
pub(super) fn forget_errors(db: &Connection, id: JobId) -> rusqlite::Result<()> {
    execute(db, FORGET_ERRORS, [id.0])?;
    Ok(())
}

/// A job that runs.
struct Running {
    queue: String,
    cancel: bool,
    has_attempts: bool,
}

fn settle_one(tx: &SqliteTx<'_>, settle: &Settle, now: Timestamp) -> rusqlite::Result<bool> {
    if let Settlement::Done { keep } = settle.how {
        return done(tx, settle, keep, now);
    }
    let key = settle.key;
    let Some(running) = running(tx, key)? else { return Ok(false) };
    match &settle.how {
        Settlement::Done { .. } => {}
        Settlement::Retry { run_at, error } => {
            note_error(tx, key, Some(error), now)?;
            match running.end_of_retries() {
                Some(reason) => bury(tx, key.id, reason, Some(&error.message), now)?,
                None => {
                    execute(tx, RETRY, params![key.id.0, run_at.0])?;
                    wake_if_due(tx, &running.queue, *run_at, now);
                }
            }
        }
        Settlement::Release { run_at, parked, keeps_age, error } => {
            note_error(tx, key, error.as_ref(), now)?;
            if running.cancel {
                bury(tx, key.id, DeadReason::Cancelled, message(error.as_ref()), now)?;
            } else {
                execute(tx, RELEASE, params![key.id.0, run_at.0, parked, keeps_age])?;
                wake_if_due(tx, &running.queue, *run_at, now);
            }
        }
        Settlement::PutOff { .. } if running.cancel => {
            bury(tx, key.id, DeadReason::Cancelled, None, now)?;
        }
        Settlement::PutOff { until } => {
            execute(tx, PUT_OFF, params![key.id.0, until.0])?;
            wake_if_due(tx, &running.queue, *until, now);
        }
        Settlement::Dead { reason, error } => {
            note_error(tx, key, error.as_ref(), now)?;
            bury(tx, key.id, *reason, message(error.as_ref()), now)?;
        }
    }
    Ok(true)
}

impl Running {
    /// Why it is not tried again, if it is not.
    const fn end_of_retries(&self) -> Option<DeadReason> {
        if self.cancel {
            Some(DeadReason::Cancelled)
        } else if self.has_attempts {
            None
        } else {
            Some(DeadReason::Discarded)
        }
    }
}

fn done(db: &Connection, settle: &Settle, keep: bool, now: Timestamp) -> rusqlite::Result<bool> {
    let RunKey { id, run } = settle.key;
    if keep {
        let times = (millis(settle.queued), millis(settle.ran));
        if execute(db, REMEMBER, params![id.0, run, times.0, times.1, now.0])? == 0 {
            return Ok(false);
        }
    }
    let ended = execute(db, END, params![id.0, run])? == 1;
    // A first run has no errors. An attempt tells less: a release gives it back.
    if ended && !keep && run > 1 {
        forget_errors(db, id)?;
    }
    Ok(ended)
}

fn running(db: &Connection, key: RunKey) -> rusqlite::Result<Option<Running>> {
    optional(db, RUNNING, params![key.id.0, key.run], |row| {
        Ok(Running { queue: row.get(0)?, cancel: row.get(1)?, has_attempts: row.get(2)? })
    })
}

fn note_error(
    db: &Connection,
    key: RunKey,
    error: Option<&RunError>,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let Some(error) = error else { return Ok(()) };
    let RunKey { id, run } = key;
    execute(db, NOTE_ERROR, params![id.0, run, now.0, error.message, error.trace])?;
    if run > ERRORS_MAX {
        execute(db, FORGET_OLD_ERRORS, params![id.0, ERRORS_MAX])?;
    }
    Ok(())
}

fn message(error: Option<&RunError>) -> Option<&str> {
    error.map(|error| &*error.message)
}

fn wake_if_due(tx: &SqliteTx<'_>, queue: &str, run_at: Timestamp, now: Timestamp) {
    if run_at <= now {
        tx.wake(queue);
    }
}

//! Storing jobs: uniqueness, the exact limit of a queue, and the row itself.

use rusqlite::{Connection, named_params, params};

use super::{execute, optional};
use crate::jobs::JobId;
use crate::jobs::store::{Inserted, NewJob, OnConflict, Unique};
use crate::store::{SqliteTx, StoreError, Timestamp};

pub(super) const LIVE_HOLDER: &str =
    "select id, state = 1 from sf_job where kind = ?1 and unique_key = ?2";

pub(super) const LATE_HOLDER: &str =
    "select job_id from sf_unique_ttl where kind = ?1 and unique_key = ?2 and until > ?3";

/// Counts each state by an index of its own, and stops at the limit.
pub(super) const DEPTH: &str = "select count(*) from (
    select 1 from sf_job where state = 0 and queue = ?1
    union all select 1 from sf_job where state = 1 and queue = ?1
    union all select 1 from sf_job where state = 2 and queue = ?1
    limit ?2)";

pub(super) const ADD: &str = "insert into sf_job (queue, kind, class, run_at, due_at, expires_at,
    max_attempts, deferrals, deferred, dependency, unique_key, args, args_format, meta, created_at)
    values (:queue, :kind, :class, :run_at, :run_at, :expires_at,
    :max_attempts, :deferred, :deferred, :dependency, :key, :args, :args_format, :meta, :now)";

const HOLD_KEY: &str = "insert into sf_unique_ttl (kind, unique_key, job_id, until)
    values (?1, ?2, ?3, ?4)
    on conflict (kind, unique_key) do update set job_id = excluded.job_id, until = excluded.until";

const REPLACE_ARGUMENTS: &str =
    "update sf_job set args = ?2, args_format = ?3, meta = ?4 where id = ?1";

const REPLACE_TIME: &str = "update sf_job
    set run_at = ?2, due_at = ?2, expires_at = ?3, deferred = ?4,
    deferrals = min(deferrals + ?4, 32767) where id = ?1";

const LOSE_KEY: &str = "update sf_job set unique_key = null where id = ?1";

const FORGET_HOLD: &str = "delete from sf_unique_ttl where kind = ?1 and unique_key = ?2";

/// Stores a job in the transaction `tx`, and wakes who waits for its queue once that is
/// committed.
///
/// # Errors
///
/// [`StoreError::Constraint`] for a job that the tables refuse; else what the database says.
pub(crate) fn insert_in(
    tx: &SqliteTx<'_>,
    job: &NewJob,
    now: Timestamp,
) -> Result<Inserted, StoreError> {
    let inserted = insert(tx, job, now)?;
    let stored = match inserted {
        Inserted::New(_) | Inserted::Replaced(_) => true,
        Inserted::Duplicate(_) | Inserted::QueueFull => false,
    };
    if stored && job.run_at <= now {
        tx.wake(&job.queue);
    }
    Ok(inserted)
}

/// Whether another job than `id` holds a key.
pub(super) fn is_taken(
    db: &Connection,
    id: JobId,
    kind: &str,
    key: &[u8],
    now: Timestamp,
) -> rusqlite::Result<bool> {
    Ok(match holder(db, kind, key, now)? {
        Holder::Nobody => false,
        Holder::Waiting(_) | Holder::Running(_) => true,
        Holder::Over(holder) => holder != id,
    })
}

/// Which job holds a unique key.
enum Holder {
    Nobody,
    Waiting(JobId),
    Running(JobId),
    /// It is over, but its key stays taken for a while.
    Over(JobId),
}

fn insert(db: &Connection, job: &NewJob, now: Timestamp) -> rusqlite::Result<Inserted> {
    let mut strips = None;
    if let Some(unique) = &job.unique {
        match (holder(db, &job.kind, &unique.key, now)?, unique.conflict) {
            (Holder::Nobody, _) => {}
            (Holder::Over(id), _)
            | (Holder::Waiting(id) | Holder::Running(id), OnConflict::Keep) => {
                return Ok(Inserted::Duplicate(id));
            }
            (Holder::Waiting(id), OnConflict::Replace | OnConflict::ReplaceKeepTime) => {
                return replace(db, id, job, unique);
            }
            (Holder::Running(id), OnConflict::Replace | OnConflict::ReplaceKeepTime) => {
                strips = Some((id, &unique.key));
            }
        }
    }
    if is_full(db, job)? {
        return Ok(Inserted::QueueFull);
    }
    if let Some((id, key)) = strips {
        execute(db, LOSE_KEY, [id.0])?;
        execute(db, FORGET_HOLD, params![job.kind, key])?;
    }
    add(db, job, now).map(Inserted::New)
}

fn holder(db: &Connection, kind: &str, key: &[u8], now: Timestamp) -> rusqlite::Result<Holder> {
    let live = optional(db, LIVE_HOLDER, params![kind, key], |row| {
        let id = JobId(row.get(0)?);
        Ok(if row.get(1)? { Holder::Running(id) } else { Holder::Waiting(id) })
    })?;
    if let Some(live) = live {
        return Ok(live);
    }
    let late = optional(db, LATE_HOLDER, params![kind, key, now.0], |row| row.get(0))?;
    Ok(late.map_or(Holder::Nobody, |id| Holder::Over(JobId(id))))
}

fn replace(
    db: &Connection,
    id: JobId,
    job: &NewJob,
    unique: &Unique,
) -> rusqlite::Result<Inserted> {
    execute(db, REPLACE_ARGUMENTS, params![id.0, job.args, job.args_format, job.meta])?;
    if unique.conflict == OnConflict::Replace {
        let expires_at = job.expires_at.map(|at| at.0);
        execute(db, REPLACE_TIME, params![id.0, job.run_at.0, expires_at, job.deferred])?;
    }
    hold_key(db, id, job)?;
    Ok(Inserted::Replaced(id))
}

fn is_full(db: &Connection, job: &NewJob) -> rusqlite::Result<bool> {
    let Some(limit) = job.depth_limit else { return Ok(false) };
    let depth = super::count(db, DEPTH, params![job.queue, limit])?;
    Ok(depth >= u64::from(limit))
}

fn add(db: &Connection, job: &NewJob, now: Timestamp) -> rusqlite::Result<JobId> {
    execute(
        db,
        ADD,
        named_params! {
            ":queue": job.queue,
            ":kind": job.kind,
            ":class": job.class.number(),
            ":run_at": job.run_at.0,
            ":expires_at": job.expires_at.map(|at| at.0),
            ":max_attempts": job.max_attempts,
            ":deferred": job.deferred,
            ":dependency": job.dependency,
            ":key": job.unique.as_ref().map(|unique| &*unique.key),
            ":args": job.args,
            ":args_format": job.args_format,
            ":meta": job.meta,
            ":now": now.0,
        },
    )?;
    let id = JobId(db.last_insert_rowid());
    hold_key(db, id, job)?;
    Ok(id)
}

fn hold_key(db: &Connection, id: JobId, job: &NewJob) -> rusqlite::Result<()> {
    if let Some(Unique { key, until: Some(until), conflict: _ }) = &job.unique {
        execute(db, HOLD_KEY, params![job.kind, key, id.0, until.0])?;
    }
    Ok(())
}

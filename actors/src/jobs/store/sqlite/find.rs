//! Looking at jobs.

use std::sync::Arc;

use rusqlite::{Connection, Row};

use super::dead::{FILTER, filtered};
use super::{all, class, count, moment, optional, parsed};
use crate::jobs::store::{Counts, DeadFilter, DeadReason, JobInfo, JobState, RunError};
use crate::jobs::{JobId, RunKey};
use crate::store::Timestamp;

pub(super) const LIVE: &str = "select id, queue, kind, class, state, deferred, attempt, run,
    crashes, run_at, progress,
    (select message from sf_error where job_id = id order by sf_error.run desc limit 1) as message
    from sf_job where id = ?1";

/// The columns of a dead job; where its end has no message, that of its last run stands in.
const DEAD_COLUMNS: &str = "id, queue, kind, class, attempt, run, crashes, reason, died_at,
    coalesce(message, (select sf_error.message from sf_error where job_id = id
        order by sf_error.run desc limit 1)) as message";

pub(super) const DONE: &str =
    "select id, queue, kind, class, attempt, run, finished_at from sf_done where id = ?1";

pub(super) const ERRORS: &str =
    "select run, at, message, trace from sf_error where job_id = ?1 order by run";

/// A job as it is now.
pub(super) fn find(db: &Connection, id: JobId) -> rusqlite::Result<Option<JobInfo>> {
    if let Some(live) = optional(db, LIVE, [id.0], live)? {
        return Ok(Some(live));
    }
    let sql = format!("select {DEAD_COLUMNS} from sf_dead where id = ?1");
    if let Some(dead) = optional(db, &sql, [id.0], dead_info)? {
        return Ok(Some(dead));
    }
    optional(db, DONE, [id.0], done)
}

/// What went wrong in each run.
pub(super) fn errors(
    db: &Connection,
    id: JobId,
) -> rusqlite::Result<Vec<(RunKey, Timestamp, RunError)>> {
    all(db, ERRORS, [id.0], |row| {
        let key = RunKey { id, run: row.get("run")? };
        let error = RunError { message: row.get("message")?, trace: row.get("trace")? };
        Ok((key, moment(row, "at")?, error))
    })
}

/// Dead jobs, by their ids.
pub(super) fn dead(
    db: &Connection,
    filter: &DeadFilter,
    limit: u32,
) -> rusqlite::Result<Vec<JobInfo>> {
    filtered(db, &format!("select {DEAD_COLUMNS} {FILTER}"), filter, limit, dead_info)
}

/// Jobs in each state.
pub(super) fn counts(db: &Connection) -> rusqlite::Result<Counts> {
    let waiting = count(db, "select count(*) from sf_job where state = 0", [])?;
    let put_off = "select count(*) from sf_job where state = 0 and deferred = 1";
    let put_off = count(db, put_off, [])?;
    let parked = count(db, "select count(*) from sf_job where state = 2", [])?;
    Ok(Counts {
        ready: waiting.saturating_sub(put_off),
        running: count(db, "select count(*) from sf_job where state = 1", [])?,
        parked: parked.saturating_add(put_off),
        dead: count(db, "select count(*) from sf_dead", [])?,
        done: count(db, "select count(*) from sf_done", [])?,
    })
}

fn live(row: &Row<'_>) -> rusqlite::Result<JobInfo> {
    let state = match (row.get::<_, i64>("state")?, row.get::<_, bool>("deferred")?) {
        (0, false) => JobState::Ready,
        (1, _) => JobState::Running,
        (_, _) => JobState::Parked,
    };
    Ok(JobInfo {
        crashes: row.get("crashes")?,
        run_at: Some(moment(row, "run_at")?),
        error: row.get("message")?,
        progress: row.get("progress")?,
        ..info(row, state)?
    })
}

fn dead_info(row: &Row<'_>) -> rusqlite::Result<JobInfo> {
    Ok(JobInfo {
        crashes: row.get("crashes")?,
        reason: Some(parsed(row, "reason", DeadReason::parse)?),
        error: row.get::<_, Option<Arc<str>>>("message")?,
        finished_at: Some(moment(row, "died_at")?),
        ..info(row, JobState::Dead)?
    })
}

fn done(row: &Row<'_>) -> rusqlite::Result<JobInfo> {
    Ok(JobInfo { finished_at: Some(moment(row, "finished_at")?), ..info(row, JobState::Done)? })
}

/// What all jobs have, wherever they are.
fn info(row: &Row<'_>, state: JobState) -> rusqlite::Result<JobInfo> {
    Ok(JobInfo {
        id: JobId(row.get("id")?),
        queue: row.get("queue")?,
        kind: row.get("kind")?,
        class: class(row)?,
        state,
        attempt: row.get("attempt")?,
        run: row.get("run")?,
        crashes: 0,
        run_at: None,
        reason: None,
        error: None,
        progress: None,
        finished_at: None,
    })
}

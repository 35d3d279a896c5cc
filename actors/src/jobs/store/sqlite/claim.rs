//! Claiming runs, and what is said of them while they last.

use std::sync::Arc;

use rusqlite::{Connection, Row, params};

use super::{all, class, execute, moment, optional};
use crate::jobs::store::{Claim, Claimed};
use crate::jobs::{Class, JobId, NodeId, RunKey};
use crate::store::Timestamp;

pub(super) const IS_PAUSED: &str =
    "select 1 from sf_queue where name in (?1, '*') and paused = 1 limit 1";

pub(super) const RUNNING: &str = "select count(*) from
    (select 1 from sf_job where state = 1 and queue = ?1 limit ?2)";

/// What the guard put off and what is charged with a crash differ from here on: a retry is not
/// to be pulled forward, and a suspect has not begun until its process says so.
pub(super) const CLAIM: &str = "update sf_job set
    state = 1, run = run + 1, attempt = attempt + 1, node = ?5, deferred = 0,
    started_at = case when crashes > 0 then null else ?3 end
    where id in (select id from sf_job where state = 0 and queue = ?1 and class = ?2
        and run_at <= ?3 order by run_at, id limit ?4)
    returning id, run, kind, class, attempt, max_attempts, crashes, deferrals, due_at,
        expires_at, dependency, args, args_format, meta, created_at, run_at";

const BEGIN: &str = "update sf_job set started_at = ?3 where id = ?1 and run = ?2 and state = 1";

const PROGRESS: &str = "update sf_job set progress = ?3 where id = ?1 and run = ?2 and state = 1";

/// A suspect that has not begun does not say when it was claimed.
pub(super) const RUNS_OF: &str = "select id, run from sf_job indexed by sf_job_running
    where state = 1 and node = ?1 and (started_at is null or started_at < ?2) order by id";

/// Claims due jobs.
pub(super) fn claim(
    db: &Connection,
    claim: &Claim,
    now: Timestamp,
) -> rusqlite::Result<Vec<Claimed>> {
    if optional(db, IS_PAUSED, [&claim.queue], |_| Ok(()))?.is_some() {
        return Ok(Vec::new());
    }
    let mut free = free(db, claim)?;
    let mut claimed = Vec::new();
    for (class, want) in Class::ALL.into_iter().zip(claim.wants) {
        let want = u32::from(want).min(free);
        if want > 0 {
            let got = claim_class(db, claim, class, want, now)?;
            free = free.saturating_sub(u32::try_from(got.len()).unwrap_or(u32::MAX));
            claimed.extend(got);
        }
    }
    Ok(claimed)
}

/// Says that a suspect begins.
pub(super) fn begin_suspect(
    db: &Connection,
    key: RunKey,
    now: Timestamp,
) -> rusqlite::Result<bool> {
    Ok(execute(db, BEGIN, params![key.id.0, key.run, now.0])? == 1)
}

/// Writes down what handlers say.
pub(super) fn progress(db: &Connection, reports: &[(RunKey, Arc<str>)]) -> rusqlite::Result<()> {
    for (key, report) in reports {
        execute(db, PROGRESS, params![key.id.0, key.run, report])?;
    }
    Ok(())
}

/// The runs of a process that were claimed before a moment.
pub(super) fn runs_of(
    db: &Connection,
    node: NodeId,
    before: Timestamp,
) -> rusqlite::Result<Vec<RunKey>> {
    all(db, RUNS_OF, params![node.to_string(), before.0], run_key)
}

/// How many more may run in the queue.
fn free(db: &Connection, claim: &Claim) -> rusqlite::Result<u32> {
    let Some(limit) = claim.running_limit else { return Ok(u32::MAX) };
    let running = super::count(db, RUNNING, params![claim.queue, limit])?;
    Ok(limit.saturating_sub(u32::try_from(running).unwrap_or(u32::MAX)))
}

fn claim_class(
    db: &Connection,
    claim: &Claim,
    class: Class,
    want: u32,
    now: Timestamp,
) -> rusqlite::Result<Vec<Claimed>> {
    let node = claim.node.to_string();
    let params = params![claim.queue, class.number(), now.0, want, node];
    let mut rows = all(db, CLAIM, params, |row| Ok((moment(row, "run_at")?, claimed(row)?)))?;
    // SQLite returns changed rows in no order.
    rows.sort_unstable_by_key(|(run_at, claimed)| (*run_at, claimed.key.id));
    Ok(rows.into_iter().map(|(_, claimed)| claimed).collect())
}

fn claimed(row: &Row<'_>) -> rusqlite::Result<Claimed> {
    Ok(Claimed {
        key: run_key(row)?,
        kind: row.get("kind")?,
        class: class(row)?,
        attempt: row.get("attempt")?,
        max_attempts: row.get("max_attempts")?,
        crashes: row.get("crashes")?,
        deferrals: row.get("deferrals")?,
        due_at: moment(row, "due_at")?,
        expires_at: row.get::<_, Option<i64>>("expires_at")?.map(Timestamp),
        dependency: row.get("dependency")?,
        args: row.get("args")?,
        args_format: row.get("args_format")?,
        meta: row.get("meta")?,
        created_at: moment(row, "created_at")?,
    })
}

fn run_key(row: &Row<'_>) -> rusqlite::Result<RunKey> {
    Ok(RunKey { id: JobId(row.get("id")?), run: row.get("run")? })
}

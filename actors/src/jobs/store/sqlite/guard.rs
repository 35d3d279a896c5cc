//! What the guard asks and does: depths, parking, pulling forward, shedding and pausing.

use std::sync::Arc;

use rusqlite::{Connection, params};

use super::claim::IS_PAUSED;
use super::{all, change_and_wake, count, execute, optional, rows, settle};
use crate::jobs::store::{DeadReason, Depths, QueueRow};
use crate::jobs::{Class, JobId};
use crate::store::{SqliteTx, Timestamp};

/// The name that stands for all queues.
pub(super) const ALL_QUEUES: &str = "*";

/// LIMIT: dependencies that are told of at once.
const DEPENDENCIES_MAX: usize = 1_000;

pub(super) const READY: &str = "select count(*), min(due_at) from (select due_at from sf_job
    where state = 0 and queue = ?1 and class = ?2 and run_at <= ?3 limit ?4)";

pub(super) const RUNNING: &str = super::claim::RUNNING;

pub(super) const DEFERRED: &str = "select count(*) from (select 1 from sf_job
    where state = 0 and deferred = 1 and queue = ?1 and run_at > ?2 limit ?3)";

pub(super) const PARKED: &str =
    "select count(*) from (select 1 from sf_job where state = 2 and queue = ?1 limit ?2)";

pub(super) const PARK: &str = "update sf_job set state = 2 where id in
    (select id from sf_job where dependency = ?1 and state = 0 order by run_at, id limit ?2)";

/// One that was parked before its time still waits for that.
pub(super) const RELEASE: &str = "update sf_job set state = 0, due_at = max(run_at, ?3)
    where id in
    (select id from sf_job where dependency = ?1 and state = 2 order by run_at, id limit ?2)
    returning queue";

pub(super) const NEXT_DEPENDENCY: &str =
    "select dependency from sf_job where dependency > ?1 order by dependency limit 1";

pub(super) const PARKED_FOR: &str =
    "select count(*) from (select 1 from sf_job where dependency = ?1 and state = 2 limit ?2)";

/// There is room for it, so it is as if it had never been put off.
pub(super) const PULL_FORWARD: &str = "update sf_job
    set run_at = ?3, due_at = ?3, deferred = 0, deferrals = 0 where id in
    (select id from sf_job where state = 0 and deferred = 1 and queue = ?1 and run_at > ?3
        order by run_at, id limit ?2)
    returning queue";

pub(super) const EXPIRED: &str = "select id from sf_job where state = 0 and queue = ?1
    and expires_at < ?2 order by expires_at limit ?3";

pub(super) const OF_CLASS: &str = "select id from sf_job where state = 0 and queue = ?1
    and class = ?2 and run_at <= ?3 order by run_at, id limit ?4";

const PAUSE: &str = "insert into sf_queue (name, paused, changed_at) values (?1, ?2, ?3)
    on conflict (name) do update set paused = excluded.paused, changed_at = excluded.changed_at";

const QUEUES: &str = "select name, paused from sf_queue order by name";

/// How full a queue is.
pub(super) fn depths(
    db: &Connection,
    queue: &str,
    limit: u32,
    now: Timestamp,
) -> rusqlite::Result<Depths> {
    let mut depths = Depths {
        running: count(db, RUNNING, params![queue, limit])?,
        deferred: count(db, DEFERRED, params![queue, now.0, limit])?,
        parked: count(db, PARKED, params![queue, limit])?,
        paused: optional(db, IS_PAUSED, [queue], |_| Ok(()))?.is_some(),
        ..Depths::default()
    };
    let classes = Class::ALL.iter().zip(&mut depths.ready).zip(&mut depths.oldest_due);
    for ((class, ready), oldest_due) in classes {
        let params = params![queue, class.number(), now.0, limit];
        let found = optional(db, READY, params, |row| {
            Ok((row.get::<_, i64>(0)?.unsigned_abs(), row.get::<_, Option<i64>>(1)?))
        })?;
        let (number, oldest) = found.unwrap_or_default();
        *ready = number;
        *oldest_due = oldest.map(Timestamp);
    }
    Ok(depths)
}

/// Parks ready jobs of a dependency.
pub(super) fn park(db: &Connection, dependency: &str, limit: u32) -> rusqlite::Result<u64> {
    execute(db, PARK, params![dependency, limit]).map(rows)
}

/// Makes parked jobs of a dependency ready.
pub(super) fn release(
    tx: &SqliteTx<'_>,
    dependency: &str,
    limit: u32,
    now: Timestamp,
) -> rusqlite::Result<u64> {
    change_and_wake(tx, RELEASE, params![dependency, limit, now.0])
}

/// Dependencies with parked jobs. Goes from one to the next, so that it costs nothing how many
/// jobs each has.
pub(super) fn parked(db: &Connection, limit: u32) -> rusqlite::Result<Vec<(Arc<str>, u64)>> {
    let mut found = Vec::new();
    let mut last: Arc<str> = "".into();
    for _ in 0..DEPENDENCIES_MAX {
        let next = optional(db, NEXT_DEPENDENCY, [&last], |row| row.get(0))?;
        let Some(dependency) = next else { break };
        last = dependency;
        let parked = count(db, PARKED_FOR, params![last, limit])?;
        if parked > 0 {
            found.push((Arc::clone(&last), parked));
        }
    }
    Ok(found)
}

/// Makes jobs due that were put off.
pub(super) fn pull_forward(
    tx: &SqliteTx<'_>,
    queue: &str,
    limit: u32,
    now: Timestamp,
) -> rusqlite::Result<u64> {
    change_and_wake(tx, PULL_FORWARD, params![queue, limit, now.0])
}

/// Gives ready jobs up.
pub(super) fn shed(
    db: &Connection,
    queue: &str,
    class: Option<Class>,
    limit: u32,
    now: Timestamp,
) -> rusqlite::Result<u64> {
    let ids = all(db, EXPIRED, params![queue, now.0, limit], |row| row.get(0).map(JobId))?;
    bury_all(db, &ids, DeadReason::Expired, now)?;
    let expired = rows(ids.len());
    let Some(class) = class else { return Ok(expired) };
    let left = u64::from(limit).saturating_sub(expired).cast_signed();
    let params = params![queue, class.number(), now.0, left];
    let ids = all(db, OF_CLASS, params, |row| row.get(0).map(JobId))?;
    bury_all(db, &ids, DeadReason::Shed, now)?;
    Ok(expired.saturating_add(rows(ids.len())))
}

/// Pauses or resumes a queue.
pub(super) fn pause(
    tx: &SqliteTx<'_>,
    queue: &str,
    paused: bool,
    now: Timestamp,
) -> rusqlite::Result<()> {
    execute(tx, PAUSE, params![queue, paused, now.0])?;
    if !paused {
        tx.wake(queue);
    }
    Ok(())
}

/// All queues that were ever paused.
pub(super) fn queues(db: &Connection) -> rusqlite::Result<Vec<QueueRow>> {
    all(db, QUEUES, [], |row| Ok(QueueRow { name: row.get(0)?, paused: row.get(1)? }))
}

fn bury_all(
    db: &Connection,
    ids: &[JobId],
    reason: DeadReason,
    now: Timestamp,
) -> rusqlite::Result<()> {
    ids.iter().try_for_each(|id| settle::bury(db, *id, reason, None, now))
}

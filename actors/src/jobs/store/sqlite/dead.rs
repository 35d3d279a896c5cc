//! The end of jobs and what comes after it: cancelling, trying again, replaying, pruning.

use rusqlite::{Connection, named_params, params};

use super::insert::is_taken;
use super::settle::{bury, forget_errors};
use super::{all, execute, optional, parsed, rows};
use crate::jobs::store::{Cancelled, DeadFilter, DeadReason, Pruned, Replayed};
use crate::jobs::{JobId, NodeId};
use crate::store::{SqliteTx, Timestamp};

/// Which dead jobs are meant; the parameters are those of [`find::dead`](super::find::dead).
pub(super) const FILTER: &str = "from sf_dead where id > :after
    and (:queue is null or queue = :queue) and (:kind is null or kind = :kind)
    and (:reason is null or reason = :reason) and died_at >= :since
    order by id limit :limit";

const STATE: &str = "select state = 1, node from sf_job where id = ?1";

const IS_OVER: &str = "select 1 from sf_done where id = ?1
    union all select 1 from sf_dead where id = ?1";

const WISH_CANCEL: &str = "update sf_job set cancel = 1 where id = ?1";

/// One that is due already keeps its place.
const HURRY: &str = "update sf_job set state = 0, deferred = 0, deferrals = 0,
    run_at = min(run_at, ?2), due_at = case when state = 2 or run_at > ?2 then ?2 else due_at end
    where id = ?1 and state <> 1 returning queue";

const CORPSE: &str = "select queue, kind, unique_key from sf_dead where id = ?1";

/// Whatever took its process with it stays a suspect, but gets its other chances back. It may
/// have died because its time was over, so it gets no end this time.
const RESURRECT: &str = "insert into sf_job (id, queue, kind, class, run_at, due_at, attempt,
    max_attempts, run, crashes, deferrals, dependency, unique_key, args, args_format, meta,
    created_at)
    select id, queue, kind, class, ?2, ?2, case when ?3 then 0 else attempt end,
    case when ?3 then max_attempts else max(max_attempts, attempt + 1) end, run + 1,
    min(crashes, 1), deferrals, dependency, unique_key, args, args_format, meta, created_at
    from sf_dead where id = ?1";

const FORGET_CORPSE: &str = "delete from sf_dead where id = ?1";

pub(super) const PRUNE_DONE: &str = "delete from sf_done where id in
    (select id from sf_done where finished_at < ?1 order by finished_at limit ?2) returning id";

pub(super) const PRUNE_DEAD: &str = "delete from sf_dead where id in
    (select id from sf_dead where died_at < ?1 order by died_at limit ?2) returning id";

pub(super) const PRUNE_KEYS: &str = "delete from sf_unique_ttl where (kind, unique_key) in
    (select kind, unique_key from sf_unique_ttl where until <= ?1 order by until limit ?2)";

/// Cancels a job.
pub(super) fn cancel(db: &Connection, id: JobId, now: Timestamp) -> rusqlite::Result<Cancelled> {
    let running = optional(db, STATE, [id.0], |row| {
        Ok(if row.get(0)? { Some(parsed(row, "node", NodeId::parse)?) } else { None })
    })?;
    match running {
        Some(Some(node)) => {
            execute(db, WISH_CANCEL, [id.0])?;
            Ok(Cancelled::Running(node))
        }
        Some(None) => {
            bury(db, id, DeadReason::Cancelled, None, now)?;
            Ok(Cancelled::Queued)
        }
        None if optional(db, IS_OVER, [id.0], |_| Ok(()))?.is_some() => Ok(Cancelled::Over),
        None => Ok(Cancelled::Unknown),
    }
}

/// Makes a job that waits due, or a dead one ready with one more attempt at least.
pub(super) fn retry(tx: &SqliteTx<'_>, id: JobId, now: Timestamp) -> rusqlite::Result<bool> {
    if super::change_and_wake(tx, HURRY, params![id.0, now.0])? == 1 {
        return Ok(true);
    }
    Ok(resurrect(tx, id, false, now)? == Resurrected::Ready)
}

/// Makes dead jobs ready with all their attempts.
pub(super) fn replay(
    tx: &SqliteTx<'_>,
    filter: &DeadFilter,
    limit: u32,
    now: Timestamp,
) -> rusqlite::Result<Replayed> {
    let ids = filtered(tx, &format!("select id {FILTER}"), filter, limit, |row| {
        row.get("id").map(JobId)
    })?;
    let mut replayed = Replayed { last: ids.last().copied(), ..Replayed::default() };
    for id in ids {
        match resurrect(tx, id, true, now)? {
            Resurrected::Ready => replayed.moved += 1,
            Resurrected::Taken => replayed.duplicates += 1,
            Resurrected::Unknown => {}
        }
    }
    Ok(replayed)
}

/// Forgets what was over before these moments.
pub(super) fn prune(
    db: &Connection,
    done_before: Timestamp,
    dead_before: Timestamp,
    limit: u32,
    now: Timestamp,
) -> rusqlite::Result<Pruned> {
    Ok(Pruned {
        done: forget(db, PRUNE_DONE, done_before, limit)?,
        dead: forget(db, PRUNE_DEAD, dead_before, limit)?,
        keys: rows(execute(db, PRUNE_KEYS, params![now.0, limit])?),
    })
}

/// The rows of dead jobs that `filter` means.
pub(super) fn filtered<T>(
    db: &Connection,
    sql: &str,
    filter: &DeadFilter,
    limit: u32,
    read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    let params = named_params! {
        ":after": filter.after.map_or(i64::MIN, |id| id.0),
        ":queue": filter.queue,
        ":kind": filter.kind,
        ":reason": filter.reason.map(DeadReason::as_str),
        ":since": filter.since.map_or(i64::MIN, |since| since.0),
        ":limit": limit,
    };
    all(db, sql, params, read)
}

/// What became of a dead job that was to be tried again.
#[derive(PartialEq, Eq)]
enum Resurrected {
    Ready,
    /// Another job has its key.
    Taken,
    Unknown,
}

fn resurrect(
    tx: &SqliteTx<'_>,
    id: JobId,
    all_attempts: bool,
    now: Timestamp,
) -> rusqlite::Result<Resurrected> {
    let corpse = optional(tx, CORPSE, [id.0], |row| {
        let key: Option<Vec<u8>> = row.get("unique_key")?;
        Ok((row.get::<_, String>("queue")?, row.get::<_, String>("kind")?, key))
    })?;
    let Some((queue, kind, key)) = corpse else { return Ok(Resurrected::Unknown) };
    if let Some(key) = key
        && is_taken(tx, id, &kind, &key, now)?
    {
        return Ok(Resurrected::Taken);
    }
    execute(tx, RESURRECT, params![id.0, now.0, all_attempts])?;
    execute(tx, FORGET_CORPSE, [id.0])?;
    tx.wake(&queue);
    Ok(Resurrected::Ready)
}

/// Runs a statement that forgets jobs, and forgets their errors.
fn forget(db: &Connection, sql: &str, before: Timestamp, limit: u32) -> rusqlite::Result<u64> {
    let ids = all(db, sql, params![before.0, limit], |row| row.get(0).map(JobId))?;
    ids.iter().try_for_each(|id| forget_errors(db, *id))?;
    Ok(rows(ids.len()))
}

//! Periodic jobs.

use rusqlite::{Connection, Row, named_params, params};

use super::{class, execute, moment};
use crate::jobs::store::CronRow;
use crate::store::Timestamp;

const PUT: &str = "insert into sf_cron (name, spec, time_zone, queue, kind, class, max_attempts,
    args, args_format, backfill_ms, next_at, last_at, paused)
    values (:name, :spec, :time_zone, :queue, :kind, :class, :max_attempts,
    :args, :args_format, :backfill_ms, :next_at, :last_at, :paused)
    on conflict (name) do update set
    next_at = case when spec = excluded.spec and time_zone = excluded.time_zone
        then next_at else excluded.next_at end,
    spec = excluded.spec, time_zone = excluded.time_zone, queue = excluded.queue,
    kind = excluded.kind, class = excluded.class, max_attempts = excluded.max_attempts,
    args = excluded.args, args_format = excluded.args_format, backfill_ms = excluded.backfill_ms";

const REMOVE: &str = "delete from sf_cron where name = ?1";

const PAUSE: &str = "update sf_cron set paused = ?2 where name = ?1";

const ALL: &str = "select name, spec, time_zone, queue, kind, class, max_attempts, args,
    args_format, backfill_ms, next_at, last_at, paused from sf_cron order by name";

const TICK: &str = "update sf_cron set next_at = ?3, last_at = ?2 where name = ?1 and next_at = ?2";

/// Declares a periodic job.
pub(super) fn put(db: &Connection, cron: &CronRow) -> rusqlite::Result<()> {
    execute(
        db,
        PUT,
        named_params! {
            ":name": cron.name,
            ":spec": cron.spec,
            ":time_zone": cron.time_zone,
            ":queue": cron.queue,
            ":kind": cron.kind,
            ":class": cron.class.number(),
            ":max_attempts": cron.max_attempts,
            ":args": cron.args,
            ":args_format": cron.args_format,
            ":backfill_ms": cron.backfill_ms,
            ":next_at": cron.next_at.0,
            ":last_at": cron.last_at.map(|at| at.0),
            ":paused": cron.paused,
        },
    )?;
    Ok(())
}

/// Removes a periodic job.
pub(super) fn remove(db: &Connection, name: &str) -> rusqlite::Result<bool> {
    Ok(execute(db, REMOVE, [name])? == 1)
}

/// Pauses or resumes a periodic job.
pub(super) fn pause(db: &Connection, name: &str, paused: bool) -> rusqlite::Result<bool> {
    Ok(execute(db, PAUSE, params![name, paused])? == 1)
}

/// All periodic jobs.
pub(super) fn all(db: &Connection) -> rusqlite::Result<Vec<CronRow>> {
    super::all(db, ALL, [], cron)
}

/// Moves a periodic job from one tick to the next; `false` if it stands at another.
pub(super) fn tick(
    db: &Connection,
    name: &str,
    from: Timestamp,
    to: Timestamp,
) -> rusqlite::Result<bool> {
    Ok(execute(db, TICK, params![name, from.0, to.0])? == 1)
}

fn cron(row: &Row<'_>) -> rusqlite::Result<CronRow> {
    Ok(CronRow {
        name: row.get("name")?,
        spec: row.get("spec")?,
        time_zone: row.get("time_zone")?,
        queue: row.get("queue")?,
        kind: row.get("kind")?,
        class: class(row)?,
        max_attempts: row.get("max_attempts")?,
        args: row.get("args")?,
        args_format: row.get("args_format")?,
        backfill_ms: row.get("backfill_ms")?,
        next_at: moment(row, "next_at")?,
        last_at: row.get::<_, Option<i64>>("last_at")?.map(Timestamp),
        paused: row.get("paused")?,
    })
}

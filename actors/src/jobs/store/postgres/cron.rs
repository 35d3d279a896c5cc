//! Periodic jobs.

use std::sync::Arc;

use tokio_postgres::types::Type;

use super::PgSql;
use super::decode::{class, moment, text};
use super::insert::{Enqueued, insert_all};
use super::session::{Param, Row, Session, statements};
use crate::jobs::store::{CronRow, Inserted};
use crate::store::{PgClient, StoreError, Timestamp, postgres};

statements! {
    CronSql {
        put: "insert into {schema}.cron
                     (name, spec, time_zone, queue, kind, class, max_attempts, args, args_format,
                      backfill_ms, next_at, last_at, paused)
              values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
              on conflict (name) do update
              set next_at = case when cron.spec = excluded.spec
                                  and cron.time_zone = excluded.time_zone
                                 then cron.next_at else excluded.next_at end,
                  spec = excluded.spec, time_zone = excluded.time_zone, queue = excluded.queue,
                  kind = excluded.kind, class = excluded.class,
                  max_attempts = excluded.max_attempts, args = excluded.args,
                  args_format = excluded.args_format, backfill_ms = excluded.backfill_ms",
        remove: "delete from {schema}.cron where name = $1 returning name",
        pause: "update {schema}.cron set paused = $2 where name = $1 returning name",
        all: "select name, spec, time_zone, queue, kind, class, max_attempts, args, args_format,
                     backfill_ms, next_at, last_at, paused
                from {schema}.cron order by name",
        tick: "update {schema}.cron set next_at = $3, last_at = $2
                where name = $1 and next_at = $2 returning name",
    }
}

/// Declares a periodic job.
pub(super) async fn put(
    session: Session<'_>,
    sql: &PgSql,
    cron: &CronRow,
) -> Result<(), StoreError> {
    let (class, last_at) = (cron.class.number(), cron.last_at.map(|at| at.0));
    let params: [Param<'_>; 13] = [
        (&&*cron.name, Type::TEXT),
        (&&*cron.spec, Type::TEXT),
        (&&*cron.time_zone, Type::TEXT),
        (&&*cron.queue, Type::TEXT),
        (&&*cron.kind, Type::TEXT),
        (&class, Type::INT2),
        (&cron.max_attempts, Type::INT2),
        (&&*cron.args, Type::BYTEA),
        (&cron.args_format, Type::INT2),
        (&cron.backfill_ms, Type::INT8),
        (&cron.next_at.0, Type::INT8),
        (&last_at, Type::INT8),
        (&cron.paused, Type::BOOL),
    ];
    session.rows(&sql.cron.put, &params).await.map(drop)
}

/// Removes a periodic job.
pub(super) async fn remove(
    session: Session<'_>,
    sql: &PgSql,
    name: &str,
) -> Result<bool, StoreError> {
    Ok(!session.rows(&sql.cron.remove, &[(&name, Type::TEXT)]).await?.is_empty())
}

/// Pauses or resumes a periodic job.
pub(super) async fn pause(
    session: Session<'_>,
    sql: &PgSql,
    name: &str,
    paused: bool,
) -> Result<bool, StoreError> {
    let params: [Param<'_>; 2] = [(&name, Type::TEXT), (&paused, Type::BOOL)];
    Ok(!session.rows(&sql.cron.pause, &params).await?.is_empty())
}

/// All periodic jobs.
pub(super) async fn all(session: Session<'_>, sql: &PgSql) -> Result<Vec<CronRow>, StoreError> {
    session.rows(&sql.cron.all, &[]).await?.iter().map(cron).collect()
}

/// Moves a periodic job from one tick to the next and stores jobs; what became of them. `None`,
/// and nothing stored: it stands at another tick.
pub(super) async fn tick(
    mut client: PgClient,
    sql: Arc<PgSql>,
    name: Arc<str>,
    from: Timestamp,
    to: Timestamp,
    jobs: &[Enqueued],
) -> Result<Option<Vec<Inserted>>, StoreError> {
    let transaction = client.transaction().await?;
    let session = Session::within(&transaction);
    let params: [Param<'_>; 3] =
        [(&&*name, Type::TEXT), (&from.0, Type::INT8), (&to.0, Type::INT8)];
    if session.rows(&sql.cron.tick, &params).await?.is_empty() {
        return Ok(None);
    }
    let inserted = insert_all(session, &sql, jobs).await?;
    postgres::commit(transaction).await?;
    Ok(Some(inserted))
}

fn cron(row: &Row) -> Result<CronRow, StoreError> {
    Ok(CronRow {
        name: text(row, 0)?,
        spec: text(row, 1)?,
        time_zone: text(row, 2)?,
        queue: text(row, 3)?,
        kind: text(row, 4)?,
        class: class(row.try_get(5)?)?,
        max_attempts: row.try_get(6)?,
        args: row.try_get::<&[u8]>(7)?.into(),
        args_format: row.try_get(8)?,
        backfill_ms: row.try_get(9)?,
        next_at: moment(row, 10)?,
        last_at: row.try_get::<Option<i64>>(11)?.map(Timestamp),
        paused: row.try_get(12)?,
    })
}

//! What the guard asks and does: depths, parking, pulling forward, shedding and pausing.

use std::sync::Arc;

use tokio_postgres::types::Type;

use super::PgSql;
use super::decode::{class, count, rows as length, text};
use super::session::{Param, Row, Session, statements};
use super::settle::Bury;
use crate::jobs::store::{DeadReason, Depths, QueueRow};
use crate::jobs::{Class, JobId};
use crate::store::{PgClient, StoreError, Timestamp, postgres};

// Goes from one dependency to the next, so that it costs nothing how many jobs each has.
macro_rules! dependencies {
    () => {
        "with recursive dependencies(name) as (
           (select dependency from {schema}.job where dependency is not null
             order by dependency limit 1)
           union all
           select (select j.dependency from {schema}.job j where j.dependency > d.name
                    order by j.dependency limit 1)
             from dependencies d where d.name is not null)"
    };
}

/// Changes the jobs that `$pick` names, oldest first.
macro_rules! moves {
    ($pick:literal, $change:literal) => {
        concat!(
            "with picked as materialized (
               select id from {schema}.job where ",
            $pick,
            "
                order by run_at, id limit $2 for update skip locked),
             moved as (
               update {schema}.job set ",
            $change,
            "
                where id = any(array(select id from picked)) returning queue)
             select count(*), array_agg(distinct queue) from moved"
        )
    };
}

statements! {
    GuardSql {
        // Each in the order of an index, as the exact depth.
        depths: "select c.class, r.ready, r.oldest,
                    (select count(*) from (
                       select from {schema}.job
                        where state = 1 and node is not null and queue = $1
                        order by node limit $2) running),
                    (select count(*) from (
                       select from {schema}.job
                        where state = 0 and deferred and queue = $1 and run_at > $3
                        order by run_at, id limit $2) deferred),
                    (select count(*) from (
                       select from {schema}.job where state = 2 and queue between $1 and $1
                        order by queue limit $2) parked),
                    exists (select from {schema}.queue where name in ($1, '*') and paused)
               from (values (0::smallint), (1::smallint), (2::smallint), (3::smallint)) c(class)
              cross join lateral (
                select count(*) as ready, min(due_at) as oldest from (
                  select due_at from {schema}.job
                   where state = 0 and queue = $1 and class = c.class and run_at <= $3
                   order by run_at, id limit $2::bigint) due) r",
        park: moves!("dependency = $1 and state = 0", "state = 2"),
        // One that was parked before its time still waits for that.
        release: moves!(
            "dependency = $1 and state = 2", "state = 0, due_at = greatest(run_at, $3::bigint)"
        ),
        // There is room for it, so it is as if it had never been put off.
        pull_forward: moves!(
            "state = 0 and deferred and queue = $1 and run_at > $3",
            "run_at = $3, due_at = $3, deferred = false, deferrals = 0"
        ),
        parked: concat!(
            dependencies!(),
            "select d.name, p.parked from dependencies d cross join lateral (
               select count(*) as parked from (
                 select from {schema}.job j where j.dependency = d.name and j.state = 2
                  limit $1::bigint) one) p
              where d.name is not null and p.parked > 0 order by d.name"
        ),
        expired: "select id from {schema}.job
                   where state = 0 and queue = $1 and expires_at < $2
                   order by expires_at limit $3 for update skip locked",
        of_class: "select id from {schema}.job
                    where state = 0 and queue = $1 and class = $2 and run_at <= $3
                    order by run_at, id limit $4 for update skip locked",
        pause: "insert into {schema}.queue (name, paused, changed_at) values ($1, $2, $3)
                on conflict (name) do update
                set paused = excluded.paused, changed_at = excluded.changed_at",
        queues: "select name, paused from {schema}.queue order by name",
    }
}

/// How many jobs were changed, and in which queues.
pub(super) type Moved = (u64, Vec<Arc<str>>);

/// How full a queue is.
pub(super) async fn depths(
    session: Session<'_>,
    sql: &PgSql,
    queue: &str,
    limit: u32,
    now: Timestamp,
) -> Result<Depths, StoreError> {
    let limit = i64::from(limit);
    let params: [Param<'_>; 3] = [(&queue, Type::TEXT), (&limit, Type::INT8), (&now.0, Type::INT8)];
    let mut depths = Depths::default();
    for row in session.rows(&sql.guard.depths, &params).await? {
        let place = class(row.try_get(0)?)?.index();
        let slots = (depths.ready.get_mut(place), depths.oldest_due.get_mut(place));
        if let (Some(ready), Some(oldest)) = slots {
            *ready = count(&row, 1)?;
            *oldest = row.try_get::<Option<i64>>(2)?.map(Timestamp);
        }
        depths.running = count(&row, 3)?;
        depths.deferred = count(&row, 4)?;
        depths.parked = count(&row, 5)?;
        depths.paused = row.try_get(6)?;
    }
    Ok(depths)
}

/// Parks ready jobs of a dependency.
pub(super) async fn park(
    session: Session<'_>,
    sql: &PgSql,
    dependency: &str,
    limit: u32,
) -> Result<u64, StoreError> {
    let limit = i64::from(limit);
    let params: [Param<'_>; 2] = [(&dependency, Type::TEXT), (&limit, Type::INT8)];
    Ok(moved(&session.row(&sql.guard.park, &params).await?)?.0)
}

/// Makes parked jobs of a dependency ready.
pub(super) async fn release(
    session: Session<'_>,
    sql: &PgSql,
    dependency: &str,
    limit: u32,
    now: Timestamp,
) -> Result<Moved, StoreError> {
    change(session, &sql.guard.release, dependency, limit, now).await
}

/// Makes jobs due that were put off.
pub(super) async fn pull_forward(
    session: Session<'_>,
    sql: &PgSql,
    queue: &str,
    limit: u32,
    now: Timestamp,
) -> Result<Moved, StoreError> {
    change(session, &sql.guard.pull_forward, queue, limit, now).await
}

/// Dependencies with parked jobs.
pub(super) async fn parked(
    session: Session<'_>,
    sql: &PgSql,
    limit: u32,
) -> Result<Vec<(Arc<str>, u64)>, StoreError> {
    let rows = session.rows(&sql.guard.parked, &[(&i64::from(limit), Type::INT8)]).await?;
    rows.iter().map(|row| Ok((text(row, 0)?, count(row, 1)?))).collect()
}

/// Gives ready jobs up.
pub(super) async fn shed(
    mut client: PgClient,
    sql: Arc<PgSql>,
    queue: Arc<str>,
    class: Option<Class>,
    limit: u32,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let transaction = client.transaction().await?;
    let session = Session::within(&transaction);
    let limit = i64::from(limit);
    let params: [Param<'_>; 3] =
        [(&&*queue, Type::TEXT), (&now.0, Type::INT8), (&limit, Type::INT8)];
    let expired = session.rows(&sql.guard.expired, &params).await?;
    let mut gone = length(&expired);
    bury(session, &sql, &expired, DeadReason::Expired, now).await?;
    if let Some(class) = class {
        let (class, left) = (class.number(), limit.saturating_sub_unsigned(gone));
        let params: [Param<'_>; 4] = [
            (&&*queue, Type::TEXT),
            (&class, Type::INT2),
            (&now.0, Type::INT8),
            (&left, Type::INT8),
        ];
        let shed = session.rows(&sql.guard.of_class, &params).await?;
        gone = gone.saturating_add(length(&shed));
        bury(session, &sql, &shed, DeadReason::Shed, now).await?;
    }
    postgres::commit(transaction).await?;
    Ok(gone)
}

/// Pauses or resumes a queue.
pub(super) async fn pause(
    session: Session<'_>,
    sql: &PgSql,
    queue: &str,
    paused: bool,
    now: Timestamp,
) -> Result<(), StoreError> {
    let params: [Param<'_>; 3] =
        [(&queue, Type::TEXT), (&paused, Type::BOOL), (&now.0, Type::INT8)];
    session.rows(&sql.guard.pause, &params).await.map(drop)
}

/// All queues that were ever paused.
pub(super) async fn queues(session: Session<'_>, sql: &PgSql) -> Result<Vec<QueueRow>, StoreError> {
    let rows = session.rows(&sql.guard.queues, &[]).await?;
    let queue = |row: &Row| Ok(QueueRow { name: text(row, 0)?, paused: row.try_get(1)? });
    rows.iter().map(queue).collect()
}

async fn change(
    session: Session<'_>,
    sql: &str,
    of: &str,
    limit: u32,
    now: Timestamp,
) -> Result<Moved, StoreError> {
    let limit = i64::from(limit);
    let params: [Param<'_>; 3] = [(&of, Type::TEXT), (&limit, Type::INT8), (&now.0, Type::INT8)];
    moved(&session.row(sql, &params).await?)
}

fn moved(row: &Row) -> Result<Moved, StoreError> {
    let queues: Option<Vec<&str>> = row.try_get(1)?;
    Ok((count(row, 0)?, queues.unwrap_or_default().into_iter().map(Into::into).collect()))
}

async fn bury(
    session: Session<'_>,
    sql: &PgSql,
    rows: &[Row],
    reason: DeadReason,
    now: Timestamp,
) -> Result<(), StoreError> {
    let mut bury = Bury::at(now);
    for row in rows {
        bury.push(JobId(row.try_get(0)?), reason, None, 0);
    }
    bury.carry_out(session, sql).await
}

//! What comes after the end of jobs: trying again, replaying, pruning, counting.

use std::sync::Arc;

use tokio_postgres::types::Type;

use super::PgSql;
use super::decode::count;
use super::runs::{dead_columns, info};
use super::session::{Param, Session, statements};
use crate::jobs::JobId;
use crate::jobs::store::{Counts, DeadFilter, DeadReason, JobInfo, Pruned, Replayed};
use crate::store::{StoreError, Timestamp};

/// Whatever took its process with it stays a suspect, but gets its other chances back. It may
/// have died because its time was over, so it gets no end this time.
macro_rules! resurrected {
    ($pick:literal, $now:literal, $attempt:literal, $max_attempts:literal) => {
        concat!(
            "with looked as materialized (
               select * from {schema}.dead where ",
            $pick,
            " for update skip locked),
             back as (
               insert into {schema}.job
                      (id, queue, kind, class, run_at, due_at, attempt, max_attempts, run,
                       crashes, deferrals, dependency, unique_key, args, args_format, meta,
                       created_at)
               overriding system value
               select id, queue, kind, class, ",
            $now,
            "::bigint, ",
            $now,
            ", ",
            $attempt,
            ",
                      ",
            $max_attempts,
            ", run + 1, least(crashes, 1), deferrals, dependency,
                      unique_key, args, args_format, meta, created_at
                 from looked l
                where not exists (
                  select from {schema}.unique_ttl t
                   where t.kind = l.kind and t.unique_key = l.unique_key
                     and t.until > ",
            $now,
            " and t.job_id <> l.id)
                order by kind collate \"C\", unique_key, id
               on conflict (kind, unique_key) where unique_key is not null do nothing
               returning id, queue),
             gone as (
               delete from {schema}.dead where id = any(array(select id from back)))
             select count(*), array_agg(distinct queue), (select count(*) from looked),
                    (select max(id) from looked)
               from back"
        )
    };
}

macro_rules! pruned {
    ($table:literal, $over_at:literal) => {
        concat!(
            "with gone as (
               delete from {schema}.",
            $table,
            " where id = any(array(
                 select id from {schema}.",
            $table,
            " where ",
            $over_at,
            " < $1
                  order by ",
            $over_at,
            " limit $2)) returning id),
             clean as (
               delete from {schema}.error where job_id = any(array(select id from gone)))
             select count(*) from gone"
        )
    };
}

statements! {
    DeadSql {
        // One that is due already keeps its place.
        hurry: "update {schema}.job
                   set state = 0, deferred = false, deferrals = 0,
                       run_at = least(run_at, $2::bigint),
                       due_at = case when state = 2 or run_at > $2 then $2 else due_at end
                 where id = $1 and node is null returning queue",
        retry: resurrected!("id = $1", "$2", "attempt", "greatest(max_attempts, attempt + 1)"),
        replay: resurrected!(
            "id > $1 and ($2::text is null or queue = $2) and ($3::text is null or kind = $3)
               and ($4::text is null or reason = $4) and died_at >= $5 order by id limit $6",
            "$7", "0", "max_attempts"
        ),
        list: concat!(
            "select ", dead_columns!(), " from {schema}.dead d
              where d.id > $1 and ($2::text is null or d.queue = $2)
                and ($3::text is null or d.kind = $3) and ($4::text is null or d.reason = $4)
                and d.died_at >= $5 order by d.id limit $6"
        ),
        prune_done: pruned!("done", "finished_at"),
        prune_dead: pruned!("dead", "died_at"),
        prune_keys: "with gone as (
                       delete from {schema}.unique_ttl where ctid = any(array(
                         select ctid from {schema}.unique_ttl where until <= $1
                          order by until limit $2 for update skip locked)) returning 1)
                     select count(*) from gone",
        counts: "select count(*) filter (where state = 0 and not deferred),
                        count(*) filter (where state = 1),
                        count(*) filter (where state = 2 or state = 0 and deferred),
                        (select count(*) from {schema}.dead), (select count(*) from {schema}.done)
                   from {schema}.job",
    }
}

/// Makes a job that waits due, or a dead one ready with one more attempt at least. `None`: it
/// is neither, or its key is taken. Else the queue it is ready in.
pub(super) async fn retry(
    session: Session<'_>,
    sql: &PgSql,
    id: JobId,
    now: Timestamp,
) -> Result<Option<Arc<str>>, StoreError> {
    let params: [Param<'_>; 2] = [(&id.0, Type::INT8), (&now.0, Type::INT8)];
    let waiting = session.rows(&sql.dead.hurry, &params).await?;
    if let Some(row) = waiting.first() {
        return super::decode::text(row, 0).map(Some);
    }
    let row = session.row(&sql.dead.retry, &params).await?;
    let queues: Option<Vec<&str>> = row.try_get(1)?;
    Ok(queues.and_then(|queues| queues.first().map(|queue| (*queue).into())))
}

/// Makes dead jobs ready with all their attempts; also the queues they are ready in.
pub(super) async fn replay(
    session: Session<'_>,
    sql: &PgSql,
    filter: &DeadFilter,
    limit: u32,
    now: Timestamp,
) -> Result<(Replayed, Vec<Arc<str>>), StoreError> {
    let filter = Filter::of(filter, limit);
    let mut params = filter.params().to_vec();
    params.push((&now.0, Type::INT8));
    let row = session.row(&sql.dead.replay, &params).await?;
    let moved = count(&row, 0)?;
    let queues: Option<Vec<&str>> = row.try_get(1)?;
    let replayed = Replayed {
        moved,
        duplicates: count(&row, 2)?.saturating_sub(moved),
        last: row.try_get::<Option<i64>>(3)?.map(JobId),
    };
    Ok((replayed, queues.unwrap_or_default().into_iter().map(Into::into).collect()))
}

/// Dead jobs, by their ids.
pub(super) async fn list(
    session: Session<'_>,
    sql: &PgSql,
    filter: &DeadFilter,
    limit: u32,
) -> Result<Vec<JobInfo>, StoreError> {
    let filter = Filter::of(filter, limit);
    session.rows(&sql.dead.list, &filter.params()).await?.iter().map(info).collect()
}

/// Forgets what was over before these moments, in three transactions, each of which may stand
/// alone.
pub(super) async fn prune(
    session: Session<'_>,
    sql: &PgSql,
    done_before: Timestamp,
    dead_before: Timestamp,
    limit: u32,
    now: Timestamp,
) -> Result<Pruned, StoreError> {
    let limit = i64::from(limit);
    let done = pruned(session, &sql.dead.prune_done, done_before, limit).await?;
    let dead = pruned(session, &sql.dead.prune_dead, dead_before, limit).await?;
    let keys = pruned(session, &sql.dead.prune_keys, now, limit).await?;
    Ok(Pruned { done, dead, keys })
}

/// Jobs in each state.
pub(super) async fn counts(session: Session<'_>, sql: &PgSql) -> Result<Counts, StoreError> {
    let row = session.row(&sql.dead.counts, &[]).await?;
    Ok(Counts {
        ready: count(&row, 0)?,
        running: count(&row, 1)?,
        parked: count(&row, 2)?,
        dead: count(&row, 3)?,
        done: count(&row, 4)?,
    })
}

async fn pruned(
    session: Session<'_>,
    sql: &str,
    before: Timestamp,
    limit: i64,
) -> Result<u64, StoreError> {
    let params: [Param<'_>; 2] = [(&before.0, Type::INT8), (&limit, Type::INT8)];
    count(&session.row(sql, &params).await?, 0)
}

/// A [`DeadFilter`] as it is bound.
struct Filter<'a> {
    after: i64,
    queue: Option<&'a str>,
    kind: Option<&'a str>,
    reason: Option<&'static str>,
    since: i64,
    limit: i64,
}

impl<'a> Filter<'a> {
    fn of(filter: &'a DeadFilter, limit: u32) -> Self {
        Self {
            after: filter.after.map_or(i64::MIN, |id| id.0),
            queue: filter.queue.as_deref(),
            kind: filter.kind.as_deref(),
            reason: filter.reason.map(DeadReason::as_str),
            since: filter.since.map_or(i64::MIN, |since| since.0),
            limit: limit.into(),
        }
    }

    fn params(&self) -> [Param<'_>; 6] {
        [
            (&self.after, Type::INT8),
            (&self.queue, Type::TEXT),
            (&self.kind, Type::TEXT),
            (&self.reason, Type::TEXT),
            (&self.since, Type::INT8),
            (&self.limit, Type::INT8),
        ]
    }
}

//! Stores one job whose key outlives it or takes another's place, or whose queue has an exact
//! limit.

use tokio_postgres::types::Type;

use super::PgSql;
use super::insert::{TRIES, flickers, insert_plain};
use super::session::{Param, Session, statements};
use crate::jobs::JobId;
use crate::jobs::store::{Inserted, NewJob, OnConflict, Unique};
use crate::store::{StoreError, Timestamp};

statements! {
    ExactSql {
        lock_depth: "select pg_advisory_xact_lock(hashtextextended('{schema}.depth ' || $1::text, 0))",
        // In the order of an index, also where that is by no more than the queue: a scan of the
        // whole table that stops at the limit looks cheap, and reads all of it where the jobs of
        // another queue come first.
        depth: "select count(*) from (
                  (select from {schema}.job where state = 0 and queue = $1
                    order by class, run_at, id limit $2::bigint)
                  union all
                  (select from {schema}.job where state = 1 and node is not null and queue = $1
                    order by node limit $2::bigint)
                  union all
                  (select from {schema}.job where state = 2 and queue between $1 and $1
                    order by queue limit $2::bigint)
                ) live",
        // Locked, so that it is neither claimed nor settled meanwhile.
        holder: "select id, state = 1 from {schema}.job where kind = $1 and unique_key = $2 for update",
        remembered: "select job_id from {schema}.unique_ttl
                      where kind = $1 and unique_key = $2 and until > $3",
        replace: "update {schema}.job set
                    args = $2, args_format = $3, meta = $4,
                    run_at = case when $5 then $6 else run_at end,
                    due_at = case when $5 then $6 else due_at end,
                    expires_at = case when $5 then $7 else expires_at end,
                    deferred = case when $5 then $8 else deferred end,
                    deferrals = least(deferrals + ($5 and $8)::int, 32767)
                  where id = $1",
        strip: "with other as (update {schema}.job set unique_key = null where id = $1)
                delete from {schema}.unique_ttl where kind = $2 and unique_key = $3",
        remember: "insert into {schema}.unique_ttl (kind, unique_key, job_id, until)
                   values ($1, $2, $3, $4)
                   on conflict (kind, unique_key)
                   do update set job_id = excluded.job_id, until = excluded.until",
    }
}

/// Lets one transaction at a time count this queue.
pub(super) async fn lock_depth(
    session: Session<'_>,
    sql: &PgSql,
    queue: &str,
) -> Result<(), StoreError> {
    session.rows(&sql.exact.lock_depth, &[(&queue, Type::TEXT)]).await.map(drop)
}

/// Stores one job in the transaction that is open. Its queue is locked if it has a limit.
pub(super) async fn insert_exactly(
    session: Session<'_>,
    sql: &PgSql,
    job: &NewJob,
    now: Timestamp,
) -> Result<Inserted, StoreError> {
    for _ in 0..TRIES {
        if let Some(answer) = yield_to(session, sql, job, now).await? {
            return Ok(answer);
        }
        let answers = insert_plain(session, sql, &[&(job.clone(), now)]).await?;
        if let Some(Inserted::New(id)) = answers.first().copied() {
            remember(session, sql, job, id).await?;
            return Ok(Inserted::New(id));
        }
    }
    Err(flickers())
}

async fn is_full(session: Session<'_>, sql: &PgSql, job: &NewJob) -> Result<bool, StoreError> {
    let Some(limit) = job.depth_limit else { return Ok(false) };
    let limit = i64::from(limit);
    let params: [Param<'_>; 2] = [(&&*job.queue, Type::TEXT), (&limit, Type::INT8)];
    let count: i64 = session.row(&sql.exact.depth, &params).await?.try_get(0)?;
    Ok(count >= limit)
}

/// What keeps a job from being stored as a new one, if anything does.
async fn yield_to(
    session: Session<'_>,
    sql: &PgSql,
    job: &NewJob,
    now: Timestamp,
) -> Result<Option<Inserted>, StoreError> {
    let Some(unique) = &job.unique else {
        return Ok(is_full(session, sql, job).await?.then_some(Inserted::QueueFull));
    };
    let other = holder(session, sql, job, unique, now).await?;
    match (other, unique.conflict) {
        (Holder::Over(id), _) | (Holder::Waiting(id) | Holder::Running(id), OnConflict::Keep) => {
            return Ok(Some(Inserted::Duplicate(id)));
        }
        (Holder::Waiting(id), OnConflict::Replace | OnConflict::ReplaceKeepTime) => {
            replace(session, sql, job, id, unique.conflict == OnConflict::Replace).await?;
            return Ok(Some(Inserted::Replaced(id)));
        }
        (Holder::Running(_) | Holder::Nobody, _) => {}
    }
    if is_full(session, sql, job).await? {
        return Ok(Some(Inserted::QueueFull));
    }
    if let Holder::Running(id) = other {
        let params: [Param<'_>; 3] =
            [(&id.0, Type::INT8), (&&*job.kind, Type::TEXT), (&&*unique.key, Type::BYTEA)];
        session.rows(&sql.exact.strip, &params).await?;
    }
    Ok(None)
}

/// Which job holds a unique key.
#[derive(Clone, Copy)]
enum Holder {
    Nobody,
    Waiting(JobId),
    Running(JobId),
    /// It is over, but its key stays taken for a while.
    Over(JobId),
}

async fn holder(
    session: Session<'_>,
    sql: &PgSql,
    job: &NewJob,
    unique: &Unique,
    now: Timestamp,
) -> Result<Holder, StoreError> {
    let (kind, key) = (&*job.kind, &*unique.key);
    let params: [Param<'_>; 3] = [(&kind, Type::TEXT), (&key, Type::BYTEA), (&now.0, Type::INT8)];
    let [kind, key, _] = &params;
    let live = session.rows(&sql.exact.holder, &[kind.clone(), key.clone()]).await?;
    if let Some(live) = live.first() {
        let id = JobId(live.try_get(0)?);
        return Ok(if live.try_get(1)? { Holder::Running(id) } else { Holder::Waiting(id) });
    }
    let over = session.rows(&sql.exact.remembered, &params).await?;
    let id = over.first().map(|row| row.try_get(0)).transpose()?;
    Ok(id.map_or(Holder::Nobody, |id| Holder::Over(JobId(id))))
}

/// Gives a waiting job the arguments of another, and its time if `with_time`.
async fn replace(
    session: Session<'_>,
    sql: &PgSql,
    job: &NewJob,
    id: JobId,
    with_time: bool,
) -> Result<(), StoreError> {
    let params: [Param<'_>; 8] = [
        (&id.0, Type::INT8),
        (&&*job.args, Type::BYTEA),
        (&job.args_format, Type::INT2),
        (&job.meta.as_deref(), Type::TEXT),
        (&with_time, Type::BOOL),
        (&job.run_at.0, Type::INT8),
        (&job.expires_at.map(|at| at.0), Type::INT8),
        (&job.deferred, Type::BOOL),
    ];
    session.rows(&sql.exact.replace, &params).await?;
    remember(session, sql, job, id).await
}

/// Keeps the key taken when the job is over.
async fn remember(
    session: Session<'_>,
    sql: &PgSql,
    job: &NewJob,
    id: JobId,
) -> Result<(), StoreError> {
    let Some(unique) = &job.unique else { return Ok(()) };
    let Some(until) = unique.until else { return Ok(()) };
    let params: [Param<'_>; 4] = [
        (&&*job.kind, Type::TEXT),
        (&&*unique.key, Type::BYTEA),
        (&id.0, Type::INT8),
        (&until.0, Type::INT8),
    ];
    session.rows(&sql.exact.remember, &params).await.map(drop)
}

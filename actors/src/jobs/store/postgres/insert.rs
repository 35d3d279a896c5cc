//! Stores jobs: plain ones all in one statement, the others one by one in one transaction.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio_postgres::types::Type;

use super::PgSql;
use super::exact::insert_exactly;
use super::session::{Row, Session, defect, statements};
use crate::jobs::JobId;
use crate::jobs::store::{Inserted, NewJob, OnConflict};
use crate::store::{PgClient, StoreError, Timestamp, postgres};

/// LIMIT: how often a job is tried again whose key was taken by one that is gone by now.
pub(super) const TRIES: usize = 3;

/// LIMIT: rows of one statement.
const ROWS_MAX: usize = 1_000;

macro_rules! new_rows {
    () => {
        "unnest($1::text[], $2::text[], $3::smallint[], $4::bigint[], $5::bigint[], $6::smallint[],
                $7::text[], $8::bytea[], $9::bytea[], $10::smallint[], $11::text[], $12::boolean[],
                $13::bigint[])
           with ordinality u(queue, kind, class, run_at, expires_at, max_attempts, dependency,
                             unique_key, args, args_format, meta, deferred, created_at, ord)"
    };
}

macro_rules! new_columns {
    () => {
        "queue, kind, class, run_at, due_at, expires_at, max_attempts, dependency, unique_key,
         args, args_format, meta, deferred, deferrals, created_at"
    };
}

macro_rules! new_values {
    () => {
        "queue, kind, class, run_at, run_at, expires_at, max_attempts, dependency, unique_key,
         args, args_format, meta, deferred, deferred::int, created_at"
    };
}

statements! {
    InsertSql {
        // The identity is drawn after the sort, so the ids rise in the order of the jobs.
        free: concat!(
            "insert into {schema}.job (", new_columns!(), ")
             select ", new_values!(), " from ", new_rows!(), " order by ord returning id"
        ),
        // ORDER: by key. Two batches that want the same keys in another order would wait for
        // each other.
        keyed: concat!(
            "with new as materialized (
               select nextval('{schema}.job_id_seq') as id, u.*,
                      (select t.job_id from {schema}.unique_ttl t
                        where t.kind = u.kind and t.unique_key = u.unique_key
                          and t.until > u.created_at) as holder
                 from ", new_rows!(), "),
             stored as (
               insert into {schema}.job (id, ", new_columns!(), ") overriding system value
               select id, ", new_values!(), " from new where holder is null
                order by kind collate \"C\", unique_key, ord
               on conflict (kind, unique_key) where unique_key is not null do nothing
               returning id)
             select n.id, n.id in (select id from stored) as fresh,
                    coalesce(n.holder, (select j.id from {schema}.job j
                                         where j.kind = n.kind and j.unique_key = n.unique_key))
               from new n order by n.ord"
        ),
    }
}

/// A job and when it was enqueued.
pub(super) type Enqueued = (NewJob, Timestamp);

/// Whether one statement can store it together with others.
pub(super) fn is_plain(job: &NewJob) -> bool {
    let is_kept = |unique: &crate::jobs::store::Unique| {
        unique.until.is_none() && unique.conflict == OnConflict::Keep
    };
    job.depth_limit.is_none() && job.unique.as_ref().is_none_or(is_kept)
}

/// Stores jobs, each for itself. The answers are in their order.
pub(super) async fn insert(
    mut client: PgClient,
    sql: Arc<PgSql>,
    jobs: &[Enqueued],
) -> Result<Vec<Inserted>, StoreError> {
    if jobs.len() <= ROWS_MAX && jobs.iter().all(|(job, _)| is_plain(job)) {
        return insert_plain(Session::single(&client), &sql, &jobs.iter().collect::<Vec<_>>())
            .await;
    }
    let transaction = client.transaction().await?;
    let answers = insert_all(Session::within(&transaction), &sql, jobs).await?;
    postgres::commit(transaction).await?;
    Ok(answers)
}

/// Stores jobs in the transaction that is open.
pub(super) async fn insert_all(
    session: Session<'_>,
    sql: &PgSql,
    jobs: &[Enqueued],
) -> Result<Vec<Inserted>, StoreError> {
    let mut answers = vec![None; jobs.len()];
    let (free, mut exact): (Vec<usize>, Vec<usize>) =
        (0..jobs.len()).partition(|place| jobs.get(*place).is_some_and(|(job, _)| is_free(job)));
    for places in free.chunks(ROWS_MAX) {
        let rows: Vec<_> = places.iter().filter_map(|place| jobs.get(*place)).collect();
        fill(&mut answers, places, insert_plain(session, sql, &rows).await?);
    }
    // ORDER: by queue, then by key, so that no two transactions wait for each other.
    lock_queues(session, sql, jobs).await?;
    exact.sort_by_key(|place| jobs.get(*place).map(|(job, _)| key_of(job)));
    for place in exact {
        let Some((job, now)) = jobs.get(place) else { continue };
        fill(&mut answers, &[place], vec![insert_exactly(session, sql, job, *now).await?]);
    }
    answers.into_iter().map(|answer| answer.ok_or_else(|| defect("a job has no answer"))).collect()
}

fn is_free(job: &NewJob) -> bool {
    job.depth_limit.is_none() && job.unique.is_none()
}

fn key_of(job: &NewJob) -> (Arc<str>, Option<Arc<[u8]>>) {
    (Arc::clone(&job.kind), job.unique.as_ref().map(|unique| Arc::clone(&unique.key)))
}

fn fill(answers: &mut [Option<Inserted>], places: &[usize], found: Vec<Inserted>) {
    for (place, found) in places.iter().zip(found) {
        if let Some(answer) = answers.get_mut(*place) {
            *answer = Some(found);
        }
    }
}

async fn lock_queues(
    session: Session<'_>,
    sql: &PgSql,
    jobs: &[Enqueued],
) -> Result<(), StoreError> {
    let limited = jobs.iter().filter(|(job, _)| job.depth_limit.is_some());
    let queues: BTreeSet<_> = limited.map(|(job, _)| Arc::clone(&job.queue)).collect();
    for queue in queues {
        super::exact::lock_depth(session, sql, &queue).await?;
    }
    Ok(())
}

/// Stores plain jobs in one statement, and once more those whose key was taken by a job that
/// cannot be seen: it was stored after the statement had begun, or is over by now.
pub(super) async fn insert_plain(
    session: Session<'_>,
    sql: &PgSql,
    jobs: &[&Enqueued],
) -> Result<Vec<Inserted>, StoreError> {
    if jobs.iter().all(|(job, _)| job.unique.is_none()) {
        return insert_free(session, sql, jobs).await;
    }
    let mut answers = vec![None; jobs.len()];
    let mut open: Vec<usize> = (0..jobs.len()).collect();
    for _ in 0..TRIES {
        let rows: Vec<_> = open.iter().filter_map(|place| jobs.get(*place).copied()).collect();
        for (place, found) in open.iter().zip(insert_keyed(session, sql, &rows).await?) {
            if let Some(answer) = answers.get_mut(*place) {
                *answer = found;
            }
        }
        open.retain(|place| answers.get(*place).is_some_and(Option::is_none));
        if open.is_empty() {
            return Ok(answers.into_iter().flatten().collect());
        }
    }
    Err(flickers())
}

/// Other rows of the batch are stored, so nobody may believe that nothing was written.
pub(super) fn flickers() -> StoreError {
    let what = "the key was taken and free again each time it was tried";
    StoreError::OutcomeUnknown(StoreError::source(std::io::Error::other(what)))
}

async fn insert_free(
    session: Session<'_>,
    sql: &PgSql,
    jobs: &[&Enqueued],
) -> Result<Vec<Inserted>, StoreError> {
    let columns = Columns::of(jobs);
    let rows = session.rows(&sql.insert.free, &columns.params()).await?;
    rows.iter().map(|row| Ok(Inserted::New(JobId(row.try_get(0)?)))).collect()
}

/// `None` for a job whose key is taken, nobody knows by whom.
async fn insert_keyed(
    session: Session<'_>,
    sql: &PgSql,
    jobs: &[&Enqueued],
) -> Result<Vec<Option<Inserted>>, StoreError> {
    let columns = Columns::of(jobs);
    let rows = session.rows(&sql.insert.keyed, &columns.params()).await?;
    let answer = |row: &Row| {
        Ok(if row.try_get(1)? {
            Some(Inserted::New(JobId(row.try_get(0)?)))
        } else {
            row.try_get::<Option<i64>>(2)?.map(|id| Inserted::Duplicate(JobId(id)))
        })
    };
    rows.iter().map(answer).collect()
}

/// Jobs, column by column.
#[derive(Default)]
struct Columns<'a> {
    queues: Vec<&'a str>,
    kinds: Vec<&'a str>,
    classes: Vec<i16>,
    run_ats: Vec<i64>,
    expires_ats: Vec<Option<i64>>,
    max_attempts: Vec<i16>,
    dependencies: Vec<Option<&'a str>>,
    unique_keys: Vec<Option<&'a [u8]>>,
    args: Vec<&'a [u8]>,
    args_formats: Vec<i16>,
    metas: Vec<Option<&'a str>>,
    deferred: Vec<bool>,
    created_ats: Vec<i64>,
}

impl<'a> Columns<'a> {
    fn of(jobs: &[&'a Enqueued]) -> Self {
        let mut columns = Self::default();
        for (job, now) in jobs {
            columns.queues.push(&job.queue);
            columns.kinds.push(&job.kind);
            columns.classes.push(job.class.number());
            columns.run_ats.push(job.run_at.0);
            columns.expires_ats.push(job.expires_at.map(|at| at.0));
            columns.max_attempts.push(job.max_attempts);
            columns.dependencies.push(job.dependency.as_deref());
            columns.unique_keys.push(job.unique.as_ref().map(|unique| &*unique.key));
            columns.args.push(&job.args);
            columns.args_formats.push(job.args_format);
            columns.metas.push(job.meta.as_deref());
            columns.deferred.push(job.deferred);
            columns.created_ats.push(now.0);
        }
        columns
    }

    fn params(&self) -> [super::session::Param<'_>; 13] {
        [
            (&self.queues, Type::TEXT_ARRAY),
            (&self.kinds, Type::TEXT_ARRAY),
            (&self.classes, Type::INT2_ARRAY),
            (&self.run_ats, Type::INT8_ARRAY),
            (&self.expires_ats, Type::INT8_ARRAY),
            (&self.max_attempts, Type::INT2_ARRAY),
            (&self.dependencies, Type::TEXT_ARRAY),
            (&self.unique_keys, Type::BYTEA_ARRAY),
            (&self.args, Type::BYTEA_ARRAY),
            (&self.args_formats, Type::INT2_ARRAY),
            (&self.metas, Type::TEXT_ARRAY),
            (&self.deferred, Type::BOOL_ARRAY),
            (&self.created_ats, Type::INT8_ARRAY),
        ]
    }
}

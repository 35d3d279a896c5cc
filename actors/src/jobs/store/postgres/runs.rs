//! What is said and asked of single jobs and runs.

use std::sync::Arc;

use tokio_postgres::types::Type;

use super::PgSql;
use super::decode::{class, moment, node, run_key, text, text_or_none};
use super::session::{Param, Row, Session, defect, statements, text as clean};
use super::settle::Bury;
use crate::jobs::store::{Cancelled, DeadReason, JobInfo, JobState, RunError};
use crate::jobs::{JobId, NodeId, RunKey};
use crate::store::{PgClient, StoreError, Timestamp, postgres};

/// The columns of a dead job; where its end has no message, that of its last run stands in.
macro_rules! dead_columns {
    () => {
        "d.id, d.queue, d.kind, d.class, 4::smallint as state, d.attempt, d.run, d.crashes,
         null::bigint as run_at, d.reason,
         coalesce(d.message, (select k.message from {schema}.error k where k.job_id = d.id
                               order by k.run desc limit 1)) as message,
         null::text as progress, d.died_at as finished_at"
    };
}

pub(super) use dead_columns;

statements! {
    RunsSql {
        begin: "update {schema}.job set started_at = $3
                 where id = $1 and run = $2 and node is not null returning id",
        progress: "update {schema}.job s set progress = u.progress
                     from unnest((select $1::bigint[]), (select $2::int[]), (select $3::text[]))
                          u(id, run, progress)
                    where s.id = u.id and s.run = u.run and s.node is not null",
        of_node: "select id, run from {schema}.job
                   where state = 1 and node = $1 and (started_at is null or started_at < $2)
                   order by id",
        lock: "select node from {schema}.job where id = $1 for update",
        is_over: "select from {schema}.done where id = $1
                  union all select from {schema}.dead where id = $1",
        wish_cancel: "update {schema}.job set cancel = true where id = $1",
        // Numbers of states that no row has stand for those that are told by the table.
        find: concat!(
            "select j.id, j.queue, j.kind, j.class,
                    case when j.state = 0 and j.deferred then 2::smallint else j.state end,
                    j.attempt, j.run, j.crashes, j.run_at, null::text,
                    (select k.message from {schema}.error k where k.job_id = j.id
                      order by k.run desc limit 1),
                    j.progress, null::bigint
               from {schema}.job j where j.id = $1
             union all
             select ", dead_columns!(), " from {schema}.dead d where d.id = $1
             union all
             select id, queue, kind, class, 3::smallint, attempt, run, 0::smallint, null, null,
                    null, null, finished_at
               from {schema}.done where id = $1"
        ),
        errors: "select job_id, run, at, message, trace from {schema}.error
                  where job_id = $1 order by run",
    }
}

/// Says that a suspect begins.
pub(super) async fn begin_suspect(
    session: Session<'_>,
    sql: &PgSql,
    key: RunKey,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let params: [Param<'_>; 3] =
        [(&key.id.0, Type::INT8), (&key.run, Type::INT4), (&now.0, Type::INT8)];
    Ok(!session.rows(&sql.runs.begin, &params).await?.is_empty())
}

/// Writes down what handlers say.
pub(super) async fn progress(
    session: Session<'_>,
    sql: &PgSql,
    mut reports: Vec<(RunKey, Arc<str>)>,
) -> Result<(), StoreError> {
    // ORDER: by id, so that no two transactions wait for each other.
    reports.sort_by_key(|(key, _)| *key);
    let ids: Vec<i64> = reports.iter().map(|(key, _)| key.id.0).collect();
    let runs: Vec<i32> = reports.iter().map(|(key, _)| key.run).collect();
    let texts: Vec<_> = reports.iter().map(|(_, report)| clean(report)).collect();
    let params: [Param<'_>; 3] =
        [(&ids, Type::INT8_ARRAY), (&runs, Type::INT4_ARRAY), (&texts, Type::TEXT_ARRAY)];
    session.rows(&sql.runs.progress, &params).await.map(drop)
}

/// The runs of a process that were claimed before a moment; a suspect that has not begun does
/// not say when it was.
pub(super) async fn runs_of(
    session: Session<'_>,
    sql: &PgSql,
    node: NodeId,
    before: Timestamp,
) -> Result<Vec<RunKey>, StoreError> {
    let node = node.to_string();
    let params: [Param<'_>; 2] = [(&node, Type::TEXT), (&before.0, Type::INT8)];
    session.rows(&sql.runs.of_node, &params).await?.iter().map(run_key).collect()
}

/// Cancels a job.
pub(super) async fn cancel(
    mut client: PgClient,
    sql: Arc<PgSql>,
    id: JobId,
    now: Timestamp,
) -> Result<Cancelled, StoreError> {
    let transaction = client.transaction().await?;
    let session = Session::within(&transaction);
    let params: [Param<'_>; 1] = [(&id.0, Type::INT8)];
    let live = session.rows(&sql.runs.lock, &params).await?;
    let cancelled = match live.first().map(|row| text_or_none(row, 0)).transpose()? {
        Some(Some(runs_on)) => {
            session.rows(&sql.runs.wish_cancel, &params).await?;
            Cancelled::Running(node(&runs_on)?)
        }
        Some(None) => {
            let mut bury = Bury::at(now);
            bury.push(id, DeadReason::Cancelled, None, 0);
            bury.carry_out(session, &sql).await?;
            Cancelled::Queued
        }
        None if session.rows(&sql.runs.is_over, &params).await?.is_empty() => Cancelled::Unknown,
        None => Cancelled::Over,
    };
    postgres::commit(transaction).await?;
    Ok(cancelled)
}

/// A job as it is now.
pub(super) async fn find(
    session: Session<'_>,
    sql: &PgSql,
    id: JobId,
) -> Result<Option<JobInfo>, StoreError> {
    let rows = session.rows(&sql.runs.find, &[(&id.0, Type::INT8)]).await?;
    rows.first().map(info).transpose()
}

/// What went wrong in each run.
pub(super) async fn errors(
    session: Session<'_>,
    sql: &PgSql,
    id: JobId,
) -> Result<Vec<(RunKey, Timestamp, RunError)>, StoreError> {
    let rows = session.rows(&sql.runs.errors, &[(&id.0, Type::INT8)]).await?;
    let error = |row: &Row| {
        let error = RunError { message: text(row, 3)?, trace: text_or_none(row, 4)? };
        Ok((run_key(row)?, moment(row, 2)?, error))
    };
    rows.iter().map(error).collect()
}

/// A job, from the columns that all tables are read with.
pub(super) fn info(row: &Row) -> Result<JobInfo, StoreError> {
    let reason: Option<&str> = row.try_get(9)?;
    Ok(JobInfo {
        id: JobId(row.try_get(0)?),
        queue: text(row, 1)?,
        kind: text(row, 2)?,
        class: class(row.try_get(3)?)?,
        state: state(row.try_get(4)?)?,
        attempt: row.try_get(5)?,
        run: row.try_get(6)?,
        crashes: row.try_get(7)?,
        run_at: row.try_get::<Option<i64>>(8)?.map(Timestamp),
        reason: reason.map(parse_reason).transpose()?,
        error: text_or_none(row, 10)?,
        progress: text_or_none(row, 11)?,
        finished_at: row.try_get::<Option<i64>>(12)?.map(Timestamp),
    })
}

fn parse_reason(name: &str) -> Result<DeadReason, StoreError> {
    DeadReason::parse(name).ok_or_else(|| defect("there is no such reason"))
}

fn state(number: i16) -> Result<JobState, StoreError> {
    match number {
        0 => Ok(JobState::Ready),
        1 => Ok(JobState::Running),
        2 => Ok(JobState::Parked),
        3 => Ok(JobState::Done),
        4 => Ok(JobState::Dead),
        _ => Err(defect("there is no such state")),
    }
}

//! The rows of runs: operations within a transaction, the same on both databases.
//!
//! INVARIANT: a cursor moves in the transaction that did what is between its old place and its
//! new one, and only if it still is where that transaction began.

use std::sync::Arc;

use super::error::CounterError;
use super::report::{Key, RunState, Totals};
use super::spec::Mode;
use crate::jobs::JobId;
use crate::jobs::store::postgres::defect;
use crate::jobs::tx::{JobTx, Row, Value};
use crate::store::{StoreError, Timestamp};

/// How far a run is.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub(super) job: JobId,
    pub(super) counter: Arc<str>,
    pub(super) mode: Mode,
    pub(super) step: i64,
    pub(super) cursor: Option<Key>,
    pub(super) totals: Totals,
    pub(super) started_at: Timestamp,
    pub(super) updated_at: Timestamp,
    pub(super) finished_at: Option<Timestamp>,
    /// Whether its job is still there.
    pub(super) live: bool,
}

impl Run {
    pub(super) const fn state(&self) -> RunState {
        match (self.finished_at, self.live) {
            (Some(_), _) => RunState::Done,
            (None, true) => RunState::Running,
            (None, false) => RunState::Stopped,
        }
    }
}

/// What a job has to do.
#[derive(Debug)]
pub(super) enum Begun {
    /// This, from its cursor on.
    Run(Box<Run>),
    /// Nothing: another job of the same counter and mode is at it.
    Joined(JobId),
}

/// Where a batch leaves its run.
#[derive(Debug, Clone)]
pub(super) struct Advance {
    pub(super) job: JobId,
    /// The step that the batch began with.
    pub(super) step: i64,
    pub(super) cursor: Option<Key>,
    pub(super) totals: Totals,
    pub(super) finished: bool,
}

/// What is read of a run; [`read`] knows the order.
const COLUMNS: &str = "r.job_id, r.counter, r.mode, r.step, r.cursor, r.totals, r.started_at,
    r.updated_at, r.finished_at, j.id from {counter_runs} r left join {job} j on j.id = r.job_id";

/// Finds the run of a job, or begins it.
pub(super) async fn begin(
    tx: &impl JobTx,
    job: JobId,
    counter: &str,
    mode: Mode,
    now: Timestamp,
) -> Result<Begun, StoreError> {
    if let Some(run) = find(tx, job).await? {
        return Ok(Begun::Run(Box::new(run)));
    }
    if let Some(other) = running(tx, counter, mode).await? {
        return Ok(Begun::Joined(other));
    }
    let insert = "insert into {counter_runs}
        (job_id, counter, mode, totals, started_at, updated_at) values (?1, ?2, ?3, ?4, ?5, ?5)";
    let totals = encode(&Totals::default())?;
    let params =
        [job.0.into(), counter.into(), mode.as_str().into(), Value::Text(totals), now.0.into()];
    drop(tx.rows(insert, &params).await?);
    let run = find(tx, job).await?.ok_or_else(|| defect("a run is not there"))?;
    Ok(Begun::Run(Box::new(run)))
}

/// The job that is at this counter in this mode.
pub(super) async fn running(
    tx: &impl JobTx,
    counter: &str,
    mode: Mode,
) -> Result<Option<JobId>, StoreError> {
    let sql = "select r.job_id from {counter_runs} r join {job} j on j.id = r.job_id
        where r.counter = ?1 and r.mode = ?2 and r.finished_at is null order by r.job_id limit 1";
    let row = tx.row(sql, &[counter.into(), mode.as_str().into()]).await?;
    row.map(|mut row| row.int(0).map(JobId)).transpose()
}

/// The run of a job.
pub(super) async fn find(tx: &impl JobTx, job: JobId) -> Result<Option<Run>, StoreError> {
    let sql = format!("select {COLUMNS} where r.job_id = ?1");
    tx.row(&sql, &[job.0.into()]).await?.map(read).transpose()
}

/// The newest run of a counter.
pub(super) async fn latest(tx: &impl JobTx, counter: &str) -> Result<Option<Run>, StoreError> {
    let sql = format!("select {COLUMNS} where r.counter = ?1 order by r.job_id desc limit 1");
    tx.row(&sql, &[counter.into()]).await?.map(read).transpose()
}

/// Moves a run on, in the transaction of its batch.
///
/// # Errors
///
/// [`CounterError::Superseded`]: somebody else has moved it. Roll back.
pub(super) async fn advance(
    tx: &impl JobTx,
    advance: &Advance,
    now: Timestamp,
) -> Result<(), CounterError> {
    let sql = "update {counter_runs} set step = step + 1, cursor = ?3, totals = ?4,
        updated_at = ?5, finished_at = ?6
        where job_id = ?1 and step = ?2 and finished_at is null returning 1";
    let cursor = advance.cursor.as_ref().map(encode).transpose()?;
    let params = [
        advance.job.0.into(),
        advance.step.into(),
        cursor.map_or(Value::Null, Value::Text),
        Value::Text(encode(&advance.totals)?),
        now.0.into(),
        advance.finished.then_some(now.0).into(),
    ];
    tx.row(sql, &params).await?.map(drop).ok_or(CounterError::Superseded)
}

/// Forgets up to so many runs that ended before this moment, but for the newest of each counter.
/// How many there were.
pub(super) async fn prune(
    tx: &impl JobTx,
    before: Timestamp,
    limit: i64,
) -> Result<usize, StoreError> {
    let sql = "delete from {counter_runs} where job_id in (
        select r.job_id from {counter_runs} r left join {job} j on j.id = r.job_id
         where r.updated_at < ?1 and j.id is null
           and exists (select 1 from {counter_runs} newer
                        where newer.counter = r.counter and newer.job_id > r.job_id)
         order by r.job_id limit ?2) returning 1";
    Ok(tx.rows(sql, &[before.0.into(), limit.into()]).await?.len())
}

fn read(mut row: Row) -> Result<Run, StoreError> {
    let mode = Mode::parse(&row.text(2)?).ok_or_else(|| defect("a run has an unknown mode"))?;
    let cursor = row.text_or_none(4)?.map(|text| decode(&text)).transpose()?;
    Ok(Run {
        job: JobId(row.int(0)?),
        counter: row.text(1)?.into(),
        mode,
        step: row.int(3)?,
        cursor,
        totals: decode(&row.text(5)?)?,
        started_at: Timestamp(row.int(6)?),
        updated_at: Timestamp(row.int(7)?),
        finished_at: row.int_or_none(8)?.map(Timestamp),
        live: row.int_or_none(9)?.is_some(),
    })
}

fn encode<T: serde::Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Failed(StoreError::source(error)))
}

fn decode<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Failed(StoreError::source(error)))
}

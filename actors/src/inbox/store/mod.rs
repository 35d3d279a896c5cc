//! The table of events: operations within a transaction, the same on both databases.

mod rows;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::error::InboxError;
use super::event::{EventState, InboxId, NewEvent, Row, Turn};
use super::filter::EventFilter;
use super::run::EventJob;
use crate::jobs::store::postgres::defect;
use crate::jobs::tx::{JobTx, Rows};
use crate::jobs::{Class, Job, JobId, Jobs, JobsError};
use crate::store::{StoreError, Timestamp};

pub(super) use rows::StateCount;
use rows::{columns, events};

/// What became of a row that was to be inserted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Inserted {
    pub(super) id: InboxId,
    pub(super) is_duplicate: bool,
    pub(super) is_conflict: bool,
}

/// How the jobs of events are enqueued.
#[derive(Debug, Clone)]
pub(super) struct Enqueuer {
    pub(super) jobs: Jobs,
    pub(super) class: Class,
}

/// How a run ends an event.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settle {
    pub(super) id: InboxId,
    /// The job of the run: another one's word does not count.
    pub(super) job: JobId,
    pub(super) state: EventState,
    pub(super) now: Timestamp,
}

/// A row that is to be handled again, and what is new of it.
pub(super) struct Again {
    pub(super) id: InboxId,
    pub(super) source: Arc<str>,
    /// In which state it was found, and how often it had been replayed: its version.
    pub(super) state: EventState,
    pub(super) replays: i64,
    pub(super) event_type: Option<String>,
    pub(super) version: Option<String>,
    pub(super) subject: Option<String>,
    pub(super) line: Option<String>,
    pub(super) occurred_at: Option<Timestamp>,
}

/// The place behind all that wait in a line now.
macro_rules! last_turn {
    ($source:literal, $line:literal) => {
        concat!(
            "(select coalesce(max(t.turn), 0) + 1 from {inbox} t
               where t.source = ",
            $source,
            " and t.line = ",
            $line,
            " and t.state = 'received')"
        )
    };
}

/// Stores events and the jobs of those that are to be handled.
pub(super) async fn insert(
    tx: &impl JobTx,
    enqueuer: &Enqueuer,
    events: &[NewEvent],
    now: Timestamp,
) -> Result<Vec<Inserted>, InboxError> {
    let line = |event: &NewEvent| line_name(&event.source, event.line.as_deref());
    lock_lines(tx, events.iter().filter_map(line)).await?;
    let mut all = Vec::with_capacity(events.len());
    for event in events {
        all.push(insert_one(tx, enqueuer, event, now).await?);
    }
    Ok(all)
}

fn line_name(source: &str, line: Option<&str>) -> Option<String> {
    Some(format!("inbox:{source}/{}", line?))
}

/// Orders those that join a line: within a transaction, the place behind the last is only known
/// when nobody else can take it.
///
/// ORDER: sorted, so that no two transactions wait for each other.
async fn lock_lines(
    tx: &impl JobTx,
    names: impl Iterator<Item = String>,
) -> Result<(), StoreError> {
    for name in names.collect::<BTreeSet<_>>() {
        tx.lock(&name).await?;
    }
    Ok(())
}

async fn insert_one(
    tx: &impl JobTx,
    enqueuer: &Enqueuer,
    event: &NewEvent,
    now: Timestamp,
) -> Result<Inserted, InboxError> {
    let sql = concat!(
        "insert into {inbox} as e (source, event_id, type, version, subject, line, turn,
            occurred_at, received_at, state, reason, key, headers, body, body_sha256)
         values (?1, ?2, ?3, ?4, ?5, ?6,
            case when ?9 = 'received' and cast(?6 as text) is not null then ",
        last_turn!("?1", "?6"),
        " end, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)
         on conflict (source, event_id) do update
            set duplicates = e.duplicates + 1,
                conflicts = e.conflicts
                  + case when e.body_sha256 <> excluded.body_sha256 then 1 else 0 end
         returning id, duplicates,
            cast(case when body_sha256 <> ?14 then 1 else 0 end as bigint)"
    );
    let params = [
        (&*event.source).into(),
        (&*event.event_id).into(),
        event.event_type.as_deref().into(),
        event.version.as_deref().into(),
        event.subject.as_deref().into(),
        event.line.as_deref().into(),
        event.occurred_at.map(|at| at.0).into(),
        now.0.into(),
        event.state.stored().into(),
        event.reason.into(),
        event.key.map(i64::from).into(),
        (&*event.headers).into(),
        (&*event.body).into(),
        (&event.sha256).into(),
    ];
    let row = tx.row(sql, &params).await?;
    let mut row = row.ok_or_else(|| defect("no row was returned"))?;
    let inserted = Inserted {
        id: InboxId(row.int(0)?),
        is_duplicate: row.int(1)? > 0,
        is_conflict: row.int(2)? != 0,
    };
    if event.state == EventState::Received && !inserted.is_duplicate {
        attach(tx, enqueuer, inserted.id).await?;
    }
    Ok(inserted)
}

/// Stores the job that handles an event.
async fn attach(tx: &impl JobTx, enqueuer: &Enqueuer, event: InboxId) -> Result<(), InboxError> {
    let job = enqueuer.jobs.enqueue(EventJob { event }).class(enqueuer.class);
    let job = tx.enqueue(job).await?.id().ok_or_else(left_out)?;
    tx.rows("update {inbox} set job_id = ?2 where id = ?1", &[event.0.into(), job.0.into()])
        .await?;
    Ok(())
}

/// The guard left the job out, so the event is not stored either: its sender comes again.
fn left_out() -> InboxError {
    let (queue, retry_after) = (EventJob::QUEUE.into(), Duration::from_secs(1));
    InboxError::Jobs(JobsError::QueueFull { queue, retry_after })
}

/// An event and its body.
pub(super) async fn load(
    rows: &impl Rows,
    id: InboxId,
) -> Result<Option<(Row, Bytes)>, StoreError> {
    let sql = concat!("select ", columns!(), ", e.body from ", events!(), " where e.id = ?1");
    let Some(mut row) = rows.row(sql, &[id.0.into()]).await? else { return Ok(None) };
    Ok(Some((rows::event(&mut row)?, row.blob(rows::BODY)?.into())))
}

/// The number of the event that a source calls so.
pub(super) async fn find(
    rows: &impl Rows,
    source: &str,
    event_id: &str,
) -> Result<Option<InboxId>, StoreError> {
    let sql = "select id from {inbox} where source = ?1 and event_id = ?2";
    let row = rows.row(sql, &[source.into(), event_id.into()]).await?;
    row.map(|mut row| Ok(InboxId(row.int(0)?))).transpose()
}

/// How many events of a line are before this one, up to 100.
pub(super) async fn ahead(rows: &impl Rows, source: &str, turn: &Turn) -> Result<i64, StoreError> {
    let sql = "select count(*) from (
           select 1 from {inbox} e join {job} j on j.id = e.job_id
            where e.source = ?1 and e.line = ?2 and e.state = 'received' and e.turn < ?3
            limit 100) x";
    let row = rows.row(sql, &[source.into(), (&*turn.line).into(), turn.turn.into()]).await?;
    row.ok_or_else(|| defect("no row was returned"))?.int(0)
}

/// The job of the event that is next in a line.
pub(super) async fn next(
    rows: &impl Rows,
    source: &str,
    turn: &Turn,
) -> Result<Option<JobId>, StoreError> {
    let sql = "select e.job_id from {inbox} e join {job} j on j.id = e.job_id
        where e.source = ?1 and e.line = ?2 and e.state = 'received' and e.turn > ?3
        order by e.turn limit 1";
    let row = rows.row(sql, &[source.into(), (&*turn.line).into(), turn.turn.into()]).await?;
    row.map(|mut row| Ok(JobId(row.int(0)?))).transpose()
}

/// Events in the order of their numbers.
pub(super) async fn list(
    rows: &impl Rows,
    filter: &EventFilter,
    limit: u32,
) -> Result<Vec<Row>, StoreError> {
    let sql = concat!(
        "select ",
        columns!(),
        " from ",
        events!(),
        " where e.state = ?1 and e.id > ?2
            and (cast(?3 as text) is null or e.source = ?3)
            and (cast(?4 as text) is null or e.type = ?4)
            and e.received_at >= ?5 and e.received_at < ?6
            and (e.state <> 'received' or (j.id is not null) = (cast(?7 as bigint) = 1))
          order by e.id limit ?8"
    );
    let params = [
        filter.state.stored().into(),
        filter.after.0.into(),
        filter.source.as_deref().into(),
        filter.event_type.as_deref().into(),
        filter.from.0.into(),
        filter.until.0.into(),
        i64::from(filter.state == EventState::Received).into(),
        i64::from(limit).into(),
    ];
    let mut found = rows.rows(sql, &params).await?;
    found.iter_mut().map(rows::event).collect()
}

/// Events in each state.
pub(super) async fn counts(rows: &impl Rows) -> Result<Vec<StateCount>, StoreError> {
    let sql = concat!(
        "select e.state, cast(case when j.id is null then 0 else 1 end as bigint) as live,
            count(*) from ",
        events!(),
        " group by 1, 2"
    );
    rows.rows(sql, &[]).await?.into_iter().map(rows::state_count).collect()
}

/// Ends an event. `false`: another run has the say over it.
pub(super) async fn settle(tx: &impl JobTx, settle: &Settle) -> Result<bool, StoreError> {
    let Settle { id, job, state, now } = *settle;
    let sql = "update {inbox} set state = ?3, settled_at = ?4
        where id = ?1 and job_id = ?2 and state = 'received' returning id";
    let params = [id.0.into(), job.0.into(), state.stored().into(), now.0.into()];
    Ok(tx.row(sql, &params).await?.is_some())
}

/// Has events handled again, each with a new job. How many were: those that somebody else changed
/// meanwhile are left alone.
pub(super) async fn again(
    tx: &impl JobTx,
    enqueuer: &Enqueuer,
    events: &[Again],
) -> Result<u64, InboxError> {
    let line = |event: &Again| line_name(&event.source, event.line.as_deref());
    lock_lines(tx, events.iter().filter_map(line)).await?;
    let mut count = 0;
    for event in events {
        count += u64::from(again_one(tx, enqueuer, event).await?);
    }
    Ok(count)
}

async fn again_one(
    tx: &impl JobTx,
    enqueuer: &Enqueuer,
    event: &Again,
) -> Result<bool, InboxError> {
    let sql = concat!(
        "update {inbox} set state = 'received', reason = null, settled_at = null,
            job_id = null, replays = replays + 1, type = ?4, version = ?5, subject = ?6,
            line = ?7, occurred_at = ?8,
            turn = case when cast(?7 as text) is not null then ",
        last_turn!("?9", "?7"),
        " end
          where id = ?1 and state = ?2 and replays = ?3 returning id"
    );
    let params = [
        event.id.0.into(),
        event.state.stored().into(),
        event.replays.into(),
        event.event_type.as_deref().into(),
        event.version.as_deref().into(),
        event.subject.as_deref().into(),
        event.line.as_deref().into(),
        event.occurred_at.map(|at| at.0).into(),
        (&*event.source).into(),
    ];
    if tx.row(sql, &params).await?.is_none() {
        return Ok(false);
    }
    attach(tx, enqueuer, event.id).await?;
    Ok(true)
}

/// Forgets up to so many events that were received before `settled`, or, where they are dead,
/// before `dead`. How many there were.
pub(super) async fn prune(
    tx: &impl JobTx,
    settled: Timestamp,
    dead: Timestamp,
    limit: u32,
) -> Result<u64, StoreError> {
    let sql = concat!(
        "delete from {inbox} where id in (
           select e.id from ",
        events!(),
        "   where e.received_at < ?1 and j.id is null
              and (e.state <> 'received' or e.received_at < ?2)
            order by e.received_at limit ?3) returning id"
    );
    let params = [settled.0.into(), dead.0.into(), i64::from(limit).into()];
    Ok(tx.rows(sql, &params).await?.len() as u64)
}

//! On SQLite.

use rusqlite::{Connection, OptionalExtension, params};

use super::rows::{self, StateCount};
use super::sql::Sql;
use super::{Again, Enqueuer, Inserted, Settle};
use crate::inbox::error::InboxError;
use crate::inbox::event::{EventState, InboxId, NewEvent, Row, Turn};
use crate::inbox::filter::EventFilter;
use crate::inbox::run::EventJob;
use crate::jobs::JobId;
use crate::store::{SqliteTx, StoreError, Timestamp};

pub(super) fn insert(
    tx: &SqliteTx<'_>,
    sql: &Sql,
    enqueuer: &Enqueuer,
    event: &NewEvent,
    now: Timestamp,
) -> Result<Inserted, InboxError> {
    let mut statement = tx.prepare_cached(&sql.insert).map_err(StoreError::from)?;
    let row = params![
        &*event.source,
        event.event_id,
        event.event_type,
        event.version,
        event.subject,
        event.line,
        event.occurred_at.map(|at| at.0),
        now.0,
        event.state.stored(),
        event.reason,
        event.key,
        &*event.headers,
        &event.body[..],
        &event.sha256[..],
    ];
    let inserted = statement.query_row(row, |row| {
        let (duplicates, conflict): (i64, i64) = (row.get(1)?, row.get(2)?);
        let (is_duplicate, is_conflict) = (duplicates > 0, conflict != 0);
        Ok(Inserted { id: InboxId(row.get(0)?), is_duplicate, is_conflict })
    });
    let inserted = inserted.map_err(StoreError::from)?;
    if event.state == EventState::Received && !inserted.is_duplicate {
        attach(tx, sql, enqueuer, inserted.id)?;
    }
    Ok(inserted)
}

/// Stores the job that handles an event.
fn attach(
    tx: &SqliteTx<'_>,
    sql: &Sql,
    enqueuer: &Enqueuer,
    event: InboxId,
) -> Result<(), InboxError> {
    let enqueue = enqueuer.jobs.enqueue(EventJob { event }).class(enqueuer.class);
    let job = enqueue.in_sqlite(tx)?.id().ok_or_else(super::left_out)?;
    tx.prepare_cached(&sql.attach)
        .and_then(|mut attach| attach.execute(params![event.0, job.0]))
        .map_err(|error| InboxError::from(StoreError::from(error)))?;
    Ok(())
}

pub(super) fn load(
    connection: &Connection,
    sql: &Sql,
    id: InboxId,
) -> Result<Option<(Row, bytes::Bytes)>, StoreError> {
    let mut statement = connection.prepare_cached(&sql.load)?;
    let mut found = statement.query([id.0])?;
    match found.next()? {
        Some(row) => Ok(Some((rows::event(row)?, rows::body(row)?))),
        None => Ok(None),
    }
}

pub(super) fn find(
    connection: &Connection,
    sql: &Sql,
    source: &str,
    event_id: &str,
) -> Result<Option<InboxId>, StoreError> {
    let mut statement = connection.prepare_cached(&sql.find)?;
    let found = statement.query_row([source, event_id], |row| row.get(0)).optional()?;
    Ok(found.map(InboxId))
}

pub(super) fn ahead(
    connection: &Connection,
    sql: &Sql,
    source: &str,
    turn: &Turn,
) -> Result<i64, StoreError> {
    let mut statement = connection.prepare_cached(&sql.ahead)?;
    Ok(statement.query_row(params![source, &*turn.line, turn.turn], |row| row.get(0))?)
}

pub(super) fn next(
    connection: &Connection,
    sql: &Sql,
    source: &str,
    turn: &Turn,
) -> Result<Option<JobId>, StoreError> {
    let mut statement = connection.prepare_cached(&sql.next)?;
    let found = statement.query_row(params![source, &*turn.line, turn.turn], |row| row.get(0));
    Ok(found.optional()?.map(JobId))
}

pub(super) fn list(
    connection: &Connection,
    sql: &Sql,
    filter: &EventFilter,
    limit: u32,
) -> Result<Vec<Row>, StoreError> {
    let mut statement = connection.prepare_cached(&sql.list)?;
    let mut found = statement.query(params![
        filter.state.stored(),
        filter.after.0,
        filter.source.as_deref(),
        filter.event_type.as_deref(),
        filter.from.0,
        filter.until.0,
        i64::from(filter.state == EventState::Received),
        limit,
    ])?;
    let mut all = Vec::new();
    while let Some(row) = found.next()? {
        all.push(rows::event(row)?);
    }
    Ok(all)
}

pub(super) fn counts(connection: &Connection, sql: &Sql) -> Result<Vec<StateCount>, StoreError> {
    let mut statement = connection.prepare_cached(&sql.counts)?;
    let mut found = statement.query([])?;
    let mut all = Vec::new();
    while let Some(row) = found.next()? {
        all.push(rows::state_count(row)?);
    }
    Ok(all)
}

/// `false`: another run has the say over the event.
pub(super) fn settle(tx: &SqliteTx<'_>, sql: &Sql, settle: &Settle) -> Result<bool, StoreError> {
    let Settle { id, job, state, now } = *settle;
    let mut statement = tx.prepare_cached(&sql.settle)?;
    Ok(statement.exists(params![id.0, job.0, state.stored(), now.0])?)
}

/// `false`: somebody else has changed it meanwhile.
pub(super) fn again(
    tx: &SqliteTx<'_>,
    sql: &Sql,
    enqueuer: &Enqueuer,
    event: &Again,
) -> Result<bool, InboxError> {
    let row = params![
        event.id.0,
        event.state.stored(),
        event.replays,
        event.event_type,
        event.version,
        event.subject,
        event.line,
        event.occurred_at.map(|at| at.0),
        &*event.source,
    ];
    let changed = tx.prepare_cached(&sql.again).and_then(|mut again| again.execute(row));
    if changed.map_err(StoreError::from)? == 0 {
        return Ok(false);
    }
    attach(tx, sql, enqueuer, event.id)?;
    Ok(true)
}

pub(super) fn prune(
    tx: &SqliteTx<'_>,
    sql: &Sql,
    settled: Timestamp,
    dead: Timestamp,
    limit: u32,
) -> Result<u64, StoreError> {
    let mut statement = tx.prepare_cached(&sql.prune)?;
    Ok(statement.execute(params![settled.0, dead.0, limit])? as u64)
}

//! The table of events, on either database.

mod postgres;
mod rows;
mod sql;
mod sqlite;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::error::InboxError;
use super::event::{EventState, InboxId, NewEvent, Row, Turn};
use super::filter::EventFilter;
use super::run::EventJob;
use crate::jobs::store::postgres::Session;
use crate::jobs::{Class, Job, JobId, Jobs, JobsError};
use crate::store::{SqliteStore, SqliteTx, Store, StoreError, Timestamp};

use postgres::PgTables;
pub(super) use rows::StateCount;
use sql::Sql;

/// The table of events.
#[derive(Debug, Clone)]
pub(super) enum Tables {
    Sqlite(SqliteStore, Arc<Sql>),
    Postgres(PgTables),
}

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
#[derive(Debug, Clone)]
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

impl Tables {
    pub(super) fn new(store: &Store) -> Self {
        match store {
            Store::Sqlite(store) => Self::Sqlite(store.clone(), Arc::new(Sql::sqlite())),
            Store::Postgres(store) => Self::Postgres(PgTables::new(store.clone())),
        }
    }

    /// Stores events and the jobs of those that are to be handled, all in one transaction.
    pub(super) async fn insert(
        &self,
        enqueuer: Enqueuer,
        events: Vec<NewEvent>,
        now: Timestamp,
    ) -> Result<Vec<Inserted>, InboxError> {
        match self {
            Self::Sqlite(store, sql) => {
                let sql = Arc::clone(sql);
                let insert = move |tx: &SqliteTx<'_>| {
                    let insert = |event| sqlite::insert(tx, &sql, &enqueuer, event, now);
                    events.iter().map(insert).collect()
                };
                store.write(insert).await
            }
            Self::Postgres(tables) => tables.insert(enqueuer, events, now).await,
        }
    }

    /// An event and its body.
    pub(super) async fn load(&self, id: InboxId) -> Result<Option<(Row, Bytes)>, StoreError> {
        match self {
            Self::Sqlite(store, sql) => {
                let sql = Arc::clone(sql);
                store.read(move |connection| sqlite::load(connection, &sql, id)).await
            }
            Self::Postgres(tables) => tables.load(id).await,
        }
    }

    /// The number of the event that a source calls so.
    pub(super) async fn find(
        &self,
        source: Arc<str>,
        event_id: Arc<str>,
    ) -> Result<Option<InboxId>, StoreError> {
        match self {
            Self::Sqlite(store, sql) => {
                let sql = Arc::clone(sql);
                let find = move |connection: &_| sqlite::find(connection, &sql, &source, &event_id);
                store.read(find).await
            }
            Self::Postgres(tables) => tables.find(source, event_id).await,
        }
    }

    /// How many events of a line are before this one, up to 100.
    pub(super) async fn ahead(&self, source: Arc<str>, turn: Turn) -> Result<i64, StoreError> {
        match self {
            Self::Sqlite(store, sql) => {
                let sql = Arc::clone(sql);
                store.read(move |connection| sqlite::ahead(connection, &sql, &source, &turn)).await
            }
            Self::Postgres(tables) => tables.ahead(source, turn).await,
        }
    }

    /// The job of the event that is next in a line.
    pub(super) async fn next(
        &self,
        source: Arc<str>,
        turn: Turn,
    ) -> Result<Option<JobId>, StoreError> {
        match self {
            Self::Sqlite(store, sql) => {
                let sql = Arc::clone(sql);
                store.read(move |connection| sqlite::next(connection, &sql, &source, &turn)).await
            }
            Self::Postgres(tables) => tables.next(source, turn).await,
        }
    }

    /// Events in the order of their numbers.
    pub(super) async fn list(
        &self,
        filter: EventFilter,
        limit: u32,
    ) -> Result<Vec<Row>, StoreError> {
        match self {
            Self::Sqlite(store, sql) => {
                let sql = Arc::clone(sql);
                store.read(move |connection| sqlite::list(connection, &sql, &filter, limit)).await
            }
            Self::Postgres(tables) => tables.list(filter, limit).await,
        }
    }

    /// Events in each state.
    pub(super) async fn counts(&self) -> Result<Vec<StateCount>, StoreError> {
        match self {
            Self::Sqlite(store, sql) => {
                let sql = Arc::clone(sql);
                store.read(move |connection| sqlite::counts(connection, &sql)).await
            }
            Self::Postgres(tables) => tables.counts().await,
        }
    }

    /// Has events handled again, each with a new job, all in one transaction. How many were:
    /// those that somebody else changed meanwhile are left alone.
    pub(super) async fn again(
        &self,
        enqueuer: Enqueuer,
        events: Vec<Again>,
    ) -> Result<u64, InboxError> {
        match self {
            Self::Sqlite(store, sql) => {
                let sql = Arc::clone(sql);
                let again = move |tx: &SqliteTx<'_>| -> Result<u64, InboxError> {
                    let mut count = 0;
                    for event in &events {
                        count += u64::from(sqlite::again(tx, &sql, &enqueuer, event)?);
                    }
                    Ok(count)
                };
                store.write(again).await
            }
            Self::Postgres(tables) => tables.again(enqueuer, events).await,
        }
    }

    /// Ends an event in the transaction of its handler. `false`: another run has the say over it.
    pub(super) fn settle_in_sqlite(
        &self,
        tx: &SqliteTx<'_>,
        settle: &Settle,
    ) -> Result<bool, InboxError> {
        match self {
            Self::Sqlite(_, sql) => Ok(sqlite::settle(tx, sql, settle)?),
            Self::Postgres(_) => Err(InboxError::ForeignTransaction),
        }
    }

    /// The same on PostgreSQL.
    pub(super) async fn settle_in_postgres(
        &self,
        session: Session<'_>,
        settle: &Settle,
    ) -> Result<bool, InboxError> {
        match self {
            Self::Sqlite(..) => Err(InboxError::ForeignTransaction),
            Self::Postgres(tables) => Ok(tables.settle(session, settle).await?),
        }
    }

    /// Forgets up to so many events that were received before `settled`, or, where they are dead,
    /// before `dead`. How many there were.
    pub(super) async fn prune(
        &self,
        settled: Timestamp,
        dead: Timestamp,
        limit: u32,
    ) -> Result<u64, StoreError> {
        match self {
            Self::Sqlite(store, sql) => {
                let sql = Arc::clone(sql);
                store.write(move |tx| sqlite::prune(tx, &sql, settled, dead, limit)).await
            }
            Self::Postgres(tables) => tables.prune(settled, dead, limit).await,
        }
    }
}

/// The guard left the job out, so the event is not stored either: its sender comes again.
fn left_out() -> InboxError {
    let (queue, retry_after) = (EventJob::QUEUE.into(), Duration::from_secs(1));
    InboxError::Jobs(JobsError::QueueFull { queue, retry_after })
}

//! The tables of the job queue in SQLite.
//!
//! What writes is a plain function over a transaction, so that it also runs in a user's own one.
//! There is one writer: what a function counts or finds is still so when it writes.

mod claim;
mod cron;
mod dead;
mod find;
mod guard;
mod insert;
mod nodes;
mod rescue;
mod settle;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use rusqlite::types::{FromSqlError, Type};
use rusqlite::{Connection, OptionalExtension, Params, Row};

use super::{
    Beat, Cancelled, Claim, Counts, CronRow, DeadFilter, Depths, Inserted, JobInfo, JobStore,
    NewJob, Pruned, Pulse, QueueRow, Replayed, Rescued, RunError, Settle, Step, Stored,
};
use crate::jobs::{Class, JobId, NodeId, RunKey};
use crate::store::{SqliteStore, SqliteTx, StoreError, Timestamp, Wakes};

pub(crate) use insert::insert_in;
pub(crate) use settle::complete_in;

/// The job queue in a SQLite database.
#[derive(Debug, Clone)]
pub(crate) struct SqliteJobs {
    store: SqliteStore,
}

impl SqliteJobs {
    /// On the tables of `store`.
    pub(crate) const fn new(store: SqliteStore) -> Self {
        Self { store }
    }

    fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&SqliteTx<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Stored<T> {
        self.store.write(work)
    }

    fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Stored<T> {
        self.store.read(move |db| Ok(work(db)?))
    }
}

impl JobStore for SqliteJobs {
    fn wakes(&self) -> &Wakes {
        self.store.wakes()
    }

    fn insert(&self, jobs: Vec<NewJob>, now: Timestamp) -> Stored<Vec<Inserted>> {
        self.write(move |tx| jobs.iter().map(|job| insert_in(tx, job, now)).collect())
    }

    fn step(&self, settles: Vec<Settle>, claim: Option<Claim>, now: Timestamp) -> Stored<Step> {
        self.write(move |tx| {
            let stale = settle::settle_all(tx, &settles, now)?;
            let claimed = match claim {
                Some(claim) => claim::claim(tx, &claim, now)?,
                None => Vec::new(),
            };
            Ok(Step { stale, claimed })
        })
    }

    fn begin_suspect(&self, key: RunKey, now: Timestamp) -> Stored<bool> {
        self.write(move |tx| Ok(claim::begin_suspect(tx, key, now)?))
    }

    fn progress(&self, reports: Vec<(RunKey, Arc<str>)>) -> Stored<()> {
        self.write(move |tx| Ok(claim::progress(tx, &reports)?))
    }

    fn cancel(&self, id: JobId, now: Timestamp) -> Stored<Cancelled> {
        self.write(move |tx| Ok(dead::cancel(tx, id, now)?))
    }

    fn retry(&self, id: JobId, now: Timestamp) -> Stored<bool> {
        self.write(move |tx| Ok(dead::retry(tx, id, now)?))
    }

    fn find(&self, id: JobId) -> Stored<Option<JobInfo>> {
        self.read(move |db| find::find(db, id))
    }

    fn errors(&self, id: JobId) -> Stored<Vec<(RunKey, Timestamp, RunError)>> {
        self.read(move |db| find::errors(db, id))
    }

    fn beat(&self, beat: Beat, now: Timestamp) -> Stored<Pulse> {
        self.write(move |tx| Ok(nodes::beat(tx, &beat, now)?))
    }

    fn runs_of(&self, node: NodeId, before: Timestamp) -> Stored<Vec<RunKey>> {
        self.read(move |db| claim::runs_of(db, node, before))
    }

    fn rescue(&self, dead: Vec<NodeId>, poison_after: i16, now: Timestamp) -> Stored<Rescued> {
        self.write(move |tx| Ok(rescue::rescue(tx, &dead, poison_after, now)?))
    }

    fn leave(&self, node: NodeId) -> Stored<()> {
        self.write(move |tx| Ok(nodes::leave(tx, node)?))
    }

    fn elect(
        &self,
        name: &'static str,
        node: NodeId,
        until: Timestamp,
        now: Timestamp,
    ) -> Stored<Option<i64>> {
        self.write(move |tx| Ok(nodes::elect(tx, name, node, until, now)?))
    }

    fn resign(&self, name: &'static str, node: NodeId, term: i64) -> Stored<()> {
        self.write(move |tx| Ok(nodes::resign(tx, name, node, term)?))
    }

    fn depths(&self, queue: Arc<str>, limit: u32, now: Timestamp) -> Stored<Depths> {
        self.read(move |db| guard::depths(db, &queue, limit, now))
    }

    fn park(&self, dependency: Arc<str>, limit: u32) -> Stored<u64> {
        self.write(move |tx| Ok(guard::park(tx, &dependency, limit)?))
    }

    fn release(&self, dependency: Arc<str>, limit: u32, now: Timestamp) -> Stored<u64> {
        self.write(move |tx| Ok(guard::release(tx, &dependency, limit, now)?))
    }

    fn parked(&self, limit: u32) -> Stored<Vec<(Arc<str>, u64)>> {
        self.read(move |db| guard::parked(db, limit))
    }

    fn pull_forward(&self, queue: Arc<str>, limit: u32, now: Timestamp) -> Stored<u64> {
        self.write(move |tx| Ok(guard::pull_forward(tx, &queue, limit, now)?))
    }

    fn shed(
        &self,
        queue: Arc<str>,
        class: Option<Class>,
        limit: u32,
        now: Timestamp,
    ) -> Stored<u64> {
        self.write(move |tx| Ok(guard::shed(tx, &queue, class, limit, now)?))
    }

    fn pause(&self, queue: Arc<str>, paused: bool, now: Timestamp) -> Stored<()> {
        let wakes = self.store.wakes().clone();
        let written = self.write({
            let queue = Arc::clone(&queue);
            move |tx| Ok(guard::pause(tx, &queue, paused, now)?)
        });
        Box::pin(async move {
            written.await?;
            if !paused && &*queue == guard::ALL_QUEUES {
                wakes.wake_all();
            }
            Ok(())
        })
    }

    fn queues(&self) -> Stored<Vec<QueueRow>> {
        self.read(guard::queues)
    }

    fn put_cron(&self, cron: CronRow) -> Stored<()> {
        self.write(move |tx| Ok(cron::put(tx, &cron)?))
    }

    fn remove_cron(&self, name: Arc<str>) -> Stored<bool> {
        self.write(move |tx| Ok(cron::remove(tx, &name)?))
    }

    fn pause_cron(&self, name: Arc<str>, paused: bool) -> Stored<bool> {
        self.write(move |tx| Ok(cron::pause(tx, &name, paused)?))
    }

    fn crons(&self) -> Stored<Vec<CronRow>> {
        self.read(cron::all)
    }

    fn tick_cron(
        &self,
        name: Arc<str>,
        from: Timestamp,
        to: Timestamp,
        jobs: Vec<NewJob>,
        now: Timestamp,
    ) -> Stored<bool> {
        self.write(move |tx| {
            if !cron::tick(tx, &name, from, to)? {
                return Ok(false);
            }
            for job in &jobs {
                insert_in(tx, job, now)?;
            }
            Ok(true)
        })
    }

    fn dead(&self, filter: DeadFilter, limit: u32) -> Stored<Vec<JobInfo>> {
        self.read(move |db| find::dead(db, &filter, limit))
    }

    fn replay(&self, filter: DeadFilter, limit: u32, now: Timestamp) -> Stored<Replayed> {
        self.write(move |tx| Ok(dead::replay(tx, &filter, limit, now)?))
    }

    fn prune(
        &self,
        done_before: Timestamp,
        dead_before: Timestamp,
        limit: u32,
        now: Timestamp,
    ) -> Stored<Pruned> {
        self.write(move |tx| Ok(dead::prune(tx, done_before, dead_before, limit, now)?))
    }

    fn counts(&self) -> Stored<Counts> {
        self.read(find::counts)
    }
}

/// Runs one statement of those that are kept prepared. How many rows it changed.
fn execute(db: &Connection, sql: &str, params: impl Params) -> rusqlite::Result<usize> {
    db.prepare_cached(sql)?.execute(params)
}

/// The one row that a statement finds, if it finds one.
fn optional<T>(
    db: &Connection,
    sql: &str,
    params: impl Params,
    read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Option<T>> {
    db.prepare_cached(sql)?.query_row(params, read).optional()
}

/// All rows that a statement finds.
fn all<T>(
    db: &Connection,
    sql: &str,
    params: impl Params,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    db.prepare_cached(sql)?.query_map(params, read)?.collect()
}

/// The number that a statement which counts finds.
fn count(db: &Connection, sql: &str, params: impl Params) -> rusqlite::Result<u64> {
    let number: i64 = db.prepare_cached(sql)?.query_row(params, |row| row.get(0))?;
    Ok(number.unsigned_abs())
}

/// Runs a statement that returns the queue of each row it changed, and wakes who waits for
/// them. How many rows.
fn change_and_wake(tx: &SqliteTx<'_>, sql: &str, params: impl Params) -> rusqlite::Result<u64> {
    let mut queues: Vec<String> = all(tx, sql, params, |row| row.get(0))?;
    let changed = rows(queues.len());
    queues.sort_unstable();
    queues.dedup();
    queues.iter().for_each(|queue| tx.wake(queue));
    Ok(changed)
}

fn rows(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// Reads what `parse` makes of a column, where anything else means damaged tables.
fn parsed<T>(
    row: &Row<'_>,
    column: &str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> rusqlite::Result<T> {
    let index = row.as_ref().column_index(column)?;
    parse(row.get_ref(index)?.as_str()?).ok_or_else(|| damaged(index, Type::Text))
}

fn class(row: &Row<'_>) -> rusqlite::Result<Class> {
    let index = row.as_ref().column_index("class")?;
    Class::from_number(row.get(index)?).ok_or_else(|| damaged(index, Type::Integer))
}

fn moment(row: &Row<'_>, column: &str) -> rusqlite::Result<Timestamp> {
    row.get(column).map(Timestamp)
}

fn damaged(index: usize, kind: Type) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(index, kind, Box::new(FromSqlError::InvalidType))
}

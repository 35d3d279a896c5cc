//! One transaction for many works: each in a savepoint of its own, answered after the commit.

use std::cell::RefCell;
use std::sync::atomic::Ordering;

use rusqlite::{Connection, Statement};

use super::error::{breaks_connection, of_commit};
use super::shared::Shared;
use super::work::{Access, AnyWork, Bells, SqliteTx, Verdict};
use crate::store::StoreError;

const DATA_VERSION: &str = "pragma data_version";

/// What [`Group::watch`] compares with. It means something to the same connection only.
pub(super) fn data_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row(DATA_VERSION, [], |row| row.get(0))
}

/// Commits groups of works on one connection. Its statements live as long as that.
pub(super) struct Group<'c> {
    shared: &'c Shared,
    connection: &'c Connection,
    begin: Statement<'c>,
    commit: Statement<'c>,
    rollback: Statement<'c>,
    savepoint: Statement<'c>,
    release: Statement<'c>,
    undo: Statement<'c>,
    data_version: Statement<'c>,
    seen_version: i64,
    bells: RefCell<Bells>,
    ran: Vec<AnyWork>,
}

impl<'c> Group<'c> {
    /// Begins to watch from the version that was `seen` of this connection.
    pub(super) fn new(
        shared: &'c Shared,
        connection: &'c Connection,
        seen: i64,
    ) -> rusqlite::Result<Self> {
        Ok(Self {
            shared,
            connection,
            begin: connection.prepare("begin immediate")?,
            commit: connection.prepare("commit")?,
            rollback: connection.prepare("rollback")?,
            savepoint: connection.prepare("savepoint sf_work")?,
            release: connection.prepare("release sf_work")?,
            undo: connection.prepare("rollback to sf_work")?,
            data_version: connection.prepare(DATA_VERSION)?,
            seen_version: seen,
            bells: RefCell::default(),
            ran: Vec::new(),
        })
    }

    /// Commits the works and answers every one of them.
    ///
    /// # Errors
    ///
    /// The connection cannot be used any more.
    pub(super) fn commit(&mut self, works: &mut Vec<AnyWork>) -> Result<(), StoreError> {
        let mut waiting = works.drain(..);
        while waiting.len() > 0 {
            if let Err(error) = self.transaction(&mut waiting) {
                waiting.for_each(|work| work.answer(Err(&error)));
                return Err(error);
            }
        }
        Ok(())
    }

    /// Wakes everybody if another connection has committed since the last look.
    ///
    /// SQLite does not count the commits of the connection that asks, so that these wake nobody
    /// who was not rung for. Nothing is missed while this one waits for its turn to write: who
    /// is woken could do nothing before that either.
    pub(super) fn watch(&mut self) {
        let version = self.data_version.query_row([], |row| row.get(0));
        let Ok(version) = version else { return };
        if version != self.seen_version {
            self.seen_version = version;
            self.shared.wakes.wake_all();
        }
    }

    /// Runs works until all have run or the transaction is lost, and answers those.
    fn transaction(
        &mut self,
        waiting: &mut impl Iterator<Item = AnyWork>,
    ) -> Result<(), StoreError> {
        if let Err(error) = self.begin.execute([]) {
            let error = StoreError::from(error);
            if breaks_connection(&error) {
                return Err(error);
            }
            waiting.for_each(|work| work.answer(Err(&error)));
            return Ok(());
        }
        self.watch();
        for work in waiting {
            if let Err(lost) = self.run(work) {
                self.fail(&lost);
                return Ok(());
            }
        }
        self.finish()
    }

    /// Runs one work in a savepoint.
    ///
    /// # Errors
    ///
    /// The whole transaction was rolled back: SQLite does that when the disk is full or fails.
    fn run(&mut self, mut work: AnyWork) -> Result<(), StoreError> {
        if work.is_abandoned() {
            return Ok(());
        }
        if let Err(error) = self.savepoint.execute([]) {
            self.ran.push(work);
            return Err(error.into());
        }
        let mark = self.bells.borrow().mark();
        let verdict = self.judge(&mut work);
        self.ran.push(work);
        if self.connection.is_autocommit() {
            return Err(reason(verdict));
        }
        if !matches!(verdict, Verdict::Keep) {
            self.bells.borrow_mut().forget(mark);
            self.undo.execute([])?;
        }
        self.release.execute([])?;
        Ok(())
    }

    fn judge(&self, work: &mut AnyWork) -> Verdict {
        let tx = SqliteTx::ours(self.connection, &self.bells);
        match work.access() {
            Access::Write => work.run(tx),
            Access::Read => {
                let guarded = self.connection.pragma_update(None, "query_only", true);
                let verdict = work.run(tx);
                let open = self.connection.pragma_update(None, "query_only", false);
                if guarded.and(open).is_ok() { verdict } else { Verdict::Undo(None) }
            }
        }
    }

    fn finish(&mut self) -> Result<(), StoreError> {
        if let Err(error) = self.commit.execute([]) {
            let error = of_commit(error);
            tracing::warn!(error = %error, works = self.ran.len(), "store.commit_failed");
            self.fail(&error);
            return if breaks_connection(&error) { Err(error) } else { Ok(()) };
        }
        self.shared.counters.committed(self.ran.len());
        self.ran.drain(..).for_each(|work| work.answer(Ok(())));
        self.bells.borrow_mut().ring(&self.shared.wakes);
        Ok(())
    }

    /// Rolls back and answers what has run in vain.
    fn fail(&mut self, error: &StoreError) {
        if !self.connection.is_autocommit() && self.rollback.execute([]).is_err() {
            tracing::error!("store.rollback_failed");
        }
        self.shared.counters.failed_commits.fetch_add(1, Ordering::Relaxed);
        self.bells.borrow_mut().clear();
        self.ran.drain(..).for_each(|work| work.answer(Err(error)));
    }
}

impl std::fmt::Debug for Group<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group").finish_non_exhaustive()
    }
}

/// Why the transaction is gone. The error of the work that lost it says so, if it is one of
/// ours. Otherwise it may even have been ended by a `COMMIT` that did not come from us.
fn reason(verdict: Verdict) -> StoreError {
    match verdict {
        Verdict::Undo(Some(error)) if error.is_transient() => error,
        Verdict::Undo(_) | Verdict::Keep => StoreError::OutcomeUnknown(StoreError::source(Lost)),
    }
}

#[derive(Debug, thiserror::Error)]
#[error("another work of the same group ended the transaction")]
struct Lost;

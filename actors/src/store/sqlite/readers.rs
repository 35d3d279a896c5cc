//! The threads that read, each with a connection of its own.

use std::cell::RefCell;
use std::sync::Arc;

use rusqlite::Connection;

use super::connect::{Role, connect};
use super::queue::Taken;
use super::shared::Shared;
use super::work::{AnyWork, Bells, SqliteTx, Verdict};
use crate::store::StoreError;

pub(super) struct Reader {
    shared: Arc<Shared>,
    connection: Result<Connection, StoreError>,
}

impl Reader {
    pub(super) const fn new(shared: Arc<Shared>, connection: Connection) -> Self {
        Self { shared, connection: Ok(connection) }
    }

    /// Reads until the store is closed.
    pub(super) fn run(mut self) {
        let mut works = Vec::with_capacity(1);
        while !matches!(self.shared.reads.take(1, None, &mut works), Taken::Closed) {
            for work in works.drain(..) {
                self.read(work);
            }
        }
    }

    fn read(&mut self, work: AnyWork) {
        if work.is_abandoned() {
            return;
        }
        if self.connection.is_err() {
            self.connection = connect(&self.shared.options, Role::Reader);
        }
        let outcome = match &self.connection {
            Ok(connection) => run(connection, work),
            Err(error) => {
                work.answer(Err(error));
                return;
            }
        };
        // The next read opens another.
        if let Err(broken) = outcome {
            tracing::warn!(error = %broken, "store.reader_broken");
            self.connection = Err(broken);
        }
    }
}

/// Runs one work at one snapshot.
///
/// # Errors
///
/// The connection cannot be used any more. The work has its answer.
fn run(connection: &Connection, mut work: AnyWork) -> Result<(), StoreError> {
    if let Err(error) = execute(connection, "begin") {
        let error = error.into();
        work.answer(Err(&error));
        return Err(error);
    }
    let bells = RefCell::<Bells>::default();
    let verdict = work.run(SqliteTx::ours(connection, &bells));
    let ended = if connection.is_autocommit() { Ok(()) } else { execute(connection, "rollback") };
    work.answer(Ok(()));
    ended?;
    match verdict {
        Verdict::Undo(Some(error @ (StoreError::Unavailable(_) | StoreError::Corrupt(_)))) => {
            Err(error)
        }
        Verdict::Undo(_) | Verdict::Keep => Ok(()),
    }
}

fn execute(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([]).map(|_| ())
}

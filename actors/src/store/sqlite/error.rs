//! What the codes of SQLite ask of whoever sees them.

use std::sync::Arc;

use rusqlite::ffi;

use crate::store::{StoreError, is_of_enum};

impl From<rusqlite::Error> for StoreError {
    /// Takes it that nothing was written, as after every statement but `COMMIT`.
    fn from(error: rusqlite::Error) -> Self {
        let Some(code) = primary_code(&error) else { return Self::Failed(Self::source(error)) };
        match code {
            ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED | ffi::SQLITE_INTERRUPT => Self::Timeout,
            ffi::SQLITE_FULL => Self::Full(Self::source(error)),
            ffi::SQLITE_READONLY | ffi::SQLITE_PERM => Self::ReadOnly(Self::source(error)),
            ffi::SQLITE_NOTADB | ffi::SQLITE_CORRUPT => Self::Corrupt(Self::source(error)),
            ffi::SQLITE_CANTOPEN | ffi::SQLITE_IOERR | ffi::SQLITE_NOMEM | ffi::SQLITE_PROTOCOL => {
                Self::Unavailable(Self::source(error))
            }
            ffi::SQLITE_CONSTRAINT => constraint(error),
            _ => Self::Failed(Self::source(error)),
        }
    }
}

fn constraint(error: rusqlite::Error) -> StoreError {
    let name = match error.sqlite_error().map(|error| error.extended_code) {
        // What the trigger says is all that is known of it.
        Some(ffi::SQLITE_CONSTRAINT_TRIGGER) => message(&error).map(Into::into),
        _ => constraint_name(&error),
    };
    let source = StoreError::source(error);
    match name {
        Some(name) if is_of_enum(&name) => {
            StoreError::EnumRejected { constraint: Some(name), source }
        }
        name => StoreError::Constraint { name, source },
    }
}

/// What a failed `COMMIT` means for what it should have kept.
pub(super) fn of_commit(error: rusqlite::Error) -> StoreError {
    let error = StoreError::from(error);
    if let StoreError::Unavailable(source) = error {
        // The last frame may have reached the file before its sync failed: whoever recovers
        // from the file then finds it.
        return StoreError::OutcomeUnknown(source);
    }
    error
}

/// Whether the connection cannot be used any more after this came of a `BEGIN` or a `COMMIT`.
pub(super) const fn breaks_connection(error: &StoreError) -> bool {
    match error {
        StoreError::Timeout
        | StoreError::Full(_)
        | StoreError::Constraint { .. }
        | StoreError::EnumRejected { .. } => false,
        StoreError::Unavailable(_)
        | StoreError::OutcomeUnknown(_)
        | StoreError::ReadOnly(_)
        | StoreError::Credentials(_)
        | StoreError::Untrusted(_)
        | StoreError::InvalidSetting { .. }
        | StoreError::NewerSchema { .. }
        | StoreError::MigrationChanged { .. }
        | StoreError::Corrupt(_)
        | StoreError::Panicked
        | StoreError::Closed
        | StoreError::Failed(_) => true,
    }
}

pub(super) fn is_busy(error: &rusqlite::Error) -> bool {
    primary_code(error) == Some(ffi::SQLITE_BUSY)
}

pub(super) fn cannot_open(error: &rusqlite::Error) -> bool {
    primary_code(error) == Some(ffi::SQLITE_CANTOPEN)
}

/// The code without what is only detail.
fn primary_code(error: &rusqlite::Error) -> Option<i32> {
    error.sqlite_error().map(|error| error.extended_code & 0xff)
}

/// SQLite says `UNIQUE constraint failed: table.column` or `CHECK constraint failed: name`.
fn constraint_name(error: &rusqlite::Error) -> Option<Arc<str>> {
    message(error)?.split_once("constraint failed: ").map(|(_, name)| name.into())
}

fn message(error: &rusqlite::Error) -> Option<&str> {
    let rusqlite::Error::SqliteFailure(_, message) = error else { return None };
    message.as_deref()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Fault;

    #[track_caller]
    fn check(code: i32, expected: &str) {
        let error = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
        assert_eq!(StoreError::from(error).code().as_str(), expected, "{code}");
    }

    #[test]
    fn each_code_asks_for_the_right_reaction() {
        check(ffi::SQLITE_BUSY, "store.timeout");
        check(ffi::SQLITE_BUSY_SNAPSHOT, "store.timeout");
        check(ffi::SQLITE_LOCKED, "store.timeout");
        check(ffi::SQLITE_FULL, "store.full");
        check(ffi::SQLITE_READONLY, "store.read_only");
        check(ffi::SQLITE_READONLY_DIRECTORY, "store.read_only");
        check(ffi::SQLITE_PERM, "store.read_only");
        check(ffi::SQLITE_CANTOPEN, "store.unavailable");
        check(ffi::SQLITE_IOERR_FSYNC, "store.unavailable");
        check(ffi::SQLITE_NOTADB, "store.corrupt");
        check(ffi::SQLITE_CORRUPT, "store.corrupt");
        check(ffi::SQLITE_CONSTRAINT_UNIQUE, "store.constraint");
        check(ffi::SQLITE_ERROR, "store.failed");
    }

    #[test]
    fn a_commit_whose_sync_failed_may_have_been_made() {
        let failed = |code| rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
        let unsynced = of_commit(failed(ffi::SQLITE_IOERR_FSYNC));
        assert!(!unsynced.wrote_nothing() && breaks_connection(&unsynced));
        let full = of_commit(failed(ffi::SQLITE_FULL));
        assert!(full.wrote_nothing() && !breaks_connection(&full));
    }

    #[test]
    fn a_constraint_is_named() {
        let connection = rusqlite::Connection::open_in_memory().unwrap();
        let sql = "create table t (a integer constraint positive check (a > 0));
                   insert into t values (-1)";
        let error = StoreError::from(connection.execute_batch(sql).unwrap_err());
        let StoreError::Constraint { name, .. } = error else { panic!("{error:?}") };
        assert_eq!(name.as_deref(), Some("positive"));
    }
}

//! Opening one connection, and saying what is wrong with the place if that fails.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::config::{Durability, SqliteOptions};
use super::error::{cannot_open, is_busy};
use crate::store::StoreError;

/// LIMIT: the statements of the library are fewer; a user's come on top.
const STATEMENTS: usize = 128;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The first of all: makes the file if there is none.
    Founder,
    /// Writes to a file that was there.
    Writer,
    Reader,
    Checkpointer,
}

/// Opens a connection and sets it up. Blocks, for `busy_timeout` at most.
pub(super) fn connect(options: &SqliteOptions, role: Role) -> Result<Connection, StoreError> {
    let connection = match &options.path {
        Some(path) => open_file(path, role)?,
        None => Connection::open_in_memory()?,
    };
    connection.busy_timeout(options.busy_timeout)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    if options.path.is_some() && role == Role::Founder {
        enable_wal(&connection, options.busy_timeout)?;
    }
    let synchronous = match options.durability {
        Durability::Full => "full",
        Durability::Normal => "normal",
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // A plan does not depend on what is bound. Otherwise SQLite compiles every statement with a
    // `limit ?` anew each time it is bound, which took longer than a claim itself.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    // Checkpoints are made by a thread of their own, so that no commit pays for one.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "query_only", role == Role::Reader)?;
    Ok(connection)
}

fn open_file(path: &Path, role: Role) -> Result<Connection, StoreError> {
    let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    if role == Role::Founder {
        flags |= OpenFlags::SQLITE_OPEN_CREATE;
    }
    let connection =
        Connection::open_with_flags(path, flags).map_err(|error| diagnose(path, error))?;
    // SQLite opens a file that it may not write for reading alone, and says so only at the write.
    if connection.is_readonly("main")? {
        return Err(StoreError::ReadOnly(StoreError::source(NotWritable("the file"))));
    }
    Ok(connection)
}

/// Says why the file cannot be opened, where the place tells.
pub(super) fn diagnose(path: &Path, error: rusqlite::Error) -> StoreError {
    if !cannot_open(&error) {
        return error.into();
    }
    let refuse = |expected| StoreError::InvalidSetting { setting: "path", expected };
    if path.is_dir() {
        return refuse("a file, not a folder");
    }
    match path.parent().map(Path::metadata) {
        Some(Ok(folder)) if !folder.is_dir() => refuse("in a folder, not in a file"),
        Some(Ok(folder)) if folder.permissions().readonly() => {
            StoreError::ReadOnly(StoreError::source(NotWritable("its folder")))
        }
        Some(Err(missing)) if missing.kind() == std::io::ErrorKind::NotFound => {
            refuse("in a folder that exists")
        }
        Some(Ok(_) | Err(_)) | None => error.into(),
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{0} cannot be written by this process")]
struct NotWritable(&'static str);

/// Lets readers and the writer work side by side.
///
/// When processes start together, one may change the mode while the others look; SQLite does
/// not wait there, whatever its busy timeout is. So we do.
fn enable_wal(connection: &Connection, give_up: Duration) -> Result<(), StoreError> {
    let give_up = Instant::now() + give_up;
    loop {
        let mode = connection
            .pragma_update_and_check(None, "journal_mode", "wal", |row| row.get::<_, String>(0));
        match mode {
            Ok(mode) if mode == "wal" => return Ok(()),
            Ok(_) => {
                let expected = "on a file system that SQLite can share memory on";
                return Err(StoreError::InvalidSetting { setting: "path", expected });
            }
            Err(error) if is_busy(&error) && Instant::now() < give_up => {
                std::thread::park_timeout(Duration::from_millis(5));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

//! SQLite: one thread writes, in groups that share a commit; a few read.
//!
//! What is written is answered after its commit, and a commit waits for the disk (see
//! [`Durability`]). Many callers share one: while the disk works, those that come wait and make
//! the next group. Each work has a savepoint of its own, so that an error or a panic in one
//! undoes nothing of its neighbours.

mod checkpoint;
mod config;
mod connect;
mod error;
mod group;
mod migrate;
mod queue;
mod readers;
mod shared;
mod status;
#[cfg(test)]
mod tests;
mod work;
mod writer;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use rusqlite::{Connection, OpenFlags};
use tokio::sync::{oneshot, watch};

use self::checkpoint::{Checkpointer, Trigger};
use self::connect::{Role, connect};
use self::group::data_version;
use self::readers::Reader;
use self::shared::Shared;
use self::work::{Access, AnyWork, Task};
use self::writer::Writer;
use super::migrations::{self, AppliedMigration, Migration};
use super::{StoreError, Wakes};
use crate::kernel::Ambient;

pub use config::{Durability, SqliteOptions};
pub use status::SqliteStatus;
pub use work::SqliteTx;

/// A SQLite database, open and migrated. Cheap to clone; clones are the same store.
///
/// It may be used from any runtime, and from none: its threads are its own. They end with the
/// last clone.
///
/// Writes share transactions and commits, and hardly anything else:
///
/// | what happens | who is told what |
/// |---|---|
/// | a work returns an error or panics | it alone; the rest of the group is committed |
/// | the commit fails, or the disk is full in the midst | all of the group; nothing was written |
/// | the disk fails during the commit | all of the group: [`StoreError::OutcomeUnknown`] |
/// | another process writes for longer than `busy_timeout` | all of the group: [`StoreError::Timeout`] |
/// | a constraint that is checked at the commit refuses (`deferrable initially deferred`) | all of the group: [`StoreError::Constraint`] |
/// | nobody waits any more for a work that has not begun | it is not run |
#[derive(Clone)]
pub struct SqliteStore(Arc<Handle>);

struct Handle {
    shared: Arc<Shared>,
    /// Each thread holds a receiver for as long as it runs.
    threads: watch::Sender<()>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl SqliteStore {
    /// Opens a database and brings its tables up to date. Several processes may do so at the
    /// same time.
    ///
    /// # Errors
    ///
    /// [`StoreError::InvalidSetting`], also for a path that cannot be one; what else the file
    /// or its disk refuse; [`StoreError::NewerSchema`] and [`StoreError::MigrationChanged`].
    ///
    /// # Cancel safety
    ///
    /// Dropping this leaves it open whether the file is made and migrated.
    pub async fn open(options: SqliteOptions) -> Result<Self, StoreError> {
        Self::open_with(options, migrations::ALL).await
    }

    /// Runs `work` in the next group's transaction. Answers after the commit.
    ///
    /// An error or a panic rolls back this work and no other. It runs under the request that is
    /// current where this is called, so that what it enqueues inherits it. The work is queued when the
    /// future is first polled; works that one caller queues run in that order. It blocks all
    /// other writes while it runs: let it be short and wait for nothing.
    ///
    /// # Errors
    ///
    /// Those of the work, and as the table of [`SqliteStore`] says.
    /// [`StoreError::Panicked`] and [`StoreError::Closed`].
    ///
    /// # Cancel safety
    ///
    /// Dropped before its work has begun, nothing is written. Dropped later, the work is
    /// committed all the same.
    pub fn write<T, E>(
        &self,
        work: impl FnOnce(&SqliteTx<'_>) -> Result<T, E> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, E>>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let request = Ambient::capture();
        let work = move |tx: SqliteTx<'_>| request.enter(|| work(&tx));
        let (work, answered) = Task::boxed(Access::Write, work);
        submit(Arc::clone(&self.0.shared), work, answered)
    }

    /// Runs `work` on a connection that only reads, at one snapshot of the database, beside
    /// what is written. One that runs for long keeps the write-ahead log from being begun anew.
    ///
    /// A database in memory is read on the connection that writes, between its works.
    ///
    /// # Errors
    ///
    /// Those of the work; [`StoreError::Panicked`] and [`StoreError::Closed`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future before its work has begun saves it.
    pub fn read<T, E>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, E>>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let request = Ambient::capture();
        let work = move |tx: SqliteTx<'_>| request.enter(|| work(&tx));
        let (work, answered) = Task::boxed(Access::Read, work);
        submit(Arc::clone(&self.0.shared), work, answered)
    }

    /// Who waits for what is written, here and in other processes that use the file.
    #[must_use]
    pub fn wakes(&self) -> &Wakes {
        &self.0.shared.wakes
    }

    /// The file, as SQLite resolved it. `None`: the database is in memory.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.0.shared.options.path.as_deref()
    }

    /// The folder beside the file in which processes that use it show that they live.
    #[must_use]
    pub fn presence_folder(&self) -> Option<PathBuf> {
        self.path().map(|path| {
            let mut folder = path.as_os_str().to_os_string();
            folder.push(".nodes");
            folder.into()
        })
    }

    /// How the store is now, without asking the database.
    #[must_use]
    pub fn status(&self) -> SqliteStatus {
        let shared = &self.0.shared;
        let (writes, reads) = (shared.writes.len(), shared.reads.len());
        shared.counters.status(shared.wal.as_deref(), writes, reads)
    }

    /// Carries out what is queued, refuses what comes, and waits until the file is closed.
    ///
    /// # Cancel safety
    ///
    /// Dropping this leaves the store closing.
    pub async fn close(&self) {
        self.0.shared.close();
        self.0.threads.closed().await;
    }

    /// The statements that make the library's tables, as a script for whoever does not let
    /// services do that. A database that was prepared with it is opened without any change.
    #[must_use]
    pub fn print_migrations() -> String {
        migrate::script(migrations::ALL)
    }

    /// What a database has been migrated to; empty if it never was. Changes nothing, and blocks
    /// for as long as reading takes: for tools.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or is not a database.
    pub fn applied_migrations(path: &Path) -> Result<Vec<AppliedMigration>, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let options = SqliteOptions::file(path).checked()?;
        let path = options.path.as_deref().unwrap_or(path);
        let connection = Connection::open_with_flags(path, flags)
            .map_err(|error| connect::diagnose(path, error))?;
        connection.busy_timeout(options.busy_timeout)?;
        migrate::applied(&connection)
    }

    async fn open_with(
        options: SqliteOptions,
        known: &'static [Migration],
    ) -> Result<Self, StoreError> {
        let options = options.checked()?;
        let (answer, opened) = oneshot::channel();
        spawn("sf-sqlite-open", move || answer.send(start(options, known)).is_ok())?;
        // Whoever opens is gone without an answer only if it panicked.
        opened.await.unwrap_or(Err(StoreError::Panicked))
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("path", &self.path()).finish_non_exhaustive()
    }
}

/// Queues work and waits for its answer.
fn submit<T, E>(
    shared: Arc<Shared>,
    work: AnyWork,
    answered: oneshot::Receiver<Result<T, E>>,
) -> BoxFuture<'static, Result<T, E>>
where
    T: Send + 'static,
    E: From<StoreError> + Send + 'static,
{
    async move {
        shared.queue_for(work.access()).push(work).await?;
        drop(shared);
        // Only a defect of ours leaves a work without an answer; it may have been carried out.
        let lost = |_| Err(StoreError::OutcomeUnknown(StoreError::source(Unanswered)).into());
        answered.await.unwrap_or_else(lost)
    }
    .boxed()
}

#[derive(Debug, thiserror::Error)]
#[error("the work was lost without an answer")]
struct Unanswered;

/// Opens and migrates, then starts the threads. Blocks.
fn start(mut options: SqliteOptions, known: &[Migration]) -> Result<SqliteStore, StoreError> {
    let mut connection = connect(&options, Role::Founder)?;
    migrate::migrate(&mut connection, known)?;
    if options.path.is_some() {
        options.path = connection.path().map(PathBuf::from).or(options.path);
    }
    let seen_version = data_version(&connection)?;
    let shared = Arc::new(Shared::new(options));
    let (threads, running) = watch::channel(());
    // Made first: should a thread fail to start, dropping it ends those that run.
    let store = SqliteStore(Arc::new(Handle { shared: Arc::clone(&shared), threads }));
    let trigger = start_beside(&shared, &running)?;
    let writer = Writer::new(shared, trigger, seen_version);
    spawn_counted("sf-sqlite-write", running, move || writer.run(connection))?;
    Ok(store)
}

/// Starts what works beside the writer; nothing does for a database in memory.
fn start_beside(
    shared: &Arc<Shared>,
    running: &watch::Receiver<()>,
) -> Result<Option<Trigger>, StoreError> {
    let Some(wal) = shared.wal.clone() else { return Ok(None) };
    for _ in 0..shared.options.readers {
        let connection = connect(&shared.options, Role::Reader)?;
        let reader = Reader::new(Arc::clone(shared), connection);
        spawn_counted("sf-sqlite-read", running.clone(), move || reader.run())?;
    }
    let (order, orders) = sync_channel(1);
    let connection = connect(&shared.options, Role::Checkpointer)?;
    let checkpointer = Checkpointer::new(Arc::clone(shared), connection, orders)?;
    spawn_counted("sf-sqlite-copy", running.clone(), move || checkpointer.run())?;
    Ok(Some(Trigger::new(order, wal)))
}

/// Runs `work` on a thread that [`SqliteStore::close`] waits for.
fn spawn_counted(
    name: &str,
    running: watch::Receiver<()>,
    work: impl FnOnce() + Send + 'static,
) -> Result<(), StoreError> {
    spawn(name, move || {
        work();
        // ORDER: after what the work held, such as its connection, is gone.
        drop(running);
    })
}

fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<(), StoreError> {
    let thread = std::thread::Builder::new().name(name.to_owned());
    match thread.spawn(work) {
        Ok(_detached) => Ok(()),
        Err(error) => Err(StoreError::Unavailable(StoreError::source(error))),
    }
}

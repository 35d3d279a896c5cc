//! The engine on real files: `groups` (neighbours in one commit), `crash` (`kill -9`),
//! `limits` (full disk, full queue, held locks), `log` (the write-ahead log), `opening` (bad
//! files, migrations), `wakes` (who is told of what).

mod crash;
mod groups;
mod limits;
mod log;
mod opening;
mod wakes;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tempfile::TempDir;

use super::*;

/// A store on a file of its own, with a table `t (a integer primary key, b)`.
struct Fixture {
    folder: TempDir,
    store: SqliteStore,
}

impl Fixture {
    async fn new() -> Self {
        Self::with(|options| options).await
    }

    async fn with(options: impl FnOnce(SqliteOptions) -> SqliteOptions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = options(SqliteOptions::file(folder.path().join("test.db")));
        let store = SqliteStore::open(options).await.unwrap();
        run(&store, "create table t (a integer primary key, b any) strict").await.unwrap();
        Self { folder, store }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("test.db")
    }

    /// A connection that is not of the store, as another process has it.
    fn outsider(&self) -> Connection {
        let connection = Connection::open(self.path()).unwrap();
        connection.busy_timeout(Duration::from_secs(10)).unwrap();
        connection
    }
}

async fn run(store: &SqliteStore, sql: &'static str) -> Result<(), StoreError> {
    store.write(move |tx| Ok(tx.execute_batch(sql)?)).await
}

/// Stores one row.
fn put(
    store: &SqliteStore,
    a: i64,
) -> impl Future<Output = Result<(), StoreError>> + Send + 'static {
    store.write(move |tx| {
        tx.prepare_cached("insert into t values (?1, 'x')")?.execute([a])?;
        Ok(())
    })
}

/// The first column of all rows of `t`.
async fn rows(store: &SqliteStore) -> Vec<i64> {
    store.read(rows_of).await.unwrap()
}

fn rows_of(connection: &Connection) -> Result<Vec<i64>, StoreError> {
    let mut statement = connection.prepare("select a from t order by a")?;
    let rows = statement.query_map([], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Waits, up to 30 s, until something outside of tokio's clock has come about.
#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let give_up = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < give_up, "not within 30 s: {what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

/// Keeps the writer busy until the returned guard is dropped, so that what is queued meanwhile
/// makes one group.
async fn hold(store: &SqliteStore) -> std::sync::mpsc::Sender<()> {
    let (release, released) = std::sync::mpsc::channel::<()>();
    let (begun, began) = oneshot::channel();
    let holding = store.write(move |_| -> Result<(), StoreError> {
        let _told = begun.send(());
        let _released = released.recv();
        Ok(())
    });
    tokio::spawn(holding);
    began.await.unwrap();
    release
}

/// Queues all before it answers, so that they run in one group.
async fn together<T, E>(
    store: &SqliteStore,
    works: Vec<BoxFuture<'static, Result<T, E>>>,
) -> Vec<Result<T, E>>
where
    T: Send + 'static,
    E: Send + 'static,
{
    let held = hold(store).await;
    let (count, commits) = (works.len(), store.status().commits);
    let all = tokio::spawn(futures_util::future::join_all(works));
    while store.status().writes_waiting < count {
        tokio::task::yield_now().await;
    }
    drop(held);
    let answers = all.await.unwrap();
    // The one that held, and one group.
    assert!(store.status().commits <= commits + 2);
    answers
}

//! Claims about enqueuing and completing in a transaction that also writes something else.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;

use super::super::{SqliteJobs, complete_in, insert_in};
use crate::jobs::RunKey;
use crate::jobs::store::conformance::Stage;
use crate::jobs::store::conformance::stage::{DONE, NOW, QUEUE, job, settle};
use crate::jobs::store::{Inserted, JobState, Settle};
use crate::store::{SqliteOptions, SqliteStore, SqliteTx, StoreError};

const EFFECT: &str = "insert into effect values (1)";

async fn stage() -> (SqliteStore, Stage) {
    let store = SqliteStore::open(SqliteOptions::memory()).await.unwrap();
    store
        .write(|tx| tx.execute_batch("create table effect (number)").map_err(StoreError::from))
        .await
        .unwrap();
    let stage = Stage::new(Arc::new(SqliteJobs::new(store.clone())));
    (store, stage)
}

async fn effects(store: &SqliteStore) -> i64 {
    let sql = "select count(*) from effect";
    let count = store.read(move |db| Ok::<_, StoreError>(db.query_row(sql, [], |row| row.get(0))?));
    count.await.unwrap()
}

async fn is_rung(store: &SqliteStore) -> bool {
    let bell = store.wakes().bell(QUEUE);
    tokio::time::timeout(Duration::ZERO, bell.notified()).await.is_ok()
}

#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("changed its mind")]
    ByUser,
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[tokio::test]
async fn a_job_is_stored_with_the_row_that_it_is_about() {
    let (store, stage) = stage().await;
    assert!(!is_rung(&store).await);
    let inserted = store
        .write(|tx| {
            tx.execute(EFFECT, [])?;
            insert_in(tx, &job(), NOW)
        })
        .await;
    let Ok(Inserted::New(id)) = inserted else { panic!("{inserted:?}") };
    assert_eq!((stage.state(id).await, effects(&store).await), (JobState::Ready, 1));
    assert!(is_rung(&store).await);
}

#[tokio::test]
async fn a_transaction_that_is_rolled_back_leaves_no_job_and_wakes_nobody() {
    let (store, stage) = stage().await;
    assert!(!is_rung(&store).await);
    let inserted: Result<(), Refused> = store
        .write(|tx| {
            insert_in(tx, &job(), NOW)?;
            Err(Refused::ByUser)
        })
        .await;
    assert!(matches!(inserted, Err(Refused::ByUser)));
    assert_eq!(stage.counts().await.unwrap().ready, 0);
    assert!(!is_rung(&store).await);
}

/// Writes the effect of a run and its end, or neither.
async fn complete(store: &SqliteStore, settle: Settle) -> Result<(), Refused> {
    let work = move |tx: &SqliteTx<'_>| {
        tx.execute(EFFECT, []).map_err(StoreError::from)?;
        if complete_in(tx, &settle, NOW)? { Ok(()) } else { Err(Refused::ByUser) }
    };
    store.write(work).await
}

#[tokio::test]
async fn an_effect_and_its_completion_are_one() {
    let (store, stage) = stage().await;
    let key = stage.running(stage.node().await, job()).await;
    complete(&store, settle(key, DONE)).await.unwrap();
    assert_eq!((stage.state(key.id).await, effects(&store).await), (JobState::Done, 1));
}

#[tokio::test]
async fn a_run_that_was_fenced_has_no_effect() {
    let (store, stage) = stage().await;
    let key = stage.running(stage.node().await, job()).await;
    let late = RunKey { run: key.run - 1, ..key };
    complete(&store, settle(late, DONE)).await.unwrap_err();
    assert_eq!((stage.state(key.id).await, effects(&store).await), (JobState::Running, 0));
}

#[tokio::test]
async fn a_job_is_stored_from_a_connection_of_the_user() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jobs.db");
    let store = SqliteStore::open(SqliteOptions::file(&file)).await.unwrap();
    let stage = Stage::new(Arc::new(SqliteJobs::new(store)));
    let mut connection = Connection::open(&file).unwrap();
    let tx = connection.transaction().unwrap();
    insert_in(&SqliteTx::new(&tx), &job(), NOW).unwrap();
    assert_eq!(stage.counts().await.unwrap().ready, 0);
    tx.commit().unwrap();
    assert_eq!(stage.counts().await.unwrap().ready, 1);
}

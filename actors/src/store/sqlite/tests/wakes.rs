//! Who is told of what was committed.

use tokio::time::timeout;

use super::*;

/// Far beyond the 25 ms, for a machine that has other things to do.
const SOON: Duration = Duration::from_secs(10);

fn put_and_wake(store: &SqliteStore, a: i64) -> BoxFuture<'static, Result<(), StoreError>> {
    store.write(move |tx| {
        tx.execute("insert into t values (?1, 'x')", [a])?;
        tx.wake("here");
        Ok(())
    })
}

#[tokio::test]
async fn a_bell_is_rung_after_its_commit_and_for_nothing_that_was_rolled_back() {
    let Fixture { store, .. } = &Fixture::new().await;
    let (here, there) = (store.wakes().bell("here"), store.wakes().bell("there"));
    put_and_wake(store, 1).await.unwrap();
    timeout(SOON, here.notified()).await.unwrap();
    put_and_wake(store, 1).await.unwrap_err();
    let failed = store.write(|tx| -> Result<(), StoreError> {
        tx.wake("here");
        Err(StoreError::Timeout)
    });
    failed.await.unwrap_err();
    put(store, 2).await.unwrap();
    assert!(here.notified().now_or_never().is_none());
    assert!(there.notified().now_or_never().is_none());
}

#[tokio::test]
async fn more_topics_than_are_kept_wake_everybody() {
    let Fixture { store, .. } = &Fixture::new().await;
    let bell = store.wakes().bell("500");
    let many = store.write(|tx| -> Result<(), StoreError> {
        (0..=500).for_each(|topic| tx.wake(&topic.to_string()));
        Ok(())
    });
    many.await.unwrap();
    timeout(SOON, bell.notified()).await.unwrap();
}

#[tokio::test]
async fn two_stores_on_one_file_wake_each_other() {
    let fixture = Fixture::new().await;
    let other = SqliteStore::open(SqliteOptions::file(fixture.path())).await.unwrap();
    let (here, there) = (fixture.store.wakes().bell("here"), other.wakes().bell("here"));
    put(&fixture.store, 1).await.unwrap();
    timeout(SOON, there.notified()).await.unwrap();
    put(&other, 2).await.unwrap();
    timeout(SOON, here.notified()).await.unwrap();
}

#[tokio::test]
async fn a_transaction_of_ones_own_is_noticed() {
    let fixture = Fixture::new().await;
    let bell = fixture.store.wakes().bell("here");
    let mut outsider = fixture.outsider();
    let transaction = outsider.transaction().unwrap();
    let tx = SqliteTx::new(&transaction);
    tx.execute("insert into t values (1, 'x')", []).unwrap();
    tx.wake("here");
    assert!(bell.notified().now_or_never().is_none());
    transaction.commit().unwrap();
    timeout(SOON, bell.notified()).await.unwrap();
}

#[tokio::test]
async fn its_own_commits_wake_nobody_who_was_not_rung_for() {
    let fixture = Fixture::new().await;
    let bell = fixture.store.wakes().bell("here");
    let mut rung = 0;
    for a in 0..100 {
        put(&fixture.store, a).await.unwrap();
        rung += u32::from(bell.notified().now_or_never().is_some());
    }
    // Long enough for the watch to look at all of them.
    let marker = fixture.outsider();
    marker.execute_batch("insert into t values (1000, 'x')").unwrap();
    timeout(SOON, bell.notified()).await.unwrap();
    rung += u32::from(bell.notified().now_or_never().is_some());
    assert_eq!(rung, 0);
}

//! What neighbours in one commit do to each other: nothing.

use super::*;
use crate::kernel::{RequestContext, RequestId};

#[tokio::test]
async fn an_error_rolls_back_its_own_work_and_no_other() {
    let Fixture { store, .. } = &Fixture::new().await;
    let failing = store.write(|tx| -> Result<(), StoreError> {
        tx.execute_batch("insert into t values (20, 'x'); insert into t values (20, 'x')")?;
        Ok(())
    });
    let works = vec![put(store, 1).boxed(), failing, put(store, 3).boxed()];
    let answers = together(store, works).await;
    assert!(answers[0].is_ok() && answers[2].is_ok());
    let Err(StoreError::Constraint { name, .. }) = &answers[1] else { panic!("{answers:?}") };
    assert_eq!(name.as_deref(), Some("t.a"));
    assert_eq!(rows(store).await, [1, 3]);
}

#[tokio::test]
async fn a_panic_rolls_back_its_own_work_and_no_other() {
    let Fixture { store, .. } = &Fixture::new().await;
    let panicking = store.write(|tx| -> Result<(), StoreError> {
        let mut insert = tx.prepare("insert into t values (?1, 'x') returning a")?;
        let mut rows = insert.query([20])?;
        let _in_the_midst_of_a_statement = rows.next()?;
        panic!("on purpose")
    });
    let works = vec![put(store, 1).boxed(), panicking, put(store, 3).boxed()];
    let answers = together(store, works).await;
    assert!(answers[0].is_ok() && answers[2].is_ok());
    assert!(matches!(answers[1], Err(StoreError::Panicked)), "{answers:?}");
    assert_eq!(rows(store).await, [1, 3]);
}

#[tokio::test]
async fn a_work_that_ends_the_transaction_is_found_out_and_hurts_nothing_later() {
    let Fixture { store, .. } = &Fixture::new().await;
    let works = vec![
        put(store, 1).boxed(),
        store.write(|tx| Ok(tx.execute_batch("rollback")?)),
        put(store, 3).boxed(),
    ];
    let answers = together(store, works).await;
    assert!(matches!(answers[0], Err(StoreError::OutcomeUnknown(_))), "{answers:?}");
    assert!(matches!(answers[1], Err(StoreError::OutcomeUnknown(_))), "{answers:?}");
    assert!(answers[2].is_ok());
    assert_eq!(rows(store).await, [3]);
}

#[tokio::test]
async fn works_of_one_caller_run_in_the_order_they_were_queued() {
    let Fixture { store, .. } = &Fixture::new().await;
    run(store, "create table seen (n integer primary key autoincrement, a integer)").await.unwrap();
    let works = (0..2_000).map(|a: i64| {
        store.write(move |tx| -> Result<(), StoreError> {
            tx.prepare_cached("insert into seen (a) values (?1)")?.execute([a])?;
            Ok(())
        })
    });
    for answer in futures_util::future::join_all(works).await {
        answer.unwrap();
    }
    let sql = "select count(*) from seen where n = a + 1";
    let in_order = store.read(move |connection| -> Result<i64, StoreError> {
        Ok(connection.query_row(sql, [], |row| row.get(0))?)
    });
    assert_eq!(in_order.await.unwrap(), 2_000);
    assert!(store.status().commits < 1_000, "{:?}", store.status());
    assert!(store.status().largest_group <= 512);
}

#[tokio::test]
async fn what_nobody_waits_for_any_more_is_not_begun() {
    let Fixture { store, .. } = &Fixture::new().await;
    let held = hold(store).await;
    let mut given_up = put(store, 1).boxed();
    assert!((&mut given_up).now_or_never().is_none());
    let kept = tokio::spawn(put(store, 2));
    drop(given_up);
    drop(held);
    kept.await.unwrap().unwrap();
    assert_eq!(rows(store).await, [2]);
}

#[tokio::test]
async fn an_error_of_ones_own_type_comes_back_as_it_was() {
    #[derive(Debug, PartialEq)]
    enum Mine {
        Store,
        Refused(u32),
    }
    impl From<StoreError> for Mine {
        fn from(_: StoreError) -> Self {
            Self::Store
        }
    }
    let Fixture { store, .. } = &Fixture::new().await;
    let refused = store.write(|_| Err::<(), _>(Mine::Refused(7))).await;
    assert_eq!(refused, Err(Mine::Refused(7)));
    store.close().await;
    assert_eq!(store.write(|_| Ok::<_, Mine>(())).await, Err(Mine::Store));
    assert_eq!(store.read(|_| Ok::<_, Mine>(())).await, Err(Mine::Store));
}

#[test]
fn it_is_used_from_no_runtime_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let options = SqliteOptions::file(folder.path().join("test.db"));
    let written = block_on_without_runtime(async move {
        let store = SqliteStore::open(options).await.unwrap();
        run(&store, "create table t (a integer primary key, b any) strict").await.unwrap();
        put(&store, 1).await.unwrap();
        let found = rows(&store).await;
        store.close().await;
        found
    });
    assert_eq!(written, [1]);
}

/// Polls without any runtime.
fn block_on_without_runtime<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(value) => return value,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}

#[tokio::test]
async fn a_reader_sees_one_snapshot_and_cannot_write() {
    let Fixture { store, .. } = &Fixture::new().await;
    put(store, 1).await.unwrap();
    let (begun, began) = oneshot::channel();
    let (go_on, goes_on) = std::sync::mpsc::channel::<()>();
    let reading = tokio::spawn(store.read(move |connection| {
        let before = rows_of(connection)?;
        let _told = begun.send(());
        let _released = goes_on.recv();
        Ok::<_, StoreError>((before, rows_of(connection)?))
    }));
    began.await.unwrap();
    put(store, 2).await.unwrap();
    drop(go_on);
    assert_eq!(reading.await.unwrap().unwrap(), (vec![1], vec![1]));
    assert_eq!(rows(store).await, [1, 2]);
    let written = store.read(|c| Ok::<_, StoreError>(c.execute("delete from t", [])?)).await;
    assert!(matches!(written, Err(StoreError::ReadOnly(_))), "{written:?}");
}

#[tokio::test]
async fn a_reader_that_panics_serves_the_next() {
    let Fixture { store, .. } = &Fixture::with(|options| options.readers(1)).await;
    put(store, 1).await.unwrap();
    let panicked = store.read(|_| -> Result<(), StoreError> { panic!("on purpose") }).await;
    assert!(matches!(panicked, Err(StoreError::Panicked)));
    assert_eq!(rows(store).await, [1]);
}

#[tokio::test]
async fn a_database_in_memory_does_the_same() {
    let store = &SqliteStore::open(SqliteOptions::memory()).await.unwrap();
    run(store, "create table t (a integer primary key, b any) strict").await.unwrap();
    put(store, 1).await.unwrap();
    put(store, 1).await.unwrap_err();
    let panicked = store.write(|tx| -> Result<(), StoreError> {
        tx.execute_batch("insert into t values (3, 'x')")?;
        panic!("on purpose")
    });
    assert!(matches!(panicked.await, Err(StoreError::Panicked)));
    assert_eq!(rows(store).await, [1]);
    let written = store.read(|c| Ok::<_, StoreError>(c.execute("delete from t", [])?)).await;
    assert!(matches!(written, Err(StoreError::ReadOnly(_))), "{written:?}");
    put(store, 2).await.unwrap();
    assert_eq!(rows(store).await, [1, 2]);
    assert_eq!((store.path(), store.presence_folder()), (None, None));
    store.close().await;
    assert!(matches!(put(store, 3).await, Err(StoreError::Closed)));
}

#[tokio::test]
async fn closing_carries_out_what_was_queued_and_lets_go_of_the_file() {
    let fixture = Fixture::new().await;
    let held = hold(&fixture.store).await;
    let queued = tokio::spawn(put(&fixture.store, 1));
    while fixture.store.status().writes_waiting < 1 {
        tokio::task::yield_now().await;
    }
    let closing = tokio::spawn({
        let store = fixture.store.clone();
        async move { store.close().await }
    });
    drop(held);
    closing.await.unwrap();
    queued.await.unwrap().unwrap();
    // The last connection that is closed takes the log with it.
    let wal = fixture.folder.path().join("test.db-wal");
    assert!(!wal.exists());
    assert_eq!(rows_of(&fixture.outsider()).unwrap(), [1]);
}

#[tokio::test]
async fn the_threads_end_with_the_last_clone() {
    let Fixture { folder, store } = Fixture::new().await;
    put(&store, 1).await.unwrap();
    let clone = store.clone();
    drop(store);
    put(&clone, 2).await.unwrap();
    let wal = folder.path().join("test.db-wal");
    assert!(wal.exists());
    drop(clone);
    until("the log is gone", || !wal.exists());
}

#[tokio::test]
async fn a_work_runs_under_the_request_that_queued_it() {
    let fixture = Fixture::new().await;
    let own_id = || RequestContext::current().map(|request| request.id().to_string());
    let request = RequestContext::new(RequestId::parse("req-7").unwrap());
    let (written, read) = request.sync_scope(|| {
        let written = fixture.store.write(move |_| Ok::<_, StoreError>(own_id()));
        (written, fixture.store.read(move |_| Ok::<_, StoreError>(own_id())))
    });
    assert_eq!(written.await.unwrap().as_deref(), Some("req-7"));
    assert_eq!(read.await.unwrap().as_deref(), Some("req-7"));
    let outside = fixture.store.write(move |_| Ok::<_, StoreError>(own_id())).await;
    assert_eq!(outside.unwrap(), None, "the next work is not under it");
}

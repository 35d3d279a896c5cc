//! A full disk, a full queue, a lock that somebody else holds, a file that is gone.

use super::*;

#[tokio::test]
async fn a_full_disk_refuses_the_group_half_writes_nothing_and_recovers() {
    let Fixture { store, .. } = &Fixture::new().await;
    put(store, 1).await.unwrap();
    limit_pages(store, "pragma max_page_count = 1").await;
    let big = |a: i64| {
        store.write(move |tx| -> Result<(), StoreError> {
            tx.execute("insert into t values (?1, 'small')", [a])?;
            tx.execute("insert into t values (?1, zeroblob(100000))", [a + 1])?;
            Ok(())
        })
    };
    let works = vec![put(store, 2).boxed(), big(10), put(store, 3).boxed()];
    let answers = together(store, works).await;
    assert!(matches!(answers[1], Err(StoreError::Full(_))), "{answers:?}");
    let kept: Vec<i64> = [(&answers[0], 2), (&answers[2], 3)]
        .into_iter()
        .filter_map(|(answer, row)| match answer {
            Ok(()) => Some(row),
            Err(StoreError::Full(_)) => None,
            Err(other) => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(rows(store).await, [vec![1], kept].concat());

    limit_pages(store, "pragma max_page_count = 1000000").await;
    big(20).await.unwrap();
    assert!(rows(store).await.ends_with(&[20, 21]));
}

async fn limit_pages(store: &SqliteStore, pragma: &'static str) {
    // It cannot be lowered below what there is; the database is full then.
    let set = store.write(move |tx| Ok::<_, StoreError>(tx.query_row(pragma, [], |_| Ok(()))?));
    set.await.unwrap();
}

#[tokio::test]
async fn a_constraint_that_is_checked_at_the_commit_refuses_the_group() {
    let Fixture { store, .. } = &Fixture::new().await;
    run(store, "create table child (t integer references t (a) deferrable initially deferred)")
        .await
        .unwrap();
    let orphan = store.write(|tx| Ok(tx.execute_batch("insert into child values (99)")?));
    let answers = together(store, vec![put(store, 1).boxed(), orphan]).await;
    for answer in &answers {
        assert!(matches!(answer, Err(StoreError::Constraint { .. })), "{answers:?}");
    }
    assert!(rows(store).await.is_empty());
    put(store, 1).await.unwrap();
    assert_eq!(store.status().failed_commits, 1);
}

#[tokio::test]
async fn a_lock_held_by_another_process_for_three_seconds_only_delays() {
    let fixture = Fixture::new().await;
    let outsider = fixture.outsider();
    outsider.execute_batch("begin immediate; insert into t values (100, 'x')").unwrap();
    let began = Instant::now();
    let release = std::thread::spawn(move || {
        std::thread::park_timeout(Duration::from_secs(3));
        outsider.execute_batch("commit").unwrap();
    });
    let works = (0..64).map(|a| tokio::spawn(put(&fixture.store, a)));
    for answer in futures_util::future::join_all(works).await {
        answer.unwrap().unwrap();
    }
    assert!(began.elapsed() >= Duration::from_secs(3));
    release.join().unwrap();
    assert_eq!(rows(&fixture.store).await.len(), 65);
}

#[tokio::test]
async fn a_lock_held_for_too_long_is_a_timeout_and_nothing_was_written() {
    let fixture = Fixture::with(|options| options.busy_timeout(Duration::from_millis(20))).await;
    let outsider = fixture.outsider();
    outsider.execute_batch("begin immediate").unwrap();
    let answer = put(&fixture.store, 1).await;
    assert!(matches!(answer, Err(StoreError::Timeout)), "{answer:?}");
    outsider.execute_batch("commit").unwrap();
    assert!(rows(&fixture.store).await.is_empty());
    put(&fixture.store, 2).await.unwrap();
    assert!(fixture.store.status().connected);
}

#[tokio::test]
async fn one_past_the_capacity_waits_for_its_turn() {
    let Fixture { store, .. } = &Fixture::with(|options| options.capacity(8)).await;
    let held = hold(store).await;
    let mut works: Vec<_> = (0..9).map(|a| put(store, a).boxed()).collect();
    for work in &mut works {
        assert!(work.now_or_never().is_none());
    }
    assert_eq!(store.status().writes_waiting, 8);
    // One that gives up while it waits writes nothing.
    let mut given_up = put(store, 100).boxed();
    assert!((&mut given_up).now_or_never().is_none());
    drop(given_up);
    drop(held);
    for answer in futures_util::future::join_all(works).await {
        answer.unwrap();
    }
    assert_eq!(rows(store).await, (0..9).collect::<Vec<_>>());
}

/// Breaks what no work of ours does: it panics where nobody expects it.
struct Defect;

impl work::Work for Defect {
    fn access(&self) -> Access {
        Access::Write
    }

    fn is_abandoned(&self) -> bool {
        panic!("a defect, on purpose")
    }

    fn run(&mut self, _: SqliteTx<'_>) -> work::Verdict {
        work::Verdict::Keep
    }

    fn answer(self: Box<Self>, _: Result<(), &StoreError>) {}
}

#[tokio::test]
async fn a_connection_that_broke_is_opened_again_once_it_can_be() {
    let fixture = Fixture::new().await;
    let Fixture { store, .. } = &fixture;
    put(store, 1).await.unwrap();
    let away = fixture.folder.path().join("away");
    std::fs::rename(fixture.path(), &away).unwrap();
    store.0.shared.writes.push(Box::new(Defect)).await.unwrap();
    // First while it is broken, then while it cannot be opened.
    until("it is noticed", || !store.status().connected);
    let panicked = put(store, 2).await;
    assert!(matches!(panicked, Err(StoreError::Panicked)), "{panicked:?}");
    let refused = loop {
        match put(store, 2).await {
            Err(StoreError::Panicked) => {}
            other => break other,
        }
    };
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    std::fs::rename(&away, fixture.path()).unwrap();
    while put(store, 3).await.is_err() {}
    assert!(store.status().connected);
    assert_eq!(rows(store).await, [1, 3]);
}

#[tokio::test]
async fn a_database_in_memory_outlives_a_defect() {
    let store = &SqliteStore::open(SqliteOptions::memory()).await.unwrap();
    run(store, "create table t (a integer primary key, b any) strict").await.unwrap();
    put(store, 1).await.unwrap();
    store.0.shared.writes.push(Box::new(Defect)).await.unwrap();
    while put(store, 2).await.is_err() {}
    assert_eq!(rows(store).await, [1, 2]);
}

#[tokio::test]
async fn settings_out_of_range_are_refused() {
    let file = || SqliteOptions::file("/tmp/never-made.db");
    check(file().readers(0), "`readers` must be 1 to 16").await;
    check(file().readers(17), "`readers` must be 1 to 16").await;
    check(file().capacity(0), "`capacity` must be 1 to 65,536").await;
    check(file().capacity(65_537), "`capacity` must be 1 to 65,536").await;
    check(file().busy_timeout(Duration::ZERO), "`busy_timeout` must be 1 ms to 10 min").await;
    check(file().busy_timeout(Duration::MAX), "`busy_timeout` must be 1 ms to 10 min").await;
    check(SqliteOptions::file(""), "`path` must be the path of a file").await;
    SqliteOptions::memory().readers(16).capacity(65_536).checked().unwrap();
}

async fn check(options: SqliteOptions, expected: &str) {
    assert_eq!(SqliteStore::open(options).await.unwrap_err().to_string(), expected);
}

//! The write-ahead log stays bounded.

use super::*;

const MIB: u64 = 1 << 20;

/// Writes about one MiB.
async fn write_mib(store: &SqliteStore) {
    let works = (0..16).map(|_| {
        store.write(|tx| -> Result<(), StoreError> {
            tx.prepare_cached("insert into t (b) values (randomblob(65536))")?.execute([])?;
            Ok(())
        })
    });
    for answer in futures_util::future::join_all(works).await {
        answer.unwrap();
    }
}

/// Writes 160 MiB without a pause.
async fn check_bounded(store: &SqliteStore) {
    let mut largest = 0;
    for _ in 0..160 {
        write_mib(store).await;
        largest = largest.max(store.status().wal_bytes);
    }
    let status = store.status();
    assert!(largest < 128 * MIB, "{largest}: {status:?}");
    assert!(status.checkpoints > 0 && status.log_resets > 0, "{status:?}");
}

#[tokio::test]
async fn it_stays_small_under_writes_without_a_pause() {
    let Fixture { store, .. } = &Fixture::with(|o| o.durability(Durability::Normal)).await;
    check_bounded(store).await;
}

#[tokio::test]
async fn it_stays_small_under_reads_without_a_pause_too() {
    let Fixture { store, .. } = &Fixture::with(|o| o.durability(Durability::Normal)).await;
    // Two readers, and more reads than they can serve: at any moment one is under way.
    let reads = (0..4).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            let sql = "select sum(length(b)) from (select b from t order by a desc limit 50)";
            let read =
                || store.read(move |c| Ok::<_, StoreError>(c.query_row(sql, [], |_| Ok(()))?));
            while read().await.is_ok() {}
        })
    });
    let reads: Vec<_> = reads.collect();
    check_bounded(store).await;
    store.close().await;
    for read in reads {
        read.await.unwrap();
    }
}

#[tokio::test]
async fn one_that_a_long_reader_made_huge_is_cut_once_it_is_gone() {
    let Fixture { store, .. } = &Fixture::with(|o| o.durability(Durability::Normal)).await;
    put(store, -1).await.unwrap();
    let (begun, began) = oneshot::channel();
    let (go_on, goes_on) = std::sync::mpsc::channel::<()>();
    let reading = tokio::spawn(store.read(move |connection| {
        let before = rows_of(connection)?;
        let _told = begun.send(());
        let _released = goes_on.recv();
        Ok::<_, StoreError>((before, rows_of(connection)?))
    }));
    began.await.unwrap();
    for _ in 0..80 {
        write_mib(store).await;
    }
    assert!(store.status().wal_bytes > 64 * MIB, "{:?}", store.status());
    drop(go_on);
    let (before, after) = reading.await.unwrap().unwrap();
    assert_eq!(before, after);
    // Nothing more is written: it is cut all the same.
    until("the log is small again", || store.status().wal_bytes < 32 * MIB);
    assert!(rows(store).await.len() == 80 * 16 + 1);
}

//! Servers that go away or fall silent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::super::testing::TestSchema;
use super::super::{Listening, PgOptions, PgStore, commit};
use super::proxy::Proxy;
use super::{Ended, sleeping, terminate, until};
use crate::store::StoreError;

const SHORT: Duration = Duration::from_millis(300);

fn impatient(proxy: &Proxy, schema: &TestSchema) -> PgOptions {
    PgOptions::parse(proxy.address())
        .unwrap()
        .schema(schema.name())
        .connections(2)
        .call_timeout(SHORT)
        .connect_timeout(SHORT)
        .acquire_timeout(SHORT)
        .ping_every(Duration::from_millis(50))
}

#[tokio::test]
async fn a_silent_server_costs_a_bounded_time_and_no_capacity() {
    let Some(schema) = TestSchema::find().await else { return };
    let proxy = Proxy::start(&schema.address()).await;
    let store = PgStore::connect(impatient(&proxy, &schema)).await.unwrap();
    let both = futures_util::future::join(store.ping(), store.ping()).await;
    assert!(both.0.is_ok() && both.1.is_ok());
    proxy.fall_silent();
    for _ in 0..3 {
        let calls = (0..4).map(|_| store.ping());
        for ended in futures_util::future::join_all(calls).await {
            assert!(ended.as_ref().is_err_and(StoreError::is_transient), "{ended:?}");
        }
    }
    proxy.speak();
    until("the store works", async || store.ping().await.is_ok()).await;
    let (one, two) = (store.client().await.unwrap(), store.client().await.unwrap());
    one.execute("select 1", &[]).await.unwrap();
    two.execute("select 1", &[]).await.unwrap();
}

#[tokio::test]
async fn a_connection_that_lay_idle_is_asked_before_it_is_lent() {
    let Some(schema) = TestSchema::find().await else { return };
    let proxy = Proxy::start(&schema.address()).await;
    let options = impatient(&proxy, &schema).quiet(Duration::ZERO);
    let store = PgStore::connect(options).await.unwrap();
    store.ping().await.unwrap();
    assert_eq!(store.status().idle, 1);
    proxy.fall_silent();
    let refused = store.client().await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    proxy.speak();
    store.ping().await.unwrap();
}

#[tokio::test]
async fn a_listening_connection_that_fell_silent_is_made_again() {
    let Some(schema) = TestSchema::find().await else { return };
    let proxy = Proxy::start(&schema.address()).await;
    let store = PgStore::connect(impatient(&proxy, &schema)).await.unwrap();
    until("it listens", async || matches!(store.status().listening, Listening::Up { .. })).await;
    proxy.fall_silent();
    let down = async || matches!(store.status().listening, Listening::Down { .. });
    until("it noticed", down).await;
    let bell = store.wakes().bell("mail");
    proxy.speak();
    bell.notified().await;
    until("it listens", async || matches!(store.status().listening, Listening::Up { .. })).await;
}

#[tokio::test]
async fn a_restart_under_load_hangs_nobody_and_is_over_soon() {
    let Some(schema) = TestSchema::find().await else { return };
    let (store, observer) = (schema.store().await, schema.observer().await);
    let (stop, failed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let load: Vec<_> = (0..20)
        .map(|_| tokio::spawn(hammer(store.clone(), Arc::clone(&stop), Arc::clone(&failed))))
        .collect();
    let bell = store.wakes().bell("mail");
    until("it listens", async || matches!(store.status().listening, Listening::Up { .. })).await;
    for _ in 0..5 {
        let before = failed.load(Ordering::Relaxed);
        // On a busy machine all connections may be idle at that moment: then nobody notices.
        let noticed = async || {
            terminate(&observer, &schema).await;
            failed.load(Ordering::Relaxed) > before
        };
        until("somebody noticed", noticed).await;
        bell.notified().await;
        store.ping().await.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    for worker in load {
        let hanging = tokio::time::timeout(Duration::from_secs(5), worker).await;
        hanging.expect("a worker hangs").unwrap();
    }
    assert_eq!((store.status().in_use, store.status().waiting), (0, 0));
}

async fn hammer(store: PgStore, stop: Arc<AtomicBool>, failed: Arc<AtomicUsize>) {
    while !stop.load(Ordering::Relaxed) {
        if let Err(error) = sleeping(&store, 0.005).await {
            assert!(error.is_transient(), "{error:?}");
            failed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[tokio::test]
async fn a_connection_lost_before_the_commit_wrote_nothing() {
    let Some(schema) = TestSchema::find().await else { return };
    let (store, observer) = (schema.store().await, schema.observer().await);
    let mut client = store.client().await.unwrap();
    let transaction = client.transaction().await.unwrap();
    terminate(&observer, &schema).await;
    let ended: Ended = transaction.execute("select 1", &[]).await.map(drop).map_err(Into::into);
    assert!(matches!(ended, Err(StoreError::Unavailable(_))), "{ended:?}");
}

#[tokio::test]
async fn a_connection_lost_at_the_commit_leaves_it_open() {
    let Some(schema) = TestSchema::find().await else { return };
    let (store, observer) = (schema.store().await, schema.observer().await);
    let mut client = store.client().await.unwrap();
    let transaction = client.transaction().await.unwrap();
    terminate(&observer, &schema).await;
    let ended = commit(transaction).await;
    assert!(matches!(ended, Err(StoreError::OutcomeUnknown(_))), "{ended:?}");
}

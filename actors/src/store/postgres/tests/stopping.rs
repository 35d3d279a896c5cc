//! The pool, deadlines, and work that nobody waits for any more.

use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::Instant;

use super::super::PgStore;
use super::super::testing::TestSchema;
use super::{Ended, asleep, sleeping, until};
use crate::kernel::{RequestContext, RequestId};
use crate::store::StoreError;

const SOON: Duration = Duration::from_millis(100);

#[tokio::test]
async fn a_deadline_stops_the_statement_on_the_server() {
    let Some(schema) = TestSchema::find().await else { return };
    let (store, observer) = (schema.store().await, schema.observer().await);
    let context = RequestContext::new(RequestId::generate()).with_deadline(Instant::now() + SOON);
    let work = context.sync_scope(|| sleeping(&store, 30.0));
    let ended = work.await;
    assert!(matches!(ended, Err(StoreError::Timeout)), "{ended:?}");
    until("the server is awake", async || asleep(&observer, &schema).await == 0).await;
    store.ping().await.unwrap();
}

#[tokio::test]
async fn a_dropped_future_stops_the_statement_on_the_server() {
    let Some(schema) = TestSchema::find().await else { return };
    let (store, observer) = (schema.store().await, schema.observer().await);
    let work = tokio::spawn(sleeping(&store, 30.0));
    until("the server sleeps", async || asleep(&observer, &schema).await == 1).await;
    work.abort();
    until("the server is awake", async || asleep(&observer, &schema).await == 0).await;
}

#[tokio::test]
async fn a_dropped_future_rolls_its_transaction_back() {
    let Some(schema) = TestSchema::find().await else { return };
    let (store, observer) = (schema.store().await, schema.observer().await);
    let insert = store.sql("insert into {schema}.queue values ('q', true, 0)");
    let work: tokio::task::JoinHandle<Ended> = tokio::spawn(store.run(async move |mut client| {
        let transaction = client.transaction().await?;
        transaction.execute(&insert, &[]).await?;
        transaction.execute("select pg_sleep(30)", &[]).await?;
        super::super::commit(transaction).await
    }));
    until("the server sleeps", async || asleep(&observer, &schema).await == 1).await;
    work.abort();
    until("the server is awake", async || asleep(&observer, &schema).await == 0).await;
    let count = store.sql("select count(*) from {schema}.queue");
    assert_eq!(observer.query_one(&count, &[]).await.unwrap().get::<_, i64>(0), 0);
}

/// A cancel request that comes late must not hit whoever has the connection next.
#[tokio::test]
async fn a_stopped_statement_does_not_stop_the_next_one() {
    let Some(schema) = TestSchema::find().await else { return };
    let store = PgStore::connect(schema.options().connections(1)).await.unwrap();
    for _ in 0..30 {
        let work = sleeping(&store, 30.0);
        let dropped = tokio::time::timeout(Duration::from_millis(5), work).await;
        assert!(dropped.is_err());
        sleeping(&store, 0.002).await.unwrap();
    }
}

#[tokio::test]
async fn a_connection_that_was_given_back_is_not_stopped() {
    let Some(schema) = TestSchema::find().await else { return };
    let store = PgStore::connect(schema.options().connections(1)).await.unwrap();
    let (given_back, is_given_back) = tokio::sync::oneshot::channel();
    let idle: tokio::task::JoinHandle<Ended> = tokio::spawn(store.run(async move |client| {
        drop(client);
        given_back.send(()).unwrap();
        std::future::pending().await
    }));
    is_given_back.await.unwrap();
    let next = tokio::spawn(sleeping(&store, 0.1));
    let observer = schema.observer().await;
    until("the next one sleeps", async || asleep(&observer, &schema).await == 1).await;
    idle.abort();
    next.await.unwrap().unwrap();
}

#[tokio::test]
async fn work_that_ends_while_it_is_stopped_keeps_its_result() {
    let Some(schema) = TestSchema::find().await else { return };
    let store = PgStore::connect(schema.options().call_timeout(SOON)).await.unwrap();
    let stubborn = store.run(async |client| {
        let stopped = client.execute("select pg_sleep(30)", &[]).await;
        Ok::<_, StoreError>(stopped.is_err())
    });
    assert!(stubborn.await.unwrap());
}

#[tokio::test]
async fn work_that_does_not_say_how_it_ended_leaves_it_open() {
    let Some(schema) = TestSchema::find().await else { return };
    let store = PgStore::connect(schema.options().call_timeout(SOON)).await.unwrap();
    let mute = store.run(async |_client| std::future::pending::<Ended>().await);
    let ended = mute.await;
    assert!(matches!(ended, Err(StoreError::OutcomeUnknown(_))), "{ended:?}");
}

#[tokio::test]
async fn a_full_pool_is_a_timeout_and_a_connection_given_back_is_free() {
    let Some(schema) = TestSchema::find().await else { return };
    let options = schema.options().connections(1).acquire_timeout(Duration::from_millis(50));
    let store = PgStore::connect(options).await.unwrap();
    let only = store.client().await.unwrap();
    assert_eq!((store.status().in_use, store.status().limit), (1, 1));
    let refused = store.client().await;
    assert!(matches!(refused, Err(StoreError::Timeout)), "{refused:?}");
    drop(only);
    store.client().await.unwrap();
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let Some(schema) = TestSchema::find().await else { return };
    let store = schema.store().await;
    store.close().await;
    let refused = store.ping().await;
    assert!(matches!(refused, Err(StoreError::Closed)), "{refused:?}");
}

/// Connections belong to the store and not to the runtime that happened to make them.
#[test]
fn a_connection_outlives_the_runtime_it_was_made_on() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime();
    let Some(schema) = first.block_on(TestSchema::find()) else { return };
    let options = schema.options().connections(1);
    let (store, process) = first.block_on(async {
        let store = PgStore::connect(options).await.unwrap();
        let process = backend(&store).await;
        (store, process)
    });
    drop(first);
    assert_eq!(runtime().block_on(backend(&store)), process);
}

#[tokio::test]
async fn the_last_clone_may_be_dropped_anywhere() {
    let Some(schema) = TestSchema::find().await else { return };
    let (store, observer) = (schema.store().await, schema.observer().await);
    let client = store.client().await.unwrap();
    drop(store);
    client.execute("select 1", &[]).await.unwrap();
    drop(client);
    let count = "select count(*) from pg_stat_activity where application_name = $1";
    let connections = async || {
        let row = observer.query_one(count, &[&schema.name()]).await.unwrap();
        row.get::<_, i64>(0)
    };
    until("all connections are closed", async || connections().await == 0).await;
}

#[tokio::test]
async fn nothing_is_asked_before_the_future_is_polled() {
    let Some(schema) = TestSchema::find().await else { return };
    let store = PgStore::connect(schema.options().listen(false)).await.unwrap();
    let work = sleeping(&store, 30.0);
    assert_eq!(store.status().in_use, 0);
    drop(work);
    assert!(store.ping().boxed().await.is_ok());
}

async fn backend(store: &PgStore) -> i32 {
    let asked = store.run(async |client| {
        let row = client.query_one("select pg_backend_pid()", &[]).await?;
        Ok::<i32, StoreError>(row.get(0))
    });
    asked.await.unwrap()
}

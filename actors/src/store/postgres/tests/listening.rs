//! How processes hear of each other's news.

use futures_util::FutureExt;

use super::super::testing::TestSchema;

use super::super::{Listening, NOTIFY, PgStore, commit, payload};
use super::{terminate, until};

async fn listening(store: &PgStore) {
    until("it listens", async || matches!(store.status().listening, Listening::Up { .. })).await;
}

#[tokio::test]
async fn one_process_wakes_another_for_its_topic_alone() {
    let Some(schema) = TestSchema::find().await else { return };
    let (one, other) = (schema.store().await, schema.store().await);
    listening(&other).await;
    let (mail, push) = (other.wakes().bell("mail"), other.wakes().bell("push"));
    one.notify("mail");
    mail.notified().await;
    assert!(push.notified().now_or_never().is_none());
    one.notify("*");
    push.notified().await;
}

#[tokio::test]
async fn the_last_of_many_is_always_heard() {
    let Some(schema) = TestSchema::find().await else { return };
    let (one, other) = (schema.store().await, schema.store().await);
    listening(&other).await;
    let bell = other.wakes().bell("mail");
    for _ in 0..50 {
        for _ in 0..20 {
            one.notify("mail");
        }
        bell.notified().await;
    }
}

#[tokio::test]
async fn other_schemas_hear_nothing() {
    let Some(schema) = TestSchema::find().await else { return };
    let Some(elsewhere) = TestSchema::find().await else { return };
    let (one, other) = (schema.store().await, elsewhere.store().await);
    listening(&one).await;
    listening(&other).await;
    let (here, there) = (one.wakes().bell("mail"), other.wakes().bell("mail"));
    one.notify("mail");
    here.notified().await;
    assert!(there.notified().now_or_never().is_none());
}

#[tokio::test]
async fn what_is_told_in_a_transaction_is_heard_if_it_is_committed() {
    let Some(schema) = TestSchema::find().await else { return };
    let store = schema.store().await;
    listening(&store).await;
    let (never, heard) = (store.wakes().bell("never"), store.wakes().bell("heard"));
    let mut client = store.client().await.unwrap();
    for (topic, commits) in [("never", false), ("heard", true)] {
        let transaction = client.transaction().await.unwrap();
        transaction.execute(NOTIFY, &[&store.schema(), &payload(topic)]).await.unwrap();
        if commits {
            assert!(heard.notified().now_or_never().is_none());
            commit(transaction).await.unwrap();
        }
    }
    heard.notified().await;
    assert!(never.notified().now_or_never().is_none());
}

#[tokio::test]
async fn everybody_is_woken_when_it_listens_again() {
    let Some(schema) = TestSchema::find().await else { return };
    let (store, observer) = (schema.store().await, schema.observer().await);
    listening(&store).await;
    let (mail, push) = (store.wakes().bell("mail"), store.wakes().bell("push"));
    terminate(&observer, &schema).await;
    mail.notified().await;
    push.notified().await;
    listening(&store).await;
}

#[tokio::test]
async fn a_store_that_need_not_listen_does_not_and_still_tells() {
    let Some(schema) = TestSchema::find().await else { return };
    let mute = PgStore::connect(schema.options().listen(false)).await.unwrap();
    let other = schema.store().await;
    listening(&other).await;
    let bell = other.wakes().bell("mail");
    assert_eq!(mute.status().listening, Listening::Off);
    mute.notify("mail");
    bell.notified().await;
}

#[tokio::test]
async fn closing_tells_the_last_news_first() {
    let Some(schema) = TestSchema::find().await else { return };
    let (one, other) = (schema.store().await, schema.store().await);
    listening(&other).await;
    let bell = other.wakes().bell("mail");
    one.notify("mail");
    bell.notified().await;
    one.notify("mail");
    one.close().await;
    bell.notified().await;
}

/// A topic that PostgreSQL refuses must not keep the others from being told.
#[tokio::test]
async fn a_topic_that_cannot_be_told_hinders_no_other() {
    let Some(schema) = TestSchema::find().await else { return };
    let store = schema.store().await;
    listening(&store).await;
    let bell = store.wakes().bell("mail");
    store.notify("no\0topic");
    until("the others are told", async || {
        store.notify("mail");
        bell.notified().now_or_never().is_some()
    })
    .await;
}

//! Notifications of PostgreSQL, which hold a lock of the whole cluster while their transaction
//! commits.

use super::*;
use crate::store::{PgOptions, PgStore};

/// Takes the place of the server's own, and takes no notification of a transaction that writes.
async fn refuse_notices_of_writers(schema: &TestSchema) {
    let name = schema.name();
    let refuse = format!(
        "create function {name}.pg_notify(channel text, payload text) returns void
         language plpgsql as $$
         begin
           if pg_current_xact_id_if_assigned() is not null then
             raise exception 'this transaction writes';
           end if;
           perform pg_catalog.pg_notify(channel, payload);
         end $$"
    );
    schema.observer().await.batch_execute(&refuse).await.unwrap();
}

#[actix::test]
async fn no_transaction_of_the_inbox_has_a_notification_in_it() {
    let Some(base) = Base::postgres().await else { return };
    base.open().await.close().await;
    let Base::Postgres(schema) = &base else { return };
    refuse_notices_of_writers(schema).await;
    let path = format!("options=-csearch_path%3D{},pg_catalog", schema.name());
    let options = PgOptions::parse(&format!("{}&{path}", schema.address())).unwrap();
    let store = PgStore::connect(options.schema(schema.name())).await.unwrap();
    let handlers = |inbox: InboxBuilder| {
        inbox
            .on(SHOP, "paid", |_, _| async { Ok(()) })
            .on(SHOP, "bad", |_, _| async { Err(crate::jobs::JobError::discard("never")) })
    };
    let bench = Bench::in_store(store.clone().into(), |jobs| jobs, handlers).await;

    let done = bench.send(r#"{"id":"e1","type":"paid"}"#).await.id;
    let dead = bench.send(r#"{"id":"e2","type":"bad"}"#).await.id;
    bench.reaches(done, EventState::Done).await;
    bench.reaches(dead, EventState::Dead).await;
    let replay = Replay::new(EventFilter::new(EventState::Dead));
    assert_eq!(bench.inbox.replay(replay).await.unwrap().replayed, 1);

    let mut client = store.client().await.unwrap();
    let foreign = client.transaction().await.unwrap();
    let job = bench.jobs.enqueue(run::EventJob { event: dead });
    let refused = job.in_postgres(&foreign).await.unwrap_err();
    assert!(format!("{refused:?}").contains("this transaction writes"), "{refused:?}");
    drop(foreign);
    drop(client);
    bench.stop().await;
}

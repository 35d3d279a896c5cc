//! How events are handled: in a transaction, once, in the newest version.

use super::*;
use crate::jobs::JobError;

on_each_database! {
    an_effect_and_the_end_of_its_event_are_one_transaction,
    a_handler_may_end_the_event_in_a_transaction_of_its_own,
    a_handler_without_a_transaction_is_done_when_it_returns,
    an_old_version_is_handled_as_the_newest_and_stays_as_it_came,
    an_event_that_cannot_be_made_newer_is_dead,
    a_type_of_its_own_goes_before_every_type,
}

async fn an_effect_and_the_end_of_its_event_are_one_transaction(base: Base) {
    let store = base.open().await;
    let attempts = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&attempts);
    let judge = move |_: &StoredEvent| {
        let mut attempts = counted.lock();
        *attempts += 1;
        if *attempts < 3 { Err(JobError::retry("it changed its mind")) } else { Ok(()) }
    };
    let bench = base.bench(|inbox| leaves_effects_if(inbox, &store, judge)).await;
    let id = bench.send(r#"{"id":"e1","type":"paid"}"#).await.id;
    let info = bench.reaches(id, EventState::Done).await;
    assert_eq!(*attempts.lock(), 3);
    assert_eq!(bench.effects().await, ["e1"], "those of the failed runs were rolled back");
    let job = bench.jobs.find(info.job.unwrap()).await.unwrap().unwrap();
    assert_eq!((job.state, job.attempt), (crate::jobs::JobState::Done, 3));
    assert!(info.settled_at.is_some());
    bench.stop().await;
    store.close().await;
}

async fn a_handler_may_end_the_event_in_a_transaction_of_its_own(base: Base) {
    let store = base.open().await;
    let own = store.clone();
    let handler = move |event: StoredEvent, cx: EventCx| {
        let store = own.clone();
        async move { complete(store, event, cx).await }
    };
    let bench = base.bench(|inbox| inbox.on(SHOP, "paid", handler)).await;
    let id = bench.send(r#"{"id":"e1","type":"paid"}"#).await.id;
    bench.reaches(id, EventState::Done).await;
    assert_eq!(bench.effects().await, ["e1"]);
    bench.stop().await;
    store.close().await;
}

/// Rolls back at the first attempt.
async fn complete(store: Store, event: StoredEvent, cx: EventCx) -> JobResult {
    let fails = cx.job().attempt() == 1;
    match store {
        Store::Sqlite(store) => {
            let work = move |tx: &crate::store::SqliteTx<'_>| -> JobResult {
                tx.execute("insert into effect values (?1)", [&*event.info.event_id])?;
                cx.complete_in(tx)?;
                if fails { Err(JobError::retry("not yet")) } else { Ok(()) }
            };
            store.write(work).await
        }
        Store::Postgres(store) => {
            let mut client = store.client().await?;
            let tx = client.transaction().await?;
            let insert = format!("insert into {}.effect values ($1)", store.schema());
            tx.execute(&insert, &[&&*event.info.event_id]).await?;
            cx.complete_in_postgres(&tx).await?;
            if fails {
                return Err(JobError::retry("not yet"));
            }
            Ok(crate::store::commit(tx).await?)
        }
    }
}

async fn a_handler_without_a_transaction_is_done_when_it_returns(base: Base) {
    let log = Log::default();
    let seen = log.clone();
    let handler = move |event: StoredEvent, cx: EventCx| {
        let seen = seen.clone();
        async move {
            seen.add(format!("{} {}", event.info.event_id, cx.idempotency_key()));
            if cx.job().attempt() == 1 { Err(JobError::retry("not yet")) } else { Ok(()) }
        }
    };
    let bench = base.bench(|inbox| inbox.on(SHOP, "paid", handler)).await;
    let id = bench.send(r#"{"id":"e1","type":"paid"}"#).await.id;
    bench.reaches(id, EventState::Done).await;
    let line = format!("e1 inbox-{id}");
    assert_eq!(log.lines(), [line.clone(), line], "the key is the same in every run");
    // A run is counted a moment after its commit.
    let counted = async || (bench.counts().handled == 1).then_some(());
    eventually(counted, "the run is counted").await;
    assert_eq!(bench.counts().failed, 1);
    bench.stop().await;
}

type Made = Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>>;

/// Sets a version and marks that it was here.
fn step(json: &RawJson, from: &str, to: &str) -> Made {
    let text = std::str::from_utf8(json)?;
    Ok(text.replace(&format!("v{from}"), &format!("v{from}+v{to}")).into())
}

async fn an_old_version_is_handled_as_the_newest_and_stays_as_it_came(base: Base) {
    let log = Log::default();
    let seen = log.clone();
    let handler = move |event: StoredEvent, _| {
        let seen = seen.clone();
        async move {
            let body = String::from_utf8(event.body.to_vec())?;
            seen.add(format!("{} {:?} {body}", event.event_type, event.version));
            Ok(())
        }
    };
    let bench = base
        .bench(|inbox| {
            inbox
                .on(SHOP, "paid", handler)
                .upcast(SHOP, "paid", "1", "2", |json| step(json, "1", "2"))
                .upcast(SHOP, "paid", "2", "3", |json| step(json, "2", "3"))
        })
        .await;
    for version in ["1", "2", "3"] {
        let sent = format!(
            r#"{{"id":"e{version}", "type":"paid","version":"{version}","x":"v{version}"}}"#
        );
        let id = bench.send(sent.clone()).await.id;
        let before = bench.info(id).await.sha256;
        let info = bench.reaches(id, EventState::Done).await;
        assert_eq!((info.sha256, info.version.as_deref()), (before, Some(version)));
        assert_eq!(bench.inbox.raw(id).await.unwrap(), Some(sent.into()));
    }
    let seen: Vec<_> =
        log.lines().iter().map(|line| line.split(r#""x":"#).last().unwrap().to_owned()).collect();
    assert_eq!(seen, [r#""v1+v2+v3"}"#, r#""v2+v3"}"#, r#""v3"}"#]);
    assert!(log.lines().iter().all(|line| line.starts_with("paid Some(\"3\")")), "{log:?}");
    bench.stop().await;
}

async fn an_event_that_cannot_be_made_newer_is_dead(base: Base) {
    let bench = base
        .bench(|inbox| {
            inbox
                .on(SHOP, "*", |_, _| async { panic!("it is not handled") })
                .upcast(SHOP, "fails", "", "2", |_| Err("hush".into()))
                .upcast(SHOP, "breaks", "", "2", |_| Ok(b"no JSON".to_vec()))
        })
        .await;
    for event_type in ["fails", "breaks"] {
        let body = format!(r#"{{"id":"{event_type}","type":"{event_type}"}}"#);
        let id = bench.send(body).await.id;
        let info = bench.reaches(id, EventState::Dead).await;
        let errors = bench.jobs.errors(info.job.unwrap()).await.unwrap();
        let told: Vec<_> = errors.iter().map(|(_, _, error)| &*error.message).collect();
        assert_eq!(told, ["an upcaster could not make the event into its next version"]);
    }
    bench.stop().await;
}

async fn a_type_of_its_own_goes_before_every_type(base: Base) {
    let log = Log::default();
    let (own, every) = (log.clone(), log.clone());
    let bench = base
        .bench(|inbox| {
            inbox
                .on(SHOP, "paid", move |_, _| {
                    own.add("own");
                    async { Ok(()) }
                })
                .on(SHOP, "*", move |_, _| {
                    every.add("every");
                    async { Ok(()) }
                })
        })
        .await;
    for event_type in ["paid", "else"] {
        let body = format!(r#"{{"id":"{event_type}","type":"{event_type}"}}"#);
        let id = bench.send(body).await.id;
        bench.reaches(id, EventState::Done).await;
    }
    assert_eq!(log.lines(), ["own", "every"]);
    bench.stop().await;
}

//! Callers that share a commit, and transactions that want the same rows.

use std::collections::HashSet;

use futures_util::future::join_all;

use super::jobs;
use crate::jobs::NodeId;
use crate::jobs::store::conformance::stage::{
    NOW, claim, deferred, error, job, keyed, settle, unique,
};
use crate::jobs::store::{Inserted, JobStore, NewJob, OnConflict, Settlement, Unique};
use crate::store::StoreError;

#[tokio::test(flavor = "multi_thread")]
async fn each_caller_gets_the_id_of_its_own_job() {
    let Some((jobs, _schema)) = jobs().await else { return };
    let own = |number: usize| NewJob { args: number.to_string().into_bytes().into(), ..job() };
    let inserted = join_all((0..1_500).map(|number| jobs.insert(vec![own(number)], NOW))).await;
    let ids: Vec<_> = inserted.into_iter().map(|inserted| inserted.unwrap()[0]).collect();
    let mut claimed_of = HashSet::new();
    let mine = Some(claim(NodeId::fresh(), 2_000));
    for claimed in jobs.step(Vec::new(), mine, NOW).await.unwrap().claimed {
        let number: usize = std::str::from_utf8(&claimed.args).unwrap().parse().unwrap();
        assert_eq!(ids[number], Inserted::New(claimed.key.id));
        claimed_of.insert(number);
    }
    assert_eq!(claimed_of.len(), 1_500);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_refused_takes_no_other_with_it() {
    let Some((jobs, _schema)) = jobs().await else { return };
    let refused = NewJob { queue: "q".repeat(128).into(), ..job() };
    let all = (0..64).map(|number| if number == 7 { refused.clone() } else { job() });
    let inserted = join_all(all.map(|job| jobs.insert(vec![job], NOW))).await;
    for (number, inserted) in inserted.iter().enumerate() {
        match inserted {
            Ok(inserted) => assert!(number != 7 && matches!(inserted[..], [Inserted::New(_)])),
            Err(StoreError::Constraint { .. }) => assert_eq!(number, 7),
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(jobs.counts().await.unwrap().ready, 63);
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_that_want_the_same_keys_in_another_order_both_end() {
    let Some((jobs, _schema)) = jobs().await else { return };
    let batch = |reversed: bool| {
        let mut batch: Vec<_> = (0_u16..200).map(|key| keyed(&key.to_be_bytes())).collect();
        if reversed {
            batch.reverse();
        }
        jobs.insert(batch, NOW)
    };
    for inserted in join_all((0..16).map(|racer| batch(racer % 2 == 0))).await {
        assert_eq!(inserted.unwrap().len(), 200);
    }
    assert_eq!(jobs.counts().await.unwrap().ready, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_twice_in_one_batch_is_one_job() {
    let Some((jobs, _schema)) = jobs().await else { return };
    let inserted = jobs.insert(vec![keyed(b"a"), job(), keyed(b"a")], NOW).await.unwrap();
    let [Inserted::New(first), Inserted::New(_), Inserted::Duplicate(other)] = inserted[..] else {
        panic!("{inserted:?}")
    };
    assert_eq!(first, other);
}

/// PostgreSQL refuses it in a text.
#[tokio::test(flavor = "multi_thread")]
async fn a_zero_in_a_message_keeps_no_run_from_ending() {
    let Some((jobs, _schema)) = jobs().await else { return };
    jobs.insert(vec![job()], NOW).await.unwrap();
    let mine = Some(claim(NodeId::fresh(), 1));
    let key = jobs.step(Vec::new(), mine, NOW).await.unwrap().claimed[0].key;
    jobs.progress(vec![(key, "half\0way".into())]).await.unwrap();
    let how = Settlement::Retry { run_at: NOW, error: error("nul\0byte") };
    assert!(jobs.step(vec![settle(key, how)], None, NOW).await.unwrap().stale.is_empty());
    let found = jobs.find(key.id).await.unwrap().unwrap();
    assert_eq!(found.error.as_deref(), Some("nul\u{fffd}byte"));
    assert_eq!(found.progress.as_deref(), Some("half\u{fffd}way"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_may_be_put_off_for_ever() {
    let Some((jobs, _schema)) = jobs().await else { return };
    let unique = Unique { conflict: OnConflict::Replace, ..unique(b"key") };
    let debounce = NewJob { unique: Some(unique), ..deferred(NOW) };
    let id = jobs.insert(vec![debounce.clone()], NOW).await.unwrap()[0];
    let Inserted::New(id) = id else { panic!("{id:?}") };
    let count = jobs.store.sql("update {schema}.job set deferrals = 32767");
    jobs.store.client().await.unwrap().execute(&count, &[]).await.unwrap();
    assert_eq!(jobs.insert(vec![debounce], NOW).await.unwrap(), [Inserted::Replaced(id)]);
    let node = NodeId::fresh();
    let claimed = jobs.step(Vec::new(), Some(claim(node, 1)), NOW).await.unwrap().claimed;
    assert_eq!(claimed[0].deferrals, i16::MAX);
    let put_off = settle(claimed[0].key, Settlement::PutOff { until: NOW });
    assert!(jobs.step(vec![put_off], None, NOW).await.unwrap().stale.is_empty());
}

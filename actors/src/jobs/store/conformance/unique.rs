//! Claims about unique keys.

use super::stage::{DONE, NOW, Stage, at, claim, keyed, retry, unique};
use crate::jobs::store::{DeadReason, Inserted, JobState, NewJob, OnConflict, Unique};
use crate::jobs::{JobId, RunKey};
use crate::store::Timestamp;

/// A job with the key `k` that stays taken until this moment.
fn keyed_until(until: Timestamp) -> NewJob {
    NewJob { unique: Some(Unique { until: Some(until), ..unique(b"k") }), ..keyed(b"k") }
}

/// A job with the key `k` and other arguments, due later.
fn newer(conflict: OnConflict) -> NewJob {
    NewJob {
        unique: Some(Unique { conflict, ..unique(b"k") }),
        run_at: at(30),
        args: b"newer".as_slice().into(),
        ..keyed(b"k")
    }
}

pub(crate) async fn any_bytes_are_a_key(stage: Stage) {
    let keys = [b"\xff\xfe".as_slice(), b"\xff", b"\0", b"\0\0", b"a", &[0x80; 512]];
    let ids = stage.add_all(keys.map(keyed)).await;
    for (key, id) in keys.into_iter().zip(ids) {
        assert_eq!(stage.offer(keyed(key)).await, Inserted::Duplicate(id));
    }
}

pub(crate) async fn another_kind_has_keys_of_its_own(stage: Stage) {
    stage.add(keyed(b"k")).await;
    stage.add(NewJob { kind: "print".into(), ..keyed(b"k") }).await;
    let elsewhere = NewJob { queue: "another".into(), ..keyed(b"k") };
    assert!(matches!(stage.offer(elsewhere).await, Inserted::Duplicate(_)));
}

pub(crate) async fn a_key_is_taken_while_its_job_is_live(stage: Stage) {
    let node = stage.node().await;
    let key = stage.running(node, keyed(b"k")).await;
    assert_eq!(stage.offer(keyed(b"k")).await, Inserted::Duplicate(key.id));
    assert!(stage.end(key, retry(at(9))).await);
    assert_eq!(stage.offer(keyed(b"k")).await, Inserted::Duplicate(key.id));
    let key = stage.run_at(node, at(9)).await;
    assert!(stage.end(key, DONE).await);
    stage.add(keyed(b"k")).await;
}

pub(crate) async fn a_dead_job_holds_no_key(stage: Stage) {
    let node = stage.node().await;
    stage.dead_job(node, keyed(b"k"), DeadReason::Discarded).await;
    stage.add(keyed(b"k")).await;
}

pub(crate) async fn a_key_may_outlive_its_job(stage: Stage) {
    let node = stage.node().await;
    let key = stage.running(node, keyed_until(at(60))).await;
    assert!(stage.end(key, DONE).await);
    let almost = Timestamp(at(60).0 - 1);
    for conflict in [OnConflict::Keep, OnConflict::Replace, OnConflict::ReplaceKeepTime] {
        assert_eq!(
            stage.offer_at(newer(conflict), almost).await,
            Inserted::Duplicate(key.id),
            "{conflict:?}"
        );
    }
    let next = stage.offer_at(keyed_until(at(90)), at(60)).await;
    assert!(matches!(next, Inserted::New(id) if id != key.id), "{next:?}");
}

pub(crate) async fn a_job_may_outlive_the_time_of_its_key(stage: Stage) {
    let id = stage.add(keyed_until(at(1))).await;
    assert_eq!(stage.offer_at(keyed(b"k"), at(2)).await, Inserted::Duplicate(id));
}

pub(crate) async fn a_key_is_taken_by_the_dead_until_its_time(stage: Stage) {
    let node = stage.node().await;
    let id = stage.dead_job(node, keyed_until(at(60)), DeadReason::Discarded).await;
    assert_eq!(stage.offer(keyed(b"k")).await, Inserted::Duplicate(id));
}

pub(crate) async fn replace_takes_the_new_arguments_and_the_new_time(stage: Stage) {
    let id = stage.add(keyed(b"k")).await;
    assert_eq!(stage.offer(newer(OnConflict::Replace)).await, Inserted::Replaced(id));
    expect_claim(&stage, id, at(30)).await;
}

pub(crate) async fn replace_keep_time_takes_the_new_arguments_only(stage: Stage) {
    let id = stage.add(keyed(b"k")).await;
    assert_eq!(stage.offer(newer(OnConflict::ReplaceKeepTime)).await, Inserted::Replaced(id));
    expect_claim(&stage, id, NOW).await;
}

/// Expects the only job to be due at this moment and not before, with the newer arguments.
async fn expect_claim(stage: &Stage, id: JobId, due_at: Timestamp) {
    assert_eq!(stage.counts().await.unwrap().ready, 1);
    let node = stage.node().await;
    assert!(stage.claim_at(claim(node, 9), Timestamp(due_at.0 - 1)).await.is_empty());
    let claimed = stage.claim_at(claim(node, 9), due_at).await;
    assert_eq!((claimed[0].key.id, claimed[0].due_at), (id, due_at));
    assert_eq!(*claimed[0].args, *b"newer");
}

pub(crate) async fn replace_leaves_a_running_job_alone(stage: Stage) {
    let node = stage.node().await;
    for conflict in [OnConflict::Replace, OnConflict::ReplaceKeepTime] {
        let key = stage.running(node, keyed(b"k")).await;
        let next = stage.add(newer(conflict)).await;
        assert_ne!(next, key.id);
        assert_eq!(stage.offer(keyed(b"k")).await, Inserted::Duplicate(next));
        assert_eq!(stage.state(key.id).await, JobState::Running);
        // Both are live now: that one loses its key is what lets this one be tried again.
        assert!(stage.end(key, retry(at(9))).await);
        assert_eq!(stage.state(key.id).await, JobState::Ready);
        for id in [key.id, next] {
            stage.cancel(id, NOW).await.unwrap();
        }
    }
}

pub(crate) async fn a_running_job_loses_its_key_with_the_time_of_it(stage: Stage) {
    let node = stage.node().await;
    let first = stage.running(node, keyed_until(at(60))).await;
    let second = stage.add(NewJob { run_at: NOW, ..newer(OnConflict::Replace) }).await;
    assert_eq!(stage.run(node).await.id, second);
    assert!(stage.end(RunKey { id: second, run: 1 }, DONE).await);
    // The first one still runs, and its time is not over.
    assert!(matches!(stage.offer(keyed(b"k")).await, Inserted::New(_)));
    assert!(stage.end(first, DONE).await);
}

pub(crate) async fn sixty_four_racers_with_one_key_are_one_row(stage: Stage) {
    let racers: Vec<_> = (0..64)
        .map(|_| {
            let stage = stage.clone();
            tokio::spawn(async move { stage.offer(keyed(b"k")).await })
        })
        .collect();
    let (mut stored, mut told) = (Vec::new(), Vec::new());
    for racer in racers {
        match racer.await.unwrap() {
            Inserted::New(id) => stored.push(id),
            Inserted::Duplicate(id) => told.push(id),
            other @ (Inserted::Replaced(_) | Inserted::QueueFull) => panic!("{other:?}"),
        }
    }
    assert_eq!(stored.len(), 1);
    assert_eq!(told, [stored[0]; 63]);
    assert_eq!(stage.counts().await.unwrap().ready, 1);
}

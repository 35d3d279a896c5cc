//! Claims about storing jobs.

use super::stage::{NOW, QUEUE, Stage, at, claim, dependent, job, job_at, keyed, park};
use crate::jobs::Class;
use crate::jobs::store::{Inserted, JobState, NewJob};
use crate::store::StoreError;

pub(crate) async fn a_new_job_is_ready_and_untried(stage: Stage) {
    let info = stage.info(stage.add(job_at(at(5))).await).await;
    assert_eq!((&*info.queue, &*info.kind, info.class), (QUEUE, "send", Class::Normal));
    assert_eq!((info.state, info.run_at), (JobState::Ready, Some(at(5))));
    assert_eq!((info.attempt, info.crashes), (0, 0));
    assert_eq!((info.reason, info.error, info.progress), (None, None, None));
    assert_eq!(info.finished_at, None);
}

pub(crate) async fn everything_that_is_stored_is_claimed(stage: Stage) {
    let node = stage.node().await;
    let job = NewJob {
        class: Class::Bulk,
        expires_at: Some(at(60)),
        max_attempts: 7,
        args_format: 3,
        meta: Some(r#"{"trace":"1"}"#.into()),
        ..dependent()
    };
    let Inserted::New(id) = stage.offer_at(job, at(1)).await else { panic!("not stored") };
    let claimed = stage.claim_at(claim(node, 1), at(2)).await.pop().unwrap();
    assert_eq!((claimed.key.id, &*claimed.kind, claimed.class), (id, "send", Class::Bulk));
    assert_eq!((claimed.due_at, claimed.created_at), (NOW, at(1)));
    assert_eq!((claimed.attempt, claimed.max_attempts, claimed.crashes), (1, 7, 0));
    assert_eq!(claimed.expires_at, Some(at(60)));
    assert_eq!(claimed.dependency.as_deref(), Some("ses"));
    assert_eq!(claimed.args_format, 3);
    assert_eq!(claimed.meta.as_deref(), Some(r#"{"trace":"1"}"#));
}

pub(crate) async fn answers_come_in_the_order_of_the_jobs(stage: Stage) {
    let kinds = ["a", "b", "c", "d", "e"];
    let jobs = kinds.map(|kind| NewJob { kind: kind.into(), ..job() });
    for (id, kind) in stage.add_all(jobs).await.into_iter().zip(kinds) {
        assert_eq!(&*stage.info(id).await.kind, kind);
    }
}

pub(crate) async fn no_jobs_are_no_error(stage: Stage) {
    assert_eq!(stage.insert(Vec::new(), NOW).await.unwrap(), []);
}

pub(crate) async fn a_taken_key_does_not_hinder_the_others(stage: Stage) {
    let first = stage.add(keyed(b"1")).await;
    let jobs = vec![keyed(b"1"), keyed(b"2"), job(), keyed(b"2"), keyed(b"3"), keyed(b"1")];
    let inserted = stage.insert(jobs, NOW).await.unwrap();
    let [one, Inserted::New(second), Inserted::New(_), again, Inserted::New(_), last] =
        inserted[..]
    else {
        panic!("{inserted:?}")
    };
    assert_eq!([one, last], [Inserted::Duplicate(first); 2]);
    assert_eq!(again, Inserted::Duplicate(second));
    assert_eq!(stage.counts().await.unwrap().ready, 4);
}

pub(crate) async fn arguments_are_kept_byte_for_byte(stage: Stage) {
    let node = stage.node().await;
    let all: Vec<u8> = (0..=255).cycle().take(64 * 1024).collect();
    for args in [b"".as_slice(), b"\0", b"\xff\xfe\0\x80", b"{\"a\": 1.0e0 }", &all] {
        stage.add(NewJob { args: args.into(), ..job() }).await;
        let claimed = stage.claim(claim(node, 1)).await;
        assert!(*claimed[0].args == *args, "{} bytes differ", args.len());
    }
}

pub(crate) async fn a_name_has_127_bytes_at_most(stage: Stage) {
    let longest = "n".repeat(127);
    stage.add(NewJob { queue: (*longest).into(), kind: (*longest).into(), ..job() }).await;
    for name in ["", &"n".repeat(128)] {
        for bad in [NewJob { queue: name.into(), ..job() }, NewJob { kind: name.into(), ..job() }] {
            let refused = stage.insert(vec![bad], NOW).await;
            assert!(matches!(refused, Err(StoreError::Constraint { .. })), "{refused:?}");
        }
    }
}

pub(crate) async fn a_refused_row_takes_its_batch_along(stage: Stage) {
    let bad = NewJob { queue: "".into(), ..job() };
    stage.insert(vec![job(), bad, job()], NOW).await.unwrap_err();
    assert_eq!(stage.counts().await.unwrap().ready, 0);
}

/// A job for a queue that holds so many.
fn limited(depth_limit: u32) -> NewJob {
    NewJob { depth_limit: Some(depth_limit), ..job() }
}

pub(crate) async fn a_full_queue_takes_no_more(stage: Stage) {
    let node = stage.node().await;
    stage.add(limited(2)).await;
    stage.add(limited(2)).await;
    assert_eq!(stage.offer(limited(2)).await, Inserted::QueueFull);
    stage.add(NewJob { queue: "another".into(), ..limited(2) }).await;
    let claimed = stage.claim(claim(node, 1)).await;
    assert_eq!(stage.offer(limited(2)).await, Inserted::QueueFull);
    assert!(stage.end(claimed[0].key, super::stage::DONE).await);
    stage.add(limited(2)).await;
    assert_eq!(stage.offer(limited(2)).await, Inserted::QueueFull);
}

pub(crate) async fn whatever_is_not_over_counts_for_the_depth(stage: Stage) {
    let node = stage.node().await;
    let key = stage.running(node, dependent()).await;
    assert!(stage.end(key, park()).await);
    stage.running(node, job()).await;
    stage.add(job_at(at(60))).await;
    assert_eq!(stage.offer(limited(3)).await, Inserted::QueueFull);
    stage.add(limited(4)).await;
}

pub(crate) async fn a_limit_holds_within_a_batch(stage: Stage) {
    let inserted = stage.insert(vec![limited(3); 5], NOW).await.unwrap();
    let stored = inserted.iter().filter(|one| matches!(one, Inserted::New(_))).count();
    assert_eq!(stored, 3, "{inserted:?}");
    assert_eq!(inserted[3..], [Inserted::QueueFull; 2]);
}

pub(crate) async fn a_duplicate_is_told_of_by_a_full_queue_too(stage: Stage) {
    let id = stage.add(keyed(b"1")).await;
    let again = NewJob { depth_limit: Some(1), ..keyed(b"1") };
    assert_eq!(stage.offer(again).await, Inserted::Duplicate(id));
}

pub(crate) async fn sixteen_racers_at_one_free_place_admit_one(stage: Stage) {
    for _ in 0..4 {
        stage.add(job()).await;
    }
    let racers: Vec<_> = (0..16)
        .map(|_| {
            let stage = stage.clone();
            tokio::spawn(async move { stage.offer(limited(5)).await })
        })
        .collect();
    let mut stored = 0;
    for racer in racers {
        let inserted = racer.await.unwrap();
        assert!(matches!(inserted, Inserted::New(_) | Inserted::QueueFull), "{inserted:?}");
        stored += u32::from(inserted != Inserted::QueueFull);
    }
    assert_eq!((stored, stage.counts().await.unwrap().ready), (1, 5));
}

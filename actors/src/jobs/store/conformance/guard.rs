//! Claims about what the guard asks and does.

use super::stage::{
    DEPENDENCY, DONE, NOW, QUEUE, Stage, at, claim, deferred, dependent, ids, job, job_at, job_of,
    park, retry,
};
use crate::jobs::Class;
use crate::jobs::store::{DeadReason, Depths, JobState, NewJob};
use crate::store::Timestamp;

async fn depths(stage: &Stage, limit: u32, now: Timestamp) -> Depths {
    stage.depths(QUEUE.into(), limit, now).await.unwrap()
}

pub(crate) async fn an_empty_queue_has_no_depth(stage: Stage) {
    stage.add(NewJob { queue: "another".into(), ..job() }).await;
    assert_eq!(depths(&stage, 10, NOW).await, Depths::default());
}

pub(crate) async fn depth_and_age_are_told_by_class(stage: Stage) {
    stage.add_all([job_of(Class::Bulk), job_of(Class::Critical)]).await;
    stage.add(NewJob { run_at: at(2), ..job_of(Class::Bulk) }).await;
    let found = depths(&stage, 10, at(9)).await;
    assert_eq!(found.ready, [1, 0, 0, 2]);
    assert_eq!(found.oldest_due, [Some(NOW), None, None, Some(NOW)]);
}

pub(crate) async fn depth_says_whether_the_queue_is_paused(stage: Stage) {
    for (queue, expected) in [("another", false), (QUEUE, true), ("*", true)] {
        stage.pause(queue.into(), true, NOW).await.unwrap();
        assert_eq!(depths(&stage, 10, NOW).await.paused, expected, "{queue} is paused");
        stage.pause(queue.into(), false, NOW).await.unwrap();
    }
}

pub(crate) async fn no_count_goes_beyond_the_limit(stage: Stage) {
    let node = stage.node().await;
    stage.add_all(vec![dependent(); 4]).await;
    stage.park(DEPENDENCY.into(), 9).await.unwrap();
    stage.add_all(vec![job(); 4]).await;
    stage.claim(claim(node, 4)).await;
    stage.add_all(vec![deferred(at(60)); 4]).await;
    stage.add_all(vec![job(); 4]).await;
    for (limit, expected) in [(3, 3), (4, 4), (5, 4)] {
        let found = depths(&stage, limit, NOW).await;
        assert_eq!(found.ready, [0, expected, 0, 0]);
        let others = [found.running, found.deferred, found.parked];
        assert_eq!(others, [expected; 3], "up to {limit}");
    }
}

pub(crate) async fn what_was_put_off_neither_counts_nor_ages(stage: Stage) {
    let node = stage.node().await;
    let key = stage.running(node, dependent()).await;
    assert!(stage.end(key, park()).await);
    stage.add_all([deferred(at(60)), job_at(at(60))]).await;
    let found = depths(&stage, 10, at(59)).await;
    let expected = Depths { deferred: 1, parked: 1, ..Depths::default() };
    assert_eq!(found, expected);
    let found = depths(&stage, 10, at(60)).await;
    assert_eq!((found.ready[1], found.deferred), (2, 0), "their time has come");
    assert_eq!(found.oldest_due[1], Some(at(60)));
}

pub(crate) async fn a_rescued_job_keeps_its_age_in_the_depths(stage: Stage) {
    let died = stage.node().await;
    stage.running(died, job()).await;
    stage.add(job_at(at(5))).await;
    stage.rescue(vec![died], 3, at(9)).await.unwrap();
    assert_eq!(depths(&stage, 10, at(9)).await.oldest_due[1], Some(NOW));
}

pub(crate) async fn parking_takes_the_ready_jobs_of_one_dependency(stage: Stage) {
    let node = stage.node().await;
    let running = stage.running(node, dependent()).await;
    let theirs = stage.add_all(vec![dependent(); 3]).await;
    let other = NewJob { dependency: Some("s3".into()), ..job() };
    let others = stage.add_all([job(), other]).await;
    assert_eq!(stage.park(DEPENDENCY.into(), 2).await.unwrap(), 2);
    assert_eq!(stage.park(DEPENDENCY.into(), 2).await.unwrap(), 1);
    assert_eq!(stage.park(DEPENDENCY.into(), 2).await.unwrap(), 0);
    for id in theirs {
        let info = stage.info(id).await;
        assert_eq!((info.state, info.attempt), (JobState::Parked, 0));
    }
    assert_eq!(stage.state(running.id).await, JobState::Running);
    assert_eq!(ids(&stage.claim(claim(node, 9)).await), others);
}

pub(crate) async fn release_takes_those_first_that_were_due_first(stage: Stage) {
    let node = stage.node().await;
    let stored = stage.add_all([3, 1, 2].map(|due| NewJob { run_at: at(due), ..dependent() }));
    let stored = stored.await;
    assert_eq!(stage.park(DEPENDENCY.into(), 9).await.unwrap(), 3);
    assert_eq!(stage.release("s3".into(), 9, at(9)).await.unwrap(), 0);
    for index in [1, 2, 0] {
        assert_eq!(stage.release(DEPENDENCY.into(), 1, at(9)).await.unwrap(), 1);
        let claimed = stage.claim_at(claim(node, 9), at(9)).await;
        assert_eq!(ids(&claimed), [stored[index]]);
        assert_eq!(claimed[0].due_at, at(9), "its age counts from the release");
    }
    assert_eq!(stage.release(DEPENDENCY.into(), 1, at(9)).await.unwrap(), 0);
}

pub(crate) async fn release_does_not_run_a_job_before_its_time(stage: Stage) {
    let node = stage.node().await;
    stage.add(NewJob { run_at: at(60), ..dependent() }).await;
    stage.park(DEPENDENCY.into(), 9).await.unwrap();
    assert_eq!(stage.release(DEPENDENCY.into(), 9, at(1)).await.unwrap(), 1);
    assert!(stage.claim_at(claim(node, 9), at(59)).await.is_empty());
    assert_eq!(stage.claim_at(claim(node, 9), at(60)).await[0].due_at, at(60));
}

pub(crate) async fn dependencies_with_parked_jobs_are_told(stage: Stage) {
    let other = NewJob { dependency: Some("s3".into()), ..job() };
    let idle = NewJob { dependency: Some("idle".into()), ..job() };
    stage.add_all([dependent(), dependent(), dependent(), other, idle]).await;
    assert_eq!(stage.parked(9).await.unwrap(), []);
    stage.park(DEPENDENCY.into(), 9).await.unwrap();
    stage.park("s3".into(), 9).await.unwrap();
    for (limit, expected) in [(2, 2), (9, 3)] {
        let mut parked = stage.parked(limit).await.unwrap();
        parked.sort();
        assert_eq!(parked, [("s3".into(), 1), (DEPENDENCY.into(), expected)]);
    }
}

pub(crate) async fn those_are_pulled_forward_first_that_would_be_due_first(stage: Stage) {
    let node = stage.node().await;
    let stored = stage.add_all([90, 60, 75].map(|due| deferred(at(due)))).await;
    let elsewhere = NewJob { queue: "another".into(), ..deferred(at(60)) };
    let elsewhere = stage.add(elsewhere).await;
    for index in [1, 2, 0] {
        assert_eq!(stage.pull_forward(QUEUE.into(), 1, at(5)).await.unwrap(), 1);
        let claimed = stage.claim_at(claim(node, 9), at(5)).await;
        assert_eq!(ids(&claimed), [stored[index]]);
        assert_eq!(claimed[0].due_at, at(5));
    }
    assert_eq!(stage.pull_forward(QUEUE.into(), 9, at(5)).await.unwrap(), 0);
    assert_eq!(stage.info(elsewhere).await.run_at, Some(at(60)));
}

pub(crate) async fn only_what_the_guard_put_off_is_pulled_forward(stage: Stage) {
    let node = stage.node().await;
    // Its back-off is not the guard's, even though the guard put it off before.
    let id = stage.add(deferred(at(5))).await;
    let key = stage.run_at(node, at(5)).await;
    assert!(stage.end_at(key, retry(at(600)), at(5)).await);
    let later = stage.add(job_at(at(600))).await;
    assert_eq!(stage.pull_forward(QUEUE.into(), 9, at(6)).await.unwrap(), 0);
    for id in [id, later] {
        let info = stage.info(id).await;
        assert_eq!((info.state, info.run_at), (JobState::Ready, Some(at(600))));
    }
}

pub(crate) async fn what_expired_is_shed(stage: Stage) {
    let node = stage.node().await;
    let expiring = |seconds| NewJob { expires_at: Some(at(seconds)), ..job() };
    stage.add(expiring(1)).await;
    let running = stage.run(node).await;
    let stored = stage.add_all([expiring(2), expiring(1), expiring(3), job()]).await;
    let elsewhere = stage.add(NewJob { queue: "another".into(), ..expiring(1) }).await;
    assert_eq!(stage.shed(QUEUE.into(), None, 9, at(1)).await.unwrap(), 0, "not after it");
    assert_eq!(stage.shed(QUEUE.into(), None, 1, at(3)).await.unwrap(), 1);
    assert_eq!(stage.shed(QUEUE.into(), None, 9, at(3)).await.unwrap(), 1);
    for id in &stored[..2] {
        stage.expect_dead(*id, DeadReason::Expired).await;
    }
    for id in [stored[2], stored[3], elsewhere] {
        assert_eq!(stage.state(id).await, JobState::Ready);
    }
    assert_eq!(stage.state(running.id).await, JobState::Running);
}

pub(crate) async fn a_class_is_shed(stage: Stage) {
    let node = stage.node().await;
    let bulk = || job_of(Class::Bulk);
    let running = stage.running(node, bulk()).await;
    let stored = stage.add_all(vec![bulk(); 3]).await;
    let expired = stage.add(NewJob { expires_at: Some(at(1)), ..job() }).await;
    let later = NewJob { run_at: at(60), ..bulk() };
    let elsewhere = NewJob { queue: "another".into(), ..bulk() };
    let spared = stage.add_all([job(), later, elsewhere]).await;
    let shed = |limit| stage.shed(QUEUE.into(), Some(Class::Bulk), limit, at(2));
    assert_eq!(shed(2).await.unwrap(), 2);
    assert_eq!(shed(9).await.unwrap(), 2);
    assert_eq!(shed(9).await.unwrap(), 0);
    stage.expect_dead(expired, DeadReason::Expired).await;
    for id in stored {
        stage.expect_dead(id, DeadReason::Shed).await;
    }
    for id in spared {
        assert_eq!(stage.state(id).await, JobState::Ready);
    }
    assert!(stage.end(running, DONE).await);
}

//! Claims about cancelling a job and about trying one again.

use super::stage::{
    DEPENDENCY, DONE, NOW, Stage, at, claim, dead, deferred, dependent, job, job_at, keyed, park,
    retry, unique,
};
use crate::jobs::JobId;
use crate::jobs::store::{Cancelled, DeadReason, JobState, NewJob, Unique};

pub(crate) async fn a_waiting_job_is_dead_at_once(stage: Stage) {
    let node = stage.node().await;
    let parked = stage.running(node, dependent()).await;
    assert!(stage.end(parked, park()).await);
    let waiting = [stage.add(job()).await, stage.add(job_at(at(60))).await, parked.id];
    for id in waiting {
        assert_eq!(stage.cancel(id, at(1)).await.unwrap(), Cancelled::Queued);
        stage.expect_dead(id, DeadReason::Cancelled).await;
    }
    assert!(stage.claim_at(claim(node, 9), at(90)).await.is_empty());
}

pub(crate) async fn a_running_job_is_told_through_the_beat_of_its_process(stage: Stage) {
    let (one, other) = (stage.node().await, stage.node().await);
    let key = stage.running(one, job()).await;
    stage.running(one, job()).await;
    for _ in 0..2 {
        assert_eq!(stage.cancel(key.id, NOW).await.unwrap(), Cancelled::Running(one));
    }
    assert_eq!(stage.state(key.id).await, JobState::Running);
    assert_eq!(stage.pulse(one).await.to_cancel, [key.id]);
    assert!(stage.pulse(other).await.to_cancel.is_empty());
    assert!(stage.end(key, dead(DeadReason::Cancelled)).await);
    assert!(stage.pulse(one).await.to_cancel.is_empty());
}

pub(crate) async fn what_is_over_or_unknown_is_left_alone(stage: Stage) {
    let node = stage.node().await;
    let done = stage.running(node, job()).await;
    assert!(stage.end(done, DONE).await);
    let died = stage.dead_job(node, job(), DeadReason::Discarded).await;
    assert_eq!(stage.cancel(done.id, NOW).await.unwrap(), Cancelled::Over);
    assert_eq!(stage.cancel(died, NOW).await.unwrap(), Cancelled::Over);
    stage.expect_dead(died, DeadReason::Discarded).await;
    let unknown = JobId(died.0 + 1_000);
    assert_eq!(stage.cancel(unknown, NOW).await.unwrap(), Cancelled::Unknown);
}

pub(crate) async fn a_cancelled_job_frees_its_key(stage: Stage) {
    let id = stage.add(keyed(b"k")).await;
    stage.cancel(id, NOW).await.unwrap();
    stage.add(keyed(b"k")).await;
}

pub(crate) async fn a_waiting_job_that_is_retried_is_due(stage: Stage) {
    let node = stage.node().await;
    let key = stage.running(node, job()).await;
    assert!(stage.end(key, retry(at(600))).await);
    let later = stage.add(job_at(at(600))).await;
    let put_off = stage.add(deferred(at(600))).await;
    for id in [key.id, later, put_off] {
        assert!(stage.claim_at(claim(node, 9), at(1)).await.is_empty());
        assert!(stage.retry(id, at(1)).await.unwrap());
        let claimed = stage.claim_at(claim(node, 9), at(1)).await.pop().unwrap();
        assert_eq!((claimed.key.id, claimed.due_at), (id, at(1)));
    }
}

pub(crate) async fn a_due_job_that_is_retried_keeps_its_place(stage: Stage) {
    let node = stage.node().await;
    let first = stage.add(job()).await;
    stage.add(job_at(at(1))).await;
    assert!(stage.retry(first, at(9)).await.unwrap());
    let claimed = stage.claim_at(claim(node, 1), at(9)).await.pop().unwrap();
    assert_eq!((claimed.key.id, claimed.due_at), (first, NOW));
}

pub(crate) async fn a_parked_job_that_is_retried_waits_no_longer(stage: Stage) {
    let node = stage.node().await;
    let key = stage.running(node, dependent()).await;
    assert!(stage.end(key, park()).await);
    assert!(stage.retry(key.id, at(1)).await.unwrap());
    assert_eq!(stage.run_at(node, at(1)).await.id, key.id);
    assert_eq!(stage.release(DEPENDENCY.into(), 9, at(1)).await.unwrap(), 0);
}

pub(crate) async fn a_running_job_is_not_retried(stage: Stage) {
    let node = stage.node().await;
    let key = stage.running(node, job()).await;
    let before = stage.info(key.id).await;
    assert!(!stage.retry(key.id, at(1)).await.unwrap());
    assert_eq!(stage.info(key.id).await, before);
    assert!(stage.end(key, DONE).await);
    assert!(!stage.retry(key.id, at(1)).await.unwrap(), "it is done");
    assert!(!stage.retry(JobId(key.id.0 + 1_000), at(1)).await.unwrap(), "it is unknown");
}

pub(crate) async fn a_dead_job_that_is_retried_has_one_more_attempt(stage: Stage) {
    let node = stage.node().await;
    let spent = stage.dead_job(node, NewJob { max_attempts: 1, ..job() }, DeadReason::Discarded);
    let spent = spent.await;
    let errors = stage.messages(spent).await;
    assert!(stage.retry(spent, at(5)).await.unwrap());
    assert_eq!(stage.counts().await.unwrap().dead, 0);
    assert_eq!(stage.messages(spent).await, errors);
    let claimed = stage.claim_at(claim(node, 9), at(5)).await.pop().unwrap();
    assert_eq!((claimed.key.id, claimed.due_at), (spent, at(5)));
    assert_eq!((claimed.attempt, claimed.max_attempts), (2, 2));
    assert!(stage.end(claimed.key, DONE).await);

    let fresh = stage.dead_job(node, job(), DeadReason::Cancelled).await;
    assert!(stage.retry(fresh, at(5)).await.unwrap());
    let claimed = stage.claim_at(claim(node, 9), at(5)).await.pop().unwrap();
    assert_eq!((claimed.attempt, claimed.max_attempts), (2, 3));
}

pub(crate) async fn the_end_of_the_run_that_killed_it_does_not_end_it_again(stage: Stage) {
    let node = stage.node().await;
    let key = stage.running(node, job()).await;
    assert!(stage.end(key, dead(DeadReason::Discarded)).await);
    assert!(stage.retry(key.id, NOW).await.unwrap());
    assert!(!stage.end(key, dead(DeadReason::Discarded)).await);
    assert!(!stage.end(key, DONE).await);
    assert_eq!(stage.state(key.id).await, JobState::Ready);
    assert!(stage.run(node).await.run > key.run);
}

pub(crate) async fn a_job_that_died_late_is_not_late_again(stage: Stage) {
    let node = stage.node().await;
    let late = NewJob { expires_at: Some(at(1)), ..job() };
    let id = stage.dead_job(node, late, DeadReason::Expired).await;
    assert!(stage.retry(id, at(60)).await.unwrap());
    let claimed = stage.claim_at(claim(node, 9), at(60)).await;
    assert_eq!(claimed[0].expires_at, None);
}

pub(crate) async fn of_two_dead_jobs_with_one_key_one_is_retried(stage: Stage) {
    let node = stage.node().await;
    let one = stage.dead_job(node, keyed(b"k"), DeadReason::Discarded).await;
    let other = stage.dead_job(node, keyed(b"k"), DeadReason::Discarded).await;
    assert!(stage.retry(other, NOW).await.unwrap());
    assert!(!stage.retry(one, NOW).await.unwrap());
    stage.expect_dead(one, DeadReason::Discarded).await;
    assert_eq!(stage.run(node).await.id, other);
}

pub(crate) async fn a_key_held_for_a_while_keeps_others_from_being_retried(stage: Stage) {
    let node = stage.node().await;
    let died = stage.dead_job(node, keyed(b"k"), DeadReason::Discarded).await;
    let until = Unique { until: Some(at(60)), ..unique(b"k") };
    let held = NewJob { unique: Some(until), ..keyed(b"k") };
    let holder = stage.dead_job(node, held, DeadReason::Discarded).await;
    assert!(!stage.retry(died, at(1)).await.unwrap());
    assert!(stage.retry(holder, at(1)).await.unwrap(), "it is its own key");
}

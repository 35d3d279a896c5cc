//! Claims about waking those who wait for jobs.

use std::future::Future;
use std::time::Duration;

use super::stage::{DEPENDENCY, NOW, QUEUE, Stage, at, claim, deferred, dependent, job, retry};
use crate::jobs::NodeId;
use crate::jobs::store::DeadReason;

/// Expects that `change` wakes who waits for the queue, and that a job can be claimed then.
async fn expect_wake<T>(stage: &Stage, node: NodeId, change: impl Future<Output = T>) {
    let waiter = {
        let (stage, bell) = (stage.clone(), stage.wakes().bell(QUEUE));
        tokio::spawn(async move {
            bell.notified().await;
            stage.claim_at(claim(node, 9), at(1)).await.len()
        })
    };
    change.await;
    let claimed = tokio::time::timeout(Duration::from_secs(20), waiter).await;
    assert!(claimed.expect("woken").unwrap() > 0, "woken before the commit");
}

/// A wake that was kept for the next who waits would wake too early.
async fn quiet(stage: &Stage) {
    let bell = stage.wakes().bell(QUEUE);
    while tokio::time::timeout(Duration::ZERO, bell.notified()).await.is_ok() {}
}

pub(crate) async fn a_stored_job_wakes_after_its_commit(stage: Stage) {
    let node = stage.node().await;
    for _ in 0..20 {
        quiet(&stage).await;
        expect_wake(&stage, node, stage.add(job())).await;
    }
}

pub(crate) async fn a_released_job_wakes(stage: Stage) {
    let node = stage.node().await;
    stage.add(dependent()).await;
    stage.park(DEPENDENCY.into(), 9).await.unwrap();
    quiet(&stage).await;
    expect_wake(&stage, node, stage.release(DEPENDENCY.into(), 9, NOW)).await;
}

pub(crate) async fn a_job_pulled_forward_wakes(stage: Stage) {
    let node = stage.node().await;
    stage.add(deferred(at(60))).await;
    quiet(&stage).await;
    expect_wake(&stage, node, stage.pull_forward(QUEUE.into(), 9, NOW)).await;
}

pub(crate) async fn a_rescued_job_wakes(stage: Stage) {
    let (died, lives) = (stage.node().await, stage.node().await);
    stage.running(died, job()).await;
    quiet(&stage).await;
    expect_wake(&stage, lives, stage.rescue(vec![died], 3, NOW)).await;
}

pub(crate) async fn a_retried_and_a_replayed_job_wake(stage: Stage) {
    let node = stage.node().await;
    let id = stage.dead_job(node, job(), DeadReason::Discarded).await;
    quiet(&stage).await;
    expect_wake(&stage, node, stage.retry(id, NOW)).await;
    stage.dead_job(node, job(), DeadReason::Discarded).await;
    quiet(&stage).await;
    expect_wake(&stage, node, stage.replay(Default::default(), 9, NOW)).await;
}

pub(crate) async fn a_run_that_ends_due_wakes(stage: Stage) {
    let node = stage.node().await;
    let key = stage.running(node, job()).await;
    quiet(&stage).await;
    expect_wake(&stage, node, stage.end(key, retry(NOW))).await;
}

pub(crate) async fn a_resumed_queue_wakes(stage: Stage) {
    let node = stage.node().await;
    for queue in [QUEUE, "*"] {
        stage.pause(queue.into(), true, NOW).await.unwrap();
        stage.add(job()).await;
        quiet(&stage).await;
        expect_wake(&stage, node, stage.pause(queue.into(), false, NOW)).await;
    }
}

pub(crate) async fn a_refused_job_wakes_nobody(stage: Stage) {
    stage.add(super::stage::keyed(b"k")).await;
    quiet(&stage).await;
    let bad = crate::jobs::store::NewJob { kind: "".into(), ..job() };
    stage.insert(vec![job(), bad], NOW).await.unwrap_err();
    stage.offer(super::stage::keyed(b"k")).await;
    let bell = stage.wakes().bell(QUEUE);
    let woken = tokio::time::timeout(Duration::ZERO, bell.notified()).await;
    assert!(woken.is_err());
}

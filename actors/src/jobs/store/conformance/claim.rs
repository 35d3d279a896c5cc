//! Claims about claiming.

use std::collections::HashSet;

use super::stage::{DONE, NOW, QUEUE, Stage, at, claim, ids, job, job_at, job_of, release, retry};
use crate::jobs::Class;
use crate::jobs::store::{Claim, JobState, NewJob};
use crate::store::Timestamp;

pub(crate) async fn no_more_than_asked_for_of_each_class(stage: Stage) {
    let node = stage.node().await;
    for class in Class::ALL {
        stage.add_all(vec![job_of(class); 3]).await;
    }
    let ask = |wants| Claim { wants, ..claim(node, 0) };
    let claimed = stage.claim(ask([1, 0, 2, 9])).await;
    let classes: Vec<_> = claimed.iter().map(|claimed| claimed.class.index()).collect();
    assert_eq!(classes, [0, 2, 2, 3, 3, 3]);
    assert!(stage.claim(ask([0; 4])).await.is_empty());
    assert_eq!(stage.claim(ask([9; 4])).await.len(), 6);
}

pub(crate) async fn only_of_its_queue(stage: Stage) {
    let node = stage.node().await;
    stage.add(NewJob { queue: "another".into(), ..job() }).await;
    let id = stage.add(job()).await;
    assert_eq!(ids(&stage.claim(claim(node, 9)).await), [id]);
}

pub(crate) async fn classes_come_dearest_first(stage: Stage) {
    let node = stage.node().await;
    let jobs = Class::ALL.into_iter().rev().map(job_of);
    let mut stored = stage.add_all(jobs).await;
    stored.reverse();
    assert_eq!(ids(&stage.claim(claim(node, 1)).await), stored);
}

pub(crate) async fn the_oldest_comes_first(stage: Stage) {
    let node = stage.node().await;
    let moments = [at(3), at(1), at(2), at(1), NOW];
    let stored = stage.add_all(moments.map(job_at)).await;
    let order = [4, 1, 3, 2, 0].map(|index| stored[index]);
    assert_eq!(ids(&stage.claim_at(claim(node, 2), at(9)).await), order[..2]);
    assert_eq!(ids(&stage.claim_at(claim(node, 9), at(9)).await), order[2..]);
}

pub(crate) async fn nothing_before_its_time(stage: Stage) {
    let node = stage.node().await;
    let id = stage.add(job_at(at(5))).await;
    assert!(stage.claim_at(claim(node, 9), Timestamp(at(5).0 - 1)).await.is_empty());
    assert_eq!(ids(&stage.claim_at(claim(node, 9), at(5)).await), [id]);
}

pub(crate) async fn what_has_expired_is_claimed_all_the_same(stage: Stage) {
    let node = stage.node().await;
    stage.add(NewJob { expires_at: Some(at(1)), ..job() }).await;
    let claimed = stage.claim_at(claim(node, 9), at(60)).await;
    assert_eq!(claimed[0].expires_at, Some(at(1)), "whoever runs it decides");
}

pub(crate) async fn a_claim_counts_the_attempt_and_raises_the_fence(stage: Stage) {
    let node = stage.node().await;
    let id = stage.add(job()).await;
    let mut last = stage.info(id).await.run;
    for attempt in 1..=3 {
        let claimed = stage.claim(claim(node, 9)).await.pop().unwrap();
        assert_eq!(claimed.attempt, attempt);
        assert!(claimed.key.run > last);
        last = claimed.key.run;
        let info = stage.info(id).await;
        assert_eq!((info.state, info.run, info.attempt), (JobState::Running, last, attempt));
        assert!(stage.end(claimed.key, retry(NOW)).await);
    }
}

pub(crate) async fn what_runs_is_not_claimed_again(stage: Stage) {
    let (one, other) = (stage.node().await, stage.node().await);
    stage.add(job()).await;
    stage.run(one).await;
    assert!(stage.claim(claim(other, 9)).await.is_empty());
    assert!(stage.claim(claim(one, 9)).await.is_empty());
}

pub(crate) async fn a_paused_queue_gives_nothing(stage: Stage) {
    let node = stage.node().await;
    stage.add(job()).await;
    for queue in [QUEUE, "*"] {
        stage.pause(queue.into(), true, NOW).await.unwrap();
        assert!(stage.claim(claim(node, 9)).await.is_empty(), "{queue} is paused");
        stage.pause(queue.into(), false, NOW).await.unwrap();
        let key = stage.run(node).await;
        assert!(stage.end(key, release(NOW)).await);
    }
    stage.pause("another".into(), true, NOW).await.unwrap();
    stage.run(node).await;
}

pub(crate) async fn each_pause_holds_for_itself(stage: Stage) {
    let node = stage.node().await;
    stage.add(job()).await;
    stage.pause("*".into(), true, NOW).await.unwrap();
    stage.pause(QUEUE.into(), true, NOW).await.unwrap();
    stage.pause("*".into(), false, NOW).await.unwrap();
    assert!(stage.claim(claim(node, 9)).await.is_empty());
    let queues = stage.queues().await.unwrap();
    let rows: Vec<_> = queues.iter().map(|row| (&*row.name, row.paused)).collect();
    assert_eq!(rows, [("*", false), (QUEUE, true)]);
}

pub(crate) async fn what_runs_of_a_paused_queue_ends_in_order(stage: Stage) {
    let node = stage.node().await;
    let key = stage.running(node, job()).await;
    stage.pause("*".into(), true, NOW).await.unwrap();
    assert!(stage.end(key, DONE).await);
    assert_eq!(stage.state(key.id).await, JobState::Done);
}

pub(crate) async fn a_running_limit_holds_across_processes(stage: Stage) {
    let (one, other) = (stage.node().await, stage.node().await);
    for class in Class::ALL {
        stage.add_all(vec![job_of(class); 3]).await;
    }
    stage.add(NewJob { queue: "another".into(), ..job() }).await;
    stage.claim(Claim { queue: "another".into(), ..claim(one, 9) }).await;
    let ask = |node| Claim { running_limit: Some(5), ..claim(node, 2) };
    let first = stage.claim(ask(one)).await;
    let classes: Vec<_> = first.iter().map(|claimed| claimed.class.index()).collect();
    assert_eq!(classes, [0, 0, 1, 1, 2]);
    assert!(stage.claim(ask(other)).await.is_empty());
    assert!(stage.end(first[0].key, DONE).await);
    assert_eq!(stage.claim(ask(other)).await.len(), 1);
    assert!(stage.claim(ask(one)).await.is_empty());
}

pub(crate) async fn two_claimers_never_get_the_same_job(stage: Stage) {
    let stored = stage.add_all(vec![job(); 200]).await;
    let mut claimers = Vec::new();
    for _ in 0..8 {
        let (stage, node) = (stage.clone(), stage.node().await);
        claimers.push(tokio::spawn(async move {
            let mut mine = Vec::new();
            loop {
                let claimed = stage.claim(claim(node, 7)).await;
                if claimed.is_empty() {
                    return mine;
                }
                mine.extend(ids(&claimed));
            }
        }));
    }
    let mut all = Vec::new();
    for claimer in claimers {
        all.extend(claimer.await.unwrap());
    }
    let distinct: HashSet<_> = all.iter().copied().collect();
    assert_eq!(all.len(), distinct.len(), "one was claimed twice");
    // A claimer may go home while another one's claim is rolled back or skipped over.
    let late = ids(&stage.claim(claim(stage.node().await, 200)).await);
    assert_eq!(
        distinct.into_iter().chain(late).collect::<HashSet<_>>(),
        stored.into_iter().collect()
    );
}

pub(crate) async fn racers_keep_to_the_running_limit(stage: Stage) {
    stage.add_all(vec![job(); 40]).await;
    let mut racers = Vec::new();
    for _ in 0..8 {
        let (stage, node) = (stage.clone(), stage.node().await);
        racers.push(tokio::spawn(async move {
            stage.claim(Claim { running_limit: Some(10), ..claim(node, 4) }).await.len()
        }));
    }
    let mut claimed = 0;
    for racer in racers {
        claimed += racer.await.unwrap();
    }
    assert_eq!(stage.counts().await.unwrap().running, u64::try_from(claimed).unwrap());
    assert_eq!(claimed, 10);
}

pub(crate) async fn progress_is_kept_for_the_run_that_reports_it(stage: Stage) {
    let node = stage.node().await;
    let key = stage.running(node, job()).await;
    let late = crate::jobs::RunKey { run: key.run - 1, ..key };
    stage.progress(vec![(key, "half".into()), (late, "late".into())]).await.unwrap();
    assert_eq!(stage.info(key.id).await.progress.as_deref(), Some("half"));
    assert!(stage.end(key, DONE).await);
    stage.progress(vec![(key, "over".into())]).await.unwrap();
    assert_eq!(stage.state(key.id).await, JobState::Done);
}

//! Claims about dead jobs, about replaying them, and about pruning.

use super::stage::{
    DONE, NOW, QUEUE, Stage, at, claim, dead, deferred, dependent, job, job_at, keyed, park, retry,
    unique,
};
use crate::jobs::store::{
    Claim, DeadFilter, DeadReason, Inserted, JobInfo, JobState, NewJob, Pruned, Replayed, Unique,
};
use crate::jobs::{JobId, NodeId};

fn ids(jobs: &[JobInfo]) -> Vec<JobId> {
    jobs.iter().map(|job| job.id).collect()
}

async fn dead_jobs(stage: &Stage, node: NodeId, number: usize) -> Vec<JobId> {
    let mut all = Vec::new();
    for _ in 0..number {
        all.push(stage.dead_job(node, job(), DeadReason::Discarded).await);
    }
    all
}

pub(crate) async fn everything_that_is_given_must_hold(stage: Stage) {
    let node = stage.node().await;
    let shed = stage.dead_job(node, job(), DeadReason::Shed).await;
    let print = NewJob { kind: "print".into(), ..job() };
    let printed = stage.dead_job(node, print.clone(), DeadReason::Discarded).await;
    stage.add(NewJob { queue: "another".into(), ..print }).await;
    let elsewhere = Claim { queue: "another".into(), ..claim(node, 1) };
    let key = stage.claim(elsewhere).await[0].key;
    assert!(stage.end_at(key, dead(DeadReason::Discarded), at(5)).await);

    let queue = || DeadFilter { queue: Some(QUEUE.into()), ..DeadFilter::default() };
    let kind = || DeadFilter { kind: Some("print".into()), ..DeadFilter::default() };
    let filters = [
        (DeadFilter::default(), vec![shed, printed, key.id]),
        (queue(), vec![shed, printed]),
        (kind(), vec![printed, key.id]),
        (DeadFilter { kind: Some("print".into()), ..queue() }, vec![printed]),
        (DeadFilter { reason: Some(DeadReason::Shed), ..DeadFilter::default() }, vec![shed]),
        (DeadFilter { reason: Some(DeadReason::Shed), ..kind() }, vec![]),
        (DeadFilter { since: Some(at(5)), ..DeadFilter::default() }, vec![key.id]),
        (DeadFilter { since: Some(at(6)), ..DeadFilter::default() }, vec![]),
        (DeadFilter { after: Some(shed), ..DeadFilter::default() }, vec![printed, key.id]),
    ];
    for (filter, expected) in filters {
        let found = stage.dead(filter.clone(), 9).await.unwrap();
        assert_eq!(ids(&found), expected, "{filter:?}");
    }
}

pub(crate) async fn dead_jobs_are_listed_page_by_page(stage: Stage) {
    let node = stage.node().await;
    let stored = dead_jobs(&stage, node, 5).await;
    let mut filter = DeadFilter::default();
    for page in [&stored[..2], &stored[2..4], &stored[4..], &[]] {
        let found = ids(&stage.dead(filter.clone(), 2).await.unwrap());
        assert_eq!(found, page);
        filter.after = found.last().copied().or(filter.after);
    }
    let listed = stage.dead(DeadFilter::default(), 1).await.unwrap();
    assert_eq!(listed[0], stage.info(stored[0]).await);
}

pub(crate) async fn a_replay_gives_all_attempts_back(stage: Stage) {
    let node = stage.node().await;
    let id = stage.dead_job(node, job(), DeadReason::Discarded).await;
    let replayed = stage.replay(DeadFilter::default(), 9, at(7)).await.unwrap();
    assert_eq!(replayed, Replayed { moved: 1, duplicates: 0, last: Some(id) });
    let info = stage.info(id).await;
    assert_eq!((info.state, info.attempt, info.run_at), (JobState::Ready, 0, Some(at(7))));
    let claimed = stage.claim_at(claim(node, 9), at(7)).await.pop().unwrap();
    assert_eq!((claimed.attempt, claimed.max_attempts), (1, 3));
}

pub(crate) async fn a_replay_goes_on_where_it_stopped(stage: Stage) {
    let node = stage.node().await;
    let stored = dead_jobs(&stage, node, 5).await;
    let mut filter = DeadFilter::default();
    for (moved, last) in [(2, 1), (2, 3), (1, 4)] {
        let last = Some(stored[last]);
        let replayed = stage.replay(filter.clone(), 2, NOW).await.unwrap();
        assert_eq!(replayed, Replayed { moved, duplicates: 0, last });
        filter.after = last;
    }
    assert_eq!(stage.replay(filter, 2, NOW).await.unwrap(), Replayed::default());
    assert_eq!(stage.counts().await.unwrap().ready, 5);
}

pub(crate) async fn a_replay_moves_only_what_is_meant(stage: Stage) {
    let node = stage.node().await;
    let shed = stage.dead_job(node, job(), DeadReason::Shed).await;
    let discarded = stage.dead_job(node, job(), DeadReason::Discarded).await;
    let filter = DeadFilter { reason: Some(DeadReason::Shed), ..DeadFilter::default() };
    assert_eq!(stage.replay(filter, 9, NOW).await.unwrap().last, Some(shed));
    stage.expect_dead(discarded, DeadReason::Discarded).await;
}

pub(crate) async fn a_job_whose_key_is_taken_stays_dead(stage: Stage) {
    let node = stage.node().await;
    let first = stage.dead_job(node, keyed(b"k"), DeadReason::Discarded).await;
    let second = stage.dead_job(node, keyed(b"k"), DeadReason::Discarded).await;
    let third = stage.dead_job(node, job(), DeadReason::Discarded).await;
    let replayed = stage.replay(DeadFilter::default(), 9, NOW).await.unwrap();
    assert_eq!(replayed, Replayed { moved: 2, duplicates: 1, last: Some(third) });
    assert_eq!(stage.state(first).await, JobState::Ready);
    stage.expect_dead(second, DeadReason::Discarded).await;
}

pub(crate) async fn what_was_over_before_is_forgotten(stage: Stage) {
    let node = stage.node().await;
    let (old, new) = (stage.running(node, job()).await, stage.running(node, job()).await);
    assert!(stage.end_at(old, DONE, at(1)).await);
    assert!(stage.end_at(new, DONE, at(2)).await);
    let (old_dead, new_dead) = (stage.running(node, job()).await, stage.running(node, job()).await);
    assert!(stage.end_at(old_dead, dead(DeadReason::Discarded), at(3)).await);
    assert!(stage.end_at(new_dead, dead(DeadReason::Discarded), at(4)).await);
    let live = stage.add(job()).await;

    let pruned = stage.prune(at(2), at(4), 9, at(9)).await.unwrap();
    assert_eq!(pruned, Pruned { done: 1, dead: 1, keys: 0 });
    for (id, is_there) in [(old.id, false), (new.id, true), (live, true)] {
        assert_eq!(stage.find(id).await.unwrap().is_some(), is_there);
    }
    for (id, errors) in [(old_dead.id, 0), (new_dead.id, 1)] {
        assert_eq!(stage.find(id).await.unwrap().is_some(), errors == 1);
        assert_eq!(stage.messages(id).await.len(), errors, "errors go along");
    }
}

pub(crate) async fn the_errors_of_a_finished_job_go_along(stage: Stage) {
    let node = stage.node().await;
    let key = stage.running(node, job()).await;
    assert!(stage.end(key, retry(NOW)).await);
    let key = stage.run(node).await;
    assert!(stage.end(key, DONE).await);
    assert_eq!(stage.messages(key.id).await.len(), 1);
    assert_eq!(stage.prune(at(1), at(1), 9, NOW).await.unwrap().done, 1);
    assert!(stage.messages(key.id).await.is_empty());
}

pub(crate) async fn pruning_goes_chunk_by_chunk(stage: Stage) {
    let node = stage.node().await;
    dead_jobs(&stage, node, 5).await;
    for _ in 0..5 {
        let key = stage.running(node, job()).await;
        assert!(stage.end(key, DONE).await);
    }
    for number in 0..5_u8 {
        let key = Unique { until: Some(at(number.into())), ..unique(&[number]) };
        stage.add(NewJob { unique: Some(key), ..job() }).await;
    }
    for expected in [2, 2, 1, 0] {
        let pruned = stage.prune(at(9), at(9), 2, at(9)).await.unwrap();
        assert_eq!(pruned, Pruned { done: expected, dead: expected, keys: expected });
    }
}

pub(crate) async fn a_key_is_pruned_when_its_time_is_over(stage: Stage) {
    let node = stage.node().await;
    let held = Unique { until: Some(at(5)), ..unique(b"k") };
    let key = stage.running(node, NewJob { unique: Some(held), ..job() }).await;
    assert!(stage.end(key, DONE).await);
    assert_eq!(stage.prune(NOW, NOW, 9, at(4)).await.unwrap().keys, 0);
    assert_eq!(stage.offer_at(keyed(b"k"), at(4)).await, Inserted::Duplicate(key.id));
    assert_eq!(stage.prune(NOW, NOW, 9, at(5)).await.unwrap().keys, 1);
}

pub(crate) async fn each_job_is_counted_once(stage: Stage) {
    let node = stage.node().await;
    let done = stage.running(node, job()).await;
    assert!(stage.end(done, DONE).await);
    stage.dead_job(node, job(), DeadReason::Discarded).await;
    let parked = stage.running(node, dependent()).await;
    assert!(stage.end(parked, park()).await);
    stage.running(node, job()).await;
    stage.add_all([job(), job_at(at(60))]).await;
    let put_off = stage.add(deferred(at(60))).await;
    assert_eq!(stage.state(put_off).await, JobState::Parked);
    let counts = stage.counts().await.unwrap();
    let found = [counts.ready, counts.running, counts.parked, counts.dead, counts.done];
    assert_eq!(found, [2, 1, 2, 1, 1]);
}

//! Claims about taking jobs back from processes that died.

use super::stage::{DONE, NOW, Stage, at, claim, error, ids, job, keyed, release, retry};
use crate::jobs::store::{Claimed, DeadReason, JobState, NewJob, Rescued, Settlement};
use crate::jobs::{JobId, RunKey};

/// Crashes after which a job is poison.
const POISON_AFTER: i16 = 3;

/// Claims all that is due with a process that then dies. What it had claimed.
async fn crash(stage: &Stage, begins: &[JobId]) -> (Vec<Claimed>, Rescued) {
    let node = stage.node().await;
    let claimed = stage.claim(claim(node, 9)).await;
    for id in begins {
        let key = claimed.iter().find(|one| one.key.id == *id).unwrap().key;
        assert!(stage.begin_suspect(key, NOW).await.unwrap());
    }
    let rescued = stage.rescue(vec![node], POISON_AFTER, NOW).await.unwrap();
    (claimed, rescued)
}

async fn crashes(stage: &Stage, ids: &[JobId]) -> Vec<i16> {
    let mut all = Vec::new();
    for id in ids {
        all.push(stage.info(*id).await.crashes);
    }
    all
}

pub(crate) async fn the_jobs_of_a_dead_process_are_ready_again(stage: Stage) {
    let (died, lives) = (stage.node().await, stage.node().await);
    let theirs = stage.running(lives, job()).await;
    let key = stage.running(died, job()).await;
    let rescued = stage.rescue(vec![died], POISON_AFTER, at(9)).await.unwrap();
    assert_eq!(rescued, Rescued { requeued: 1, ..Rescued::default() });
    let info = stage.info(key.id).await;
    assert_eq!((info.state, info.run_at, info.attempt), (JobState::Ready, Some(at(9)), 1));
    assert_eq!(stage.state(theirs.id).await, JobState::Running);
    assert!(stage.pulse(lives).await.nodes.iter().all(|node| node.id != died));
    let claimed = stage.claim_at(claim(lives, 9), at(9)).await.pop().unwrap();
    assert_eq!((claimed.key.id, claimed.attempt), (key.id, 2));
    assert_eq!(claimed.due_at, NOW, "it keeps its age");
}

pub(crate) async fn the_jobs_of_a_forgotten_process_are_found_too(stage: Stage) {
    let node = stage.node().await;
    let key = stage.running(node, job()).await;
    stage.leave(node).await.unwrap();
    let rescued = stage.rescue(Vec::new(), POISON_AFTER, NOW).await.unwrap();
    assert_eq!(rescued.requeued, 1);
    assert_eq!(stage.state(key.id).await, JobState::Ready);
    assert_eq!(stage.rescue(Vec::new(), POISON_AFTER, NOW).await.unwrap(), Rescued::default());
}

pub(crate) async fn a_rescue_raises_the_fence(stage: Stage) {
    let died = stage.node().await;
    let key = stage.running(died, job()).await;
    stage.rescue(vec![died], POISON_AFTER, NOW).await.unwrap();
    for how in [DONE, retry(at(9)), release(at(9))] {
        assert!(!stage.end(key, how).await, "the dead speak late");
    }
    assert!(!stage.begin_suspect(key, NOW).await.unwrap());
    let info = stage.info(key.id).await;
    assert!(info.state == JobState::Ready && info.run > key.run);
    let next = stage.run(stage.node().await).await;
    assert!(next.run > info.run);
    assert!(!stage.end(key, DONE).await);
    assert!(stage.end(next, DONE).await);
}

pub(crate) async fn a_crash_is_charged_to_all_that_had_begun(stage: Stage) {
    let stored = stage.add_all(vec![job(); 3]).await;
    let (claimed, rescued) = crash(&stage, &[]).await;
    assert_eq!(ids(&claimed), stored);
    assert_eq!(rescued.requeued, 3);
    assert_eq!(crashes(&stage, &stored).await, [1, 1, 1]);
}

pub(crate) async fn a_suspect_that_did_not_begin_is_not_charged(stage: Stage) {
    let stored = stage.add_all(vec![job(); 2]).await;
    crash(&stage, &[]).await;
    let before = stage.info(stored[0]).await.attempt;
    let (claimed, rescued) = crash(&stage, &[]).await;
    assert!(claimed.iter().all(|one| one.crashes == 1));
    assert_eq!(rescued.requeued, 2);
    assert_eq!(crashes(&stage, &stored).await, [1, 1]);
    assert_eq!(stage.info(stored[0]).await.attempt, before, "its attempt comes back");
}

pub(crate) async fn whoever_runs_beside_a_suspect_becomes_one(stage: Stage) {
    // Else one that takes its process with it would hide behind others on trial.
    let suspects = stage.add_all(vec![job(); 2]).await;
    crash(&stage, &[]).await;
    let newcomer = stage.add(job()).await;
    let (_, rescued) = crash(&stage, &suspects[..1]).await;
    assert_eq!(rescued.requeued, 3);
    assert_eq!(crashes(&stage, &[suspects[0], suspects[1], newcomer]).await, [2, 1, 1]);
    assert_eq!(stage.info(newcomer).await.attempt, 1, "it had begun");
    assert_eq!(stage.info(suspects[1]).await.attempt, 1, "it had not");
}

pub(crate) async fn each_process_has_a_crash_of_its_own(stage: Stage) {
    let suspect = stage.add(job()).await;
    crash(&stage, &[]).await;
    let (one, other) = (stage.node().await, stage.node().await);
    let trial = stage.run(one).await;
    assert!(stage.begin_suspect(trial, NOW).await.unwrap());
    let bystander = stage.running(other, job()).await;
    stage.rescue(vec![one, other], POISON_AFTER, NOW).await.unwrap();
    assert_eq!(crashes(&stage, &[suspect, bystander.id]).await, [2, 1]);
}

pub(crate) async fn three_crashes_are_poison(stage: Stage) {
    let id = stage.add(NewJob { max_attempts: 100, ..job() }).await;
    let (_, first) = crash(&stage, &[]).await;
    let (_, second) = crash(&stage, &[id]).await;
    assert_eq!((first.requeued, second.requeued), (1, 1));
    let (last, third) = crash(&stage, &[id]).await;
    assert_eq!(third, Rescued { poisoned: 1, ..Rescued::default() });
    stage.expect_dead(id, DeadReason::Poison).await;
    assert_eq!(stage.info(id).await.crashes, 3);
    assert!(!stage.end(last[0].key, DONE).await);
}

pub(crate) async fn poison_may_be_tried_again(stage: Stage) {
    let id = stage.add(job()).await;
    for begins in [&[][..], &[id], &[id]] {
        crash(&stage, begins).await;
    }
    stage.expect_dead(id, DeadReason::Poison).await;
    assert!(stage.retry(id, NOW).await.unwrap());
    let claimed = stage.claim(claim(stage.node().await, 1)).await.pop().unwrap();
    assert_eq!(claimed.key.id, id);
    assert!(claimed.crashes > 0, "and is still a suspect");
}

pub(crate) async fn without_an_attempt_left_a_job_is_discarded(stage: Stage) {
    let id = stage.add(NewJob { max_attempts: 1, ..job() }).await;
    let (_, rescued) = crash(&stage, &[]).await;
    assert_eq!(rescued, Rescued { discarded: 1, ..Rescued::default() });
    stage.expect_dead(id, DeadReason::Discarded).await;
}

pub(crate) async fn a_last_attempt_that_did_not_begin_comes_back(stage: Stage) {
    let id = stage.add(NewJob { max_attempts: 2, ..job() }).await;
    crash(&stage, &[]).await;
    let (_, rescued) = crash(&stage, &[]).await;
    assert_eq!(rescued.requeued, 1);
    let info = stage.info(id).await;
    assert_eq!((info.state, info.attempt), (JobState::Ready, 1));
}

pub(crate) async fn a_rescued_job_that_was_to_be_cancelled_is_not_run_again(stage: Stage) {
    let died = stage.node().await;
    let key = stage.running(died, job()).await;
    stage.cancel(key.id, NOW).await.unwrap();
    let rescued = stage.rescue(vec![died], POISON_AFTER, NOW).await.unwrap();
    assert_eq!(rescued, Rescued { discarded: 1, ..Rescued::default() });
    stage.expect_dead(key.id, DeadReason::Cancelled).await;
}

pub(crate) async fn a_rescued_job_keeps_its_key(stage: Stage) {
    let died = stage.node().await;
    let key = stage.running(died, keyed(b"k")).await;
    stage.rescue(vec![died], POISON_AFTER, NOW).await.unwrap();
    let again = stage.offer(keyed(b"k")).await;
    assert_eq!(again, crate::jobs::store::Inserted::Duplicate(key.id));
}

pub(crate) async fn a_suspect_begins_when_it_says_so(stage: Stage) {
    let stored = stage.add(job()).await;
    crash(&stage, &[]).await;
    let node = stage.node().await;
    let key = stage.run(node).await;
    assert_eq!(key.id, stored);
    let unknown = RunKey { id: JobId(key.id.0 + 1_000), run: 1 };
    assert!(!stage.begin_suspect(unknown, NOW).await.unwrap());
    assert!(stage.begin_suspect(key, NOW).await.unwrap());
    assert_eq!(stage.runs_of(node, at(1)).await.unwrap(), [key]);
    let how = Settlement::Retry { run_at: NOW, error: error("refused") };
    assert!(stage.end(key, how).await);
    assert!(!stage.begin_suspect(key, NOW).await.unwrap());
}

pub(crate) async fn two_rescuers_charge_a_crash_once(stage: Stage) {
    let died = stage.node().await;
    let key = stage.running(died, job()).await;
    let (one, other) = tokio::join!(
        stage.rescue(vec![died], POISON_AFTER, NOW),
        stage.rescue(vec![died], POISON_AFTER, NOW),
    );
    assert_eq!(one.unwrap().requeued + other.unwrap().requeued, 1);
    assert_eq!(stage.info(key.id).await.crashes, 1);
}

//! Claims about the end of a run.

use super::stage::{
    DEPENDENCY, DONE, NOW, QUEUE, Stage, at, claim, dead, deferred, dependent, error, job, park,
    release, retry, settle,
};
use crate::jobs::store::{Cancelled, DeadReason, JobState, NewJob, RunError, Settlement};
use crate::jobs::{JobId, RunKey};

pub(crate) async fn a_job_that_is_done_is_remembered_if_asked(stage: Stage) {
    let node = stage.node().await;
    let kept = stage.running(node, job()).await;
    assert!(stage.end_at(kept, DONE, at(3)).await);
    let info = stage.info(kept.id).await;
    assert_eq!((info.state, info.finished_at), (JobState::Done, Some(at(3))));
    assert_eq!((info.attempt, info.run, info.run_at), (1, kept.run, None));

    let forgotten = stage.running(node, job()).await;
    assert!(stage.end(forgotten, Settlement::Done { keep: false }).await);
    assert_eq!(stage.find(forgotten.id).await.unwrap(), None);
    let counts = stage.counts().await.unwrap();
    assert_eq!((counts.done, counts.running), (1, 0));
}

pub(crate) async fn the_errors_of_a_forgotten_job_are_forgotten(stage: Stage) {
    let node = stage.node().await;
    for (keep, left) in [(false, 0), (true, 1)] {
        let key = stage.running(node, job()).await;
        assert!(stage.end(key, retry(NOW)).await);
        assert_eq!(stage.messages(key.id).await, ["refused"]);
        let key = stage.run(node).await;
        assert!(stage.end(key, Settlement::Done { keep }).await);
        assert_eq!(stage.messages(key.id).await.len(), left);
    }
}

pub(crate) async fn an_earlier_run_is_ignored_and_reported(stage: Stage) {
    let node = stage.node().await;
    let early = stage.running(node, job()).await;
    assert!(stage.end(early, retry(NOW)).await);
    let present = stage.run(node).await;
    for how in [DONE, retry(at(9)), release(at(9)), dead(DeadReason::Discarded)] {
        let before = stage.info(early.id).await;
        let step = stage.step(vec![settle(early, how)], None, NOW).await.unwrap();
        assert_eq!(step.stale, [early]);
        assert_eq!(stage.info(early.id).await, before);
    }
    assert_eq!(stage.messages(early.id).await.len(), 1);
    assert!(stage.end(present, DONE).await);
}

pub(crate) async fn an_unknown_job_is_ignored_and_reported(stage: Stage) {
    let node = stage.node().await;
    let known = stage.running(node, job()).await;
    let unknown = RunKey { id: JobId(known.id.0 + 1_000), run: 1 };
    let settles = vec![settle(unknown, DONE), settle(known, DONE), settle(unknown, retry(NOW))];
    let step = stage.step(settles, None, NOW).await.unwrap();
    assert_eq!(step.stale, [unknown, unknown]);
    assert_eq!(stage.state(known.id).await, JobState::Done);
    assert!(stage.messages(unknown.id).await.is_empty());
}

/// What a repeated end must not do: give an attempt back twice, move a time, count twice.
pub(crate) async fn an_end_that_is_told_twice_happens_once(stage: Stage) {
    let node = stage.node().await;
    let ends = [
        DONE,
        Settlement::Done { keep: false },
        retry(at(9)),
        release(at(9)),
        dead(DeadReason::Discarded),
    ];
    for how in ends {
        let first = stage.running(node, job()).await;
        assert!(stage.end(first, retry(NOW)).await);
        let key = stage.run(node).await;
        assert!(stage.end(key, how.clone()).await);
        let once = stage.find(key.id).await.unwrap();
        let counts = stage.counts().await.unwrap();
        stage.end_at(key, how.clone(), at(1)).await;
        assert_eq!(stage.find(key.id).await.unwrap(), once, "{how:?}");
        assert_eq!(stage.counts().await.unwrap(), counts, "{how:?}");
    }
}

pub(crate) async fn a_cancelled_run_is_not_tried_again(stage: Stage) {
    let node = stage.node().await;
    for how in [retry(NOW), release(NOW), park()] {
        let key = stage.running(node, dependent()).await;
        assert_eq!(stage.cancel(key.id, NOW).await.unwrap(), Cancelled::Running(node));
        assert!(stage.end(key, how).await);
        stage.expect_dead(key.id, DeadReason::Cancelled).await;
    }
}

pub(crate) async fn a_cancelled_run_may_still_finish(stage: Stage) {
    let node = stage.node().await;
    let key = stage.running(node, job()).await;
    stage.cancel(key.id, NOW).await.unwrap();
    assert!(stage.end(key, DONE).await);
    assert_eq!(stage.state(key.id).await, JobState::Done);
}

pub(crate) async fn a_retry_waits_and_keeps_what_went_wrong(stage: Stage) {
    let node = stage.node().await;
    let key = stage.running(node, job()).await;
    let error = RunError { message: "refused".into(), trace: Some("at line 1".into()) };
    let how = Settlement::Retry { run_at: at(9), error: error.clone() };
    assert!(stage.end_at(key, how, at(1)).await);
    let info = stage.info(key.id).await;
    assert_eq!((info.state, info.run_at, info.attempt), (JobState::Ready, Some(at(9)), 1));
    assert_eq!(info.error.as_deref(), Some("refused"));
    assert_eq!(stage.errors(key.id).await.unwrap(), [(key, at(1), error)]);
    assert!(stage.claim_at(claim(node, 9), at(8)).await.is_empty());
    let claimed = stage.claim_at(claim(node, 9), at(10)).await;
    assert_eq!((claimed[0].attempt, claimed[0].due_at), (2, at(9)));
}

pub(crate) async fn a_retry_without_an_attempt_left_is_the_end(stage: Stage) {
    let node = stage.node().await;
    let key = stage.running(node, NewJob { max_attempts: 1, ..job() }).await;
    assert!(stage.end(key, retry(NOW)).await);
    stage.expect_dead(key.id, DeadReason::Discarded).await;
}

pub(crate) async fn a_release_gives_the_attempt_back_but_not_the_fence(stage: Stage) {
    let node = stage.node().await;
    let mut last = stage.running(node, job()).await;
    for _ in 0..5 {
        assert!(stage.end(last, release(NOW)).await);
        assert_eq!(stage.info(last.id).await.attempt, 0);
        let claimed = stage.claim(claim(node, 1)).await.pop().unwrap();
        assert_eq!(claimed.attempt, 1);
        assert!(claimed.key.run > last.run);
        last = claimed.key;
    }
}

pub(crate) async fn a_release_keeps_its_age_if_asked(stage: Stage) {
    let node = stage.node().await;
    for (keeps_age, due_at) in [(true, NOW), (false, at(5))] {
        let key = stage.running(node, job()).await;
        let error = Some(error("later"));
        let how = Settlement::Release { run_at: at(5), parked: false, keeps_age, error };
        assert!(stage.end(key, how).await);
        assert_eq!(stage.messages(key.id).await, ["later"]);
        let claimed = stage.claim_at(claim(node, 1), at(6)).await.pop().unwrap();
        assert_eq!(claimed.due_at, due_at);
        assert!(stage.end(claimed.key, DONE).await);
    }
}

pub(crate) async fn what_is_put_off_once_more_can_be_pulled_forward(stage: Stage) {
    let node = stage.node().await;
    let key = stage.running(node, deferred(NOW)).await;
    assert!(stage.end(key, Settlement::PutOff { until: at(60) }).await);
    let info = stage.info(key.id).await;
    assert_eq!((info.state, info.attempt, info.run_at), (JobState::Parked, 0, Some(at(60))));
    let again = stage.claim_at(claim(node, 1), at(60)).await.pop().unwrap();
    assert_eq!((again.deferrals, again.attempt, again.due_at), (2, 1, at(60)));
    let put_off = Settlement::PutOff { until: at(120) };
    assert!(stage.end_at(again.key, put_off.clone(), at(60)).await);
    assert!(!stage.end_at(again.key, put_off, at(60)).await, "its run is over");
    assert_eq!(stage.pull_forward(QUEUE.into(), 9, at(61)).await.unwrap(), 1);
    let pulled = stage.claim_at(claim(node, 1), at(61)).await.pop().unwrap();
    assert_eq!(pulled.deferrals, 0, "there is room for it");
    stage.cancel(key.id, at(61)).await.unwrap();
    assert!(stage.end_at(pulled.key, Settlement::PutOff { until: at(120) }, at(61)).await);
    stage.expect_dead(key.id, DeadReason::Cancelled).await;
}

pub(crate) async fn what_was_hurried_counts_as_never_put_off(stage: Stage) {
    let node = stage.node().await;
    let id = stage.add(deferred(at(60))).await;
    assert!(stage.retry(id, NOW).await.unwrap());
    assert_eq!(stage.claim(claim(node, 1)).await[0].deferrals, 0);
}

pub(crate) async fn a_parked_release_waits_for_its_dependency(stage: Stage) {
    let node = stage.node().await;
    let key = stage.running(node, dependent()).await;
    assert!(stage.end(key, park()).await);
    let info = stage.info(key.id).await;
    assert_eq!((info.state, info.attempt), (JobState::Parked, 0));
    assert!(stage.claim_at(claim(node, 9), at(60)).await.is_empty());
    assert_eq!(stage.release(DEPENDENCY.into(), 9, NOW).await.unwrap(), 1);
    stage.run(node).await;
}

pub(crate) async fn nothing_is_parked_that_nobody_would_release(stage: Stage) {
    let node = stage.node().await;
    let key = stage.running(node, job()).await;
    assert!(stage.end(key, park()).await);
    assert_eq!(stage.state(key.id).await, JobState::Ready);
}

pub(crate) async fn a_dead_job_says_why(stage: Stage) {
    let node = stage.node().await;
    let reasons = [DeadReason::Discarded, DeadReason::Expired, DeadReason::Cancelled];
    for reason in reasons {
        let key = stage.running(node, job()).await;
        assert!(stage.end_at(key, dead(reason), at(2)).await);
        stage.expect_dead(key.id, reason).await;
        let info = stage.info(key.id).await;
        assert_eq!((info.error.as_deref(), info.finished_at), (Some("refused"), Some(at(2))));
        assert_eq!((info.attempt, info.run), (1, key.run));
        assert_eq!(stage.messages(key.id).await, ["refused"]);
    }
}

pub(crate) async fn many_ends_of_all_kinds_at_once(stage: Stage) {
    let node = stage.node().await;
    stage.add_all(vec![dependent(); 6]).await;
    let keys: Vec<_> = stage.claim(claim(node, 6)).await.iter().map(|one| one.key).collect();
    stage.cancel(keys[5].id, NOW).await.unwrap();
    let late = RunKey { run: keys[0].run + 7, ..keys[0] };
    let settles = vec![
        settle(keys[0], DONE),
        settle(keys[1], retry(at(9))),
        settle(keys[2], release(at(9))),
        settle(keys[3], park()),
        settle(late, dead(DeadReason::Discarded)),
        settle(keys[4], dead(DeadReason::Discarded)),
        settle(keys[5], retry(at(9))),
    ];
    let next = stage.add(job()).await;
    let step = stage.step(settles, Some(claim(node, 9)), NOW).await.unwrap();
    assert_eq!(step.stale, [late]);
    assert_eq!(super::stage::ids(&step.claimed), [next]);
    let expected = [
        (JobState::Done, 1),
        (JobState::Ready, 1),
        (JobState::Ready, 0),
        (JobState::Parked, 0),
        (JobState::Dead, 1),
        (JobState::Dead, 1),
    ];
    for (key, expected) in keys.iter().zip(expected) {
        let info = stage.info(key.id).await;
        assert_eq!((info.state, info.attempt), expected, "{info:?}");
    }
}

pub(crate) async fn the_newest_32_errors_are_kept(stage: Stage) {
    let node = stage.node().await;
    let id = stage.add(NewJob { max_attempts: 100, ..job() }).await;
    for number in 1..=34 {
        let key = stage.run(node).await;
        let error = error(&number.to_string());
        assert!(stage.end(key, Settlement::Retry { run_at: NOW, error }).await);
        assert_eq!(stage.messages(id).await.len(), number.min(32));
    }
    let expected: Vec<_> = (3..=34).map(|number| number.to_string()).collect();
    assert_eq!(stage.messages(id).await, expected);
    assert_eq!(stage.info(id).await.error.as_deref(), Some("34"));
}

//! From an enqueue to the end of a job.

use super::*;

#[actix::test]
async fn a_job_runs_once_and_is_done() {
    let bench = Bench::start().await;
    let id = bench.jobs.enqueue(task("hello")).await.unwrap().id().unwrap();
    let info = bench.reaches(id, JobState::Done).await;
    assert_eq!((info.attempt, info.run), (1, 1));
    assert_eq!(bench.log.lines(), ["hello#1"]);
    bench.stop().await;
}

#[actix::test]
async fn a_failed_run_is_tried_again() {
    let bench = Bench::start().await;
    let id = bench.jobs.enqueue(task("fail once")).await.unwrap().id().unwrap();
    bench.reaches(id, JobState::Done).await;
    assert_eq!(bench.log.lines(), ["fail once#1", "fail once#2"]);
    bench.stop().await;
}

#[actix::test]
async fn a_job_that_always_fails_is_dead_after_its_attempts() {
    for words in ["fail", "panic"] {
        let bench = Bench::start().await;
        let id = bench.jobs.enqueue(task(words)).await.unwrap().id().unwrap();
        let info = bench.reaches(id, JobState::Dead).await;
        assert_eq!((info.reason, info.attempt), (Some(DeadReason::Discarded), 3));
        assert_eq!(bench.log.lines().len(), 3, "{words}");
        assert_eq!(bench.jobs.errors(id).await.unwrap().len(), 3, "{words}");
        bench.stop().await;
    }
}

#[actix::test]
async fn a_thousand_jobs_run_once_each() {
    let bench = Bench::start().await;
    let tasks = (0..1_000).map(|number| task(format!("{number}")));
    let answers = bench.jobs.enqueue_many(tasks).await.unwrap();
    assert!(answers.iter().all(|answer| matches!(answer, Ok(Enqueued::Accepted(_)))));
    let all_done = async || {
        let counts = bench.jobs.counts().await.unwrap();
        (counts.done == 1_000).then_some(counts)
    };
    let counts = eventually(all_done, "all are done").await;
    assert_eq!((counts.ready, counts.running, counts.dead), (0, 0, 0));
    let mut lines = bench.log.lines();
    lines.sort();
    lines.dedup();
    assert_eq!(lines.len(), 1_000);
    bench.stop().await;
}

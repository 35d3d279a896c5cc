//! Ending in order.

use super::*;

on_each_database! {
    what_runs_finishes_and_what_had_not_begun_is_given_back,
    what_does_not_finish_is_interrupted_and_keeps_its_attempt,
    a_second_drain_does_no_harm,
}

/// Runs until it is let go.
#[derive(Serialize, Deserialize)]
struct Gated;

impl Job for Gated {
    const KIND: &'static str = "gated";
}

async fn what_runs_finishes_and_what_had_not_begun_is_given_back(base: Base) {
    let (open, gate) = tokio::sync::watch::channel(false);
    let log = Log::default();
    let seen = log.clone();
    let handler = move |_: Gated, _: JobCx| {
        let mut gate = gate.clone();
        seen.add("begun");
        async move { gate.wait_for(|open| *open).await.map(drop).map_err(JobError::retry) }
    };
    let queue = QueueSpec::new("default").workers(2);
    let bench = base.bench(|builder| builder.handle(handler).queue(queue)).await;
    bench.jobs.pause("default").await.unwrap();
    let answers = bench.jobs.enqueue_many((0..10).map(|_| Gated)).await.unwrap();
    bench.jobs.resume("default").await.unwrap();
    let active = async || (log.lines().len() == 2).then_some(());
    eventually(active, "both workers work").await;
    let draining = actix::spawn(bench.jobs.drain(Duration::from_secs(15)));
    let begun = async || bench.jobs.shared().is_draining().then_some(());
    eventually(begun, "it drains").await;
    open.send(true).unwrap();
    let report = draining.await.unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.finished, 2, "{report:?}");
    let counts = bench.jobs.counts().await.unwrap();
    assert_eq!((counts.done, counts.ready, counts.running), (2, 8, 0));
    for answer in answers {
        let info = bench.info(answer.unwrap().id().unwrap()).await;
        assert_eq!(info.attempt, i16::from(info.state == JobState::Done), "{info:?}");
    }
    bench.die().await;
}

async fn what_does_not_finish_is_interrupted_and_keeps_its_attempt(base: Base) {
    let bench = base.bench(|builder| builder).await;
    let id = bench.add("wait").await;
    bench.logs("wait#1").await;
    let report = bench.jobs.drain(Duration::from_millis(10)).await;
    assert_eq!((report.interrupted, report.finished, report.abandoned), (1, 0, 0), "{report:?}");
    let info = bench.info(id).await;
    assert_eq!((info.state, info.attempt), (JobState::Ready, 0));
    bench.die().await;
}

async fn a_second_drain_does_no_harm(base: Base) {
    let bench = base.bench(|builder| builder).await;
    let id = bench.add("hello").await;
    bench.reaches(id, JobState::Done).await;
    assert!(bench.jobs.drain(Duration::from_secs(5)).await.is_clean());
    assert_eq!(bench.jobs.drain(Duration::from_secs(5)).await, DrainReport::default());
    // Enqueueing goes on.
    let id = bench.add("for others").await;
    assert_eq!(bench.info(id).await.run, 0);
    bench.die().await;
}

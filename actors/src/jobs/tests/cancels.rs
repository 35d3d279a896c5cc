//! Cancelling: what waits, what runs, and what runs elsewhere.

use super::*;

on_each_database! {
    a_job_that_waits_is_dead_at_once,
    a_job_that_runs_is_told_to_stop,
    a_cancel_wins_over_a_retry,
    a_handler_that_does_not_listen_is_dropped,
    a_job_that_runs_in_another_process_is_told_to_stop,
    what_is_over_cannot_be_cancelled,
}

#[track_caller]
fn check_cancelled(info: &JobInfo) {
    assert_eq!(info.reason, Some(DeadReason::Cancelled), "{info:?}");
}

async fn a_job_that_waits_is_dead_at_once(base: Base) {
    let bench = base.bench(|builder| builder).await;
    let enqueue = bench.jobs.enqueue(task("later")).delay(Duration::from_secs(60));
    let id = enqueue.await.unwrap().id().unwrap();
    assert_eq!(bench.jobs.cancel(id).await.unwrap(), Cancelled::Queued);
    let info = bench.info(id).await;
    assert_eq!(info.state, JobState::Dead);
    check_cancelled(&info);
    bench.stop().await;
}

async fn a_job_that_runs_is_told_to_stop(base: Base) {
    let bench = base.bench(|builder| builder).await;
    let id = bench.add("wait").await;
    bench.logs("wait#1").await;
    assert_eq!(bench.jobs.cancel(id).await.unwrap(), Cancelled::Running(bench.jobs.node()));
    check_cancelled(&bench.reaches(id, JobState::Dead).await);
    assert_eq!(bench.log.lines(), ["wait#1", "told to stop"]);
    bench.stop().await;
}

/// Wants to be tried again, whatever anybody says.
#[derive(Serialize, Deserialize)]
struct Eager;

impl Job for Eager {
    const KIND: &'static str = "eager";
}

async fn a_cancel_wins_over_a_retry(base: Base) {
    let (open, gate) = tokio::sync::watch::channel(false);
    let handler = move |_: Eager, _: JobCx| {
        let mut gate = gate.clone();
        async move {
            let _open = gate.wait_for(|open| *open).await;
            Err(JobError::retry_after(Duration::ZERO, "again"))
        }
    };
    // The other one cancels, so that this one's tables know it before its handler does.
    let bench = base.bench(|builder| builder.handle(handler).beat_every(LONG)).await;
    let other = base.bench(|builder| builder.queue(QueueSpec::new("default").workers(0))).await;
    let id = bench.jobs.enqueue(Eager).await.unwrap().id().unwrap();
    bench.reaches(id, JobState::Running).await;
    assert_eq!(other.jobs.cancel(id).await.unwrap(), Cancelled::Running(bench.jobs.node()));
    open.send(true).unwrap();
    check_cancelled(&bench.reaches(id, JobState::Dead).await);
    other.stop().await;
    bench.stop().await;
}

/// Longer than a test.
const LONG: Duration = Duration::from_secs(6);

async fn a_handler_that_does_not_listen_is_dropped(base: Base) {
    let bench = base.bench(|builder| builder).await;
    let id = bench.add("hang").await;
    bench.logs("hang#1").await;
    bench.jobs.cancel(id).await.unwrap();
    check_cancelled(&bench.reaches(id, JobState::Dead).await);
    assert_eq!(bench.log.lines(), ["hang#1"]);
    bench.stop().await;
}

async fn a_job_that_runs_in_another_process_is_told_to_stop(base: Base) {
    let runs = base.bench(|builder| builder).await;
    let cancels = base.bench(|builder| builder.queue(QueueSpec::new("default").workers(0))).await;
    let id = cancels.add("wait").await;
    runs.logs("wait#1").await;
    assert_eq!(cancels.jobs.cancel(id).await.unwrap(), Cancelled::Running(runs.jobs.node()));
    check_cancelled(&cancels.reaches(id, JobState::Dead).await);
    assert_eq!(runs.log.lines(), ["wait#1", "told to stop"]);
    cancels.stop().await;
    runs.stop().await;
}

async fn what_is_over_cannot_be_cancelled(base: Base) {
    let bench = base.bench(|builder| builder).await;
    let id = bench.add("hello").await;
    bench.reaches(id, JobState::Done).await;
    assert_eq!(bench.jobs.cancel(id).await.unwrap(), Cancelled::Over);
    assert_eq!(bench.jobs.cancel(JobId(i64::MAX)).await.unwrap(), Cancelled::Unknown);
    bench.stop().await;
}

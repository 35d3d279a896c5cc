//! Each way that a run can end, and what becomes of its job.

use std::sync::mpsc;

use super::*;
use crate::store::Timestamp;

on_each_database! {
    a_back_off_is_stored_and_outlives_the_process,
    jitter_spreads_the_retries_within_the_back_off,
    a_discarded_job_is_not_tried_again,
    a_snooze_is_no_attempt,
    an_expired_job_never_runs,
    a_kind_nobody_knows_waits_for_a_process_that_does,
    arguments_that_cannot_be_read_are_kept_for_a_replay,
    a_replay_goes_no_faster_than_its_rate,
    progress_is_seen_while_the_job_runs,
}

/// Fails for an hour.
#[derive(Serialize, Deserialize)]
struct Stubborn;

impl Job for Stubborn {
    const KIND: &'static str = "stubborn";

    fn policy() -> JobPolicy {
        JobPolicy::default().backoff(Backoff::fixed(HOUR).unwrap())
    }
}

/// Fails, and comes again at any moment of an hour.
#[derive(Serialize, Deserialize)]
struct Scattered;

impl Job for Scattered {
    const KIND: &'static str = "scattered";

    fn policy() -> JobPolicy {
        JobPolicy::default().backoff(Backoff::exponential(HOUR, 2, HOUR).unwrap())
    }
}

const HOUR: Duration = Duration::from_secs(3_600);

async fn fail<J>(_: J, _: JobCx) -> JobResult {
    Err(JobError::retry("not today"))
}

async fn a_back_off_is_stored_and_outlives_the_process(base: Base) {
    let bench = base.bench(|builder| builder.handle(fail::<Stubborn>)).await;
    let before = bench.jobs.clock().now();
    let id = bench.jobs.enqueue(Stubborn).await.unwrap().id().unwrap();
    let failed = async || Some(bench.info(id).await).filter(|info| info.error.is_some());
    let info = eventually(failed, "it fails").await;
    let run_at = info.run_at.unwrap();
    assert_eq!((info.state, info.attempt), (JobState::Ready, 1));
    assert!(run_at >= before.after(HOUR), "{run_at:?} is an hour after {before:?}");
    bench.stop().await;
    let next = base.bench(|builder| builder.handle(|_: Stubborn, _| async { Ok(()) })).await;
    assert_eq!(next.info(id).await.run_at, Some(run_at));
    assert!(next.jobs.retry(id).await.unwrap());
    assert_eq!(next.reaches(id, JobState::Done).await.attempt, 2);
    next.stop().await;
}

async fn jitter_spreads_the_retries_within_the_back_off(base: Base) {
    let bench = base.bench(|builder| builder.handle(fail::<Scattered>)).await;
    let before = bench.jobs.clock().now();
    let answers = bench.jobs.enqueue_many((0..20).map(|_| Scattered)).await.unwrap();
    let mut waits = Vec::new();
    for answer in answers {
        let id = answer.unwrap().id().unwrap();
        let failed = async || Some(bench.info(id).await).filter(|info| info.error.is_some());
        let info = eventually(failed, "it fails").await;
        waits.push(info.run_at.unwrap());
    }
    let latest = bench.jobs.clock().now().after(HOUR);
    assert!(waits.iter().all(|at| (before..=latest).contains(at)), "{waits:?}");
    let (first, last) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
    // Twenty that are drawn evenly lie within six minutes of each other once in 10^18 times.
    assert!(last.since(*first) > HOUR / 10, "{waits:?}");
    bench.stop().await;
}

async fn a_discarded_job_is_not_tried_again(base: Base) {
    let bench = base.bench(|builder| builder).await;
    let id = bench.add("discard").await;
    let info = bench.reaches(id, JobState::Dead).await;
    assert_eq!((info.reason, info.attempt), (Some(DeadReason::Discarded), 1));
    assert_eq!(info.error.as_deref(), Some("it can never work"));
    assert_eq!(bench.log.lines(), ["discard#1"]);
    bench.stop().await;
}

async fn a_snooze_is_no_attempt(base: Base) {
    let bench = base.bench(|builder| builder).await;
    let id = bench.add("snooze").await;
    let info = bench.reaches(id, JobState::Done).await;
    assert_eq!((info.attempt, info.run), (1, 3));
    assert_eq!(bench.log.lines(), ["snooze#1"; 3]);
    bench.stop().await;
}

async fn an_expired_job_never_runs(base: Base) {
    let bench = base.bench(|builder| builder).await;
    bench.jobs.pause("default").await.unwrap();
    let enqueue = bench.jobs.enqueue(task("late")).expires_in(Duration::from_millis(1));
    let id = enqueue.await.unwrap().id().unwrap();
    let expires = bench.jobs.clock().now().after(Duration::from_millis(2));
    let passed = async || (bench.jobs.clock().now() > expires).then_some(());
    eventually(passed, "its time passes").await;
    bench.jobs.resume("default").await.unwrap();
    let info = bench.reaches(id, JobState::Dead).await;
    assert_eq!(info.reason, Some(DeadReason::Expired));
    assert!(bench.log.lines().is_empty());
    bench.stop().await;
}

async fn a_kind_nobody_knows_waits_for_a_process_that_does(base: Base) {
    let bench = base.bench(|builder| builder).await;
    let mut events = bench.jobs.events();
    let id = bench.jobs.enqueue(Stubborn).await.unwrap().id().unwrap();
    let refused = async || Some(bench.info(id).await).filter(|info| info.run > 0);
    let info = eventually(async || refused().await.filter(|i| i.run_at.is_some()), "met").await;
    assert!(matches!(events.recv().await, Ok(JobEvent::Released { id: of, .. }) if of == id));
    let errors = async || Some(bench.jobs.errors(id).await.unwrap()).filter(|all| !all.is_empty());
    let errors = eventually(errors, "it is reported").await;
    assert_eq!(&*errors[0].2.message, "no handler for this kind");
    assert_ne!(info.state, JobState::Dead);
    bench.stop().await;
    let knows = base.bench(|builder| builder.handle(|_: Stubborn, _| async { Ok(()) })).await;
    assert!(knows.jobs.retry(id).await.unwrap());
    assert_eq!(knows.reaches(id, JobState::Done).await.attempt, 1);
    knows.stop().await;
}

#[derive(Serialize, Deserialize)]
struct OldShape {
    address: String,
}

impl Job for OldShape {
    const KIND: &'static str = "shape";
}

#[derive(Serialize, Deserialize)]
struct NewShape {
    addresses: Vec<String>,
}

impl Job for NewShape {
    const KIND: &'static str = "shape";
}

async fn arguments_that_cannot_be_read_are_kept_for_a_replay(base: Base) {
    let bench = base.bench(|builder| builder.handle(|_: NewShape, _| async { Ok(()) })).await;
    let old = OldShape { address: "ada@example.org".into() };
    let id = bench.jobs.enqueue(old).await.unwrap().id().unwrap();
    let info = bench.reaches(id, JobState::Dead).await;
    assert_eq!((info.reason, info.attempt), (Some(DeadReason::Discarded), 1));
    let error = info.error.unwrap();
    assert!(error.starts_with("the arguments cannot be read"), "{error}");
    assert!(!error.contains("ada"), "{error} quotes the arguments");
    bench.stop().await;
    let log = Log::default();
    let seen = log.clone();
    let handler = move |old: OldShape, _: JobCx| {
        seen.add(old.address);
        std::future::ready(Ok(()))
    };
    let reads = base.bench(|builder| builder.handle(handler)).await;
    let filter = DeadFilter { kind: Some("shape".into()), ..DeadFilter::default() };
    assert_eq!(reads.jobs.replay_dead(filter, 10).await.unwrap().moved, 1);
    reads.reaches(id, JobState::Done).await;
    assert_eq!(log.lines(), ["ada@example.org"]);
    reads.stop().await;
}

async fn a_replay_goes_no_faster_than_its_rate(base: Base) {
    let bench = base.bench(|builder| builder).await;
    let discards = (0..12).map(|_| task("discard"));
    bench.jobs.enqueue_many(discards).await.unwrap();
    let dead = async || Some(bench.jobs.counts().await.unwrap()).filter(|all| all.dead == 12);
    eventually(dead, "all are dead").await;
    bench.jobs.pause("default").await.unwrap();
    let begun = Instant::now();
    let replayed = bench.jobs.replay_dead(DeadFilter::default(), 20).await.unwrap();
    assert_eq!((replayed.moved, replayed.duplicates), (12, 0));
    // Two at a time, every tenth of a second: a lower bound, which no busy machine breaks.
    assert!(begun.elapsed() >= Duration::from_millis(500));
    assert_eq!(bench.jobs.counts().await.unwrap().ready, 12);
    bench.stop().await;
}

async fn progress_is_seen_while_the_job_runs(base: Base) {
    let (open, gate) = tokio::sync::watch::channel(false);
    let handler = move |_: Stubborn, cx: JobCx| {
        let mut gate = gate.clone();
        async move {
            cx.progress("a third");
            cx.progress("half");
            gate.wait_for(|open| *open).await.map(drop).map_err(JobError::retry)
        }
    };
    let bench = base.bench(|builder| builder.handle(handler)).await;
    let id = bench.jobs.enqueue(Stubborn).await.unwrap().id().unwrap();
    let told = async || Some(bench.info(id).await).filter(|info| info.progress.is_some());
    let info = eventually(told, "it is told").await;
    assert_eq!((info.progress.as_deref(), info.state), (Some("half"), JobState::Running));
    open.send(true).unwrap();
    bench.reaches(id, JobState::Done).await;
    bench.stop().await;
}

/// Has a tenth of a second and one attempt.
#[derive(Serialize, Deserialize)]
struct Hasty;

impl Job for Hasty {
    const KIND: &'static str = "hasty";

    fn policy() -> JobPolicy {
        JobPolicy::default().max_attempts(1).timeout(Duration::from_millis(100))
    }
}

#[track_caller]
fn check_died(info: &JobInfo, expected: &str) {
    let error = info.error.as_deref().unwrap_or_default();
    assert_eq!(info.reason, Some(DeadReason::Discarded), "{info:?}");
    assert!(error.contains(expected), "{error:?} says {expected:?}");
}

#[actix::test]
async fn a_future_that_is_out_of_time_is_dropped() {
    let (dropped, gone) = mpsc::channel::<()>();
    let handler = move |_: Hasty, _: JobCx| {
        let dropped = dropped.clone();
        async move {
            let _dropped = dropped;
            std::future::pending().await
        }
    };
    let bench = Bench::start_with(|builder| builder.handle(handler)).await;
    let id = bench.jobs.enqueue(Hasty).await.unwrap().id().unwrap();
    check_died(&bench.reaches(id, JobState::Dead).await, "took longer than 100 ms");
    bench.stop().await;
    assert!(gone.try_recv().is_err());
}

#[actix::test]
async fn a_blocking_handler_that_is_out_of_time_keeps_its_worker() {
    let (open, gate) = mpsc::channel::<()>();
    let (gate, log) = (Mutex::new(gate), Log::default());
    let seen = log.clone();
    let handler = move |_: Hasty, cx: JobCx| {
        seen.add(format!("begun {}", cx.id().0));
        gate.lock().recv().map_err(JobError::retry)
    };
    let declare = |builder: JobsBuilder| {
        builder.handle_blocking(handler).queue(QueueSpec::new("default").workers(1))
    };
    let bench = Bench::start_with(declare).await;
    let id = bench.jobs.enqueue(Hasty).await.unwrap().id().unwrap();
    check_died(&bench.reaches(id, JobState::Dead).await, "took longer than 100 ms");
    let second = bench.add("waits for the worker").await;
    let seen = async || bench.jobs.guard("default").filter(|guard| guard.depth > 0);
    eventually(seen, "the guard has seen it").await;
    assert_eq!(bench.info(second).await.run, 0, "the worker is not free");
    open.send(()).unwrap();
    bench.reaches(second, JobState::Done).await;
    assert_eq!(log.lines().len(), 1);
    bench.stop().await;
}

/// Panics, and is not tried again.
#[derive(Serialize, Deserialize)]
struct Bomb;

impl Job for Bomb {
    const KIND: &'static str = "bomb";

    fn policy() -> JobPolicy {
        JobPolicy::default().max_attempts(1)
    }
}

type Ready = std::future::Ready<JobResult>;

#[actix::test]
async fn a_panic_before_the_future_is_the_runs_failure() {
    let handler = |_: Bomb, _: JobCx| -> Ready { panic!("too early") };
    let bench = Bench::start_with(|builder| builder.handle(handler)).await;
    let id = bench.jobs.enqueue(Bomb).await.unwrap().id().unwrap();
    check_died(&bench.reaches(id, JobState::Dead).await, "panicked: too early at");
    bench.stop().await;
}

#[actix::test]
async fn a_panic_in_blocking_code_is_the_runs_failure() {
    let handler = |_: Bomb, _: JobCx| -> JobResult { panic!("while blocking") };
    let bench = Bench::start_with(|builder| builder.handle_blocking(handler)).await;
    let id = bench.jobs.enqueue(Bomb).await.unwrap().id().unwrap();
    check_died(&bench.reaches(id, JobState::Dead).await, "panicked: while blocking at");
    bench.stop().await;
}

#[actix::test]
async fn a_panic_while_a_late_future_is_dropped_is_the_runs_failure() {
    struct Grudge;
    impl Drop for Grudge {
        fn drop(&mut self) {
            panic!("not without a fight");
        }
    }
    let handler = |_: Hasty, _: JobCx| async {
        let _grudge = Grudge;
        std::future::pending().await
    };
    let bench = Bench::start_with(|builder| builder.handle(handler)).await;
    let id = bench.jobs.enqueue(Hasty).await.unwrap().id().unwrap();
    check_died(&bench.reaches(id, JobState::Dead).await, "not without a fight");
    bench.stop().await;
}

#[actix::test]
async fn a_storm_of_panics_leaves_the_workers_as_they_were() {
    let barrier = Arc::new(tokio::sync::Barrier::new(4));
    let meet = move |_: Stubborn, _: JobCx| {
        let barrier = Arc::clone(&barrier);
        async move {
            barrier.wait().await;
            Ok(())
        }
    };
    let bomb = |_: Bomb, _: JobCx| -> Ready { panic!("boom") };
    let queue = QueueSpec::new("default").workers(4);
    let bench = Bench::start_with(|builder| builder.handle(bomb).handle(meet).queue(queue)).await;
    bench.jobs.enqueue_many((0..1_000).map(|_| Bomb)).await.unwrap();
    let dead = async || Some(bench.jobs.counts().await.unwrap()).filter(|all| all.dead == 1_000);
    eventually(dead, "all are dead").await;
    // These end only when four run at a time: no worker is missing.
    bench.jobs.enqueue_many((0..8).map(|_| Stubborn)).await.unwrap();
    bench.finishes(8).await;
    bench.stop().await;
}

#[actix::test]
async fn the_key_for_services_that_drop_repeats_is_the_same_in_each_run() {
    let log = Log::default();
    let seen = log.clone();
    let handler = move |_: Stubborn, cx: JobCx| {
        seen.add(cx.idempotency_key());
        let first = cx.attempt() == 1;
        let again = Err(JobError::retry_after(Duration::from_millis(1), "once more"));
        std::future::ready(if first { again } else { Ok(()) })
    };
    let bench = Bench::start_with(|builder| builder.handle(handler)).await;
    for _ in 0..2 {
        let id = bench.jobs.enqueue(Stubborn).await.unwrap().id().unwrap();
        bench.reaches(id, JobState::Done).await;
    }
    let keys = log.lines();
    assert_eq!((&keys[0], &keys[2]), (&keys[1], &keys[3]));
    assert_ne!(keys[0], keys[2]);
    bench.stop().await;
}

#[actix::test]
async fn each_end_is_an_event() {
    let bench = Bench::start().await;
    let mut events = bench.jobs.events();
    let mut next = async || events.recv().await.unwrap();
    let done = bench.add("hello").await;
    assert!(matches!(next().await, JobEvent::Done { id, .. } if id == done));
    let dead = bench.add("discard").await;
    let reason = DeadReason::Discarded;
    assert!(matches!(next().await, JobEvent::Died { id, reason: why, .. }
        if id == dead && why == reason));
    let failed = bench.add("fail once").await;
    assert!(matches!(next().await, JobEvent::Failed { id, attempt: 1, .. } if id == failed));
    assert!(matches!(next().await, JobEvent::Done { id, .. } if id == failed));
    bench.stop().await;
}

#[actix::test]
async fn a_job_is_due_no_earlier_than_it_was_asked_to_be() {
    let bench = Bench::start().await;
    let wait = Duration::from_millis(150);
    let asked: Timestamp = bench.jobs.clock().now().after(wait);
    let at = bench.jobs.enqueue(task("at")).at(asked).await.unwrap().id().unwrap();
    let later = bench.jobs.enqueue(task("later")).delay(wait).await.unwrap().id().unwrap();
    for id in [at, later] {
        let info = bench.reaches(id, JobState::Done).await;
        assert!(info.finished_at.unwrap() >= asked, "{info:?}");
    }
    bench.stop().await;
}

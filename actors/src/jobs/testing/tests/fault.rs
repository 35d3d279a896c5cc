//! Faults, and how a queue bears them.

use std::future::Future;

use futures_util::FutureExt;

use super::*;
use crate::jobs::store::sqlite::SqliteJobs;
use crate::jobs::store::{Beat, CronRow, DeadFilter, JobStore, NewJob, OnConflict, Unique};
use crate::jobs::{JobId, NodeId, RunKey};
use crate::store::{SqliteOptions, SqliteStore, StoreError};

const NOW: Timestamp = Timestamp(1_000);

struct Bench {
    store: Arc<dyn JobStore>,
    faults: Faults,
}

impl Bench {
    async fn new() -> Self {
        let sqlite = SqliteStore::open(SqliteOptions::memory()).await.unwrap();
        let faults = Faults::new();
        Self { store: faults.wrap(Arc::new(SqliteJobs::new(sqlite))), faults }
    }

    /// Calls each operation with something harmless.
    async fn call(&self, operation: Operation) -> Result<(), StoreError> {
        async fn only<T>(
            stored: impl Future<Output = Result<T, StoreError>>,
        ) -> Result<(), StoreError> {
            stored.await.map(drop)
        }
        let store = &self.store;
        let (id, node, queue) = (JobId(7), NodeId::fresh(), || Arc::<str>::from("queue"));
        let key = RunKey { id, run: 1 };
        match operation {
            Operation::Insert => only(store.insert(vec![new_job()], NOW)).await,
            Operation::Step => only(store.step(vec![], None, NOW)).await,
            Operation::BeginSuspect => only(store.begin_suspect(key, NOW)).await,
            Operation::Progress => only(store.progress(vec![(key, "half".into())])).await,
            Operation::Cancel => only(store.cancel(id, NOW)).await,
            Operation::Retry => only(store.retry(id, NOW)).await,
            Operation::Find => only(store.find(id)).await,
            Operation::Errors => only(store.errors(id)).await,
            Operation::Beat => only(store.beat(beat(node), NOW)).await,
            Operation::RunsOf => only(store.runs_of(node, NOW)).await,
            Operation::Rescue => only(store.rescue(vec![node], 3, NOW)).await,
            Operation::Leave => only(store.leave(node)).await,
            Operation::Elect => only(store.elect("test", node, NOW.after(SECOND), NOW)).await,
            Operation::Resign => only(store.resign("test", node, 1)).await,
            Operation::Depths => only(store.depths(queue(), 10, NOW)).await,
            Operation::Park => only(store.park("rates".into(), 10)).await,
            Operation::Release => only(store.release("rates".into(), 10, NOW)).await,
            Operation::Parked => only(store.parked(10)).await,
            Operation::PullForward => only(store.pull_forward(queue(), 10, NOW)).await,
            Operation::Shed => only(store.shed(queue(), None, 10, NOW)).await,
            Operation::Pause => only(store.pause(queue(), true, NOW)).await,
            Operation::Queues => only(store.queues()).await,
            Operation::PutCron => only(store.put_cron(cron())).await,
            Operation::RemoveCron => only(store.remove_cron("cron".into())).await,
            Operation::PauseCron => only(store.pause_cron("cron".into(), true)).await,
            Operation::Crons => only(store.crons()).await,
            Operation::TickCron => {
                only(store.tick_cron("cron".into(), NOW, NOW.after(SECOND), vec![], NOW)).await
            }
            Operation::Dead => only(store.dead(DeadFilter::default(), 10)).await,
            Operation::Replay => only(store.replay(DeadFilter::default(), 10, NOW)).await,
            Operation::Prune => only(store.prune(NOW, NOW, 10, NOW)).await,
            Operation::Counts => only(store.counts()).await,
        }
    }

    async fn jobs(&self) -> u64 {
        self.store.counts().await.unwrap().ready
    }
}

fn new_job() -> NewJob {
    NewJob {
        queue: "queue".into(),
        kind: "kind".into(),
        class: Class::Normal,
        run_at: NOW,
        expires_at: None,
        max_attempts: 3,
        dependency: None,
        unique: None,
        args: Arc::from(*b"{}"),
        args_format: 0,
        meta: None,
        deferred: false,
        depth_limit: None,
    }
}

fn beat(node: NodeId) -> Beat {
    Beat { node, name: "test".into(), presence: None, report: "{}".into() }
}

fn cron() -> CronRow {
    CronRow {
        name: "cron".into(),
        spec: "@hourly".into(),
        time_zone: "UTC".into(),
        queue: "queue".into(),
        kind: "kind".into(),
        class: Class::Normal,
        max_attempts: 3,
        args: Arc::from(*b"{}"),
        args_format: 0,
        backfill_ms: 0,
        next_at: NOW,
        last_at: None,
        paused: false,
    }
}

#[tokio::test]
async fn each_operation_passes_through_fails_when_told_and_is_counted() {
    let bench = Bench::new().await;
    for &operation in Operation::ALL {
        bench.call(operation).await.unwrap_or_else(|error| panic!("{operation:?}: {error}"));
        bench.faults.fail_next(operation, 2, StoreError::Timeout);
        for _ in 0..2 {
            let failed = bench.call(operation).await;
            assert!(matches!(failed, Err(StoreError::Timeout)), "{operation:?}: {failed:?}");
        }
        bench.call(operation).await.unwrap_or_else(|error| panic!("{operation:?}: {error}"));
        assert_eq!(bench.faults.calls(operation), 4, "{operation:?}");
    }
}

#[tokio::test]
async fn a_lost_answer_is_carried_out_and_a_failed_call_is_not() {
    let bench = Bench::new().await;
    bench.faults.lose_answers(Operation::Insert, 1);
    let lost = bench.call(Operation::Insert).await;
    assert!(matches!(lost, Err(StoreError::OutcomeUnknown(_))), "{lost:?}");
    assert_eq!(bench.jobs().await, 1);
    bench.faults.fail_next(Operation::Insert, 1, StoreError::Timeout);
    assert!(bench.call(Operation::Insert).await.is_err());
    assert_eq!(bench.jobs().await, 1);
}

#[tokio::test]
async fn a_repeated_call_is_carried_out_twice() {
    let bench = Bench::new().await;
    bench.faults.repeat_next(Operation::Insert, 1);
    bench.call(Operation::Insert).await.unwrap();
    assert_eq!((bench.jobs().await, bench.faults.calls(Operation::Insert)), (2, 1));
    let unique = Unique { key: Arc::from(*b"key"), until: None, conflict: OnConflict::Keep };
    bench.faults.repeat_next(Operation::Insert, 1);
    let job = NewJob { unique: Some(unique), ..new_job() };
    let inserted = bench.store.insert(vec![job], NOW).await.unwrap();
    assert!(matches!(inserted[..], [crate::jobs::store::Inserted::Duplicate(_)]), "{inserted:?}");
}

#[tokio::test]
async fn faults_come_in_the_order_in_which_they_were_asked_for() {
    let bench = Bench::new().await;
    bench.faults.fail_next(Operation::Find, 1, StoreError::Timeout);
    bench.faults.fail_next(Operation::Find, 0, StoreError::Panicked);
    bench.faults.lose_answers(Operation::Find, 1);
    assert!(matches!(bench.call(Operation::Find).await, Err(StoreError::Timeout)));
    assert!(matches!(bench.call(Operation::Find).await, Err(StoreError::OutcomeUnknown(_))));
    bench.call(Operation::Find).await.unwrap();
}

#[tokio::test]
async fn a_call_that_is_held_is_carried_out_when_it_is_let_go() {
    let bench = Bench::new().await;
    bench.faults.hold(Operation::Insert);
    let mut held = Box::pin(bench.call(Operation::Insert));
    assert!(held.as_mut().now_or_never().is_none());
    assert_eq!((bench.jobs().await, bench.faults.calls(Operation::Insert)), (0, 1));
    bench.faults.release(Operation::Insert);
    held.await.unwrap();
    assert_eq!(bench.jobs().await, 1);
    bench.call(Operation::Insert).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_call_is_delayed_on_tokios_clock() {
    let bench = Bench::new().await;
    bench.faults.delay_next(Operation::Counts, 1, HOUR);
    let began = tokio::time::Instant::now();
    bench.call(Operation::Counts).await.unwrap();
    assert!(began.elapsed() >= HOUR);
}

#[tokio::test]
async fn an_outage_is_over_when_it_is_cleared() {
    let bench = Bench::new().await;
    bench.faults.fail_all(StoreError::Closed);
    bench.faults.fail_next(Operation::Counts, 9, StoreError::Timeout);
    for &operation in Operation::ALL {
        assert!(matches!(bench.call(operation).await, Err(StoreError::Closed)), "{operation:?}");
    }
    bench.faults.clear();
    bench.call(Operation::Counts).await.unwrap();
}

async fn faulty_kit() -> (TestJobs, Faults) {
    let faults = Faults::new();
    let kit = kit_with(|builder| builder.wrap(|store| faults.wrap(store))).await;
    (kit, faults)
}

/// A job of the class that is asked for first, so that the first step claims it.
async fn critical(kit: &TestJobs, words: &str) -> JobId {
    kit.jobs().enqueue(chore(words)).class(Class::Critical).await.unwrap().id().unwrap()
}

#[tokio::test]
async fn an_end_that_the_store_refused_is_handed_in_again() {
    for lose in [false, true] {
        let (mut kit, faults) = faulty_kit().await;
        let id = critical(&kit, "work").await;
        let run = {
            // The claim passes, and the end of the run meets the fault.
            faults.delay_next(Operation::Step, 1, Duration::ZERO);
            if lose {
                faults.lose_answers(Operation::Step, 3);
            } else {
                faults.fail_next(Operation::Step, 3, StoreError::Timeout);
            }
            kit.run_next().await.unwrap()
        };
        assert_eq!((run.end, kit.info(id).state), (RunEnd::Done, JobState::Done), "{lose}");
        assert_eq!(kit.info(id).attempt, 1);
    }
}

#[tokio::test]
async fn a_long_outage_loses_nothing_and_runs_nothing_twice() {
    let (mut kit, faults) = faulty_kit().await;
    let id = critical(&kit, "work").await;
    faults.delay_next(Operation::Step, 1, Duration::ZERO);
    faults.fail_next(Operation::Step, 200, StoreError::Timeout);
    let report = kit.run_due().await;
    assert_eq!((report.done(), report.store_failures > 30), (1, true), "{report:?}");
    assert_eq!(kit.info(id).state, JobState::Running);
    faults.clear();
    assert!(kit.run_due().await.runs.is_empty());
    assert_eq!(kit.info(id).state, JobState::Done);
}

#[tokio::test]
async fn a_claim_whose_answer_was_lost_is_found_after_half_a_minute() {
    let (mut kit, faults) = faulty_kit().await;
    let id = critical(&kit, "work").await;
    faults.lose_answers(Operation::Step, 1);
    let report = kit.run_due().await;
    assert!(report.runs.is_empty() && report.store_failures > 0, "{report:?}");
    assert_eq!(kit.info(id).state, JobState::Running);
    kit.advance(31 * SECOND);
    assert_eq!(kit.run_due().await.done(), 1);
    assert_eq!((kit.info(id).attempt, kit.info(id).run), (1, 2));
}

#[tokio::test]
async fn a_claim_that_reaches_the_store_twice_runs_each_job_in_the_end() {
    let (mut kit, faults) = faulty_kit().await;
    for words in ["one", "two"] {
        critical(&kit, words).await;
    }
    faults.repeat_next(Operation::Step, 1);
    assert_eq!(kit.run_due().await.done(), 1);
    kit.advance(31 * SECOND);
    assert_eq!(kit.run_due().await.done(), 1);
    kit.refute_enqueued::<Chore>();
}

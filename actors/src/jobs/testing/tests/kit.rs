//! Runs and time.

use std::sync::OnceLock;

use tokio::time::Instant;

use super::*;
use crate::breaker::{Breaker, Clock};
use crate::jobs::{DeadReason, Overload};
use crate::kernel::RequestContext;

#[tokio::test]
async fn nothing_runs_by_itself_and_what_is_due_runs_when_told() {
    let mut kit = kit().await;
    let id = kit.jobs().enqueue(chore("work")).await.unwrap().id().unwrap();
    tokio::task::yield_now().await;
    assert_eq!(kit.info(id).state, JobState::Ready);
    let report = kit.run_due().await;
    assert_eq!((report.done(), report.runs.len(), report.store_failures), (1, 1, 0));
    assert_eq!((report.runs[0].id, &*report.runs[0].queue), (id, "default"));
    assert_eq!(kit.info(id).state, JobState::Done);
}

#[tokio::test]
async fn run_next_leaves_the_others_as_they_are() {
    let mut kit = kit().await;
    for words in ["one", "two"] {
        kit.jobs().enqueue(chore(words)).await.unwrap();
    }
    let first = kit.run_next().await.unwrap();
    assert_eq!(first.end, RunEnd::Done);
    let left = kit.enqueued::<Chore>();
    assert_eq!(left.iter().map(|one| &*one.job.words).collect::<Vec<_>>(), ["two"]);
    assert_eq!((left[0].state, left[0].attempt), (JobState::Ready, 0));
    assert!(kit.run_next().await.is_some());
    assert!(kit.run_next().await.is_none());
}

#[tokio::test]
async fn a_delayed_job_is_due_when_the_clock_says_so() {
    let mut kit = kit().await;
    kit.jobs().enqueue(chore("work")).delay(DAY).await.unwrap();
    assert!(kit.run_due().await.runs.is_empty());
    kit.advance(DAY - Duration::from_millis(1));
    assert!(kit.run_due().await.runs.is_empty());
    kit.advance(Duration::from_millis(1));
    assert_eq!(kit.run_due().await.done(), 1);
}

#[tokio::test]
async fn retries_of_days_pass_in_no_time_and_the_same_way_each_time() {
    async fn waits() -> Vec<Timestamp> {
        let failing = |_: Plain, _: JobCx| async { Err(JobError::retry("no")) };
        let mut kit = TestJobs::new(|builder| builder.handle(failing)).await.unwrap();
        let id = kit.jobs().enqueue(Plain).await.unwrap().id().unwrap();
        let report = kit.run_to_end().await;
        assert_eq!((report.failed(), report.died()), (9, 1));
        assert_eq!(report.of(id).count(), 10);
        let info = kit.info(id);
        assert_eq!((info.state, info.reason), (JobState::Dead, Some(DeadReason::Discarded)));
        let at = |run: &JobRun| match run.end {
            RunEnd::Failed { run_at, .. } => Some(run_at),
            RunEnd::Done | RunEnd::Released { .. } | RunEnd::Died { .. } => None,
        };
        report.runs.iter().filter_map(at).collect()
    }
    let first = waits().await;
    assert!(first.windows(2).all(|pair| pair[0] < pair[1]), "{first:?}");
    assert_eq!(first, waits().await);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_hangs_is_out_of_time_at_once_when_tokios_clock_is_paused() {
    let hanging = |_: Plain, _: JobCx| std::future::pending();
    let mut kit = TestJobs::new(|builder| builder.handle(hanging)).await.unwrap();
    kit.jobs().enqueue(Plain).await.unwrap();
    let began = Instant::now();
    let report = kit.run_due().await;
    let RunEnd::Failed { error, .. } = &report.runs[0].end else { panic!("{report:?}") };
    assert_eq!(&**error, "took longer than 60000 ms");
    assert!(began.elapsed() >= 60 * SECOND);
}

#[tokio::test]
async fn a_blocking_handler_runs_too() {
    let mut kit = TestJobs::new(|builder| builder.handle_blocking(|_: Plain, _| Ok(()))).await;
    let kit = kit.as_mut().unwrap();
    kit.jobs().enqueue(Plain).await.unwrap();
    assert_eq!(kit.run_due().await.done(), 1);
}

#[tokio::test]
async fn what_a_handler_enqueues_runs_in_the_same_call() {
    let own: Arc<OnceLock<Jobs>> = Arc::default();
    let jobs = Arc::clone(&own);
    let parent = move |_: Plain, _: JobCx| {
        let jobs = jobs.get().unwrap().clone();
        async move {
            jobs.enqueue(chore("child")).await?;
            Ok(())
        }
    };
    let mut kit = kit_with(|builder| builder.handle(parent)).await;
    own.set(kit.jobs().clone()).unwrap();
    kit.jobs().enqueue(Plain).await.unwrap();
    let report = kit.run_due().await;
    let kinds: Vec<_> = report.runs.iter().map(|run| &*run.kind).collect();
    assert_eq!(kinds, ["plain", "chore"]);
}

fn hourly(builder: JobsBuilder, backfill: Duration) -> JobsBuilder {
    let schedule = Schedule::parse("0 * * * *", "UTC").unwrap();
    builder.cron("hourly", schedule, backfill, &chore("tick"))
}

#[tokio::test]
async fn each_tick_fires_while_time_passes() {
    let mut kit = kit_with(|builder| hourly(builder, Duration::ZERO)).await;
    let report = kit.run_for(3 * DAY).await;
    assert_eq!((report.runs.len(), report.done()), (72, 72));
}

#[tokio::test]
async fn ticks_that_were_missed_are_one_or_made_up_for() {
    for (backfill, runs) in [(Duration::ZERO, 1), (DAY, 24)] {
        let mut kit = kit_with(|builder| hourly(builder, backfill)).await;
        kit.advance(DAY);
        assert_eq!(kit.run_due().await.done(), runs, "backfill {backfill:?}");
        assert!(kit.run_due().await.runs.is_empty());
    }
}

#[tokio::test]
async fn a_queue_that_is_paused_or_has_no_workers_runs_nothing() {
    let mut kit = kit_with(|builder| builder.queue(QueueSpec::new("idle").workers(0))).await;
    kit.jobs().enqueue(chore("work")).queue("idle").await.unwrap();
    kit.jobs().enqueue(chore("work")).await.unwrap();
    kit.jobs().pause("default").await.unwrap();
    assert!(kit.run_for(HOUR).await.runs.is_empty());
    kit.jobs().resume("default").await.unwrap();
    assert_eq!(kit.run_due().await.done(), 1);
    assert_eq!(kit.enqueued::<Chore>().len(), 1);
}

#[tokio::test]
async fn a_drained_queue_runs_nothing_more() {
    let mut kit = kit().await;
    kit.jobs().enqueue(chore("work")).await.unwrap();
    assert!(kit.jobs().drain(SECOND).await.is_clean());
    assert!(kit.run_due().await.runs.is_empty());
    assert_eq!(kit.enqueued::<Chore>()[0].state, JobState::Ready);
}

#[tokio::test]
async fn jobs_are_parked_while_a_breaker_is_open_and_run_when_it_is_closed() {
    #[derive(Debug, Serialize, Deserialize)]
    struct Call;
    impl Job for Call {
        const KIND: &'static str = "call";

        fn policy() -> JobPolicy {
            JobPolicy::default().dependency("rates")
        }
    }
    let (clock, time) = Clock::manual();
    let breaker =
        Breaker::builder("rates").clock(clock).consecutive_failures(1).without_actor().unwrap();
    let watched = breaker.clone();
    let mut kit = TestJobs::new(|builder| {
        builder.dependency(watched).handle(|_: Call, _: JobCx| async { Ok(()) })
    })
    .await
    .unwrap();
    for _ in 0..20 {
        kit.jobs().enqueue(Call).await.unwrap();
    }
    breaker.try_acquire().unwrap().finish(crate::breaker::Outcome::Failure);
    assert!(breaker.try_acquire().is_err());
    assert!(kit.run_for(HOUR).await.runs.iter().all(|run| run.end != RunEnd::Done));
    assert!(kit.enqueued::<Call>().iter().all(|call| call.state == JobState::Parked));
    time.advance(HOUR);
    assert_eq!(kit.run_due().await.done(), 20);
}

#[tokio::test]
async fn a_guard_at_a_level_puts_off_leaves_out_and_refuses() {
    #[derive(Debug, Serialize, Deserialize)]
    struct Strict;
    impl Job for Strict {
        const KIND: &'static str = "strict";

        fn policy() -> JobPolicy {
            JobPolicy::default().on_overload(Overload::Reject)
        }
    }
    let mut kit = kit_with(|builder| builder.handle(|_: Strict, _: JobCx| async { Ok(()) })).await;
    kit.set_level("default", Level::Critical);
    let bulk = kit.jobs().enqueue(chore("bulk")).class(Class::Bulk).await.unwrap();
    assert_eq!(bulk, Enqueued::Skipped);
    assert!(kit.jobs().enqueue(Strict).await.is_err());
    kit.jobs().enqueue(Strict).class(Class::Critical).await.unwrap();
    kit.set_level("default", Level::Overloaded);
    let put_off = kit.jobs().enqueue(chore("work")).await.unwrap();
    assert!(matches!(put_off, Enqueued::Deferred { .. }), "{put_off:?}");
    kit.set_level("default", Level::Normal);
    assert_eq!(kit.run_to_end().await.done(), 2);
}

#[tokio::test]
async fn what_was_put_off_waits_once_more_until_there_is_room_or_it_has_waited_often_enough() {
    let mut kit = kit().await;
    kit.set_level("default", Level::Overloaded);
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(kit.jobs().enqueue(chore("work")).await.unwrap().id().unwrap());
    }
    // As often as its kind wants: five times, of which the first was when it was enqueued.
    for times in 2..=5 {
        kit.advance(HOUR);
        let report = kit.run_due().await;
        assert_eq!((report.done(), report.released()), (0, ids.len()), "{times}");
        if times == 3 {
            assert!(kit.jobs().retry(ids.remove(0)).await.unwrap());
            assert_eq!(kit.run_due().await.done(), 1, "who is hurried waits no more");
        }
    }
    kit.advance(HOUR);
    assert_eq!(kit.run_due().await.done(), 2);
    kit.jobs().enqueue(chore("work")).await.unwrap();
    kit.set_level("default", Level::Normal);
    kit.advance(HOUR);
    assert_eq!(kit.run_due().await.done(), 1, "there is room");
}

#[tokio::test]
async fn a_job_that_never_ends_fails_the_test_and_says_so() {
    let snoozing = |_: Plain, _: JobCx| async { Err(JobError::snooze(Duration::ZERO)) };
    let mut kit = TestJobs::new(|builder| builder.handle(snoozing)).await.unwrap();
    kit.set_runs_max(20);
    kit.jobs().enqueue(Plain).await.unwrap();
    let run = tokio::spawn(async move { kit.run_due().await });
    let panic = run.await.unwrap_err().into_panic();
    let message = panic.downcast::<String>().unwrap();
    assert!(message.contains("20 runs were not enough"), "{message}");
}

#[tokio::test]
async fn as_many_runs_as_there_may_be_are_enough() {
    let mut kit = kit().await;
    kit.set_runs_max(20);
    for _ in 0..20 {
        kit.jobs().enqueue(chore("work")).await.unwrap();
    }
    assert_eq!(kit.run_due().await.done(), 20);
}

#[tokio::test]
async fn a_job_keeps_its_request_and_tenant() {
    let kit = kit().await;
    let request = RequestContext::new(crate::kernel::RequestId::parse("req-1").unwrap());
    let enqueue = kit.jobs().enqueue(chore("work")).tenant("acme").unique("key");
    request.scope(async { enqueue.await.unwrap() }).await;
    let enqueued = kit.assert_enqueued(|chore: &Chore| chore.words == "work");
    assert_eq!(enqueued.tenant.as_deref(), Some("acme"));
    assert_eq!(enqueued.request_id.as_deref(), Some("req-1"));
    assert_eq!(enqueued.unique.as_deref(), Some(&b"key"[..]));
    assert_eq!((enqueued.run_at, enqueued.class), (kit.now(), Class::Normal));
}

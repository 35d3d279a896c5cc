//! Runs as jobs: on demand, joined, on a schedule, in turns, cancelled.

use super::*;

use crate::jobs::testing::TestJobs;
use crate::jobs::{Cancelled, JobState, Level, QueueSpec, Schedule};

on_each_database! {
    a_repair_is_a_job_with_progress_and_a_report,
    a_second_repair_joins_the_first,
    a_job_beside_another_is_cancelled_and_says_why,
    a_schedule_repairs,
    a_cancelled_run_stops_and_goes_on_when_its_job_is_retried,
    a_run_goes_on_in_turns,
    a_counter_that_is_unknown_to_its_process_dies_at_once,
    old_reports_are_forgotten_but_for_the_newest,
    a_run_waits_while_another_queue_is_behind,
}

async fn a_repair_is_a_job_with_progress_and_a_report(base: Base) {
    let shop = base.shop().await;
    shop.fill(100, 2).await;
    shop.execute("update {}topics set posts_count = 5 where id <= 30").await;
    let spec = shop.posts();
    let bench = Bench::start(&shop, |jobs| jobs, |counters| counters.counter(spec)).await;
    assert!(bench.counters.latest("topic_posts").await.unwrap().is_none());
    let surveyed = bench.counters.survey("topic_posts").await.unwrap();
    let report = bench.reaches(surveyed.job, RunState::Done).await;
    assert_eq!((report.mode, report.totals.drifted, report.totals.repaired), (Mode::Report, 30, 0));
    let repaired = bench.counters.repair("topic_posts").await.unwrap();
    assert!(!repaired.joined && repaired.job != surveyed.job);
    let report = bench.reaches(repaired.job, RunState::Done).await;
    assert_eq!((report.totals.scanned, report.totals.repaired), (100, 30));
    assert_eq!((report.maintain, report.relies_on_application), (Some(Maintain::App), true));
    assert!(report.finished_at.is_some_and(|at| at >= report.started_at));
    assert_eq!(bench.counters.latest("topic_posts").await.unwrap(), Some(report.clone()));
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!((&json["state"], &json["scanned"]), (&"done".into(), &100.into()));
    assert_eq!(json["histogram"]["up_to_10"], 30);
    let done = async || {
        let info = bench.jobs.find(repaired.job).await.unwrap()?;
        (info.state == JobState::Done).then_some(())
    };
    eventually(done, "the job is done").await;
    assert!(bench.counters.report(JobId(i64::MAX)).await.unwrap().is_none());
    bench.stop().await;
    shop.close().await;
}

async fn a_second_repair_joins_the_first(base: Base) {
    let shop = base.shop().await;
    shop.fill(10, 1).await;
    let spec = shop.posts();
    let bench = Bench::start(&shop, |jobs| jobs, |counters| counters.counter(spec)).await;
    bench.jobs.pause("counters").await.unwrap();
    let first = bench.counters.repair("topic_posts").await.unwrap();
    let second = bench.counters.repair("topic_posts").await.unwrap();
    assert_eq!((second.job, second.joined), (first.job, true));
    let survey = bench.counters.survey("topic_posts").await.unwrap();
    assert!(!survey.joined, "a report may be made beside it");
    bench.jobs.resume("counters").await.unwrap();
    bench.reaches(first.job, RunState::Done).await;
    bench.reaches(survey.job, RunState::Done).await;
    bench.stop().await;
    shop.close().await;
}

async fn a_job_beside_another_is_cancelled_and_says_why(base: Base) {
    let shop = base.shop().await;
    shop.fill(10, 1).await;
    let spec = shop.posts();
    let bench = Bench::start(&shop, |jobs| jobs, |counters| counters.counter(spec)).await;
    bench.jobs.pause("counters").await.unwrap();
    let first = bench.counters.repair("topic_posts").await.unwrap();
    // As it is when a schedule enqueues one, which has no key.
    let job = run::RepairJob { counter: "topic_posts".into(), mode: Mode::Repair };
    let beside = bench.jobs.enqueue(job).await.unwrap().id().unwrap();
    drop(shop.begin(&shop.posts(), Mode::Repair, first.job.0).await);
    let again = bench.counters.repair("topic_posts").await.unwrap();
    assert_eq!((again.job, again.joined), (first.job, true));
    bench.jobs.cancel(first.job).await.unwrap();
    drop(shop.begin(&shop.posts(), Mode::Repair, beside.0).await);
    let third =
        bench.jobs.enqueue(run::RepairJob { counter: "topic_posts".into(), mode: Mode::Repair });
    let third = third.delay(Duration::from_millis(1)).await.unwrap().id().unwrap();
    // Until it is done, whoever comes later is told of it.
    let begun: Result<Begun, StoreError> = {
        let now = WallClock::system().now();
        transact!(&shop.store, tx =>
            store::begin(&tx, third, "topic_posts", Mode::Repair, now))
    };
    assert!(matches!(begun.unwrap(), Begun::Joined(other) if other == beside));
    bench.jobs.resume("counters").await.unwrap();
    bench.reaches(beside, RunState::Done).await;
    bench.stop().await;
    shop.close().await;
}

async fn a_schedule_repairs(base: Base) {
    let shop = base.shop().await;
    shop.fill(10, 1).await;
    shop.execute("update {}topics set posts_count = 5").await;
    let spec = shop.posts();
    let each_second = Schedule::parse("* * * * * *", "UTC").unwrap();
    let declare = |counters: CountersBuilder| {
        counters.counter(spec).schedule("topic_posts", Mode::Repair, each_second)
    };
    let bench = Bench::start(&shop, |jobs| jobs, declare).await;
    let repaired = async || (shop.wrong().await == 0).then_some(());
    eventually(repaired, "the schedule repairs").await;
    bench.stop().await;
    let unknown = Counters::builder(&shop.store).schedule(
        "nosuch",
        Mode::Report,
        Schedule::parse("0 4 * * 0", "UTC").unwrap(),
    );
    let refused = unknown.register(Jobs::builder(&shop.store)).map(drop);
    assert!(matches!(refused, Err(CounterError::Unknown)));
    shop.close().await;
}

async fn a_cancelled_run_stops_and_goes_on_when_its_job_is_retried(base: Base) {
    let shop = base.shop().await;
    shop.fill(2_000, 1).await;
    shop.execute("update {}topics set posts_count = 5").await;
    let spec = shop.posts();
    let declare = |counters: CountersBuilder| counters.counter(spec).batch(1..=2);
    let bench = Bench::start(&shop, |jobs| jobs, declare).await;
    let started = bench.counters.repair("topic_posts").await.unwrap();
    let begun = async || {
        let report = bench.counters.report(started.job).await.unwrap()?;
        (report.totals.batches > 2).then_some(())
    };
    eventually(begun, "the run is under way").await;
    let cancelled = bench.jobs.cancel(started.job).await.unwrap();
    assert!(matches!(cancelled, Cancelled::Running(_)), "{cancelled:?}");
    let stopped = bench.reaches(started.job, RunState::Stopped).await;
    assert!(stopped.totals.scanned < 2_000 && stopped.totals.scanned == stopped.totals.repaired);
    assert_eq!(shop.wrong().await, 2_000 - i64::try_from(stopped.totals.scanned).unwrap());
    assert!(bench.jobs.retry(started.job).await.unwrap());
    let done = bench.reaches(started.job, RunState::Done).await;
    assert_eq!((done.totals.scanned, done.totals.repaired), (2_000, 2_000));
    bench.stop().await;
    shop.close().await;
}

async fn a_run_goes_on_in_turns(base: Base) {
    let shop = base.shop().await;
    shop.fill(30, 1).await;
    let spec = shop.posts();
    let repair = shop.repairer(&spec, 1..=1).await;
    let mut run = shop.begin(&spec, Mode::Repair, 1).await;
    let over = Control { until: Instant::now(), ..control() };
    assert_eq!(repair.run(run.clone(), &over).await.unwrap(), End::Later);
    assert_eq!(shop.found(1).await.totals.scanned, 0);
    let mut turns = 0;
    loop {
        turns += 1;
        let short = Control { until: Instant::now() + Duration::from_millis(20), ..control() };
        let end = repair.run(run, &short).await.unwrap();
        if end == End::Done {
            break;
        }
        assert_eq!(end, End::Later);
        assert!(turns < 1_000, "it goes on");
        run = shop.begin(&spec, Mode::Repair, 1).await;
    }
    assert_eq!(shop.found(1).await.totals.scanned, 30);
    let stopped = control();
    stopped.request.cancel(crate::kernel::Stopped::ClientGone);
    let run = shop.begin(&spec, Mode::Repair, 2).await;
    assert_eq!(repair.run(run, &stopped).await.unwrap(), End::Stopped);
    shop.close().await;
}

async fn a_counter_that_is_unknown_to_its_process_dies_at_once(base: Base) {
    let shop = base.shop().await;
    let spec = shop.posts();
    let bench = Bench::start(&shop, |jobs| jobs, |counters| counters.counter(spec)).await;
    let job = run::RepairJob { counter: "gone".into(), mode: Mode::Repair };
    let job = bench.jobs.enqueue(job).await.unwrap().id().unwrap();
    let dead = async || {
        let info = bench.jobs.find(job).await.unwrap()?;
        (info.state == JobState::Dead).then_some(info)
    };
    let info = eventually(dead, "the job is dead").await;
    assert_eq!((info.attempt, info.error.as_deref()), (1, Some("there is no such counter")));
    bench.stop().await;
    shop.close().await;
}

async fn old_reports_are_forgotten_but_for_the_newest(base: Base) {
    let shop = base.shop().await;
    for job in 1..=3 {
        drop(shop.begin(&shop.posts(), Mode::Report, job).await);
    }
    let prune = async |before: i64, limit: i64| -> usize {
        let before = crate::store::Timestamp(before);
        let pruned: Result<usize, StoreError> =
            transact!(&shop.store, tx => store::prune(&tx, before, limit));
        pruned.unwrap()
    };
    assert_eq!(prune(0, 10).await, 0);
    assert_eq!(prune(i64::MAX, 1).await, 1);
    assert_eq!(prune(i64::MAX, 10).await, 1);
    assert_eq!(prune(i64::MAX, 10).await, 0);
    assert_eq!(shop.found(3).await.state(), RunState::Stopped);
    shop.close().await;
}

async fn a_run_waits_while_another_queue_is_behind(base: Base) {
    let shop = base.shop().await;
    shop.fill(5, 1).await;
    let spec = shop.posts();
    let repair = shop.repairer(&spec, 1..=5_000).await;
    let run = shop.begin(&spec, Mode::Repair, 1).await;
    let queue = |jobs: JobsBuilder| jobs.queue(QueueSpec::new("default"));
    let kit = TestJobs::new(queue).await.unwrap();
    let control = |queue| Control { jobs: Some(kit.jobs().clone()), own_queue: queue, ..control() };
    kit.set_level("default", Level::Critical);
    let another = control("another");
    let waits = tokio::time::timeout(Duration::from_millis(300), repair.run(run.clone(), &another));
    assert!(waits.await.is_err(), "it waits");
    assert_eq!(shop.found(1).await.totals.batches, 0);
    // Its own queue is full of its like: that is no reason to wait.
    assert_eq!(repair.run(run, &control("default")).await.unwrap(), End::Done);
    shop.close().await;
}

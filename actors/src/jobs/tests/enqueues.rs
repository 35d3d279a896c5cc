//! What may be enqueued, how it is told apart, and how queues share their workers.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::kernel::{RequestContext, RequestId};

on_each_database! {
    a_key_keeps_a_second_one_out_until_the_first_is_over,
    a_key_stays_taken_for_its_time,
    a_debounce_runs_once_with_the_newest_arguments,
    a_paused_queue_begins_nothing,
    a_star_pauses_all_queues,
    a_serial_queue_is_serial_over_two_processes,
    sixteen_racers_of_two_processes_at_one_free_place_admit_one,
    one_bad_job_of_many_does_not_hinder_the_others,
    two_processes_share_the_work,
}

async fn a_key_keeps_a_second_one_out_until_the_first_is_over(base: Base) {
    let bench = base.bench(|builder| builder).await;
    bench.jobs.pause("default").await.unwrap();
    let first = bench.jobs.enqueue(task("first")).unique("key").await.unwrap().id().unwrap();
    let second = bench.jobs.enqueue(task("second")).unique("key").await.unwrap();
    assert_eq!(second, Enqueued::Duplicate(first));
    bench.jobs.resume("default").await.unwrap();
    bench.reaches(first, JobState::Done).await;
    let third = bench.jobs.enqueue(task("third")).unique("key").await.unwrap();
    assert!(matches!(third, Enqueued::Accepted(_)), "{third:?}");
    bench.reaches(third.id().unwrap(), JobState::Done).await;
    assert_eq!(bench.log.lines(), ["first#1", "third#1"]);
    bench.stop().await;
}

async fn a_key_stays_taken_for_its_time(base: Base) {
    let bench = base.bench(|builder| builder).await;
    let hour = Duration::from_secs(3_600);
    let first = bench.jobs.enqueue(task("first")).unique("key").unique_for(hour).await.unwrap();
    let first = first.id().unwrap();
    bench.reaches(first, JobState::Done).await;
    let second = bench.jobs.enqueue(task("second")).unique("key").await.unwrap();
    assert_eq!(second, Enqueued::Duplicate(first));
    bench.stop().await;
}

async fn a_debounce_runs_once_with_the_newest_arguments(base: Base) {
    let bench = base.bench(|builder| builder).await;
    bench.jobs.pause("default").await.unwrap();
    let mut all = Vec::new();
    for words in ["one", "two", "three"] {
        let enqueue = bench.jobs.enqueue(task(words)).unique("key");
        all.push(enqueue.on_conflict(OnConflict::Replace).await.unwrap());
    }
    let id = all[0].id().unwrap();
    assert_eq!(all[1..], [Enqueued::Replaced(id); 2]);
    bench.jobs.resume("default").await.unwrap();
    bench.reaches(id, JobState::Done).await;
    assert_eq!(bench.log.lines(), ["three#1"]);
    bench.stop().await;
}

async fn a_paused_queue_begins_nothing(base: Base) {
    let bench = base.bench(|builder| builder.queue(QueueSpec::new("other"))).await;
    bench.jobs.pause("default").await.unwrap();
    let paused = bench.add("paused").await;
    let other = bench.jobs.enqueue(task("other")).queue("other").await.unwrap().id().unwrap();
    bench.reaches(other, JobState::Done).await;
    assert_eq!(bench.info(paused).await.state, JobState::Ready);
    bench.jobs.resume("default").await.unwrap();
    bench.reaches(paused, JobState::Done).await;
    bench.stop().await;
}

async fn a_star_pauses_all_queues(base: Base) {
    let pauses = base.bench(|builder| builder.queue(QueueSpec::new("default").workers(0))).await;
    pauses.jobs.pause("*").await.unwrap();
    let bench = base.bench(|builder| builder).await;
    let id = bench.add("paused").await;
    let looked = async || bench.jobs.guard("default").filter(|guard| guard.depth > 0);
    eventually(looked, "the guard has seen it").await;
    assert_eq!(bench.info(id).await.run, 0);
    pauses.jobs.resume("*").await.unwrap();
    bench.reaches(id, JobState::Done).await;
    bench.stop().await;
    pauses.stop().await;
}

/// Counts how many of it run at a time.
#[derive(Serialize, Deserialize)]
struct Alone;

impl Job for Alone {
    const KIND: &'static str = "alone";
    const QUEUE: &'static str = "serial";
}

async fn a_serial_queue_is_serial_over_two_processes(base: Base) {
    let (inside, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let declare = |builder: JobsBuilder| {
        let (inside, most) = (Arc::clone(&inside), Arc::clone(&most));
        let handler = move |_: Alone, _: JobCx| {
            let (inside, most) = (Arc::clone(&inside), Arc::clone(&most));
            async move {
                most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                inside.fetch_sub(1, Ordering::SeqCst);
                Ok(())
            }
        };
        builder.handle(handler).queue(QueueSpec::new("serial").workers(4).running_limit(1))
    };
    let (one, two) = (base.bench(declare).await, base.bench(declare).await);
    one.jobs.enqueue_many((0..40).map(|_| Alone)).await.unwrap();
    one.finishes(40).await;
    assert_eq!(most.load(Ordering::SeqCst), 1);
    one.stop().await;
    two.stop().await;
}

async fn sixteen_racers_of_two_processes_at_one_free_place_admit_one(base: Base) {
    let declare =
        |builder: JobsBuilder| builder.queue(QueueSpec::new("default").workers(0).depth_limit(1));
    let (one, two) = (base.bench(declare).await, base.bench(declare).await);
    let racers = (0..16).map(|number| {
        let bench = if number % 2 == 0 { &one } else { &two };
        async move { bench.jobs.enqueue(task("race")).await }
    });
    let answers = futures_util::future::join_all(racers).await;
    let admitted = answers.iter().filter(|answer| answer.is_ok()).count();
    assert_eq!(admitted, 1, "{answers:?}");
    let full = |answer: &&Result<_, _>| matches!(answer, Err(JobsError::QueueFull { .. }));
    assert_eq!(answers.iter().filter(full).count(), 15, "{answers:?}");
    assert_eq!(one.jobs.counts().await.unwrap().ready, 1);
    one.stop().await;
    two.stop().await;
}

async fn one_bad_job_of_many_does_not_hinder_the_others(base: Base) {
    let bench = base.bench(|builder| builder.payload_max(64)).await;
    let tasks = ["good", &"x".repeat(64), "also good"].map(task);
    let answers = bench.jobs.enqueue_many(tasks).await.unwrap();
    assert!(matches!(answers[1], Err(JobsError::PayloadTooLarge { size: 76, limit: 64 })));
    for answer in [&answers[0], &answers[2]] {
        let id = answer.as_ref().unwrap().id().unwrap();
        bench.reaches(id, JobState::Done).await;
    }
    bench.stop().await;
}

async fn two_processes_share_the_work(base: Base) {
    let declare = |builder: JobsBuilder| builder.queue(QueueSpec::new("default").workers(2));
    let (one, two) = (base.bench(declare).await, base.bench(declare).await);
    let mut added = 0;
    // Until both have worked: how fast each hears of it is up to the machine.
    while one.log.lines().is_empty() || two.log.lines().is_empty() {
        assert!(added < 20_000, "one of them never works");
        let tasks = (added..added + 200).map(|number| task(format!("{number}")));
        one.jobs.enqueue_many(tasks).await.unwrap();
        added += 200;
        one.finishes(added).await;
    }
    let mut all = [one.log.lines(), two.log.lines()].concat();
    let runs = all.len();
    all.sort();
    all.dedup();
    assert_eq!((all.len() as u64, runs), (added, all.len()), "each ran once");
    one.stop().await;
    two.stop().await;
}

#[actix::test]
async fn a_payload_may_have_its_limit_and_not_one_more() {
    let bench = Bench::start_with(|builder| builder.payload_max(64)).await;
    // `{"words":""}` are twelve bytes.
    let id = bench.add("x".repeat(52)).await;
    bench.reaches(id, JobState::Done).await;
    let error = bench.jobs.enqueue(task("x".repeat(53))).await.unwrap_err();
    assert!(matches!(error, JobsError::PayloadTooLarge { size: 65, limit: 64 }), "{error}");
    assert!(error.stored_nothing());
    bench.stop().await;
}

#[actix::test]
async fn a_name_may_have_its_limit_and_not_one_more() {
    let name = "q".repeat(127);
    let queue = name.clone();
    let bench = Bench::start_with(|builder| builder.queue(QueueSpec::new(queue))).await;
    let id = bench.jobs.enqueue(task("hello")).queue(name.clone()).await.unwrap().id().unwrap();
    bench.reaches(id, JobState::Done).await;
    for wrong in [format!("{name}q"), String::new(), "a\nb".into()] {
        let error = bench.jobs.enqueue(task("hello")).queue(wrong.clone()).await.unwrap_err();
        assert!(matches!(error, JobsError::InvalidSetting { .. }), "{wrong:?}: {error}");
    }
    let key = "k".repeat(512);
    assert!(bench.jobs.enqueue(task("hello")).unique(&key).await.is_ok());
    for wrong in [format!("{key}k"), String::new()] {
        let error = bench.jobs.enqueue(task("hello")).unique(&wrong).await.unwrap_err();
        assert!(matches!(error, JobsError::InvalidSetting { .. }), "{error}");
    }
    bench.stop().await;
}

#[actix::test]
async fn a_time_may_have_its_limits_and_not_one_step_more() {
    let bench = Bench::start().await;
    let (year, ms) = (Duration::from_secs(365 * 86_400), Duration::from_millis(1));
    let delayed = |by| bench.jobs.enqueue(task("hello")).delay(by);
    let expiring = |within| bench.jobs.enqueue(task("hello")).delay(year).expires_in(within);
    for right in [delayed(year), expiring(ms), expiring(year)] {
        assert!(right.await.is_ok());
    }
    for wrong in [delayed(year + ms), expiring(Duration::ZERO), expiring(year + ms)] {
        let error = wrong.await.unwrap_err();
        assert!(matches!(error, JobsError::InvalidSetting { .. }), "{error}");
        assert!(error.stored_nothing());
    }
    bench.stop().await;
}

#[actix::test]
async fn no_class_starves_under_load() {
    let queue = QueueSpec::new("default").workers(1);
    let bench = Bench::start_with(|builder| builder.queue(queue)).await;
    bench.jobs.pause("default").await.unwrap();
    for class in Class::ALL {
        for _ in 0..150 {
            let enqueue = bench.jobs.enqueue(task(format!("{class:?}"))).class(class);
            assert!(matches!(enqueue.await.unwrap(), Enqueued::Accepted(_)));
        }
    }
    bench.jobs.resume("default").await.unwrap();
    bench.finishes(600).await;
    // Of the first 160 runs, each class has had its share, 8 : 4 : 2 : 1, give or take what is
    // claimed ahead.
    let lines = bench.log.lines();
    let count = |class: Class| {
        let name = format!("{class:?}#1");
        lines.iter().take(160).filter(|line| **line == name).count()
    };
    let counts = Class::ALL.map(count);
    assert!(counts[0] >= 40 && counts[3] >= 3, "{counts:?}");
    assert!(counts.is_sorted_by(|dearer, cheaper| dearer >= cheaper), "{counts:?}");
    bench.stop().await;
}

/// Answers which request it was asked in, and whether that has a deadline.
struct Echo;

impl actix::Actor for Echo {
    type Context = crate::kernel::Context<Self>;
}

#[derive(actix::Message)]
#[rtype(result = "String")]
struct Who;

impl actix::Handler<Who> for Echo {
    type Result = String;

    fn handle(&mut self, _: Who, ctx: &mut Self::Context) -> String {
        let id = ctx.request().map(|request| request.id().to_string());
        format!("{} {}", id.unwrap_or_default(), ctx.remaining().is_some())
    }
}

#[actix::test]
async fn a_job_and_the_actors_it_calls_belong_to_the_request_that_enqueued_it() {
    let log = Log::default();
    let seen = log.clone();
    let tree = Tree::new();
    let echo = tree.start(crate::kernel::Spec::new("echo", || Echo));
    let handler = move |_: Alone, cx: JobCx| {
        let (seen, echo) = (seen.clone(), echo.clone());
        async move {
            seen.add(cx.request().id().to_string());
            seen.add(echo.call(Who).await?);
            Ok(())
        }
    };
    let bench = Bench::start_with(|builder| builder.handle(handler)).await;
    let request = RequestContext::new(RequestId::parse("req-7").unwrap());
    let enqueue = request.sync_scope(|| bench.jobs.enqueue(Alone).into_future());
    let id = enqueue.await.unwrap().id().unwrap();
    bench.reaches(id, JobState::Done).await;
    assert_eq!(log.lines(), ["req-7", "req-7 true"]);
    bench.stop().await;
    tree.stop(Duration::from_secs(5)).await;
}

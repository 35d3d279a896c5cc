//! Jobs whose dependency is not well.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::breaker::Breaker;

on_each_database! {
    jobs_of_an_open_breaker_are_parked_and_lose_no_attempt,
    an_outage_parks_jobs_and_all_are_done_in_the_end,
}

/// Calls a service.
#[derive(Serialize, Deserialize)]
struct Call;

impl Job for Call {
    const KIND: &'static str = "call";

    fn policy() -> JobPolicy {
        JobPolicy::default()
            .dependency("service")
            .max_attempts(20)
            .backoff(Backoff::fixed(Duration::from_millis(20)).unwrap())
    }
}

async fn jobs_of_an_open_breaker_are_parked_and_lose_no_attempt(base: Base) {
    let tree = Tree::new();
    let breaker = Breaker::builder("service").start(&tree).unwrap();
    breaker.force_open(None, "a test").await.unwrap();
    let watched = breaker.clone();
    let declare =
        |builder: JobsBuilder| builder.handle(|_: Call, _| async { Ok(()) }).dependency(watched);
    let bench = base.bench(declare).await;
    let answers = bench.jobs.enqueue_many((0..50).map(|_| Call)).await.unwrap();
    let parked = async || (bench.jobs.counts().await.unwrap().parked == 50).then_some(());
    eventually(parked, "all are parked").await;
    breaker.reset("well again").await.unwrap();
    bench.finishes(50).await;
    for answer in answers {
        assert_eq!(bench.info(answer.unwrap().id().unwrap()).await.attempt, 1);
    }
    bench.stop().await;
    tree.stop(Duration::from_secs(5)).await;
}

async fn an_outage_parks_jobs_and_all_are_done_in_the_end(base: Base) {
    let tree = Tree::new();
    let breaker = Breaker::builder("service")
        .consecutive_failures(3)
        .open_for(Duration::from_millis(100))
        .open_max(Duration::from_millis(400))
        .start(&tree)
        .unwrap();
    let well = Arc::new(AtomicBool::new(false));
    let (seen, calls) = (Arc::clone(&well), breaker.clone());
    let handler = move |_: Call, _: JobCx| {
        let (seen, breaker) = (Arc::clone(&seen), calls.clone());
        async move {
            let call = || async {
                let down = || std::io::Error::other("it is down");
                if seen.load(Ordering::Acquire) { Ok(()) } else { Err(down()) }
            };
            breaker.call(call).await.map_err(JobError::breaker)
        }
    };
    let bench = base.bench(|builder| builder.handle(handler).dependency(breaker.clone())).await;
    bench.jobs.enqueue_many((0..60).map(|_| Call)).await.unwrap();
    let parked = async || (bench.jobs.counts().await.unwrap().parked > 40).then_some(());
    eventually(parked, "most are parked").await;
    well.store(true, Ordering::Release);
    assert_eq!(bench.finishes(60).await.dead, 0);
    bench.stop().await;
    tree.stop(Duration::from_secs(5)).await;
}

#[actix::test]
async fn a_handler_that_is_refused_by_a_breaker_loses_no_attempt() {
    let tree = Tree::new();
    let breaker = Breaker::builder("unwatched").start(&tree).unwrap();
    breaker.force_open(None, "a test").await.unwrap();
    let calls = breaker.clone();
    let handler = move |_: Call, _: JobCx| {
        let refused = calls.try_acquire().map(|permit| permit.release());
        std::future::ready(refused.map_err(JobError::from))
    };
    let bench = Bench::start_with(|builder| builder.handle(handler)).await;
    let id = bench.jobs.enqueue(Call).await.unwrap().id().unwrap();
    let refused = async || {
        Some(bench.info(id).await).filter(|info| info.run > 0 && info.state == JobState::Ready)
    };
    assert_eq!(eventually(refused, "it is put back").await.attempt, 0);
    breaker.reset("well again").await.unwrap();
    bench.jobs.retry(id).await.unwrap();
    assert_eq!(bench.reaches(id, JobState::Done).await.attempt, 1);
    bench.stop().await;
    tree.stop(Duration::from_secs(5)).await;
}

//! A store that refuses, hangs and loses its answers for a while.

use std::collections::HashMap;

use super::fault_store::{Fault, Faults};
use super::*;
use crate::store::WallClock;

on_each_database! {
    a_store_that_fails_for_a_while_loses_nothing,
    a_lost_answer_to_an_end_is_no_stale_completion,
    a_claim_whose_answer_was_lost_is_found_again,
    a_trial_lasts_until_its_end_is_in_the_tables,
}

async fn a_store_that_fails_for_a_while_loses_nothing(base: Base) {
    let faults = Faults::new();
    let bench = base.bench(|builder| builder.wrap(|store| faults.wrap(store))).await;
    let tasks = (0..500).map(|number| task(format!("{number}")));
    bench.jobs.enqueue_many(tasks).await.unwrap();
    // Counted for each operation: with one count for all, the keeper's regular beats and the
    // feeder's regular pauses keep step, and one operation is refused for ever.
    let mut calls = HashMap::<_, u32>::new();
    faults.plan(move |operation| {
        let call = calls.entry(operation).or_default();
        *call += 1;
        match operation {
            "step" | "settle" | "beat" | "elect" | "depths" if *call % 3 != 0 => Fault::Refused,
            _ => Fault::None,
        }
    });
    bench.logs("17#1").await;
    let some = async || (bench.jobs.counts().await.unwrap().done > 20).then_some(());
    eventually(some, "some are done").await;
    faults.none();
    bench.finishes(500).await;
    assert_eq!(runs(&bench, 500), 500, "each ran once");
    bench.stop().await;
}

/// All runs of the tasks that are numbered up to `tasks`; panics if one is missing.
#[track_caller]
fn runs(bench: &Bench, tasks: usize) -> usize {
    let mut lines = bench.log.lines();
    let runs = lines.len();
    lines.sort();
    lines.dedup_by_key(|line| line.split('#').next().map(str::to_owned));
    assert_eq!(lines.len(), tasks);
    runs
}

async fn a_lost_answer_to_an_end_is_no_stale_completion(base: Base) {
    let faults = Faults::new();
    let bench = base.bench(|builder| builder.wrap(|store| faults.wrap(store))).await;
    let mut events = bench.jobs.events();
    let gate = Gate::default();
    bench.jobs.pause("default").await.unwrap();
    let id = bench.add("hello").await;
    let trap = gate.clone();
    faults.plan(
        move |operation| {
            if operation == "settle" && trap.once() { Fault::AnswerLost } else { Fault::None }
        },
    );
    bench.jobs.resume("default").await.unwrap();
    bench.reaches(id, JobState::Done).await;
    // The end is told a second time, then there is nothing left to tell.
    let after = bench.add("after").await;
    bench.reaches(after, JobState::Done).await;
    bench.jobs.drain(Duration::from_secs(5)).await;
    assert!(gate.was(), "the answer was lost");
    while let Ok(event) = events.try_recv() {
        assert!(!matches!(event, JobEvent::StaleCompletion { .. }), "{event:?}");
    }
    assert_eq!(bench.log.lines(), ["hello#1", "after#1"]);
    bench.stop().await;
}

/// Something that happens once.
#[derive(Debug, Clone, Default)]
struct Gate(Arc<Mutex<bool>>);

impl Gate {
    fn once(&self) -> bool {
        !std::mem::replace(&mut *self.0.lock(), true)
    }

    fn was(&self) -> bool {
        *self.0.lock()
    }
}

async fn a_claim_whose_answer_was_lost_is_found_again(base: Base) {
    let (clock, hands) = WallClock::manual(WallClock::system().now());
    let faults = Faults::new();
    let bench = base
        .bench(|builder| {
            // Runs are looked for twice in this time.
            let builder = builder.expires_after(Duration::from_secs(2));
            builder.clock(clock).wrap(|store| faults.wrap(store))
        })
        .await;
    bench.jobs.pause("default").await.unwrap();
    let id = bench.add("hello").await;
    let gate = Gate::default();
    let trap = gate.clone();
    bench.jobs.resume("default").await.unwrap();
    faults.plan(
        move |operation| {
            if operation == "step" && trap.once() { Fault::AnswerLost } else { Fault::None }
        },
    );
    let claimed = async || Some(bench.info(id).await).filter(|info| info.run == 1);
    eventually(claimed, "it is claimed").await;
    if bench.log.lines().is_empty() {
        hands.advance(Duration::from_secs(31));
    }
    let info = bench.reaches(id, JobState::Done).await;
    assert_eq!(info.attempt, 1, "what was not begun is no attempt");
    assert_eq!(bench.log.lines(), ["hello#1"]);
    bench.stop().await;
}

/// Waits in its first run.
#[derive(Serialize, Deserialize)]
struct Suspect;

impl Job for Suspect {
    const KIND: &'static str = "suspect";
}

async fn a_trial_lasts_until_its_end_is_in_the_tables(base: Base) {
    let (open, gate) = tokio::sync::watch::channel(false);
    let (faults, log) = (Faults::new(), Log::default());
    let seen = log.clone();
    let handler = move |_: Suspect, cx: JobCx| {
        let mut gate = gate.clone();
        seen.add(format!("#{}", cx.attempt()));
        async move {
            if cx.attempt() == 1 {
                let _open = gate.wait_for(|open| *open).await;
            }
            Ok(())
        }
    };
    let declare = |builder: JobsBuilder| builder.handle(handler).wrap(|store| faults.wrap(store));
    let bench = base.bench(declare).await;
    bench.jobs.enqueue_many([Suspect, Suspect]).await.unwrap();
    let both = async || (log.lines() == ["#1", "#1"]).then_some(());
    eventually(both, "both run").await;
    let refused = Arc::new(Mutex::new(0));
    let count = Arc::clone(&refused);
    faults.plan(move |operation| {
        let ends = operation == "settle";
        *count.lock() += u32::from(ends);
        if ends { Fault::Refused } else { Fault::None }
    });
    // Both are charged with a crash.
    let now = bench.jobs.clock().now();
    bench.jobs.store().rescue(vec![bench.jobs.node()], 3, now).await.unwrap();
    let some = async || (*refused.lock() >= 3).then_some(());
    eventually(some, "the end of a trial is refused").await;
    assert_eq!(log.lines(), ["#1", "#1", "#2"], "the other one waits");
    faults.none();
    bench.finishes(2).await;
    assert_eq!(log.lines(), ["#1", "#1", "#2", "#2"]);
    open.send(true).unwrap();
    bench.stop().await;
}

#[actix::test]
async fn a_store_that_hangs_fences_the_process_all_the_same() {
    let faults = Faults::new();
    let declare = |builder: JobsBuilder| {
        let builder = builder.expires_after(Duration::from_millis(500));
        builder.wrap(|store| faults.wrap(store))
    };
    let bench = Bench::start_with(declare).await;
    bench.add("wait").await;
    bench.logs("wait#1").await;
    faults.plan(|operation| if operation == "beat" { Fault::Hangs } else { Fault::None });
    // Near the end of its time it stops what it does, although no answer ever comes.
    bench.logs("told to stop").await;
    assert!(bench.jobs.shared().is_fenced());
    bench.die().await;
}

#[actix::test]
async fn a_process_whose_beats_fail_begins_nothing_until_they_are_heard_again() {
    let faults = Faults::new();
    let declare = |builder: JobsBuilder| {
        let builder = builder.expires_after(Duration::from_millis(500));
        builder.wrap(|store| faults.wrap(store))
    };
    let bench = Bench::start_with(declare).await;
    let first = bench.add("hello").await;
    bench.reaches(first, JobState::Done).await;
    faults.plan(|operation| if operation == "beat" { Fault::Refused } else { Fault::None });
    let fenced = async || bench.jobs.shared().is_fenced().then_some(());
    eventually(fenced, "it is fenced").await;
    let second = bench.add("again").await;
    let looked = async || bench.jobs.guard("default").filter(|guard| guard.depth > 0);
    eventually(looked, "the guard has seen it").await;
    assert_eq!(bench.info(second).await.run, 0);
    faults.none();
    bench.reaches(second, JobState::Done).await;
    bench.stop().await;
}

#[actix::test]
async fn a_keeper_that_is_built_anew_still_fences_a_process_nobody_hears() {
    let faults = Faults::new();
    let declare = |builder: JobsBuilder| {
        let builder = builder.expires_after(Duration::from_millis(500));
        builder.wrap(|store| faults.wrap(store))
    };
    let bench = Bench::start_with(declare).await;
    bench.add("wait").await;
    bench.logs("wait#1").await;
    faults.plan(|operation| if operation == "beat" { Fault::Refused } else { Fault::None });
    killed_actors::kill_keeper(&bench).await;
    bench.logs("told to stop").await;
    assert!(bench.jobs.shared().is_fenced());
    bench.die().await;
}

#[actix::test]
async fn what_the_store_did_not_take_at_the_end_is_abandoned() {
    let faults = Faults::new();
    let declare = |builder: JobsBuilder| builder.wrap(|store| faults.wrap(store));
    let bench = Bench::start_with(declare).await;
    bench.add("wait").await;
    bench.logs("wait#1").await;
    faults.plan(|operation| if operation == "settle" { Fault::Refused } else { Fault::None });
    let report = bench.jobs.drain(Duration::ZERO).await;
    assert_eq!((report.interrupted, report.abandoned), (1, 1), "{report:?}");
    assert!(!report.is_clean());
    // Its row stays, so that others know whose jobs these are.
    let pulse = bench.jobs.store().runs_of(bench.jobs.node(), bench.jobs.clock().now());
    assert_eq!(pulse.await.unwrap().len(), 1);
    bench.die().await;
}

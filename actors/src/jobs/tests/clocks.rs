//! Wall clocks that jump, and jobs that go by them.

use super::*;
use crate::store::{ManualWallClock, Timestamp, WallClock};

const HOUR: Duration = Duration::from_secs(3_600);
const MINUTE: Duration = Duration::from_secs(60);

on_each_database! {
    a_clock_that_jumps_rescues_nobody,
    a_periodic_job_neither_skips_nor_repeats_whatever_the_clock_does,
    a_new_leader_is_found_when_the_old_one_is_dead,
}

/// The beginning of a minute.
const START: Timestamp = Timestamp(1_800_000_000_000);

fn clock() -> (WallClock, ManualWallClock) {
    WallClock::manual(START)
}

async fn a_clock_that_jumps_rescues_nobody(base: Base) {
    let (clock, hands) = clock();
    let one = base.bench(|builder| builder.clock(clock.clone())).await;
    let declare = |builder: JobsBuilder| {
        builder.clock(clock.clone()).queue(QueueSpec::new("default").workers(0))
    };
    let two = base.bench(declare).await;
    let running = one.add("wait").await;
    one.logs("wait#1").await;
    let later = one.jobs.enqueue(task("later")).delay(2 * HOUR).await.unwrap().id().unwrap();
    for to in [START.after(HOUR), START.before(HOUR), START] {
        hands.set(to);
        // Each has beaten and looked at the other's beats since.
        for bench in [&one, &two] {
            let before = beats(bench).await;
            let beaten = async || (beats(bench).await >= before + 3).then_some(());
            eventually(beaten, "it beats").await;
        }
        let info = one.info(running).await;
        assert_eq!((info.state, info.run), (JobState::Running, 1), "at {to:?}");
        assert_eq!(one.info(later).await.run, 0, "at {to:?}");
    }
    hands.set(START.after(2 * HOUR));
    one.reaches(later, JobState::Done).await;
    one.jobs.cancel(running).await.unwrap();
    one.reaches(running, JobState::Dead).await;
    one.stop().await;
    two.stop().await;
}

/// How often the process of a bench has beaten, from what its tables say.
pub(super) async fn beats(bench: &Bench) -> i64 {
    let beat = store::Beat {
        node: NodeId::fresh(),
        name: "onlooker".into(),
        presence: None,
        report: "{}".into(),
    };
    let node = beat.node;
    let store = bench.jobs.store();
    let pulse = store.beat(beat, bench.jobs.clock().now()).await.unwrap();
    store.leave(node).await.unwrap();
    let own = pulse.nodes.iter().find(|row| row.id == bench.jobs.node());
    own.map_or(0, |row| row.beats)
}

fn every_minute(builder: JobsBuilder, clock: &WallClock) -> JobsBuilder {
    let schedule = Schedule::parse("* * * * *", "UTC").unwrap();
    builder.clock(clock.clone()).cron("tick", schedule, Duration::ZERO, &task("tick"))
}

async fn a_periodic_job_neither_skips_nor_repeats_whatever_the_clock_does(base: Base) {
    let (clock, hands) = clock();
    let one = base.bench(|builder| every_minute(builder, &clock)).await;
    let two = base.bench(|builder| every_minute(builder, &clock)).await;
    let led = async || (one.jobs.is_leader() || two.jobs.is_leader()).then_some(());
    eventually(led, "one of them leads").await;
    let fires = async |count: u64, at: Timestamp| {
        hands.set(at);
        let next_at = async || {
            let next = one.jobs.crons().await.unwrap()[0].next_at;
            (next > at).then_some(())
        };
        eventually(next_at, "the tick is passed").await;
        let counts = one.finishes(count).await;
        assert_eq!(counts.dead, 0);
    };
    fires(1, START.after(MINUTE)).await;
    fires(2, START.after(2 * MINUTE)).await;
    // An hour back: nothing fires again until the clock has caught up.
    fires(2, START.before(HOUR)).await;
    fires(2, START.after(2 * MINUTE)).await;
    fires(3, START.after(3 * MINUTE)).await;
    // Paused: its ticks are passed over.
    assert!(one.jobs.pause_cron("tick", true).await.unwrap());
    fires(3, START.after(4 * MINUTE)).await;
    assert!(one.jobs.pause_cron("tick", false).await.unwrap());
    fires(4, START.after(5 * MINUTE)).await;
    one.stop().await;
    two.stop().await;
}

async fn a_new_leader_is_found_when_the_old_one_is_dead(base: Base) {
    let (clock, hands) = clock();
    let old = base.bench(|builder| builder.clock(clock.clone())).await;
    let leads = async || old.jobs.is_leader().then_some(());
    eventually(leads, "the first one leads").await;
    let new = base.bench(|builder| builder.clock(clock.clone())).await;
    let before = beats(&new).await;
    let beaten = async || (beats(&new).await >= before + 2).then_some(());
    eventually(beaten, "the second one beats").await;
    assert!(!new.jobs.is_leader(), "one of them leads, not both");
    old.die().await;
    hands.advance(Duration::from_secs(16));
    let leads = async || new.jobs.is_leader().then_some(());
    eventually(leads, "the second one leads").await;
    new.stop().await;
}

//! Whole overloads, simulated: what users and operators see of them.

use super::simulation::{Script, Simulation, Tally};
use super::*;

fn started(script: Script) -> Simulation {
    Simulation::new(GuardConfig::default(), script)
}

fn trace(simulation: &Simulation) -> String {
    let changes = simulation.changes.iter();
    changes
        .map(|change| {
            let (from, to, at) = (change.from.as_str(), change.to.as_str(), change.at.as_secs());
            format!("{at} s: {from} to {to} at {:.2} for {:?}\n", change.pressure, change.cause)
        })
        .collect()
}

/// The level rose, then fell, and did not turn again: each level was entered and left once.
#[track_caller]
fn check_one_episode(simulation: &Simulation, highest: Level) {
    let told = trace(simulation);
    let rises: Vec<bool> = simulation.changes.iter().map(LevelChanged::is_rise).collect();
    let turns = rises.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert_eq!(turns, 1, "{told}");
    assert_eq!(simulation.levels().into_iter().max(), Some(highest), "{told}");
    assert_eq!(simulation.snapshot.level, Level::Normal, "{told}");
    for level in Level::ALL {
        let crossed = |change: &&LevelChanged| {
            change.from.min(change.to) < level && level <= change.from.max(change.to)
        };
        let crossings = simulation.changes.iter().filter(crossed).count();
        assert!(crossings <= 2, "{crossings} changes around {level:?}\n{told}");
    }
}

/// 100,000 jobs wait and the dependency makes work slow for ten minutes.
fn backlog(guarded: bool) -> Simulation {
    let script = Script {
        arrivals: |second| if second < 1_200 { [5.0, 60.0, 30.0, 30.0] } else { [1.0; 4] },
        service: |second| if (60..660).contains(&second) { 60.0 } else { 400.0 },
        ..Script::IDLE
    };
    let mut simulation = started(script);
    simulation.guarded = guarded;
    simulation.run_until(30);
    simulation.fill(Class::Normal, 60_000);
    simulation.fill(Class::Bulk, 40_000);
    simulation.run_until(3_000);
    simulation
}

#[test]
fn a_backlog_behind_a_slow_dependency_is_one_episode() {
    let guarded = backlog(true);
    check_one_episode(&guarded, Level::Critical);
    let [critical, normal, _, bulk] = guarded.tally;
    assert_eq!((critical.skipped, critical.rejected, critical.deferred), (0, 0, 0));
    assert!(guarded.slowest[0] < 15 * SECOND, "critical work waited {:?}", guarded.slowest[0]);
    assert!(bulk.shed > 30_000, "{bulk:?}");
    assert!(normal.rejected > 10_000, "{normal:?}");
    assert_eq!((guarded.waiting(), guarded.deferred()), (0, 0));
    let unguarded = backlog(false);
    assert!(unguarded.tally.iter().all(|tally| tally.rejected + tally.skipped == 0));
    for (class, (with, without)) in guarded.slowest.iter().zip(unguarded.slowest).enumerate() {
        assert!(*with <= without, "class {class}: {with:?} with, {without:?} without");
    }
}

#[test]
fn a_lasting_overload_settles_in_one_level() {
    let loads: [fn(u64) -> [f64; 4]; 4] = [
        |second| lasting(second, [1.0, 50.0, 0.0, 0.0]),
        |second| lasting(second, [1.0, 21.0, 0.0, 0.0]),
        |second| lasting(second, [1.0, 10.0, 40.0, 0.0]),
        |second| lasting(second, [1.0, 18.0, 18.0, 18.0]),
    ];
    for arrivals in loads {
        let mut simulation = started(Script { arrivals, service: |_| 20.0, ..Script::IDLE });
        simulation.run_until(4_000);
        check_one_episode(&simulation, Level::Overloaded);
        assert_eq!(simulation.changes.len(), 4, "{}", trace(&simulation));
        let [critical, normal, ..] = simulation.slowest;
        assert!(critical < SECOND && normal < 91 * SECOND, "{:?}", simulation.slowest);
    }
}

fn lasting(second: u64, rates: [f64; 4]) -> [f64; 4] {
    if second < 2_400 { rates } else { [0.5; 4] }
}

/// For a minute twice as much comes as can be done, then half of it.
fn minute(config: GuardConfig) -> Simulation {
    let script = Script {
        arrivals: |second| {
            if second < 60 { [8.0, 60.0, 32.0, 60.0] } else { [4.0, 20.0, 10.0, 6.0] }
        },
        service: |_| 80.0,
        ..Script::IDLE
    };
    let mut simulation = Simulation::new(config, script);
    simulation.fill(Class::Normal, 4_000);
    simulation.run_until(60);
    simulation
}

#[test]
fn nothing_is_held_back_for_long_when_the_overload_is_over() {
    let short = GuardConfig::builder().window(SECOND).memory(2 * SECOND).sustain(SECOND / 2);
    let short = short.calm(5 * SECOND).look_every(SECOND / 5);
    let targets = [(Class::Critical, 1), (Class::Normal, 4), (Class::Sheddable, 15)];
    let short = targets
        .into_iter()
        .fold(short, |builder, (class, seconds)| builder.age_target(class, seconds * SECOND));
    for (config, within) in [(short.build().unwrap(), 30), (GuardConfig::default(), 120)] {
        let mut simulation = minute(config);
        assert!(simulation.snapshot.level >= Level::Overloaded, "{}", trace(&simulation));
        while simulation.waiting() > 0 {
            simulation.step();
        }
        let idle = simulation.now.as_secs();
        simulation.run_until(idle + within);
        assert_eq!(simulation.snapshot.level, Level::Normal, "{}", trace(&simulation));
        let before = simulation.tally;
        simulation.run_until(idle + within + 60);
        let held = |tally: &Tally| tally.deferred + tally.skipped + tally.rejected;
        for (now, before) in simulation.tally.iter().zip(&before) {
            assert_eq!(held(now), held(before), "{}", trace(&simulation));
        }
    }
}

#[test]
fn a_cheap_backlog_costs_normal_work_nothing() {
    let arrivals = |_| [5.0, 20.0, 20.0, 0.0];
    let mut simulation = started(Script { arrivals, service: |_| 100.0, ..Script::IDLE });
    simulation.fill(Class::Bulk, 400_000);
    simulation.run_until(600);
    let [critical, normal, ..] = simulation.tally;
    assert_eq!(simulation.levels().into_iter().max(), Some(Level::Overloaded));
    assert_eq!(critical.deferred + critical.rejected, 0);
    assert_eq!(normal.deferred + normal.rejected + normal.skipped, 0, "{normal:?}");
    assert_eq!(simulation.tally[3].shed, 0);
}

#[test]
fn a_batch_that_is_worked_off_in_time_changes_nothing() {
    for batch in [100, 1_000, 4_000] {
        let arrivals = |_| [1.0, 10.0, 1.0, 1.0];
        let mut simulation = started(Script { arrivals, service: |_| 100.0, ..Script::IDLE });
        simulation.run_until(120);
        simulation.fill(Class::Normal, batch);
        simulation.run_until(300);
        assert_eq!(simulation.levels(), [], "{batch} jobs\n{}", trace(&simulation));
    }
}

#[test]
fn arrivals_about_the_limit_do_not_make_the_level_oscillate() {
    // 13 s of half as much again, then 13 s of half: just what can be done, on the whole.
    let arrivals = |second| match second {
        1_800.. => [1.0; 4],
        _ if second % 26 < 13 => [5.0, 145.0, 0.0, 0.0],
        _ => [5.0, 45.0, 0.0, 0.0],
    };
    let mut simulation = started(Script { arrivals, service: |_| 100.0, ..Script::IDLE });
    simulation.run_until(120);
    simulation.fill(Class::Normal, 5_500);
    simulation.run_until(2_400);
    check_one_episode(&simulation, Level::Overloaded);
}

#[test]
fn the_drain_estimate_is_the_time_it_takes() {
    check_drain([0, 5_000, 0, 0], |_| 40.0);
    check_drain([500, 5_000, 0, 0], |_| 100.0);
    check_drain([0, 3_000, 3_000, 0], |_| 50.0);
    check_drain([300, 3_000, 2_000, 20_000], |_| 80.0);
}

#[track_caller]
fn check_drain(waiting: [u64; 4], service: fn(u64) -> f64) {
    let mut simulation = started(Script { service, ..Script::IDLE });
    simulation.guarded = false;
    for class in Class::ALL {
        simulation.fill(class, waiting[class.index()]);
    }
    simulation.run_until(3);
    let (began, estimates) = (simulation.now, simulation.snapshot.drain);
    let mut emptied = [None; 4];
    while emptied.iter().any(Option::is_none) {
        simulation.step();
        let left = simulation.left();
        for (emptied, left) in emptied.iter_mut().zip(left) {
            *emptied = emptied.or((left == 0).then_some(simulation.now - began));
        }
    }
    for (class, estimate) in estimates.iter() {
        let truth = emptied[class.index()].unwrap().as_secs_f64();
        let estimate = estimate.unwrap().as_secs_f64();
        let off = (estimate - truth).abs();
        assert!(off <= 0.3 * truth + 1.0, "{class:?}: {estimate} s for {truth} s");
    }
}

#[test]
fn what_was_put_off_is_done_within_half_as_much_again_as_the_ideal() {
    let mut simulation = started(Script { service: |_| 100.0, ..Script::IDLE });
    // Seen working once, so that it knows its pace.
    simulation.fill(Class::Normal, 500);
    simulation.run_until(30);
    let began = simulation.now;
    simulation.defer(Class::Normal, 20_000, 3_600 * SECOND);
    while simulation.deferred() + simulation.waiting() > 0 {
        simulation.step();
    }
    let took = simulation.now - began;
    assert!(took < 300 * SECOND, "{took:?} for 200 s of work");
}

#[test]
fn recovery_finds_out_that_work_has_become_faster() {
    let service = |second| if second < 60 { 5.0 } else { 100.0 };
    let mut simulation = started(Script { service, ..Script::IDLE });
    simulation.fill(Class::Normal, 300);
    simulation.run_until(60);
    simulation.defer(Class::Normal, 10_000, 3_600 * SECOND);
    while simulation.deferred() + simulation.waiting() > 0 {
        simulation.step();
    }
    let took = simulation.now - 60 * SECOND;
    assert!(took < 150 * SECOND, "{took:?} for 100 s of work");
}

#[test]
fn a_queue_without_history_finds_its_pace_by_what_was_put_off() {
    let mut simulation = started(Script { service: |_| 100.0, ..Script::IDLE });
    simulation.defer(Class::Sheddable, 5_000, 3_600 * SECOND);
    while simulation.deferred() + simulation.waiting() > 0 {
        simulation.step();
    }
    assert!(simulation.now < 75 * SECOND, "{:?} for 50 s of work", simulation.now);
}

#[test]
fn an_open_dependency_holds_cheap_work_back_until_it_closes() {
    let script = Script {
        arrivals: |_| [1.0, 10.0, 10.0, 10.0],
        service: |_| 100.0,
        dependency_open: |second| (60..180).contains(&second),
    };
    let mut simulation = started(script);
    simulation.run_until(170);
    assert_eq!(simulation.levels(), [Level::Overloaded], "{}", trace(&simulation));
    assert_eq!(simulation.changes[0].cause, Cause::Dependency);
    let held = simulation.tally;
    assert_eq!(held[1].deferred, 0, "normal work is parked by its breaker, not by the guard");
    assert!(held[2].deferred > 900 && held[3].skipped > 900, "{held:?}");
    simulation.run_until(300);
    check_one_episode(&simulation, Level::Overloaded);
    assert_eq!(simulation.deferred(), 0);
}

#[test]
fn the_hard_limit_holds_against_a_burst_between_two_looks() {
    let config = GuardConfig::builder().depth_max(1_000).build().unwrap();
    let arrivals = |_| [4_000.0, 4_000.0, 0.0, 0.0];
    let mut simulation = Simulation::new(config, Script { arrivals, ..Script::IDLE });
    for _ in 0..400 {
        simulation.step();
        let depth = simulation.waiting() + simulation.deferred();
        assert!(depth <= 1_000, "{depth} jobs");
    }
    assert_eq!(simulation.levels(), [Level::Critical]);
    assert!(matches!(simulation.changes[0].cause, Cause::HardLimit { limit: 1_000, .. }));
    assert!(simulation.tally[0].rejected > 0);
}

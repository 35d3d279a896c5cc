//! What holds whatever the readings are.

use proptest::prelude::*;

use super::*;

fn count() -> impl Strategy<Value = u64> {
    prop_oneof![0..10_u64, 0..100_000_u64, any::<u64>()]
}

fn age() -> impl Strategy<Value = Option<Duration>> {
    let long = any::<u64>().prop_map(Duration::from_secs);
    let short = (0..200_000_u64).prop_map(Duration::from_millis);
    proptest::option::of(prop_oneof![short, long])
}

/// Queues that stand for a while, one after the other, with rates that do too; now and then
/// counters fall and time stands still or leaps.
fn readings() -> impl Strategy<Value = Vec<Reading>> {
    let pause = prop_oneof![
        6 => (100..2_000_u64).prop_map(Duration::from_millis),
        1 => Just(Duration::ZERO),
        1 => (0..100_000_u64).prop_map(Duration::from_secs),
    ];
    let queue = ([count(), count(), count(), count()], [age(), age(), age(), age()]);
    let rest = [count(), count(), count(), count(), count(), count(), count()];
    let phase = (pause, 1..120_u32, queue, rest, any::<(bool, bool, u32)>());
    proptest::collection::vec(phase, 1..8).prop_map(|phases| {
        let mut readings = Vec::new();
        let mut at = Duration::ZERO;
        for (pause, times, (ready, oldest), rest, (dependency_open, paused, nodes)) in phases {
            let [running, deferred, parked, enqueued, held_back, finished, failed] = rest;
            let paused = paused && dependency_open;
            for time in 0..u64::from(times) {
                at = at.saturating_add(pause);
                let [enqueued, held_back, finished, failed] =
                    [enqueued, held_back, finished, failed].map(|pace| pace.wrapping_mul(time));
                readings.push(Reading {
                    at,
                    ready,
                    oldest,
                    running,
                    deferred,
                    parked,
                    enqueued,
                    held_back,
                    finished,
                    failed,
                    dependency_open,
                    paused,
                    nodes,
                });
            }
        }
        readings
    })
}

fn configs() -> impl Strategy<Value = GuardConfig> {
    let target = 1..86_400_u64;
    let seconds = Duration::from_secs;
    (proptest::option::of(100..1_000_000_u32), target.clone(), target, 2..86_400_u64).prop_map(
        move |(depth, age, drain, defer)| {
            let builder = GuardConfig::builder()
                .age_target(Class::Normal, seconds(age))
                .drain_target(Class::Sheddable, seconds(drain))
                .defer_max(seconds(defer));
            depth.into_iter().fold(builder, GuardBuilder::depth_max).build().unwrap()
        },
    )
}

fn check_numbers(snapshot: &GuardSnapshot) -> Result<(), TestCaseError> {
    let Pressures { depth, age, drain, dependency } = snapshot.pressures;
    let pressures = age.0.into_iter().chain(drain.0).chain([depth, dependency, snapshot.pressure]);
    for pressure in pressures {
        prop_assert!((0.0..=100.0).contains(&pressure), "{snapshot:?}");
    }
    let rates = [snapshot.arriving_per_second, snapshot.failing_per_second];
    for rate in rates.into_iter().chain(snapshot.draining_per_second) {
        prop_assert!(rate.is_finite() && rate >= 0.0, "{snapshot:?}");
    }
    prop_assert!(snapshot.threshold.0.into_iter().all(|threshold| threshold <= 128));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn no_reading_makes_it_panic_or_gives_a_number_that_is_none(
        config in configs(), readings in readings(), chance in any::<f64>(),
    ) {
        let mut state = State::new(config);
        for reading in readings {
            let deferred = reading.deferred;
            state.observe(reading);
            let snapshot = state.snapshot();
            check_numbers(&snapshot)?;
            prop_assert!(u64::from(state.pull_forward()) <= deferred);
            prop_assert!(state.next_look() <= SECOND && state.next_look() >= SECOND / 4);
            for class in Class::ALL {
                for overload in [Overload::default(), Overload::Skip, Overload::Reject] {
                    let candidate = Candidate {
                        expires_in: None,
                        class, overload, cohort: deferred, deferrals: 0, admitted_since: 0, chance,
                    };
                    match snapshot.admit(&candidate) {
                        Admission::Reject { retry_after } => {
                            prop_assert!(retry_after >= SECOND && retry_after <= 600 * SECOND);
                        }
                        Admission::Defer { by } => prop_assert!(by >= SECOND && by <= 86_400 * SECOND),
                        Admission::Accept | Admission::Skip => {}
                    }
                    prop_assert_eq!(snapshot.admit(&candidate), snapshot.admit(&candidate));
                }
            }
        }
    }

    #[test]
    fn critical_work_is_accepted_below_the_hard_limit(
        config in configs(), readings in readings(), cohort in any::<u64>(),
    ) {
        let mut state = State::new(config);
        for reading in readings {
            state.observe(reading);
            let snapshot = state.snapshot();
            let candidate = Candidate {
                expires_in: None,
                class: Class::Critical, overload: Overload::Reject, cohort, deferrals: 0,
                admitted_since: 0, chance: 0.5,
            };
            if snapshot.credits != Some(0) {
                prop_assert_eq!(snapshot.admit(&candidate), Admission::Accept);
            }
        }
    }

    #[test]
    fn the_level_falls_one_step_at_a_time_and_rises_only_on_lasting_pressure(
        config in configs(), readings in readings(),
    ) {
        let mut state = State::new(config);
        let mut level = Level::Normal;
        let (mut entered, mut calm_until) = (Duration::ZERO, None);
        for reading in readings {
            let change = state.observe(reading);
            let snapshot = state.snapshot();
            if snapshot.pressure < 0.7 || calm_until.is_none() {
                calm_until = Some(reading.at);
            }
            if let Some(change) = &change {
                prop_assert_eq!(change.from, level);
                prop_assert_eq!(change.to, snapshot.level);
                prop_assert_ne!(change.from, change.to);
                let full = matches!(change.cause, Cause::HardLimit { .. });
                if change.is_rise() && !full {
                    prop_assert!(reading.at - calm_until.unwrap() >= 3 * SECOND, "{:?}", change);
                }
                if !change.is_rise() {
                    prop_assert_eq!(change.from as u8, change.to as u8 + 1);
                    prop_assert!(reading.at - entered >= 20 * SECOND, "{:?}", change);
                }
                entered = reading.at;
            }
            level = snapshot.level;
        }
    }

    #[test]
    fn the_drain_of_the_classes_never_ends_after_all_work(
        ready in [0..100_000_u64, 0..100_000_u64, 0..100_000_u64, 0..100_000_u64],
        pace in 1..10_000_u64,
    ) {
        let mut state = State::new(GuardConfig::default());
        for second in 0..3_u64 {
            let at = Duration::from_secs(second);
            let finished = second * pace;
            state.observe(Reading { at, ready, finished, ..Reading::default() });
        }
        let all = ready.into_iter().sum::<u64>() as f64 / pace as f64;
        let drain = state.snapshot().drain.map(|drain| drain.map_or(0.0, |drain| drain.as_secs_f64()));
        let last = drain.0.into_iter().fold(0.0, f64::max);
        prop_assert!(ready == [0; 4] || (last - all).abs() <= 1e-6 * all + 1e-6, "{drain:?} of {all}");
        for (class, drain) in drain.iter() {
            let alone = ready[class.index()] as f64 / pace as f64;
            prop_assert!(drain >= alone - 1e-6 && drain <= last + 1e-6, "{class:?}");
        }
    }
}

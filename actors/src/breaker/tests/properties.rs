//! The pure parts against simple models.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::breaker::config::Config;
use crate::breaker::gate::{Lease, Word};
use crate::breaker::state::{self, Finding, FlapMemory, Phase, Step, Trials};
use crate::breaker::window::{Sample, Window};

fn config(probes: u16, needed: u16) -> Config {
    let builder = Breaker::builder("rates").probes(probes).probes_needed(needed);
    builder.check().unwrap().2
}

fn phases() -> impl Strategy<Value = Phase> {
    let time = 0..(1_u64 << 37) - 1;
    let end = proptest::option::of(time.clone());
    let count = 0..=256_u16;
    prop_oneof![
        Just(Phase::Closed),
        time.prop_map(|until| Phase::Open { until }),
        (count.clone(), count.clone(), count.clone(), count).prop_map(
            |(issued, ok, bad, ignored)| Phase::HalfOpen(Trials { issued, ok, bad, ignored })
        ),
        end.clone().prop_map(|until| Phase::ForcedOpen { until }),
        end.clone().prop_map(|until| Phase::Disabled { until }),
        end.prop_map(|until| Phase::MetricsOnly { until }),
    ]
}

proptest! {
    #[test]
    fn the_word_holds_every_phase_and_epoch(phase in phases(), epoch in 0_u64..1 << 24) {
        let word = Word::new(phase, epoch);
        prop_assert_eq!((word.phase(), word.epoch()), (phase, epoch));
        prop_assert_eq!(word.next(Phase::Closed).epoch(), (epoch + 1) % (1 << 24));
        prop_assert_eq!(word.with(Phase::Closed).epoch(), epoch);
    }

    #[test]
    fn every_trial_ends_with_at_most_twice_as_many_answers_as_slots(
        (probes, needed) in (1_u16..=256).prop_flat_map(|n| (Just(n), 1..=n)),
        answers in proptest::collection::vec(0_u8..3, 512),
    ) {
        let config = config(probes, needed);
        let mut trials = Trials::default();
        let mut given = 0;
        let ended = answers.iter().any(|answer| {
            trials.issued += 1;
            given += 1;
            assert!(trials.issued <= probes, "{trials:?}");
            let finding = [Finding::Ok, Finding::Bad, Finding::Ignored][usize::from(*answer)];
            match state::settle_trial(trials, finding, &config) {
                Step::Stay(next) => trials = next,
                Step::Close(_) | Step::Reopen(_) => return true,
            }
            false
        });
        prop_assert!(ended);
        prop_assert!(given <= 2 * probes, "{given} answers for {probes} slots");
    }

    #[test]
    fn a_pause_is_never_zero_nor_out_of_its_jitter(openings in any::<u16>()) {
        let config = config(3, 2);
        let (low, high) = FlapMemory { openings, closed_at: 0 }.pause(&config);
        prop_assert!(low >= 4_000 && low <= high && high <= 144_000, "{low}..={high}");
    }

    #[test]
    fn the_window_agrees_with_a_list_of_calls(
        calls in proptest::collection::vec((0_u64..3_000, any::<bool>(), any::<bool>()), 0..300),
    ) {
        let window = Window::new(10 * SECOND, true);
        let mut list: VecDeque<(u64, bool, bool)> = VecDeque::new();
        let mut now = 0;
        for (after, failed, slow) in calls {
            now += after * 1_000_000;
            window.record(now, Sample { failed, slow });
            list.push_back((now / 1_000_000_000, failed, slow));
            list.retain(|(second, ..)| second + 10 > now / 1_000_000_000);
            let counts = window.sum(now);
            let failures = list.iter().filter(|(_, failed, _)| *failed).count();
            let slow = list.iter().filter(|(.., slow)| *slow).count();
            prop_assert_eq!(counts.calls, list.len() as u64);
            prop_assert_eq!(counts.timed, list.len() as u64);
            prop_assert_eq!(counts.failures, failures as u64);
            prop_assert_eq!(counts.slow, slow as u64);
        }
    }
}

#[test]
fn a_straggler_of_an_earlier_epoch_cannot_shorten_a_lease() {
    let lease = Lease::default();
    lease.extend(7, 500);
    lease.extend(5, 900);
    lease.extend(7, 400);
    assert_eq!((lease.of(7), lease.of(5)), (500, u64::MAX));
    lease.extend(8, 100);
    assert_eq!(lease.of(8), 100);
}

#[test]
fn a_lease_follows_the_epoch_around_its_wrap() {
    let lease = Lease::default();
    let last = (1 << 24) - 1;
    for epoch in [1, 1 << 22, 1 << 23, last - 5, last, 0, 1] {
        lease.extend(epoch, 500);
        assert_eq!(lease.of(epoch), 500, "epoch {epoch}");
    }
}

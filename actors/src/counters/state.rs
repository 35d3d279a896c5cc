//! Pure: how large the next batch is, how long to rest before it, and what follows a failure.
//!
//! | what happened | the batch | the rest |
//! |---|---|---|
//! | took about the target | stays about as large | none |
//! | took less | up to twice as large | none |
//! | took more | smaller, in proportion, at most to a quarter | none |
//! | took more than twice the target | smaller | what it took beyond that: about half of the time is ours |
//! | deadlock, serialisation, lock or statement timeout | half as large | backs off, with jitter |
//! | the same with one parent | stays | twice the time for a statement, up to 64 times |
//! | the column's lock is taken | stays | backs off, with jitter |
//! | the database cannot be reached | stays | backs off, with jitter |
//! | too many of these in a row | — | the run gives up; its job tries again later |

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::store::StoreError;

use super::error::CounterError;

/// LIMIT: failures in a row before a run gives up.
/// From 20,000 parents to one, and from there to the longest time, it takes 20.
pub(super) const FAILURES_MAX: u32 = 20;
/// LIMIT: how many times the time for one statement is doubled for a parent of many children.
const DOUBLINGS_MAX: u32 = 6;
/// The first pause after a failure; it doubles.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// LIMIT: how long the database has for itself after a slow batch.
const REST_MAX: Duration = Duration::from_secs(5);

/// How a run goes on. Made anew with each run.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    size: u32,
    bounds: RangeInclusive<u32>,
    target: Duration,
    failures: u32,
    doublings: u32,
}

/// What a batch failed of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// Somebody else was in the way, or it was too much at once.
    Contention,
    /// The column's own lock is taken: another run repairs it.
    Busy,
    /// The database cannot be reached, or nobody knows whether the batch was committed.
    Unreachable,
}

/// What is to be done about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Read the cursor again and go on from there, after this long.
    Again(Duration),
    GiveUp,
}

impl Failure {
    /// `None`: trying again cannot help.
    pub(super) fn of(error: &CounterError) -> Option<Self> {
        if matches!(error, CounterError::Busy) {
            return Some(Self::Busy);
        }
        let CounterError::Store(error) = error else { return None };
        if matches!(error, StoreError::Timeout) {
            return Some(Self::Contention);
        }
        error.is_transient().then_some(Self::Unreachable)
    }
}

impl Pace {
    /// Begins with `first` parents, or the nearest number within the bounds, which are not empty.
    pub(super) fn new(first: u32, bounds: RangeInclusive<u32>, target: Duration) -> Self {
        let size = first.clamp(*bounds.start(), *bounds.end());
        Self { size, bounds, target, failures: 0, doublings: 0 }
    }

    /// How many parents the next batch has.
    pub(super) const fn size(&self) -> u32 {
        self.size
    }

    /// How many times the usual time a statement may take.
    pub(super) const fn patience(&self) -> u32 {
        1 << self.doublings
    }

    /// A batch was committed. How long to rest before the next.
    pub(super) fn committed(&mut self, took: Duration) -> Duration {
        (self.failures, self.doublings) = (0, 0);
        let ratio = self.target.as_secs_f64() / took.as_secs_f64().max(1e-6);
        let next = f64::from(self.size) * ratio.clamp(0.25, 2.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "within bounds"
        )]
        let next = next.clamp(1.0, f64::from(u32::MAX)).round() as u32;
        // A size that is not within the bounds was halved by failures: it may grow into them.
        let least = if next > self.size { 1 } else { (*self.bounds.start()).min(self.size) };
        self.size = next.clamp(least, *self.bounds.end());
        took.saturating_sub(self.target.saturating_mul(2)).min(REST_MAX)
    }

    /// A batch was rolled back. `chance` is from 0 to 1.
    pub(super) fn failed(&mut self, failure: Failure, chance: f64) -> Next {
        self.failures += 1;
        if self.failures > FAILURES_MAX {
            return Next::GiveUp;
        }
        match failure {
            Failure::Contention if self.size > 1 => self.size /= 2,
            Failure::Contention => self.doublings = (self.doublings + 1).min(DOUBLINGS_MAX),
            Failure::Busy | Failure::Unreachable => {}
        }
        let longest = PAUSE.saturating_mul(1 << self.failures.min(10)).min(PAUSE_MAX);
        Next::Again(longest.mul_f64(chance.clamp(0.0, 1.0)).max(Duration::from_millis(1)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TARGET: Duration = Duration::from_millis(50);

    fn pace() -> Pace {
        Pace::new(500, 1..=5_000, TARGET)
    }

    proptest! {
        #[test]
        fn batches_come_to_take_about_the_target(each_us in 1_u64..100_000) {
            let mut pace = pace();
            let took = |size: u32| Duration::from_micros(each_us * u64::from(size));
            for _ in 0..16 {
                pace.committed(took(pace.size()));
            }
            let size = pace.size();
            let settled = took(size);
            let near = TARGET / 2..=TARGET * 2;
            prop_assert!(near.contains(&settled) || size == 1 || size == 5_000, "{size} in {settled:?}");
        }

        #[test]
        fn whatever_happens_the_size_is_within_its_bounds(
            events in proptest::collection::vec((any::<bool>(), 0_u64..10_000, 0.0..=1.0_f64), 0..200),
            most in 1_u32..10_000,
        ) {
            let mut pace = Pace::new(500, 1..=most, TARGET);
            for (fails, millis, chance) in events {
                let before = pace.size();
                if fails {
                    let next = pace.failed(Failure::Contention, chance);
                    prop_assert!(pace.size() <= before);
                    if let Next::Again(pause) = next {
                        prop_assert!(pause <= PAUSE_MAX && !pause.is_zero());
                    }
                } else {
                    let rest = pace.committed(Duration::from_millis(millis));
                    prop_assert!(rest <= REST_MAX);
                }
                prop_assert!((1..=most).contains(&pace.size()));
                prop_assert!((1..=64).contains(&pace.patience()));
            }
        }
    }

    #[test]
    fn a_slow_database_has_time_for_itself() {
        assert_eq!(pace().committed(TARGET * 2), Duration::ZERO);
        assert_eq!(pace().committed(TARGET * 3), TARGET);
        assert_eq!(pace().committed(TARGET * 20), TARGET * 18);
        assert_eq!(pace().committed(Duration::from_secs(60)), REST_MAX);
    }

    #[test]
    fn contention_halves_the_batch_down_to_one_parent_and_then_grants_time() {
        let mut pace = Pace::new(4, 1..=5_000, TARGET);
        for (size, patience) in [(2, 1), (1, 1), (1, 2), (1, 4)] {
            assert!(matches!(pace.failed(Failure::Contention, 0.5), Next::Again(_)));
            assert_eq!((pace.size(), pace.patience()), (size, patience));
        }
        pace.committed(TARGET);
        assert_eq!((pace.size(), pace.patience()), (1, 1));
    }

    #[test]
    fn a_busy_column_is_no_reason_for_smaller_batches() {
        let mut pace = pace();
        assert_eq!(pace.failed(Failure::Busy, 1.0), Next::Again(PAUSE * 2));
        assert_eq!(pace.failed(Failure::Unreachable, 1.0), Next::Again(PAUSE * 4));
        assert_eq!(pace.size(), 500);
    }

    #[test]
    fn a_single_parent_has_got_all_the_time_there_is_before_a_run_gives_up() {
        let mut pace = Pace::new(20_000, 1..=20_000, TARGET);
        for _ in 0..FAILURES_MAX {
            assert!(matches!(pace.failed(Failure::Contention, 0.5), Next::Again(_)));
        }
        assert_eq!((pace.size(), pace.patience()), (1, 64));
    }

    #[test]
    fn gives_up_after_twenty_failures_in_a_row() {
        let mut pace = pace();
        for _ in 0..FAILURES_MAX {
            assert!(matches!(pace.failed(Failure::Contention, 0.0), Next::Again(_)));
        }
        assert_eq!(pace.clone().failed(Failure::Contention, 0.0), Next::GiveUp);
        pace.committed(TARGET);
        assert!(matches!(pace.failed(Failure::Contention, 0.0), Next::Again(_)));
    }
}

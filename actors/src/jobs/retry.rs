//! How long a job that failed waits, and how many retries a dependency is expected to bear.
//! Pure: time and chance come in.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::kernel::{Code, Fault};

/// How long a job that failed waits before it is tried again.
///
/// The default grows from 5 s by a factor of 2 up to 1 h, with full jitter: the wait is drawn
/// evenly from nothing to its nominal length, so that jobs which failed together are not tried
/// together ("Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff(Growth);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Growth {
    Exponential { base: Duration, factor: u32, cap: Duration },
    Fixed(Duration),
}

const MILLI: Duration = Duration::from_millis(1);

/// LIMIT: the longest wait between two attempts.
const WAIT_MAX: Duration = Duration::from_secs(30 * 24 * 3_600);

impl Backoff {
    /// A wait of nominally `base * factor ^ (attempt - 1)`, at most `cap`, with full jitter.
    ///
    /// `base` is 1 ms to 30 days; `factor` 1 to 10; `cap` from `base` to 30 days. A `base` that
    /// is too low burns the attempts while a short outage lasts; a `cap` that is too high leaves
    /// jobs waiting long after the outage is over.
    ///
    /// # Errors
    ///
    /// [`InvalidBackoff`] names the setting and the range it must be in.
    pub fn exponential(base: Duration, factor: u32, cap: Duration) -> Result<Self, InvalidBackoff> {
        let usable = (MILLI..=WAIT_MAX).contains(&base);
        within("base", usable, "1 ms to 30 days")?;
        within("factor", (1..=10).contains(&factor), "1 to 10")?;
        within("cap", (base..=WAIT_MAX).contains(&cap), "from `base` to 30 days")?;
        Ok(Self(Growth::Exponential { base, factor, cap }))
    }

    /// The same wait after each attempt, without jitter: 1 ms to 30 days. For what is due at a
    /// certain time; many jobs that failed together are tried together.
    ///
    /// # Errors
    ///
    /// [`InvalidBackoff`] names the setting and the range it must be in.
    pub fn fixed(wait: Duration) -> Result<Self, InvalidBackoff> {
        within("wait", (MILLI..=WAIT_MAX).contains(&wait), "1 ms to 30 days")?;
        Ok(Self(Growth::Fixed(wait)))
    }

    /// The wait after the `attempt`-th attempt failed; the first is 1. `chance` is 0 to 1.
    #[must_use]
    pub fn wait(&self, attempt: i16, chance: f64) -> Duration {
        match self.0 {
            Growth::Exponential { .. } => self.nominal(attempt).mul_f64(part(chance)),
            Growth::Fixed(wait) => wait,
        }
    }

    /// The longest wait there can be after the `attempt`-th attempt.
    #[must_use]
    pub fn nominal(&self, attempt: i16) -> Duration {
        match self.0 {
            Growth::Exponential { base, factor, cap } => {
                let doublings = u32::try_from(attempt).unwrap_or(0).saturating_sub(1);
                base.saturating_mul(factor.saturating_pow(doublings)).min(cap)
            }
            Growth::Fixed(wait) => wait,
        }
    }
}

impl Default for Backoff {
    fn default() -> Self {
        let (base, cap) = (Duration::from_secs(5), Duration::from_secs(3_600));
        Self(Growth::Exponential { base, factor: 2, cap })
    }
}

/// A chance that is one, whatever came in.
const fn part(chance: f64) -> f64 {
    if chance.is_nan() { 1.0 } else { chance.clamp(0.0, 1.0) }
}

fn within(setting: &'static str, ok: bool, expected: &'static str) -> Result<(), InvalidBackoff> {
    if ok { Ok(()) } else { Err(InvalidBackoff { setting, expected }) }
}

/// A setting of a [`Backoff`] that is out of its range. Correct it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("back-off setting `{setting}` must be {expected}")]
pub struct InvalidBackoff {
    setting: &'static str,
    expected: &'static str,
}

impl InvalidBackoff {
    /// The name of the setting.
    #[must_use]
    pub const fn setting(&self) -> &'static str {
        self.setting
    }
}

impl Fault for InvalidBackoff {
    fn code(&self) -> Code {
        Code::new("jobs.invalid_backoff")
    }
}

/// How many retries a dependency is expected to bear: a fifth of the first attempts in the
/// last minute, and ten in any case. Beyond, waits are doubled.
///
/// Without one, each of ten thousand jobs that fail brings its own retries, and a dependency
/// that is down gets a multiple of its load when it can bear it least ("Addressing Cascading
/// Failures" in *Site Reliability Engineering*, 2016, limits retries by such a budget).
#[derive(Debug, Clone)]
pub struct RetryBudget {
    began: Instant,
    present: Slice,
    /// Oldest first. LIMIT: what a minute holds besides the present.
    past: VecDeque<Slice>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Slice {
    number: u64,
    firsts: u64,
    retries: u64,
}

/// The minute slides in twelve slices, so it is between 55 and 60 s long.
const SLICES: usize = 12;
const SLICE: Duration = Duration::from_secs(5);

/// Retries in percent of first attempts.
const SHARE_PERCENT: u64 = 20;

/// Retries in a minute that are always in the budget, for a dependency with few calls.
const FLOOR: u64 = 10;

impl RetryBudget {
    /// A budget of a dependency that was not called yet.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { began: now, present: Slice::default(), past: VecDeque::with_capacity(SLICES) }
    }

    /// Counts a first attempt.
    pub fn first_attempt(&mut self, now: Instant) {
        self.turn(now);
        self.present.firsts = self.present.firsts.saturating_add(1);
    }

    /// Counts a retry. Whether it is within the budget; if not, double its wait.
    #[must_use]
    pub fn retry(&mut self, now: Instant) -> bool {
        let within = self.has_left(now);
        self.turn(now);
        self.present.retries = self.present.retries.saturating_add(1);
        within
    }

    /// Whether one more retry is within the budget.
    #[must_use]
    pub fn has_left(&self, now: Instant) -> bool {
        let number = self.number(now);
        let (mut firsts, mut retries) = (0_u64, 0_u64);
        for slice in self.past.iter().chain([&self.present]) {
            if number.saturating_sub(slice.number) < SLICES as u64 {
                firsts = firsts.saturating_add(slice.firsts);
                retries = retries.saturating_add(slice.retries);
            }
        }
        let allowed = (firsts.saturating_mul(SHARE_PERCENT) / 100).max(FLOOR);
        retries < allowed
    }

    fn number(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.began).as_secs() / SLICE.as_secs()
    }

    /// Begins the slice that `now` is in.
    fn turn(&mut self, now: Instant) {
        let number = self.number(now);
        if number > self.present.number {
            let next = Slice { number, ..Slice::default() };
            self.past.push_back(std::mem::replace(&mut self.present, next));
        }
        while self.past.len() >= SLICES {
            self.past.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const HOUR: Duration = Duration::from_secs(3_600);
    const DAY: Duration = Duration::from_secs(24 * 3_600);

    #[test]
    fn the_wait_doubles_up_to_the_cap() {
        let nominal: Vec<u64> =
            (1..=12).map(|attempt| Backoff::default().nominal(attempt).as_secs()).collect();
        assert_eq!(nominal, [5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600]);
        for odd in [i16::MIN, -1, 0] {
            assert_eq!(Backoff::default().nominal(odd), 5 * SECOND);
        }
        assert_eq!(Backoff::default().nominal(i16::MAX), HOUR);
    }

    #[test]
    fn jitter_is_full() {
        let third = |chance| Backoff::default().wait(3, chance);
        assert_eq!(third(0.0), Duration::ZERO);
        assert_eq!(third(0.5), 10 * SECOND);
        assert_eq!(third(1.0), 20 * SECOND);
        for (odd, expect) in [(-1.0, 0), (2.0, 20), (f64::NAN, 20), (f64::INFINITY, 20)] {
            assert_eq!(third(odd), expect * SECOND, "{odd}");
        }
    }

    #[test]
    fn a_fixed_wait_has_no_jitter() {
        let backoff = Backoff::fixed(7 * SECOND).unwrap();
        assert_eq!([backoff.wait(1, 0.0), backoff.wait(99, 0.7)], [7 * SECOND; 2]);
    }

    #[test]
    fn settings_are_refused_one_past_their_range() {
        #[track_caller]
        fn check(result: Result<Backoff, InvalidBackoff>, wrong: Option<&str>) {
            assert_eq!(result.err().map(|refused| refused.setting()), wrong);
        }
        let (low, high) = (MILLI - Duration::from_nanos(1), WAIT_MAX + Duration::from_nanos(1));
        check(Backoff::exponential(MILLI, 1, MILLI), None);
        check(Backoff::exponential(WAIT_MAX, 10, WAIT_MAX), None);
        check(Backoff::exponential(low, 1, SECOND), Some("base"));
        check(Backoff::exponential(high, 1, high), Some("base"));
        check(Backoff::exponential(SECOND, 0, SECOND), Some("factor"));
        check(Backoff::exponential(SECOND, 11, SECOND), Some("factor"));
        check(Backoff::exponential(SECOND, 2, SECOND - MILLI), Some("cap"));
        check(Backoff::exponential(SECOND, 2, high), Some("cap"));
        check(Backoff::fixed(MILLI), None);
        check(Backoff::fixed(WAIT_MAX), None);
        check(Backoff::fixed(low), Some("wait"));
        check(Backoff::fixed(high), Some("wait"));
    }

    /// Retries that are not put off, of `asked`.
    fn granted(budget: &mut RetryBudget, asked: u32, now: Instant) -> usize {
        (0..asked).filter(|_| budget.retry(now)).count()
    }

    #[test]
    fn retries_beyond_a_fifth_of_the_first_attempts_wait_twice_as_long() {
        let now = Instant::now();
        let mut budget = RetryBudget::new(now);
        for _ in 0..1_000 {
            budget.first_attempt(now);
        }
        assert_eq!(granted(&mut budget, 200, now), 200);
        assert!(!budget.retry(now));
    }

    #[test]
    fn ten_retries_in_a_minute_are_always_in_the_budget() {
        let now = Instant::now();
        let mut budget = RetryBudget::new(now);
        assert_eq!(granted(&mut budget, 11, now), 10);
    }

    #[test]
    fn what_is_older_than_a_minute_is_forgotten() {
        let now = Instant::now();
        let mut budget = RetryBudget::new(now);
        assert_eq!(granted(&mut budget, 20, now), 10);
        assert!(!budget.has_left(now + 59 * SECOND));
        assert!(budget.has_left(now + 60 * SECOND));
        assert_eq!(granted(&mut budget, 20, now + DAY), 10);
    }

    #[test]
    fn the_minute_slides() {
        let began = Instant::now();
        let mut budget = RetryBudget::new(began);
        for second in 0..600 {
            let now = began + second * SECOND;
            for _ in 0..10 {
                budget.first_attempt(now);
            }
            let _within = budget.retry(now);
            assert!(budget.past.len() < SLICES);
            assert!(budget.has_left(now), "one in ten is within, at second {second}");
        }
    }
}

//! How fast jobs come and go, from counters that only rise.

use std::time::Duration;

use super::Reading;

/// Two readings closer than this say nothing of a rate: one job would be a hundred a second.
const CLOSEST: Duration = Duration::from_millis(10);

/// How much of what was learnt before a long idle time is kept against what comes after it.
const FLOOR: f64 = 0.25;

/// Jobs a second that count as none at all, so that nothing is divided by zero.
const NEARLY_NONE: f64 = 1e-6;

/// The rates of arrival, of service, and of failure.
#[derive(Debug, Clone)]
pub(super) struct Rates {
    memory: Duration,
    /// A pause longer than this proves nothing of what was possible in it.
    gap: Duration,
    last: Option<Sample>,
    arriving: Average,
    held_back: Average,
    draining: Average,
    failing: Average,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Duration,
    enqueued: u64,
    held_back: u64,
    finished: u64,
    failed: u64,
    waiting: bool,
}

impl Rates {
    pub(super) fn new(memory: Duration, gap: Duration) -> Self {
        let [arriving, held_back, draining, failing] = [Average::default(); 4];
        Self { memory, gap, last: None, arriving, held_back, draining, failing }
    }

    /// Takes a reading in. A counter that fell was reset, and says nothing this time.
    pub(super) fn put(&mut self, reading: &Reading) {
        let now = Sample {
            at: reading.at,
            enqueued: reading.enqueued,
            held_back: reading.held_back,
            finished: reading.finished,
            failed: reading.failed,
            waiting: reading.waiting() > 0 && !reading.paused,
        };
        let Some(last) = self.last else {
            self.last = Some(now);
            return;
        };
        let passed = now.at.saturating_sub(last.at);
        if passed < CLOSEST {
            return;
        }
        self.last = Some(now);
        let seconds = passed.as_secs_f64();
        let keep = (-seconds / self.memory.as_secs_f64()).exp();
        let rate = |after: u64, before: u64| Some(after.checked_sub(before)? as f64 / seconds);
        self.arriving.put(keep, rate(now.enqueued, last.enqueued));
        self.held_back.put(keep, rate(now.held_back, last.held_back));
        self.failing.put(keep, rate(now.failed, last.failed));
        let busy = last.waiting && now.waiting && passed <= self.gap;
        self.put_service(keep, rate(now.finished, last.finished), busy);
    }

    /// While work waits, what is done is what can be done. While none does it is a lower bound
    /// of that: an idle queue is not a slow one.
    fn put_service(&mut self, keep: f64, rate: Option<f64>, busy: bool) {
        let known = self.draining.value().unwrap_or(0.0);
        self.draining.put(keep, rate.filter(|rate| busy || *rate > known));
    }

    /// Arrivals in a second.
    pub(super) fn arriving(&self) -> f64 {
        self.arriving.value().unwrap_or(0.0)
    }

    /// What would arrive in a second if no ramp held anything back.
    pub(super) fn offered(&self) -> f64 {
        self.arriving() + self.held_back.value().unwrap_or(0.0)
    }

    /// Failed runs in a second.
    pub(super) fn failing(&self) -> f64 {
        self.failing.value().unwrap_or(0.0)
    }

    /// Jobs that can be done in a second, above zero; `None` before any was.
    pub(super) fn draining(&self) -> Option<f64> {
        let known = self.draining.ever;
        known.then(|| self.draining.value().unwrap_or(0.0).max(NEARLY_NONE))
    }
}

/// An exponential average whose first values count in full, and which remembers over pauses.
#[derive(Debug, Clone, Copy, Default)]
struct Average {
    sum: f64,
    weight: f64,
    /// Whether any value was above zero.
    ever: bool,
}

impl Average {
    fn put(&mut self, keep: f64, value: Option<f64>) {
        if self.weight > FLOOR {
            let kept = keep.max(FLOOR / self.weight);
            self.sum *= kept;
            self.weight *= kept;
        }
        if let Some(value) = value {
            self.sum += value * (1.0 - keep);
            self.weight += 1.0 - keep;
            self.ever |= value > 0.0;
        }
    }

    fn value(&self) -> Option<f64> {
        (self.weight > 0.0).then(|| self.sum / self.weight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates() -> Rates {
        Rates::new(Duration::from_secs(10), Duration::from_secs(10))
    }

    fn reading(ms: u64, enqueued: u64, finished: u64, waiting: u64) -> Reading {
        let at = Duration::from_millis(ms);
        Reading { at, enqueued, finished, ready: [0, waiting, 0, 0], ..Reading::default() }
    }

    #[track_caller]
    fn check(found: f64, expect: f64) {
        assert!((found - expect).abs() <= expect * 0.05 + 1e-9, "{found} for {expect}");
    }

    #[test]
    fn the_first_rate_counts_in_full() {
        let mut rates = rates();
        rates.put(&reading(0, 1_000, 500, 9));
        assert_eq!((rates.arriving(), rates.draining()), (0.0, None));
        rates.put(&reading(1_000, 1_050, 520, 9));
        check(rates.arriving(), 50.0);
        check(rates.draining().unwrap(), 20.0);
    }

    #[test]
    fn a_new_pace_has_come_through_to_63_percent_after_the_memory() {
        let mut rates = rates();
        let (mut enqueued, mut finished) = (0, 0);
        for second in 0..=110 {
            let pace = if second <= 100 { 100 } else { 200 };
            (enqueued, finished) = (enqueued + pace, finished + pace);
            rates.put(&reading(second * 1_000, enqueued, finished, 9));
        }
        check(rates.arriving(), 163.2);
        check(rates.draining().unwrap(), 163.2);
    }

    #[test]
    fn an_idle_hour_does_not_make_the_queue_slow() {
        let mut rates = rates();
        for second in 0..3_600 {
            let finished = if second < 20 { second * 80 } else { 20 * 80 };
            rates.put(&reading(second * 1_000, 0, finished, u64::from(second < 20)));
        }
        check(rates.draining().unwrap(), 80.0);
        check(rates.arriving(), 0.0);
    }

    #[test]
    fn after_an_idle_hour_a_slow_queue_is_seen_within_the_memory() {
        let mut rates = rates();
        rates.put(&reading(0, 0, 0, 9));
        rates.put(&reading(1_000, 0, 100, 9));
        for second in 3_600..=3_620 {
            rates.put(&reading(second * 1_000, 0, 100 + (second - 3_600) * 10, 9));
        }
        let found = rates.draining().unwrap();
        assert!((10.0..15.0).contains(&found), "{found}");
    }

    #[test]
    fn stuck_workers_are_slow_and_not_unknown() {
        let mut rates = rates();
        for second in 0..100_000 {
            rates.put(&reading(second * 1_000, 0, 50.min(second * 50), 9));
        }
        assert_eq!(rates.draining(), Some(NEARLY_NONE));
    }

    #[test]
    fn a_counter_that_fell_says_nothing_that_once() {
        let mut rates = rates();
        rates.put(&reading(0, 1_000_000, 0, 9));
        rates.put(&reading(1_000, 1_000_010, 10, 9));
        rates.put(&reading(2_000, 3, 20, 9));
        check(rates.arriving(), 10.0);
        rates.put(&reading(3_000, 13, 30, 9));
        check(rates.arriving(), 10.0);
        check(rates.draining().unwrap(), 10.0);
    }

    #[test]
    fn readings_at_the_same_moment_are_one() {
        let mut rates = rates();
        rates.put(&reading(0, 0, 0, 9));
        rates.put(&reading(1_000, 10, 10, 9));
        rates.put(&reading(1_001, 90, 90, 9));
        rates.put(&reading(1_001, 91, 91, 9));
        check(rates.arriving(), 10.0);
    }
}

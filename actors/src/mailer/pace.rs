//! How fast a provider is asked: a token bucket that learns from what the provider says.
//! Pure: the time comes in.

use std::time::Duration;

use tokio::time::Instant;

use super::provider::RateHint;

/// LIMIT: nobody is believed who says longer than this.
const REST_MAX: Duration = Duration::from_secs(24 * 3600);
/// The rest when a provider says that it is too much and not until when: of a rate, of a quota.
const REST_RATE: Duration = Duration::from_secs(1);
const REST_QUOTA: Duration = Duration::from_secs(900);

/// Which requests may leave now. The bucket is kept as a time: GCRA, the virtual scheduling
/// algorithm of ITU-T I.371.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    /// Between two requests; zero: no limit.
    every: Duration,
    /// How far ahead of their pace requests may be.
    tolerance: Duration,
    /// When the next request would be due at this pace.
    due: Option<Instant>,
    /// No request before this.
    rests_until: Option<Instant>,
}

impl Pace {
    /// `per_second` requests in the long run, and a second's worth at once. `None`: no limit.
    pub(super) fn new(per_second: Option<u32>) -> Self {
        let every = per_second.map_or(Duration::ZERO, |rate| Duration::from_secs(1) / rate.max(1));
        let tolerance = Duration::from_secs(1).saturating_sub(every);
        Self { every, tolerance, due: None, rests_until: None }
    }

    /// Takes the right to send one request, or says how long there is none.
    pub(super) fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let rest = self.rests_until.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        let due = self.due.map_or(now, |due| due.max(now));
        let early = (due - now).saturating_sub(self.tolerance).max(rest);
        if !early.is_zero() {
            return Err(early);
        }
        self.due = Some(due + self.every);
        Ok(())
    }

    /// The provider takes no more for now.
    pub(super) fn throttled(&mut self, wait: Option<Duration>, quota: bool, now: Instant) {
        let usual = if quota { REST_QUOTA } else { REST_RATE };
        self.rest(wait.unwrap_or(usual), now);
    }

    /// The provider says what is left.
    pub(super) fn learn(&mut self, hint: RateHint, now: Instant) {
        if let (Some(0), Some(reset)) = (hint.remaining, hint.reset_after) {
            self.rest(reset, now);
        }
    }

    fn rest(&mut self, wait: Duration, now: Instant) {
        let until = now + wait.min(REST_MAX);
        self.rests_until = Some(self.rests_until.map_or(until, |known| known.max(until)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_seconds_worth_leaves_at_once_and_then_one_at_a_time() {
        let (mut pace, now) = (Pace::new(Some(10)), Instant::now());
        for _ in 0..10 {
            assert_eq!(pace.take(now), Ok(()));
        }
        assert_eq!(pace.take(now), Err(SECOND / 10));
        assert_eq!(pace.take(now + SECOND / 10), Ok(()));
        assert_eq!(pace.take(now + SECOND / 10), Err(SECOND / 10));
    }

    #[test]
    fn without_a_limit_nothing_waits() {
        let (mut pace, now) = (Pace::new(None), Instant::now());
        assert!((0..10_000).all(|_| pace.take(now) == Ok(())));
    }

    #[test]
    fn a_throttled_provider_is_left_alone_for_as_long_as_it_says() {
        let (mut pace, now) = (Pace::new(None), Instant::now());
        pace.throttled(Some(7 * SECOND), false, now);
        pace.throttled(Some(SECOND), false, now);
        assert_eq!(pace.take(now), Err(7 * SECOND));
        assert_eq!(pace.take(now + 7 * SECOND), Ok(()));
        pace.throttled(None, true, now);
        assert_eq!(pace.take(now), Err(REST_QUOTA));
        pace.throttled(Some(1000 * REST_MAX), true, now);
        assert_eq!(pace.take(now), Err(REST_MAX));
    }

    #[test]
    fn an_empty_window_is_waited_for() {
        let (mut pace, now) = (Pace::new(None), Instant::now());
        let hint = RateHint { limit: Some(10), remaining: Some(1), reset_after: Some(SECOND) };
        pace.learn(hint, now);
        assert_eq!(pace.take(now), Ok(()));
        pace.learn(RateHint { remaining: Some(0), ..hint }, now);
        assert_eq!(pace.take(now), Err(SECOND));
    }
}

//! How many requests are served at a time, how many wait, and how many one client may send.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::duration;
use crate::edge::limits::{InvalidLimit, count, time};

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// How many requests are served at a time, how many wait, and how many one client may send.
///
/// All of it is off by default: what a service can serve at a time nobody but its owner knows,
/// and a stream of events, which lasts for hours, would hold a place all the time.
///
/// ```
/// use std::time::Duration;
/// use steadfast::edge::AdmissionLimits;
///
/// let mut limits = AdmissionLimits::default();
/// limits.limit = 200;
/// limits.target_p95 = Duration::from_millis(250);
/// limits.rate.per_second = 50;
/// limits.check()?;
/// # Ok::<_, steadfast::edge::InvalidLimit>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct AdmissionLimits {
    /// Requests that are served at a time, from their head to the end of their response, over all
    /// workers. Default 0, which turns it off; up to 1000000. Too low leaves the machine idle, too
    /// high lets requests slow each other down until none is in time.
    pub limit: usize,
    /// What 95 of 100 requests should be answered in, from admission to the head of the response.
    /// Above it the limit is lowered, below it it is raised. Default `0ms`, which keeps the limit
    /// as it is; up to `1h`. It is a goal of yours and not what was measured in better times:
    /// such a measure drifts.
    #[serde(with = "duration")]
    pub target_p95: Duration,
    /// The lowest limit that a `target_p95` leads to. Default 8; 1 to `max`.
    pub min: usize,
    /// The highest limit that a `target_p95` leads to. Default 1024; up to 1000000.
    pub max: usize,
    /// Those that wait for a place.
    pub queue: QueueLimits,
    /// What one client may send.
    pub rate: RateLimits,
}

impl Default for AdmissionLimits {
    fn default() -> Self {
        Self {
            limit: 0,
            target_p95: Duration::ZERO,
            min: 8,
            max: 1024,
            queue: QueueLimits::default(),
            rate: RateLimits::default(),
        }
    }
}

/// Requests that wait for a place.
///
/// A class of requests that has waited for longer than `target` during a whole `interval` has
/// more than a burst: from then on, until none of it waits, those that waited for longer than
/// `target` are refused, and the newest comes first. So none waits longer than both together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct QueueLimits {
    /// How many may wait. Default 512; 0 to 100000. One more is refused, or pushes out one of a
    /// lower class.
    pub max: usize,
    /// Default `5ms`; `1ms` to `10s`. Too low refuses what could have been served: it should not
    /// be less than it takes until the next place is free.
    #[serde(with = "duration")]
    pub target: Duration,
    /// Default `100ms`; `target` to `1m`. Too low refuses bursts, too high lets a queue stand.
    #[serde(with = "duration")]
    pub interval: Duration,
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self { max: 512, target: ms(5), interval: ms(100) }
    }
}

/// What one client may send: an address, or a network of addresses by the prefixes of
/// [`ConnectionLimits`](crate::edge::ConnectionLimits).
///
/// Behind proxies that are [trusted](crate::edge::ConnectionLimits::trusted), the client is the
/// last address in `X-Forwarded-For` that is not one of them; a trusted address itself has no
/// limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct RateLimits {
    /// Requests per second, in the long run. Default 0, which turns it off; up to 1000000.
    pub per_second: u32,
    /// Requests that may come at once after a pause. Default 100; 1 to 1000000. Too low refuses
    /// browsers, which fetch many things at once.
    pub burst: u32,
    /// Clients that are remembered. Default 20000, which are about 2 MB; 16 to 1000000. One more makes
    /// the one forgotten that was silent for longest.
    pub clients: usize,
}

impl Default for RateLimits {
    fn default() -> Self {
        Self { per_second: 0, burst: 100, clients: 20_000 }
    }
}

const MILLION: usize = 1_000_000;

impl AdmissionLimits {
    /// Checks each limit against its range, and against the others.
    ///
    /// # Errors
    ///
    /// [`InvalidLimit`] names the first that is wrong.
    pub fn check(&self) -> Result<(), InvalidLimit> {
        let Self { limit, target_p95, min, max, queue, rate } = self;
        count("admission.max", *max, 1..=MILLION)?;
        count("admission.min", *min, 1..=*max)?;
        time("admission.target_p95", *target_p95, Duration::ZERO..=ms(3_600_000))?;
        let limits = if self.is_adaptive() { *min..=*max } else { 0..=MILLION };
        count("admission.limit", *limit, limits)?;
        count("admission.queue.max", queue.max, 0..=100_000)?;
        time("admission.queue.target", queue.target, ms(1)..=ms(10_000))?;
        time("admission.queue.interval", queue.interval, queue.target..=ms(60_000))?;
        count("admission.rate.per_second", rate.per_second, 0..=1_000_000)?;
        count("admission.rate.burst", rate.burst, 1..=1_000_000)?;
        count("admission.rate.clients", rate.clients, 16..=MILLION)
    }

    pub(super) const fn is_adaptive(&self) -> bool {
        !self.target_p95.is_zero()
    }
}

/// The range of each limit in words. A test keeps it complete.
pub(in crate::edge) fn expected(limit: &str) -> &'static str {
    match limit {
        "admission.limit" => {
            "a whole number from 0 to 1000000; with a target_p95, from admission.min to admission.max"
        }
        "admission.target_p95" => "a duration from 0ms to 1h",
        "admission.min" => "a whole number from 1 to admission.max",
        "admission.max" => "a whole number from 1 to 1000000",
        "admission.queue.max" => "a whole number from 0 to 100000",
        "admission.queue.target" => "a duration from 1ms to 10s",
        "admission.queue.interval" => "a duration from admission.queue.target to 1m",
        "admission.rate.per_second" => "a whole number from 0 to 1000000",
        "admission.rate.burst" => "a whole number from 1 to 1000000",
        "admission.rate.clients" => "a whole number from 16 to 1000000",
        _ => "a section of settings",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Set = fn(&mut AdmissionLimits);

    #[track_caller]
    fn check(set: Set, refused: Option<&str>) {
        let mut limits = AdmissionLimits::default();
        set(&mut limits);
        let outcome = limits.check();
        assert_eq!(outcome.as_ref().err().map(|error| error.limit), refused, "{outcome:?}");
    }

    #[test]
    fn the_defaults_are_in_range_and_turn_everything_off() {
        check(|_| {}, None);
        let limits = AdmissionLimits::default();
        assert_eq!((limits.limit, limits.rate.per_second), (0, 0));
        assert!(!limits.is_adaptive());
    }

    #[test]
    fn each_range_holds_at_its_ends_and_not_one_past_them() {
        check(|limits| limits.limit = MILLION, None);
        check(|limits| limits.limit = MILLION + 1, Some("admission.limit"));
        check(|limits| limits.max = MILLION + 1, Some("admission.max"));
        check(|limits| limits.min = 0, Some("admission.min"));
        check(|limits| limits.queue.max = 0, None);
        check(|limits| limits.queue.max = 100_000, None);
        check(|limits| limits.queue.max = 100_001, Some("admission.queue.max"));
        check(|limits| limits.queue.target = ms(1), None);
        check(|limits| limits.queue.target = Duration::ZERO, Some("admission.queue.target"));
        check(|limits| limits.queue.interval = ms(60_001), Some("admission.queue.interval"));
        check(|limits| limits.rate.per_second = 1_000_000, None);
        check(|limits| limits.rate.per_second = 1_000_001, Some("admission.rate.per_second"));
        check(|limits| limits.rate.burst = 1, None);
        check(|limits| limits.rate.burst = 0, Some("admission.rate.burst"));
        check(|limits| limits.rate.clients = 16, None);
        check(|limits| limits.rate.clients = 15, Some("admission.rate.clients"));
    }

    #[test]
    fn limits_that_contradict_each_other_are_refused_by_name() {
        check(|limits| limits.min = 1025, Some("admission.min"));
        check(|limits| limits.queue.interval = ms(4), Some("admission.queue.interval"));
        check(|limits| (limits.limit, limits.target_p95) = (7, ms(100)), Some("admission.limit"));
        check(|limits| (limits.limit, limits.target_p95) = (8, ms(100)), None);
        check(
            |limits| (limits.limit, limits.target_p95) = (1025, ms(100)),
            Some("admission.limit"),
        );
        check(|limits| limits.target_p95 = ms(100), Some("admission.limit"));
    }
}

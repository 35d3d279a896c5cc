//! The breaker's time: monotonic nanoseconds from the cheapest source that fits.
//!
//! The wall clock is never read, so a clock step neither lengthens nor shortens a pause.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Where a breaker reads the time. Cheap to clone; clones agree.
#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    Counter { clock: quanta::Clock, origin: u64 },
    Tokio { origin: Instant },
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// The processor's time-stamp counter where it is steady, else the system's
    /// monotonic clock. The default. The first one in a process is calibrated, which blocks
    /// for up to 200 ms: build breakers at start-up.
    #[must_use]
    pub fn fast() -> Self {
        let clock = quanta::Clock::new();
        let origin = clock.raw();
        Self(Source::Counter { clock, origin })
    }

    /// Tokio's clock: slower to read, and it follows `tokio::time::pause`.
    #[must_use]
    pub fn tokio() -> Self {
        Self(Source::Tokio { origin: Instant::now() })
    }

    /// A clock that stands still until the [`ManualClock`] moves it, for tests.
    #[must_use]
    pub fn manual() -> (Self, ManualClock) {
        let nanos = Arc::new(AtomicU64::new(0));
        (Self(Source::Manual(Arc::clone(&nanos))), ManualClock(nanos))
    }

    /// Nanoseconds since this clock was made.
    #[inline]
    pub(super) fn nanos(&self) -> u64 {
        match &self.0 {
            Source::Counter { clock, origin } => clock.delta_as_nanos(*origin, clock.raw()),
            Source::Tokio { origin } => nanos(origin.elapsed()),
            Source::Manual(nanos) => nanos.load(Ordering::Acquire),
        }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::fast()
    }
}

/// Moves the [`Clock`] it was made with. Clones move the same clock.
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// Moves the clock forward; it cannot go back.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(nanos(by), Ordering::AcqRel);
    }
}

/// A duration in whole nanoseconds; more than 584 years is cut to that.
pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A duration in milliseconds, rounded up: a wait is never shorter than was asked.
pub(super) fn millis_up(duration: Duration) -> u64 {
    nanos(duration).div_ceil(NANOS_PER_MILLI)
}

pub(super) const NANOS_PER_MILLI: u64 = 1_000_000;

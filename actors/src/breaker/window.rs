//! The window of the last calls: ten time buckets, striped over threads.
//!
//! Recording is one atomic addition; reading sums all buckets. Nothing here is a lock.
//!
//! Tolerated, because each shifts a rate by no more than one call per thread: a recorder
//! that was pre-empted before its addition may add to the bucket's next turn, or to a
//! window that has been cleared since.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_utils::CachePadded;

use super::{clock, lanes};

pub(super) const BUCKETS: usize = 10;
const BUCKETS_LONG: u64 = BUCKETS as u64;

// A bucket: `tick:28 | total:18 | part:18`.
const TICK_SHIFT: u32 = 36;
// LIMIT: ticks repeat after 8.5 years of the default buckets, and 31 days of the shortest.
// Then a bucket that no call has touched since would be counted once more.
const TICK_MASK: u64 = (1 << 28) - 1;
const TOTAL_SHIFT: u32 = 18;
const FIELD_MASK: u64 = (1 << 18) - 1;
const ONE_CALL: u64 = 1 << TOTAL_SHIFT;
/// LIMIT: leaves room for 64 threads between the check and the addition.
const FULL: u64 = FIELD_MASK - 64;

/// What one call adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) failed: bool,
    pub(super) slow: bool,
}

/// What the window holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) calls: u64,
    pub(super) failures: u64,
    /// The calls whose time was looked at: all of them if slow calls are tracked, else none.
    pub(super) timed: u64,
    pub(super) slow: u64,
}

#[derive(Debug, Default)]
struct Stripe {
    /// Calls, and the failed part of them.
    calls: [AtomicU64; BUCKETS],
    /// Calls again, and the slow part of them. Apart, so that either pair of counts keeps
    /// its ratio when it is halved; and touched only if slow calls are tracked.
    timed: [AtomicU64; BUCKETS],
    rejected: AtomicU64,
}

#[derive(Debug)]
pub(super) struct Window {
    stripes: Box<[CachePadded<Stripe>]>,
    bucket: Divisor,
    tracks_slow: bool,
}

/// Divides by a number known late. A processor's own division of 64 bits takes about as
/// long as all the rest of recording a call.
#[derive(Debug)]
struct Divisor {
    by: u64,
    /// 2⁶⁴ / `by`, rounded down.
    inverse: u64,
}

impl Divisor {
    /// `by` must be 2 or more; a bucket has millions of nanoseconds.
    fn new(by: u64) -> Self {
        let inverse = (1_u128 << 64) / u128::from(by);
        Self { by, inverse: u64::try_from(inverse).unwrap_or(u64::MAX) }
    }

    #[inline]
    const fn divide(&self, value: u64) -> u64 {
        let product = value as u128 * self.inverse as u128;
        let low = (product >> 64) as u64;
        // `inverse` is too small by less than 1, so `low` is right or too small by 1.
        if value - low * self.by >= self.by { low + 1 } else { low }
    }
}

impl Window {
    pub(super) fn new(length: Duration, tracks_slow: bool) -> Self {
        Self {
            stripes: (0..lanes::count()).map(|_| CachePadded::default()).collect(),
            bucket: Divisor::new(clock::nanos(length) / BUCKETS_LONG),
            tracks_slow,
        }
    }

    #[inline]
    pub(super) fn record(&self, now_ns: u64, sample: Sample) {
        let tick = self.bucket.divide(now_ns);
        let Some(stripe) = self.stripe() else { return };
        if let Some(bucket) = stripe.calls.get(slot(tick)) {
            add(bucket, tick & TICK_MASK, ONE_CALL + u64::from(sample.failed));
        }
        if self.tracks_slow
            && let Some(bucket) = stripe.timed.get(slot(tick))
        {
            add(bucket, tick & TICK_MASK, ONE_CALL + u64::from(sample.slow));
        }
    }

    #[inline]
    pub(super) fn record_rejected(&self) {
        if let Some(stripe) = self.stripe() {
            stripe.rejected.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The calls of the last ten ticks, the current one included.
    pub(super) fn sum(&self, now_ns: u64) -> Counts {
        let tick = self.bucket.divide(now_ns) & TICK_MASK;
        let mut counts = Counts::default();
        for stripe in &self.stripes {
            (counts.calls, counts.failures) =
                sum(&stripe.calls, tick, counts.calls, counts.failures);
            if self.tracks_slow {
                (counts.timed, counts.slow) = sum(&stripe.timed, tick, counts.timed, counts.slow);
            }
        }
        counts
    }

    pub(super) fn rejected(&self) -> u64 {
        self.stripes.iter().map(|stripe| stripe.rejected.load(Ordering::Relaxed)).sum()
    }

    /// Forgets all calls, but not how many were rejected.
    pub(super) fn clear(&self) {
        for stripe in &self.stripes {
            for bucket in stripe.calls.iter().chain(&stripe.timed) {
                bucket.store(0, Ordering::Relaxed);
            }
        }
    }

    #[inline]
    fn stripe(&self) -> Option<&Stripe> {
        self.stripes.get(lanes::thread_number() & (self.stripes.len() - 1)).map(|padded| &**padded)
    }
}

#[inline]
const fn slot(tick: u64) -> usize {
    (tick % BUCKETS_LONG) as usize
}

/// Adds to the bucket of `tick`, emptying it first if it is of an earlier turn.
#[inline]
fn add(bucket: &AtomicU64, tick: u64, delta: u64) {
    let mut seen = bucket.load(Ordering::Relaxed);
    loop {
        // Another thread may have read the clock later: its bucket is never moved back.
        // Anything further ahead is not ahead but older than the tick's own range.
        let ahead = (seen >> TICK_SHIFT).wrapping_sub(tick) & TICK_MASK;
        let this_turn = ahead <= BUCKETS_LONG;
        if this_turn && seen >> TOTAL_SHIFT & FIELD_MASK < FULL {
            bucket.fetch_add(delta, Ordering::Relaxed);
            return;
        }
        let fresh = if this_turn { halved(seen) } else { tick << TICK_SHIFT };
        match bucket.compare_exchange_weak(
            seen,
            fresh + delta,
            Ordering::Relaxed,
            Ordering::Relaxed,
        ) {
            Ok(_) => return,
            Err(now) => seen = now,
        }
    }
}

/// A full bucket goes on with half its weight: the rate stays, the count is then too low.
const fn halved(word: u64) -> u64 {
    let total = (word >> TOTAL_SHIFT & FIELD_MASK) / 2;
    word >> TICK_SHIFT << TICK_SHIFT | total << TOTAL_SHIFT | ((word & FIELD_MASK) / 2)
}

/// The bucket's word if it is of the last ten ticks, or of a clock read later than ours.
fn current(bucket: &AtomicU64, tick: u64) -> u64 {
    let word = bucket.load(Ordering::Relaxed);
    let age = tick.wrapping_sub(word >> TICK_SHIFT) & TICK_MASK;
    let ahead = (word >> TICK_SHIFT).wrapping_sub(tick) & TICK_MASK;
    if age < BUCKETS_LONG || ahead <= BUCKETS_LONG { word } else { 0 }
}

/// Adds the current buckets to a total and its part.
fn sum(buckets: &[AtomicU64], tick: u64, total: u64, part: u64) -> (u64, u64) {
    buckets.iter().map(|bucket| current(bucket, tick)).fold((total, part), |(total, part), word| {
        (total + (word >> TOTAL_SHIFT & FIELD_MASK), part + (word & FIELD_MASK))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Divisor;

    proptest! {
        #[test]
        fn the_divisor_divides(value: u64, by in 2_u64..1 << 40, times in 0_u64..1 << 23) {
            prop_assert_eq!(Divisor::new(by).divide(value), value / by);
            for edge in [(by * times).saturating_sub(1), by * times, by * times + 1] {
                prop_assert_eq!(Divisor::new(by).divide(edge), edge / by);
            }
        }
    }
}

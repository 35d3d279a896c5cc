//! The limit that keeps to a target: additive increase, multiplicative decrease.

use super::limits::AdmissionLimits;

/// LIMIT: a 95th percentile of fewer than 20 means nothing.
pub(super) const SAMPLES_MIN: u64 = 20;

/// What was seen since the limit was judged last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) answers: u64,
    /// Those that took longer than the target.
    pub(super) late: u64,
    /// The most places that were taken at a time.
    pub(super) peak: usize,
}

/// The next limit.
///
/// More than 1 in 20 late means that the 95th percentile is over the target. A limit of which
/// less than half was used did not cause that, and was not tried out either: it stays.
pub(super) fn next(limit: usize, sample: Sample, limits: &AdmissionLimits) -> usize {
    let AdmissionLimits { min, max, .. } = *limits;
    let untried = sample.peak.saturating_mul(2) < limit;
    if untried || sample.answers < SAMPLES_MIN {
        return limit;
    }
    let next = if sample.late.saturating_mul(20) > sample.answers {
        limit - limit.div_ceil(10)
    } else {
        limit.saturating_add((max - min).div_ceil(64))
    };
    next.clamp(min, max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Between 10 and 138: a step up is 2.
    #[track_caller]
    fn check(limit: usize, [answers, late, peak]: [u64; 3], expected: usize) {
        let mut limits = AdmissionLimits::default();
        (limits.min, limits.max) = (10, 138);
        let peak = usize::try_from(peak).unwrap();
        assert_eq!(next(limit, Sample { answers, late, peak }, &limits), expected);
    }

    #[test]
    fn falls_by_a_tenth_when_more_than_one_in_twenty_is_late() {
        check(100, [100, 6, 100], 90);
        check(100, [100, 5, 100], 102);
        check(100, [20, 2, 50], 90);
        check(100, [20, 1, 50], 102);
    }

    #[test]
    fn stays_between_the_lowest_and_the_highest() {
        check(10, [100, 100, 10], 10);
        check(11, [100, 100, 11], 10);
        check(138, [100, 0, 138], 138);
        check(137, [100, 0, 137], 138);
    }

    #[test]
    fn stays_when_less_than_half_of_it_was_used_or_too_little_was_seen() {
        check(100, [100, 100, 49], 100);
        check(100, [100, 0, 49], 100);
        check(100, [19, 19, 100], 100);
    }

    proptest! {
        /// A server that is in time while at most `knee` are served at a time.
        #[test]
        fn settles_around_the_most_that_is_in_time(knee in 20_usize..120, start in 10_usize..138) {
            let mut limits = AdmissionLimits::default();
            (limits.min, limits.max) = (10, 138);
            let mut limit = start;
            for round in 0..200 {
                let late = if limit > knee { 50 } else { 0 };
                limit = next(limit, Sample { answers: 100, late, peak: limit }, &limits);
                if round > 100 {
                    let low = knee - knee.div_ceil(10) - 2;
                    prop_assert!((low..=knee + 2).contains(&limit), "{limit} at {knee}");
                }
            }
        }
    }
}

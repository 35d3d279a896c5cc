//! The extreme of some values over a window of time.

use std::collections::VecDeque;
use std::time::Duration;

/// LIMIT: values kept beside the one that held when the window began. Closer ones are merged.
const KEPT: u32 = 64;

/// The least or greatest of each of `N` values over the last `length`. A value holds until the
/// next one is put in, so that a window without values has the last one before it.
#[derive(Debug, Clone)]
pub(super) struct Window<const N: usize> {
    length: Duration,
    pick: fn(f64, f64) -> f64,
    /// Oldest first; the first held when the window began.
    values: VecDeque<(Duration, [f64; N])>,
}

impl<const N: usize> Window<N> {
    /// The least values; they were 0 before the first reading.
    pub(super) const fn least(length: Duration) -> Self {
        Self { length, pick: f64::min, values: VecDeque::new() }
    }

    /// The greatest values.
    pub(super) const fn greatest(length: Duration) -> Self {
        Self { length, pick: f64::max, values: VecDeque::new() }
    }

    /// Takes values in and answers the extremes. Time never goes back.
    pub(super) fn put(&mut self, at: Duration, values: [f64; N]) -> [f64; N] {
        if self.values.is_empty() {
            self.values.push_back((at, [0.0; N]));
        }
        let pick = self.pick;
        let many = self.values.len() > 1;
        match self.values.back_mut() {
            Some((since, last)) if many && at.saturating_sub(*since) < self.length / KEPT => {
                *last = combine(*last, values, pick);
            }
            Some(_) | None => self.values.push_back((at, values)),
        }
        self.forget(at);
        let kept = self.values.iter().map(|(_, values)| *values);
        kept.reduce(|extreme, values| combine(extreme, values, pick)).unwrap_or(values)
    }

    /// Drops what the one after it has replaced by the time the window began.
    fn forget(&mut self, at: Duration) {
        let replaced = |(since, _): &(Duration, [f64; N])| since.saturating_add(self.length) <= at;
        while self.values.get(1).is_some_and(replaced) {
            self.values.pop_front();
        }
    }
}

fn combine<const N: usize>(
    mut these: [f64; N],
    those: [f64; N],
    pick: fn(f64, f64) -> f64,
) -> [f64; N] {
    for (this, that) in these.iter_mut().zip(those) {
        *this = pick(*this, that);
    }
    these
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_least_is_nothing_until_the_window_is_full() {
        let mut window = Window::least(s(10));
        for at in 0..10 {
            assert_eq!(window.put(s(at), [5.0]), [0.0], "at {at} s");
        }
        assert_eq!(window.put(s(10), [5.0]), [5.0]);
    }

    #[test]
    fn a_value_holds_over_a_gap() {
        let mut window = Window::greatest(s(20));
        window.put(s(0), [3.0]);
        assert_eq!(window.put(s(1_000), [1.0]), [3.0]);
        assert_eq!(window.put(s(1_019), [1.0]), [3.0]);
        assert_eq!(window.put(s(1_020), [1.0]), [1.0]);
    }

    #[test]
    fn many_looks_cost_no_more_than_the_limit() {
        let mut window = Window::greatest(s(1));
        for ms in 0..10_000 {
            window.put(Duration::from_millis(ms), [0.5]);
            assert!(window.values.len() <= 66, "{} values", window.values.len());
        }
    }
}

//! Which share of a class is held back: a threshold among cohorts, moved by a controller.

use std::time::Duration;

/// Into how many cohorts tenants are divided, as Cinnamon and DAGOR do.
pub(super) const COHORTS: u8 = 128;
const ALL: f64 = 128.0;

/// At this drain target the gains are [`PROPORTIONAL`] and [`INTEGRAL`].
const REFERENCE_SECONDS: f64 = 60.0;
/// Cohorts for each 1.0 of pressure too much: all of them at 1.5, where [`Level::Critical`]
/// begins.
///
/// [`Level::Critical`]: super::Level::Critical
const PROPORTIONAL: f64 = 256.0;
/// Cohorts for each 1.0 of pressure too much and second.
const INTEGRAL: f64 = 4.0;

/// LIMIT: the time one step may account for, so that a pause does not throw it to an end.
const STEP_MAX: Duration = Duration::from_secs(5);

/// A PI controller with a threshold among [`COHORTS`].
///
/// The backlog is an integrator: with inflow ρ times the service rate and a share u/128 of it
/// held back, pressure moves by (ρ(1 − u/128) − 1)/T a second, T the target. With P = 256 and
/// I = 240/T the loop is damped by 0.73·√ρ whatever T is; under a minute P and I fall with T, so
/// that the loop stays slower than its signals.
#[derive(Debug, Clone)]
pub(super) struct Ramp {
    proportional: f64,
    integral: f64,
    held: f64,
}

impl Ramp {
    /// For a class with this drain target.
    pub(super) fn new(target: Duration) -> Self {
        let scale = target.as_secs_f64() / REFERENCE_SECONDS;
        let proportional = PROPORTIONAL * scale.min(1.0);
        let integral = INTEGRAL * scale.min(scale.recip());
        Self { proportional, integral, held: 0.0 }
    }

    /// Holds everything back from now on, until a step says otherwise.
    pub(super) const fn fill(&mut self) {
        self.held = ALL;
    }

    /// Holds nothing back from now on, until a step says otherwise.
    pub(super) const fn clear(&mut self) {
        self.held = 0.0;
    }

    /// Whether it has not yet found that nothing need be held back, though it may let all pass
    /// for now.
    pub(super) const fn holds(&self) -> bool {
        self.held > 0.0
    }

    /// The threshold after `passed` with this pressure: cohorts below it are held back.
    pub(super) fn step(&mut self, pressure: f64, passed: Duration) -> u8 {
        let error = (pressure - 1.0).clamp(-1.0, 1.0);
        let grown = self.integral * error * passed.min(STEP_MAX).as_secs_f64();
        self.held = (self.held + grown).clamp(0.0, ALL);
        threshold(self.proportional.mul_add(error, self.held))
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the value is clamped to 0..=128"
)]
fn threshold(value: f64) -> u8 {
    value.clamp(0.0, ALL).round() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_threshold_stays_within_its_ends_and_turns_at_once() {
        let mut ramp = Ramp::new(60 * SECOND);
        for _ in 0..1_000 {
            assert!(ramp.step(9.0, 100 * SECOND) <= COHORTS);
        }
        assert!(ramp.step(0.9, SECOND) < COHORTS, "wound up");
        for _ in 0..1_000 {
            ramp.step(0.0, 100 * SECOND);
        }
        assert_eq!(ramp.step(0.0, SECOND), 0);
        assert!(ramp.step(1.1, SECOND) > 0, "wound up");
    }

    #[test]
    fn it_settles_where_inflow_meets_service_whatever_the_target() {
        for target in [5, 15, 60, 300] {
            for load in [1.2, 2.0, 5.0] {
                let (found, expect) = settle(f64::from(target), load);
                assert!((found - expect).abs() < 6.0, "{target} s, {load}: {found} for {expect}");
            }
        }
    }

    /// The threshold after a long time, and the one at which nothing moves any more.
    fn settle(target: f64, load: f64) -> (f64, f64) {
        let mut ramp = Ramp::new(Duration::from_secs_f64(target));
        let (mut pressure, mut held) = (1.0_f64, 0.0);
        for _ in 0..40_000 {
            held = f64::from(ramp.step(pressure, SECOND / 4));
            let inflow = load * (1.0 - held / ALL);
            pressure = (pressure + (inflow - 1.0) / target / 4.0).max(0.0);
        }
        (held, ALL * (1.0 - load.recip()))
    }
}

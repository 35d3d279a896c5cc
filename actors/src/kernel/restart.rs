//! When a failed actor is rebuilt, and when it has failed too often. Pure: time and
//! chance come in, a decision goes out.
//!
//! ```text
//!            failure                 within the intensity
//! Running ───────────► count it ───────────────────────► Rebuild after a back-off
//!                          │ more than `max` in `within`
//!                          └────────────────────────────► Quarantine │ Escalate │ Stop
//! ```

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// Which endings of an actor are followed by a rebuild (the words are Erlang/OTP's).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Restart {
    /// After every ending, `ctx.stop()` included. The default.
    #[default]
    Permanent,
    /// After a failure; a normal stop is final.
    Transient,
    /// Never.
    Temporary,
}

/// What happens to an actor that failed too often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exhausted {
    /// It rests for the cool-down, refusing its messages, and is then rebuilt. For
    /// whatever stands for a dependency: it fails on its own and comes back on its own.
    Quarantine {
        /// How long it rests.
        cooldown: Duration,
    },
    /// Its group fails with it, as one failure of the group's supervisor. For what the
    /// service cannot do without.
    Escalate,
    /// It stops for good.
    Stop,
}

impl Default for Exhausted {
    fn default() -> Self {
        Self::Quarantine { cooldown: Duration::from_secs(30) }
    }
}

/// The pause before a rebuild: exponential with full jitter.
///
/// The pause before try *n* is drawn evenly from zero to `min(max, min × factor^n)`.
/// Source: M. Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    /// Upper end of the first pause. Default 50 ms.
    pub min: Duration,
    /// Upper end of every pause. Default 10 s.
    pub max: Duration,
    /// How much the upper end grows per failure. Default 2; values below 1 count as 1.
    pub factor: f64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { min: Duration::from_millis(50), max: Duration::from_secs(10), factor: 2.0 }
    }
}

impl Backoff {
    /// No pause at all.
    pub const NONE: Self = Self { min: Duration::ZERO, max: Duration::ZERO, factor: 1.0 };

    /// The pause before try `attempt`, counted from 0; `chance` is in `0.0..=1.0`.
    #[must_use]
    pub fn pause(&self, attempt: u32, chance: f64) -> Duration {
        if self.min.is_zero() {
            return Duration::ZERO;
        }
        let growth = self.factor.max(1.0).powi(i32::try_from(attempt).unwrap_or(i32::MAX));
        let ceiling = (self.min.as_secs_f64() * growth).min(self.max.as_secs_f64());
        Duration::try_from_secs_f64(ceiling * chance.clamp(0.0, 1.0)).unwrap_or(self.max)
    }
}

/// How one actor is supervised. Every part has a default.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Policy {
    pub(crate) restart: Restart,
    pub(crate) max_restarts: u32,
    pub(crate) within: Duration,
    pub(crate) backoff: Backoff,
    pub(crate) healthy_after: Duration,
    pub(crate) exhausted: Exhausted,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            restart: Restart::default(),
            max_restarts: 5,
            within: Duration::from_secs(30),
            backoff: Backoff::default(),
            healthy_after: Duration::from_secs(30),
            exhausted: Exhausted::default(),
        }
    }
}

/// How an incarnation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It panicked, could not be built, or said it failed.
    Failed,
    /// It called `stop()`.
    Stopped,
}

/// What to do about an ending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    Rebuild { after: Duration },
    Quarantine { cooldown: Duration },
    Escalate,
    Stop,
}

/// The failures of one actor, over all its incarnations.
#[derive(Debug)]
pub(crate) struct Strikes {
    policy: Policy,
    /// LIMIT: at most `max_restarts + 1` entries; older ones have left the window.
    recent: VecDeque<Instant>,
    attempt: u32,
    running_since: Option<Instant>,
}

impl Strikes {
    pub(crate) const fn new(policy: Policy) -> Self {
        Self { policy, recent: VecDeque::new(), attempt: 0, running_since: None }
    }

    /// An incarnation is up: built, and its `started` returned.
    pub(crate) const fn started(&mut self, now: Instant) {
        self.running_since = Some(now);
    }

    /// An incarnation ended. `chance` in `0.0..=1.0` places the pause.
    pub(crate) fn ended(&mut self, ending: Ending, now: Instant, chance: f64) -> Decision {
        let up_since = self.running_since.take();
        match (self.policy.restart, ending) {
            (Restart::Temporary, _) | (Restart::Transient, Ending::Stopped) => Decision::Stop,
            (Restart::Permanent, _) | (Restart::Transient, Ending::Failed) => {
                self.strike(up_since, now, chance)
            }
        }
    }

    fn strike(&mut self, up_since: Option<Instant>, now: Instant, chance: f64) -> Decision {
        let healthy = |since| now.saturating_duration_since(since) >= self.policy.healthy_after;
        if up_since.is_some_and(healthy) {
            self.attempt = 0;
        }
        let window = self.policy.within;
        self.recent.retain(|&at| now.saturating_duration_since(at) < window);
        self.recent.push_back(now);
        let allowed = usize::try_from(self.policy.max_restarts).unwrap_or(usize::MAX);
        if self.recent.len() > allowed {
            return self.exhausted();
        }
        let after = self.policy.backoff.pause(self.attempt, chance);
        self.attempt = self.attempt.saturating_add(1);
        Decision::Rebuild { after }
    }

    /// A rest wipes the slate: the next incarnation has the whole intensity again.
    fn exhausted(&mut self) -> Decision {
        self.recent.clear();
        self.attempt = 0;
        match self.policy.exhausted {
            Exhausted::Quarantine { cooldown } => Decision::Quarantine { cooldown },
            Exhausted::Escalate => Decision::Escalate,
            Exhausted::Stop => Decision::Stop,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strikes(policy: Policy) -> Strikes {
        Strikes::new(policy)
    }

    /// Fails at each of `at_ms` and expects the last decision.
    #[track_caller]
    fn check(policy: Policy, at_ms: &[u64], expected: Decision) {
        let start = Instant::now();
        let mut strikes = strikes(policy);
        let mut last = None;
        for &ms in at_ms {
            let now = start + Duration::from_millis(ms);
            last = Some(strikes.ended(Ending::Failed, now, 1.0));
        }
        assert_eq!(last, Some(expected), "after failures at {at_ms:?}");
    }

    fn three_in_ten_seconds() -> Policy {
        Policy {
            max_restarts: 3,
            within: Duration::from_secs(10),
            exhausted: Exhausted::Escalate,
            ..Policy::default()
        }
    }

    fn rebuild(ms: u64) -> Decision {
        Decision::Rebuild { after: Duration::from_millis(ms) }
    }

    #[test]
    fn the_pause_doubles_up_to_its_maximum() {
        let policy = Policy { max_restarts: 100, ..Policy::default() };
        check(policy, &[0], rebuild(50));
        check(policy, &[0, 1], rebuild(100));
        check(policy, &[0, 1, 2], rebuild(200));
        check(policy, &[0; 30], rebuild(10_000));
    }

    #[test]
    fn the_pause_is_anywhere_between_zero_and_its_ceiling() {
        let backoff = Backoff::default();
        assert_eq!(backoff.pause(3, 0.0), Duration::ZERO);
        assert_eq!(backoff.pause(3, 0.5), Duration::from_millis(200));
        assert_eq!(backoff.pause(u32::MAX, 1.0), Duration::from_secs(10));
    }

    #[test]
    fn one_failure_more_than_allowed_in_the_window_exhausts() {
        check(three_in_ten_seconds(), &[0, 1, 2], rebuild(200));
        check(three_in_ten_seconds(), &[0, 1, 2, 3], Decision::Escalate);
    }

    #[test]
    fn the_window_slides() {
        check(three_in_ten_seconds(), &[0, 4_000, 8_000, 9_999], Decision::Escalate);
        check(three_in_ten_seconds(), &[0, 4_000, 8_000, 10_000], rebuild(400));
    }

    #[test]
    fn a_healthy_period_resets_the_pause_but_a_restart_alone_does_not() {
        let start = Instant::now();
        let at = |s: u64| start + Duration::from_secs(s);
        let mut strikes = strikes(Policy::default());
        assert_eq!(strikes.ended(Ending::Failed, at(0), 1.0), rebuild(50));
        strikes.started(at(1));
        assert_eq!(strikes.ended(Ending::Failed, at(2), 1.0), rebuild(100));
        strikes.started(at(3));
        assert_eq!(strikes.ended(Ending::Failed, at(33), 1.0), rebuild(50));
    }

    #[test]
    fn a_rest_gives_the_whole_intensity_back() {
        let policy = Policy {
            exhausted: Exhausted::Quarantine { cooldown: Duration::from_secs(60) },
            ..three_in_ten_seconds()
        };
        check(policy, &[0, 1, 2, 3], Decision::Quarantine { cooldown: Duration::from_secs(60) });
        check(policy, &[0, 1, 2, 3, 4], rebuild(50));
    }

    #[test]
    fn the_restart_kind_decides_which_endings_are_final() {
        let verdict = |restart, ending| {
            let mut strikes = strikes(Policy { restart, ..Policy::default() });
            strikes.ended(ending, Instant::now(), 1.0)
        };
        assert_eq!(verdict(Restart::Permanent, Ending::Stopped), rebuild(50));
        assert_eq!(verdict(Restart::Permanent, Ending::Failed), rebuild(50));
        assert_eq!(verdict(Restart::Transient, Ending::Stopped), Decision::Stop);
        assert_eq!(verdict(Restart::Transient, Ending::Failed), rebuild(50));
        assert_eq!(verdict(Restart::Temporary, Ending::Stopped), Decision::Stop);
        assert_eq!(verdict(Restart::Temporary, Ending::Failed), Decision::Stop);
    }
}

//! Whether one check stands, by its last results. Pure: the time comes in.
//!
//! | standing | a pass | a failure |
//! |---|---|---|
//! | unknown | good | bad |
//! | good | good, failures forgotten | bad at the `fail_after`-th in a row, or at once when the last result is stale |
//! | bad | good at the `recover_after`-th in a row; counted anew when the last result is stale | bad, passes forgotten |
//!
//! A run that could not find out changes nothing.
//!
//! INVARIANT: whatever the standing, a result older than its time to live reads as unknown.

use std::num::NonZeroU32;
use std::time::Duration;

use tokio::time::Instant;

use super::report::Status;

/// How results turn into a standing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hysteresis {
    pub(super) fail_after: NonZeroU32,
    pub(super) recover_after: NonZeroU32,
    pub(super) ttl: Duration,
}

/// What one run found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finding {
    Passed,
    Degraded,
    Failed,
    /// The run could not find out: nothing changes, and the last finding grows older.
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Unknown,
    Good { degraded: bool, failures: u32 },
    Bad { passes: u32 },
}

/// The standing of one check and when it was last confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State {
    standing: Standing,
    heard: Option<Instant>,
}

impl State {
    pub(super) const fn new() -> Self {
        Self { standing: Standing::Unknown, heard: None }
    }

    /// Takes in one result.
    pub(super) fn record(&mut self, finding: Finding, now: Instant, rules: &Hysteresis) {
        let fresh = self.is_fresh(now, rules.ttl);
        self.standing = match finding {
            Finding::Passed => self.passed(false, fresh, rules),
            Finding::Degraded => self.passed(true, fresh, rules),
            Finding::Failed => self.failed(fresh, rules),
            Finding::Unknown => return,
        };
        self.heard = Some(now);
    }

    fn passed(&self, degraded: bool, fresh: bool, rules: &Hysteresis) -> Standing {
        let good = Standing::Good { degraded, failures: 0 };
        match self.standing {
            Standing::Unknown | Standing::Good { .. } => good,
            Standing::Bad { passes } => {
                let passes = if fresh { passes + 1 } else { 1 };
                if passes < rules.recover_after.get() { Standing::Bad { passes } } else { good }
            }
        }
    }

    fn failed(&self, fresh: bool, rules: &Hysteresis) -> Standing {
        match self.standing {
            Standing::Good { degraded, failures } if fresh => {
                let failures = failures + 1;
                if failures < rules.fail_after.get() {
                    Standing::Good { degraded, failures }
                } else {
                    Standing::Bad { passes: 0 }
                }
            }
            Standing::Unknown | Standing::Good { .. } | Standing::Bad { .. } => {
                Standing::Bad { passes: 0 }
            }
        }
    }

    /// What the check counts as at `now`.
    pub(super) fn status(&self, now: Instant, ttl: Duration) -> Status {
        if !self.is_fresh(now, ttl) {
            return Status::Unknown;
        }
        match self.standing {
            Standing::Unknown => Status::Unknown,
            Standing::Good { degraded: false, .. } => Status::Up,
            Standing::Good { degraded: true, .. } => Status::Degraded,
            Standing::Bad { .. } => Status::Down,
        }
    }

    /// Time since the last result, if there ever was one.
    pub(super) fn age(&self, now: Instant) -> Option<Duration> {
        self.heard.map(|heard| now.saturating_duration_since(heard))
    }

    fn is_fresh(&self, now: Instant, ttl: Duration) -> bool {
        self.age(now).is_some_and(|age| age <= ttl)
    }
}

/// The pause before the next run: `every`, moved by up to a tenth either way, so that checks
/// of many processes do not march in step. `chance` is in 0..1.
pub(super) fn jittered(every: Duration, chance: f64) -> Duration {
    every.mul_f64(0.9 + 0.2 * chance.clamp(0.0, 1.0))
}

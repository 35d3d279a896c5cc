//! What is told when the level changes.

use std::time::Duration;

use serde::Serialize;

use super::snapshot::{class_millis, millis, whole_millis};
use super::{GuardSnapshot, Level, PerClass};
use crate::jobs::Class;

/// What pressed most, or that nothing did.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Cause {
    /// The queue holds as many jobs as it may.
    HardLimit {
        /// How many it holds.
        depth: u64,
        /// How many it may.
        limit: u64,
    },
    /// The queue comes near its hard limit.
    Depth {
        /// How many jobs it holds.
        depth: u64,
        /// How many it may.
        limit: u64,
    },
    /// Jobs of a class have waited for too long.
    Age {
        /// The class.
        class: Class,
        /// The age of its oldest job; it was no less over the whole window.
        #[serde(rename = "age_ms", serialize_with = "millis")]
        age: Duration,
        /// What it should be at most.
        #[serde(rename = "target_ms", serialize_with = "millis")]
        target: Duration,
    },
    /// It takes too long to work off what waits.
    Drain {
        /// Of this class.
        class: Class,
        /// The estimate; it was no less over the whole window.
        #[serde(rename = "drain_ms", serialize_with = "millis")]
        drain: Duration,
        /// What it should be at most.
        #[serde(rename = "target_ms", serialize_with = "millis")]
        target: Duration,
    },
    /// The breaker of a dependency is open.
    Dependency,
    /// The pressure is gone.
    Calm {
        /// The greatest there was of late.
        highest: f64,
    },
}

impl Cause {
    /// The name for metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::HardLimit { .. } => "hard_limit",
            Self::Depth { .. } => "depth",
            Self::Age { .. } => "age",
            Self::Drain { .. } => "drain",
            Self::Dependency => "dependency",
            Self::Calm { .. } => "calm",
        }
    }
}

/// The level of a queue's guard changed.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct LevelChanged {
    /// The level that ended.
    pub from: Level,
    /// The level that began.
    pub to: Level,
    /// When, on the clock of the readings.
    #[serde(rename = "at_ms", serialize_with = "millis")]
    pub at: Duration,
    /// How long the ended level had lasted.
    #[serde(rename = "lasted_ms", serialize_with = "millis")]
    pub lasted: Duration,
    /// The pressure that decided.
    pub pressure: f64,
    /// Where most of it came from.
    pub cause: Cause,
    /// Jobs that were due, by class.
    pub ready: PerClass<u64>,
    /// The age of the oldest of those.
    #[serde(rename = "oldest_ms", serialize_with = "class_millis")]
    pub oldest: PerClass<Option<Duration>>,
    /// The time to work off what was due of each class.
    #[serde(rename = "drain_ms", serialize_with = "class_millis")]
    pub drain: PerClass<Option<Duration>>,
    /// Arrivals in a second.
    pub arriving_per_second: f64,
    /// Jobs that can be done in a second.
    pub draining_per_second: Option<f64>,
}

impl LevelChanged {
    pub(super) fn new(from: Level, lasted: Duration, cause: Cause, now: &GuardSnapshot) -> Self {
        Self {
            from,
            to: now.level,
            at: now.at,
            lasted,
            pressure: now.pressure,
            cause,
            ready: now.ready,
            oldest: now.oldest,
            drain: now.drain,
            arriving_per_second: now.arriving_per_second,
            draining_per_second: now.draining_per_second,
        }
    }

    /// Whether more is held back than before.
    #[must_use]
    pub fn is_rise(&self) -> bool {
        self.to > self.from
    }

    /// Says so in the log: a warning when the level rises, else for information.
    pub fn report(&self, queue: &str) {
        let (from, to, pressure) = (self.from.as_str(), self.to.as_str(), self.pressure);
        let PerClass([critical, normal, sheddable, bulk]) = self.ready;
        let oldest_ms = self.oldest.0.into_iter().flatten().max().map(whole_millis);
        let drain_ms = self.drain.0.into_iter().flatten().max().map(whole_millis);
        macro_rules! say {
            ($level:ident) => {
                tracing::$level!(
                    queue,
                    from,
                    to,
                    pressure,
                    cause = self.cause.as_str(),
                    numbers = ?self.cause,
                    ready_critical = critical,
                    ready_normal = normal,
                    ready_sheddable = sheddable,
                    ready_bulk = bulk,
                    oldest_ms,
                    drain_ms,
                    arriving_per_second = self.arriving_per_second,
                    draining_per_second = self.draining_per_second,
                    lasted_ms = whole_millis(self.lasted),
                    "jobs.guard_level_changed"
                )
            };
        }
        if self.is_rise() { say!(warn) } else { say!(info) }
    }
}

//! What the guard knows, as every enqueue reads it.

use std::time::Duration;

use serde::{Serialize, Serializer};

use super::admission::{Verdict, turn_away, verdict};
use super::ramp::COHORTS;
use super::{Admission, Candidate, Level, Overload, PerClass};

/// How the pressure comes about: each 1.0 at its target. None is above 100.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Pressures {
    /// Jobs in the queue, to 80 % of the hard limit; 0 without one.
    pub depth: f64,
    /// The age of the oldest due job to the class's target, the least over the window.
    pub age: PerClass<f64>,
    /// The time to work off what is due of the class to its target, the least over the window;
    /// 0 while nobody knows how fast work is done.
    pub drain: PerClass<f64>,
    /// 1.0 while the breaker of a dependency is open, else 0.
    pub dependency: f64,
}

/// What the guard of a queue knows: the last reading, what follows from it, and whether a job is
/// let in. Cheap to read and never changed; a new one is published with each look.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct GuardSnapshot {
    /// How much is held back.
    pub level: Level,
    /// Since when, on the clock of the readings.
    #[serde(rename = "since_ms", serialize_with = "millis")]
    pub since: Duration,
    /// When the queue was looked at, on the clock of the readings.
    #[serde(rename = "at_ms", serialize_with = "millis")]
    pub at: Duration,
    /// What decides the level; 1.0 is as much as should be.
    pub pressure: f64,
    /// What it is made of.
    pub pressures: Pressures,
    /// Whether more came than could be done for a whole window, and the backlog grew.
    pub growing: bool,
    /// Arrivals in a second.
    pub arriving_per_second: f64,
    /// Jobs that can be done in a second; `None` before any was.
    pub draining_per_second: Option<f64>,
    /// Failed runs in a second.
    pub failing_per_second: f64,
    /// How long a job of each class enqueued now would wait: the time to work off what is due of
    /// its class, with the workers shared out as they are. `None` before any job was done.
    #[serde(rename = "drain_ms", serialize_with = "class_millis")]
    pub drain: PerClass<Option<Duration>>,
    /// Jobs that are due, by class.
    pub ready: PerClass<u64>,
    /// The age of the oldest of those.
    #[serde(rename = "oldest_ms", serialize_with = "class_millis")]
    pub oldest: PerClass<Option<Duration>>,
    /// Jobs in the queue in any state.
    pub depth: u64,
    /// While [`Level::Overloaded`]: how many of 128 cohorts of the class are held back.
    pub threshold: PerClass<u8>,
    /// How many more jobs this process may let in until the next snapshot; `None`: no limit.
    pub credits: Option<u64>,
    /// Before jitter, by how much a job of each class is put off; `None`: it would be too long.
    #[serde(skip)]
    pub(super) put_off: PerClass<Option<Duration>>,
    /// When a job of each class is worth another try.
    #[serde(rename = "retry_after_ms", serialize_with = "certain_millis")]
    pub retry_after: PerClass<Duration>,
}

impl GuardSnapshot {
    /// Whether this job is let in. Reads only what is here: no clock, lock or allocation.
    ///
    /// | level | critical | normal | sheddable | bulk |
    /// |---|---|---|---|---|
    /// | normal | accept | accept | accept | accept |
    /// | elevated | accept | accept | accept | put off |
    /// | overloaded | accept | put off below the threshold | put off below it | turn away |
    /// | critical | accept | turn away | turn away | turn away |
    /// | at the hard limit | turn away | turn away | turn away | turn away |
    ///
    /// *Put off* is what the kind wants: [`Admission::Defer`], `Skip` or `Reject`. *Turn away*
    /// is `Skip` or `Reject`: see [`Overload`]. What would be put off beyond
    /// [`defer_max`](super::GuardBuilder::defer_max), or beyond its own end, is turned away.
    #[must_use]
    #[inline]
    pub fn admit(&self, candidate: &Candidate) -> Admission {
        let class = candidate.class;
        let full = self.credits.is_some_and(|credits| candidate.admitted_since >= credits);
        let said = if full {
            Verdict::TurnAway
        } else {
            verdict(self.level, class, candidate.cohort, self.threshold.of(class))
        };
        let deferral = match said {
            Verdict::Accept => return Admission::Accept,
            Verdict::PutOff => self.deferral(candidate),
            Verdict::TurnAway => None,
        };
        match deferral {
            Some(by) => Admission::Defer { by },
            None => turn_away(candidate, self.retry_after.of(class)),
        }
    }

    /// By how much a job is put off once more that was put off before and is due now; `None`: it
    /// runs. What is stored is not turned away: put off as often as its kind wants, it is let in.
    #[must_use]
    pub fn put_off_again(&self, candidate: &Candidate) -> Option<Duration> {
        let class = candidate.class;
        match verdict(self.level, class, candidate.cohort, self.threshold.of(class)) {
            Verdict::Accept => None,
            Verdict::PutOff | Verdict::TurnAway => self.deferral(candidate),
        }
    }

    /// By how much it may be put off, if its kind wants that and it helps.
    #[inline]
    fn deferral(&self, candidate: &Candidate) -> Option<Duration> {
        let Overload::Reschedule { max } = candidate.overload else { return None };
        let by = spread(self.put_off.of(candidate.class)?, candidate.chance);
        let in_time = candidate.expires_in.is_none_or(|within| by < within);
        (in_time && candidate.deferrals < max).then_some(by)
    }

    /// The same at another level, for a test; overloaded, all cohorts are held back, and what is
    /// put off is put off by a minute.
    pub(in crate::jobs) fn at_level(&self, level: Level) -> Self {
        let threshold = if level == Level::Overloaded { COHORTS } else { 0 };
        Self {
            level,
            threshold: self.threshold.map(|_| threshold),
            put_off: self.put_off.map(|_| Some(Duration::from_secs(60))),
            ..self.clone()
        }
    }

    /// Whether some of what the queue is for is not done in its time.
    #[must_use]
    pub const fn is_degraded(&self) -> bool {
        match self.level {
            Level::Normal | Level::Elevated => false,
            Level::Overloaded | Level::Critical => true,
        }
    }
}

/// Up to half as much again, so that what was put off together does not return together.
#[inline]
fn spread(by: Duration, chance: f64) -> Duration {
    // What is not a number is no jitter.
    let chance = if chance > 0.0 { chance.min(1.0) } else { 0.0 };
    by.saturating_add(by.mul_f64(0.5 * chance))
}

/// The whole milliseconds of a time.
pub(super) fn whole_millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn millis<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(whole_millis(*time))
}

pub(super) fn class_millis<S: Serializer>(
    times: &PerClass<Option<Duration>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    times.map(|time| time.map(whole_millis)).serialize(serializer)
}

fn certain_millis<S: Serializer>(
    times: &PerClass<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    times.map(whole_millis).serialize(serializer)
}

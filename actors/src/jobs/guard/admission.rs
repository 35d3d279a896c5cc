//! Whether a job is let in: the table, and the numbers an answer carries.

use std::time::Duration;

use serde::Serialize;

use super::Level;
use super::ramp::COHORTS;
use crate::jobs::Class;

/// What a kind of job wants done with it when there is more work than can be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Overload {
    /// It is stored and runs later; if there is too much work still by then, it is put off again,
    /// `max` times in all, and then it runs. Where putting off does not help, it is refused if its
    /// class is [`Class::Critical`] or [`Class::Normal`], so that somebody learns of it, and left
    /// out if it is cheaper.
    Reschedule {
        /// How often one job is put off; 0: never.
        max: u16,
    },
    /// It is left out without an error: the next tick does its work too.
    Skip,
    /// It is refused, with the time after which to try again.
    Reject,
}

impl Default for Overload {
    /// Put off, up to five times.
    fn default() -> Self {
        Self::Reschedule { max: 5 }
    }
}

/// A job that asks to be let in, or that was put off and is due again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// How dear it is.
    pub class: Class,
    /// What its kind wants done with it.
    pub overload: Overload,
    /// A hash of its tenant and kind; the same one is treated the same for as long as the
    /// pressure stands. The last seven bits decide, so they must be well mixed.
    pub cohort: u64,
    /// How often it was put off already.
    pub deferrals: u16,
    /// How many jobs this process has let into the queue since the reading from which the
    /// snapshot was made; put-off ones count. Only the hard limit asks.
    pub admitted_since: u64,
    /// It is too late for it after this; `None`: never.
    pub expires_in: Option<Duration>,
    /// A random number from 0 to 1, for jitter; anything else counts as its nearer end.
    pub chance: f64,
}

/// The guard's answer to a [`Candidate`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Admission {
    /// It is let in.
    Accept,
    /// It is stored, to run after this time.
    Defer {
        /// How much later than it would have run.
        by: Duration,
    },
    /// It is left out; nothing is stored and nothing is wrong.
    Skip,
    /// It is refused.
    Reject {
        /// When to try again, at the earliest: 1 s or more.
        retry_after: Duration,
    },
}

/// What the table says to a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Accept,
    /// Held back, as the kind wants it.
    PutOff,
    /// Not stored, whatever the kind wants.
    TurnAway,
}

/// The table. `threshold`: cohorts of this class below it are held back.
#[inline]
pub(super) const fn verdict(level: Level, class: Class, cohort: u64, threshold: u8) -> Verdict {
    match (level, class) {
        (Level::Normal, _)
        | (_, Class::Critical)
        | (Level::Elevated, Class::Normal | Class::Sheddable) => Verdict::Accept,
        (Level::Elevated, Class::Bulk) => Verdict::PutOff,
        (Level::Overloaded, Class::Normal | Class::Sheddable) => {
            if cohort % (COHORTS as u64) < threshold as u64 {
                Verdict::PutOff
            } else {
                Verdict::Accept
            }
        }
        (Level::Overloaded, Class::Bulk)
        | (Level::Critical, Class::Normal | Class::Sheddable | Class::Bulk) => Verdict::TurnAway,
    }
}

/// What is done with a job that is not to be stored.
#[inline]
pub(super) const fn turn_away(candidate: &Candidate, retry_after: Duration) -> Admission {
    match (candidate.overload, candidate.class) {
        (Overload::Skip, _) | (Overload::Reschedule { .. }, Class::Sheddable | Class::Bulk) => {
            Admission::Skip
        }
        (Overload::Reject, _) | (Overload::Reschedule { .. }, Class::Critical | Class::Normal) => {
            Admission::Reject { retry_after }
        }
    }
}

//! What a call's result says about the dependency.

use std::time::Duration;

use super::state::Finding;
use super::window::Sample;

/// What a call says about the dependency's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It answered well. Counts as slow if it took the configured time.
    Success,
    /// It failed, or could not be reached.
    Failure,
    /// It answered well, but too late to be of use. As a probe it has failed.
    Slow,
    /// It answered, and the answer says nothing about its health. Not counted.
    Ignored,
    /// It asked for fewer calls. With a wait, the breaker opens for at least that long,
    /// and does not count this as an opening to grow the next pause by. Without one, it
    /// counts as a failure.
    Throttled {
        /// What the dependency's `Retry-After` asks for.
        retry_after: Option<Duration>,
    },
    /// The caller gave up. Counts as failed if the call was slow by then, else not at all.
    Cancelled,
}

impl Outcome {
    /// The outcome of an HTTP answer, by its status and its `Retry-After`.
    ///
    /// 429 is [`Throttled`](Self::Throttled); 408 and 5xx are failures; all others, 4xx
    /// included, show that the dependency works.
    #[must_use]
    pub const fn of_http(status: u16, retry_after: Option<Duration>) -> Self {
        match status {
            429 => Self::Throttled { retry_after },
            408 | 500..=599 => Self::Failure,
            _ => Self::Success,
        }
    }
}

impl Outcome {
    /// What the window is told; `None`: nothing. `slow`: whether the call was.
    #[inline]
    pub(super) const fn sample(self, slow: bool) -> Option<Sample> {
        match self {
            Self::Success => Some(Sample { failed: false, slow }),
            Self::Slow => Some(Sample { failed: false, slow: true }),
            Self::Failure | Self::Throttled { .. } => Some(Sample { failed: true, slow }),
            Self::Cancelled if slow => Some(Sample { failed: true, slow: true }),
            Self::Cancelled | Self::Ignored => None,
        }
    }

    /// What a probe's outcome says. `slow`: whether it was.
    pub(super) const fn finding(self, slow: bool, tracks_slow: bool) -> Finding {
        match self {
            Self::Success if slow && tracks_slow => Finding::Bad,
            Self::Success => Finding::Ok,
            Self::Failure | Self::Slow | Self::Throttled { .. } => Finding::Bad,
            Self::Ignored => Finding::Ignored,
            Self::Cancelled if slow => Finding::Bad,
            Self::Cancelled => Finding::Returned,
        }
    }

    /// The wait a throttling answer asks for, if it asks for one.
    #[inline]
    pub(super) fn asked_wait(self) -> Option<Duration> {
        match self {
            Self::Throttled { retry_after } => retry_after.filter(|wait| !wait.is_zero()),
            Self::Success | Self::Failure | Self::Slow | Self::Ignored | Self::Cancelled => None,
        }
    }
}

/// An error that knows what it says about the dependency.
///
/// Implement it for the error of a client, and [`Breaker::call`](super::Breaker::call)
/// counts rightly. An error that is the caller's own fault is a [`Outcome::Success`] of
/// the dependency, or [`Outcome::Ignored`] if it never got there.
pub trait Classify {
    /// What this error says about the dependency. By default: it failed.
    fn outcome(&self) -> Outcome {
        Outcome::Failure
    }
}

impl Classify for std::io::Error {}
impl Classify for tokio::time::error::Elapsed {}
impl Classify for Box<dyn std::error::Error> {}
impl Classify for Box<dyn std::error::Error + Send + Sync> {}

impl Classify for std::convert::Infallible {
    fn outcome(&self) -> Outcome {
        match *self {}
    }
}

/// Tells what a result says about the dependency; for when the error alone cannot.
///
/// Every `Fn(&Result<T, E>) -> Outcome` is one.
pub trait Classifier<T, E> {
    /// What `result` says about the dependency.
    fn classify(&self, result: &Result<T, E>) -> Outcome;
}

impl<T, E, F: Fn(&Result<T, E>) -> Outcome> Classifier<T, E> for F {
    fn classify(&self, result: &Result<T, E>) -> Outcome {
        self(result)
    }
}

/// [`Classify`] as a [`Classifier`]: success is success.
pub(super) fn by_error<T, E: Classify>(result: &Result<T, E>) -> Outcome {
    match result {
        Ok(_) => Outcome::Success,
        Err(error) => error.outcome(),
    }
}

//! Why a call through the breaker gave no value.

use std::fmt;
use std::time::Duration;

use super::DependencyId;
use crate::kernel::{Code, Fault};

/// The breaker refused a call: the dependency was not called.
///
/// Making one allocates nothing. It is about the dependency, never about the request:
/// answer 503 with `Retry-After`, serve something older, or try another dependency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("`{dependency}` {cause}; try again in {} ms", retry_after.as_millis())]
#[non_exhaustive]
pub struct Rejected {
    /// The dependency that is not called now.
    pub dependency: DependencyId,
    /// What stands in the way.
    pub cause: RejectCause,
    /// When a call may be admitted again, at the earliest. At least 1 ms.
    pub retry_after: Duration,
}

impl Rejected {
    pub(super) const fn new(
        dependency: DependencyId,
        cause: RejectCause,
        retry_after: Duration,
    ) -> Self {
        Self { dependency, cause, retry_after }
    }
}

/// What stands in the way of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RejectCause {
    /// The dependency failed too often; its pause is not over.
    Open,
    /// The dependency is being tried, and every trial slot is taken.
    TrialsTaken,
    /// An operator opened the breaker.
    ForcedOpen,
}

impl fmt::Display for RejectCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "failed too often and is left alone",
            Self::TrialsTaken => "is being tried and has no free trial slot",
            Self::ForcedOpen => "was taken out of service by an operator",
        })
    }
}

impl Fault for Rejected {
    fn code(&self) -> Code {
        match self.cause {
            RejectCause::Open => Code::new("breaker.open"),
            RejectCause::TrialsTaken => Code::new("breaker.trials_taken"),
            RejectCause::ForcedOpen => Code::new("breaker.forced_open"),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        Some(self.retry_after)
    }
}

/// What [`Breaker::call`](super::Breaker::call) failed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BreakerError<E> {
    /// The dependency was not called. Trying again before the wait is over is useless.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// The dependency was called, and this is its own error.
    #[error(transparent)]
    Inner(E),
}

impl<E: Fault + 'static> Fault for BreakerError<E> {
    fn code(&self) -> Code {
        match self {
            Self::Rejected(rejected) => rejected.code(),
            Self::Inner(error) => error.code(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Rejected(rejected) => Some(rejected.retry_after),
            Self::Inner(error) => error.retry_after(),
        }
    }
}

/// A setting that is out of its range, or does not fit the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("breaker setting `{setting}` must be {expected}")]
pub struct ConfigError {
    setting: &'static str,
    expected: &'static str,
}

impl ConfigError {
    pub(super) const fn new(setting: &'static str, expected: &'static str) -> Self {
        Self { setting, expected }
    }

    /// The name of the builder's method that set it.
    #[must_use]
    pub const fn setting(&self) -> &'static str {
        self.setting
    }
}

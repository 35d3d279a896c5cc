//! Why a read got no value, and why a cache could not be started.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use super::flight::FlightId;
use crate::kernel::{Code, Fault};

/// Why a [`Get`](super::Get) ended without a value.
///
/// Whenever an old value may still be served, it is served instead, and the reason
/// is in [`Served::Stale`](super::Served::Stale): an error means there was none.
/// All waiters of one load share one error; none of them runs the loader again.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum FillError {
    /// There is no such thing: the loader said [`Loaded::Absent`](super::Loaded::Absent).
    /// Answer "not found"; trying again before the negative TTL has passed asks nobody.
    #[error("there is nothing under this key")]
    Absent,

    /// The loader failed. The key cools down; a retry at once is answered with
    /// [`FillError::Cooldown`].
    #[error("the loader failed")]
    Loader(#[source] Arc<dyn Error + Send + Sync>),

    /// The loader panicked; the text is for logs, never for clients. The key cools
    /// down as after an error.
    #[error("the loader panicked")]
    Panicked(Arc<str>),

    /// The load took longer than `max_fill_time` and was dropped. The key cools down
    /// as after an error.
    #[error("the load took longer than {} ms and was given up", limit.as_millis())]
    FillTimeout {
        /// The limit it ran into.
        limit: Duration,
    },

    /// This caller's own wait is over. The load goes on for the others and for the
    /// store; a later read may find its value.
    #[error("the value did not come within this caller's wait")]
    WaitTimeout {
        /// The load that was waited for; [`Cache::flights`](super::Cache::flights) lists it.
        flight: FlightId,
    },

    /// The last load of this key failed and the next one may not begin yet. No
    /// loader ran. Try again after the wait.
    #[error("the last load failed; the next may begin in {} ms", retry_after.as_millis())]
    Cooldown {
        /// Time until the next load of this key may begin.
        retry_after: Duration,
        /// What the last load ended with.
        #[source]
        last: Arc<Self>,
    },

    /// All loads that may run at once are running and the queue is full, or the
    /// actor cannot take the work. No loader ran. Shed the work or try again later.
    #[error("too many loads are under way")]
    Overloaded {
        /// A fair guess at when there is room again.
        retry_after: Duration,
    },

    /// The loader of this key asked, itself or through other keys, for its own
    /// result, or nested loads too deeply. A programming error: change the loader.
    #[error("the loader waits for its own result")]
    Recursion,

    /// The load was dropped before it ended: everybody who waited had left, or the
    /// actor failed twice while it took the load in. Trying again is safe.
    #[error("the load was dropped before it ended")]
    Aborted,

    /// The cache has been stopped. Nothing will be loaded any more.
    #[error("the cache has been stopped")]
    Closed,
}

impl FillError {
    /// Whether an old value may be served in place of this error.
    pub(super) const fn yields_to_stale(&self) -> bool {
        match self {
            Self::Loader(_)
            | Self::Panicked(_)
            | Self::FillTimeout { .. }
            | Self::WaitTimeout { .. }
            | Self::Cooldown { .. }
            | Self::Overloaded { .. }
            | Self::Aborted => true,
            Self::Absent | Self::Recursion | Self::Closed => false,
        }
    }

    /// Whether it is the loader's failure, so that the key must cool down.
    pub(super) const fn is_loader_failure(&self) -> bool {
        matches!(self, Self::Loader(_) | Self::Panicked(_) | Self::FillTimeout { .. })
    }
}

impl Fault for FillError {
    // Codes are public API: once released, never reused and never reworded.
    fn code(&self) -> Code {
        match self {
            Self::Absent => Code::new("cache_fill.absent"),
            Self::Loader(_) => Code::new("cache_fill.loader_failed"),
            Self::Panicked(_) => Code::new("cache_fill.loader_panicked"),
            Self::FillTimeout { .. } => Code::new("cache_fill.fill_timeout"),
            Self::WaitTimeout { .. } => Code::new("cache_fill.wait_timeout"),
            Self::Cooldown { .. } => Code::new("cache_fill.cooldown"),
            Self::Overloaded { .. } => Code::new("cache_fill.overloaded"),
            Self::Recursion => Code::new("cache_fill.recursion"),
            Self::Aborted => Code::new("cache_fill.aborted"),
            Self::Closed => Code::new("cache_fill.closed"),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Cooldown { retry_after, .. } | Self::Overloaded { retry_after } => {
                Some(*retry_after)
            }
            Self::Absent
            | Self::Loader(_)
            | Self::Panicked(_)
            | Self::FillTimeout { .. }
            | Self::WaitTimeout { .. }
            | Self::Recursion
            | Self::Aborted
            | Self::Closed => None,
        }
    }
}

/// A setting of a cache is outside its range. Change the setting it names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the cache setting `{setting}` must be {range}")]
pub struct ConfigError {
    setting: &'static str,
    range: &'static str,
}

impl ConfigError {
    pub(super) const fn new(setting: &'static str, range: &'static str) -> Self {
        Self { setting, range }
    }

    /// The builder method the value was given to.
    #[must_use]
    pub const fn setting(&self) -> &'static str {
        self.setting
    }
}

impl Fault for ConfigError {
    fn code(&self) -> Code {
        Code::new("cache_fill.invalid_setting")
    }
}

/// The loader answered [`Loaded::NotModified`](super::Loaded::NotModified) although
/// it had been given no previous value. Found as the source of [`FillError::Loader`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the loader kept a value that is not there")]
pub struct NothingToKeep;

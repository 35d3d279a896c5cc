//! What a read gets, and how it came.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::error::FillError;

/// A value, how old it is, and how it came. Reads as the value itself.
pub struct Hit<V> {
    /// The value, shared with the cache and all other readers.
    pub value: Arc<V>,
    /// Time since it was stored; zero for one that was just loaded.
    pub age: Duration,
    /// How it came.
    pub served: Served,
}

impl<V> Hit<V> {
    pub(super) fn unasked(self) -> Self {
        Self { served: Served::Stale(StaleReason::Unasked), ..self }
    }
}

impl<V> Clone for Hit<V> {
    fn clone(&self) -> Self {
        Self { value: Arc::clone(&self.value), ..*self }
    }
}

impl<V> Deref for Hit<V> {
    type Target = V;

    fn deref(&self) -> &V {
        &self.value
    }
}

impl<V: fmt::Debug> fmt::Debug for Hit<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hit")
            .field("value", &self.value)
            .field("age", &self.age)
            .field("served", &self.served)
            .finish()
    }
}

/// How a value came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Served {
    /// It was stored and fresh.
    Fresh,
    /// This read began the load that brought it.
    Loaded,
    /// Another read had begun the load already.
    Joined,
    /// It is older than its TTL.
    Stale(StaleReason),
}

impl Served {
    /// One word for a header or a log line: `hit`, `filled`, `joined` or `stale`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fresh => "hit",
            Self::Loaded => "filled",
            Self::Joined => "joined",
            Self::Stale(_) => "stale",
        }
    }
}

impl fmt::Display for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why an old value was served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StaleReason {
    /// A load renews it in the background.
    Revalidating,
    /// The load failed, panicked, took too long or was dropped.
    LoadFailed,
    /// The last load failed and the next may not begin yet.
    Cooldown,
    /// The load did not end within this reader's wait.
    WaitTimeout,
    /// Too many loads are under way.
    Overloaded,
    /// The cache has been stopped.
    Closed,
    /// `peek` and `try_get` never load.
    Unasked,
}

impl StaleReason {
    pub(super) const fn of(error: &FillError) -> Self {
        match error {
            FillError::Loader(_)
            | FillError::Panicked(_)
            | FillError::FillTimeout { .. }
            | FillError::Aborted
            | FillError::Recursion
            | FillError::Absent => Self::LoadFailed,
            FillError::Cooldown { .. } => Self::Cooldown,
            FillError::WaitTimeout { .. } => Self::WaitTimeout,
            FillError::Overloaded { .. } => Self::Overloaded,
            FillError::Closed => Self::Closed,
        }
    }
}

/// What is stored under a key, as [`Cache::try_get`](super::Cache::try_get) sees it.
#[non_exhaustive]
pub enum Lookup<V> {
    /// A value within its TTL.
    Fresh(Hit<V>),
    /// A value beyond its TTL that may still be served.
    Stale(Hit<V>),
    /// The knowledge that there is no value.
    Absent,
    /// Nothing that may be served.
    Miss,
}

impl<V: fmt::Debug> fmt::Debug for Lookup<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fresh(hit) => f.debug_tuple("Fresh").field(hit).finish(),
            Self::Stale(hit) => f.debug_tuple("Stale").field(hit).finish(),
            Self::Absent => f.write_str("Absent"),
            Self::Miss => f.write_str("Miss"),
        }
    }
}

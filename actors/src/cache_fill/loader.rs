//! What the user writes: how one value is loaded.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::error::FillError;
use crate::kernel::RequestContext;

/// What a cache can use as a key. Implemented for every type that fits.
///
/// Lookups also take a borrowed form, as `HashMap` does: `&str` for `String` keys.
/// The hasher is seeded at random per cache but is not a cryptographic one.
pub trait Key: Clone + Eq + Hash + Send + Sync + 'static {}

impl<K: Clone + Eq + Hash + Send + Sync + 'static> Key for K {}

/// Loads the value of one key, for all callers that wait for it at that moment.
///
/// The future runs in a task of its own on the cache's arbiter. It is bounded by
/// `max_fill_time`, a panic in it is caught, and no caller's deadline or departure
/// ends it (unless [`Abandon::CancelAfter`](super::Abandon::CancelAfter) asks so).
/// It runs under a detached [`RequestContext`] of the caller that started it: same
/// id in the logs, no deadline and no cancellation.
///
/// A function `async fn(K, FillCtx<V>) -> Result<Loaded<V>, E>` is a loader too.
pub trait Loader<K, V>: Send + Sync + 'static {
    /// Why a load failed. Shared by all waiters, as the source of [`FillError::Loader`].
    type Error: Error + Send + Sync + 'static;

    /// Loads the value of `key`.
    fn load(
        &self,
        key: K,
        cx: FillCtx<V>,
    ) -> impl Future<Output = Result<Loaded<V>, Self::Error>> + Send;

    /// How long this error asks to be left alone, as a `Retry-After` or an open
    /// breaker does. The key cools down for at least that long, at most ten minutes.
    fn retry_after(&self, error: &Self::Error) -> Option<Duration> {
        let _unknown = error;
        None
    }
}

impl<K, V, E, F, Work> Loader<K, V> for F
where
    F: Fn(K, FillCtx<V>) -> Work + Send + Sync + 'static,
    Work: Future<Output = Result<Loaded<V>, E>> + Send,
    E: Error + Send + Sync + 'static,
{
    type Error = E;

    fn load(&self, key: K, cx: FillCtx<V>) -> impl Future<Output = Result<Loaded<V>, E>> + Send {
        self(key, cx)
    }
}

/// What a loader found.
#[derive(Debug)]
#[non_exhaustive]
pub enum Loaded<V> {
    /// This value.
    Value(V, Meta),
    /// Nothing, and that is known for sure. Remembered for the negative TTL;
    /// waiters get [`FillError::Absent`].
    Absent(Meta),
    /// What [`FillCtx::previous`] holds is still right; its TTL begins anew.
    NotModified(Meta),
}

impl<V> Loaded<V> {
    /// This value, under the cache's own settings.
    pub fn value(value: V) -> Self {
        Self::Value(value, Meta::default())
    }

    /// Nothing is there, under the cache's own settings.
    #[must_use]
    pub fn absent() -> Self {
        Self::Absent(Meta::default())
    }

    /// The previous value holds, under the cache's own settings.
    #[must_use]
    pub fn not_modified() -> Self {
        Self::NotModified(Meta::default())
    }
}

/// How one value is to be kept, where it differs from the cache's settings.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Meta {
    /// Time the value is fresh. Default: the cache's `ttl` (`negative_ttl` for
    /// nothing). Taken as it is, without jitter.
    pub ttl: Option<Duration>,
    /// Hand the value to its waiters and do not keep it. Default: keep it.
    pub no_store: bool,
}

impl Meta {
    /// Sets how long the value is fresh.
    #[must_use]
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Hands the value to its waiters and keeps nothing.
    #[must_use]
    pub const fn no_store(mut self) -> Self {
        self.no_store = true;
        self
    }
}

/// Why a load was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// Nothing was stored.
    Miss,
    /// What was stored is too old to be served.
    Expired,
    /// An old value was served; this load renews it in the background.
    Revalidate,
    /// [`Cache::refresh`](super::Cache::refresh) asked for it.
    Forced,
}

/// What a loader is told about the load it does.
pub struct FillCtx<V> {
    pub(super) reason: Reason,
    pub(super) attempt: u32,
    pub(super) deadline: Instant,
    pub(super) cancel: CancellationToken,
    pub(super) previous: Option<Arc<V>>,
    pub(super) request: Option<RequestContext>,
}

impl<V> FillCtx<V> {
    /// Why this load was begun.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        self.reason
    }

    /// 1 for the first try, 2 for the first after a failure, and so on.
    #[must_use]
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The moment at which this load is given up; pass it on to the source.
    #[must_use]
    pub const fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Cancelled when this load is given up: for what the loader spawned itself.
    #[must_use]
    pub const fn cancel_token(&self) -> &CancellationToken {
        &self.cancel
    }

    /// The value that is stored now, however old: for a conditional request that may
    /// end in [`Loaded::NotModified`].
    #[must_use]
    pub const fn previous(&self) -> Option<&Arc<V>> {
        self.previous.as_ref()
    }

    /// The request that started this load, detached: its id and trace, without its
    /// deadline and cancellation.
    #[must_use]
    pub const fn request(&self) -> Option<&RequestContext> {
        self.request.as_ref()
    }
}

impl<V> fmt::Debug for FillCtx<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FillCtx")
            .field("reason", &self.reason)
            .field("attempt", &self.attempt)
            .field("deadline", &self.deadline)
            .field("has_previous", &self.previous.is_some())
            .finish_non_exhaustive()
    }
}

/// A failed load, as the rest of the cache sees it.
pub(super) struct LoadFailure {
    pub(super) error: FillError,
    pub(super) retry_after: Option<Duration>,
}

pub(super) type LoadFuture<'a, V> =
    Pin<Box<dyn Future<Output = Result<Loaded<V>, LoadFailure>> + Send + 'a>>;

/// [`Loader`] without its error type, so that the cache's own types do not carry it.
pub(super) trait AnyLoader<K, V>: Send + Sync {
    fn load_any(&self, key: K, cx: FillCtx<V>) -> LoadFuture<'_, V>;
}

impl<K: Key, V: Send + Sync + 'static, L: Loader<K, V>> AnyLoader<K, V> for L {
    fn load_any(&self, key: K, cx: FillCtx<V>) -> LoadFuture<'_, V> {
        Box::pin(async move {
            self.load(key, cx).await.map_err(|error| LoadFailure {
                retry_after: self.retry_after(&error),
                error: FillError::Loader(Arc::new(error)),
            })
        })
    }
}

//! One read of a cache.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use super::begin::{Ask, Step, Then};
use super::cache::Cache;
use super::error::FillError;
use super::flight::Outcome;
use super::hit::{Hit, Served};
use super::loader::Key;
use crate::kernel::RequestContext;

/// One read: ready at once on a hit, and otherwise the wait for a load.
///
/// It waits at most until [`wait`](Get::wait), [`deadline`](Get::deadline) and the
/// deadline of the current [`RequestContext`], whichever comes first; after that it
/// serves an old value within `stale_if_error` or fails with
/// [`FillError::WaitTimeout`]. The load goes on for the others.
///
/// # Cancel safety
///
/// Cancel safe: dropping it takes one waiter away and never fails, restarts or delays
/// the load of the others. A load for which nobody waits any more follows
/// [`Abandon`](super::Abandon).
#[must_use = "a read does nothing until it is awaited"]
pub struct Get<K: Key, V: Send + Sync + 'static> {
    state: State<K, V>,
    wait: Option<Duration>,
    deadline: Option<Instant>,
}

enum State<K: Key, V: Send + Sync + 'static> {
    Ready(Result<Hit<V>, FillError>),
    Asked(Cache<K, V>, Ask<K>),
    Waiting(Pin<Box<dyn Future<Output = Result<Hit<V>, FillError>> + Send>>),
    Done,
}

impl<K: Key, V: Send + Sync + 'static> Get<K, V> {
    pub(super) const fn ready(result: Result<Hit<V>, FillError>) -> Self {
        Self { state: State::Ready(result), wait: None, deadline: None }
    }

    pub(super) const fn asked(cache: Cache<K, V>, ask: Ask<K>) -> Self {
        Self { state: State::Asked(cache, ask), wait: None, deadline: None }
    }

    /// Waits at most this long, counted from the first poll. Default: no limit of its own.
    pub const fn wait(mut self, at_most: Duration) -> Self {
        self.wait = Some(at_most);
        self
    }

    /// Waits at most until `at`. Default: no limit of its own.
    pub const fn deadline(mut self, at: Instant) -> Self {
        self.deadline = Some(at);
        self
    }

    fn until(&self) -> Option<Instant> {
        let wait = self.wait.and_then(|wait| Instant::now().checked_add(wait));
        let request = RequestContext::current().and_then(|context| context.deadline());
        [wait, self.deadline, request].into_iter().flatten().min()
    }
}

impl<K: Key, V: Send + Sync + 'static> Future for Get<K, V> {
    type Output = Result<Hit<V>, FillError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match std::mem::replace(&mut self.state, State::Done) {
                State::Ready(result) => return Poll::Ready(result),
                State::Asked(cache, ask) => {
                    let until = self.until();
                    self.state = State::Waiting(Box::pin(read(cache, ask, until)));
                }
                State::Waiting(mut waiting) => {
                    let poll = waiting.as_mut().poll(cx);
                    if poll.is_pending() {
                        self.state = State::Waiting(waiting);
                    }
                    return poll;
                }
                // Polled after it was ready, which is the caller's mistake: as a fused
                // future it stays silent.
                State::Done => return Poll::Pending,
            }
        }
    }
}

impl<K: Key, V: Send + Sync + 'static> Unpin for Get<K, V> {}

async fn read<K, V>(
    cache: Cache<K, V>,
    ask: Ask<K>,
    until: Option<Instant>,
) -> Result<Hit<V>, FillError>
where
    K: Key,
    V: Send + Sync + 'static,
{
    let shared = cache.shared();
    let mut lost_before = false;
    loop {
        let Step { then, launch } = shared.begin(&ask);
        if let Some(guard) = launch {
            cache.launch(guard);
        }
        let waiter = match then {
            Then::Served(result) => return result,
            Then::Wait(waiter) => waiter,
        };
        let error = match waiter.outcome(until).await {
            Some(Outcome::Filled(value)) => {
                let served = if waiter.joined { Served::Joined } else { Served::Loaded };
                return Ok(Hit { value, age: Duration::ZERO, served });
            }
            Some(Outcome::Failed(error)) => error,
            Some(Outcome::Lost) if !lost_before => {
                lost_before = true;
                continue;
            }
            Some(Outcome::Lost) => FillError::Aborted,
            None => FillError::WaitTimeout { flight: waiter.flight.id },
        };
        return shared.stale_or(&ask, error);
    }
}

impl<K: Key, V: Send + Sync + 'static> fmt::Debug for Get<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Ready(Ok(_)) => "ready",
            State::Ready(Err(_)) => "failed",
            State::Asked(..) => "asked",
            State::Waiting(_) => "waiting",
            State::Done => "done",
        };
        f.debug_struct("Get")
            .field("state", &state)
            .field("wait", &self.wait)
            .finish_non_exhaustive()
    }
}

//! One loader at work, in a task of its own.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use tokio::time::{Instant, sleep_until};

use super::config::Abandon;
use super::error::FillError;
use super::flight::{Flight, FlightGuard};
use super::loader::{FillCtx, Key, LoadFailure, Loaded};
use super::nesting::Frame;
use super::shared::Shared;
use super::state::Permit;
use crate::kernel::panic;

/// Runs a load that has been admitted.
pub(super) fn start<K, V>(mut guard: FlightGuard<K, V>, permit: Permit)
where
    K: Key,
    V: Send + Sync + 'static,
{
    let attempt = permit.attempt;
    guard.permit = Some(permit);
    let shared = Arc::clone(guard.shared());
    shared.spawn(run(guard, attempt));
}

async fn run<K, V>(guard: FlightGuard<K, V>, attempt: u32)
where
    K: Key,
    V: Send + Sync + 'static,
{
    let shared = Arc::clone(guard.shared());
    let flight = Arc::clone(&guard.flight);
    let previous = shared.previous(&flight);
    let deadline = Instant::now() + shared.settings.max_fill_time;
    let cx = FillCtx {
        reason: flight.reason,
        attempt,
        deadline,
        // A loader may cancel what it spawned; it cannot cancel its own load with that.
        cancel: flight.cancel.child_token(),
        previous: previous.clone(),
        request: flight.request.clone(),
    };
    flight.mark_running();
    let work = Frame { flight: flight.id, depth: flight.depth }
        .scope(bounded(&shared, &flight, cx, deadline));
    let result = match flight.request.clone() {
        Some(request) => request.scope(work).await,
        None => work.await,
    };
    if let Err(failure) = &result {
        flight.cancel.cancel();
        report(&shared, &flight, failure, attempt);
    }
    shared.finish(guard, previous, result);
}

/// The load, until it ends or is given up.
async fn bounded<K, V>(
    shared: &Shared<K, V>,
    flight: &Arc<Flight<K, V>>,
    cx: FillCtx<V>,
    deadline: Instant,
) -> Result<Loaded<V>, LoadFailure>
where
    K: Key,
    V: Send + Sync + 'static,
{
    let abandoned = async {
        match shared.settings.on_no_waiters {
            Abandon::Finish => std::future::pending().await,
            Abandon::CancelAfter(grace) => flight.abandoned(grace, &shared.table).await,
        }
    };
    let error = tokio::select! {
        biased;
        () = flight.cancel.cancelled() => {
            if shared.is_closed() { FillError::Closed } else { FillError::Aborted }
        }
        () = abandoned => FillError::Aborted,
        result = caught(shared, flight, cx) => return result,
        () = sleep_until(deadline) => {
            FillError::FillTimeout { limit: shared.settings.max_fill_time }
        }
    };
    Err(LoadFailure { error, retry_after: None })
}

/// The loader's own future, with a panic turned into a failure.
async fn caught<K, V>(
    shared: &Shared<K, V>,
    flight: &Flight<K, V>,
    cx: FillCtx<V>,
) -> Result<Loaded<V>, LoadFailure>
where
    K: Key,
    V: Send + Sync + 'static,
{
    shared.counters.loads.add();
    let mut load = shared.loader.load_any(flight.key.clone(), cx);
    poll_fn(|task| match panic::catch(|| load.as_mut().poll(task)) {
        Ok(poll) => poll,
        Err(panic) => {
            tracing::error!(
                cache = &*shared.name,
                flight = %flight.id,
                panic = &**panic.message(),
                location = panic.location(),
                "cache_fill.loader_panicked"
            );
            let error = FillError::Panicked(Arc::clone(panic.message()));
            Poll::Ready(Err(LoadFailure { error, retry_after: None }))
        }
    })
    .await
}

fn report<K, V>(shared: &Shared<K, V>, flight: &Flight<K, V>, failure: &LoadFailure, attempt: u32)
where
    K: Key,
    V: Send + Sync + 'static,
{
    let cause = std::error::Error::source(&failure.error).map(ToString::to_string);
    tracing::warn!(
        cache = &*shared.name,
        flight = %flight.id,
        attempt,
        waiters = flight.waiters(),
        error = %failure.error,
        cause,
        "cache_fill.load_failed"
    );
}

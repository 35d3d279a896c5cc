//! Panics: what one of them costs, and what is told about it.
//!
//! | where it panics | what happens |
//! |---|---|
//! | handler, extractor, guard, middleware inside | 500 `internal.panic`; the connection lives on |
//! | body of a response | the stream is aborted: its head has been sent |
//! | after an upgrade | the same |
//! | [`AbortResponse::raise`] | the connection is closed without a response and without a report |
//!
//! A panic may leave shared state half changed. What a request owns is dropped; what it shares
//! through `web::Data` must tolerate that, or be an actor.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::panic;
use std::sync::Arc;

use parking_lot::Mutex;
use steadfast_actors::kernel::panic::{Panic, catch, describe, install_hook};
use steadfast_actors::kernel::{Code, RequestId};

use super::panic_guard::PanicGuard;
use crate::problem::Problem;

/// What [`std::panic::catch_unwind`] catches.
pub(super) type Payload = Box<dyn Any + Send>;

/// LIMIT: places that panics are counted for; the places beyond share one count.
const PLACES_MAX: usize = 256;

type Observer = Arc<dyn Fn(&PanicReport<'_>) + Send + Sync>;

/// Turns a panic into a 500 with the code `internal.panic`, for the one request it happened in.
///
/// The report goes to the log with request id, route and location; with a backtrace, the first
/// time that place panics, the second, the fourth and so on. The client reads the request id and
/// nothing of the panic.
#[derive(Clone, Default)]
pub struct Recover {
    observer: Option<Observer>,
    places: Arc<Places>,
    pub(super) guard: Option<PanicGuard>,
}

impl Recover {
    /// Installs the process-wide panic hook that sees location and backtrace; it hands panics
    /// nobody recovers from to the hook that was there before.
    #[must_use]
    pub fn new() -> Self {
        install_hook();
        Self::default()
    }

    /// Also tells `observer` about each panic. It runs on the worker's thread: be quick.
    #[must_use]
    pub fn on_panic(mut self, observer: impl Fn(&PanicReport<'_>) + Send + Sync + 'static) -> Self {
        self.observer = Some(Arc::new(observer));
        self
    }

    /// Lets routes rest that panic too often. Default: they do not.
    #[must_use]
    pub fn guard(mut self, guard: PanicGuard) -> Self {
        self.guard = Some(guard).filter(PanicGuard::is_on);
        self
    }

    pub(super) fn report(
        &self,
        payload: Payload,
        phase: Phase,
        request_id: Option<&RequestId>,
        route: Option<&str>,
    ) {
        let panic = describe(&*payload);
        // ORDER: the payload's own drop may panic too; nothing may be left to unwind then.
        let _panic_in_drop = catch(|| drop(payload));
        let panics = self.places.count(panic.location());
        // A panic that any client can cause must not let it fill the log with backtraces.
        let backtrace = if panics.is_power_of_two() { panic.backtrace_text() } else { None };
        tracing::error!(
            request_id = request_id.map(RequestId::as_str),
            route,
            ?phase,
            location = panic.location(),
            panic = &**panic.message(),
            panics,
            backtrace,
            "http.panic"
        );
        if let Some(observer) = &self.observer {
            let report = PanicReport { request_id, route, phase, panic: &panic };
            if catch(|| observer(&report)).is_err() {
                tracing::error!("http.panic_in_observer");
            }
        }
    }
}

/// How often each place in the program has panicked.
#[derive(Default)]
struct Places(Mutex<HashMap<String, u64>>);

impl Places {
    /// Counts one more panic; how many that makes.
    fn count(&self, location: Option<&str>) -> u64 {
        let mut counts = self.0.lock();
        let location = location.unwrap_or_default();
        let known = counts.len() < PLACES_MAX || counts.contains_key(location);
        let count = counts.entry(if known { location } else { "" }.to_owned()).or_default();
        *count += 1;
        *count
    }
}

impl fmt::Debug for Recover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recover").field("observed", &self.observer.is_some()).finish()
    }
}

/// One panic that was recovered from.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct PanicReport<'a> {
    /// The request, when it has a context.
    pub request_id: Option<&'a RequestId>,
    /// The pattern of the route, when one matches the path.
    pub route: Option<&'a str>,
    /// How far the request had come.
    pub phase: Phase,
    /// The panic itself.
    pub panic: &'a Panic,
}

/// How far a request had come when it panicked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// Before its response: in a guard, an extractor, a handler or a middleware.
    Handler,
    /// While its body was sent.
    Body,
    /// While it was dropped unfinished.
    Drop,
}

/// Closes the connection at once, without a response: for a handler that finds out too late that
/// what it would send is wrong. A truncated stream must not look like a complete one.
///
/// It is not an error: nothing is reported, only counted.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct AbortResponse;

impl AbortResponse {
    /// Aborts the request that is being served; works in a handler and in a body.
    ///
    /// # Panics
    ///
    /// Always, in the sense that the stack unwinds. No panic hook runs.
    pub fn raise() -> ! {
        panic::resume_unwind(Box::new(Self))
    }

    pub(super) fn is(payload: &Payload) -> bool {
        payload.is::<Self>()
    }
}

/// What the client is told: that there was a panic, and nothing about it.
pub(super) fn problem() -> Problem {
    Problem::known(Code::new("internal.panic"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_has_its_own_count_up_to_the_limit() {
        let places = Places::default();
        for place in 0..PLACES_MAX {
            assert_eq!(places.count(Some(&format!("src/lib.rs:{place}"))), 1);
        }
        assert_eq!(places.count(Some("src/lib.rs:7")), 2);
        assert_eq!(places.count(Some("src/other.rs:1")), 1, "the first beyond the limit");
        assert_eq!(places.count(Some("src/other.rs:2")), 2, "shares the count with it");
        assert_eq!(places.count(None), 3);
    }
}

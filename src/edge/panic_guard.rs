//! Routes that panic too often: each rests for a while, and is then tried again.
//!
//! What decides is a circuit [`Breaker`] per route. A route has one only from its first panic on
//! and until it was well for some time, so a service that does not panic pays one atomic read.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use steadfast_actors::breaker::{Breaker, BreakerState, Outcome, Permit};
use steadfast_actors::kernel::Code;
use tokio::time::Instant;

use super::limits::{InvalidLimit, count, time};
use crate::config::duration;
use crate::problem::Problem;

/// LIMIT: routes that are watched at a time. Those beyond may panic as before.
const ROUTES_MAX: usize = 256;
/// LIMIT: how long a route is watched after its last panic, besides its window. Meanwhile it is
/// remembered how often it had to rest.
const WATCHED_FOR: Duration = Duration::from_secs(600);
const HOUR: Duration = Duration::from_secs(3600);
/// The longest rest, unless the first is longer.
const REST_MAX: Duration = Duration::from_secs(120);

/// When a route has panicked too often.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct PanicLimits {
    /// The share of a route's requests that may panic, in per cent: at this share it rests.
    /// Default 0, which turns it off; up to 100. Off, because whoever can make a route panic can
    /// then also make it rest for others. Too low: one bad document stops a good route.
    pub percent: u8,
    /// Requests the window must hold before a share means anything; they are counted from a
    /// panic on. Default 20; 1 to 100000. Too low: a panic in a quiet hour is a large share.
    pub requests: u32,
    /// How far back the share looks. Default `1m`; `1s` to `1h`.
    #[serde(with = "duration")]
    pub window: Duration,
    /// The first rest; each further one is twice as long, up to 2 min. Default `5s`; `100ms` to
    /// `1h`.
    #[serde(with = "duration")]
    pub rest: Duration,
}

impl Default for PanicLimits {
    fn default() -> Self {
        let (window, rest) = (Duration::from_secs(60), Duration::from_secs(5));
        Self { percent: 0, requests: 20, window, rest }
    }
}

impl PanicLimits {
    /// Checks each limit against its range.
    ///
    /// # Errors
    ///
    /// [`InvalidLimit`] names the first that is wrong.
    pub fn check(&self) -> Result<(), InvalidLimit> {
        let Self { percent, requests, window, rest } = self;
        count("panics.percent", *percent, 0..=100)?;
        count("panics.requests", *requests, 1..=100_000)?;
        time("panics.window", *window, Duration::from_secs(1)..=HOUR)?;
        time("panics.rest", *rest, Duration::from_millis(100)..=HOUR)
    }
}

/// The range of each limit in words.
pub(super) fn expected(limit: &str) -> &'static str {
    match limit {
        "panics.percent" => "a whole number from 0 to 100",
        "panics.requests" => "a whole number from 1 to 100000",
        "panics.window" => "a duration from 1s to 1h",
        "panics.rest" => "a duration from 100ms to 1h",
        _ => "a section of settings",
    }
}

/// Lets a route rest that panics too often: its requests are answered 503 `route.resting` with
/// `Retry-After`, and after the rest a few are let through to try it. Other routes are unaffected.
///
/// A route is what has one pattern, with all its methods. Panics in its guards, extractors,
/// handler and bodies count; its guards run even while it rests. Clones share what they know:
/// give all workers clones of one.
///
/// ```
/// use steadfast::edge::{Edge, PanicGuard, PanicLimits, Recover};
///
/// let mut limits = PanicLimits::default();
/// limits.percent = 50;
/// let edge = Edge::new().recover(Recover::new().guard(PanicGuard::new(&limits)?));
/// # Ok::<_, steadfast::edge::InvalidLimit>(())
/// ```
#[derive(Clone)]
pub struct PanicGuard(Arc<Inner>);

struct Inner {
    limits: PanicLimits,
    /// How many routes are watched.
    watched: AtomicUsize,
    routes: RwLock<HashMap<Arc<str>, Watched>>,
}

struct Watched {
    breaker: Breaker,
    last_panic: Instant,
}

impl PanicGuard {
    /// A guard by these limits.
    ///
    /// # Errors
    ///
    /// [`InvalidLimit`] names the first that is out of its range.
    pub fn new(limits: &PanicLimits) -> Result<Self, InvalidLimit> {
        limits.check()?;
        let (watched, routes) = (AtomicUsize::new(0), RwLock::default());
        Ok(Self(Arc::new(Inner { limits: limits.clone(), watched, routes })))
    }

    /// The patterns of the routes that rest, or are being tried again.
    #[must_use]
    pub fn resting(&self) -> Vec<Arc<str>> {
        let routes = self.0.routes.read();
        let rests = |watched: &Watched| watched.breaker.snapshot().state != BreakerState::Closed;
        let resting = routes.iter().filter(|(_, watched)| rests(watched));
        let mut resting: Vec<_> = resting.map(|(route, _)| Arc::clone(route)).collect();
        resting.sort();
        resting
    }

    pub(crate) fn is_on(&self) -> bool {
        self.0.limits.percent > 0
    }

    /// Whether any route must be asked for at all.
    pub(super) fn is_watching(&self) -> bool {
        self.0.watched.load(Ordering::Relaxed) > 0
    }

    /// Asks for a route to be served. `None` if it is not watched.
    pub(super) fn enter(&self, route: &str) -> Result<Option<Trial>, Problem> {
        let routes = self.0.routes.read();
        let Some(watched) = routes.get(route) else { return Ok(None) };
        let entered = watched.breaker.try_acquire();
        let PanicLimits { window, rest, .. } = self.0.limits;
        let over = watched.last_panic.elapsed() > WATCHED_FOR + window + rest;
        drop(routes);
        match entered {
            Ok(permit) if over => {
                permit.release();
                self.forget(route);
                Ok(None)
            }
            Ok(permit) => Ok(Some(Trial(permit))),
            Err(rejected) => {
                // So that those who were refused do not come back together.
                let wait = rejected.retry_after + Duration::from_millis(fastrand::u64(0..=1000));
                let problem = Problem::known(Code::new("route.resting"));
                Err(problem.with_retry_after(wait).expected())
            }
        }
    }

    /// A request of this route panicked.
    pub(super) fn panicked(&self, route: &str, trial: Option<Trial>) {
        if !self.is_on() {
            return;
        }
        let mut routes = self.0.routes.write();
        if !routes.contains_key(route) && routes.len() < ROUTES_MAX {
            let Some(breaker) = breaker(route, &self.0.limits) else { return };
            let watched = Watched { breaker, last_panic: Instant::now() };
            routes.insert(route.into(), watched);
            self.0.watched.store(routes.len(), Ordering::Relaxed);
        }
        if let Some(watched) = routes.get_mut(route) {
            watched.last_panic = Instant::now();
            // While the route rests, none counts.
            let permit = trial.map(|Trial(permit)| permit);
            if let Some(permit) = permit.or_else(|| watched.breaker.try_acquire().ok()) {
                permit.finish(Outcome::Failure);
            }
        }
    }

    fn forget(&self, route: &str) {
        let mut routes = self.0.routes.write();
        drop(routes.remove(route));
        self.0.watched.store(routes.len(), Ordering::Relaxed);
    }
}

impl fmt::Debug for PanicGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PanicGuard")
            .field("limits", &self.0.limits)
            .field("resting", &self.resting())
            .finish_non_exhaustive()
    }
}

/// The breaker of a route. It measures panics only: one that takes long, or whose client left,
/// says nothing.
fn breaker(route: &str, limits: &PanicLimits) -> Option<Breaker> {
    let safe = |letter: char| letter.is_ascii_alphanumeric() || ".-".contains(letter);
    let name = route.chars().map(|letter| if safe(letter) { letter } else { '_' });
    let name: String = "route.".chars().chain(name).take(63).collect();
    let breaker = Breaker::builder(&name)
        .failure_percent(limits.percent)
        .min_calls(limits.requests)
        .window(limits.window)
        .slow_after(HOUR)
        .open_for(limits.rest)
        .open_max(limits.rest.max(REST_MAX))
        .probe_lease(Duration::from_secs(60))
        .without_actor();
    let told = |error| tracing::error!(%error, route, "route.unwatched");
    breaker.map_err(told).ok()
}

/// One request of a route that is watched. Dropped, it counts for nothing.
#[derive(Debug)]
pub(super) struct Trial(Permit);

impl Trial {
    pub(super) fn answered(self) {
        self.0.finish(Outcome::Success);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(percent: u8, requests: u32) -> PanicGuard {
        let limits = PanicLimits { percent, requests, ..PanicLimits::default() };
        PanicGuard::new(&limits).unwrap()
    }

    #[test]
    fn rests_at_the_share_and_the_number_of_requests_and_not_before() {
        let guard = guard(50, 6);
        assert!(!guard.is_watching());
        guard.panicked("/a", None);
        guard.panicked("/a", None);
        for _ in 0..2 {
            guard.enter("/a").unwrap().unwrap().answered();
        }
        let fifth = guard.enter("/a").unwrap();
        guard.panicked("/a", fifth);
        assert!(guard.resting().is_empty(), "three of five");
        let gone = guard.enter("/a").unwrap();
        drop(gone);
        assert!(guard.resting().is_empty(), "whoever leaves does not count");
        let sixth = guard.enter("/a").unwrap();
        guard.panicked("/a", sixth);
        assert_eq!(guard.resting(), ["/a".into()]);
        let problem = guard.enter("/a").unwrap_err();
        assert_eq!(problem.code().as_str(), "route.resting");
        assert!(problem.retry_after().unwrap() >= Duration::from_secs(4));
        assert!(guard.enter("/b").unwrap().is_none(), "not watched");
    }

    #[tokio::test(start_paused = true)]
    async fn a_route_that_was_well_for_long_is_forgotten() {
        let guard = guard(50, 6);
        guard.panicked("/a", None);
        let kept = WATCHED_FOR + guard.0.limits.window + guard.0.limits.rest;
        tokio::time::advance(kept).await;
        assert!(guard.enter("/a").unwrap().is_some());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(guard.enter("/a").unwrap().is_none());
        assert!(!guard.is_watching());
    }

    #[test]
    fn one_route_past_the_limit_is_not_watched() {
        let guard = guard(1, 1);
        for route in 0..=ROUTES_MAX {
            guard.panicked(&format!("/{route}"), None);
        }
        assert_eq!(guard.resting().len(), ROUTES_MAX);
        assert!(guard.enter(&format!("/{ROUTES_MAX}")).unwrap().is_none());
    }

    #[test]
    fn every_limit_has_a_range_and_keeps_to_it() {
        let check = |set: fn(&mut PanicLimits), refused: Option<&str>| {
            let mut limits = PanicLimits::default();
            set(&mut limits);
            assert_eq!(limits.check().err().map(|error| error.limit), refused);
        };
        check(|_| {}, None);
        check(|limits| limits.percent = 100, None);
        check(|limits| limits.percent = 101, Some("panics.percent"));
        check(|limits| limits.requests = 0, Some("panics.requests"));
        check(|limits| limits.window = Duration::from_millis(999), Some("panics.window"));
        check(|limits| limits.rest = Duration::from_millis(99), Some("panics.rest"));
    }

    #[test]
    fn any_pattern_makes_a_breaker() {
        let limits = PanicLimits { percent: 1, ..PanicLimits::default() };
        for route in ["", "/", "/a/{id:[0-9]+}/ü", &"/long".repeat(100)] {
            assert!(breaker(route, &limits).is_some(), "{route}");
        }
    }
}

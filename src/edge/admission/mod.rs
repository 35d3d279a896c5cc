//! Admission: how many requests are served at a time, who waits, and who is refused.
//!
//! [`Admission`] stands in the [`Edge`](super::Edge), after routing and before the route: a
//! request that is refused has cost its head and the search for its route; its body is not read,
//! and no extractor, handler or middleware of the route ran.

mod adapt;
mod class;
mod client;
mod counts;
mod gate;
pub(super) mod limits;
mod passage;
mod rate;
mod state;
mod watch;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use steadfast_actors::kernel::Priority;
use tokio::time::Instant;

use self::gate::Gate;
use self::rate::Rates;
use self::watch::ShedWatch;
use super::limits::{ConnectionLimits, InvalidLimit};

pub use self::class::Admit;
pub(super) use self::class::{parse, word};
pub use self::counts::{AdmissionCounts, ClassCounts};
pub use self::limits::{AdmissionLimits, QueueLimits, RateLimits};
pub(super) use self::passage::Passage;

/// How many requests are served at a time, who waits, and who is refused. Clones share it: give
/// all workers clones of one.
///
/// # Guarantees
///
/// - Never more requests are served than the limit allowed when they were admitted. A request is
///   served until its response was handed over to the last byte, or until it was dropped.
/// - A place that comes free goes to the highest class that waits. The lowest class is the first
///   to be shed.
/// - Nobody waits longer than the queue's target and interval together, nor past its deadline.
/// - A refusal says when to come back: 503 `admission.overloaded` and `admission.expired` for our
///   capacity, 429 `admission.rate_limited` for the client's quota, each with a `Retry-After` that
///   differs from one to the next. Nothing of the request ran, and `retryable` says so.
/// - A class that a client sends counts only from [trusted](super::RequestGuard::trust_priority)
///   peers, and so does the address of a client behind a proxy.
/// - Where there is room, a place is taken without a lock.
///
/// # What it does not do
///
/// - It does not share a limit between processes.
/// - It does not look at what requests cost: a cheap one takes a place as a dear one does.
/// - A route that is admitted [always](Admit::always) is not counted.
///
/// # Events
///
/// | log message | level | when |
/// |---|---|---|
/// | `admission.shedding` | warn | something was shed; at most every 10 s, with the total |
/// | `admission.limit` | debug | the limit was raised or lowered |
///
/// # Examples
///
/// ```
/// use steadfast::edge::{Admission, AdmissionLimits, ConnectionLimits, Edge};
///
/// let mut limits = AdmissionLimits::default();
/// limits.limit = 200;
/// let admission = Admission::new(&limits, &ConnectionLimits::default())?;
/// let edge = Edge::new().admission(admission);
/// # Ok::<_, steadfast::edge::InvalidLimit>(())
/// ```
#[derive(Clone)]
pub struct Admission(Arc<Inner>);

struct Inner {
    gate: Option<Arc<Gate>>,
    rates: Option<Rates>,
    /// Whom proxies are trusted to name, and how many bits of an address are one client.
    connections: ConnectionLimits,
    watch: ShedWatch,
}

impl Admission {
    /// Admission by these limits. Of the connections' it uses the prefixes and the trusted
    /// networks, to tell clients apart.
    ///
    /// # Errors
    ///
    /// [`InvalidLimit`] names the first that is out of its range, or contradicts another.
    pub fn new(
        limits: &AdmissionLimits,
        connections: &ConnectionLimits,
    ) -> Result<Self, InvalidLimit> {
        limits.check()?;
        connections.check()?;
        let now = Instant::now();
        Ok(Self(Arc::new(Inner {
            gate: (limits.limit > 0).then(|| Gate::new(limits, now)),
            rates: Rates::new(&limits.rate, now),
            connections: connections.clone(),
            watch: ShedWatch::new(now),
        })))
    }

    /// What became of the requests so far.
    #[must_use]
    pub fn counts(&self) -> AdmissionCounts {
        let rate_limited = self.0.watch.rate_limited.load(Ordering::Relaxed);
        let Some(gate) = &self.0.gate else {
            return AdmissionCounts { rate_limited, ..AdmissionCounts::default() };
        };
        AdmissionCounts {
            limit: gate.limit(),
            serving: gate.serving(),
            waiting: gate.waiting(),
            rate_limited,
            critical: gate.tally.read(Priority::Critical),
            high: gate.tally.read(Priority::High),
            normal: gate.tally.read(Priority::Normal),
            sheddable: gate.tally.read(Priority::Sheddable),
        }
    }

    /// Whether requests were shed in the last five seconds.
    #[must_use]
    pub fn is_shedding(&self) -> bool {
        self.0.watch.is_shedding(Instant::now())
    }

    /// Whether there is anything that it would refuse.
    pub(crate) fn is_on(&self) -> bool {
        self.0.gate.is_some() || self.0.rates.is_some()
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Admission").field(&self.counts()).finish()
    }
}

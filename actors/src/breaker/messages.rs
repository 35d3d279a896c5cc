//! What the breaker's actor is told, and what is read of a breaker.
//!
//! Calls never go through these messages; they are for operators.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{BreakerState, Cause, DependencyId};

/// Refuses all calls, until `until` or another command.
///
/// After `until` the dependency is tried with probes, as after a pause. A reply means
/// that calls are refused from now on; calls under way are not counted any more.
#[derive(Debug, Clone, actix::Message)]
#[rtype(result = "Ack")]
pub struct ForceOpen {
    /// When the command ends; `None`: with another command.
    pub until: Option<Instant>,
    /// Shown with the state; cut at 256 bytes.
    pub why: Arc<str>,
}

/// Closes the breaker with an empty window; from then on calls decide again.
///
/// Earlier openings still lengthen the next pause; [`Reset`] forgets them too.
#[derive(Debug, Clone, actix::Message)]
#[rtype(result = "Ack")]
pub struct ForceClose {
    /// Shown with the state; cut at 256 bytes.
    pub why: Arc<str>,
}

/// Lets all calls pass unmeasured, until `until` or another command. Then it closes.
#[derive(Debug, Clone, actix::Message)]
#[rtype(result = "Ack")]
pub struct Disable {
    /// When the command ends; `None`: with another command.
    pub until: Option<Instant>,
    /// Shown with the state; cut at 256 bytes.
    pub why: Arc<str>,
}

/// Lets all calls pass and measures them, until `until` or another command. Then it closes.
#[derive(Debug, Clone, actix::Message)]
#[rtype(result = "Ack")]
pub struct MetricsOnly {
    /// When the command ends; `None`: with another command.
    pub until: Option<Instant>,
    /// Shown with the state; cut at 256 bytes.
    pub why: Arc<str>,
}

/// Makes the breaker as good as new: closed, window empty, earlier openings forgotten.
#[derive(Debug, Clone, actix::Message)]
#[rtype(result = "Ack")]
pub struct Reset {
    /// Shown with the state; cut at 256 bytes.
    pub why: Arc<str>,
}

/// An operator's command has been carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, actix::MessageResponse)]
#[non_exhaustive]
pub struct Ack {
    /// The state before.
    pub from: BreakerState,
    /// The state now.
    pub to: BreakerState,
}

impl Ack {
    pub(super) const fn new(from: BreakerState, to: BreakerState) -> Self {
        Self { from, to }
    }
}

/// A breaker as it is now. Reading one takes no lock that calls take.
///
/// A pause that is over shows as open with nothing remaining, until a call or the actor
/// ends it. While a transition is being made, `cause`, `since` and `epoch` may still be those of
/// the state before.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// Whose breaker.
    pub dependency: DependencyId,
    /// What it does with calls.
    pub state: BreakerState,
    /// Why it came into this state.
    pub cause: Cause,
    /// When it did, on the breaker's own clock.
    pub since: Duration,
    /// The breaker's own clock now.
    pub now: Duration,
    /// How long the state still lasts, if that is certain.
    pub remaining: Option<Duration>,
    /// Changes of state so far.
    pub epoch: u64,
    /// Calls counted in the window. Exact up to a quarter of a million per bucket and
    /// processor; beyond, the rates stay right and this is too low.
    pub calls: u64,
    /// Failed calls in the window.
    pub failures: u64,
    /// Slow calls in the window; `None` if slow calls are not tracked.
    pub slow: Option<u64>,
    /// Calls refused since the breaker was built.
    pub rejected: u64,
    /// Results that came after their state was over, and were ignored.
    pub late: u64,
    /// Earlier openings that lengthen the next pause.
    pub openings: u16,
}

//! The HTTP edge: what stands between actix-web and a handler.
//!
//! [`Edge`] is the whole of it as one middleware; its three parts can be had one by one.
//!
//! | part | what it guarantees |
//! |---|---|
//! | [`RequestGuard`] | an id, a deadline and a cancellation for each request; one record of how it went |
//! | [`Normalise`] | each error is a problem document with a stable code |
//! | [`Recover`] | a panic costs one request, not its connection |

mod access;
pub(crate) mod backlog;
mod body;
mod deadline;
mod dev_mailbox;
mod exchange;
mod health;
mod in_flight;
mod json;
mod normalise;
mod raw_json;
mod recover;
mod request_context;
pub(crate) mod shutdown;
mod stack;
mod trigger;
mod watch;
mod webhook;

pub use body::EdgeBody;
pub use deadline::{Deadline, DeadlineService, Scoped};
pub use dev_mailbox::dev_mailbox;
pub use exchange::EdgeCounts;
pub use health::Probes;
pub use in_flight::{InFlight, InFlightGuard};
pub use json::{Json, JsonLimit};
pub use normalise::Normalise;
pub use raw_json::RawJson;
pub use recover::{AbortResponse, PanicReport, Phase, Recover};
pub use request_context::{
    Ctx, REQUEST_ID, REQUEST_TIMEOUT_MS, RequestGuard, TRACEPARENT, TrustPolicy,
};
pub use shutdown::{DrainPlan, Drained};
pub use stack::{Edge, EdgeFuture, EdgeService};
pub use trigger::ShutdownTrigger;
pub use webhook::receive;

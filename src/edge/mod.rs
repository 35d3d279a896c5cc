//! The HTTP edge: what stands between actix-web and a handler.
//!
//! [`Edge`] is the whole of it as one middleware; its three parts can be had one by one.
//!
//! | part | what it guarantees |
//! |---|---|
//! | [`RequestGuard`] | an id, a deadline and a cancellation for each request; one record of how it went |
//! | [`Normalise`] | each error is a problem document with a stable code |
//! | [`Recover`] | a panic costs one request, not its connection |
//!
//! [`Admission`] is a fourth, off unless it is given: how many requests are served at a time.
//!
//! Below it stands the server. [`EdgeServer`] is actix-web's with [limits](EdgeLimits) on every
//! connection; [`harden`] gives `HttpServer` those that it can have.

mod access;
mod admission;
pub(crate) mod backlog;
mod body;
mod body_guard;
mod deadline;
mod dev_mailbox;
mod disconnect;
mod exchange;
mod health;
mod in_flight;
mod json;
pub(crate) mod limits;
mod normalise;
mod pace;
mod panic_guard;
mod raw_json;
mod recover;
mod request_context;
mod route_option;
mod server;
pub(crate) mod shutdown;
mod stack;
mod table;
mod trigger;
mod watch;
mod webhook;

pub use admission::{
    Admission, AdmissionCounts, AdmissionLimits, Admit, ClassCounts, QueueLimits, RateLimits,
};
pub use body::EdgeBody;
pub use body_guard::{BodyGuard, BodyGuardFuture, BodyGuardService, GuardedBody, harden};
pub use deadline::Deadline;
pub use dev_mailbox::dev_mailbox;
pub use disconnect::Disconnect;
pub use exchange::EdgeCounts;
pub use health::Probes;
pub use in_flight::{InFlight, InFlightGuard};
pub use json::{Json, JsonLimit};
#[cfg(feature = "http2")]
pub use limits::Http2Limits;
pub use limits::{
    ConnectionLimits, EdgeLimits, HeadLimits, InvalidLimit, InvalidNetwork, Network, Rate,
};
pub use normalise::Normalise;
pub use pace::Pace;
pub use panic_guard::{PanicGuard, PanicLimits};
pub use raw_json::RawJson;
pub use recover::{AbortResponse, PanicReport, Phase, Recover};
pub use request_context::{
    Ctx, REQUEST_ID, REQUEST_PRIORITY, REQUEST_TIMEOUT_MS, RequestGuard, TRACEPARENT, TrustPolicy,
};
pub use route_option::{RouteOptionService, Scoped};
pub use server::{ConnectionCounts, Connections, EdgeServer};
pub use shutdown::{DrainPlan, Drained};
pub use stack::{Edge, EdgeFuture, EdgeService};
pub use table::{FlightPhase, InFlightRequest, InFlightRequests};
pub use trigger::ShutdownTrigger;
pub use webhook::receive;

//! The HTTP edge: what stands between actix-web and a handler.

pub(crate) mod backlog;
mod health;
mod in_flight;
pub(crate) mod shutdown;
mod trigger;

pub use health::Probes;
pub use in_flight::{InFlight, InFlightGuard};
pub use shutdown::{DrainPlan, Drained};
pub use trigger::ShutdownTrigger;

//! The HTTP edge: what stands between actix-web and a handler.

mod in_flight;

pub use in_flight::{InFlight, InFlightGuard};

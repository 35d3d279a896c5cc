//! Supervision on actix.
mod error;
mod fault;
pub mod panic;
mod request;

pub use error::{BuildError, CallError, CutShort, Refused};
pub use fault::{Code, Fault};
pub use request::{InvalidRequestId, Priority, RequestContext, RequestId, Stopped, TraceParent};

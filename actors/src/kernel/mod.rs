//! Supervision on actix: the context an actor runs in, the handle that reaches it, and
//! the tree that keeps it alive.
mod dead_letters;
mod error;
mod fault;
mod gate;
mod host;
mod lifecycle;
pub mod panic;
mod request;
mod request_id;
mod restart;
mod roll;
mod shared;
mod spec;
mod supervisor;
mod timer;
mod trace_parent;
mod tree;
mod verdicts;

#[cfg(test)]
mod tests;

pub use dead_letters::{DeadLetter, DeadLetterReason, DeadLetters};
pub use error::{BuildError, CallError, CutShort, Refused};
pub use fault::{Code, Fault};
pub use host::{Call, Context, Ref, Reply};
pub use lifecycle::{Lifecycle, Watch};
pub(crate) use request::Ambient;
pub use request::{Priority, RequestContext, Stopped};
pub use request_id::{InvalidRequestId, RequestId};
pub use restart::{Backoff, Exhausted, Restart};
pub use shared::{ActorState, LifecycleEvent};
pub use spec::{Overflow, Placement, Spec};
pub use supervisor::{Group, Strategy, Supervisor};
pub use timer::DeadlineTimer;
pub use trace_parent::TraceParent;
pub use tree::{NodeInfo, StopReport, Tree, TreeSnapshot};

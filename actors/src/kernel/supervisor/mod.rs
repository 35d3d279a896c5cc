//! Groups of actors that start, fail and stop together.
//!
//! Each child counts its own failures and waits out its own back-off; a group decides
//! who restarts with it. The [`Supervisor`] is an actor like any other, so a group can be
//! a child of a group, and a failure that a child escalates is a failure of its
//! supervisor: counted against the supervisor's own intensity, and answered by
//! restarting the whole group.
//!
//! It acts through the children's control lane, past their queues, and what it must know
//! is level-triggered on a [`Board`]: a supervisor that was itself rebuilt looks at it
//! and goes on.

mod actor;
mod board;
mod group;

pub use actor::Supervisor;
pub use group::{Group, Strategy};

pub(super) use board::{Board, Child, stop_all};

//! What the two programs of this crate share: the rounds, the peers and the tables.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark prints its result, and a peer that fails has none"
)]

pub mod counters;
pub mod edge;
pub mod enums;
pub mod guard;
pub mod inbox;
pub mod jobs;
pub mod kernel;
pub mod mailer;
pub mod measure;
pub mod overload;
mod plot;

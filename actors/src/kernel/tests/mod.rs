//! Claims about the kernel. Time is tokio's paused clock, but for what is about real
//! threads.

// loom's atomics work only inside its own models.
#![cfg(not(steadfast_loom))]

mod accounting;
mod calls;
mod endings;
mod fairness;
mod foreign;
mod groups;
mod places;
mod requests;
mod restarts;
mod spans;
mod stops;
mod support;
mod threads;
mod upheavals;
mod wedges;

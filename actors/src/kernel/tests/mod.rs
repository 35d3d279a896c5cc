//! Claims about the kernel. Time is tokio's paused clock: no test sleeps.

mod calls;
mod support;

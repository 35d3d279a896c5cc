//! The supervised actors behind `steadfast`. Knows no HTTP server.
#[cfg(panic = "abort")]
compile_error!(
    "steadfast turns a panic into one failed message; `panic = \"abort\"` would turn it into a \
     dead process. Remove `panic = \"abort\"` from the profile, or do without this crate."
);

pub mod breaker;
pub mod cache_fill;
pub mod health;
pub mod kernel;

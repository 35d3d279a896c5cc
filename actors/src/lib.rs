//! The supervised actors behind `steadfast`. Knows no HTTP server.
//!
//! [`kernel`] supervises actors on actix; each other module is one concern that stands on it
//! and knows no other, or only those it stands on: [`breaker`], [`cache_fill`], [`health`],
//! [`store`], [`jobs`], [`mailer`], [`inbox`], [`schema_enum`], [`counters`]. Services name the crate
//! `steadfast`, which re-exports all of this and adds the HTTP edge.

#[cfg(panic = "abort")]
compile_error!(
    "steadfast turns a panic into one failed message; `panic = \"abort\"` would turn it into a \
     dead process. Remove `panic = \"abort\"` from the profile, or do without this crate."
);

pub mod breaker;
pub mod cache_fill;
pub mod counters;
pub mod health;
mod hex;
pub mod inbox;
pub mod jobs;
pub mod kernel;
pub mod mailer;
pub mod schema_enum;
pub mod store;
pub mod tls;

//! An actor-model resilience runtime for actix-web services.

pub mod config;
pub mod edge;
pub mod runtime;

pub use runtime::Steadfast;
#[doc(inline)]
pub use steadfast_actors::{breaker, cache_fill, health, kernel};

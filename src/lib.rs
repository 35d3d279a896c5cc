//! An actor-model resilience runtime for actix-web services.

pub mod config;
pub mod edge;

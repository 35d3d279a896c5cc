//! One binary for all integration tests: linking is what takes time.

mod health;
mod runtime;
mod wire;

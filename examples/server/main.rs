//! The example server of steadfast: a service whose fragile parts are supervised actors.
//!
//! `cargo run --example server` needs nothing installed; `-- --help` lists flags and routes.
//! Break it with `PUT /demo/upstream`, `GET /demo/panic` and `POST /demo/actors/flaky/poison`,
//! and watch what still works.

mod connections;
mod database;
mod demo;
mod errors;
mod flaky;
mod interim;
mod options;
mod products;
mod rates;
mod routes;
mod serve;
mod services;
mod simulator;
mod slow;
mod upstream;

use std::error::Error;
use std::io::{self, IsTerminal};
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use crate::options::Options;

fn main() -> ExitCode {
    let options = Options::parse();
    log_to_stderr();
    match actix_web::rt::System::new().block_on(serve::run(options)) {
        Ok(drained) => drained.exit_code(),
        Err(error) => {
            tracing::error!("the server cannot run: {}", chain(&*error));
            ExitCode::FAILURE
        }
    }
}

/// Standard output belongs to the ready line.
fn log_to_stderr() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_unset| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_writer(io::stderr).with_env_filter(filter);
    log.with_ansi(io::stderr().is_terminal()).init();
}

/// An error and everything that caused it.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

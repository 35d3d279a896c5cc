//! The example server of steadfast: a service whose fragile parts are supervised actors.
//!
//! `cargo run --example server` needs nothing installed; `-- --help` lists flags and routes. A
//! tour, with what to look for:
//!
//! ```sh
//! curl -i localhost:8080/products/1                 # x-cache: filled, then hit
//! curl -i localhost:8080/rates/USD                  # asks the third party
//! curl -X PUT localhost:8080/demo/upstream -H 'content-type: application/json' \
//!      -d '{"service":"rates","mode":"hang"}'       # break the third party
//! curl -i localhost:8080/rates/USD                  # 504, five times; then 503 at once
//! curl localhost:9090/readyz?verbose                # degraded, and still ready
//! curl -i localhost:8080/demo/panic                 # 500, and the connection lives
//! curl -X POST localhost:8080/demo/actors/flaky/poison   # a supervised restart
//! curl -i localhost:8080/orders -H 'content-type: application/json' \
//!      -d '{"product_id":1,"quantity":2,"email":"ada@example.com"}'   # order, counter and mail
//! curl -i localhost:8080/reports -H 'content-type: application/json' \
//!      -d '{"name":"monthly"}'                      # a job that may be shed
//! curl localhost:8080/jobs/2                        # how far it is; kill -9 loses neither
//! curl -i localhost:8080/mails -H 'content-type: application/json' -H 'idempotency-key: a' \
//!      -d '{"to":"ada@example.com","subject":"Hi","text":"Hello"}'   # 202, and the same id again
//! curl localhost:8080/demo/upstream                 # what really arrived at the provider
//! curl -X POST localhost:8080/demo/counters/damage  # every product counts wrongly
//! curl -X POST localhost:8080/demo/counters/repair  # a job that puts it right, under live orders
//! curl localhost:8080/demo/counters/report          # what it found
//! curl localhost:8080/demo/stats                    # what really happened
//! ```
//!
//! Where to read on: `serve.rs` puts everything together, `services.rs` declares the actors,
//! `products.rs`, `rates.rs`, `orders.rs`, `mails.rs`, `reviews.rs`,
//! `counters.rs`, `webhooks.rs` and `reports.rs` are concerns as an application writes them. `simulator/` is the
//! third party, which knows nothing of this library.

mod connections;
mod counters;
mod database;
mod demo;
mod errors;
mod flaky;
mod jobs;
mod mails;
mod options;
mod orders;
mod products;
mod rates;
mod reports;
mod reviews;
mod routes;
mod serve;
mod services;
mod simulator;
mod slow;
mod upstream;
mod webhooks;

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use steadfast::edge::Drained;
use steadfast::telemetry;

use crate::options::Options;

fn main() -> ExitCode {
    match run(Options::parse()) {
        Ok(drained) => drained.exit_code(),
        Err(error) => failed(&*error),
    }
}

fn run(options: Options) -> Result<Drained, Box<dyn Error>> {
    let settings = serve::settings(&options)?;
    // Lines go to standard error: standard output belongs to the ready line.
    settings.log.telemetry().install()?;
    actix_web::rt::System::new().block_on(serve::run(options, settings))
}

/// Tells an error and everything that caused it. Not through the log, which may be filtered.
fn failed(error: &dyn Error) -> ExitCode {
    let mut text = format!("the server cannot run: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    // The log tells what went before.
    telemetry::flush();
    // Where nobody reads standard error, the exit code still tells.
    let _unread = writeln!(io::stderr(), "{text}");
    ExitCode::FAILURE
}

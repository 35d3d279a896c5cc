//! The whole edge beside bare actix-web: the `edge` command.

use std::io;

use clap::Args;
use tokio::spawn;
use tokio::task::yield_now;

use crate::measure::{median, median_ratio, percentile, to_float, verdict};

mod load;
mod server;

pub(crate) use load::length_of;
use load::{Connections, Round};
use server::Server;

/// The bar we set ourselves: requests per second as a share of bare actix-web's.
const BAR: f64 = 0.90;

/// What the `edge` command measures, and how long.
#[derive(Debug, Clone, Args)]
pub struct Settings {
    /// Rounds that count, 1 or more.
    #[arg(long, default_value_t = 31, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// Requests to each server in each round, in thousands.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    thousands: u16,
    /// Keep-alive connections to each server.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1000))]
    connections: u16,
    /// Only rows whose title contains this.
    #[arg(long, default_value = "")]
    only: String,
}

/// Runs all rows. Returns whether every bar was reached.
///
/// # Errors
///
/// A server that cannot listen on loopback, or that answers with anything but 200.
pub async fn run(settings: &Settings) -> io::Result<bool> {
    let bare = Server::start(false)?;
    let whole = Server::start(true)?;
    let awake = spawn(stay_awake());
    let mut passes = true;
    for (title, request) in [
        ("GET, 13 bytes of text", load::get()),
        ("POST, 1 kB of JSON read and answered", load::post()),
    ] {
        if title.contains(&settings.only) {
            passes &= row(title, &request, [&bare, &whole], settings).await?;
        }
    }
    awake.abort();
    for server in [bare, whole] {
        server.stop().await;
    }
    Ok(passes)
}

/// Keeps the generator's processor from sleeping. Clients of a real server do not sleep on its own
/// machine: to wake one up with each answer costs the server more than the answer, and the more, the
/// longer the generator had to wait.
async fn stay_awake() {
    loop {
        yield_now().await;
    }
}

async fn row(
    title: &str,
    request: &[u8],
    servers: [&Server; 2],
    settings: &Settings,
) -> io::Result<bool> {
    let mut sides = Vec::new();
    for server in servers {
        let connections = Connections::open(server.address(), settings.connections).await?;
        sides.push((connections, Vec::new()));
    }
    for round in 0..=settings.rounds {
        // Each side goes first in every other round.
        if round % 2 == 1 {
            sides.reverse();
        }
        for (connections, rounds) in &mut sides {
            let done = connections.run(request, u32::from(settings.thousands) * 1000).await?;
            // The first round warms up.
            if round > 0 {
                rounds.push(done);
            }
        }
        if round % 2 == 1 {
            sides.reverse();
        }
    }
    let rounds: Vec<Vec<Round>> = sides.into_iter().map(|(_, rounds)| rounds).collect();
    Ok(print(title, &rounds))
}

fn print(title: &str, sides: &[Vec<Round>]) -> bool {
    println!("### {title}\n");
    println!("| server | best req/s | median req/s | p50 µs | p99 µs | ratio | bar |");
    println!("|---|---:|---:|---:|---:|---:|---|");
    let rates: Vec<Vec<f64>> =
        sides.iter().map(|rounds| rounds.iter().map(Round::per_second).collect()).collect();
    let [bare, whole] = rates.as_slice() else { return false };
    let ratio = median_ratio(whole, bare);
    let passes = ratio >= BAR;
    let bar = format!("≥ {BAR:.2} {}", verdict(passes));
    let lines = [("bare actix-web", 1.0, ""), ("with the whole edge", ratio, bar.as_str())];
    for (((name, ratio, bar), rates), rounds) in lines.into_iter().zip(&rates).zip(sides) {
        let best = rates.iter().copied().fold(0.0, f64::max);
        let middle = median(rates);
        let [p50, p99] = [0.5, 0.99].map(|share| latency(rounds, share));
        println!("| {name} | {best:.0} | {middle:.0} | {p50:.0} | {p99:.0} | {ratio:.3} | {bar} |");
    }
    println!();
    passes
}

/// The median over the rounds of a percentile within them, in microseconds.
fn latency(rounds: &[Round], share: f64) -> f64 {
    let each: Vec<f64> =
        rounds.iter().map(|round| percentile(&round.microseconds, share)).collect();
    median(&each)
}

impl Round {
    fn per_second(&self) -> f64 {
        to_float(self.microseconds.len() as u64) / self.took.as_secs_f64()
    }
}

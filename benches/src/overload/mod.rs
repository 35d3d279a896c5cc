//! Three times as many requests as can be served, admission off and on: the `overload` command.
//!
//! A real server whose handlers need one of a few slots for some time, so that its capacity is
//! known; what it really serves is measured first, in the same run. Then requests of four classes
//! come at a steady rate, whether or not the ones before were answered, and each is worth
//! something only within its deadline.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

mod load;
mod plot;
mod report;
mod server;

use load::Episode;
use server::{Mode, Server};

/// Places at the dependency that each handler needs.
const SLOTS: usize = 16;
/// How long a handler has one, at least and at most, in microseconds; evenly between, so that
/// places come free one by one. With all of them that is not quite 800 requests a second.
const WORK_US: [u64; 2] = [10_000, 30_000];
/// What each client waits at most.
const PATIENCE: Duration = Duration::from_millis(250);
/// Of a hundred requests, how many are of each class: critical, high, normal, sheddable.
const MIX: [u64; 4] = [10, 15, 35, 40];
const CLASSES: [&str; 4] = ["critical", "high", "normal", "sheddable"];
/// How many times the capacity comes.
const OVERLOAD: u64 = 3;

/// How the `overload` command is run.
#[derive(Debug, Clone, Args)]
pub struct Settings {
    /// How long each episode is measured, in seconds.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(2..=600))]
    seconds: u64,
    /// How long each episode runs before that, in seconds.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=60))]
    warm_s: u64,
    /// Where the plot goes.
    #[arg(long, default_value = "benches/plots/overload.svg")]
    plot: PathBuf,
}

/// Runs all episodes, prints the table and writes the plot. Returns whether every bar was reached.
///
/// # Errors
///
/// A server that cannot listen on loopback, or a plot that cannot be written.
pub async fn run(settings: &Settings) -> io::Result<bool> {
    let warm = Duration::from_secs(settings.warm_s);
    let measured = Duration::from_secs(settings.seconds);
    let capacity = capacity(Duration::from_secs(settings.seconds.div_ceil(5))).await?;
    // Nobody else is there, and it comes at a tenth of the capacity.
    let unloaded = episode(Mode::Off, [capacity / 10, 0, 0, 0], warm, measured).await?;
    let offered = MIX.map(|part| capacity * OVERLOAD * part / 100);
    let mut episodes = Vec::new();
    for mode in [Mode::Off, Mode::Fixed, Mode::Adaptive] {
        episodes.push(episode(mode, offered, warm, measured).await?);
    }
    let passes = report::print(capacity, offered, &unloaded, &episodes);
    if let Some(folder) = settings.plot.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(&settings.plot, plot::svg(capacity, &episodes))?;
    println!("\nPlot: {}", settings.plot.display());
    Ok(passes)
}

/// Requests a second that are answered when there is always a next one and none waits.
async fn capacity(measured: Duration) -> io::Result<u64> {
    let server = Server::start(Mode::Off)?;
    let capacity = load::closed(server.address(), SLOTS * 2, measured).await?;
    server.stop().await;
    Ok(capacity)
}

async fn episode(
    mode: Mode,
    offered: [u64; 4],
    warm: Duration,
    measured: Duration,
) -> io::Result<Episode> {
    let server = Server::start(mode)?;
    let episode = load::open(server.address(), mode, offered, warm, measured).await?;
    let limit = server.limit();
    server.stop().await;
    Ok(Episode { limit, ..episode })
}

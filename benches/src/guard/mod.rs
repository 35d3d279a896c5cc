//! A slow dependency and a large backlog, guard off and on: the `guard` command.
//!
//! Real jobs in a real store: a service of known pace gets twice the work that it can do, on top
//! of a backlog, for a while; then the arrivals fall to half its pace. What the guard does to
//! each class is compared with what happens without one. All times of the guard are scaled down,
//! so that an episode fits a minute.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

mod episode;
mod plot;
mod report;

use episode::Course;

/// How the `guard` command is run.
#[derive(Debug, Clone, Args)]
pub struct Settings {
    /// Jobs that wait when it begins, in thousands.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    thousands: u32,
    /// How long twice as much comes as can be done, in seconds.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(5..=600))]
    overload_s: u64,
    /// The longest an episode is watched for, in seconds.
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u64).range(20..=3600))]
    watch_s: u64,
    /// Where the plot goes.
    #[arg(long, default_value = "benches/plots/guard.svg")]
    plot: PathBuf,
    /// Where the database goes.
    #[arg(long, default_value = "target/bench-jobs")]
    folder: PathBuf,
}

impl Settings {
    fn course(&self) -> Course {
        Course {
            backlog: u64::from(self.thousands) * 1000,
            overload: Duration::from_secs(self.overload_s),
            watch: Duration::from_secs(self.watch_s),
        }
    }
}

/// Runs both episodes, prints the table and writes the plot. Returns whether every bar was
/// reached.
///
/// # Errors
///
/// The queue failed, or the plot cannot be written.
pub async fn run(settings: &Settings) -> io::Result<bool> {
    std::fs::create_dir_all(&settings.folder)?;
    let course = settings.course();
    let mut episodes = Vec::new();
    for guarded in [false, true] {
        let episode = episode::run(&course, guarded, &settings.folder).await;
        episodes.push(episode.map_err(io::Error::other)?);
    }
    let passes = report::print(&course, &episodes);
    if let Some(folder) = settings.plot.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(&settings.plot, plot::svg(&course, &episodes))?;
    println!("\nPlot: {}", settings.plot.display());
    Ok(passes)
}

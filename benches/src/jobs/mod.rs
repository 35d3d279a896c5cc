//! The job queue beside those of others, on the same disk and the same server: the `jobs`
//! command.

use std::io;
use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, ValueEnum};

use crate::measure::percentile;

mod admission;
mod backlog;
mod peers;
mod rescue;
mod rig;
mod sheet;
mod work;

pub use rescue::{HolderSettings, hold};
pub(crate) use rig::{Place, Site, words};
pub(crate) use sheet::{Bar, Failure, Sample, Scenario, measure};

/// What the `jobs` command measures, and how much of it.
#[derive(Debug, Clone, Args)]
pub struct Settings {
    /// Rounds, 1 or more.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    /// Jobs of each contender in each round, in thousands; peers that are slow get fewer.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    thousands: u16,
    /// Which parts; all by default.
    #[arg(long, value_enum, value_delimiter = ',')]
    part: Vec<Part>,
    /// Only scenarios whose name or heading contains this.
    #[arg(long)]
    only: Option<String>,
    /// The server for the PostgreSQL parts.
    #[arg(
        long,
        env = "STEADFAST_TEST_POSTGRES",
        default_value = "postgres://postgres@127.0.0.1:5432/test"
    )]
    postgres: String,
    /// Where the files of the SQLite parts go; it should be on a real disk.
    #[arg(long, default_value = "target/bench-jobs")]
    folder: PathBuf,
}

/// A part of the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Throughput and latency on SQLite.
    Sqlite,
    /// Throughput and latency on PostgreSQL.
    Postgres,
    /// What a large backlog costs.
    Backlog,
    /// What the guard costs an enqueue.
    Admission,
    /// How long after a kill -9 its jobs run elsewhere.
    Rescue,
    /// Other job queues, in the tables of the first two parts.
    Peers,
}

const ALL: [Part; 6] =
    [Part::Sqlite, Part::Postgres, Part::Backlog, Part::Admission, Part::Rescue, Part::Peers];

impl Settings {
    fn jobs(&self) -> u64 {
        u64::from(self.thousands) * 1000
    }

    fn has(&self, part: Part) -> bool {
        self.part.is_empty() || self.part.contains(&part)
    }

    fn keeps(&self, scenario: &Scenario) -> bool {
        let title = format!("{scenario:?}");
        self.only.as_ref().is_none_or(|only| title.contains(only))
    }
}

/// Measures all parts. Returns whether every bar was reached.
///
/// # Errors
///
/// The folder cannot be made or written.
pub async fn run(settings: &Settings) -> io::Result<bool> {
    std::fs::create_dir_all(&settings.folder)?;
    println!("{}", disk(&settings.folder)?);
    let mut scenarios = Vec::new();
    let mut passes = true;
    for part in ALL.into_iter().filter(|part| settings.has(*part)) {
        match part {
            Part::Sqlite => scenarios.extend(work::sqlite(settings)),
            Part::Postgres => scenarios.extend(work::postgres(settings)),
            Part::Backlog => scenarios.extend(backlog::scenarios(settings)),
            Part::Admission => passes &= admission::run(settings.rounds),
            Part::Rescue => scenarios.extend(rescue::scenarios(settings)),
            Part::Peers => scenarios.extend(peers::scenarios(settings)),
        }
    }
    scenarios.retain(|scenario| settings.keeps(scenario));
    passes &= measure(scenarios, settings.rounds).await;
    println!("\n{}", disk(&settings.folder)?);
    Ok(passes)
}

/// How long the disk takes to make an append of a page last.
fn disk(folder: &std::path::Path) -> io::Result<String> {
    use std::io::Write as _;

    let path = folder.join("fsync.probe");
    let mut file = std::fs::File::create(&path)?;
    let mut milliseconds = Vec::new();
    for _ in 0..200 {
        file.write_all(&[0_u8; 4096])?;
        let began = Instant::now();
        file.sync_data()?;
        milliseconds.push(began.elapsed().as_secs_f64() * 1e3);
    }
    std::fs::remove_file(path)?;
    let [p50, p99] = [0.5, 0.99].map(|share| percentile(&milliseconds, share));
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    Ok(format!("fdatasync of 4 KiB: p50 {p50:.2} ms, p99 {p99:.2} ms; load average {load}"))
}

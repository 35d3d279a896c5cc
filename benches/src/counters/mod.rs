//! Repair of a counter beside the one-shot statement and beside reading first and writing later,
//! as `counter_culture` does: the `counters` command.
//!
//! Nobody else writes here. What the other two do to counters while others write is shown by the
//! tests of `counters`: they leave wrong ones behind.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use steadfast_actors::store::Durability;

use crate::jobs::{Place, Site};
use crate::measure::{median, median_ratio, to_float, verdict};

mod ours;
mod postgres;
mod sqlite;

/// Why there is no result.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Ours may take this much of the time of the one-shot statement.
const BAR: f64 = 1.2;
/// Of a parent table of any size, looking through it may write so many bytes to the log for each
/// thousand parents. To lock each would write some 200,000.
const WAL_BAR: f64 = 5_000.0;

/// How the `counters` command is run.
#[derive(Debug, Clone, Args)]
pub struct Settings {
    /// Rounds; each contender runs once in each, at each share of drift.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=50))]
    rounds: u16,
    /// Parents on PostgreSQL.
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u32).range(100..=2_000_000))]
    parents: u32,
    /// Children of each parent on PostgreSQL.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    children: u32,
    /// Parents on SQLite.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    sqlite_parents: u32,
    /// Children of each parent on SQLite.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    sqlite_children: u32,
    /// Which databases; both by default.
    #[arg(long, value_enum, value_delimiter = ',')]
    part: Vec<Part>,
    /// The server for PostgreSQL.
    #[arg(
        long,
        env = "STEADFAST_TEST_POSTGRES",
        default_value = "postgres://postgres@127.0.0.1:5432/test"
    )]
    postgres: String,
    /// Where the file of SQLite goes; it should be on a real disk.
    #[arg(long, default_value = "target/bench-jobs")]
    folder: PathBuf,
}

/// A part of the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The larger one.
    Postgres,
    /// The smaller one.
    Sqlite,
}

/// How many parents and children there are.
#[derive(Debug, Clone, Copy)]
struct Size {
    parents: u32,
    children: u32,
}

/// A way to put counters right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    OneShot,
    ReadThenWrite,
    Ours,
}

const WAYS: [Way; 3] = [Way::OneShot, Way::ReadThenWrite, Way::Ours];

impl Way {
    const fn name(self) -> &'static str {
        match self {
            Self::OneShot => "one statement",
            Self::ReadThenWrite => "read, then write each",
            Self::Ours => "steadfast, in batches",
        }
    }
}

/// What a repair took.
#[derive(Debug, Clone, Copy)]
struct Taken {
    time: Duration,
    /// The longest that rows were locked.
    lock: Duration,
    /// Bytes of the write-ahead log, where the database counts them.
    wal: Option<u64>,
}

/// Parents and children in a database that can be measured.
trait Bed {
    /// Has one parent of so many drift; 0: none has.
    async fn drift(&mut self, one_of: u32) -> Result<(), Failure>;
    /// Puts all counters right in one of the ways.
    async fn repair(&mut self, way: Way) -> Result<Taken, Failure>;
    /// How many are wrong.
    async fn wrong(&mut self) -> Result<u64, Failure>;
    /// Stops what runs in it.
    async fn end(self);
}

/// Measures, and prints the tables. Returns whether every bar was reached.
///
/// # Errors
///
/// The folder cannot be made, or a database failed.
pub async fn run(settings: &Settings) -> io::Result<bool> {
    std::fs::create_dir_all(&settings.folder)?;
    let has = |part| settings.part.is_empty() || settings.part.contains(&part);
    let mut passes = true;
    if has(Part::Postgres) {
        let size = Size { parents: settings.parents, children: settings.children };
        let site = Site::new(&Place::Postgres(settings.postgres.clone()));
        passes &= on_postgres(&site, &settings.postgres, size, settings.rounds).await?;
    }
    if has(Part::Sqlite) {
        let (parents, children) = (settings.sqlite_parents, settings.sqlite_children);
        let site = Site::new(&Place::Sqlite(settings.folder.clone(), Durability::Full));
        passes &= on_sqlite(&site, Size { parents, children }, settings.rounds).await?;
    }
    Ok(passes)
}

async fn on_postgres(site: &Site, url: &str, size: Size, rounds: u16) -> io::Result<bool> {
    let bed = postgres::Postgres::make(site, url, size).await;
    let measured = match bed {
        Ok(mut bed) => {
            let measured = measure("PostgreSQL", &mut bed, size, rounds).await;
            bed.end().await;
            measured
        }
        Err(error) => Err(error),
    };
    let cleared = site.clear().await.map_err(io::Error::other);
    let passes = measured.map_err(io::Error::other)?;
    cleared.map(|()| passes)
}

async fn on_sqlite(site: &Site, size: Size, rounds: u16) -> io::Result<bool> {
    let bed = sqlite::Sqlite::make(site, size).await;
    let measured = match bed {
        Ok(mut bed) => {
            let measured = measure("SQLite", &mut bed, size, rounds).await;
            bed.end().await;
            measured
        }
        Err(error) => Err(error),
    };
    let cleared = site.clear().await.map_err(io::Error::other);
    let passes = measured.map_err(io::Error::other)?;
    cleared.map(|()| passes)
}

async fn measure(name: &str, bed: &mut impl Bed, size: Size, rounds: u16) -> Result<bool, Failure> {
    let Size { parents, children } = size;
    let mut passes = true;
    for (share, one_of) in [("0 %", 0), ("1 %", 100)] {
        println!("### {name}: {parents} parents of {children} children, {share} drifted\n");
        let mut taken: [Vec<Taken>; 3] = Default::default();
        // The first round warms up.
        for round in 0..=usize::from(rounds) {
            for turn in 0..WAYS.len() {
                let place = (round + turn) % WAYS.len();
                let (Some(way), Some(column)) = (WAYS.get(place), taken.get_mut(place)) else {
                    continue;
                };
                bed.drift(one_of).await?;
                let one = bed.repair(*way).await?;
                let wrong = bed.wrong().await?;
                assert_eq!(wrong, 0, "{} left wrong counters", way.name());
                if round > 0 {
                    column.push(one);
                }
            }
        }
        passes &= print(&taken, size, one_of == 0);
    }
    Ok(passes)
}

fn print(taken: &[Vec<Taken>; 3], size: Size, undrifted: bool) -> bool {
    println!("| way | time ms | ratio | longest lock ms | log kB | bar |");
    println!("|---|---:|---:|---:|---:|---|");
    let times = |column: &[Taken]| -> Vec<f64> {
        column.iter().map(|one| one.time.as_secs_f64() * 1e3).collect()
    };
    let [base, ..] = taken;
    let base = times(base);
    let mut passes = true;
    for (way, column) in WAYS.iter().zip(taken) {
        let own = times(column);
        let ratio = median_ratio(&own, &base);
        let lock: Vec<f64> = column.iter().map(|one| one.lock.as_secs_f64() * 1e3).collect();
        let wal: Vec<f64> = column.iter().filter_map(|one| one.wal).map(to_float).collect();
        let shown =
            if wal.is_empty() { "–".to_owned() } else { format!("{:.0}", median(&wal) / 1e3) };
        let mut bars = Vec::new();
        if *way == Way::Ours {
            let fast = ratio <= BAR;
            bars.push(format!("≤ {BAR:.1}× {}", verdict(fast)));
            passes &= fast;
            if undrifted && !wal.is_empty() {
                let limit = WAL_BAR * f64::from(size.parents) / 1e3;
                let little = median(&wal) <= limit;
                bars.push(format!("log ≤ {:.0} kB {}", limit / 1e3, verdict(little)));
                passes &= little;
            }
        }
        println!(
            "| {} | {:.0} | {ratio:.2} | {:.1} | {shown} | {} |",
            way.name(),
            median(&own),
            median(&lock),
            bars.join(", ")
        );
    }
    println!();
    passes
}

//! Measures steadfast beside its peers, in one run.
//!
//! ```text
//! cargo run --profile bench -p steadfast-bench -- kernel          # messages
//! cargo run --profile bench -p steadfast-bench -- edge            # the edge beside bare actix-web
//! cargo run --profile bench -p steadfast-bench -- jobs            # the job queue beside others
//! cargo run --profile bench -p steadfast-bench -- guard           # a backlog, guard off and on
//! cargo run --profile bench -p steadfast-bench -- overload        # too many requests, admission off and on
//! cargo run --profile bench -p steadfast-bench -- inbox           # an envelope beside all values
//! cargo run --profile bench -p steadfast-bench -- mailer          # mails beside bare requests
//! cargo run --profile bench -p steadfast-bench -- enums           # one more value for many rows
//! cargo run --profile bench -p steadfast-bench -- counters        # counter repair beside one statement
//! cargo run --profile bench -p steadfast-bench --bin memory       # bytes and allocations
//! ```
//!
//! Absolute figures are those of the machine; read the ratios. Each is the median over all
//! rounds of the ratio *within* one round, in which the contenders take turns, so noise
//! that lasts hits both sides. Where we set ourselves a bar it is printed with PASS or
//! MISS, and a MISS makes the exit code 1.
//!
//! To profile one contender of one row with repeatable counts:
//!
//! ```text
//! valgrind --tool=callgrind target/release/steadfast-bench kernel \
//!     --row ask --contender steadfast --rounds 1 --thousands 20
//! ```
//!
//! Committed results, with the machine and what to make of them: `RESULTS.md`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use steadfast_bench::{counters, edge, enums, guard, inbox, jobs, kernel, mailer, overload};

/// Measures steadfast beside its peers, in one run.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Ask and tell beside actix, tokio mpsc, kameo and ractor.
    Kernel(kernel::Settings),
    /// The whole edge beside bare actix-web, under load over loopback.
    Edge(edge::Settings),
    /// The job queue on SQLite and PostgreSQL beside those of others.
    Jobs(jobs::Settings),
    /// A slow dependency and a large backlog, guard off and on.
    Guard(guard::Settings),
    /// Three times as many requests as can be served, admission off and on.
    Overload(overload::Settings),
    /// An event's envelope with its payload left raw, beside all of it as values.
    Inbox(inbox::Settings),
    /// Mails that are stored and sent, beside their bare requests.
    Mailer(mailer::Settings),
    /// One more value for an enum of many rows, beside the plain statement.
    Enums(enums::Settings),
    /// Repair of a counter beside one statement, and beside reading first and writing later.
    Counters(counters::Settings),
    /// Holds a job until it is killed; started by `jobs`.
    #[command(hide = true)]
    JobHolder(jobs::HolderSettings),
}

fn main() -> std::io::Result<ExitCode> {
    let arguments = Arguments::parse();
    let system = actix_rt::System::new();
    let passes = match &arguments.command {
        Command::Kernel(settings) => system.block_on(kernel::run(settings)),
        Command::Edge(settings) => system.block_on(edge::run(settings))?,
        Command::Jobs(settings) => system.block_on(jobs::run(settings))?,
        Command::Guard(settings) => system.block_on(guard::run(settings))?,
        Command::Overload(settings) => system.block_on(overload::run(settings))?,
        Command::Inbox(settings) => system.block_on(inbox::run(settings)),
        Command::Mailer(settings) => system.block_on(mailer::run(settings))?,
        Command::Enums(settings) => system.block_on(enums::run(settings))?,
        Command::Counters(settings) => system.block_on(counters::run(settings))?,
        Command::JobHolder(settings) => system.block_on(jobs::hold(settings))?,
    };
    Ok(if passes { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

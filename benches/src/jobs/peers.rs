//! Other job queues. Each is a program of its own, outside the workspace, built when it is first
//! needed; it prints how long its work took.
//!
//! A peer is called with the address of its database, how many jobs, how many at a time, and
//! `single`, `noop` or `batched`; it prints `seconds JOBS SECONDS` for what it measured.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use super::Settings;
use super::sheet::{Failure, Sample, Scenario};
use super::work::{POSTGRES_ENQUEUE, POSTGRES_WORK, SQLITE_WORK};

const WITHIN: Duration = Duration::from_secs(240);

/// How a peer is made ready and run.
#[derive(Debug, Clone, Copy)]
enum Maker {
    /// A script of `benches/peers/graphile`, with its packages from npm.
    Node,
    /// A script of `benches/peers/python`, with its Python packages.
    Python,
    /// A program of the crate `benches/peers/rust`.
    Cargo,
}

/// What a peer is asked for.
struct Ask {
    sheet: &'static str,
    name: &'static str,
    maker: Maker,
    program: &'static str,
    mode: &'static str,
    at_a_time: u16,
    /// Jobs, as a share of ours: the slow ones would take all day.
    share: f64,
    baseline: bool,
}

const fn ask(
    sheet: &'static str,
    name: &'static str,
    (maker, program, mode): (Maker, &'static str, &'static str),
    (at_a_time, share): (u16, f64),
) -> Ask {
    Ask { sheet, name, maker, program, mode, at_a_time, share, baseline: false }
}

const ASKS: [Ask; 13] = [
    Ask {
        baseline: true,
        ..ask(
            POSTGRES_WORK,
            "graphile-worker 0.17.3 (Node), batched: localQueue 500",
            (Maker::Node, "worker.mjs", "batched"),
            (24, 1.0),
        )
    },
    ask(
        POSTGRES_WORK,
        "graphile-worker 0.17.3 (Node), default",
        (Maker::Node, "worker.mjs", "noop"),
        (24, 0.15),
    ),
    ask(
        POSTGRES_WORK,
        "graphile_worker 0.14.1 (Rust), local queue",
        (Maker::Cargo, "graphile", "batched"),
        (24, 0.5),
    ),
    ask(
        POSTGRES_WORK,
        "graphile_worker 0.14.1 (Rust), default",
        (Maker::Cargo, "graphile", "noop"),
        (24, 0.15),
    ),
    ask(
        POSTGRES_WORK,
        "apalis-postgres 1.0.0",
        (Maker::Cargo, "apalis_postgres", "noop"),
        (24, 0.1),
    ),
    ask(POSTGRES_WORK, "underway 0.2.0", (Maker::Cargo, "underway", "noop"), (24, 0.05)),
    ask(
        POSTGRES_WORK,
        "procrastinate 3.10.0 (Python)",
        (Maker::Python, "worker.py", "noop"),
        (24, 0.025),
    ),
    Ask {
        baseline: true,
        ..ask(
            POSTGRES_ENQUEUE,
            "graphile-worker 0.17.3 (Node), 64 callers",
            (Maker::Node, "worker.mjs", "single"),
            (64, 0.25),
        )
    },
    ask(
        POSTGRES_ENQUEUE,
        "graphile-worker 0.17.3 (Node), addJobs by 1,000",
        (Maker::Node, "worker.mjs", "many"),
        (1, 1.0),
    ),
    ask(
        POSTGRES_ENQUEUE,
        "apalis-postgres 1.0.0, 64 callers",
        (Maker::Cargo, "apalis_postgres", "single"),
        (64, 0.25),
    ),
    ask(
        POSTGRES_ENQUEUE,
        "underway 0.2.0, 64 callers",
        (Maker::Cargo, "underway", "single"),
        (64, 0.25),
    ),
    ask(
        POSTGRES_ENQUEUE,
        "procrastinate 3.10.0 (Python), 64 callers",
        (Maker::Python, "worker.py", "single"),
        (64, 0.05),
    ),
    Ask {
        baseline: true,
        ..ask(
            SQLITE_WORK,
            "apalis-sqlite 1.0.0, FULL, work off",
            (Maker::Cargo, "apalis_sqlite", "noop"),
            (24, 0.05),
        )
    },
];

/// Names and reasons.
const MISSING: [(&str, &str); 6] = [
    ("River (Go)", "its modules are not to be had here"),
    ("Oban (Elixir)", "its packages are not to be had here"),
    ("Sidekiq, Solid Queue (Ruby)", "their packages are not to be had here"),
    ("graphile-worker 0.18", "needs a newer Node than the 20 that is here"),
    ("effectum", "links the same SQLite as we do, in another version"),
    ("pg-boss 10.4.2", "its trial run never finished its jobs"),
];

/// The scenarios of all peers, in the tables of ours.
pub(super) fn scenarios(settings: &Settings) -> Vec<Scenario> {
    println!("\nNot measured, because they cannot be had:");
    for (name, reason) in MISSING {
        println!("- {name}: {reason}");
    }
    ASKS.iter().map(|ask| scenario(ask, settings)).collect()
}

fn scenario(ask: &'static Ask, settings: &Settings) -> Scenario {
    let postgres = settings.postgres.clone();
    let file = settings.folder.join("peer.db");
    let jobs = share(settings.jobs(), ask.share);
    let scenario = Scenario::new(ask.sheet, ask.name, move || {
        let (postgres, file) = (postgres.clone(), file.clone());
        async move {
            let on_disk = ask.sheet == SQLITE_WORK;
            let address = if on_disk { file.display().to_string() } else { postgres };
            let made = make(ask).await?;
            let outcome = timeout(WITHIN, run(&made, ask, &address, jobs)).await;
            outcome.map_err(|_elapsed| format!("not done within {WITHIN:?}"))?
        }
    });
    if ask.baseline { scenario.baseline() } else { scenario }
}

fn share(jobs: u64, share: f64) -> u64 {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a share of a small count"
    )]
    let part = (jobs as f64 * share) as u64;
    part.max(100)
}

/// How a peer is started: a program and its first arguments.
struct Made {
    program: PathBuf,
    arguments: Vec<PathBuf>,
}

fn home() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers")
}

/// Where what is installed for the peers goes.
fn target() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/peers")
}

async fn make(ask: &Ask) -> Result<Made, Failure> {
    match ask.maker {
        Maker::Node => make_node(ask.program).await,
        Maker::Python => make_python(ask.program).await,
        Maker::Cargo => make_cargo(ask.program).await,
    }
}

async fn make_node(script: &str) -> Result<Made, Failure> {
    let (from, to) = (home().join("graphile"), target().join("graphile"));
    std::fs::create_dir_all(&to).map_err(super::words)?;
    for file in [script, "package.json", "package-lock.json"] {
        std::fs::copy(from.join(file), to.join(file)).map_err(super::words)?;
    }
    if !to.join("node_modules").exists() {
        let mut install = Command::new("npm");
        install.args(["ci", "--no-audit", "--no-fund"]).current_dir(&to);
        quietly(install).await?;
    }
    Ok(Made { program: "node".into(), arguments: vec![to.join(script)] })
}

async fn make_python(script: &str) -> Result<Made, Failure> {
    let (from, to) = (home().join("python"), target().join("python"));
    if !to.join("ready").exists() {
        let mut venv = Command::new("python3");
        venv.args(["-m", "venv"]).arg(&to);
        quietly(venv).await?;
        let mut install = Command::new(to.join("bin/pip"));
        install.args(["install", "--quiet", "-r"]).arg(from.join("requirements.txt"));
        quietly(install).await?;
        std::fs::write(to.join("ready"), "").map_err(super::words)?;
    }
    Ok(Made { program: to.join("bin/python"), arguments: vec![from.join(script)] })
}

async fn make_cargo(name: &str) -> Result<Made, Failure> {
    let program = target().join("release").join(name);
    if !program.exists() {
        let mut build = Command::new("cargo");
        build.args(["build", "--release", "--locked", "--quiet", "--manifest-path"]);
        build.arg(home().join("rust/Cargo.toml")).arg("--target-dir").arg(target());
        quietly(build).await?;
    }
    Ok(Made { program, arguments: Vec::new() })
}

/// Runs a command for what it leaves behind; what it says is told only if it fails.
async fn quietly(mut command: Command) -> Result<(), Failure> {
    let output = command.stdin(Stdio::null()).output().await.map_err(super::words)?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("cannot be installed: {}", last_line(&output.stderr)))
}

async fn run(made: &Made, ask: &Ask, address: &str, jobs: u64) -> Result<Sample, Failure> {
    let output = Command::new(&made.program)
        .args(&made.arguments)
        .args([address, &jobs.to_string(), &ask.at_a_time.to_string(), ask.mode])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(super::words)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let rate = text.lines().find_map(rate);
    rate.map(Sample::of).ok_or_else(|| format!("failed: {}", last_line(&output.stderr)))
}

/// Reads `seconds JOBS SECONDS`.
fn rate(line: &str) -> Option<f64> {
    let mut words = line.strip_prefix("seconds ")?.split(' ');
    let jobs: f64 = words.next()?.parse().ok()?;
    let seconds: f64 = words.next()?.parse().ok()?;
    Some(jobs / seconds)
}

fn last_line(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no reason given").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_says_how_many_in_what_time() {
        assert_eq!(rate("seconds 100 0.5"), Some(200.0));
        assert_eq!(rate("something else"), None);
    }
}

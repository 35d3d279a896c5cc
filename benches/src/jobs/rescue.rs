//! How long after a `kill -9` of a process its job runs in another one.

use std::io;
use std::process::Stdio;
use std::time::{Duration, Instant};

use clap::Args;
use serde::{Deserialize, Serialize};
use steadfast_actors::jobs::{Job, JobCx, JobResult, Jobs, QueueSpec};
use steadfast_actors::kernel::Tree;
use steadfast_actors::store::{Durability, PgOptions, PgStore, SqliteOptions, SqliteStore, Store};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use super::Settings;
use super::rig::{Place, Site, parking::Line, words};
use super::sheet::{Bar, Failure, Sample, Scenario};

const SHEET: &str = "From kill -9 of a process to its job's next run in another, s";
const WITHIN: Duration = Duration::from_secs(60);
/// What the process that is killed says when its handler runs.
const HOLDS: &str = "holds";

/// A process that holds a job.
#[derive(Debug, Clone, Args)]
pub struct HolderSettings {
    /// A file or a PostgreSQL address.
    address: String,
    /// The schema, on PostgreSQL.
    schema: String,
}

/// Never ends where it is to be killed.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Held {
    number: u64,
}

impl Job for Held {
    const KIND: &'static str = "held";
}

/// The scenarios on both databases.
pub(super) fn scenarios(settings: &Settings) -> Vec<Scenario> {
    let file = Place::Sqlite(settings.folder.clone(), Durability::Full);
    let server = Place::Postgres(settings.postgres.clone());
    vec![
        rescue("SQLite, same host", file, None).bar(Bar::AtMost(2.0)),
        rescue("PostgreSQL, same host", server, Some(settings.postgres.clone()))
            .bar(Bar::AtMost(20.0)),
    ]
}

fn rescue(name: &str, place: Place, url: Option<String>) -> Scenario {
    Scenario::new(SHEET, name, move || {
        let (place, url) = (place.clone(), url.clone());
        async move {
            let site = Site::new(&place);
            let taken = timeout(WITHIN, rescued(&site, url)).await;
            site.clear().await?;
            taken.map_err(|_elapsed| format!("not rescued within {WITHIN:?}"))?
        }
    })
}

async fn rescued(site: &Site, url: Option<String>) -> Result<Sample, Failure> {
    let store = site.open().await?;
    let (tree, line) = (Tree::new(), Line::default());
    let asks = queue(&store, &tree, 0, line.clone()).await?;
    let mut holder = holder(site, url)?;
    asks.enqueue(Held { number: 1 }).await.map_err(words)?;
    wait_for(&mut holder).await?;
    let works_tree = Tree::new();
    let works = queue(&store, &works_tree, 4, line.clone()).await?;
    // The living are to know of each other, as they do in a service.
    sleep(Duration::from_secs(5)).await;
    let killed = Instant::now();
    holder.kill().await.map_err(words)?;
    let took = line.began(1).await.saturating_duration_since(killed);
    for (jobs, tree) in [(works, works_tree), (asks, tree)] {
        let _report = jobs.drain(Duration::from_secs(2)).await;
        tree.stop(Duration::from_secs(2)).await;
    }
    store.close().await;
    Ok(Sample::of(took.as_secs_f64()))
}

async fn queue(store: &Store, tree: &Tree, workers: u16, line: Line) -> Result<Jobs, Failure> {
    Jobs::builder(store)
        .queue(QueueSpec::new("default").workers(workers))
        .handle(move |held: Held, _: JobCx| {
            line.note(held.number);
            std::future::ready(Ok(()))
        })
        .start(tree)
        .await
        .map_err(words)
}

fn holder(site: &Site, url: Option<String>) -> Result<Child, Failure> {
    let path = site.path().map(|path| path.display().to_string());
    let address = path.or(url).unwrap_or_default();
    Command::new(std::env::current_exe().map_err(words)?)
        .args(["job-holder", &address, site.name()])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(words)
}

async fn wait_for(holder: &mut Child) -> Result<(), Failure> {
    let output = holder.stdout.take().ok_or("the process has no output")?;
    let mut lines = BufReader::new(output).lines();
    while let Some(line) = lines.next_line().await.map_err(words)? {
        if line == HOLDS {
            return Ok(());
        }
    }
    Err("the process ended before it held the job".to_owned())
}

/// Works on the queue, and never ends what it begins.
///
/// # Errors
///
/// The queue cannot be opened.
pub async fn hold(settings: &HolderSettings) -> io::Result<bool> {
    let store = if settings.address.starts_with("postgres") {
        let options = PgOptions::parse(&settings.address).map_err(io::Error::other)?;
        PgStore::connect(options.schema(&settings.schema)).await.map(Store::from)
    } else {
        let options = SqliteOptions::file(&settings.address).durability(Durability::Full);
        SqliteStore::open(options).await.map(Store::from)
    };
    let store = store.map_err(io::Error::other)?;
    let tree = Tree::new();
    let _jobs = Jobs::builder(&store)
        .handle(|_: Held, _: JobCx| async {
            println!("{HOLDS}");
            std::future::pending::<JobResult>().await
        })
        .start(&tree)
        .await
        .map_err(io::Error::other)?;
    std::future::pending::<()>().await;
    Ok(true)
}

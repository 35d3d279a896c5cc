//! Mails that are stored, claimed, written down and sent, beside their bare requests: the
//! `mailer` command.
//!
//! Both ask the same kind of provider over loopback, with the same bytes and as many requests at
//! a time. The mailer's mails are stored before the clock starts; it stops when the provider has
//! all of them and their ends are stored.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use futures_util::future::join_all;
use steadfast_actors::mailer::provider::{HttpApi, HttpProvider, Resend, WireRequest};
use steadfast_actors::mailer::{HeaderText, HttpTransport, Mail, MailId, Mailbox};
use steadfast_actors::store::Durability;

use crate::jobs::{Bar, Failure, Place, Sample, Scenario, Site, measure, words};
use crate::measure::to_float;

mod post;
mod provider;

use post::Post;
use provider::{Manner, Provider};

const FAST: &str = "A provider that answers at once, mails/s";
const USUAL: &str = "A provider that takes its time, mails/s";
const FAULTS: &str = "One request in a hundred fails, two senders on one database, mails/s";

/// How the `mailer` command is run.
#[derive(Debug, Clone, Args)]
pub struct Settings {
    /// Rounds; each contender runs once in each.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    /// Mails of each contender in each round.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    mails: u64,
    /// Requests at a time.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1000))]
    at_a_time: u16,
    /// How long the provider takes that takes its time, in milliseconds: as one in the same
    /// region does.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    latency_ms: u64,
    /// The server for PostgreSQL.
    #[arg(
        long,
        env = "STEADFAST_TEST_POSTGRES",
        default_value = "postgres://postgres@127.0.0.1:5432/test"
    )]
    postgres: String,
    /// Where the files of SQLite go; it should be on a real disk.
    #[arg(long, default_value = "target/bench-jobs")]
    folder: PathBuf,
}

/// Measures, and prints the tables. Returns whether every bar was reached.
///
/// # Errors
///
/// The folder cannot be made.
pub async fn run(settings: &Settings) -> io::Result<bool> {
    std::fs::create_dir_all(&settings.folder)?;
    steadfast_actors::tls::install_default_provider();
    Ok(measure(scenarios(settings), settings.rounds).await)
}

fn scenarios(settings: &Settings) -> Vec<Scenario> {
    let late = Duration::from_millis(settings.latency_ms);
    let places = [
        ("SQLite FULL", Place::Sqlite(settings.folder.clone(), Durability::Full)),
        ("PostgreSQL", Place::Postgres(settings.postgres.clone())),
    ];
    let mut all = Vec::new();
    for (sheet, latency) in [(FAST, Duration::ZERO), (USUAL, late)] {
        let load = Load { manner: Manner { latency, fails: false }, senders: 1, ..settings.into() };
        all.push(Scenario::new(sheet, "bare reqwest", move || bare(load)).baseline());
        for (name, place) in &places {
            let place = place.clone();
            let line = Scenario::new(sheet, *name, move || mailer(load, place.clone()));
            // A provider is never that fast: what storing costs is to be seen, not to be hidden.
            all.push(if sheet == USUAL { line.bar(Bar::Times(0.6)) } else { line });
        }
    }
    for (name, place) in places {
        let manner = Manner { latency: late, fails: true };
        let load = Load { manner, senders: 2, ..settings.into() };
        all.push(Scenario::new(FAULTS, name, move || mailer(load, place.clone())));
    }
    all
}

/// What is to be sent, and how.
#[derive(Debug, Clone, Copy)]
struct Load {
    mails: u64,
    at_a_time: u16,
    manner: Manner,
    /// Mailers on the same database.
    senders: usize,
}

impl From<&Settings> for Load {
    fn from(settings: &Settings) -> Self {
        let manner = Manner { latency: Duration::ZERO, fails: false };
        Self { mails: settings.mails, at_a_time: settings.at_a_time, manner, senders: 1 }
    }
}

fn rate(mails: u64, began: Instant) -> Sample {
    Sample::of(to_float(mails) / began.elapsed().as_secs_f64())
}

fn resend(provider: &Provider) -> Result<Resend, Failure> {
    Resend::new("key").and_then(|api| api.base_url(&provider.url())).map_err(words)
}

/// What a shop sends: 2 kB of text and 8 kB of HTML.
fn mail() -> Result<Mail, Failure> {
    let to = |text| Mailbox::parse(text).map_err(words);
    let subject = HeaderText::new("Your order 4711").map_err(words)?;
    let mail = Mail::builder(to("Shop <shop@example.com>")?, [to("Ada <ada@example.com>")?]);
    let mail = mail.subject(subject).text("Thank you. ".repeat(180));
    mail.html("<p>Thank <b>you</b>.</p>".repeat(330)).build().map_err(words)
}

/// The same requests without anything around them, on as many threads as there are processors.
async fn bare(load: Load) -> Result<Sample, Failure> {
    let provider = Provider::start(load.manner).map_err(words)?;
    let request = resend(&provider)?.encode(MailId::fresh(), &mail()?).map_err(words)?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let sends = move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .enable_all()
            .build()
            .map_err(words)?;
        runtime.block_on(requests(load, request))
    };
    let sample = tokio::task::spawn_blocking(sends).await.map_err(words)??;
    let has = provider.mails();
    provider.stop().await;
    if has == load.mails { Ok(sample) } else { Err(format!("{has} of {} arrived", load.mails)) }
}

async fn requests(load: Load, request: WireRequest) -> Result<Sample, Failure> {
    let client = reqwest::Client::builder().no_proxy().build().map_err(words)?;
    let (next, request, began) = (Arc::<AtomicU64>::default(), Arc::new(request), Instant::now());
    let workers = (0..load.at_a_time).map(|_| {
        let (client, next, request) = (client.clone(), Arc::clone(&next), Arc::clone(&request));
        tokio::spawn(async move {
            while next.fetch_add(1, Ordering::Relaxed) < load.mails {
                post(&client, &request).await?;
            }
            Ok(())
        })
    });
    let ends: Result<Vec<Result<(), Failure>>, _> = join_all(workers).await.into_iter().collect();
    ends.map_err(words)?.into_iter().collect::<Result<(), _>>()?;
    Ok(rate(load.mails, began))
}

async fn post(client: &reqwest::Client, request: &WireRequest) -> Result<(), Failure> {
    let mut post = client.post(&request.url).bearer_auth("key").body(request.body.clone());
    for (name, value) in request.headers.iter().filter(|(name, _)| name != "idempotency-key") {
        post = post.header(name, value);
    }
    let post = post.header("idempotency-key", MailId::fresh().to_string());
    let answer = post.send().await.map_err(words)?.error_for_status().map_err(words)?;
    answer.bytes().await.map(drop).map_err(words)
}

/// Sends the mails of a database of their own, and looks that each arrived.
async fn mailer(load: Load, place: Place) -> Result<Sample, Failure> {
    let (provider, site) = (Provider::start(load.manner).map_err(words)?, Site::new(&place));
    let transport = HttpTransport::new().map_err(words)?;
    let mut posts = Vec::new();
    for _ in 0..load.senders {
        let asks = HttpProvider::new(resend(&provider)?, transport.clone());
        posts.push(Post::start(&site, asks, load.at_a_time).await?);
    }
    let (Some(first), mail) = (posts.first(), mail()?) else { return Err("no sender".into()) };
    first.fill(&mail, load.mails).await?;
    let began = Instant::now();
    first.work_off(load.mails, || provider.mails()).await?;
    let sample = rate(load.mails, began);
    for post in posts {
        post.stop().await;
    }
    site.clear().await?;
    provider.stop().await;
    Ok(sample)
}

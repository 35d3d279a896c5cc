//! A job queue that runs, in a database of its own that goes with it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking::Line;
use serde::{Deserialize, Serialize};
use steadfast_actors::jobs::{Job, JobCx, JobPolicy, JobResult, Jobs, JobsBuilder, QueueSpec};
use steadfast_actors::kernel::Tree;
use steadfast_actors::store::{Durability, PgOptions, PgStore, SqliteOptions, SqliteStore, Store};
use tokio::time::sleep;

use super::sheet::Failure;

/// LIMIT: longer than any scenario takes on a machine that is busy.
const WITHIN: Duration = Duration::from_secs(180);

/// Does nothing, and its end is remembered, which is the default.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Noop {
    /// Something to decode.
    pub(crate) number: u64,
}

impl Job for Noop {
    const KIND: &'static str = "noop";
}

/// Does nothing, and is forgotten when it is done, as the peers' jobs are.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Forgotten {
    /// Something to decode.
    pub(crate) number: u64,
}

impl Job for Forgotten {
    const KIND: &'static str = "forgotten";

    fn policy() -> JobPolicy {
        JobPolicy::default().keep_done(false)
    }
}

/// Takes 2 ms.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Nap {
    /// Something to decode.
    pub(crate) number: u64,
}

impl Job for Nap {
    const KIND: &'static str = "nap";
}

/// Tells when it begins.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Ping {
    /// Something to decode.
    pub(crate) number: u64,
}

impl Job for Ping {
    const KIND: &'static str = "ping";
}

/// A kind that is made from a number.
pub(crate) trait Numbered: Job {
    /// The job with this number.
    fn numbered(number: u64) -> Self;
}

macro_rules! numbered {
    ($($kind:ident),*) => {$(
        impl Numbered for $kind {
            fn numbered(number: u64) -> Self {
                Self { number }
            }
        }
    )*};
}
numbered!(Noop, Forgotten, Nap, Ping);

/// Which database.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// A file in this folder.
    Sqlite(PathBuf, Durability),
    /// A schema of this server.
    Postgres(String),
}

/// A database of its own; dropped with [`Site::clear`].
#[derive(Debug, Clone)]
pub(crate) struct Site {
    place: Place,
    name: String,
}

impl Site {
    /// One that nobody uses yet.
    #[must_use]
    pub(crate) fn new(place: &Place) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self { place: place.clone(), name: format!("bench_{}_{number}", std::process::id()) }
    }

    /// The name of the schema, or of the file without its end.
    #[must_use]
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The file, on SQLite.
    #[must_use]
    pub(crate) fn path(&self) -> Option<PathBuf> {
        match &self.place {
            Place::Sqlite(folder, _) => Some(folder.join(format!("{}.db", self.name))),
            Place::Postgres(_) => None,
        }
    }

    /// Opens it.
    ///
    /// # Errors
    ///
    /// What the store says.
    pub(crate) async fn open(&self) -> Result<Store, Failure> {
        let opened = match &self.place {
            Place::Sqlite(_, durability) => {
                let path = self.path().unwrap_or_default();
                let options = SqliteOptions::file(path).durability(*durability);
                SqliteStore::open(options).await.map(Store::from)
            }
            Place::Postgres(url) => match PgOptions::parse(url) {
                Ok(options) => PgStore::connect(options.schema(&self.name)).await.map(Store::from),
                Err(error) => Err(error),
            },
        };
        opened.map_err(words)
    }

    /// Removes it.
    ///
    /// # Errors
    ///
    /// What the database says.
    pub(crate) async fn clear(&self) -> Result<(), Failure> {
        match &self.place {
            Place::Sqlite(..) => {
                let path = self.path().unwrap_or_default();
                for end in ["", "-wal", "-shm"] {
                    let mut file = path.clone().into_os_string();
                    file.push(end);
                    // One that is not there is what is wanted.
                    let _gone = std::fs::remove_file(file);
                }
                let mut folder = path.into_os_string();
                folder.push(".nodes");
                let _gone = std::fs::remove_dir_all(folder);
                Ok(())
            }
            Place::Postgres(url) => {
                let client = connect(url).await?;
                let drop = format!("drop schema if exists {} cascade", self.name);
                client.batch_execute(&drop).await.map_err(words)
            }
        }
    }
}

/// A plain connection.
///
/// # Errors
///
/// What the server says.
pub(crate) async fn connect(url: &str) -> Result<tokio_postgres::Client, Failure> {
    let (client, connection) =
        tokio_postgres::connect(url, tokio_postgres::NoTls).await.map_err(words)?;
    drop(tokio::spawn(connection));
    Ok(client)
}

/// A queue that runs.
pub(crate) struct Rig {
    /// Where its tables are.
    pub(crate) site: Site,
    /// Its handle.
    pub(crate) jobs: Jobs,
    /// Its store.
    pub(crate) store: Store,
    /// When pings began.
    pub(crate) pings: Line,
    tree: Tree,
    done: Arc<AtomicU64>,
}

impl Rig {
    /// A queue of this many workers in a new database.
    ///
    /// # Errors
    ///
    /// What the store says.
    pub(crate) async fn start(place: &Place, workers: u16) -> Result<Self, Failure> {
        Self::at(Site::new(place), workers).await
    }

    /// A queue of this many workers in a given database.
    ///
    /// # Errors
    ///
    /// What the store says.
    pub(crate) async fn at(site: Site, workers: u16) -> Result<Self, Failure> {
        let store = site.open().await?;
        let (tree, done, pings) = (Tree::new(), Arc::<AtomicU64>::default(), Line::default());
        let builder = handlers(Jobs::builder(&store), &done, &pings);
        let builder = builder.queue(QueueSpec::new("default").workers(workers));
        let jobs = builder.start(&tree).await.map_err(words)?;
        Ok(Self { site, jobs, store, pings, tree, done })
    }

    /// Adds jobs while the queue is paused, so that working them off can be timed.
    ///
    /// # Errors
    ///
    /// What the queue says.
    pub(crate) async fn fill<J: Numbered>(&self, count: u64) -> Result<(), Failure> {
        self.jobs.pause("default").await.map_err(words)?;
        let answers = self.jobs.enqueue_many((0..count).map(J::numbered)).await.map_err(words)?;
        answers.into_iter().try_for_each(|answer| answer.map(drop)).map_err(words)
    }

    /// Lets the queue go on, and waits until `count` jobs in all are done, and their ends stored.
    ///
    /// # Errors
    ///
    /// It takes too long.
    pub(crate) async fn work_off(&self, count: u64) -> Result<Duration, Failure> {
        let began = Instant::now();
        self.jobs.resume("default").await.map_err(words)?;
        self.finish(count).await?;
        Ok(began.elapsed())
    }

    /// Waits until `count` jobs in all are done, and their ends stored.
    ///
    /// # Errors
    ///
    /// It takes too long.
    pub(crate) async fn finish(&self, count: u64) -> Result<(), Failure> {
        let began = Instant::now();
        loop {
            if self.done.load(Ordering::Relaxed) >= count && self.is_empty().await? {
                return Ok(());
            }
            if began.elapsed() > WITHIN {
                let done = self.done.load(Ordering::Relaxed);
                return Err(format!("{done} of {count} done within {WITHIN:?}"));
            }
            sleep(Duration::from_millis(1)).await;
        }
    }

    async fn is_empty(&self) -> Result<bool, Failure> {
        let (store, now) = (self.jobs.store(), self.jobs.clock().now());
        let depths = store.depths("default".into(), 10, now).await.map_err(words)?;
        Ok(depths.running == 0 && depths.ready == [0; 4])
    }

    /// Ends it and leaves its database there.
    pub(crate) async fn stop(self) -> Site {
        let _report = self.jobs.drain(Duration::from_secs(5)).await;
        self.tree.stop(Duration::from_secs(5)).await;
        self.store.close().await;
        self.site
    }

    /// Ends it and removes its database.
    ///
    /// # Errors
    ///
    /// What the database says.
    pub(crate) async fn end(self) -> Result<(), Failure> {
        self.stop().await.clear().await
    }
}

fn handlers(builder: JobsBuilder, done: &Arc<AtomicU64>, pings: &Line) -> JobsBuilder {
    let [noop, forgotten, nap] = [done, done, done].map(Arc::clone);
    let pings = pings.clone();
    builder
        .handle(move |_: Noop, _: JobCx| count(Arc::clone(&noop)))
        .handle(move |_: Forgotten, _: JobCx| count(Arc::clone(&forgotten)))
        .handle(move |_: Nap, _: JobCx| {
            let nap = Arc::clone(&nap);
            async move {
                sleep(Duration::from_millis(2)).await;
                count(nap).await
            }
        })
        .handle(move |ping: Ping, _: JobCx| {
            pings.note(ping.number);
            std::future::ready(Ok(()))
        })
}

async fn count(done: Arc<AtomicU64>) -> JobResult {
    done.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

/// An error in words, with its causes.
pub(crate) fn words(error: impl std::error::Error) -> Failure {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text.replace('\n', " ")
}

pub(crate) mod parking {
    //! Where handlers leave when they began.

    use std::sync::{Arc, Mutex, PoisonError};
    use std::time::Instant;

    use tokio::sync::Notify;

    /// Numbers of jobs, and when they began.
    type Begun = Mutex<Vec<(u64, Instant)>>;

    /// Numbers of jobs and when they began. Cheap to clone.
    #[derive(Debug, Clone, Default)]
    pub(crate) struct Line(Arc<(Begun, Notify)>);

    impl Line {
        /// This job begins now.
        pub(crate) fn note(&self, number: u64) {
            let (began, bell) = &*self.0;
            let now = Instant::now();
            began.lock().unwrap_or_else(PoisonError::into_inner).push((number, now));
            bell.notify_one();
        }

        /// When this job began, as soon as it did.
        pub(crate) async fn began(&self, number: u64) -> Instant {
            let (began, bell) = &*self.0;
            loop {
                {
                    let mut began = began.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some(place) = began.iter().position(|(other, _)| *other == number) {
                        return began.swap_remove(place).1;
                    }
                }
                bell.notified().await;
            }
        }
    }
}

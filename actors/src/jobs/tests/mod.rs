//! The whole queue on a real database, on real time: what is waited for is a condition.

mod cancels;
mod clocks;
mod dependencies;
mod drains;
mod endings;
mod enqueues;
mod fault_store;
mod killed_actors;
mod pools;
mod postgres_crashes;
mod processes;
mod rescues;
mod runs;
mod store_faults;
mod transactions;
#[cfg(feature = "sqlx")]
mod with_sqlx;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::*;
use crate::kernel::Tree;
use crate::store::postgres::testing::TestSchema;
use crate::store::{Durability, SqliteOptions, SqliteStore, Store};

/// LIMIT: longer than anything here takes on a machine that is busy.
const WITHIN: Duration = Duration::from_secs(60);

/// Does what its words say.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Task {
    words: String,
}

impl Job for Task {
    const KIND: &'static str = "task";

    fn policy() -> JobPolicy {
        JobPolicy::default()
            .max_attempts(3)
            .timeout(Duration::from_secs(5))
            .backoff(Backoff::fixed(Duration::from_millis(20)).unwrap())
            .on_overload(Overload::Reject)
    }
}

fn task(words: impl Into<String>) -> Task {
    Task { words: words.into() }
}

/// What handlers have seen, in order.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn add(&self, line: impl Into<String>) {
        self.0.lock().push(line.into());
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().clone()
    }
}

/// A database of its own, that several queues may open.
pub(crate) enum Base {
    Sqlite(tempfile::TempDir),
    Postgres(TestSchema),
}

impl Base {
    pub(crate) fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().unwrap())
    }

    pub(crate) async fn postgres() -> Option<Self> {
        Some(Self::Postgres(TestSchema::find().await?))
    }

    pub(crate) async fn open(&self) -> Store {
        match self {
            Self::Sqlite(folder) => {
                let options = SqliteOptions::file(folder.path().join("jobs.db"));
                let options = options.durability(Durability::Normal);
                Store::from(SqliteStore::open(options).await.unwrap())
            }
            Self::Postgres(schema) => Store::from(schema.store().await),
        }
    }

    /// A queue of its own in this database, as another process would have it.
    async fn bench(&self, change: impl FnOnce(JobsBuilder) -> JobsBuilder) -> Bench {
        Bench::in_store(self.open().await, Log::default(), change).await
    }
}

/// Makes a test of each claim for each database.
macro_rules! on_each_database {
    ($($claim:ident,)*) => {
        mod sqlite {
            $(
                #[actix::test]
                async fn $claim() {
                    super::$claim($crate::jobs::tests::Base::sqlite()).await;
                }
            )*
        }

        mod postgres {
            $(
                #[actix::test]
                async fn $claim() {
                    if let Some(base) = $crate::jobs::tests::Base::postgres().await {
                        super::$claim(base).await;
                    }
                }
            )*
        }
    };
}
pub(crate) use on_each_database;

/// A queue that runs, in a database that only it knows.
struct Bench {
    tree: Tree,
    store: Store,
    jobs: Jobs,
    log: Log,
}

impl Bench {
    /// A queue with a handler for [`Task`] that does what it says.
    async fn start() -> Self {
        Self::start_with(|builder| builder).await
    }

    async fn start_with(change: impl FnOnce(JobsBuilder) -> JobsBuilder) -> Self {
        let store = Store::from(SqliteStore::open(SqliteOptions::memory()).await.unwrap());
        Self::in_store(store, Log::default(), change).await
    }

    async fn in_store(
        store: Store,
        log: Log,
        change: impl FnOnce(JobsBuilder) -> JobsBuilder,
    ) -> Self {
        let tree = Tree::new();
        let seen = log.clone();
        let builder = Jobs::builder(&store)
            .beat_every(Duration::from_millis(50))
            .threads(2)
            .handle(move |task: Task, cx: JobCx| perform(task, cx, seen.clone()));
        let jobs = change(builder).start(&tree).await.unwrap();
        Self { tree, store, jobs, log }
    }

    async fn info(&self, id: JobId) -> JobInfo {
        self.jobs.find(id).await.unwrap().expect("the job is known")
    }

    async fn reaches(&self, id: JobId, state: JobState) -> JobInfo {
        let info = async || Some(self.info(id).await).filter(|info| info.state == state);
        eventually(info, &format!("{id} reaches {state:?}")).await
    }

    /// Stores a [`Task`].
    async fn add(&self, words: impl Into<String>) -> JobId {
        self.jobs.enqueue(task(words)).await.unwrap().id().unwrap()
    }

    async fn logs(&self, line: &str) {
        let logged = async || self.log.lines().iter().any(|one| one == line).then_some(());
        eventually(logged, &format!("`{line}` is logged")).await;
    }

    /// Waits until so many jobs are done and none waits or runs.
    async fn finishes(&self, done: u64) -> Counts {
        let finished = async || {
            let counts = self.jobs.counts().await.ok()?;
            let over = counts.ready + counts.running + counts.parked == 0;
            (over && counts.done == done).then_some(counts)
        };
        eventually(finished, &format!("{done} jobs are done and none is left")).await
    }

    /// Ends without a word, as a process that dies: what it held stays as it is.
    async fn die(self) {
        self.tree.stop(Duration::ZERO).await;
    }

    async fn stop(self) {
        self.jobs.drain(Duration::from_secs(5)).await;
        self.tree.stop(Duration::from_secs(5)).await;
        self.store.close().await;
    }
}

async fn perform(task: Task, cx: JobCx, log: Log) -> JobResult {
    let attempt = cx.attempt();
    log.add(format!("{}#{attempt}", task.words));
    match task.words.as_str() {
        "fail" => Err(JobError::retry("it does not work")),
        "fail once" if attempt == 1 => Err(JobError::retry("it does not work yet")),
        "discard" => Err(JobError::discard("it can never work")),
        "snooze" if log.lines().iter().filter(|line| line.starts_with("snooze")).count() < 3 => {
            Err(JobError::snooze(Duration::from_millis(10)))
        }
        "panic" => panic!("boom"),
        "hang" => std::future::pending().await,
        "wait" => {
            cx.cancelled().await;
            log.add("told to stop");
            Err(JobError::retry("it was told to stop"))
        }
        _ => Ok(()),
    }
}

/// Asks until there is an answer, and panics when there is none in time.
pub(crate) async fn eventually<T, F>(mut ask: impl FnMut() -> F, what: &str) -> T
where
    F: Future<Output = Option<T>>,
{
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(begun.elapsed() < WITHIN, "{what}: not within {WITHIN:?}");
        sleep(Duration::from_millis(2)).await;
    }
}

//! Counters: what is refused, found, put right and kept, while others write.

mod maintaining;
mod plans;
mod processes;
mod races;
mod refusing;
mod repairing;
mod running;

use std::future::Future;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::error::CounterError;
use super::repair::{Control, End, Repair, Settings};
use super::report::Totals;
use super::sql::Subject;
use super::store::{Begun, Run};
use super::*;
use crate::jobs::tests::{Base, on_each_database};
use crate::jobs::tx::transact;
use crate::jobs::{Backoff, JobId, Jobs, JobsBuilder};
use crate::kernel::{RequestContext, Tree};
use crate::store::{Durability, SqliteOptions, SqliteStore, Store, StoreError, WallClock};

/// LIMIT: longer than anything here takes on a machine that is busy.
const WITHIN: Duration = Duration::from_secs(60);

impl Base {
    /// A database with topics and posts.
    async fn shop(&self) -> Shop {
        let shop = Shop { store: self.open().await };
        shop.execute(TABLES).await;
        shop
    }
}

/// `{}` is where tables are; `{key}` what a whole number is.
const TABLES: &str = "
    create table if not exists {}topics (
        id {key} primary key, posts_count integer default 0, cents {key}, last_at {key},
        counted_at {key});
    create table if not exists {}posts (
        id {key} primary key, topic_id {key}, cents {key}, at {key}, deleted_at text);
    create index if not exists posts_topic on {}posts (topic_id);";

/// A service with topics and posts.
#[derive(Clone)]
struct Shop {
    store: Store,
}

impl Shop {
    /// A statement as this database wants it.
    fn sql(&self, template: &str) -> String {
        match &self.store {
            Store::Sqlite(_) => template.replace("{}", "").replace("{key}", "integer"),
            Store::Postgres(store) => {
                let schema = format!("{}.", store.schema());
                template.replace("{}", &schema).replace("{key}", "bigint")
            }
        }
    }

    async fn execute(&self, template: &str) {
        self.try_execute(template).await.unwrap();
    }

    async fn try_execute(&self, template: &str) -> Result<(), StoreError> {
        let sql = self.sql(template);
        match &self.store {
            Store::Sqlite(store) => {
                store.write(move |tx| Ok::<_, StoreError>(tx.execute_batch(&sql)?)).await
            }
            Store::Postgres(store) => {
                let client = store.client().await?;
                Ok(client.batch_execute(&sql).await?)
            }
        }
    }

    /// The first column of all rows, as text.
    async fn read(&self, template: &str) -> Vec<Option<String>> {
        let sql = self.sql(template);
        match &self.store {
            Store::Sqlite(store) => {
                let sql = format!("select cast(x.v as text) from ({sql}) x");
                let read = move |connection: &rusqlite::Connection| {
                    let mut select = connection.prepare(&sql)?;
                    let rows = select.query_map([], |row| row.get(0))?;
                    Ok::<_, StoreError>(rows.collect::<Result<_, _>>()?)
                };
                store.read(read).await.unwrap()
            }
            Store::Postgres(store) => {
                let client = store.client().await.unwrap();
                let sql = format!("select x.v::text from ({sql}) x");
                let rows = client.query(&sql, &[]).await.unwrap();
                rows.iter().map(|row| row.get(0)).collect()
            }
        }
    }

    async fn number(&self, template: &str) -> i64 {
        let rows = self.read(template).await;
        rows.into_iter().next().flatten().unwrap_or_else(|| "0".into()).parse().unwrap()
    }

    /// So many topics, each with so many posts, and counters that say so.
    async fn fill(&self, topics: u32, posts: u32) {
        let series = |name: &str, count: u32| match &self.store {
            Store::Sqlite(_) => format!(
                "(with recursive s(i) as (select 1 union all select i + 1 from s where i < {count})
                 select i from s where {count} > 0) {name}"
            ),
            Store::Postgres(_) => format!("(select i from generate_series(1, {count}) i) {name}"),
        };
        let (outer, inner) = (series("t", topics), series("p", posts));
        self.execute(&format!(
            "insert into {{}}topics (id, posts_count, cents) select t.i, {posts}, {posts} * 5 from {outer};
             insert into {{}}posts (id, topic_id, cents, at)
                select t.i * 100000 + p.i, t.i, 5, p.i from {outer} cross join {inner}"
        ))
        .await;
    }

    /// How many counters are wrong.
    async fn wrong(&self) -> i64 {
        self.number(
            "select count(*) as v from {}topics t where t.posts_count is distinct from
               (select count(*) from {}posts p where p.topic_id = t.id and p.deleted_at is null)",
        )
        .await
    }

    fn posts(&self) -> CounterSpec {
        CounterSpec::new("topic_posts")
            .parent(&self.sql("{}topics"), "id")
            .column("posts_count")
            .child(&self.sql("{}posts"), "topic_id")
            .filter("deleted_at is null")
    }

    async fn subject(&self, spec: &CounterSpec) -> Result<Subject, CounterError> {
        catalog::check(&self.store, spec).await
    }

    async fn repairer(&self, spec: &CounterSpec, batch: RangeInclusive<u32>) -> Repair {
        let settings = Settings {
            batch,
            target: Duration::from_millis(50),
            lock_timeout: Duration::from_secs(1),
            statement_timeout: Duration::from_secs(5),
            turn: WITHIN,
        };
        let subject = self.subject(spec).await.unwrap();
        Repair::new(self.store.clone(), subject, settings, WallClock::system())
    }

    /// Begins the run of a job that is only a number.
    async fn begin(&self, spec: &CounterSpec, mode: Mode, job: i64) -> Run {
        let (name, now) = (Arc::clone(spec.name()), WallClock::system().now());
        let begun: Result<Begun, StoreError> = transact!(&self.store, tx =>
            store::begin(&tx, JobId(job), &name, mode, now));
        match begun.unwrap() {
            Begun::Run(run) => *run,
            Begun::Joined(other) => panic!("job {other} is at it"),
        }
    }

    async fn found(&self, job: i64) -> Run {
        let run: Result<Option<Run>, StoreError> =
            transact!(&self.store, tx => store::find(&tx, JobId(job)));
        run.unwrap().expect("the run is known")
    }

    /// Runs a counter from its beginning to its end, without a queue.
    async fn run(&self, spec: &CounterSpec, mode: Mode, batch: RangeInclusive<u32>) -> Totals {
        let job = fastrand::i64(1..i64::MAX);
        let run = self.begin(spec, mode, job).await;
        let repair = self.repairer(spec, batch).await;
        let end = repair.run(run, &control()).await.unwrap();
        assert_eq!(end, End::Done);
        self.found(job).await.totals
    }

    async fn repair(&self, spec: &CounterSpec) -> Totals {
        self.run(spec, Mode::Repair, 1..=5_000).await
    }

    async fn survey(&self, spec: &CounterSpec) -> Totals {
        self.run(spec, Mode::Report, 1..=5_000).await
    }

    async fn close(self) {
        self.store.close().await;
    }
}

/// Nobody stops it.
fn control() -> Control {
    Control {
        request: RequestContext::new(crate::kernel::RequestId::generate()),
        cx: None,
        jobs: None,
        own_queue: "counters",
        until: Instant::now() + WITHIN,
    }
}

/// Counters with a queue that works.
struct Bench {
    tree: Tree,
    jobs: Jobs,
    counters: Counters,
}

impl Bench {
    async fn start(
        shop: &Shop,
        queue: impl FnOnce(JobsBuilder) -> JobsBuilder,
        declare: impl FnOnce(CountersBuilder) -> CountersBuilder,
    ) -> Self {
        let tree = Tree::new();
        let builder = Counters::builder(&shop.store)
            .backoff(Backoff::fixed(Duration::from_millis(5)).unwrap());
        let jobs = Jobs::builder(&shop.store).beat_every(Duration::from_millis(50)).threads(2);
        let (registered, jobs) = declare(builder).register(queue(jobs)).unwrap();
        let jobs = jobs.start(&tree).await.unwrap();
        let counters = registered.start(&tree, &jobs);
        Self { tree, jobs, counters }
    }

    async fn reaches(&self, job: JobId, state: RunState) -> CounterReport {
        let report = async || {
            self.counters.report(job).await.unwrap().filter(|report| report.state == state)
        };
        eventually(report, &format!("the run of job {job} is {state:?}")).await
    }

    async fn stop(self) {
        self.jobs.drain(Duration::from_secs(5)).await;
        self.tree.stop(Duration::from_secs(5)).await;
    }
}

/// Asks until there is an answer, and panics when there is none in time.
async fn eventually<T, F>(mut ask: impl FnMut() -> F, what: &str) -> T
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

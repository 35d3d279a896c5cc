//! Faults of real processes: the test binary runs itself as a child that repairs, and ends it.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use super::*;
use crate::store::{PgOptions, PgStore};

const CHILD: &str = "STEADFAST_TEST_COUNTERS_CHILD";
const SCHEMA: &str = "STEADFAST_TEST_COUNTERS_SCHEMA";
const TOPICS: u32 = 3_000;

on_each_database! {
    a_run_survives_a_loop_of_kill_nine_and_sees_each_parent_once,
}

/// A child process that repairs.
struct Repairer {
    child: Child,
    said: std::sync::mpsc::Receiver<String>,
}

impl Repairer {
    fn start(base: &Base) -> Self {
        let (database, schema) = match base {
            Base::Sqlite(folder) => (folder.path().join("jobs.db").display().to_string(), ""),
            Base::Postgres(schema) => (schema.address(), schema.name()),
        };
        let name = "counters::tests::processes::child_that_repairs_until_it_is_killed";
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([name, "--exact", "--nocapture"])
            .env(CHILD, database)
            .env(SCHEMA, schema)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (say, said) = std::sync::mpsc::channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in output.split(b'\n').map_while(Result::ok) {
                let _nobody_listens = say.send(String::from_utf8_lossy(&line).into_owned());
            }
        });
        Self { child, said }
    }

    async fn says(&self, expected: &str) {
        let heard = async || self.said.try_iter().any(|line| line == expected).then_some(());
        eventually(heard, &format!("the child says `{expected}`")).await;
    }

    /// With `kill -9`.
    fn end(&mut self) {
        let _gone_already = self.child.kill();
        self.child.wait().unwrap();
    }
}

impl Drop for Repairer {
    fn drop(&mut self) {
        self.end();
    }
}

fn declare(shop: &Shop) -> impl FnOnce(CountersBuilder) -> CountersBuilder {
    let spec = shop.posts();
    move |counters| counters.counter(spec).batch(3..=3).lock_timeout(WITHIN)
}

/// Not a test of its own: what the tests here start and kill.
#[actix::test]
async fn child_that_repairs_until_it_is_killed() {
    let Ok(database) = std::env::var(CHILD) else { return };
    let store: Store = match std::env::var(SCHEMA).unwrap().as_str() {
        "" => {
            let options = SqliteOptions::file(database).durability(Durability::Normal);
            SqliteStore::open(options).await.unwrap().into()
        }
        schema => {
            let options = PgOptions::parse(&database).unwrap().schema(schema);
            PgStore::connect(options).await.unwrap().into()
        }
    };
    let shop = Shop { store };
    let bench = Bench::start(&shop, |jobs| jobs.poison_after(100), declare(&shop)).await;
    bench.jobs.resume("counters").await.unwrap();
    // Not with `println!`: that panics when nobody reads any more.
    if writeln!(std::io::stdout(), "\nrepairs").is_err() {
        std::process::abort();
    }
    // Ends when the parent does, should that not come to kill it.
    std::thread::spawn(|| {
        let _read = std::io::stdin().read_line(&mut String::new());
        std::process::abort();
    });
    std::future::pending::<()>().await;
}

/// Enqueues a repair and leaves it to the children.
async fn enqueue(shop: &Shop) -> JobId {
    let bench = Bench::start(shop, |jobs| jobs, declare(shop)).await;
    bench.jobs.pause("counters").await.unwrap();
    let job = bench.counters.repair("topic_posts").await.unwrap().job;
    bench.stop().await;
    job
}

async fn progress(shop: &Shop, job: JobId) -> Option<Run> {
    let run: Result<Option<Run>, StoreError> = transact!(&shop.store, tx => store::find(&tx, job));
    run.unwrap()
}

async fn a_run_survives_a_loop_of_kill_nine_and_sees_each_parent_once(base: Base) {
    let shop = base.shop().await;
    shop.fill(TOPICS, 2).await;
    shop.execute("update {}topics set posts_count = 7 where id % 2 = 0").await;
    let job = enqueue(&shop).await;
    let mut seen = 0;
    for round in 0..6 {
        let mut child = Repairer::start(&base);
        child.says("repairs").await;
        let advanced = async || {
            let step = progress(&shop, job).await.map_or(0, |run| run.step);
            (step > seen + 7 * round).then_some(step)
        };
        seen = eventually(advanced, "the run goes on").await;
        child.end();
    }
    let left = progress(&shop, job).await.unwrap();
    assert!(left.finished_at.is_none(), "it was killed before its end, at {}", left.totals.scanned);
    let bench = Bench::start(&shop, |jobs| jobs.poison_after(100), declare(&shop)).await;
    let report = bench.reaches(job, RunState::Done).await;
    let all = u64::from(TOPICS);
    assert_eq!((report.totals.scanned, report.totals.repaired), (all, all / 2));
    assert_eq!(shop.wrong().await, 0);
    bench.stop().await;
    shop.close().await;
}

/// In the midst of a batch that has written, and waits for a lock.
#[actix::test]
async fn a_batch_that_is_killed_has_done_nothing() {
    let Some(base) = Base::postgres().await else { return };
    let shop = base.shop().await;
    shop.fill(30, 2).await;
    shop.execute("update {}topics set posts_count = 7").await;
    let Store::Postgres(store) = &shop.store else { return };
    let mut holder = store.client().await.unwrap();
    let tx = holder.transaction().await.unwrap();
    // In the second batch, whose first row it has written by then.
    tx.batch_execute(&shop.sql("update {}topics set cents = 1 where id = 5")).await.unwrap();
    let job = enqueue(&shop).await;
    let mut child = Repairer::start(&base);
    child.says("repairs").await;
    // A transaction would see one moment of what others do again and again.
    let observer = store.client().await.unwrap();
    let waits = async || {
        let waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'
            and query like '%posts_count%' and application_name = $1";
        let Base::Postgres(schema) = &base else { return None };
        let row = observer.query_one(waiting, &[&schema.name()]).await.unwrap();
        (row.get::<_, i64>(0) > 0).then_some(())
    };
    eventually(waits, "the batch waits").await;
    child.end();
    let run = progress(&shop, job).await.unwrap();
    assert_eq!((run.step, run.totals.scanned, shop.wrong().await), (1, 3, 27));
    tx.commit().await.unwrap();
    let bench = Bench::start(&shop, |jobs| jobs.poison_after(100), declare(&shop)).await;
    let report = bench.reaches(job, RunState::Done).await;
    assert_eq!((report.totals.scanned, report.totals.repaired), (30, 30));
    assert_eq!(shop.wrong().await, 0);
    bench.stop().await;
    drop((holder, observer));
    shop.close().await;
}

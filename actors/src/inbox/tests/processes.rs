//! Faults of real processes: the test binary runs itself as a child that receives, and ends it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use super::*;
use crate::store::{PgOptions, PgStore};

const CHILD: &str = "STEADFAST_TEST_INBOX_CHILD";
const SCHEMA: &str = "STEADFAST_TEST_INBOX_SCHEMA";

on_each_database! {
    what_was_acknowledged_is_handled_once_whatever_kills_the_process,
}

/// A child process that receives.
struct Receiver {
    child: Child,
    said: std::sync::mpsc::Receiver<String>,
}

impl Receiver {
    fn start(base: &Base, round: usize) -> Self {
        let (database, schema) = match base {
            Base::Sqlite(folder) => (folder.path().join("inbox.db").display().to_string(), ""),
            Base::Postgres(schema) => (schema.address(), schema.name()),
        };
        let name = "inbox::tests::processes::child_that_receives_until_it_is_killed";
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([name, "--exact", "--nocapture"])
            .env(CHILD, format!("{round} {database}"))
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

    /// With `kill -9`, after so many events were acknowledged. Those that were, until then.
    async fn kill_after(mut self, count: usize) -> Vec<String> {
        let mut said = Vec::new();
        let mut heard = async || {
            let events = self.said.try_iter();
            said.extend(events.filter_map(|line| Some(line.strip_prefix("stored ")?.to_owned())));
            (said.len() >= count).then_some(())
        };
        let begun = Instant::now();
        while heard().await.is_none() {
            assert!(begun.elapsed() < WITHIN, "the child receives nothing");
            sleep(Duration::from_millis(1)).await;
        }
        self.end();
        // The pipe is read to its end by a thread.
        let rest = self.said.iter();
        said.extend(rest.filter_map(|line| Some(line.strip_prefix("stored ")?.to_owned())));
        said
    }

    fn end(&mut self) {
        let _gone_already = self.child.kill();
        self.child.wait().unwrap();
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.end();
    }
}

/// Not a test of its own: what the test here starts and kills.
#[actix::test]
async fn child_that_receives_until_it_is_killed() {
    let Ok(child) = std::env::var(CHILD) else { return };
    let (round, database) = child.split_once(' ').unwrap();
    let store: Store = match std::env::var(SCHEMA).unwrap().as_str() {
        "" => {
            let options = SqliteOptions::file(database).durability(Durability::Normal);
            SqliteStore::open(options).await.unwrap().into()
        }
        schema => {
            let options = PgOptions::parse(database).unwrap().schema(schema);
            PgStore::connect(options).await.unwrap().into()
        }
    };
    let own = store.clone();
    let poison = |jobs: JobsBuilder| jobs.poison_after(100);
    let bench = Bench::in_store(store, poison, |inbox| leaves_effects(inbox, &own)).await;
    // Ends when the parent does, should that not come to kill it.
    std::thread::spawn(|| {
        let _read = std::io::stdin().read_line(&mut String::new());
        std::process::abort();
    });
    for number in 0.. {
        let id = format!("{round}-{number}");
        bench.send(format!(r#"{{"id":"{id}","type":"paid"}}"#)).await;
        // Not with `println!`: that panics when nobody reads any more.
        if writeln!(std::io::stdout(), "\nstored {id}").is_err() {
            std::process::abort();
        }
    }
}

async fn what_was_acknowledged_is_handled_once_whatever_kills_the_process(base: Base) {
    let store = base.open().await;
    let mut acknowledged = Vec::new();
    for round in 0..5 {
        acknowledged.extend(Receiver::start(&base, round).kill_after(10 + 17 * round).await);
    }
    let poison = |jobs: JobsBuilder| jobs.poison_after(100);
    let bench = base.bench_with(poison, |inbox| leaves_effects(inbox, &store)).await;
    let over = async || {
        let states = bench.inbox.states().await.unwrap();
        (!states.contains_key("received")).then_some(states)
    };
    let states = eventually(over, "all are over").await;
    let mut handled = BTreeMap::new();
    for id in bench.effects().await {
        *handled.entry(id).or_insert(0) += 1;
    }
    assert!(handled.values().all(|count| *count == 1), "each once: {handled:?}");
    assert_eq!(states.get("done"), Some(&(handled.len() as u64)));
    let lost: Vec<_> = acknowledged.iter().filter(|id| !handled.contains_key(*id)).collect();
    assert!(lost.is_empty(), "of {}, lost: {lost:?}", acknowledged.len());
    bench.stop().await;
    store.close().await;
}

//! Faults of real processes: the test binary runs itself as a child that works, and ends it.

use std::collections::{HashMap, HashSet};
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use super::*;
use crate::store::{PgOptions, PgStore};

const CHILD: &str = "STEADFAST_TEST_JOBS_CHILD";
const DATABASE: &str = "STEADFAST_TEST_JOBS_DATABASE";
const SCHEMA: &str = "STEADFAST_TEST_JOBS_SCHEMA";
const FOLDER: &str = "STEADFAST_TEST_JOBS_FOLDER";

on_each_database! {
    what_was_acknowledged_survives_a_loop_of_kill_nine,
    a_job_that_aborts_its_process_is_poison_after_three_and_its_neighbours_finish,
    of_many_jobs_that_abort_their_process_none_takes_a_neighbour_along,
    a_stopped_and_continued_process_is_fenced,
    a_killed_process_is_noticed_long_before_its_beats_expire,
    two_processes_on_one_database_share_its_work,
}

/// Leaves a line in a file, then does what it is told.
#[derive(Debug, Serialize, Deserialize)]
struct Effect {
    then: Then,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Then {
    /// Is done after a moment.
    End,
    /// Takes its process with it.
    Abort,
    /// Is done when there is a file called `go`.
    AwaitGo,
}

impl Job for Effect {
    const KIND: &'static str = "effect";

    fn policy() -> JobPolicy {
        JobPolicy::default()
            .max_attempts(100)
            .backoff(Backoff::fixed(Duration::from_millis(1)).unwrap())
    }
}

/// Where effects leave their lines, and who leaves them.
#[derive(Debug, Clone)]
struct Place {
    folder: PathBuf,
    who: &'static str,
}

impl Place {
    fn new(folder: &Path, who: &'static str) -> Self {
        Self { folder: folder.into(), who }
    }

    async fn leave(self, job: Effect, cx: JobCx) -> JobResult {
        let line = format!("{} {}\n", self.who, cx.id().0);
        let mut file = OpenOptions::new().append(true).create(true).open(self.effects())?;
        file.write_all(line.as_bytes())?;
        match job.then {
            Then::End => sleep(Duration::from_millis(2)).await,
            Then::Abort => std::process::abort(),
            Then::AwaitGo => {
                while !self.folder.join("go").exists() {
                    sleep(Duration::from_millis(5)).await;
                }
            }
        }
        Ok(())
    }

    fn effects(&self) -> PathBuf {
        self.folder.join("effects")
    }

    /// Who has run each job, in the order of their runs.
    fn runs(&self) -> HashMap<i64, Vec<String>> {
        let text = std::fs::read_to_string(self.effects()).unwrap_or_default();
        let mut runs = HashMap::<_, Vec<_>>::new();
        // The last line may be cut off: its run was killed.
        for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            let (who, id) = line.trim_end().split_once(' ').unwrap();
            runs.entry(id.parse().unwrap()).or_default().push(who.to_owned());
        }
        runs
    }
}

/// A child process that works.
struct Worker {
    child: Child,
    said: mpsc::Receiver<String>,
}

impl Worker {
    fn start(base: &Base, folder: &Path, mode: &str) -> Self {
        let (database, schema) = match base {
            Base::Sqlite(folder) => (folder.path().join("jobs.db").display().to_string(), ""),
            Base::Postgres(schema) => (schema.address(), schema.name()),
        };
        let name = "jobs::tests::processes::child_that_works_until_it_is_killed";
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([name, "--exact", "--nocapture"])
            .env(CHILD, mode)
            .env(DATABASE, database)
            .env(SCHEMA, schema)
            .env(FOLDER, folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (say, said) = mpsc::channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in output.split(b'\n').map_while(Result::ok) {
                let _nobody_listens = say.send(String::from_utf8_lossy(&line).into_owned());
            }
        });
        Self { child, said }
    }

    /// What it has said since the last time.
    fn says(&self) -> Vec<String> {
        self.said.try_iter().collect()
    }

    async fn says_line(&self, expected: &str) {
        let heard = async || self.says().iter().any(|line| line == expected).then_some(());
        eventually(heard, &format!("the child says `{expected}`")).await;
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// With `kill -9`. What it had said until then.
    fn kill(mut self) -> Vec<String> {
        self.end();
        // The pipe is read to its end by a thread.
        self.said.iter().collect()
    }

    fn end(&mut self) {
        let _gone_already = self.child.kill();
        self.child.wait().unwrap();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.end();
    }
}

/// What a queue of parent or child is like.
fn declare(builder: JobsBuilder, place: Place) -> JobsBuilder {
    builder
        .handle(move |job: Effect, cx| place.clone().leave(job, cx))
        .queue(QueueSpec::new("default").workers(4))
}

/// Not a test of its own: what the tests here start and kill.
#[actix::test]
async fn child_that_works_until_it_is_killed() {
    let Some(mode) = std::env::var_os(CHILD) else { return };
    let variable = |name| std::env::var(name).unwrap();
    let store = match variable(SCHEMA).as_str() {
        "" => {
            let options = SqliteOptions::file(variable(DATABASE)).durability(Durability::Normal);
            Store::from(SqliteStore::open(options).await.unwrap())
        }
        schema => {
            let options = PgOptions::parse(&variable(DATABASE)).unwrap().schema(schema);
            Store::from(PgStore::connect(options).await.unwrap())
        }
    };
    let place = Place::new(Path::new(&variable(FOLDER)), "child");
    let bench = Bench::in_store(store, Log::default(), |builder| {
        let builder = declare(builder, place);
        match mode.to_str() {
            Some("stops") => builder.expires_after(Duration::from_secs(1)),
            Some("aborts") => builder,
            _ => builder.poison_after(100),
        }
    })
    .await;
    let mut events = bench.jobs.events();
    actix::spawn(async move {
        while let Ok(event) = events.recv().await {
            if matches!(event, JobEvent::StaleCompletion { .. }) {
                say("stale");
            }
        }
    });
    // Ends when the parent does, should that not come to kill it.
    std::thread::spawn(|| {
        let _read = std::io::stdin().read_line(&mut String::new());
        std::process::abort();
    });
    say("\nhere");
    if mode == "adds" {
        add_for_ever(&bench).await;
    }
    std::future::pending::<()>().await;
}

async fn add_for_ever(bench: &Bench) {
    loop {
        let jobs = (0..20).map(|_| Effect { then: Then::End });
        for enqueued in bench.jobs.enqueue_many(jobs).await.unwrap() {
            say(&format!("added {}", enqueued.unwrap().id().unwrap().0));
        }
        sleep(Duration::from_millis(30)).await;
    }
}

/// Not with `println!`: that panics when nobody reads any more.
fn say(line: &str) {
    if writeln!(std::io::stdout(), "{line}").is_err() {
        std::process::abort();
    }
}

/// A queue of this process that only looks on; it rescues all the same.
async fn onlooker(base: &Base) -> Bench {
    base.bench(|builder| {
        let builder = builder.expires_after(Duration::from_secs(60)).poison_after(100);
        builder.queue(QueueSpec::new("default").workers(0))
    })
    .await
}

async fn what_was_acknowledged_survives_a_loop_of_kill_nine(base: Base) {
    let rounds = match base {
        Base::Sqlite(_) => 20,
        Base::Postgres(_) => 5,
    };
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new(folder.path(), "parent");
    let (mut acknowledged, mut in_flight) = (Vec::new(), 0);
    for round in 0..rounds {
        let worker = Worker::start(&base, folder.path(), "adds");
        let (before, mut said) = (place.runs().len(), Vec::new());
        let works = async || {
            said.extend(worker.says());
            // Each killed at another place.
            (place.runs().len() > before + 7 * round && said.len() > 20).then_some(())
        };
        let mut works = works;
        wait(&mut works).await;
        said.extend(worker.kill());
        let added = |line: &String| line.strip_prefix("added ")?.parse::<i64>().ok();
        acknowledged.extend(said.iter().filter_map(added));
        let store = base.open().await;
        let builder = Jobs::builder(&store);
        let (jobs, _) = builder.without_actors().unwrap();
        in_flight += jobs.counts().await.unwrap().running;
        store.close().await;
    }
    let bench = base.bench(|builder| declare(builder, place.clone()).poison_after(100)).await;
    let over = async || {
        let counts = bench.jobs.counts().await.unwrap();
        (counts.ready + counts.running == 0).then_some(counts)
    };
    let counts = eventually(over, "all are over").await;
    assert_eq!(counts.dead, 0);
    let runs = place.runs();
    let lost: Vec<i64> = acknowledged.iter().copied().filter(|id| !runs.contains_key(id)).collect();
    assert!(lost.is_empty(), "{} of {} are lost: {lost:?}", lost.len(), acknowledged.len());
    assert!(counts.done >= acknowledged.len() as u64);
    let twice: u64 = runs.values().map(|runs| runs.len() as u64 - 1).sum();
    assert!(twice <= in_flight, "{twice} runs too many, and {in_flight} were in flight");
    eprintln!(
        "{rounds} kills: {} acknowledged, {} done, {twice} run again of {in_flight} in flight",
        acknowledged.len(),
        counts.done
    );
    bench.stop().await;
}

async fn wait(works: &mut impl AsyncFnMut() -> Option<()>) {
    let begun = Instant::now();
    while works().await.is_none() {
        assert!(begun.elapsed() < WITHIN, "the child does not work");
        sleep(Duration::from_millis(2)).await;
    }
}

async fn a_job_that_aborts_its_process_is_poison_after_three_and_its_neighbours_finish(base: Base) {
    let folder = tempfile::tempdir().unwrap();
    let bench = base
        .bench(|builder| {
            let builder = builder.expires_after(Duration::from_secs(60));
            builder.queue(QueueSpec::new("default").workers(0))
        })
        .await;
    let neighbours = (0..20).map(|_| Effect { then: Then::End });
    let mut answers = bench.jobs.enqueue_many(neighbours).await.unwrap();
    let poison = bench.jobs.enqueue(Effect { then: Then::Abort }).await.unwrap().id().unwrap();
    let others = (0..20).map(|_| Effect { then: Then::End });
    answers.extend(bench.jobs.enqueue_many(others).await.unwrap());
    let mut crashes = 0;
    let over = async || {
        let counts = bench.jobs.counts().await.unwrap();
        (counts.ready + counts.running == 0).then_some(())
    };
    while over().await.is_none() {
        let mut worker = Worker::start(&base, folder.path(), "aborts");
        let begun = Instant::now();
        while !worker.has_ended() && over().await.is_none() {
            assert!(begun.elapsed() < WITHIN, "neither done nor dead");
            sleep(Duration::from_millis(5)).await;
        }
        crashes += u32::from(worker.has_ended());
        assert!(crashes <= 3, "it is tried a fourth time");
    }
    assert_eq!(crashes, 3);
    let info = bench.info(poison).await;
    assert_eq!((info.reason, info.crashes), (Some(DeadReason::Poison), 3));
    for answer in answers {
        let info = bench.info(answer.unwrap().id().unwrap()).await;
        assert_eq!(info.state, JobState::Done, "{info:?}");
    }
    bench.stop().await;
}

async fn of_many_jobs_that_abort_their_process_none_takes_a_neighbour_along(base: Base) {
    const ABORT: usize = 5;
    let folder = tempfile::tempdir().unwrap();
    let bench = base.bench(|builder| builder.queue(QueueSpec::new("default").workers(0))).await;
    let then = |number: usize| if number % 5 == 2 { Then::Abort } else { Then::End };
    let jobs = (0..5 * ABORT).map(|number| Effect { then: then(number) });
    let answers = bench.jobs.enqueue_many(jobs).await.unwrap();
    let over = async || {
        let counts = bench.jobs.counts().await.unwrap();
        (counts.ready + counts.running == 0).then_some(())
    };
    let begun = Instant::now();
    while over().await.is_none() {
        let mut worker = Worker::start(&base, folder.path(), "aborts");
        while !worker.has_ended() && over().await.is_none() {
            assert!(begun.elapsed() < WITHIN, "neither done nor dead");
            sleep(Duration::from_millis(5)).await;
        }
    }
    for (number, answer) in answers.into_iter().enumerate() {
        let info = bench.info(answer.unwrap().id().unwrap()).await;
        let expected = (then(number) == Then::Abort).then_some(DeadReason::Poison);
        assert_eq!(info.reason, expected, "{number}: {info:?}");
    }
    bench.stop().await;
}

async fn a_stopped_and_continued_process_is_fenced(base: Base) {
    let folder = tempfile::tempdir().unwrap();
    let worker = Worker::start(&base, folder.path(), "stops");
    worker.says_line("here").await;
    let watcher = onlooker(&base).await;
    let job = Effect { then: Then::AwaitGo };
    let id = watcher.jobs.enqueue(job).await.unwrap().id().unwrap();
    let place = Place::new(folder.path(), "parent");
    let begun = async || place.runs().contains_key(&id.0).then_some(());
    eventually(begun, "the child begins it").await;
    stop_between_writes(&worker, &watcher).await;
    let rescues = base
        .bench(|builder| declare(builder, place.clone()).expires_after(Duration::from_secs(1)))
        .await;
    let again = async || (place.runs()[&id.0].len() == 2).then_some(());
    eventually(again, "another one begins it").await;
    std::fs::write(folder.path().join("go"), "").unwrap();
    let done = rescues.reaches(id, JobState::Done).await;
    worker.signal("-CONT");
    worker.says_line("stale").await;
    assert_eq!(watcher.info(id).await, done, "what was done stays as it was");
    assert_eq!(place.runs()[&id.0], ["child", "parent"]);
    drop(worker);
    rescues.stop().await;
    watcher.stop().await;
}

/// Stops a process that holds no lock of the database: on SQLite, one that is stopped within a
/// commit keeps all others waiting until it is continued, and nobody can help that.
async fn stop_between_writes(worker: &Worker, other: &Bench) {
    loop {
        worker.signal("-STOP");
        let write = other.jobs.pause("nothing");
        if let Ok(Ok(())) = tokio::time::timeout(Duration::from_secs(1), write).await {
            return;
        }
        worker.signal("-CONT");
        sleep(Duration::from_millis(20)).await;
    }
}

async fn a_killed_process_is_noticed_long_before_its_beats_expire(base: Base) {
    let folder = tempfile::tempdir().unwrap();
    let worker = Worker::start(&base, folder.path(), "works");
    worker.says_line("here").await;
    // This one would believe its beats for a minute: longer than it is waited for here.
    let bench = onlooker(&base).await;
    let job = Effect { then: Then::AwaitGo };
    let id = bench.jobs.enqueue(job).await.unwrap().id().unwrap();
    let place = Place::new(folder.path(), "parent");
    let begun = async || place.runs().contains_key(&id.0).then_some(());
    eventually(begun, "the child begins it").await;
    let killed = Instant::now();
    drop(worker);
    let info = bench.reaches(id, JobState::Ready).await;
    eprintln!("rescued {} ms after kill -9", killed.elapsed().as_millis());
    assert_eq!((info.crashes, info.attempt), (1, 1));
    bench.stop().await;
}

async fn two_processes_on_one_database_share_its_work(base: Base) {
    let folder = tempfile::tempdir().unwrap();
    let worker = Worker::start(&base, folder.path(), "works");
    worker.says_line("here").await;
    let place = Place::new(folder.path(), "parent");
    let bench = base.bench(|builder| declare(builder, place.clone())).await;
    let (mut added, mut workers) = (0, HashSet::new());
    while workers.len() < 2 {
        assert!(added < 4_000, "only {workers:?} works");
        let jobs = (0..200).map(|_| Effect { then: Then::End });
        bench.jobs.enqueue_many(jobs).await.unwrap();
        added += 200;
        bench.finishes(added).await;
        workers.extend(place.runs().into_values().flatten());
    }
    let runs = place.runs();
    assert_eq!(runs.len() as u64, added);
    assert!(runs.values().all(|runs| runs.len() == 1), "each ran once");
    drop(worker);
    bench.stop().await;
}

#[actix::test]
async fn connections_that_break_under_load_end_no_job_twice() {
    let Some(base) = Base::postgres().await else { return };
    let Base::Postgres(schema) = &base else { return };
    let observer = schema.observer().await;
    let bench = base.bench(|builder| builder).await;
    let terminate = "select count(pg_terminate_backend(pid)) from pg_stat_activity
        where application_name = $1";
    let mut added = 0;
    for _ in 0..5 {
        let tasks = (added..added + 200).map(|number| task(format!("{number}")));
        // One that breaks may have stored a part: the next ones are told apart by their numbers.
        match bench.jobs.enqueue_many(tasks).await {
            Ok(_) => added += 200,
            Err(error) => eprintln!("not all were taken: {error}"),
        }
        sleep(Duration::from_millis(30)).await;
        observer.query_one(terminate, &[&schema.name()]).await.unwrap();
    }
    let over = async || {
        let counts = bench.jobs.counts().await.ok()?;
        (counts.ready + counts.running == 0).then_some(counts)
    };
    let counts = eventually(over, "all are over").await;
    assert!(counts.done >= added, "{counts:?}");
    assert_eq!(counts.dead, 0);
    let ended = format!("select count(*), count(distinct id) from {}.done", schema.name());
    let row = observer.query_one(&ended, &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), row.get::<_, i64>(1), "none has ended twice");
    bench.stop().await;
}

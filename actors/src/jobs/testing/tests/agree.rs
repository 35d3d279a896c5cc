//! The kit and a queue with actors come to the same.

use tokio::time::{Instant, sleep};

use super::*;
use crate::jobs::store::NewJob;
use crate::jobs::{DeadReason, JobId};
use crate::kernel::Tree;
use crate::store::{SqliteOptions, SqliteStore, Store};

/// LIMIT: longer than anything here takes on a machine that is busy.
const WITHIN: Duration = Duration::from_secs(20);

const WORDS: [&str; 8] =
    ["work", "fail", "fail once", "discard", "cancel", "snooze", "panic", "hang"];

/// What a test can tell apart in the end.
type Seen = (String, JobState, i16, Option<DeadReason>, Option<Arc<str>>, usize);

async fn enqueue_all(jobs: &Jobs) -> Vec<(String, JobId)> {
    let mut ids = Vec::new();
    for words in WORDS {
        let id = jobs.enqueue(chore(words)).await.unwrap().id().unwrap();
        ids.push((words.to_owned(), id));
    }
    let late = jobs.enqueue(chore("too late")).delay(Duration::from_millis(30));
    let late = late.expires_in(Duration::from_millis(1)).await.unwrap().id().unwrap();
    ids.push(("too late".to_owned(), late));
    let unreadable = NewJob { args: Arc::from(*b"{}"), ..of_kind(jobs, Chore::KIND) };
    let unknown = of_kind(jobs, "unknown");
    for (words, job) in [("unreadable", unreadable), ("unknown", unknown)] {
        let inserted = jobs.ask(InsertJobs { jobs: vec![job] }).await.unwrap();
        let [crate::jobs::store::Inserted::New(id)] = inserted[..] else { panic!("{inserted:?}") };
        ids.push((words.to_owned(), id));
    }
    ids
}

fn of_kind(jobs: &Jobs, kind: &str) -> NewJob {
    NewJob {
        queue: "default".into(),
        kind: kind.into(),
        class: Class::Normal,
        run_at: jobs.clock().now(),
        expires_at: None,
        max_attempts: 3,
        dependency: None,
        unique: None,
        args: Arc::from(*b"{}"),
        args_format: 0,
        meta: None,
        deferred: false,
        depth_limit: None,
    }
}

async fn seen(jobs: &Jobs, ids: &[(String, JobId)]) -> Vec<Seen> {
    let mut all = Vec::new();
    for (words, id) in ids {
        let JobInfo { state, attempt, reason, error, .. } = jobs.find(*id).await.unwrap().unwrap();
        let failures = jobs.errors(*id).await.unwrap().len();
        all.push((words.clone(), state, attempt, reason, error, failures));
    }
    all
}

/// All are over but the one that nobody here handles, and that one was looked at.
fn is_settled(seen: &[Seen]) -> bool {
    seen.iter().all(|(words, state, .., failures)| match words.as_str() {
        "unknown" => *failures == 1,
        _ => matches!(state, JobState::Done | JobState::Dead),
    })
}

async fn with_actors() -> Vec<Seen> {
    let store = Store::from(SqliteStore::open(SqliteOptions::memory()).await.unwrap());
    let tree = Tree::new();
    let jobs = with_chores(Jobs::builder(&store).beat_every(Duration::from_millis(50)).threads(2))
        .start(&tree)
        .await
        .unwrap();
    let ids = enqueue_all(&jobs).await;
    let began = Instant::now();
    let all = loop {
        let all = seen(&jobs, &ids).await;
        if is_settled(&all) {
            break all;
        }
        assert!(began.elapsed() < WITHIN, "not settled within {WITHIN:?}: {all:?}");
        sleep(Duration::from_millis(5)).await;
    };
    jobs.drain(SECOND).await;
    tree.stop(SECOND).await;
    store.close().await;
    all
}

#[actix::test]
async fn the_kit_comes_to_what_a_queue_with_actors_comes_to() {
    let mut kit = kit().await;
    let ids = enqueue_all(kit.jobs()).await;
    let report = kit.run_for(SECOND).await;
    let all = seen(kit.jobs(), &ids).await;
    assert!(is_settled(&all), "{all:?} after {report:?}");
    assert_eq!(all, with_actors().await);
}

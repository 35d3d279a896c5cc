//! The server ends at once, with everything that was under way on it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::*;
use crate::store::PgStore;
use crate::store::postgres::testing::Cluster;

const CRASHES: usize = 3;
const CALLERS: u32 = 8;
/// Jobs that are acknowledged before the next crash.
const BETWEEN: usize = 100;

/// What callers share.
#[derive(Default)]
struct Load {
    numbers: AtomicU32,
    enough: AtomicBool,
    acknowledged: Mutex<Vec<(JobId, String)>>,
}

impl Load {
    /// Enqueues one job after the other, whatever becomes of them.
    async fn enqueue(self: Arc<Self>, jobs: Jobs) {
        while !self.enough.load(Ordering::Relaxed) {
            let words = format!("job {}", self.numbers.fetch_add(1, Ordering::Relaxed));
            match jobs.enqueue(task(&words)).await {
                Ok(enqueued) => self.acknowledged.lock().push((enqueued.id().unwrap(), words)),
                Err(JobsError::Store(_)) => sleep(Duration::from_millis(5)).await,
                Err(error) => panic!("{error:?}"),
            }
        }
    }

    async fn grows(&self) {
        let until = self.acknowledged.lock().len() + BETWEEN;
        let grown = async || (self.acknowledged.lock().len() >= until).then_some(());
        eventually(grown, "jobs are acknowledged").await;
    }
}

#[actix::test]
async fn nothing_acknowledged_is_lost_and_nothing_runs_twice_when_the_server_crashes() {
    let Some(cluster) = tokio::task::spawn_blocking(Cluster::start).await.unwrap() else { return };
    let cluster = Arc::new(cluster);
    let store = Store::from(PgStore::connect(cluster.options()).await.unwrap());
    let bench = Bench::in_store(store, Log::default(), |builder| builder).await;
    let load = Arc::new(Load::default());
    let callers: Vec<_> =
        (0..CALLERS).map(|_| tokio::spawn(Arc::clone(&load).enqueue(bench.jobs.clone()))).collect();
    for _ in 0..CRASHES {
        load.grows().await;
        let cluster = Arc::clone(&cluster);
        let crash = tokio::task::spawn_blocking(move || cluster.crash_and_restart());
        crash.await.unwrap();
    }
    load.grows().await;
    load.enough.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.unwrap();
    }
    let acknowledged = std::mem::take(&mut *load.acknowledged.lock());
    for (id, _) in &acknowledged {
        bench.reaches(*id, JobState::Done).await;
    }
    let lines = bench.log.lines();
    let once: BTreeSet<_> = lines.iter().collect();
    assert_eq!(once.len(), lines.len(), "something ran twice");
    for (_, words) in &acknowledged {
        assert!(once.contains(&format!("{words}#1")), "{words} did not run");
    }
    bench.stop().await;
}

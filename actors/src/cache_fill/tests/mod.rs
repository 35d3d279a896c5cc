//! Claims about the cache. Time is tokio's paused clock: no test sleeps.

mod failures;
mod fence;
mod limits;
mod model;
mod reads;
mod state;
mod storage;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::{LocalSet, yield_now};

use super::{Cache, CacheBuilder, FillCtx, FillError, Hit, Loaded, Loader, Served};
use crate::kernel::Tree;

const SECOND: Duration = Duration::from_secs(1);

/// Runs `test` on a paused clock, in a `LocalSet` as actix has it.
fn paused<F: Future>(test: impl FnOnce() -> F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    LocalSet::new().block_on(&runtime, async { test().await })
}

/// Lets everything that can run do so, without moving the clock.
async fn settle() {
    for _ in 0..200 {
        yield_now().await;
    }
}

/// How a [`Source`] answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Well,
    Failing,
    FailingFor(Duration),
    Panicking,
    Hanging,
    Empty,
    Unchanged,
}

/// A source that counts its loads, takes a second for each, and returns the version
/// it had when the load began.
#[derive(Clone)]
struct Source(Arc<SourceState>);

struct SourceState {
    mood: Mutex<Mood>,
    version: AtomicU64,
    loads: AtomicUsize,
    running: AtomicUsize,
    most_running: AtomicUsize,
    attempts: Mutex<Vec<u32>>,
    previous: Mutex<Vec<Option<u64>>>,
}

#[derive(Debug, thiserror::Error)]
#[error("the source is down")]
struct Down(#[source] io::Error, Option<Duration>);

struct Running<'a>(&'a SourceState);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Source {
    fn new() -> Self {
        Self(Arc::new(SourceState {
            mood: Mutex::new(Mood::Well),
            version: AtomicU64::new(1),
            loads: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            most_running: AtomicUsize::new(0),
            attempts: Mutex::default(),
            previous: Mutex::default(),
        }))
    }

    fn is(&self, mood: Mood) {
        *self.0.mood.lock() = mood;
    }

    /// A new version is written; loads that run keep what they have read.
    fn write(&self) -> u64 {
        self.0.version.fetch_add(1, Ordering::SeqCst) + 1
    }

    #[track_caller]
    fn assert_loads(&self, expected: usize) {
        assert_eq!(self.0.loads.load(Ordering::SeqCst), expected, "loads");
    }

    fn start_with(
        &self,
        configure: impl FnOnce(CacheBuilder<u64, u64>) -> CacheBuilder<u64, u64>,
    ) -> (Tree, Cache<u64, u64>) {
        let tree = Tree::new();
        let builder = Cache::builder("test", self.clone()).ttl(60 * SECOND).jitter(0.0);
        let cache = configure(builder).start(&tree).expect("valid settings");
        (tree, cache)
    }

    fn start(&self) -> (Tree, Cache<u64, u64>) {
        self.start_with(|builder| builder)
    }
}

impl Loader<u64, u64> for Source {
    type Error = Down;

    async fn load(&self, _: u64, cx: FillCtx<u64>) -> Result<Loaded<u64>, Down> {
        let state = &*self.0;
        state.loads.fetch_add(1, Ordering::SeqCst);
        let running = state.running.fetch_add(1, Ordering::SeqCst) + 1;
        let _running = Running(state);
        state.most_running.fetch_max(running, Ordering::SeqCst);
        state.attempts.lock().push(cx.attempt());
        state.previous.lock().push(cx.previous().map(|value| **value));
        let version = state.version.load(Ordering::SeqCst);
        tokio::time::sleep(SECOND).await;
        let mood = *state.mood.lock();
        match mood {
            Mood::Well => Ok(Loaded::value(version)),
            Mood::Failing => Err(Down(io::ErrorKind::ConnectionRefused.into(), None)),
            Mood::FailingFor(pause) => {
                Err(Down(io::ErrorKind::ConnectionRefused.into(), Some(pause)))
            }
            Mood::Panicking => panic!("the loader slipped"),
            Mood::Hanging => std::future::pending().await,
            Mood::Empty => Ok(Loaded::absent()),
            Mood::Unchanged => Ok(Loaded::not_modified()),
        }
    }

    fn retry_after(&self, error: &Down) -> Option<Duration> {
        error.1
    }
}

#[track_caller]
fn assert_served(result: &Result<Hit<u64>, FillError>, value: u64, served: Served) {
    match result {
        Ok(hit) => assert_eq!((*hit.value, hit.served), (value, served)),
        Err(error) => panic!("expected {value} {served:?}, got {error:?}"),
    }
}

/// Lets what can run do so before the clock moves and after.
async fn advance(by: Duration) {
    settle().await;
    tokio::time::advance(by).await;
    settle().await;
}

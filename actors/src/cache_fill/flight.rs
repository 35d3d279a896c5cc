//! One load in flight, those who wait for it, and the table of all of them.
//!
//! ORDER, when a load ends: store its value (or not) → give its permit back → unlink
//! → wake. Whoever comes before the unlink joins and gets the result; whoever comes
//! after it finds the value or the cool-down. Nobody finds neither, so nobody loads
//! a second time.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use foldhash::quality::RandomState;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::error::FillError;
use super::fence::Generation;
use super::loader::{Key, Reason};
use super::nesting::Edge;
use super::shared::Shared;
use super::state::{Class, Permit};
use crate::kernel::RequestContext;

/// Names one load, for logs and [`Cache::flights`](super::Cache::flights). Unique in the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct FlightId(u64);

impl FlightId {
    pub(super) fn next() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(LAST.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

impl fmt::Display for FlightId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A load that has not ended yet.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct FlightInfo<K> {
    /// Its name.
    pub id: FlightId,
    /// What it loads.
    pub key: K,
    /// Why it was begun.
    pub reason: Reason,
    /// Whether its loader runs; otherwise it waits for a permit.
    pub running: bool,
    /// Callers that wait for it now.
    pub waiters: usize,
    /// Time since it was asked for.
    pub age: Duration,
}

/// What the waiters of a load are told.
#[derive(Debug)]
pub(super) enum Outcome<V> {
    Filled(Arc<V>),
    Failed(FillError),
    /// The actor lost it before it began. Asking once more is right.
    Lost,
}

impl<V> Clone for Outcome<V> {
    fn clone(&self) -> Self {
        match self {
            Self::Filled(value) => Self::Filled(Arc::clone(value)),
            Self::Failed(error) => Self::Failed(error.clone()),
            Self::Lost => Self::Lost,
        }
    }
}

pub(super) struct Flight<K, V> {
    pub(super) id: FlightId,
    pub(super) key: K,
    pub(super) hash: u64,
    pub(super) generation: Generation,
    pub(super) reason: Reason,
    pub(super) depth: u8,
    pub(super) request: Option<RequestContext>,
    /// Cancelled when the load is to be dropped.
    pub(super) cancel: CancellationToken,
    /// Cancelled when `outcome` is there.
    pub(super) done: CancellationToken,
    asked_at: Instant,
    nested: AtomicBool,
    running: AtomicBool,
    waiters: AtomicUsize,
    idle: Notify,
    idle_since: Mutex<Instant>,
    outcome: OnceLock<Outcome<V>>,
}

/// What a new [`Flight`] is made of.
pub(super) struct Plan<K> {
    pub(super) key: K,
    pub(super) hash: u64,
    pub(super) generation: Generation,
    pub(super) reason: Reason,
    pub(super) depth: u8,
    pub(super) request: Option<RequestContext>,
}

impl<K: Key, V> Flight<K, V> {
    pub(super) fn new(plan: Plan<K>, now: Instant) -> Self {
        let Plan { key, hash, generation, reason, depth, request } = plan;
        Self {
            id: FlightId::next(),
            key,
            hash,
            generation,
            reason,
            depth,
            request,
            cancel: CancellationToken::new(),
            done: CancellationToken::new(),
            asked_at: now,
            nested: AtomicBool::new(depth > 0),
            running: AtomicBool::new(false),
            waiters: AtomicUsize::new(0),
            idle: Notify::new(),
            idle_since: Mutex::new(now),
            outcome: OnceLock::new(),
        }
    }

    /// How it is to be admitted. A nested reader that joins later changes it.
    pub(super) fn class(&self) -> Class {
        if self.nested.load(Ordering::SeqCst) {
            Class::Nested
        } else if self.reason == Reason::Revalidate {
            Class::Background
        } else {
            Class::Foreground
        }
    }

    pub(super) fn mark_nested(&self) {
        self.nested.store(true, Ordering::SeqCst);
    }

    pub(super) fn mark_running(&self) {
        self.running.store(true, Ordering::Relaxed);
    }

    pub(super) fn waiters(&self) -> usize {
        self.waiters.load(Ordering::Relaxed)
    }

    /// Gives the waiters their result. The first call counts.
    pub(super) fn complete(&self, outcome: Outcome<V>) {
        if self.outcome.set(outcome).is_ok() {
            self.done.cancel();
        }
    }

    pub(super) fn info(&self, now: Instant) -> FlightInfo<K> {
        FlightInfo {
            id: self.id,
            key: self.key.clone(),
            reason: self.reason,
            running: self.running.load(Ordering::Relaxed),
            waiters: self.waiters(),
            age: now.saturating_duration_since(self.asked_at),
        }
    }

    /// Completes once nobody has waited for `grace`; by then nobody can join any more.
    /// Never completes for a load that began with no waiter and has had none since.
    pub(super) async fn abandoned(self: &Arc<Self>, grace: Duration, table: &Mutex<Table<K, V>>) {
        loop {
            self.idle.notified().await;
            while self.waiters.load(Ordering::SeqCst) == 0 {
                let due = *self.idle_since.lock() + grace;
                if Instant::now() < due {
                    sleep_until(due).await;
                    continue;
                }
                let mut table = table.lock();
                // Joining takes the same lock: here nobody is on the way.
                if self.waiters.load(Ordering::SeqCst) == 0 {
                    table.unlink(self);
                    return;
                }
            }
        }
    }
}

/// The loads of one cache that have not ended.
pub(super) struct Table<K, V> {
    /// The load that callers may join.
    current: HashMap<K, Arc<Flight<K, V>>, RandomState>,
    /// Those too whose key has been invalidated since they began.
    all: BTreeMap<FlightId, Arc<Flight<K, V>>>,
}

impl<K: Key, V> Table<K, V> {
    pub(super) fn new() -> Self {
        Self { current: HashMap::default(), all: BTreeMap::new() }
    }

    /// The load of `key` that began in this generation.
    pub(super) fn joinable(&self, key: &K, generation: Generation) -> Option<&Arc<Flight<K, V>>> {
        self.current.get(key).filter(|flight| flight.generation == generation)
    }

    pub(super) fn add(&mut self, flight: &Arc<Flight<K, V>>) {
        self.current.insert(flight.key.clone(), Arc::clone(flight));
        self.all.insert(flight.id, Arc::clone(flight));
    }

    /// Takes a load out; a newer one of the same key stays.
    pub(super) fn unlink(&mut self, flight: &Flight<K, V>) {
        if self.current.get(&flight.key).is_some_and(|current| current.id == flight.id) {
            self.current.remove(&flight.key);
        }
        self.all.remove(&flight.id);
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Flight<K, V>>> {
        self.all.values()
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }
}

/// One caller's place among the waiters of a load. Dropping it leaves the others alone.
pub(super) struct Waiter<K: Key, V: Send + Sync + 'static> {
    pub(super) flight: Arc<Flight<K, V>>,
    pub(super) joined: bool,
    shared: Arc<Shared<K, V>>,
    _edge: Option<Edge>,
}

impl<K: Key, V: Send + Sync + 'static> Waiter<K, V> {
    /// Must be called under the table's lock, so that [`Flight::abandoned`] sees it.
    pub(super) fn new(
        shared: &Arc<Shared<K, V>>,
        flight: &Arc<Flight<K, V>>,
        edge: Option<Edge>,
        joined: bool,
    ) -> Self {
        flight.waiters.fetch_add(1, Ordering::SeqCst);
        let (shared, flight) = (Arc::clone(shared), Arc::clone(flight));
        Self { flight, joined, shared, _edge: edge }
    }

    /// The result of the load, or `None` when `until` comes first.
    pub(super) async fn outcome(&self, until: Option<Instant>) -> Option<Outcome<V>> {
        let late = async {
            match until {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.flight.done.cancelled() => self.flight.outcome.get().cloned(),
            () = late => None,
        }
    }
}

impl<K: Key, V: Send + Sync + 'static> Drop for Waiter<K, V> {
    fn drop(&mut self) {
        let _table = self.shared.table.lock();
        if self.flight.waiters.fetch_sub(1, Ordering::SeqCst) == 1 {
            *self.flight.idle_since.lock() = Instant::now();
            self.flight.idle.notify_one();
        }
    }
}

/// The duty to complete a load. Dropped unused, it completes it all the same: on a
/// panic, on an abort, when the runtime ends, when the actor drops its message.
pub(super) struct FlightGuard<K: Key, V: Send + Sync + 'static> {
    pub(super) flight: Arc<Flight<K, V>>,
    pub(super) permit: Option<Permit>,
    shared: Arc<Shared<K, V>>,
    armed: bool,
}

impl<K: Key, V: Send + Sync + 'static> FlightGuard<K, V> {
    pub(super) fn new(shared: &Arc<Shared<K, V>>, flight: &Arc<Flight<K, V>>) -> Self {
        Self { flight: Arc::clone(flight), permit: None, shared: Arc::clone(shared), armed: true }
    }

    pub(super) const fn shared(&self) -> &Arc<Shared<K, V>> {
        &self.shared
    }

    /// The duty has been done.
    pub(super) fn disarm(mut self) {
        self.armed = false;
    }
}

impl<K: Key, V: Send + Sync + 'static> Drop for FlightGuard<K, V> {
    fn drop(&mut self) {
        if self.armed {
            self.shared.dropped(&self.flight, self.permit.as_ref());
        }
    }
}

//! What the handle, the actor and the loads of one cache have in common.
//!
//! It outlives the actor's incarnations, so a restart loses no load, no permit and no
//! cool-down. Decisions are in `state.rs`, storage in `shards.rs`; here they meet.
//!
//! INVARIANT: locks are taken in the order table → shard, table → admission and table →
//! the waits of `nesting.rs`; no two others are held together. No user code but the
//! key's own `Eq`, `Hash`, `Clone` and `Drop` runs under one.

use std::borrow::Borrow;
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::config::Settings;
use super::error::FillError;
use super::fence::Fence;
use super::flight::{Flight, FlightGuard, FlightInfo, Table};
use super::hit::{Hit, Served, StaleReason};
use super::loader::{AnyLoader, Key, Meta};
use super::shards::{Entry, Micros, Shards};
use super::state::Admission;
use super::stats::{Counters, Stats};

pub(super) struct Shared<K: Key, V: Send + Sync + 'static> {
    pub(super) name: Arc<str>,
    pub(super) settings: Settings,
    pub(super) loader: Arc<dyn AnyLoader<K, V>>,
    pub(super) table: Mutex<Table<K, V>>,
    pub(super) counters: Counters,
    pub(super) store: Shards<K, V>,
    pub(super) fence: Fence,
    pub(super) admission: Mutex<Admission<K, FlightGuard<K, V>>>,
    born: Instant,
    closed: AtomicBool,
    /// Where loads run: on the actor's thread, whoever starts them.
    runtime: OnceLock<Handle>,
}

/// A stored entry, judged by its age.
pub(super) enum Seen<V> {
    Fresh(Hit<V>),
    Absent,
    /// Old, but good enough while it is renewed.
    Renewable(Hit<V>),
    /// Old, but better than an error.
    Fallback(Hit<V>),
    Expired,
    Nothing,
}

impl<K: Key, V: Send + Sync + 'static> Shared<K, V> {
    pub(super) fn new(
        name: Arc<str>,
        settings: Settings,
        loader: Arc<dyn AnyLoader<K, V>>,
    ) -> Self {
        Self {
            name,
            settings,
            loader,
            table: Mutex::new(Table::new()),
            counters: Counters::default(),
            store: Shards::new(settings.room),
            fence: Fence::new(),
            admission: Mutex::new(Admission::new(settings.limits)),
            born: Instant::now(),
            closed: AtomicBool::new(false),
            runtime: OnceLock::new(),
        }
    }

    pub(super) fn hash<Q: Hash + ?Sized>(&self, key: &Q) -> u64 {
        self.store.hash(key)
    }

    /// What is stored, counted as a use. The hit path: one read lock, no allocation.
    pub(super) fn see<Q>(&self, hash: u64, key: &Q) -> Seen<V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.judge(self.store.get(hash, key))
    }

    /// What is stored, without a trace.
    pub(super) fn glance<Q>(&self, hash: u64, key: &Q) -> Seen<V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.judge(self.store.peek(hash, key))
    }

    pub(super) fn count_hit(&self, hash: u64) {
        self.store.count_hit(hash);
    }

    fn judge(&self, entry: Option<Entry<V>>) -> Seen<V> {
        let Some(entry) = entry else { return Seen::Nothing };
        let now = self.now();
        let fresh = now < entry.fresh_until;
        let Some(value) = entry.value else {
            return if fresh { Seen::Absent } else { Seen::Nothing };
        };
        let age = Duration::from_micros(now.saturating_sub(entry.stored_at));
        let hit = |served| Hit { value, age, served };
        let within = |window: Duration| now < entry.fresh_until.saturating_add(micros(window));
        if fresh {
            Seen::Fresh(hit(Served::Fresh))
        } else if within(self.settings.stale_while_revalidate) {
            Seen::Renewable(hit(Served::Stale(StaleReason::Revalidating)))
        } else if within(self.settings.stale_if_error) {
            Seen::Fallback(hit(Served::Stale(StaleReason::Unasked)))
        } else {
            Seen::Expired
        }
    }

    pub(super) fn entry(&self, value: Option<Arc<V>>, ttl: Duration) -> Entry<V> {
        let stored_at = self.now();
        Entry { value, stored_at, fresh_until: stored_at.saturating_add(micros(ttl)) }
    }

    pub(super) fn jittered(&self) -> Duration {
        self.settings.ttl.mul_f64(1.0 - self.settings.jitter * fastrand::f64())
    }

    /// The value stored now, however old.
    pub(super) fn previous(&self, flight: &Flight<K, V>) -> Option<Arc<V>> {
        self.store.peek(flight.hash, &flight.key)?.value
    }

    pub(super) fn insert(&self, key: K, value: V, meta: &Meta) {
        let hash = self.store.hash(&key);
        self.fence.raise(hash);
        self.admission.lock().forgive(&key);
        let ttl = meta.ttl.unwrap_or_else(|| self.jittered());
        if meta.no_store || ttl.is_zero() {
            self.store.remove(hash, &key);
        } else {
            let entry = self.entry(Some(Arc::new(value)), ttl);
            self.store.put_if(hash, key, entry, || true);
        }
    }

    pub(super) fn invalidate<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let hash = self.store.hash(key);
        self.fence.raise(hash);
        self.store.remove(hash, key)
    }

    pub(super) fn expire<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let hash = self.store.hash(key);
        self.fence.raise(hash);
        self.store.expire(hash, key, self.now())
    }

    pub(super) fn clear(&self) {
        self.fence.raise_all();
        self.store.clear();
    }

    /// Makes this runtime the one that loads run on; whether it was the first.
    pub(super) fn settle_here(&self) -> bool {
        self.runtime.set(Handle::current()).is_ok()
    }

    /// Runs a task where loads run. Before the actor's first start nothing is admitted,
    /// so the place is known; a task that has none is dropped.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = self.runtime.get() {
            drop(runtime.spawn(task));
        }
    }

    /// Gives up what has waited too long for its turn. The actor's timer calls it.
    pub(super) fn sweep(&self) {
        let now = Instant::now();
        let (late, next) = {
            let mut admission = self.admission.lock();
            (admission.sweep(now), admission.pump(now))
        };
        for (guard, error) in late {
            self.refuse(guard, error);
        }
        self.go_on(next);
    }

    /// Ends every load and begins no other. Fresh values are still served.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        let queued = self.admission.lock().close();
        for guard in queued {
            self.refuse(guard, FillError::Closed);
        }
        for flight in self.table.lock().all() {
            flight.cancel.cancel();
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    pub(super) fn flights(&self) -> Vec<FlightInfo<K>> {
        let now = Instant::now();
        self.table.lock().all().map(|flight| flight.info(now)).collect()
    }

    pub(super) fn stats(&self) -> Stats {
        let (values, absent) = self.store.len();
        let (running, queued) = {
            let admission = self.admission.lock();
            (admission.running(), admission.queued())
        };
        let counters = &self.counters;
        Stats {
            hits: self.store.hits(),
            absent_hits: counters.absent_hits.read(),
            stale: counters.stale.read(),
            joined: counters.joined.read(),
            loads: counters.loads.read(),
            failed: counters.failed.read(),
            panicked: counters.panicked.read(),
            timed_out: counters.timed_out.read(),
            aborted: counters.aborted.read(),
            fenced: counters.fenced.read(),
            shed: counters.shed.read(),
            evicted: self.store.evicted(),
            values,
            absent,
            in_flight: self.table.lock().len(),
            running,
            queued,
        }
    }

    fn now(&self) -> Micros {
        micros(Instant::now().saturating_duration_since(self.born))
    }
}

fn micros(duration: Duration) -> Micros {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

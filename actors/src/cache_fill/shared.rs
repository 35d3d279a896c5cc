//! What the handle, the actor and the loads of one cache have in common.
//!
//! It outlives the actor's incarnations, so a restart loses no load, no permit and no
//! cool-down. Decisions are in `state.rs`, storage in `shards.rs`; here they meet.
//!
//! INVARIANT: locks are taken in the order table → shard, table → admission; no two
//! others are held together, and no user code but `Eq`, `Hash` and `Clone` of the key
//! runs under one.

use std::borrow::Borrow;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::config::Settings;
use super::error::{FillError, NothingToKeep};
use super::fence::{Fence, Generation};
use super::fill;
use super::flight::{Flight, FlightGuard, FlightInfo, Outcome, Plan, Table, Waiter};
use super::hit::{Hit, Served, StaleReason};
use super::loader::{AnyLoader, Key, LoadFailure, Loaded, Meta, Reason};
use super::nesting::{Edge, Frame};
use super::shards::{Entry, Micros, Shards};
use super::state::{Admission, End, Next, Permit, Verdict};
use super::stats::{Counters, Stats};
use crate::kernel::RequestContext;

pub(super) struct Shared<K: Key, V: Send + Sync + 'static> {
    pub(super) name: Arc<str>,
    pub(super) settings: Settings,
    pub(super) loader: Arc<dyn AnyLoader<K, V>>,
    pub(super) table: Mutex<Table<K, V>>,
    pub(super) counters: Counters,
    store: Shards<K, V>,
    fence: Fence,
    admission: Mutex<Admission<K, FlightGuard<K, V>>>,
    born: Instant,
    closed: AtomicBool,
    /// Whether somebody watches over the end of the runtime.
    pub(super) kept: AtomicBool,
}

/// What a read asks for.
#[derive(Debug)]
pub(super) struct Ask<K> {
    pub(super) key: K,
    pub(super) hash: u64,
    /// Load even if a fresh value is there.
    pub(super) forced: bool,
}

/// What a read has to do next.
pub(super) struct Step<K: Key, V: Send + Sync + 'static> {
    pub(super) then: Then<K, V>,
    /// A new load that must be handed to the actor first.
    pub(super) launch: Option<FlightGuard<K, V>>,
}

pub(super) enum Then<K: Key, V: Send + Sync + 'static> {
    Served(Result<Hit<V>, FillError>),
    Wait(Waiter<K, V>),
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
            kept: AtomicBool::new(false),
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

    /// Decides what a read that found no fresh value does: serve, join, or load.
    ///
    /// ORDER: the store is looked at under the table's lock. A load stores before it
    /// unlinks under that lock, so whoever finds no load here finds what it stored.
    pub(super) fn begin(self: &Arc<Self>, ask: &Ask<K>) -> Step<K, V> {
        let frame = Frame::current();
        let mut table = self.table.lock();
        let generation = self.fence.generation(ask.hash);
        let seen = self.see(ask.hash, &ask.key);
        let reason = match seen {
            _ if ask.forced => Reason::Forced,
            Seen::Fresh(hit) => {
                self.store.count_hit(ask.hash);
                return Step::served(Ok(hit));
            }
            Seen::Absent => {
                self.counters.absent_hits.add();
                return Step::served(Err(FillError::Absent));
            }
            Seen::Renewable(hit) => return self.renew(ask, hit, generation, &mut table),
            Seen::Fallback(_) | Seen::Expired => Reason::Expired,
            Seen::Nothing => Reason::Miss,
        };
        if let Some(flight) = table.joinable(&ask.key, generation).cloned() {
            return self.join(&flight, frame, table);
        }
        if let Some(error) = self.refusal(&ask.key) {
            drop(table);
            return Step::served(self.stale_or(ask, error));
        }
        let depth = match Frame::below(frame) {
            Ok(depth) => depth,
            Err(error) => return Step::served(Err(error)),
        };
        let flight = self.take_off(ask, generation, reason, depth, &mut table);
        let guard = FlightGuard::new(self, &flight);
        let edge = frame.map(|frame| Edge::new(frame, flight.id)).transpose();
        // INVARIANT: nobody waits for a new load yet, so the edge closes no circle.
        let waiter = Waiter::new(self, &flight, edge.unwrap_or_default(), false);
        Step { then: Then::Wait(waiter), launch: Some(guard) }
    }

    /// Serves an old value and sees to it that exactly one load renews it.
    fn renew(
        self: &Arc<Self>,
        ask: &Ask<K>,
        mut hit: Hit<V>,
        generation: Generation,
        table: &mut Table<K, V>,
    ) -> Step<K, V> {
        self.counters.stale.add();
        if table.joinable(&ask.key, generation).is_some() {
            return Step::served(Ok(hit));
        }
        if let Some(error) = self.refusal(&ask.key) {
            hit.served = Served::Stale(StaleReason::of(&error));
            return Step::served(Ok(hit));
        }
        let flight = self.take_off(ask, generation, Reason::Revalidate, 0, table);
        Step { then: Then::Served(Ok(hit)), launch: Some(FlightGuard::new(self, &flight)) }
    }

    /// Begins a load that nobody waits for, unless one is under way or may not begin.
    pub(super) fn begin_unattended(self: &Arc<Self>, key: K) -> Option<FlightGuard<K, V>> {
        let ask = Ask { hash: self.hash(&key), key, forced: true };
        let mut table = self.table.lock();
        let generation = self.fence.generation(ask.hash);
        if table.joinable(&ask.key, generation).is_some() || self.refusal(&ask.key).is_some() {
            return None;
        }
        let flight = self.take_off(&ask, generation, Reason::Forced, 0, &mut table);
        Some(FlightGuard::new(self, &flight))
    }

    fn join(
        self: &Arc<Self>,
        flight: &Arc<Flight<K, V>>,
        frame: Option<Frame>,
        table: parking_lot::MutexGuard<'_, Table<K, V>>,
    ) -> Step<K, V> {
        let edge = match frame.map(|frame| Edge::new(frame, flight.id)).transpose() {
            Ok(edge) => edge,
            Err(error) => return Step::served(Err(error)),
        };
        self.counters.joined.add();
        let waiter = Waiter::new(self, flight, edge, true);
        drop(table);
        if frame.is_some() {
            self.promote(flight);
        }
        Step { then: Then::Wait(waiter), launch: None }
    }

    fn take_off(
        &self,
        ask: &Ask<K>,
        generation: Generation,
        reason: Reason,
        depth: u8,
        table: &mut Table<K, V>,
    ) -> Arc<Flight<K, V>> {
        let request = RequestContext::current().map(|context| context.detached());
        let (key, hash) = (ask.key.clone(), ask.hash);
        let plan = Plan { key, hash, generation, reason, depth, request };
        let flight = Arc::new(Flight::new(plan, Instant::now()));
        table.add(&flight);
        flight
    }

    fn refusal(&self, key: &K) -> Option<FillError> {
        if self.closed.load(Ordering::SeqCst) {
            return Some(FillError::Closed);
        }
        self.admission.lock().cooling(key, Instant::now())
    }

    /// An old value in place of this error, if there is one and it may be served.
    pub(super) fn stale_or(&self, ask: &Ask<K>, error: FillError) -> Result<Hit<V>, FillError> {
        if ask.forced || !error.yields_to_stale() {
            return Err(error);
        }
        match self.glance(ask.hash, &ask.key) {
            Seen::Fresh(hit) => Ok(hit),
            Seen::Renewable(mut hit) | Seen::Fallback(mut hit) => {
                self.counters.stale.add();
                hit.served = Served::Stale(StaleReason::of(&error));
                Ok(hit)
            }
            Seen::Absent | Seen::Expired | Seen::Nothing => Err(error),
        }
    }

    /// Starts a load, queues it or refuses it.
    pub(super) fn admit(&self, guard: FlightGuard<K, V>) {
        let key = guard.flight.key.clone();
        let flight = Arc::clone(&guard.flight);
        let mut admission = self.admission.lock();
        // ORDER: a nested reader marks the load first and looks into the queue then;
        // here the mark is read under the lock that the queue has. One of the two sees
        // the other.
        let verdict = admission.offer(key, guard, flight.class(), Instant::now());
        drop(admission);
        self.obey(verdict);
    }

    fn promote(&self, flight: &Arc<Flight<K, V>>) {
        flight.mark_nested();
        let id = flight.id;
        let mut admission = self.admission.lock();
        let verdict = admission.promote(|guard| guard.flight.id == id, Instant::now());
        drop(admission);
        if let Some(verdict) = verdict {
            self.obey(verdict);
        }
    }

    fn obey(&self, verdict: Verdict<FlightGuard<K, V>>) {
        match verdict {
            Verdict::Start(guard, permit) => fill::start(guard, permit),
            Verdict::Queued { shed: None } => {}
            Verdict::Queued { shed: Some((guard, error)) } | Verdict::Refused(guard, error) => {
                self.refuse(guard, error);
            }
        }
    }

    fn go_on(&self, next: Next<FlightGuard<K, V>>) {
        for (guard, error) in next.refused {
            self.refuse(guard, error);
        }
        for (guard, permit) in next.start {
            fill::start(guard, permit);
        }
    }

    /// Ends a load that never began.
    pub(super) fn refuse(&self, guard: FlightGuard<K, V>, error: FillError) {
        if matches!(error, FillError::Overloaded { .. }) {
            self.counters.shed.add();
        }
        self.land(&guard.flight, Outcome::Failed(error));
        guard.disarm();
    }

    /// Ends a load that ran: store → permit → unlink → wake.
    pub(super) fn finish(
        &self,
        guard: FlightGuard<K, V>,
        previous: Option<Arc<V>>,
        result: Result<Loaded<V>, LoadFailure>,
    ) {
        let flight = Arc::clone(&guard.flight);
        let (outcome, end) = match result {
            Ok(loaded) => self.commit(&flight, loaded, previous),
            Err(failure) => self.note_failure(failure),
        };
        let next = guard.permit.as_ref().map(|permit| self.give_back(&flight, permit, end));
        self.land(&flight, outcome);
        guard.disarm();
        if let Some(next) = next {
            self.go_on(next);
        }
    }

    /// A load was dropped before it ended. Starts nothing: the runtime may be ending.
    pub(super) fn dropped(&self, flight: &Arc<Flight<K, V>>, permit: Option<&Permit>) {
        let outcome = match permit {
            None => Outcome::Lost,
            Some(permit) => {
                self.counters.aborted.add();
                let (now, end) = (Instant::now(), End::NoVerdict);
                self.admission.lock().give_back(&flight.key, permit, end, now, 0.0);
                Outcome::Failed(FillError::Aborted)
            }
        };
        self.land(flight, outcome);
    }

    fn give_back(
        &self,
        flight: &Flight<K, V>,
        permit: &Permit,
        end: End,
    ) -> Next<FlightGuard<K, V>> {
        let now = Instant::now();
        let mut admission = self.admission.lock();
        admission.give_back(&flight.key, permit, end, now, fastrand::f64());
        admission.pump(now)
    }

    fn land(&self, flight: &Flight<K, V>, outcome: Outcome<V>) {
        self.table.lock().unlink(flight);
        flight.complete(outcome);
    }

    fn note_failure(&self, failure: LoadFailure) -> (Outcome<V>, End) {
        let LoadFailure { error, retry_after } = failure;
        let counter = match &error {
            FillError::Panicked(_) => &self.counters.panicked,
            FillError::FillTimeout { .. } => &self.counters.timed_out,
            FillError::Aborted | FillError::Closed => &self.counters.aborted,
            FillError::Loader(_)
            | FillError::Absent
            | FillError::WaitTimeout { .. }
            | FillError::Cooldown { .. }
            | FillError::Overloaded { .. }
            | FillError::Recursion => &self.counters.failed,
        };
        counter.add();
        let end = if error.is_loader_failure() {
            End::Failed { error: Arc::new(error.clone()), retry_after }
        } else {
            End::NoVerdict
        };
        (Outcome::Failed(error), end)
    }

    fn commit(
        &self,
        flight: &Flight<K, V>,
        loaded: Loaded<V>,
        previous: Option<Arc<V>>,
    ) -> (Outcome<V>, End) {
        let (value, meta) = match loaded {
            Loaded::Value(value, meta) => (Arc::new(value), meta),
            Loaded::NotModified(meta) => match previous {
                Some(value) => (value, meta),
                None => {
                    let error = FillError::Loader(Arc::new(NothingToKeep));
                    return self.note_failure(LoadFailure { error, retry_after: None });
                }
            },
            Loaded::Absent(meta) => {
                let ttl = meta.ttl.unwrap_or(self.settings.negative_ttl);
                self.keep(flight, None, ttl, &meta);
                return (Outcome::Failed(FillError::Absent), End::Succeeded);
            }
        };
        let ttl = meta.ttl.unwrap_or_else(|| self.jittered());
        self.keep(flight, Some(Arc::clone(&value)), ttl, &meta);
        (Outcome::Filled(value), End::Succeeded)
    }

    /// Stores the result of a load, unless its key was changed after it had begun.
    fn keep(&self, flight: &Flight<K, V>, value: Option<Arc<V>>, ttl: Duration, meta: &Meta) {
        let current = || self.fence.generation(flight.hash) == flight.generation;
        let stored = if meta.no_store || ttl.is_zero() {
            // What was stored before is known to be out of date.
            self.store.remove_if(flight.hash, &flight.key, current)
        } else {
            let entry = self.entry(value, ttl);
            self.store.put_if(flight.hash, flight.key.clone(), entry, current)
        };
        if !stored {
            self.counters.fenced.add();
            tracing::debug!(cache = &*self.name, flight = %flight.id, "cache_fill.fenced");
        }
    }

    fn entry(&self, value: Option<Arc<V>>, ttl: Duration) -> Entry<V> {
        let stored_at = self.now();
        Entry { value, stored_at, fresh_until: stored_at.saturating_add(micros(ttl)) }
    }

    fn jittered(&self) -> Duration {
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

    pub(super) fn expire(&self, key: &K) -> bool {
        let hash = self.store.hash(key);
        self.fence.raise(hash);
        self.store.expire(hash, key, self.now())
    }

    pub(super) fn clear(&self) {
        self.fence.raise_all();
        self.store.clear();
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

impl<K: Key, V: Send + Sync + 'static> Step<K, V> {
    const fn served(result: Result<Hit<V>, FillError>) -> Self {
        Self { then: Then::Served(result), launch: None }
    }
}

fn micros(duration: Duration) -> Micros {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

//! A read that found no fresh value: serve an old one, join a load, or begin one.

use std::sync::Arc;

use parking_lot::MutexGuard;
use tokio::time::Instant;

use super::error::FillError;
use super::fence::Generation;
use super::flight::{Flight, FlightGuard, Plan, Table, Waiter};
use super::hit::{Hit, Served, StaleReason};
use super::loader::{Key, Reason};
use super::nesting::{Edge, Frame};
use super::shared::{Seen, Shared};
use crate::kernel::RequestContext;

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

impl<K: Key, V: Send + Sync + 'static> Shared<K, V> {
    /// Decides what a read that found no fresh value does: serve, join, or load.
    ///
    /// ORDER: the store is looked at under the table's lock. A load stores before it
    /// unlinks under that lock, so whoever finds no load here finds what it stored.
    pub(super) fn begin(self: &Arc<Self>, ask: &Ask<K>) -> Step<K, V> {
        let frame = Frame::current();
        // Declared first, so that values it holds are dropped after the table is unlocked.
        let seen;
        let mut table = self.table.lock();
        let generation = self.fence.generation(ask.hash);
        seen = self.see(ask.hash, &ask.key);
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
        table: MutexGuard<'_, Table<K, V>>,
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
        if self.is_closed() {
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
}

impl<K: Key, V: Send + Sync + 'static> Step<K, V> {
    const fn served(result: Result<Hit<V>, FillError>) -> Self {
        Self { then: Then::Served(result), launch: None }
    }
}

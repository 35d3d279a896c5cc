//! A load on its way: admitted, started, ended.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::error::{FillError, NothingToKeep};
use super::fill;
use super::flight::{Flight, FlightGuard, Outcome};
use super::loader::{Key, LoadFailure, Loaded, Meta};
use super::shared::Shared;
use super::state::{End, Next, Permit, Verdict};

impl<K: Key, V: Send + Sync + 'static> Shared<K, V> {
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

    pub(super) fn promote(&self, flight: &Arc<Flight<K, V>>) {
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

    pub(super) fn go_on(&self, next: Next<FlightGuard<K, V>>) {
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
}

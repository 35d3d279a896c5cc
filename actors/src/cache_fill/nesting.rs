//! Loaders that read caches: who waits for whom.
//!
//! A loader that waits, directly or through other loads, for its own result would
//! wait until its time is up. So each load that waits for another leaves an edge, and
//! a wait that would close a circle is refused. Load ids are unique in the process,
//! so circles through several caches are found too. A loader that hands its reads to
//! a spawned task is not recognised there; `max_fill_time` then ends it.

use std::collections::HashMap;
use std::future::Future;

use parking_lot::Mutex;

use super::error::FillError;
use super::flight::FlightId;

/// LIMIT: loads within loads. Deeper is taken for a recursion over ever new keys.
const DEPTH_MAX: u8 = 16;

tokio::task_local! {
    static RUNNING: Frame;
}

/// The load the current task works on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    pub(super) flight: FlightId,
    pub(super) depth: u8,
}

impl Frame {
    /// The load whose loader is running this code, if any.
    pub(super) fn current() -> Option<Self> {
        RUNNING.try_with(|frame| *frame).ok()
    }

    /// Runs a loader as this load.
    pub(super) fn scope<F: Future>(self, loader: F) -> impl Future<Output = F::Output> {
        RUNNING.scope(self, loader)
    }

    /// The depth of a load that this one begins.
    pub(super) fn below(current: Option<Self>) -> Result<u8, FillError> {
        let depth = current.map_or(0, |frame| frame.depth + 1);
        if depth > DEPTH_MAX { Err(FillError::Recursion) } else { Ok(depth) }
    }
}

static WAITS: Waits = Waits(Mutex::new(None));

/// Which loads each load waits for. Only nested reads touch it.
struct Waits(Mutex<Option<HashMap<FlightId, Vec<FlightId>>>>);

/// One load waits for another, until this is dropped.
#[derive(Debug)]
pub(super) struct Edge {
    from: FlightId,
    to: FlightId,
}

impl Edge {
    /// Notes that the load of `frame` waits for `to`, unless `to` waits for it.
    pub(super) fn new(frame: Frame, to: FlightId) -> Result<Self, FillError> {
        let from = frame.flight;
        let mut waits = WAITS.0.lock();
        let waits = waits.get_or_insert_default();
        if from == to || reaches(waits, to, from) {
            return Err(FillError::Recursion);
        }
        waits.entry(from).or_default().push(to);
        Ok(Self { from, to })
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        let mut waits = WAITS.0.lock();
        let Some(waits) = waits.as_mut() else { return };
        let Some(targets) = waits.get_mut(&self.from) else { return };
        if let Some(index) = targets.iter().position(|target| *target == self.to) {
            targets.swap_remove(index);
        }
        if targets.is_empty() {
            waits.remove(&self.from);
        }
    }
}

// INVARIANT: the graph has no circle, because every edge that would close one is
// refused; so the walk ends.
fn reaches(waits: &HashMap<FlightId, Vec<FlightId>>, from: FlightId, to: FlightId) -> bool {
    let mut open = vec![from];
    while let Some(flight) = open.pop() {
        if flight == to {
            return true;
        }
        open.extend(waits.get(&flight).into_iter().flatten());
    }
    false
}

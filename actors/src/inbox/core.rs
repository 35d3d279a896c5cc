//! What the handle, the actor and the runs of one inbox share.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use bytes::Bytes;

use super::counts::{Counter, Tally};
use super::error::InboxError;
use super::event::{EventState, InboxId, NewEvent, Row, Turn};
use super::filter::EventFilter;
use super::handlers::{EventCx, Handlers};
use super::source::Source;
use super::store::{self, Again, Enqueuer, Inserted, StateCount};
use super::upcast::Upcasters;
use crate::jobs::tx::{look, transact};
use crate::jobs::{JobId, Jobs};
use crate::store::{Store, StoreError, Timestamp, WallClock};

/// What a run needs. The job queue holds it, so it must not hold the queue.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) store: Store,
    pub(super) sources: HashMap<Arc<str>, Known>,
    pub(super) handlers: Handlers,
    pub(super) upcasters: Upcasters,
    pub(super) unknown_source: Counter,
    pub(super) keep_for: Duration,
    pub(super) keep_dead_for: Duration,
    /// Set when the inbox starts; runs that begin before do without.
    pub(super) shared: OnceLock<Weak<Shared>>,
    pub(super) clock: OnceLock<WallClock>,
}

/// A source and its counters.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) source: Source,
    pub(super) tally: Tally,
}

/// What the handle and the actor need.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) core: Arc<Core>,
    pub(super) enqueuer: Enqueuer,
}

impl Core {
    /// The clock of the queue, or the system's where that is not known yet.
    pub(super) fn clock(&self) -> WallClock {
        self.clock.get().cloned().unwrap_or_default()
    }

    /// The queue, once the inbox has started and until it has ended.
    pub(super) fn jobs(&self) -> Option<Jobs> {
        Some(self.shared.get()?.upgrade()?.enqueuer.jobs.clone())
    }

    pub(super) async fn insert(
        &self,
        enqueuer: Enqueuer,
        events: Vec<NewEvent>,
    ) -> Result<Vec<Inserted>, InboxError> {
        let now = self.clock().now();
        transact!(&self.store, tx => store::insert(&tx, &enqueuer, &events, now))
    }

    pub(super) async fn load(&self, id: InboxId) -> Result<Option<(Row, Bytes)>, StoreError> {
        look!(&self.store, rows => store::load(&rows, id))
    }

    pub(super) async fn find(
        &self,
        source: &str,
        event_id: String,
    ) -> Result<Option<InboxId>, StoreError> {
        let source = source.to_owned();
        look!(&self.store, rows => store::find(&rows, &source, &event_id))
    }

    pub(super) async fn ahead(&self, source: &Arc<str>, turn: &Turn) -> Result<i64, StoreError> {
        let (source, turn) = (Arc::clone(source), turn.clone());
        look!(&self.store, rows => store::ahead(&rows, &source, &turn))
    }

    pub(super) async fn next(
        &self,
        source: &Arc<str>,
        turn: &Turn,
    ) -> Result<Option<JobId>, StoreError> {
        let (source, turn) = (Arc::clone(source), turn.clone());
        look!(&self.store, rows => store::next(&rows, &source, &turn))
    }

    pub(super) async fn list(
        &self,
        filter: EventFilter,
        limit: u32,
    ) -> Result<Vec<Row>, StoreError> {
        look!(&self.store, rows => store::list(&rows, &filter, limit))
    }

    pub(super) async fn counts(&self) -> Result<Vec<StateCount>, StoreError> {
        look!(&self.store, rows => store::counts(&rows))
    }

    pub(super) async fn again(
        &self,
        enqueuer: Enqueuer,
        events: Vec<Again>,
    ) -> Result<u64, InboxError> {
        transact!(&self.store, tx => store::again(&tx, &enqueuer, &events))
    }

    /// Ends an event and its job in a transaction of their own.
    pub(super) async fn end(&self, cx: &EventCx, state: EventState) -> Result<(), InboxError> {
        let cx = cx.clone();
        transact!(&self.store, tx => cx.end(&tx, state))
    }

    pub(super) async fn prune(
        &self,
        settled: Timestamp,
        dead: Timestamp,
        limit: u32,
    ) -> Result<u64, StoreError> {
        transact!(&self.store, tx => store::prune(&tx, settled, dead, limit))
    }
}

//! What the handle, the actor and the runs of one inbox share.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use super::counts::{Counter, Tally};
use super::handlers::Handlers;
use super::source::Source;
use super::store::{Enqueuer, Tables};
use super::upcast::Upcasters;
use crate::jobs::Jobs;
use crate::store::WallClock;

/// What a run needs. The job queue holds it, so it must not hold the queue.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) tables: Tables,
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
}

//! What the actors, the workers and the handles of one job queue share.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use parking_lot::Mutex;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::NodeId;
use super::chance::Chance;
use super::config::Config;
use super::dependencies::Dependencies;
use super::error::JobsError;
use super::events::Events;
use super::kinds::Kinds;
use super::pool::Pool;
use super::report::Peers;
use super::retry::RetryBudget;
use super::running::Running;
use super::store::JobStore;
use super::store::postgres::PgJobs;
use crate::store::{StoreError, WallClock};

/// What the actors, the workers and the handles of one job queue share.
pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) store: Arc<dyn JobStore>,
    /// The tables, where they are in PostgreSQL.
    pub(super) postgres: Option<Arc<PgJobs>>,
    pub(super) clock: WallClock,
    pub(super) node: NodeId,
    pub(super) kinds: Kinds,
    pub(super) pools: HashMap<Arc<str>, Arc<Pool>>,
    pub(super) running: Running,
    pub(super) dependencies: Dependencies,
    pub(super) budgets: Budgets,
    pub(super) events: Events,
    /// What the other processes said last.
    pub(super) peers: Peers,
    /// One job that was charged with a crash runs at a time.
    pub(super) probation: Arc<Semaphore>,
    pub(super) workers: Workers,
    pub(super) chance: Chance,
    draining: AtomicBool,
    fenced: AtomicBool,
    /// When the tables last took a beat of this process.
    heard: Mutex<Option<Instant>>,
    term: AtomicI64,
}

/// No term has this number.
const NO_TERM: i64 = i64::MIN;

/// Where handlers run.
pub(super) enum Workers {
    /// On threads of their own, so that one that blocks holds up no actor and no heartbeat.
    Own(Mutex<Option<Runtime>>, Handle),
    /// Where somebody says.
    Given(Handle),
}

impl Shared {
    #[expect(clippy::too_many_arguments, reason = "it is what it is made of")]
    pub(super) fn new(
        config: Config,
        store: Arc<dyn JobStore>,
        postgres: Option<Arc<PgJobs>>,
        clock: WallClock,
        kinds: Kinds,
        pools: HashMap<Arc<str>, Arc<Pool>>,
        dependencies: Dependencies,
        workers: Workers,
        chance: Chance,
    ) -> Self {
        Self {
            config,
            store,
            postgres,
            clock,
            node: NodeId::fresh(),
            kinds,
            pools,
            running: Running::default(),
            dependencies,
            budgets: Budgets::default(),
            events: Events::new(),
            peers: Peers::default(),
            probation: Arc::new(Semaphore::new(1)),
            workers,
            chance,
            draining: AtomicBool::new(false),
            fenced: AtomicBool::new(true),
            heard: Mutex::new(None),
            term: AtomicI64::new(NO_TERM),
        }
    }

    pub(super) fn pool(&self, queue: &str) -> Option<&Arc<Pool>> {
        self.pools.get(queue)
    }

    pub(super) fn runtime(&self) -> &Handle {
        match &self.workers {
            Workers::Own(_, handle) | Workers::Given(handle) => handle,
        }
    }

    /// Whether nothing new is begun, for good.
    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
        self.ring();
    }

    /// Whether others may take this process for dead by now, or do not know it yet, so that it
    /// must begin nothing.
    pub(super) fn is_fenced(&self) -> bool {
        self.fenced.load(Ordering::Acquire)
    }

    /// The tables took a beat that was sent then.
    pub(super) fn hear(&self, sent: Instant) {
        *self.heard.lock() = Some(sent);
    }

    /// For how long nobody has heard of this process; `None`: nobody ever has.
    pub(super) fn silence(&self, now: Instant) -> Option<std::time::Duration> {
        self.heard.lock().map(|heard| now.saturating_duration_since(heard))
    }

    /// `true` if that changed.
    pub(super) fn fence(&self, fenced: bool) -> bool {
        let changed = self.fenced.swap(fenced, Ordering::AcqRel) != fenced;
        if changed {
            self.ring();
        }
        changed
    }

    /// Whether this process does what only one should do.
    pub(super) fn is_leader(&self) -> bool {
        self.term().is_some()
    }

    /// The term in which this process leads; `None`: another one does.
    pub(super) fn lead(&self, term: Option<i64>) {
        let before = self.term.swap(term.unwrap_or(NO_TERM), Ordering::AcqRel);
        if (before == NO_TERM) != term.is_none() {
            tracing::info!(node = %self.node, leads = term.is_some(), "jobs.leadership_changed");
        }
    }

    /// The term in which this process leads.
    pub(super) fn term(&self) -> Option<i64> {
        Some(self.term.load(Ordering::Acquire)).filter(|term| *term != NO_TERM)
    }

    fn ring(&self) {
        self.pools.values().for_each(|pool| pool.bell.notify_one());
    }
}

impl Workers {
    pub(super) fn own(threads: usize) -> Result<Self, JobsError> {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(threads).thread_name("jobs").enable_all().build();
        let runtime = runtime.map_err(|error| {
            JobsError::Store(StoreError::Unavailable(StoreError::source(error)))
        })?;
        let handle = runtime.handle().clone();
        Ok(Self::Own(Mutex::new(Some(runtime)), handle))
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        // Dropping a runtime waits for its threads, which is forbidden where futures run.
        if let Self::Own(runtime, _) = self
            && let Some(runtime) = runtime.lock().take()
        {
            runtime.shutdown_background();
        }
    }
}

/// The retries of each dependency. LIMIT: one per dependency that a registered kind names.
#[derive(Debug, Default)]
pub(super) struct Budgets(Mutex<HashMap<Arc<str>, RetryBudget>>);

impl Budgets {
    /// Counts a run of a job with this dependency; `retried`: it will be tried again. Whether
    /// that is within what the dependency is expected to bear.
    pub(super) fn spend(&self, name: &Arc<str>, attempt: i16, retried: bool, now: Instant) -> bool {
        let mut budgets = self.0.lock();
        let budget = budgets.entry(Arc::clone(name)).or_insert_with(|| RetryBudget::new(now));
        if attempt <= 1 {
            budget.first_attempt(now);
        }
        !retried || budget.retry(now)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("node", &self.node)
            .field("kinds", &self.kinds)
            .field("pools", &self.pools)
            .finish_non_exhaustive()
    }
}

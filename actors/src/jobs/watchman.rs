//! The shell around a queue's guard: looks at the tables, publishes what the guard makes of it,
//! and does what it says with the work that is stored already.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix::{Actor, AsyncContext};
use tokio::sync::broadcast;
use tokio::time::{Instant, sleep};

use super::guard::{GuardConfig, LevelChanged, Reading, State};
use super::pool::Pool;
use super::report::Totals;
use super::shared::Shared;
use super::store::Depths;
use crate::kernel::Context;
use crate::store::{StoreError, Timestamp};

/// LIMIT: changes of level kept for a subscriber that lags behind.
pub(super) const CHANGES_KEPT: usize = 64;
/// LIMIT: statements of one look that give work up.
const SHED_ROUNDS: usize = 20;
/// Of the time, looking takes at most one part in so many.
const LOOK_SHARE: u32 = 20;
/// LIMIT: but however long a look takes, the guard is not blind for longer.
const REST_MAX: Duration = Duration::from_secs(10);

/// Watches over one queue. What it has learnt is gone with it: a new incarnation learns again
/// within seconds, and until then what was published last stands.
pub(super) struct Watchman {
    shared: Arc<Shared>,
    pool: Arc<Pool>,
    config: GuardConfig,
}

impl Watchman {
    pub(super) const fn new(shared: Arc<Shared>, pool: Arc<Pool>, config: GuardConfig) -> Self {
        Self { shared, pool, config }
    }
}

impl Actor for Watchman {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let watching = Watching {
            shared: Arc::clone(&self.shared),
            pool: Arc::clone(&self.pool),
            limit: self.config.probe_limit(),
            state: State::new(self.config.clone()),
            began: Instant::now(),
            rest: Duration::ZERO,
            failing: false,
        };
        ctx.spawn(actix::fut::wrap_future(watching.watch()));
    }
}

struct Watching {
    shared: Arc<Shared>,
    pool: Arc<Pool>,
    limit: u32,
    state: State,
    began: Instant,
    /// How long the database has a rest from the last look.
    rest: Duration,
    failing: bool,
}

impl Watching {
    async fn watch(mut self) {
        loop {
            let looked = self.look().await;
            self.note(looked);
            sleep(self.state.next_look().max(self.rest)).await;
        }
    }

    fn note(&mut self, looked: Result<(), StoreError>) {
        let queue = &*self.pool.queue;
        match looked {
            Ok(()) => self.failing = false,
            Err(error) if !self.failing => {
                self.failing = true;
                tracing::warn!(queue, %error, "jobs.guard_blind");
            }
            Err(_) => {}
        }
    }

    async fn look(&mut self) -> Result<(), StoreError> {
        let queue = Arc::clone(&self.pool.queue);
        let now = self.shared.clock.now();
        let asked = Instant::now();
        let depths = self.shared.store.depths(Arc::clone(&queue), self.limit, now).await?;
        self.rest = (asked.elapsed() * (LOOK_SHARE - 1)).min(REST_MAX);
        let reading = self.reading(&depths, now);
        let changed = self.state.observe(reading);
        // ORDER: counted from the reading on, so that none is counted twice for long.
        self.pool.tally.since_look.store(0, Ordering::Relaxed);
        self.pool.guard.store(Arc::new(self.state.snapshot()));
        if let Some(change) = changed {
            change.report(&queue);
            // Nobody listening is no fault.
            let _listeners = self.pool.changes.send(change);
        }
        self.act().await
    }

    fn reading(&self, depths: &Depths, now: Timestamp) -> Reading {
        let (shared, pool) = (&self.shared, &self.pool);
        let all = Totals::of(&pool.tally).and(shared.peers.totals(&pool.queue));
        let dependencies = shared.kinds.dependencies_of(&pool.queue);
        Reading {
            at: self.began.elapsed(),
            ready: depths.ready,
            oldest: depths.oldest_due.map(|due| due.map(|due| now.since(due))),
            running: depths.running,
            deferred: depths.deferred,
            parked: depths.parked,
            enqueued: all.enqueued,
            held_back: all.held_back,
            finished: all.finished,
            failed: all.failed,
            dependency_open: shared.dependencies.any_open(dependencies),
            paused: depths.paused,
            nodes: shared.peers.count() + 1,
        }
    }

    /// Only one process acts on what is stored; all would do it several times over.
    async fn act(&self) -> Result<(), StoreError> {
        let (shared, queue) = (&self.shared, &self.pool.queue);
        if !shared.is_leader() {
            return Ok(());
        }
        let pull = self.state.pull_forward();
        if pull > 0 {
            let now = shared.clock.now();
            let pulled = shared.store.pull_forward(Arc::clone(queue), pull, now).await?;
            if pulled > 0 {
                tracing::info!(queue = &**queue, pulled, "jobs.pulled_forward");
            }
        }
        match self.state.shed() {
            Some(shed) => self.shed(shed.class, shed.limit).await,
            None => Ok(()),
        }
    }

    async fn shed(&self, class: Option<super::Class>, limit: u32) -> Result<(), StoreError> {
        let (shared, queue) = (&self.shared, &self.pool.queue);
        let mut gone = 0;
        for _ in 0..SHED_ROUNDS {
            let now = shared.clock.now();
            let some = shared.store.shed(Arc::clone(queue), class, limit, now).await?;
            gone += some;
            if some < u64::from(limit) {
                break;
            }
        }
        if gone > 0 {
            self.pool.tally.shed.fetch_add(gone, Ordering::Relaxed);
            tracing::warn!(queue = &**queue, gone, "jobs.shed");
        }
        Ok(())
    }
}

/// Where a queue's changes of level go.
pub(super) fn changes() -> broadcast::Sender<LevelChanged> {
    broadcast::channel(CHANGES_KEPT).0
}

impl fmt::Debug for Watchman {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watchman").field("pool", &self.pool).finish_non_exhaustive()
    }
}

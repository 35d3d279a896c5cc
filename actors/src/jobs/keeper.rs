//! Keeps the queue whole: beats, hears who is dead, rescues their jobs, finds runs that were
//! lost, and as leader prunes and fires periodic jobs.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, AsyncContext};
use tokio::time::{Instant, sleep};

use super::events::JobEvent;
use super::nodes::Nodes;
use super::report::{self, Report};
use super::shared::Shared;
use super::store::{Beat, Pulse, Settle, Settlement};
use super::{RunKey, timetable};
use crate::kernel::{Context, Stopped};
use crate::store::{StoreError, Timestamp, presence};

/// How often the locks of the processes on this host are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often runs are looked for that the tables say are ours and nobody here holds.
const SEARCH_EVERY: Duration = Duration::from_secs(10);
/// A run younger than this may be on its way to us: no statement takes so long.
const LOST_AFTER: Duration = Duration::from_secs(30);
/// How often the leader prunes.
const PRUNE_EVERY: Duration = Duration::from_secs(60);
/// LIMIT: rows of each kind that one statement prunes.
const PRUNE_CHUNK: u32 = 1_000;
/// LIMIT: statements of one pruning; what is left waits for the next.
const PRUNE_ROUNDS: usize = 100;
/// How long a leader leads without saying so again.
const TERM: Duration = Duration::from_secs(15);
/// What the leader leads.
pub(super) const LEADER: &str = "jobs";
/// LIMIT: parked jobs of a dependency nobody watches that are let go with each search.
const UNWATCHED_CHUNK: u32 = 100;

/// Keeps one process's part of the queue whole.
///
/// What it knows it can find out again, so a restart costs nothing but time: other processes are
/// given their whole time again before they count as dead.
pub(super) struct Keeper {
    shared: Arc<Shared>,
    presence: Option<Arc<str>>,
}

impl Keeper {
    pub(super) const fn new(shared: Arc<Shared>, presence: Option<Arc<str>>) -> Self {
        Self { shared, presence }
    }
}

impl Actor for Keeper {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let keeping = Keeping::new(Arc::clone(&self.shared), self.presence.clone());
        ctx.spawn(actix::fut::wrap_future(keeping.keep()));
        ctx.spawn(actix::fut::wrap_future(judge(Arc::clone(&self.shared))));
        ctx.spawn(actix::fut::wrap_future(timetable::keep(Arc::clone(&self.shared))));
    }
}

struct Keeping {
    shared: Arc<Shared>,
    presence: Option<Arc<str>>,
    nodes: Nodes,
    beaten: Option<Instant>,
    /// When a process was last found dead; as if at the start, for those that died before.
    mourned: Instant,
    searched: Instant,
    pruned: Instant,
}

impl Keeping {
    fn new(shared: Arc<Shared>, presence: Option<Arc<str>>) -> Self {
        let now = Instant::now();
        let nodes = Nodes::default();
        Self { shared, presence, nodes, beaten: None, mourned: now, searched: now, pruned: now }
    }

    async fn keep(mut self) {
        let pause = LOOK_EVERY.min(self.shared.config.beat_every);
        loop {
            if let Err(error) = self.turn().await {
                tracing::warn!(%error, "jobs.keeper_failed");
            }
            sleep(pause).await;
        }
    }

    async fn turn(&mut self) -> Result<(), StoreError> {
        let now = Instant::now();
        let beat_every = self.shared.config.beat_every;
        if self.beaten.is_none_or(|at| now.duration_since(at) >= beat_every) {
            self.beaten = Some(now);
            self.beat().await?;
            self.write_progress().await?;
        }
        self.rescue().await?;
        if self.searched.elapsed() >= SEARCH_EVERY {
            self.searched = Instant::now();
            find_lost(&self.shared).await?;
            if self.shared.is_leader() {
                self.find_orphans().await?;
                self.let_go_unwatched().await?;
            }
        }
        if self.shared.is_leader() && self.pruned.elapsed() >= PRUNE_EVERY {
            self.pruned = Instant::now();
            self.prune().await?;
        }
        Ok(())
    }

    async fn beat(&mut self) -> Result<(), StoreError> {
        let shared = &self.shared;
        let beat = Beat {
            node: shared.node,
            name: Arc::clone(&shared.config.name),
            presence: self.presence.clone(),
            report: Report::of(shared).encode(),
        };
        // ORDER: as of when it was sent. Others may have seen it that early, and wait from then on.
        let sent = Instant::now();
        let pulse = shared.store.beat(beat, shared.clock.now()).await?;
        shared.hear(sent);
        judge_itself(shared);
        self.hear(&pulse, Instant::now());
        self.lead().await
    }

    fn hear(&mut self, pulse: &Pulse, now: Instant) {
        let shared = &self.shared;
        if let Some(database) = pulse.database_now {
            shared.clock.correct_to(database);
        }
        self.nodes.observe(&pulse.nodes, shared.node, now);
        report::hear(shared, &pulse.nodes);
        for id in &pulse.to_cancel {
            shared.running.stop(*id, Stopped::ClientGone);
        }
    }

    async fn lead(&self) -> Result<(), StoreError> {
        let shared = &self.shared;
        if shared.is_draining() {
            return Ok(());
        }
        let now = shared.clock.now();
        let term = shared.store.elect(LEADER, shared.node, now.after(TERM), now).await?;
        shared.lead(term);
        Ok(())
    }

    async fn write_progress(&self) -> Result<(), StoreError> {
        let reports = self.shared.running.progress();
        if reports.is_empty() {
            return Ok(());
        }
        self.shared.store.progress(reports).await
    }

    /// Gives the jobs of dead processes to the living.
    async fn rescue(&mut self) -> Result<(), StoreError> {
        let is_dead = |described: &str| presence::is_dead(described) == Some(true);
        let (expires, now) = (self.shared.config.expires_after, Instant::now());
        let dead = self.nodes.dead(expires, now, is_dead);
        if dead.is_empty() {
            // The database may carry out the last claim of a process after it was buried.
            return if self.mourns(now) { self.find_orphans().await } else { Ok(()) };
        }
        self.give_back(dead.clone()).await?;
        self.mourned = now;
        dead.iter().filter_map(|id| self.nodes.presence(*id)).for_each(|at| presence::bury(&at));
        Ok(())
    }

    fn mourns(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.mourned) < LOST_AFTER
    }

    async fn give_back(&self, dead: Vec<super::NodeId>) -> Result<(), StoreError> {
        let shared = &self.shared;
        let (poison, now) = (shared.config.poison_after, shared.clock.now());
        let rescued = shared.store.rescue(dead.clone(), poison, now).await?;
        if !dead.is_empty() || rescued != super::store::Rescued::default() {
            shared.events.tell(JobEvent::Rescued { nodes: dead, rescued });
        }
        Ok(())
    }

    /// Jobs of processes that nobody remembers.
    async fn find_orphans(&self) -> Result<(), StoreError> {
        self.give_back(Vec::new()).await
    }

    /// Jobs that are parked for a dependency that no process watches any more.
    async fn let_go_unwatched(&self) -> Result<(), StoreError> {
        let shared = &self.shared;
        let watched: HashSet<Arc<str>> = shared.peers.dependencies();
        for (dependency, _) in shared.store.parked(1).await? {
            if !watched.contains(&dependency) && !shared.dependencies.watches(&dependency) {
                let now = shared.clock.now();
                shared.store.release(dependency, UNWATCHED_CHUNK, now).await?;
            }
        }
        Ok(())
    }

    async fn prune(&self) -> Result<(), StoreError> {
        let (shared, config) = (&self.shared, &self.shared.config);
        for _ in 0..PRUNE_ROUNDS {
            let now = shared.clock.now();
            let (done, dead) = (now.before(config.keep_done), now.before(config.keep_dead));
            let pruned = shared.store.prune(done, dead, PRUNE_CHUNK, now).await?;
            let most = pruned.done.max(pruned.dead).max(pruned.keys);
            if most < u64::from(PRUNE_CHUNK) {
                break;
            }
        }
        Ok(())
    }
}

/// Judges this process for as long as it is polled. Beside the beats: one that hangs must not
/// keep it from being judged.
async fn judge(shared: Arc<Shared>) {
    let pause = LOOK_EVERY.min(shared.config.beat_every);
    loop {
        judge_itself(&shared);
        sleep(pause).await;
    }
}

/// Who has not been heard of for half the time may soon be taken for dead by the others: it
/// begins nothing new. Near the end it stops what it does.
fn judge_itself(shared: &Shared) {
    let Some(silent) = shared.silence(Instant::now()) else { return };
    let expires = shared.config.expires_after;
    let fenced = silent >= expires / 2;
    if shared.fence(fenced) {
        let silent_ms = u64::try_from(silent.as_millis()).unwrap_or(u64::MAX);
        tracing::warn!(fenced, silent_ms, "jobs.fence_changed");
    }
    if silent >= expires.mul_f64(0.9) {
        shared.running.stop_all(Stopped::Shutdown);
    }
}

/// Runs that the tables say are ours and nobody here holds: a claim whose answer was lost.
pub(super) async fn find_lost(shared: &Shared) -> Result<(), StoreError> {
    let before = shared.clock.now().before(LOST_AFTER);
    let ours = shared.store.runs_of(shared.node, before).await?;
    let held = |key: &RunKey| shared.pools.values().any(|pool| pool.holds(*key));
    let lost: Vec<_> = ours.into_iter().filter(|key| !held(key)).collect();
    if lost.is_empty() {
        return Ok(());
    }
    tracing::warn!(lost = lost.len(), "jobs.found_lost_runs");
    let now = shared.clock.now();
    let settles = lost.into_iter().map(|key| give_back(key, now)).collect();
    shared.store.step(settles, None, now).await.map(drop)
}

/// Makes a run's job ready again, as if it had not been claimed.
pub(super) const fn give_back(key: RunKey, now: Timestamp) -> Settle {
    let how = Settlement::Release { run_at: now, parked: false, keeps_age: true, error: None };
    Settle { key, how, queued: Duration::ZERO, ran: Duration::ZERO }
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").field("presence", &self.presence).finish_non_exhaustive()
    }
}

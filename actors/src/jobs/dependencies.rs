//! The link between breakers and jobs: while a dependency's breaker is open, its jobs are parked
//! and lose no attempt; when it is tried, a few are let go; when it is well, more and more.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, AsyncContext};
use tokio::time::{Instant, sleep};

use super::shared::Shared;
use crate::breaker::{Breaker, BreakerState};
use crate::kernel::Context;
use crate::store::StoreError;

/// How often the state of a dependency with parked jobs is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How often it is asked whether jobs are parked while the breaker is closed.
const ASK_EVERY: Duration = Duration::from_secs(2);
/// LIMIT: rows that one statement parks or releases.
const CHUNK: u32 = 1_000;
/// Jobs that are let go to try a dependency, with each look.
const PROBES: u32 = 2;
/// Jobs that are let go first when a dependency is well again; then twice as many each time.
const FIRST: u32 = 8;

/// The breakers of this process that jobs may name as their dependency.
#[derive(Debug, Clone, Default)]
pub(super) struct Dependencies(HashMap<Arc<str>, Breaker>);

impl Dependencies {
    pub(super) fn add(&mut self, breaker: Breaker) {
        self.0.insert(breaker.dependency().to_string().into(), breaker);
    }

    /// Whether a breaker of this process watches this dependency.
    pub(super) fn watches(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Whether calls of this dependency are refused now.
    pub(super) fn is_open(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|breaker| stance(breaker) == Stance::Refuses)
    }

    /// Whether any of these refuses calls.
    pub(super) fn any_open<'a>(&self, mut names: impl Iterator<Item = &'a str>) -> bool {
        names.any(|name| self.is_open(name))
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.0.keys()
    }
}

/// What a breaker would do with the calls of jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stance {
    Refuses,
    Tries,
    Passes,
}

fn stance(breaker: &Breaker) -> Stance {
    let snapshot = breaker.snapshot();
    match snapshot.state {
        // A pause that is over ends with the next call: somebody has to make it.
        BreakerState::Open | BreakerState::ForcedOpen
            if snapshot.remaining == Some(Duration::ZERO) =>
        {
            Stance::Tries
        }
        BreakerState::Open | BreakerState::ForcedOpen => Stance::Refuses,
        BreakerState::HalfOpen => Stance::Tries,
        BreakerState::Closed | BreakerState::Disabled | BreakerState::MetricsOnly => Stance::Passes,
    }
}

/// Parks the jobs of dependencies that are not well, and lets them go again.
///
/// It keeps nothing: which jobs are parked is in the tables, and a breaker knows its own state.
pub(super) struct DependenciesActor {
    shared: Arc<Shared>,
}

impl DependenciesActor {
    pub(super) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

impl Actor for DependenciesActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        for (name, breaker) in &self.shared.dependencies.0 {
            let watch = watch(Arc::clone(&self.shared), Arc::clone(name), breaker.clone());
            ctx.spawn(actix::fut::wrap_future(watch));
        }
    }
}

async fn watch(shared: Arc<Shared>, name: Arc<str>, breaker: Breaker) {
    let mut gate = Gate::default();
    loop {
        let stance = stance(&breaker);
        if let Err(error) = gate.look(&shared, &name, stance).await {
            tracing::warn!(dependency = &*name, %error, "jobs.dependency_not_looked_at");
        }
        sleep(LOOK_EVERY).await;
    }
}

/// The gates of all dependencies, for whoever looks when it wants to.
#[derive(Debug, Default)]
pub(super) struct Gates(HashMap<Arc<str>, Gate>);

impl Gates {
    /// Looks at each dependency once: parks its jobs, or lets some go.
    pub(super) async fn look(&mut self, shared: &Shared) -> Result<(), StoreError> {
        for (name, breaker) in &shared.dependencies.0 {
            let gate = self.0.entry(Arc::clone(name)).or_default();
            gate.look(shared, name, stance(breaker)).await?;
        }
        Ok(())
    }
}

/// How far a dependency's jobs are let go.
#[derive(Debug, Default)]
struct Gate {
    before: Option<Stance>,
    let_go: u32,
    asked: Option<Instant>,
}

impl Gate {
    async fn look(
        &mut self,
        shared: &Shared,
        name: &Arc<str>,
        now: Stance,
    ) -> Result<(), StoreError> {
        let changed = self.before.replace(now) != Some(now);
        if changed {
            self.let_go = 0;
            self.asked = None;
        }
        match now {
            // Again with every look: jobs that came meanwhile, or from another process.
            Stance::Refuses => self.park(shared, name).await,
            Stance::Tries => release(shared, name, PROBES).await.map(drop),
            Stance::Passes => self.let_go(shared, name).await,
        }
    }

    async fn park(&self, shared: &Shared, name: &Arc<str>) -> Result<(), StoreError> {
        let mut parked = 0;
        loop {
            let count = shared.store.park(Arc::clone(name), CHUNK).await?;
            parked += count;
            if count < u64::from(CHUNK) {
                break;
            }
        }
        if parked > 0 {
            tracing::info!(dependency = &**name, parked, "jobs.parked");
        }
        Ok(())
    }

    /// Twice as many as the last time, so that what was waiting does not bring the dependency
    /// down again.
    async fn let_go(&mut self, shared: &Shared, name: &Arc<str>) -> Result<(), StoreError> {
        let asked = self.asked.is_some_and(|at| at.elapsed() < ASK_EVERY);
        if self.let_go == 0 && asked {
            return Ok(());
        }
        self.asked = Some(Instant::now());
        let wish = if self.let_go == 0 { FIRST } else { self.let_go.saturating_mul(2).min(CHUNK) };
        let count = release(shared, name, wish).await?;
        self.let_go = if count < u64::from(wish) { 0 } else { wish };
        Ok(())
    }
}

async fn release(shared: &Shared, name: &Arc<str>, limit: u32) -> Result<u64, StoreError> {
    let released = shared.store.release(Arc::clone(name), limit, shared.clock.now()).await?;
    if released > 0 {
        tracing::info!(dependency = &**name, released, "jobs.released_parked");
    }
    Ok(released)
}

impl fmt::Debug for DependenciesActor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DependenciesActor").finish_non_exhaustive()
    }
}

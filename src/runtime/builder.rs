//! Declaring what a runtime is made of.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix::Actor;
use actix_rt::ArbiterHandle;
use steadfast_actors::breaker::{self, Breaker, BreakerBuilder, BreakerState};
use steadfast_actors::cache_fill::{self, Cache, CacheBuilder, Key};
use steadfast_actors::counters::{Counters, RegisteredCounters};
use steadfast_actors::health::{
    CheckCx, CheckError, CheckSpec, Detail, Health, HealthRegistry, Heartbeats, StartTask,
};
use steadfast_actors::inbox::{Inbox, RegisteredInbox};
use steadfast_actors::jobs::{Jobs, JobsBuilder, JobsError};
use steadfast_actors::kernel::{Context, Group, Placement, Ref, Spec, Strategy, Tree};
use steadfast_actors::mailer::{Mailer, MailerActor, MailerBuilder, MailerError};
use steadfast_actors::schema_enum::SchemaEnums;
use steadfast_actors::store::{BreakerMemory, Store, StoreActor};

use super::error::StartError;
use super::leaving::Leaving;
use super::threads::ActorThreads;
use super::{Inner, Steadfast};
use crate::config::{ConfigError, Settings};
use crate::edge::backlog::Backlog;
use crate::edge::{Admission, Edge, InFlight, PanicGuard, Recover, ShutdownTrigger};

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Declares what a runtime is made of. Handles are valid at once; nothing runs until
/// [`start`](Self::start).
#[must_use = "nothing runs until `start`"]
pub struct Builder {
    settings: Settings,
    tree: Tree,
    actors: Group,
    registry: HealthRegistry,
    job_queues: Vec<Jobs>,
    /// Where breakers remember their state.
    memory: Option<Arc<BreakerMemory>>,
    threads: Option<ActorThreads>,
    /// The first thing that went wrong; told by `start`, so that handles need no `?`.
    failed: Option<StartError>,
}

impl Builder {
    pub(super) fn new() -> Self {
        let tree = Tree::new();
        Self {
            settings: Settings::default(),
            actors: Group::new(&tree, "actors", Strategy::OneForOne),
            tree,
            registry: HealthRegistry::new(),
            job_queues: Vec::new(),
            memory: None,
            threads: None,
            failed: None,
        }
    }

    /// Takes these settings instead of the defaults. Must come before the first actor.
    pub fn config(mut self, settings: Settings) -> Self {
        if self.threads.is_some() {
            self.fail(StartError::SettingsTooLate);
        }
        self.settings = settings;
        self
    }

    /// Adds a supervised actor, on the next actor thread unless the spec says where. Actors
    /// start in the order they were added and stop in reverse.
    pub fn actor<A>(&mut self, spec: Spec<A>) -> Ref<A>
    where
        A: Actor<Context = Context<A>>,
    {
        let spec = match self.thread() {
            Some(thread) => spec.place(Placement::On(thread)),
            None => spec,
        };
        self.actors.add(spec)
    }

    /// Adds a supervised actor without which the service is not ready: while it is quarantined
    /// or stopped, `/readyz` answers 503.
    pub fn critical_actor<A>(&mut self, spec: Spec<A>) -> Ref<A>
    where
        A: Actor<Context = Context<A>>,
    {
        let actor = self.actor(spec);
        self.registry = std::mem::take(&mut self.registry).critical_actor(actor.name());
        actor
    }

    /// Adds a group of actors that restart by `strategy`; `fill` adds them and returns their
    /// handles. They share the next actor thread unless a spec says where.
    pub fn group<T>(
        &mut self,
        name: impl Into<Arc<str>>,
        strategy: Strategy,
        fill: impl FnOnce(&mut Group) -> T,
    ) -> T {
        let placement = self.thread().map_or(Placement::Here, Placement::On);
        let mut group = Group::placed(&self.tree, name, strategy, placement);
        let handles = fill(&mut group);
        self.actors.add_group(group);
        handles
    }

    /// Adds a circuit breaker. While it refuses calls or tries the dependency, readiness is
    /// degraded by the line `breaker:NAME` and stays ready: the breaker is how the service
    /// lives without that dependency.
    ///
    /// # Errors
    ///
    /// A setting of the breaker is out of range; the error names it.
    pub fn breaker(&mut self, breaker: BreakerBuilder) -> Result<Breaker, breaker::ConfigError> {
        let breaker = match &self.memory {
            Some(memory) => breaker.memory_or(Arc::clone(memory) as _),
            None => breaker,
        };
        let breaker = breaker.start_with(|spec| self.actor(spec))?;
        self.check(watching(breaker.clone()));
        Ok(breaker)
    }

    /// Adds a cache. Its loader runs on the next actor thread, so it is the builder's to place.
    ///
    /// # Errors
    ///
    /// A setting of the cache is out of range; the error names it.
    pub fn cache<K, V>(
        &mut self,
        cache: CacheBuilder<K, V>,
    ) -> Result<Cache<K, V>, cache_fill::ConfigError>
    where
        K: Key,
        V: Send + Sync + 'static,
    {
        let cache = match self.thread() {
            Some(thread) => cache.place(Placement::On(thread)),
            None => cache,
        };
        cache.start_in(&mut self.actors)
    }

    /// Adds the store that everything durable is kept in. Without it the service is not ready:
    /// the check `store` asks it. It has a place in the tree, as `store`. Breakers that are added
    /// after it remember their state in it, beyond a restart of the process.
    pub fn store(&mut self, store: &Store) -> &mut Self {
        let actor = self.actor(StoreActor::spec(store.clone()));
        let asked = store.clone();
        let check = move |_: CheckCx| {
            let asked = asked.clone();
            async move { asked.ping().await.map(|()| Detail::ok()).map_err(CheckError::from) }
        };
        tracing::debug!(actor = actor.name(), "store added");
        self.memory = Some(Arc::new(BreakerMemory::new(store)));
        self.check(CheckSpec::new("store", check).every(Duration::from_secs(2)))
    }

    /// Watches the columns of all [schema-backed enums](crate::schema_enum) of this program: at the
    /// start and every minute after that, the check `schema_enums` asks the database. Not ready
    /// while it refuses what the code writes, degraded while it is weaker than the code. The handle
    /// asks at any time, and makes and applies plans.
    ///
    /// For some of the enums only, or other settings:
    /// `runtime.check(SchemaEnums::of::<OrderStatus>().strict(true).health_check(&store))`.
    pub fn schema_enums(&mut self, store: &Store) -> SchemaEnums {
        let enums = SchemaEnums::registered();
        self.check(enums.health_check(store));
        enums
    }

    /// Adds a job queue: its actors, and a line of readiness for each of its queues, which is
    /// degraded while the queue has more work than it can do. When the service leaves, it
    /// [drains](Jobs::drain) within [`DrainSettings::jobs`](crate::config::DrainSettings::jobs).
    ///
    /// # Errors
    ///
    /// Something is wrong with the declaration, or the store failed.
    ///
    /// # Cancel safety
    ///
    /// Dropped, nothing was added.
    pub async fn jobs(&mut self, jobs: JobsBuilder) -> Result<Jobs, JobsError> {
        let placement = self.thread().map_or(Placement::Here, Placement::On);
        let mut group = Group::placed(&self.tree, "jobs", Strategy::OneForOne, placement);
        let (jobs, declared) = jobs.add_to(&mut group)?;
        declared.await?;
        self.actors.add_group(group);
        let queues: Vec<_> = jobs.queues().cloned().collect();
        for queue in queues {
            self.check(guarding(jobs.clone(), &queue));
        }
        self.job_queues.push(jobs.clone());
        Ok(jobs)
    }

    /// Adds a mailer's breakers, one for each provider. [Declare](Mailer::declare) its job in the
    /// queue, and give both to [`start_mailer`](Self::start_mailer).
    ///
    /// # Errors
    ///
    /// Something is wrong with the declaration.
    pub fn mailer(&mut self, mailer: MailerBuilder) -> Result<Mailer, MailerError> {
        mailer.build_with(|breaker| self.breaker(breaker))
    }

    /// Adds a mailer's actor: from here on mails can be enqueued.
    pub fn start_mailer(&mut self, mailer: &Mailer, jobs: &Jobs) -> Ref<MailerActor> {
        mailer.attach(jobs);
        self.actor(mailer.spec())
    }

    /// Adds an inbox whose handlers `jobs` has; see
    /// [`InboxBuilder::register`](crate::inbox::InboxBuilder::register).
    pub fn inbox(&mut self, inbox: RegisteredInbox, jobs: &Jobs) -> Inbox {
        self.group("inbox", Strategy::OneForOne, |group| inbox.add_to(group, jobs))
    }

    /// Adds counters whose jobs `jobs` has; see
    /// [`CountersBuilder::register`](crate::counters::CountersBuilder::register).
    pub fn counters(&mut self, counters: RegisteredCounters, jobs: &Jobs) -> Counters {
        self.group("counters", Strategy::OneForOne, |group| counters.add_to(group, jobs))
    }

    /// Adds a check of a dependency, run in the background.
    pub fn check(&mut self, spec: CheckSpec) -> &mut Self {
        self.registry = std::mem::take(&mut self.registry).check(spec);
        self
    }

    /// Adds something to be done before the service is ready, after the tasks added before.
    pub fn start_task(&mut self, task: StartTask) -> &mut Self {
        self.registry = std::mem::take(&mut self.registry).start_task(task);
        self
    }

    /// The tree the actors will live in.
    #[must_use]
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Starts the threads, the actors in order, the checks and the start-up tasks. Returns when
    /// the threads are up; `/startupz` and `/readyz` tell when the rest is.
    ///
    /// # Errors
    ///
    /// [`StartError`] tells the first thing that was wrong. Nothing is left running.
    pub fn start(mut self) -> Result<Steadfast, StartError> {
        let first = self.thread();
        let Self { settings, tree, actors, registry, job_queues, memory: _, threads, failed } =
            self;
        settings.check()?;
        let admission = Admission::new(&settings.admission, &settings.edge.connections)
            .map_err(ConfigError::from)?;
        let panics = PanicGuard::new(&settings.panics).map_err(ConfigError::from)?;
        let registry = watched(registry, &admission, &panics);
        let (Some(threads), Some(first), None) = (threads, first, &failed) else {
            let gone = || StartError::Threads(std::io::Error::other("no actor thread"));
            return Err(failed.unwrap_or_else(gone));
        };
        let heartbeats =
            Heartbeats::start(settings.health.wedged_after).map_err(StartError::Threads)?;
        watch(&threads, &heartbeats);
        let (health, spec) = Health::prepare(registry, &tree)?;
        tree.start(spec.place(Placement::On(first.clone())));
        first.spawn_fn(move || drop(actors.start()));
        warn_of_late_kill(&settings);
        let in_flight = InFlight::new();
        let edge = Edge::new().requests(settings.request.guard()).in_flight(in_flight.clone());
        let edge = edge.admission(admission).recover(Recover::new().guard(panics));
        Ok(Steadfast(Arc::new(Inner {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            settings,
            tree,
            health,
            heartbeats,
            in_flight,
            edge,
            trigger: ShutdownTrigger::new(),
            backlog: Backlog::default(),
            leaving: Leaving::new(job_queues),
            threads,
            web_threads: AtomicU64::new(0),
        })))
    }

    /// The next actor thread. Started on first use, because only then the settings are known.
    fn thread(&mut self) -> Option<ArbiterHandle> {
        if self.threads.is_none() && self.failed.is_none() {
            // Out of range is told by `start`; until then the nearest that works will do.
            let count = self.settings.actors.threads.clamp(1, 64);
            match ActorThreads::start(count) {
                Ok(threads) => self.threads = Some(threads),
                Err(error) => self.fail(StartError::Threads(error)),
            }
        }
        self.threads.as_ref().map(ActorThreads::next)
    }

    fn fail(&mut self, error: StartError) {
        self.failed.get_or_insert(error);
    }
}

/// While requests are shed, or a route rests, readiness is degraded and stays ready: a balancer
/// that took the traffic away would give it to others who fare no better.
fn watched(
    mut registry: HealthRegistry,
    admission: &Admission,
    panics: &PanicGuard,
) -> HealthRegistry {
    if admission.is_on() {
        let admission = admission.clone();
        let shedding = move || admission.is_shedding().then(|| "shedding".to_owned());
        registry = registry.check(degraded_if("admission", shedding));
    }
    if panics.is_on() {
        let panics = panics.clone();
        let resting = move || {
            let resting = panics.resting();
            (!resting.is_empty()).then(|| format!("resting: {}", resting.join(", ")))
        };
        registry = registry.check(degraded_if("panics", resting));
    }
    registry
}

/// A line of readiness that is degraded while there is a reason.
fn degraded_if(
    name: &str,
    reason: impl Fn() -> Option<String> + Send + Sync + 'static,
) -> CheckSpec {
    let check = move |_: CheckCx| {
        let detail = reason().map_or_else(Detail::ok, Detail::degraded);
        std::future::ready(Ok(detail))
    };
    CheckSpec::new(name, check).critical(false).every(Duration::from_secs(1))
}

fn watching(breaker: Breaker) -> CheckSpec {
    let name = format!("breaker:{}", breaker.dependency());
    let check = move |_: CheckCx| {
        let state = breaker.snapshot().state;
        let closed = state == BreakerState::Closed;
        let detail = if closed { Detail::ok() } else { Detail::degraded(state.as_str()) };
        std::future::ready(Ok(detail))
    };
    CheckSpec::new(name, check).critical(false).every(Duration::from_secs(1))
}

fn guarding(jobs: Jobs, queue: &Arc<str>) -> CheckSpec {
    let (name, queue) = (format!("jobs:{}", check_name(queue)), Arc::clone(queue));
    let check = move |_: CheckCx| {
        let guard = jobs.guard(&queue).filter(|guard| guard.is_degraded());
        let detail = guard.map_or_else(Detail::ok, |guard| Detail::degraded(guard.level.as_str()));
        std::future::ready(Ok(detail))
    };
    CheckSpec::new(name, check).critical(false).every(Duration::from_secs(1))
}

/// A queue's name as the name of a check may be: the alphabet of checks is narrower.
fn check_name(queue: &str) -> String {
    let safe = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
    queue.chars().take(64).map(|letter| if safe(letter) { letter } else { '_' }).collect()
}

fn watch(threads: &ActorThreads, heartbeats: &Heartbeats) {
    for (index, thread) in threads.all().iter().enumerate() {
        if let Some(pulse) = heartbeats.pulse(format!("actors-{}", index + 1)) {
            thread.spawn(pulse.run());
        }
    }
}

fn warn_of_late_kill(settings: &Settings) {
    let longest = settings.drain.plan().longest();
    let granted = settings.drain.grace_period;
    if longest > granted {
        tracing::warn!(?longest, ?granted, "shutdown.longer_than_granted");
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("settings", &self.settings)
            .field("actors", &self.actors)
            .field("registry", &self.registry)
            .finish_non_exhaustive()
    }
}

//! Declaring a job queue.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use super::actor::JobQueue;
use super::chance::Chance;
use super::config::{Config, QueueSpec};
use super::cron::Schedule;
use super::cx::JobCx;
use super::dependencies::{Dependencies, DependenciesActor};
use super::error::JobsError;
use super::feeder::Feeder;
use super::handle::Jobs;
use super::job::{Job, JobPolicy, JobResult, is_name};
use super::keeper::Keeper;
use super::kinds::{ARGS_JSON, Kinds};
use super::pool::Pool;
use super::shared::{Shared, Workers};
use super::store::postgres::PgJobs;
use super::store::sqlite::SqliteJobs;
use super::store::{CronRow, JobStore};
use super::watchman::Watchman;
use crate::breaker::Breaker;
use crate::kernel::{Exhausted, Group, Spec, Strategy, Tree};
use crate::store::{Presence, Store, WallClock};

/// LIMIT: operations under way at a time; each is small and waits for the store.
const OPERATIONS: usize = 8_192;
/// How long a crashed part of the queue rests when it crashes again and again.
const REST: Duration = Duration::from_secs(5);
const THREADS: std::ops::RangeInclusive<usize> = 1..=64;

/// Declares a job queue: its handlers, queues, periodic jobs and bounds.
///
/// # Examples
///
/// ```no_run
/// use serde::{Deserialize, Serialize};
/// use steadfast_actors::jobs::{Job, JobCx, JobResult, Jobs, JobsError, QueueSpec};
/// use steadfast_actors::kernel::Tree;
/// use steadfast_actors::store::Store;
///
/// #[derive(Serialize, Deserialize)]
/// struct Greet {
///     name: String,
/// }
///
/// impl Job for Greet {
///     const KIND: &'static str = "greet";
/// }
///
/// async fn greet(job: Greet, cx: JobCx) -> JobResult {
///     println!("hello {}, for the {}. time", job.name, cx.attempt());
///     Ok(())
/// }
///
/// # async fn example(tree: &Tree) -> Result<(), Box<dyn std::error::Error>> {
/// let store = Store::open("sqlite:jobs.db").await?;
/// let jobs = Jobs::builder(&store)
///     .handle(greet)
///     .queue(QueueSpec::new("default").workers(4))
///     .start(tree)
///     .await?;
/// jobs.enqueue(Greet { name: "Ada".into() }).await?;
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing runs until `start`"]
pub struct JobsBuilder {
    store: Arc<dyn JobStore>,
    /// The tables, where they are in PostgreSQL.
    postgres: Option<Arc<PgJobs>>,
    presence: Option<std::path::PathBuf>,
    clock: WallClock,
    config: Config,
    kinds: Kinds,
    queues: Vec<QueueSpec>,
    dependencies: Dependencies,
    crons: Vec<Periodic>,
    threads: usize,
    runtime: Option<Handle>,
    chance: Chance,
    /// The first thing that was wrong; told by `start`.
    failed: Option<JobsError>,
}

/// A periodic job that is declared.
struct Periodic {
    row: CronRow,
    schedule: Schedule,
}

impl Jobs {
    /// Declares a job queue in this store.
    pub fn builder(store: &Store) -> JobsBuilder {
        JobsBuilder::new(store)
    }
}

impl JobsBuilder {
    fn new(store: &Store) -> Self {
        let (tables, postgres): (Arc<dyn JobStore>, _) = match store {
            Store::Sqlite(store) => (Arc::new(SqliteJobs::new(store.clone())), None),
            Store::Postgres(store) => {
                let tables = Arc::new(PgJobs::new(store.clone()));
                (Arc::clone(&tables) as _, Some(tables))
            }
        };
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            store: tables,
            postgres,
            presence: store.presence_folder(),
            clock: WallClock::system(),
            config: Config::default(),
            kinds: Kinds::default(),
            queues: Vec::new(),
            dependencies: Dependencies::default(),
            crons: Vec::new(),
            threads: processors.clamp(1, 4),
            runtime: None,
            chance: Chance::default(),
            failed: None,
        }
    }

    /// Adds the handler of a kind of job. Its future runs on the workers' threads and must not
    /// block them.
    pub fn handle<J, F, Run>(self, handler: F) -> Self
    where
        J: Job,
        F: Fn(J, JobCx) -> Run + Send + Sync + 'static,
        Run: Future<Output = JobResult> + Send + 'static,
    {
        self.handle_as(J::policy(), handler)
    }

    /// The same with a policy in the place of [`Job::policy`], for a kind of our own whose users
    /// say how it is treated. What this process enqueues has that policy too.
    pub(crate) fn handle_as<J, F, Run>(mut self, policy: JobPolicy, handler: F) -> Self
    where
        J: Job,
        F: Fn(J, JobCx) -> Run + Send + Sync + 'static,
        Run: Future<Output = JobResult> + Send + 'static,
    {
        let added = self.kinds.add(policy, handler);
        self.note(added);
        self
    }

    /// Adds the handler of a kind of job that blocks. Each run has a thread of its own; one that
    /// is out of time keeps its worker until it returns.
    pub fn handle_blocking<J, F>(mut self, handler: F) -> Self
    where
        J: Job,
        F: Fn(J, JobCx) -> JobResult + Send + Sync + 'static,
    {
        let added = self.kinds.add_blocking(handler);
        self.note(added);
        self
    }

    /// Adds a queue that this process works on. A queue that a handler's kind names and that is
    /// not added has the defaults.
    pub fn queue(mut self, spec: QueueSpec) -> Self {
        let checked = spec.check();
        self.note(checked);
        self.queues.retain(|queue| queue.name != spec.name);
        self.queues.push(spec);
        self
    }

    /// Watches a dependency: while this breaker is open, jobs of kinds that
    /// [name](super::JobPolicy::dependency) it are parked, and lose no attempt.
    pub fn dependency(mut self, breaker: Breaker) -> Self {
        self.dependencies.add(breaker);
        self
    }

    /// Enqueues `job` at each tick of `schedule`, in one process of all. A tick that is missed
    /// because no process was there is made up for if it is not older than `backfill`.
    ///
    /// `name` is 1 to 127 bytes. One that is stored already keeps its next tick if the schedule
    /// is the same, and whether it is paused.
    pub fn cron<J: Job>(
        mut self,
        name: &str,
        schedule: Schedule,
        backfill: Duration,
        job: &J,
    ) -> Self {
        let row = self.cron_row::<J>(name, &schedule, backfill, job);
        match row {
            Ok(row) => self.crons.push(Periodic { row, schedule }),
            Err(error) => self.note(Err(error)),
        }
        self
    }

    /// The name of this process for people. Default `node`.
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.config.name = name.into();
        self
    }

    /// How often this process says that it lives. Default 2 s; 50 ms to 60 s. Too high: others
    /// hear late of a cancelled job or a new process.
    pub const fn beat_every(mut self, period: Duration) -> Self {
        self.config.beat_every = period;
        self
    }

    /// After how long without a beat a process counts as dead. Default 20 s; three times
    /// [`beat_every`](Self::beat_every) to 1 hour. A process of this host that was killed is
    /// noticed within a second whatever this says. Too low: a process that is merely slow loses
    /// its jobs to others, and they run twice.
    pub const fn expires_after(mut self, period: Duration) -> Self {
        self.config.expires_after = period;
        self
    }

    /// How long finished jobs are remembered. Default 24 hours.
    pub const fn keep_done_for(mut self, period: Duration) -> Self {
        self.config.keep_done = period;
        self
    }

    /// How long dead jobs are kept. Default 30 days.
    pub const fn keep_dead_for(mut self, period: Duration) -> Self {
        self.config.keep_dead = period;
        self
    }

    /// The largest arguments of a job, in bytes. Default 64 KiB; 1 byte to 1 MiB.
    pub const fn payload_max(mut self, bytes: usize) -> Self {
        self.config.payload_max = bytes;
        self
    }

    /// How often a job may take its process with it before it is dead. Default 3; 1 to 100.
    pub const fn poison_after(mut self, crashes: i16) -> Self {
        self.config.poison_after = crashes;
        self
    }

    /// Threads that handlers run on, apart from actors and web workers. Default: the processors,
    /// at most 4; 1 to 64.
    pub fn threads(mut self, count: usize) -> Self {
        if !THREADS.contains(&count) {
            self.note(Err(JobsError::InvalidSetting { setting: "threads", expected: "1 to 64" }));
        }
        self.threads = count;
        self
    }

    /// Runs handlers on this runtime instead of threads of their own.
    pub fn run_on(mut self, runtime: Handle) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// The clock that rows are stamped with. Default [`WallClock::system`].
    pub fn clock(mut self, clock: WallClock) -> Self {
        self.clock = clock;
        self
    }

    /// Has all jitter follow from this number, so that a test sees the same with every run.
    pub(super) fn seed(mut self, seed: u64) -> Self {
        self.chance = Chance::seeded(seed);
        self
    }

    /// Puts something between the queue and its tables, such as a
    /// [`FaultStore`](super::testing::FaultStore).
    pub fn wrap(mut self, wrap: impl FnOnce(Arc<dyn JobStore>) -> Arc<dyn JobStore>) -> Self {
        self.store = wrap(self.store);
        self
    }

    /// Starts the queue's actors in `tree`, on this thread, and declares the periodic jobs.
    ///
    /// # Errors
    ///
    /// [`JobsError`] names what is wrong with the declaration, or how the store failed.
    ///
    /// # Panics
    ///
    /// Outside of an actix runtime or a tokio `LocalSet`.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, nothing was started; periodic jobs may be declared.
    pub async fn start(self, tree: &Tree) -> Result<Jobs, JobsError> {
        let mut group = Group::new(tree, "jobs", Strategy::OneForOne);
        let (jobs, declare) = self.add_to(&mut group)?;
        declare.await?;
        group.start();
        Ok(jobs)
    }

    /// Adds the queue's actors to a group that starts later. The future declares the periodic
    /// jobs; await it before the group starts.
    ///
    /// # Errors
    ///
    /// [`JobsError`] names what is wrong with the declaration.
    pub fn add_to(
        mut self,
        group: &mut Group,
    ) -> Result<(Jobs, impl Future<Output = Result<(), JobsError>> + Send + use<>), JobsError> {
        let presence = self.take_presence();
        let (shared, queues, crons) = self.share()?;
        let declare = declare(Arc::clone(&shared), crons);
        let actor = add_actors(group, &shared, queues, presence);
        Ok((Jobs::new(shared, Some(actor)), declare))
    }

    /// A queue without actors, for a test kit.
    pub(super) fn without_actors(self) -> Result<(Jobs, Vec<CronRow>), JobsError> {
        let (shared, _, crons) = self.share()?;
        let now = shared.clock.now();
        Ok((Jobs::new(shared, None), crons.iter().map(|one| one.first(now)).collect()))
    }

    #[expect(clippy::type_complexity, reason = "three things that are taken apart at once")]
    fn share(mut self) -> Result<(Arc<Shared>, Vec<QueueSpec>, Vec<Periodic>), JobsError> {
        let checked = self.config.check();
        self.note(checked);
        if let Some(error) = self.failed {
            return Err(error);
        }
        for queue in self.kinds.queues() {
            if !self.queues.iter().any(|spec| &*spec.name == queue) {
                let spec = QueueSpec::new(queue);
                spec.check()?;
                self.queues.push(spec);
            }
        }
        let pool = |spec: &QueueSpec| (Arc::clone(&spec.name), Arc::new(Pool::new(spec)));
        let pools: HashMap<_, _> = self.queues.iter().map(pool).collect();
        let workers = match self.runtime {
            Some(runtime) => Workers::Given(runtime),
            None => Workers::own(self.threads)?,
        };
        let shared = Shared::new(
            self.config,
            self.store,
            self.postgres,
            self.clock,
            self.kinds,
            pools,
            self.dependencies,
            workers,
            self.chance,
        );
        Ok((Arc::new(shared), self.queues, self.crons))
    }

    /// Without one, others need more time to notice that this process is dead.
    fn take_presence(&mut self) -> Option<Presence> {
        let folder = self.presence.take()?;
        Presence::take(&folder)
            .inspect_err(|error| tracing::warn!(%error, "jobs.presence_not_taken"))
            .ok()
    }

    fn cron_row<J: Job>(
        &self,
        name: &str,
        schedule: &Schedule,
        backfill: Duration,
        job: &J,
    ) -> Result<CronRow, JobsError> {
        if !is_name(name) {
            let (setting, expected) = ("the name of a periodic job", "1 to 127 bytes");
            return Err(JobsError::InvalidSetting { setting, expected });
        }
        let args = serde_json::to_vec(job)
            .map_err(|error| JobsError::Unencodable(error.to_string().into()))?;
        let limit = self.config.payload_max;
        if args.len() > limit {
            return Err(JobsError::PayloadTooLarge { size: args.len(), limit });
        }
        Ok(CronRow {
            name: name.into(),
            spec: Arc::clone(schedule.expression()),
            time_zone: Arc::clone(schedule.time_zone()),
            queue: J::QUEUE.into(),
            kind: J::KIND.into(),
            class: J::CLASS,
            max_attempts: i16::try_from(J::policy().max_attempts).unwrap_or(i16::MAX),
            args: args.into(),
            args_format: ARGS_JSON,
            backfill_ms: crate::store::millis(backfill),
            next_at: crate::store::Timestamp::default(),
            last_at: None,
            paused: false,
        })
    }

    fn note(&mut self, outcome: Result<(), JobsError>) {
        if let Err(error) = outcome {
            self.failed.get_or_insert(error);
        }
    }
}

impl Periodic {
    /// As it is stored when it is new.
    fn first(&self, now: crate::store::Timestamp) -> CronRow {
        let next_at = self.schedule.next_after(now).unwrap_or(now);
        CronRow { next_at, ..self.row.clone() }
    }
}

async fn declare(shared: Arc<Shared>, crons: Vec<Periodic>) -> Result<(), JobsError> {
    for cron in crons {
        shared.store.put_cron(cron.first(shared.clock.now())).await?;
    }
    Ok(())
}

fn add_actors(
    group: &mut Group,
    shared: &Arc<Shared>,
    queues: Vec<QueueSpec>,
    presence: Option<Presence>,
) -> crate::kernel::Ref<JobQueue> {
    let described = presence.as_ref().map(|presence| Arc::from(presence.describe()));
    // Held by the factory, which lives as long as the actor: over all its incarnations.
    let held = Arc::new(presence);
    let own = Arc::clone(shared);
    group.add(restless(Spec::new("jobs.keeper", move || {
        let _held = &held;
        Keeper::new(Arc::clone(&own), described.clone())
    })));
    let own = Arc::clone(shared);
    let operations = Spec::new("jobs.queue", move || JobQueue::new(Arc::clone(&own)));
    let actor = group.add(restless(operations.capacity(OPERATIONS)));
    let own = Arc::clone(shared);
    let dependencies = move || DependenciesActor::new(Arc::clone(&own));
    group.add(restless(Spec::new("jobs.dependencies", dependencies)));
    for queue in queues {
        add_queue(group, shared, queue);
    }
    actor
}

fn add_queue(group: &mut Group, shared: &Arc<Shared>, queue: QueueSpec) {
    let Some(pool) = shared.pool(&queue.name) else { return };
    let (own, its) = (Arc::clone(shared), Arc::clone(pool));
    let name = format!("jobs.guard.{}", queue.name);
    let config = queue.guard;
    group.add(restless(Spec::new(name, move || {
        Watchman::new(Arc::clone(&own), Arc::clone(&its), config.clone())
    })));
    if queue.workers > 0 {
        let (own, its) = (Arc::clone(shared), Arc::clone(pool));
        let name = format!("jobs.feeder.{}", queue.name);
        let feeder = move || Feeder::new(Arc::clone(&own), Arc::clone(&its));
        group.add(restless(Spec::new(name, feeder)));
    }
}

/// A part of the queue that never gives up: its work is in the tables and will not go away.
fn restless<A>(spec: Spec<A>) -> Spec<A>
where
    A: actix::Actor<Context = crate::kernel::Context<A>>,
{
    spec.exhausted(Exhausted::Quarantine { cooldown: REST }).drain(Duration::from_millis(100))
}

impl fmt::Debug for JobsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobsBuilder")
            .field("config", &self.config)
            .field("kinds", &self.kinds)
            .field("queues", &self.queues)
            .finish_non_exhaustive()
    }
}

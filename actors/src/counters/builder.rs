//! Declaring the counters of a service.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::OnceCell;

use super::actor::CounterRepair;
use super::core::{Core, Shared};
use super::error::CounterError;
use super::handle::Counters;
use super::maintain::CounterFlush;
use super::repair::Settings;
use super::run::{self, Prune, RepairJob};
use super::spec::{CounterSpec, Mode};
use crate::jobs::{Backoff, JobPolicy, Jobs, JobsBuilder, JobsError, Schedule};
use crate::kernel::{Exhausted, Group, Spec, Strategy, Tree};
use crate::store::Store;

/// LIMIT: questions under way at a time.
const QUESTIONS: usize = 256;
/// LIMIT: counters of a service.
const COUNTERS_MAX: usize = 256;
/// How long a crashed actor rests when it crashes again and again.
const REST: Duration = Duration::from_secs(5);
/// LIMIT: parents of a batch. A batch of repairs holds the locks of those that are wrong.
const BATCH: RangeInclusive<u32> = 1..=50_000;

/// Declares the counters of a service, and how they are repaired.
#[must_use = "nothing is repaired until it is registered and started"]
#[derive(Debug)]
pub struct CountersBuilder {
    store: Store,
    counters: BTreeMap<Arc<str>, CounterSpec>,
    schedules: Vec<(Arc<str>, Mode, Schedule)>,
    settings: Settings,
    flush_every: Duration,
    keep_for: Duration,
    backoff: Option<Backoff>,
    /// The first thing that was wrong; told by `register`.
    failed: Option<CounterError>,
}

impl Counters {
    /// Declares counters in this store, which must be that of the job queue.
    pub fn builder(store: &Store) -> CountersBuilder {
        let target = match store {
            // Nobody else writes meanwhile.
            Store::Sqlite(_) => Duration::from_millis(20),
            Store::Postgres(_) => Duration::from_millis(50),
        };
        CountersBuilder {
            store: store.clone(),
            counters: BTreeMap::new(),
            schedules: Vec::new(),
            settings: Settings {
                batch: 1..=20_000,
                target,
                lock_timeout: Duration::from_secs(1),
                statement_timeout: Duration::from_secs(5),
                turn: Duration::from_secs(15 * 60),
            },
            flush_every: Duration::from_secs(1),
            keep_for: Duration::from_secs(90 * 86_400),
            backoff: None,
            failed: None,
        }
    }
}

impl CountersBuilder {
    /// Adds a counter; up to 256.
    pub fn counter(mut self, spec: CounterSpec) -> Self {
        let parsed = spec.parse().map(drop);
        self.note(parsed);
        let same = |known: &CounterSpec| {
            known.name == spec.name || (known.parent == spec.parent && known.column == spec.column)
        };
        if self.counters.values().any(same) {
            self.note(Err(CounterError::Taken(Arc::clone(&spec.name))));
        }
        self.counters.insert(Arc::clone(&spec.name), spec);
        self
    }

    /// Has a counter repaired, or only looked through, at each tick of `schedule`. A tick that is
    /// missed is made up for within a day. Also counters that triggers keep can drift: through
    /// `TRUNCATE`, replication roles, restored tables.
    pub fn schedule(mut self, counter: &str, mode: Mode, schedule: Schedule) -> Self {
        self.schedules.push((counter.into(), mode, schedule));
        self
    }

    /// How many parents a batch may have. Default 1 to 20,000; 1 to 50,000. A batch that failed is
    /// halved, down to one parent.
    pub const fn batch(mut self, parents: RangeInclusive<u32>) -> Self {
        self.settings.batch = parents;
        self
    }

    /// How long a batch should take; its size is made for that. Default 50 ms, on SQLite, where
    /// nobody else writes meanwhile, 20 ms; 1 ms to 10 s. Too high: writers wait for locks. Too
    /// low: the run takes longer.
    pub const fn target_batch(mut self, target: Duration) -> Self {
        self.settings.target = target;
        self
    }

    /// On PostgreSQL, how long a batch waits for a lock. Default 1 s; 10 ms to 1 min. Then it is
    /// rolled back, halved and tried again.
    pub const fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.settings.lock_timeout = timeout;
        self
    }

    /// On PostgreSQL, how long one statement of a batch may take. Default 5 s; 10 ms to 10 s. A
    /// single parent that needs longer, because it has very many children, gets up to 64 times as
    /// much.
    pub const fn statement_timeout(mut self, timeout: Duration) -> Self {
        self.settings.statement_timeout = timeout;
        self
    }

    /// How long a run goes on before it makes room for others of its queue; it goes on with the
    /// next turn. Default 15 min; 1 s to 6 hours.
    pub const fn turn(mut self, turn: Duration) -> Self {
        self.settings.turn = turn;
        self
    }

    /// How often deltas are folded. Default 1 s; 10 ms to 1 hour.
    pub const fn flush_every(mut self, period: Duration) -> Self {
        self.flush_every = period;
        self
    }

    /// How long reports are kept. The newest of each counter always is. Default 90 days; 1 hour
    /// to 10 years.
    pub const fn keep_for(mut self, period: Duration) -> Self {
        self.keep_for = period;
        self
    }

    /// The pause before a run that failed goes on. Default 5 s, doubling to 1 hour, full jitter.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = Some(backoff);
        self
    }

    /// Adds what repairs counters to a job queue: the jobs `counters.repair` and
    /// `counters.prune`, in the queue `counters`. Start the queue, and then the counters with it.
    ///
    /// # Errors
    ///
    /// [`CounterError`] names what is wrong with the declaration. Whether the tables fit is
    /// checked by [`Counters::plan`] and when a run begins.
    pub fn register(
        mut self,
        jobs: JobsBuilder,
    ) -> Result<(RegisteredCounters, JobsBuilder), CounterError> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        self.check()?;
        let mut policy = JobPolicy::default().max_attempts(20).timeout(self.settings.turn * 3);
        if let Some(backoff) = self.backoff {
            policy = policy.backoff(backoff);
        }
        let core = Arc::new(Core {
            store: self.store,
            counters: self.counters,
            deferred: OnceCell::new(),
            settings: self.settings,
            flush_every: self.flush_every,
            keep_for: self.keep_for,
            shared: OnceLock::new(),
            clock: OnceLock::new(),
        });
        let daily = Schedule::parse("29 3 * * *", "UTC").map_err(JobsError::from)?;
        let day = Duration::from_secs(86_400);
        let (runs, prunes) = (Arc::clone(&core), Arc::clone(&core));
        let mut jobs = jobs
            .handle_as(policy, move |job: RepairJob, cx| run::run(Arc::clone(&runs), job, cx))
            .handle(move |_: Prune, cx| run::prune(Arc::clone(&prunes), cx))
            .cron("counters.prune", daily, day, &Prune {});
        for (counter, mode, schedule) in self.schedules {
            let job = RepairJob { counter, mode };
            jobs = jobs.cron(&format!("counters.{}", job.key()), schedule, day, &job);
        }
        Ok((RegisteredCounters { core }, jobs))
    }

    fn check(&self) -> Result<(), CounterError> {
        let invalid = |setting, expected| Err(CounterError::InvalidSetting { setting, expected });
        let (milli, second) = (Duration::from_millis(1), Duration::from_secs(1));
        let Settings { batch, target, lock_timeout, statement_timeout, turn } = &self.settings;
        if self.counters.len() > COUNTERS_MAX {
            return invalid("counters", "at most 256");
        }
        if batch.is_empty() || !BATCH.contains(batch.start()) || !BATCH.contains(batch.end()) {
            return invalid("batch", "a range within 1 to 50,000");
        }
        if !(milli..=second * 10).contains(target) {
            return invalid("target_batch", "1 ms to 10 s");
        }
        if !(milli * 10..=second * 60).contains(lock_timeout) {
            return invalid("lock_timeout", "10 ms to 1 min");
        }
        if !(milli * 10..=second * 10).contains(statement_timeout) {
            return invalid("statement_timeout", "10 ms to 10 s");
        }
        if !(second..=second * 6 * 3_600).contains(turn) {
            return invalid("turn", "1 s to 6 hours");
        }
        if !(milli * 10..=second * 3_600).contains(&self.flush_every) {
            return invalid("flush_every", "10 ms to 1 hour");
        }
        if !(second * 3_600..=second * 3_650 * 86_400).contains(&self.keep_for) {
            return invalid("keep_for", "1 hour to 10 years");
        }
        let known = |(name, _, _): &(Arc<str>, Mode, Schedule)| self.counters.contains_key(name);
        if self.schedules.iter().all(known) { Ok(()) } else { Err(CounterError::Unknown) }
    }

    fn note(&mut self, outcome: Result<(), CounterError>) {
        if let Err(error) = outcome {
            self.failed.get_or_insert(error);
        }
    }
}

/// Counters whose jobs a queue has, and that cannot be asked yet.
#[must_use = "nothing can be asked until it is started"]
#[derive(Debug)]
pub struct RegisteredCounters {
    core: Arc<Core>,
}

impl RegisteredCounters {
    /// Starts the actors in `tree`, on this thread. `jobs` is the queue that it was registered
    /// with.
    ///
    /// # Panics
    ///
    /// Outside of an actix runtime or a tokio `LocalSet`.
    #[must_use]
    pub fn start(self, tree: &Tree, jobs: &Jobs) -> Counters {
        let mut group = Group::new(tree, "counters", Strategy::OneForOne);
        let counters = self.add_to(&mut group, jobs);
        group.start();
        counters
    }

    /// Adds the actors to a group that starts later.
    #[must_use]
    pub fn add_to(self, group: &mut Group, jobs: &Jobs) -> Counters {
        let Self { core } = self;
        let shared = Arc::new(Shared { core, jobs: jobs.clone() });
        // Neither can be set already: this value is the only one that sets them, once.
        let _first = shared.core.shared.set(Arc::downgrade(&shared));
        let _first = shared.core.clock.set(jobs.clock().clone());
        let own = Arc::clone(&shared);
        let spec = Spec::new("counters.repair", move || CounterRepair::new(Arc::clone(&own)));
        let spec = spec.capacity(QUESTIONS).exhausted(Exhausted::Quarantine { cooldown: REST });
        let actor = group.add(spec);
        if shared.core.counters.values().any(Core::is_deferred) {
            let core = Arc::clone(&shared.core);
            let spec = Spec::new("counters.flush", move || CounterFlush::new(Arc::clone(&core)));
            let _flusher = group.add(spec.exhausted(Exhausted::Quarantine { cooldown: REST }));
        }
        Counters::new(shared, actor)
    }
}

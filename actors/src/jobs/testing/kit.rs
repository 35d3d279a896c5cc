//! The queue without actors, and who drives it: the test.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use super::report::{JobRun, RunReport};
use super::seen::{self, fail};
use crate::jobs::builder::JobsBuilder;
use crate::jobs::dependencies::Gates;
use crate::jobs::feeder::question;
use crate::jobs::keeper::find_lost;
use crate::jobs::pool::{Claims, Pool, Worker};
use crate::jobs::run::run;
use crate::jobs::shared::Shared;
use crate::jobs::store::sqlite::SqliteJobs;
use crate::jobs::store::{Claimed, JobInfo, JobStore};
use crate::jobs::timetable::fire_due;
use crate::jobs::{JobId, Jobs, JobsError, Level};
use crate::kernel::panic::install_hook;
use crate::store::{ManualWallClock, SqliteOptions, SqliteStore, Store, Timestamp, WallClock};

/// When the virtual time begins: 1 January 2030, a Tuesday, at midnight in UTC.
const BEGINNING: Timestamp = Timestamp(1_893_456_000_000);
/// What all jitter follows from.
const SEED: u64 = 0x5eed;
/// LIMIT: runs of one call, unless the test says otherwise.
const RUNS_MAX: usize = 10_000;
/// LIMIT: virtual time that [`TestJobs::run_to_end`] goes on for.
const END_MAX: Duration = Duration::from_secs(365 * 86_400);
/// LIMIT: questions to a store that fails, before the next call goes on with them.
const QUESTIONS_MAX: usize = 32;

/// A whole job queue in memory whose time stands still until the test moves it, and that runs
/// jobs when the test says so, where the test runs.
///
/// What becomes of a job is decided by the very code that decides it in a service. See the
/// [module](super) for an example.
pub struct TestJobs {
    jobs: Jobs,
    store: SqliteStore,
    /// The tables, without what the test has put before them.
    tables: Arc<dyn JobStore>,
    clock: ManualWallClock,
    /// In the order of their names.
    pools: Vec<Arc<Pool>>,
    /// When the timetable was looked at.
    looked: Timestamp,
    runs_max: usize,
}

impl TestJobs {
    /// A queue as `declare` declares it, at midnight in UTC on 1 January 2030. A clock or a
    /// runtime that it names is not used.
    ///
    /// # Errors
    ///
    /// As for [`JobsBuilder::start`].
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is left.
    pub async fn new(declare: impl FnOnce(JobsBuilder) -> JobsBuilder) -> Result<Self, JobsError> {
        // As a tree of actors does: with it, a panic is written down with its place.
        install_hook();
        let store = SqliteStore::open(SqliteOptions::memory()).await?;
        let (wall, clock) = WallClock::manual(BEGINNING);
        let opened = Store::from(store.clone());
        let builder = declare(Jobs::builder(&opened));
        let builder = builder.clock(wall).run_on(Handle::current()).seed(SEED);
        let (jobs, crons) = builder.without_actors()?;
        for cron in crons {
            jobs.store().put_cron(cron).await?;
        }
        // No other process is there that could take this one for dead.
        jobs.shared().fence(false);
        let mut pools: Vec<_> = jobs.shared().pools.values().map(Arc::clone).collect();
        pools.sort_by(|one, other| one.queue.cmp(&other.queue));
        let tables = Arc::new(SqliteJobs::new(store.clone()));
        Ok(Self { jobs, store, tables, clock, pools, looked: BEGINNING, runs_max: RUNS_MAX })
    }

    /// The queue, to be handed to the code under test.
    #[must_use]
    pub const fn jobs(&self) -> &Jobs {
        &self.jobs
    }

    /// The database, for tables and transactions of your own.
    #[must_use]
    pub const fn store(&self) -> &SqliteStore {
        &self.store
    }

    /// The virtual time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.jobs.clock().now()
    }

    /// Moves the clock forward and runs nothing, as if no process had been there meanwhile. What
    /// became due runs with the next call that runs anything.
    pub fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    /// Sets the clock, in either direction.
    pub fn set_time(&self, to: Timestamp) {
        self.clock.set(to);
    }

    /// Has a queue's guard say from now on that it is at this level, to see what the code under
    /// test makes of jobs that are refused, left out or put off. From [`Level::Overloaded`] on
    /// that is all of them which are not [critical](crate::jobs::Class::Critical); what is put
    /// off is put off by 60 to 90 s.
    ///
    /// # Panics
    ///
    /// If the queue is not declared.
    #[track_caller]
    pub fn set_level(&self, queue: &str, level: Level) {
        match self.shared().pool(queue) {
            Some(pool) => {
                let snapshot = pool.guard.load().at_level(level);
                pool.guard.store(Arc::new(snapshot));
            }
            None => fail(&format!("the queue `{queue}` is not declared")),
        }
    }

    /// How many runs one call may make before it fails the test, as a job that never ends would
    /// have it go on for ever. Default 10,000.
    pub const fn set_runs_max(&mut self, runs: usize) {
        self.runs_max = runs;
    }

    /// Runs the job that is next, of those that are due. `None`: none is.
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves its job running for ever.
    pub async fn run_next(&mut self) -> Option<JobRun> {
        let mut report = RunReport::default();
        self.keep(&mut Gates::default(), &mut report).await;
        self.run_one(&mut report).await
    }

    /// Runs what is due, one job after the other, until nothing is: queue by queue in the order
    /// of their names, within a queue as its workers would claim. What is enqueued meanwhile and
    /// is due runs too.
    ///
    /// Before, it fires the ticks of periodic jobs that are due, parks jobs whose dependency is
    /// not well and lets them go when it is, and gives back runs whose claim was never heard of
    /// for 30 s.
    ///
    /// # Panics
    ///
    /// When [as many runs](Self::set_runs_max) as there may be were not enough.
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves the job under way running for ever.
    pub async fn run_due(&mut self) -> RunReport {
        let mut report = RunReport::default();
        self.run_now(&mut report).await;
        report
    }

    /// Lets time pass as in a service that runs: moves the clock from one moment at which
    /// something is due to the next, and runs what is due then, for `period` in all.
    ///
    /// # Panics
    ///
    /// When [as many runs](Self::set_runs_max) as there may be were not enough.
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves the job under way running for ever.
    pub async fn run_for(&mut self, period: Duration) -> RunReport {
        let mut report = RunReport::default();
        let end = self.now().after(period);
        self.run_now(&mut report).await;
        while let Some(next) = seen::next_due(&self.store, self.now()).filter(|next| *next <= end) {
            self.clock.set(next);
            self.run_now(&mut report).await;
        }
        self.clock.set(end);
        self.run_now(&mut report).await;
        report
    }

    /// Lets time pass until no job waits for its time: every job is done, dead or parked.
    ///
    /// # Panics
    ///
    /// When [as many runs](Self::set_runs_max) as there may be, or 365 days, were not enough.
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves the job under way running for ever.
    pub async fn run_to_end(&mut self) -> RunReport {
        let mut report = RunReport::default();
        let latest = self.now().after(END_MAX);
        self.run_now(&mut report).await;
        while seen::next_job_due(&self.store, self.now()).is_some() {
            let Some(next) = seen::next_due(&self.store, self.now()) else { break };
            if next > latest {
                fail("a job still waits after 365 days");
            }
            self.clock.set(next);
            self.run_now(&mut report).await;
        }
        report
    }

    /// A job as it is now.
    ///
    /// # Panics
    ///
    /// If there is none; [`Jobs::find`] says so instead.
    #[must_use]
    #[track_caller]
    pub fn info(&self, id: JobId) -> JobInfo {
        match seen::wait(self.tables.find(id)) {
            Ok(Some(info)) => info,
            Ok(None) => fail(&format!("there is no job {id}, or its end was not kept")),
            Err(error) => fail(&format!("job {id} cannot be read: {error:?}")),
        }
    }

    async fn run_now(&mut self, report: &mut RunReport) {
        let mut gates = Gates::default();
        loop {
            self.keep(&mut gates, report).await;
            let before = report.runs.len();
            while let Some(run) = self.run_one(report).await {
                report.runs.push(run);
                if report.runs.len() > self.runs_max {
                    fail(&endless(report, self.runs_max));
                }
            }
            if report.runs.len() == before {
                return;
            }
        }
    }

    /// What the queue's actors do besides, as far as a test can see it.
    async fn keep(&mut self, gates: &mut Gates, report: &mut RunReport) {
        let (shared, now) = (Arc::clone(self.jobs.shared()), self.now());
        if shared.is_draining() {
            return;
        }
        match fire_due(&shared, Some(self.looked), now).await {
            Ok(()) => self.looked = now,
            Err(_) => report.store_failures += 1,
        }
        for kept in [gates.look(&shared).await, find_lost(&shared).await] {
            report.store_failures += u32::from(kept.is_err());
        }
    }

    async fn run_one(&self, report: &mut RunReport) -> Option<JobRun> {
        for pool in &self.pools {
            while let Some((claimed, worker)) = self.claim(pool, report).await {
                let mut ran = JobRun::begun(&claimed, &pool.queue);
                let settle = run(Arc::clone(self.shared()), claimed, worker).await;
                self.hand_in(pool, report).await;
                if let Some(settle) = settle {
                    ran.ended(settle);
                    return Some(ran);
                }
            }
        }
        None
    }

    /// Claims one job. Asks class by class, as there are workers for one job only.
    async fn claim(&self, pool: &Arc<Pool>, report: &mut RunReport) -> Option<(Claimed, Worker)> {
        // One moment for all questions: a class that was empty then is not asked twice.
        let now = Instant::now();
        let one = if self.shared().is_draining() { Claims::Nothing } else { Claims::One };
        pool.look_now(now);
        for _ in 0..QUESTIONS_MAX {
            if let Some(next) = pool.next(true) {
                return Some(next);
            }
            let ask = pool.ask(self.shared().node, one, now)?;
            if !question(Arc::clone(self.shared()), Arc::clone(pool), ask).await {
                report.store_failures += 1;
                pool.look_now(now);
            }
        }
        None
    }

    /// Hands the end of a run in. If the store does not take it, a later question does.
    async fn hand_in(&self, pool: &Arc<Pool>, report: &mut RunReport) {
        for _ in 0..QUESTIONS_MAX {
            let now = Instant::now();
            let ask = pool.ask(self.shared().node, Claims::Nothing, now);
            let Some(ask) = ask else { return };
            if !question(Arc::clone(self.shared()), Arc::clone(pool), ask).await {
                report.store_failures += 1;
                pool.look_now(now);
            }
        }
    }

    const fn shared(&self) -> &Arc<Shared> {
        self.jobs.shared()
    }
}

fn endless(report: &RunReport, runs_max: usize) -> String {
    let last = report.runs.last().map_or_else(String::new, |run| format!(", last {run:?}"));
    format!(
        "{runs_max} runs were not enough{last}; does a job snooze, retry or enqueue itself \
         without a pause?"
    )
}

impl fmt::Debug for TestJobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestJobs").field("now", &self.now()).finish_non_exhaustive()
    }
}

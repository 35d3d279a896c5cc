//! One run: batch after batch, each in a transaction that also moves the run's cursor.

mod postgres;
mod sqlite;

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::error::CounterError;
use super::report::{Key, Sample};
use super::sql::{self, Subject};
use super::state::{Failure, Next, Pace};
use super::store::{Advance, Run, find};
use crate::jobs::tx::transact;
use crate::jobs::{JobCx, Jobs};
use crate::kernel::RequestContext;
use crate::store::{Store, StoreError, WallClock};

/// The size of a run's first batch.
const FIRST: u32 = 500;
/// How often a queue that is behind is looked at again.
const GUARD_EVERY: Duration = Duration::from_secs(1);
/// LIMIT: for so long a batch waits for queues that are behind. Then it is done all the same, so
/// that a service that is always busy is repaired too.
const GUARD_WAIT: Duration = Duration::from_secs(30);

/// How runs go about it.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) batch: RangeInclusive<u32>,
    pub(super) target: Duration,
    pub(super) lock_timeout: Duration,
    pub(super) statement_timeout: Duration,
    /// After so long a run makes room for others and goes on with its job's next turn.
    pub(super) turn: Duration,
}

/// Who tells a run when to stop, and hears how far it is.
#[derive(Debug)]
pub(super) struct Control {
    pub(super) request: RequestContext,
    /// Who hears how far it is.
    pub(super) cx: Option<JobCx>,
    /// The queues whose work comes first.
    pub(super) jobs: Option<Jobs>,
    /// The queue that it runs in itself: it must not wait for its own kind.
    pub(super) own_queue: &'static str,
    pub(super) until: Instant,
}

impl Control {
    fn stopped(&self) -> bool {
        self.request.stopped().is_some()
    }

    fn tell(&self, run: &Run) {
        if let Some(cx) = &self.cx {
            cx.progress(run.totals.line(run.cursor.as_ref()));
        }
    }

    /// Waits until the queues of this process are not behind, within a limit.
    async fn wait_for_room(&self) {
        let begun = Instant::now();
        while self.is_behind() && !self.stopped() && begun.elapsed() < GUARD_WAIT {
            tokio::select! {
                () = sleep(GUARD_EVERY) => {}
                () = self.request.cancelled() => {}
            }
        }
    }

    fn is_behind(&self) -> bool {
        let Some(jobs) = &self.jobs else { return false };
        let mut others = jobs.queues().filter(|queue| &***queue != self.own_queue);
        others.any(|queue| jobs.guard(queue).is_some_and(|guard| guard.is_degraded()))
    }
}

/// How a run left off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// All parents were seen.
    Done,
    /// It is to go on with the job's next turn.
    Later,
    /// It was told to stop.
    Stopped,
}

/// The statements of a run, by whether there is a cursor.
#[derive(Debug)]
struct Statements {
    window: [String; 2],
    rest: [String; 2],
    detect: [String; 2],
    add: [String; 2],
    nulls: [String; 2],
    lock: String,
    recount: String,
    suspects: [String; 2],
    set: String,
}

impl Statements {
    fn new(subject: &Subject) -> Self {
        let both = |sql: fn(&Subject, bool) -> String| [false, true].map(|has| sql(subject, has));
        Self {
            window: both(sql::repair::window),
            rest: both(sql::repair::rest),
            detect: both(sql::repair::detect),
            add: both(sql::repair::add),
            nulls: both(sql::repair::nulls),
            lock: sql::repair::lock(subject),
            recount: sql::repair::recount(subject),
            suspects: both(sql::repair::suspects),
            set: sql::repair::set(subject),
        }
    }

    fn of(both: &[String; 2], run: &Run) -> String {
        let [without, with] = both;
        if run.cursor.is_some() { with.clone() } else { without.clone() }
    }
}

/// One run of a counter.
#[derive(Debug, Clone)]
pub(super) struct Repair {
    store: Store,
    subject: Arc<Subject>,
    statements: Arc<Statements>,
    settings: Settings,
    clock: WallClock,
}

/// A batch that is to be done.
#[derive(Debug)]
struct Order {
    run: Run,
    size: u32,
    lock_timeout: Duration,
    statement_timeout: Duration,
}

/// The parents of a batch.
#[derive(Debug)]
struct Window {
    last: Key,
    count: u64,
}

/// A batch that was committed.
#[derive(Debug)]
struct Committed {
    run: Run,
    took: Duration,
}

impl Repair {
    pub(super) fn new(
        store: Store,
        subject: Subject,
        settings: Settings,
        clock: WallClock,
    ) -> Self {
        let statements = Arc::new(Statements::new(&subject));
        Self { store, subject: Arc::new(subject), statements, settings, clock }
    }

    /// Goes on with a run until all parents are seen, its turn is over, or it is told to stop.
    pub(super) async fn run(&self, mut run: Run, control: &Control) -> Result<End, CounterError> {
        let Settings { batch, target, .. } = &self.settings;
        let mut pace = Pace::new(FIRST, batch.clone(), *target);
        let mut retries = 0;
        while run.finished_at.is_none() {
            control.wait_for_room().await;
            if control.stopped() {
                return Ok(End::Stopped);
            }
            if Instant::now() >= control.until {
                return Ok(End::Later);
            }
            let mut attempt = run.clone();
            attempt.totals.retries += retries;
            let rest = match self.batch(attempt, &pace).await {
                Ok(Committed { run: next, took }) => {
                    (run, retries) = (next, 0);
                    control.tell(&run);
                    pace.committed(took)
                }
                Err(error) => {
                    let failure = Failure::of(&error);
                    let next = failure.map(|failure| pace.failed(failure, fastrand::f64()));
                    let Some(Next::Again(pause)) = next else { return Err(error) };
                    tracing::debug!(counter = &*self.subject.name, %error, "counters.batch_retried");
                    retries += 1;
                    rested(pause, control).await;
                    run = self.reload(&run).await?;
                    continue;
                }
            };
            rested(rest, control).await;
        }
        Ok(End::Done)
    }

    /// The first batch of a run, for tests of what is between two.
    #[cfg(test)]
    pub(super) async fn one_batch(&self, run: Run, size: u32) -> Result<Run, CounterError> {
        let pace = Pace::new(size, size..=size, self.settings.target);
        Ok(self.batch(run, &pace).await?.run)
    }

    async fn batch(&self, run: Run, pace: &Pace) -> Result<Committed, CounterError> {
        let Settings { lock_timeout, statement_timeout, .. } = self.settings;
        let statement_timeout = statement_timeout.saturating_mul(pace.patience());
        let order = Order { run, size: pace.size(), lock_timeout, statement_timeout };
        match &self.store {
            Store::Sqlite(store) => sqlite::batch(store, self.clone(), order).await,
            Store::Postgres(store) => postgres::batch(store, self.clone(), order).await,
        }
    }

    /// The run as the tables have it: a batch that failed may have been committed.
    async fn reload(&self, run: &Run) -> Result<Run, CounterError> {
        let job = run.job;
        let found: Result<Option<Run>, StoreError> = transact!(&self.store, tx => find(&tx, job));
        match found {
            Ok(found) => found.ok_or(CounterError::UnknownRun(job)),
            // The database is away for longer; the next batch tells whether it is back.
            Err(error) if error.is_transient() => Ok(run.clone()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Order {
    /// Where a batch leaves its run.
    fn after(&self, window: Option<&Window>, wrong: &[Sample], took: Duration) -> Advance {
        let Run { job, step, ref cursor, ref totals, mode, .. } = self.run;
        let scanned = window.map_or(0, |window| window.count);
        let mut totals = totals.clone().and(scanned, wrong, mode);
        totals.took(took);
        Advance {
            job,
            step,
            cursor: window.map_or_else(|| cursor.clone(), |window| Some(window.last.clone())),
            totals,
            finished: scanned < u64::from(self.size),
        }
    }
}

impl Advance {
    /// The run once this is committed.
    fn of(self, run: Run, clock: &WallClock) -> Run {
        let now = clock.now();
        let Self { step, cursor, totals, finished, .. } = self;
        let finished_at = finished.then_some(now);
        Run { step: step + 1, cursor, totals, updated_at: now, finished_at, ..run }
    }
}

async fn rested(pause: Duration, control: &Control) {
    if pause.is_zero() {
        return;
    }
    tokio::select! {
        () = sleep(pause) => {}
        () = control.request.cancelled() => {}
    }
}

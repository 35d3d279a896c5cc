//! What must be done once before the first request: migrations, warm caches.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::check::CheckError;
use super::error::HealthError;
use super::report::{Item, Status};
use super::run::within;
use super::spec::{check_name, check_unique};

/// LIMIT: tasks run one after another; more than 64 steps are a program of their own.
const TASKS_MAX: usize = 64;
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(10);
/// Long enough for any migration; `Instant` cannot take `Duration::MAX`.
const NO_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 3600);

type Work = Box<dyn Fn() -> BoxFuture<'static, Result<(), CheckError>> + Send + Sync>;

/// One step of start-up. Tried again, with growing pauses up to 10 s, until it succeeds.
#[must_use = "a task does nothing until it is added to a registry"]
pub struct StartTask {
    name: Arc<str>,
    timeout: Duration,
    work: Work,
}

impl StartTask {
    /// Declares a step. `work` must bear being run again after a failure, a panic or a timeout.
    pub fn new<F, Done>(name: impl Into<Arc<str>>, work: F) -> Self
    where
        F: Fn() -> Done + Send + Sync + 'static,
        Done: Future<Output = Result<(), CheckError>> + Send + 'static,
    {
        let work: Work = Box::new(move || work().boxed());
        Self { name: name.into(), timeout: NO_TIMEOUT, work }
    }

    /// The longest one try may take. Default: no limit; at most a year.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout.min(NO_TIMEOUT);
        self
    }
}

impl fmt::Debug for StartTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StartTask").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The ordered steps of start-up and how far they are. Cheap to clone.
#[derive(Debug, Clone)]
pub struct StartTasks(Arc<[Step]>);

#[derive(Debug)]
struct Step {
    task: StartTask,
    progress: Mutex<Progress>,
}

#[derive(Debug, Clone)]
enum Progress {
    Waiting,
    Running { since: Instant, tries: u32 },
    Failed { tries: u32, reason: Arc<str> },
    Done,
}

impl StartTasks {
    pub(super) fn new(tasks: Vec<StartTask>) -> Result<Self, HealthError> {
        if tasks.len() > TASKS_MAX {
            return Err(HealthError::TooMany { what: "start-up tasks", limit: TASKS_MAX });
        }
        check_unique(tasks.iter().map(|task| &task.name))?;
        tasks.iter().try_for_each(|task| check_name(&task.name))?;
        let step = |task| Step { task, progress: Mutex::new(Progress::Waiting) };
        Ok(Self(tasks.into_iter().map(step).collect()))
    }

    /// Whether every step is done.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.0.iter().all(|step| matches!(*step.progress.lock(), Progress::Done))
    }

    /// One line per step, in order.
    #[must_use]
    pub fn items(&self) -> Vec<Item> {
        let now = Instant::now();
        self.0.iter().map(|step| step.item(now)).collect()
    }

    /// How far start-up is, in one line: for readiness, which does not list the steps.
    #[must_use]
    pub fn summary(&self) -> Item {
        let done = |step: &&Step| matches!(*step.progress.lock(), Progress::Done);
        let (done, all) = (self.0.iter().filter(done).count(), self.0.len());
        let status = if done == all { Status::Up } else { Status::Unknown };
        Item::new("startup", status).because(format!("{done} of {all} start-up tasks are done"))
    }

    /// Runs what is not done yet, in order. Returns when all is done.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the step that runs; what is done stays done, and another call goes on.
    pub async fn run(&self) {
        for step in self.0.iter() {
            step.run().await;
        }
        tracing::info!(tasks = self.0.len(), "health.started");
    }
}

impl Step {
    async fn run(&self) {
        let mut tries = 0_u32;
        while !matches!(*self.progress.lock(), Progress::Done) {
            tries = tries.saturating_add(1);
            *self.progress.lock() = Progress::Running { since: Instant::now(), tries };
            let reason = match self.attempt().await {
                Ok(()) => {
                    *self.progress.lock() = Progress::Done;
                    return;
                }
                Err(error) => error.into_reason(),
            };
            tracing::warn!(task = %self.task.name, tries, %reason, "health.start_task_failed");
            *self.progress.lock() = Progress::Failed { tries, reason };
            tokio::time::sleep(pause(tries).mul_f64(fastrand::f64().mul_add(0.5, 0.5))).await;
        }
    }

    async fn attempt(&self) -> Result<(), CheckError> {
        let deadline = Instant::now() + self.task.timeout;
        let work = async { (self.task.work)().await };
        within(deadline, work)
            .await
            .unwrap_or_else(|broken| Err(CheckError::new(broken.to_string())))
    }

    fn item(&self, now: Instant) -> Item {
        let name = Arc::clone(&self.task.name);
        match self.progress.lock().clone() {
            Progress::Waiting => Item::new(name, Status::Unknown).because("waits for its turn"),
            Progress::Running { since, tries } => {
                let elapsed = now.saturating_duration_since(since).as_millis();
                Item::new(name, Status::Unknown)
                    .because(format!("try {tries}, {elapsed} ms so far"))
            }
            Progress::Failed { tries, reason } => {
                Item::new(name, Status::Down).because(format!("try {tries} failed: {reason}"))
            }
            Progress::Done => Item::new(name, Status::Up),
        }
    }
}

/// The longest pause after the `tries`-th failure; half of it is random.
fn pause(tries: u32) -> Duration {
    let doublings = tries.saturating_sub(1).min(16);
    (RETRY_FIRST * 2_u32.pow(doublings)).min(RETRY_MAX)
}

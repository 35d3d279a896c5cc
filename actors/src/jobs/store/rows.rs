//! What goes into the tables of the job queue and what comes out, the same on both databases.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::jobs::{Class, JobId, NodeId, RunKey};
use crate::store::Timestamp;

/// A job to be stored. Checked by whoever made it; the tables check it once more.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// The queue, of 1 to 127 bytes.
    pub queue: Arc<str>,
    /// What handles it, of 1 to 127 bytes.
    pub kind: Arc<str>,
    /// How dear it is.
    pub class: Class,
    /// Not before this.
    pub run_at: Timestamp,
    /// Not begun after this; it is dead then.
    pub expires_at: Option<Timestamp>,
    /// Runs in all, 1 to 100, before it is given up.
    pub max_attempts: i16,
    /// The dependency whose breaker parks it.
    pub dependency: Option<Arc<str>>,
    /// At most one live job with this key.
    pub unique: Option<Unique>,
    /// Its arguments, byte for byte.
    pub args: Arc<[u8]>,
    /// How the arguments are written: 0 is JSON.
    pub args_format: i16,
    /// What it inherits from whoever enqueued it, as JSON.
    pub meta: Option<Arc<str>>,
    /// Whether the guard has put it off to `run_at`, from where it may be pulled forward.
    pub deferred: bool,
    /// Refused when its queue holds this many jobs that are not done, counted exactly in the
    /// same transaction. Costs time in proportion to the limit.
    pub depth_limit: Option<u32>,
}

/// What makes a job the same as another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unique {
    /// The key, any bytes, 1 to 512 of them; together with the kind.
    pub key: Arc<[u8]>,
    /// Until when the key stays taken, even after the job is done; `None`: while it is live.
    pub until: Option<Timestamp>,
    /// What becomes of the new one while there is another.
    pub conflict: OnConflict,
}

/// What becomes of a job whose unique key is taken by one that still waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnConflict {
    /// The new one is dropped; whoever enqueues it is told the id of the other.
    #[default]
    Keep,
    /// The waiting one gets the new arguments and the new times: a debounce. One that runs
    /// already keeps what it has, loses the key, and the new one is stored beside it.
    Replace,
    /// The waiting one gets the new arguments and keeps its time: a throttle. One that runs
    /// already is treated as for `Replace`.
    ReplaceKeepTime,
}

/// What became of a [`NewJob`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Inserted {
    /// It is stored.
    New(JobId),
    /// Its key is taken by this job; nothing was stored.
    Duplicate(JobId),
    /// It took the place of this waiting job.
    Replaced(JobId),
    /// Its queue is at its exact limit; nothing was stored.
    QueueFull,
}

/// What ends one run of a job.
#[derive(Debug, Clone)]
pub struct Settle {
    /// The run that ends. Any other run is left alone.
    pub key: RunKey,
    /// How it ends.
    pub how: Settlement,
    /// From when it was due to when it began.
    pub queued: Duration,
    /// From when it began to now.
    pub ran: Duration,
}

/// How one run of a job ends.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Settlement {
    /// It did its work. Remembered in the table of finished jobs if `keep`.
    Done {
        /// Whether its end is remembered.
        keep: bool,
    },
    /// It failed and is tried again. One that was to be cancelled is dead instead.
    Retry {
        /// Not before this.
        run_at: Timestamp,
        /// What went wrong.
        error: RunError,
    },
    /// It was not really tried: the attempt does not count. One that was to be cancelled is
    /// dead instead.
    Release {
        /// Not before this.
        run_at: Timestamp,
        /// Parked until its dependency is well, instead of ready; one without a dependency is
        /// ready all the same.
        parked: bool,
        /// Whether it keeps its place: its age goes on counting from before.
        keeps_age: bool,
        /// What went wrong, if it is to be remembered.
        error: Option<RunError>,
    },
    /// It was not begun: the guard puts it off once more. The attempt does not count. One that
    /// was to be cancelled is dead instead.
    PutOff {
        /// Not before this, unless it is pulled forward.
        until: Timestamp,
    },
    /// It is over without having done its work.
    Dead {
        /// Why.
        reason: DeadReason,
        /// What went wrong.
        error: Option<RunError>,
    },
}

/// What went wrong in one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunError {
    /// In one line, cut at 2 KiB.
    pub message: Arc<str>,
    /// Where, as a backtrace, cut at 16 KiB.
    pub trace: Option<Arc<str>>,
}

/// Why a job is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DeadReason {
    /// It failed for good, or too often.
    Discarded,
    /// It took its process with it too often.
    Poison,
    /// It was not begun in time.
    Expired,
    /// The guard gave it up.
    Shed,
    /// Somebody cancelled it.
    Cancelled,
}

impl DeadReason {
    /// The name in the tables, metrics, logs and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Discarded => "discarded",
            Self::Poison => "poison",
            Self::Expired => "expired",
            Self::Shed => "shed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Reads the name in the tables.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        [Self::Discarded, Self::Poison, Self::Expired, Self::Shed, Self::Cancelled]
            .into_iter()
            .find(|reason| reason.as_str() == name)
    }
}

/// What a worker asks for.
#[derive(Debug, Clone)]
pub struct Claim {
    /// From this queue.
    pub queue: Arc<str>,
    /// For this process.
    pub node: NodeId,
    /// At most so many of each class.
    pub wants: [u16; 4],
    /// At most so many of this queue running in all processes together.
    pub running_limit: Option<u32>,
}

/// A job that was claimed.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// The run that begins.
    pub key: RunKey,
    /// What handles it.
    pub kind: Arc<str>,
    /// How dear it is.
    pub class: Class,
    /// Which attempt this is; the first is 1.
    pub attempt: i16,
    /// Attempts in all.
    pub max_attempts: i16,
    /// How often it was charged with the end of its process. One with any is not begun until
    /// [`JobStore::begin_suspect`](super::JobStore::begin_suspect) says so.
    pub crashes: i16,
    /// How often the guard has put it off; 0 again once it was pulled forward or hurried.
    pub deferrals: i16,
    /// Since when it is due.
    pub due_at: Timestamp,
    /// Not to be begun after this.
    pub expires_at: Option<Timestamp>,
    /// The dependency whose breaker parks it.
    pub dependency: Option<Arc<str>>,
    /// Its arguments.
    pub args: Arc<[u8]>,
    /// How they are written.
    pub args_format: i16,
    /// What it inherits from whoever enqueued it.
    pub meta: Option<Arc<str>>,
    /// When it was stored.
    pub created_at: Timestamp,
}

/// What one step brought.
#[derive(Debug, Clone, Default)]
pub struct Step {
    /// Runs whose end came too late: another run has begun, or the job is over.
    pub stale: Vec<RunKey>,
    /// Jobs that now belong to the process that asked, in the order of their classes.
    pub claimed: Vec<Claimed>,
}

/// What became of the wish to cancel a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cancelled {
    /// It had not begun and is dead now.
    Queued,
    /// It runs on this node, which will be told to stop it. It may still finish.
    Running(NodeId),
    /// It was over already.
    Over,
    /// There is no such job.
    Unknown,
}

/// What a process says of itself, every few seconds.
#[derive(Debug, Clone)]
pub struct Beat {
    /// Which process.
    pub node: NodeId,
    /// Its name for people, such as its host.
    pub name: Arc<str>,
    /// How others on its host find out whether it lives.
    pub presence: Option<Arc<str>>,
    /// How fast it works, as JSON; for the guards of the others.
    pub report: Arc<str>,
}

/// What a process learns from its beat.
#[derive(Debug, Clone, Default)]
pub struct Pulse {
    /// The time of the database, where it has one of its own.
    pub database_now: Option<Timestamp>,
    /// All processes, this one included.
    pub nodes: Vec<NodeRow>,
    /// Jobs of this process that are to be cancelled.
    pub to_cancel: Vec<JobId>,
}

/// A process as the others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRow {
    /// Which.
    pub id: NodeId,
    /// Its name for people.
    pub name: Arc<str>,
    /// How others on its host find out whether it lives.
    pub presence: Option<Arc<str>>,
    /// How often it has beaten. Who sees no change for long enough, by a clock of its own,
    /// takes it for dead: no clock that somebody sets can kill a process.
    pub beats: i64,
    /// What it says of itself.
    pub report: Option<Arc<str>>,
}

/// What a rescue brought.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rescued {
    /// Jobs that are ready again.
    pub requeued: u64,
    /// Jobs that took their process with them too often, and are dead.
    pub poisoned: u64,
    /// Jobs that had no attempt left or were to be cancelled, and are dead.
    pub discarded: u64,
}

/// How full a queue is, by class where there are four numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Depths {
    /// Ready and due, counted up to the limit of the probe.
    pub ready: [u64; 4],
    /// Since when the oldest of those is due.
    pub oldest_due: [Option<Timestamp>; 4],
    /// Running in all processes.
    pub running: u64,
    /// Put off by the guard and not due yet, counted up to the limit of the probe.
    pub deferred: u64,
    /// Parked for a dependency, counted up to the limit of the probe.
    pub parked: u64,
    /// Whether an operator has paused it, or all queues.
    pub paused: bool,
}

/// Jobs in each state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Waiting for their turn or their time.
    pub ready: u64,
    /// Running.
    pub running: u64,
    /// Parked for a dependency, or put off by the guard.
    pub parked: u64,
    /// Over without having done their work.
    pub dead: u64,
    /// Finished, as far as that is remembered.
    pub done: u64,
}

/// Where a job is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum JobState {
    /// Waits for its turn or its time.
    Ready,
    /// Runs.
    Running,
    /// Waits for its dependency, or was put off by the guard.
    Parked,
    /// Did its work.
    Done,
    /// Is over without having done its work.
    Dead,
}

/// A job as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct JobInfo {
    /// Which.
    pub id: JobId,
    /// Its queue.
    pub queue: Arc<str>,
    /// What handles it.
    pub kind: Arc<str>,
    /// How dear it is.
    pub class: Class,
    /// Where it is in its life.
    pub state: JobState,
    /// Attempts begun.
    pub attempt: i16,
    /// The fence: rises with every claim and rescue.
    pub run: i32,
    /// How often it was charged with the end of its process.
    pub crashes: i16,
    /// When it may begin; `None` once it is over.
    pub run_at: Option<Timestamp>,
    /// Why it is dead.
    pub reason: Option<DeadReason>,
    /// What went wrong last.
    pub error: Option<Arc<str>>,
    /// What its handler said of its progress.
    pub progress: Option<Arc<str>>,
    /// When it was over.
    pub finished_at: Option<Timestamp>,
}

/// Which dead jobs are meant. Everything that is given must hold.
#[derive(Debug, Clone, Default)]
pub struct DeadFilter {
    /// Only of this queue.
    pub queue: Option<Arc<str>>,
    /// Only of this kind.
    pub kind: Option<Arc<str>>,
    /// Only for this reason.
    pub reason: Option<DeadReason>,
    /// Only those that died at this moment or later.
    pub since: Option<Timestamp>,
    /// Only those whose id is larger.
    pub after: Option<JobId>,
}

/// What a replay brought.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Jobs that are ready again, with all their attempts.
    pub moved: u64,
    /// Jobs whose unique key is taken by now; they stay dead.
    pub duplicates: u64,
    /// The last job that was looked at; `None` when none was left.
    pub last: Option<JobId>,
}

/// What pruning took away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Finished jobs forgotten.
    pub done: u64,
    /// Dead jobs forgotten.
    pub dead: u64,
    /// Unique keys free again.
    pub keys: u64,
}

/// A periodic job as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CronRow {
    /// What it is called; 1 to 127 bytes.
    pub name: Arc<str>,
    /// When, as a cron expression.
    pub spec: Arc<str>,
    /// The time zone the expression is meant in, by its IANA name.
    pub time_zone: Arc<str>,
    /// The queue its jobs go to.
    pub queue: Arc<str>,
    /// Their kind.
    pub kind: Arc<str>,
    /// Their class.
    pub class: Class,
    /// Their attempts.
    pub max_attempts: i16,
    /// Their arguments.
    pub args: Arc<[u8]>,
    /// How those are written.
    pub args_format: i16,
    /// How far back a tick that was missed is made up for, in milliseconds; 0: never.
    pub backfill_ms: i64,
    /// The next tick.
    pub next_at: Timestamp,
    /// The last tick.
    pub last_at: Option<Timestamp>,
    /// Whether its ticks are passed over.
    pub paused: bool,
}

/// A queue that somebody paused or resumed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueRow {
    /// Its name; `*` is all queues.
    pub name: Arc<str>,
    /// Whether nothing is claimed from it.
    pub paused: bool,
}

//! Copies what was committed from the log into the database, off the path of commits.
//!
//! A thread with a connection of its own copies without hindering anybody (`PASSIVE`). Under
//! load it never catches up with a writer that goes on, so SQLite would let the log grow; once
//! it is large and nearly all of it is copied, the writer is asked to begin it anew between two
//! groups (`RESTART`), which copies the little that is left. The file keeps its size and is
//! written over, which is about twice as fast as making it longer. Should it become huge all
//! the same, then either a long reader needs it, or more is written than the disk can copy. In
//! both cases it is cut as soon as it can be (`TRUNCATE`), and in the second the writer waits
//! for that.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rusqlite::{Connection, Row};

use super::shared::Shared;
use super::status::file_bytes;

/// How much is written to the log before it is copied.
const COPY_BYTES: u64 = 4 << 20;

/// From which size on a log is begun anew.
const RESET_BYTES: u64 = 16 << 20;

/// LIMIT: from which size on the file of the log is cut, and the writer waits for the copy.
const CUT_BYTES: u64 = 64 << 20;

/// LIMIT: how long the writer waits for it, should the disk hang.
const COPY_WAIT: Duration = Duration::from_secs(5);

/// LIMIT: commits between two copies, however small they are.
const COMMITS_MAX: u64 = 1_024;

/// LIMIT: the writer copies no more than this part of a log at once.
const LEFT_PART: u64 = 4;

/// LIMIT: how long the writer waits for readers that are about to end. Those that begin
/// meanwhile are not in the way.
const READERS_WAIT: Duration = Duration::from_millis(20);

/// How soon it is tried again when a reader was in the way.
const RETRY: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(4);

/// What the thread that copies and the writer tell each other.
#[derive(Debug)]
pub(super) struct Plan {
    /// After how many commits the log has about [`COPY_BYTES`] more. SQLite does not tell the
    /// writer how many pages a commit has; the thread that copies learns it.
    commits: AtomicU64,
    /// The size of the file at the last copy.
    seen_bytes: AtomicU64,
    reset: AtomicU8,
    passes: Mutex<Passes>,
    passed: Condvar,
}

/// Copies are counted, so that the writer can wait for one that began after it asked.
#[derive(Debug, Default)]
struct Passes {
    begun: u64,
    ended: u64,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            commits: AtomicU64::new(64),
            seen_bytes: AtomicU64::new(0),
            reset: AtomicU8::new(0),
            passes: Mutex::default(),
            passed: Condvar::new(),
        }
    }
}

/// How the writer is to begin the log anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reset {
    Restart,
    Truncate,
}

/// The writer's side.
#[derive(Debug)]
pub(super) struct Trigger {
    orders: SyncSender<()>,
    wal: PathBuf,
    commits: u64,
    /// From which size of the file on the writer waits.
    wait_from: u64,
}

impl Trigger {
    pub(super) const fn new(orders: SyncSender<()>, wal: PathBuf) -> Self {
        Self { orders, wal, commits: 0, wait_from: CUT_BYTES }
    }

    /// Asks for a copy when it is time, and waits for it when the log is huge.
    pub(super) fn committed(&mut self, plan: &Plan) {
        self.commits += 1;
        let file = file_bytes(&self.wal);
        let seen = plan.seen_bytes.load(Ordering::Relaxed);
        if self.commits >= plan.commits.load(Ordering::Relaxed)
            || file >= seen.saturating_add(COPY_BYTES)
        {
            self.order();
        }
        if file <= CUT_BYTES {
            self.wait_from = CUT_BYTES;
        } else if file > self.wait_from {
            // If a reader needs the log, waiting is of no use: not again before long.
            self.wait_from = file.saturating_add(RESET_BYTES);
            plan.wait_for_pass(|| self.order());
        }
    }

    fn order(&mut self) {
        // If an order waits already, its copy will have this commit too.
        if self.orders.try_send(()).is_ok() {
            self.commits = 0;
        }
    }
}

impl Plan {
    /// Begins the log anew if that was asked for. Called by the writer, between two groups.
    pub(super) fn reset(&self, shared: &Shared, connection: &Connection) {
        let sql = match self.reset.swap(0, Ordering::AcqRel) {
            1 => "pragma wal_checkpoint(restart)",
            2 => "pragma wal_checkpoint(truncate)",
            _ => return,
        };
        let hurried = connection.busy_timeout(READERS_WAIT);
        let outcome = hurried.and_then(|()| checkpoint(connection, sql));
        let restored = connection.busy_timeout(shared.options.busy_timeout);
        match outcome.and_then(|outcome| restored.map(|()| outcome)) {
            Ok(Outcome { busy: false, .. }) => {
                shared.counters.log_resets.fetch_add(1, Ordering::Relaxed);
            }
            Ok(Outcome { busy: true, .. }) => {}
            Err(error) => tracing::debug!(error = %error, "store.log_not_reset"),
        }
    }

    /// Waits for a copy that begins after this.
    fn wait_for_pass(&self, order: impl FnOnce()) {
        let until = Instant::now() + COPY_WAIT;
        let mut passes = self.passes.lock();
        let enough = passes.begun + 1;
        order();
        while passes.ended < enough && !self.passed.wait_until(&mut passes, until).timed_out() {}
    }

    fn pass_begins(&self) {
        self.passes.lock().begun += 1;
    }

    fn pass_ended(&self) {
        self.passes.lock().ended += 1;
        self.passed.notify_one();
    }

    fn want(&self, reset: Reset) {
        let reset = match reset {
            Reset::Restart => 1,
            Reset::Truncate => 2,
        };
        self.reset.store(reset, Ordering::Release);
    }
}

/// The thread that copies.
pub(super) struct Checkpointer {
    shared: Arc<Shared>,
    connection: Connection,
    orders: Receiver<()>,
    page_bytes: u64,
    /// What there was at the last copy.
    pages: u64,
    commits: u64,
}

impl Checkpointer {
    pub(super) fn new(
        shared: Arc<Shared>,
        connection: Connection,
        orders: Receiver<()>,
    ) -> rusqlite::Result<Self> {
        let page_bytes = connection.query_row("pragma page_size", [], |row| count(row, 0))?;
        Ok(Self { shared, connection, orders, page_bytes, pages: 0, commits: 0 })
    }

    /// Copies whenever it is asked to, until the writer is gone.
    pub(super) fn run(mut self) {
        let mut retry: Option<Duration> = None;
        loop {
            let ends = match retry {
                Some(pause) => {
                    self.orders.recv_timeout(pause) == Err(RecvTimeoutError::Disconnected)
                }
                None => self.orders.recv().is_err(),
            };
            if ends {
                return;
            }
            self.shared.plan.pass_begins();
            let owes = self.pass().unwrap_or_else(|error| {
                tracing::debug!(error = %error, "store.checkpoint_failed");
                true
            });
            self.shared.plan.pass_ended();
            let longer = |pause: Duration| (pause * 2).min(RETRY_MAX);
            retry = owes.then(|| retry.map_or(RETRY, longer));
        }
    }

    /// Copies what can be copied. Whether the log is still too large afterwards.
    fn pass(&mut self) -> rusqlite::Result<bool> {
        let outcome = checkpoint(&self.connection, "pragma wal_checkpoint(passive)")?;
        self.shared.counters.checkpoints.fetch_add(1, Ordering::Relaxed);
        self.learn(outcome.pages);
        let file = self.shared.wal.as_deref().map_or(0, file_bytes);
        self.shared.plan.seen_bytes.store(file, Ordering::Relaxed);
        let bytes = |pages: u64| pages.saturating_mul(self.page_bytes);
        let (log, left) =
            (bytes(outcome.pages), bytes(outcome.pages.saturating_sub(outcome.copied)));
        let (huge, large) = (file > CUT_BYTES, log > RESET_BYTES);
        // More is left while a reader needs it, or when more is written than can be copied.
        if (huge || large) && left <= COPY_BYTES.max(log / LEFT_PART) {
            self.shared.plan.want(if huge { Reset::Truncate } else { Reset::Restart });
        }
        Ok(huge || large)
    }

    /// Learns from how much the log has grown how many commits make [`COPY_BYTES`].
    fn learn(&mut self, pages: u64) {
        let commits = self.shared.counters.commits.load(Ordering::Relaxed);
        let made = commits.saturating_sub(self.commits).max(1);
        let grown = if pages >= self.pages { pages - self.pages } else { pages };
        let each = (grown / made).max(1);
        let due = COPY_BYTES / self.page_bytes.max(1) / each;
        self.shared.plan.commits.store(due.clamp(1, COMMITS_MAX), Ordering::Relaxed);
        (self.pages, self.commits) = (pages, commits);
    }
}

#[derive(Debug)]
struct Outcome {
    busy: bool,
    /// In the log.
    pages: u64,
    /// Of these, in the database too.
    copied: u64,
}

fn checkpoint(connection: &Connection, sql: &str) -> rusqlite::Result<Outcome> {
    let mut statement = connection.prepare_cached(sql)?;
    statement.query_row([], |row| {
        Ok(Outcome { busy: row.get(0)?, pages: count(row, 1)?, copied: count(row, 2)? })
    })
}

fn count(row: &Row<'_>, index: usize) -> rusqlite::Result<u64> {
    // It is -1 where there is no log.
    Ok(u64::try_from(row.get::<_, i64>(index)?).unwrap_or(0))
}

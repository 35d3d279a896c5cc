//! The thread that owns the connection that writes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::checkpoint::Trigger;
use super::connect::{Role, connect};
use super::group::{Group, data_version};
use super::queue::Taken;
use super::shared::Shared;
use super::work::AnyWork;
use crate::kernel::panic;
use crate::store::StoreError;

/// LIMIT: works in one transaction; what more waits comes with the next.
const GROUP_MAX: usize = 512;

/// How often it is looked whether another process has committed.
const WATCH: Duration = Duration::from_millis(25);

/// How soon a connection that broke is opened again.
const REOPEN: Duration = Duration::from_millis(50);
const REOPEN_MAX: Duration = Duration::from_secs(5);

pub(super) struct Writer {
    shared: Arc<Shared>,
    /// `None` in memory, where there is no log.
    trigger: Option<Trigger>,
    works: Vec<AnyWork>,
    /// The version that the connection had when it was opened. What others commit from then on
    /// is noticed.
    seen_version: i64,
}

/// Why a connection is not served any more.
enum End {
    Closed,
    Broken(StoreError),
}

impl Writer {
    pub(super) const fn new(
        shared: Arc<Shared>,
        trigger: Option<Trigger>,
        seen_version: i64,
    ) -> Self {
        Self { shared, trigger, works: Vec::new(), seen_version }
    }

    /// Serves until the store is closed, over as many connections as that takes.
    pub(super) fn run(mut self, mut connection: Connection) {
        loop {
            let error = match self.serve_caught(&connection) {
                End::Closed => return,
                End::Broken(error) => error,
            };
            tracing::error!(error = %error, "store.connection_broken");
            self.shared.counters.connected.store(false, Ordering::Relaxed);
            match self.reopen(connection, error) {
                Some(open) => connection = open,
                None => return,
            }
            // Whatever was committed meanwhile, by whomever.
            self.shared.wakes.wake_all();
        }
    }

    fn serve_caught(&mut self, connection: &Connection) -> End {
        panic::catch(|| self.serve(connection)).unwrap_or_else(|caught| {
            let location = caught.location().unwrap_or("unknown");
            tracing::error!(panic = %caught.message(), location, "store.writer_panicked");
            End::Broken(StoreError::Panicked)
        })
    }

    fn serve(&mut self, connection: &Connection) -> End {
        let shared = Arc::clone(&self.shared);
        let mut group = match Group::new(&shared, connection, self.seen_version) {
            Ok(group) => group,
            Err(error) => return End::Broken(error.into()),
        };
        shared.counters.connected.store(true, Ordering::Relaxed);
        let watches = shared.options.path.is_some();
        let mut gathering = Gathering::default();
        loop {
            gathering.wait(&shared);
            let until = watches.then(|| Instant::now() + WATCH);
            match shared.writes.take(GROUP_MAX, until, &mut self.works) {
                Taken::Closed => return End::Closed,
                Taken::Nothing => group.watch(),
                Taken::Works => {
                    let (count, began) = (self.works.len(), Instant::now());
                    if let Err(error) = group.commit(&mut self.works) {
                        return End::Broken(error);
                    }
                    gathering.committed(count, began.elapsed());
                    if let Some(trigger) = &mut self.trigger {
                        trigger.committed(&shared.plan);
                    }
                }
            }
            shared.plan.reset(&shared, connection);
        }
    }

    /// Opens the connection anew, and refuses works meanwhile. `None`: the store is closed.
    fn reopen(&mut self, broken: Connection, error: StoreError) -> Option<Connection> {
        // A database in memory is its connection. Any other is closed before the next is
        // opened, because it may hold locks.
        let mut kept = self.shared.options.path.is_none().then_some(broken);
        let mut error = refusal(error);
        let mut pause = REOPEN;
        while self.refuse(&error, pause) {
            let opened = match kept.take() {
                Some(kept) => roll_back(kept),
                None => connect(&self.shared.options, Role::Writer),
            };
            match opened.and_then(|open| Ok((data_version(&open)?, open))) {
                Ok((version, connection)) => {
                    self.seen_version = version;
                    return Some(connection);
                }
                Err(still) => error = still,
            }
            pause = (pause * 2).min(REOPEN_MAX);
        }
        None
    }

    /// Answers works with the error for a while. `false`: the store is closed.
    fn refuse(&mut self, error: &StoreError, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        self.works.drain(..).for_each(|work| work.answer(Err(error)));
        while Instant::now() < until {
            match self.shared.writes.take(GROUP_MAX, Some(until), &mut self.works) {
                Taken::Closed => return false,
                Taken::Nothing => {}
                Taken::Works => {
                    self.works.drain(..).for_each(|work| work.answer(Err(error)));
                }
            }
        }
        true
    }
}

/// What is said to works that were not begun because of an error.
fn refusal(error: StoreError) -> StoreError {
    if let StoreError::OutcomeUnknown(source) = error {
        return StoreError::Unavailable(source);
    }
    error
}

fn roll_back(connection: Connection) -> Result<Connection, StoreError> {
    if !connection.is_autocommit() {
        connection.execute_batch("rollback")?;
    }
    Ok(connection)
}

/// Waits a moment for those that were just answered to come back.
///
/// Without it, callers that write one thing after the other fall into two halves: while the
/// works of one half are committed those of the other wait, and each commit has only half of
/// what it could.
#[derive(Debug, Default)]
struct Gathering {
    goal: usize,
    /// What a full group gains at most, in time.
    window: Duration,
    /// Waits in a row that were in vain. The more, the shorter the next.
    vain: u32,
}

impl Gathering {
    /// LIMIT: a wait is at most this part of the last commit, which whoever waits does anyway.
    const PART: u32 = 4;

    /// LIMIT: and never longer than this.
    const WINDOW_MAX: Duration = Duration::from_millis(2);

    /// Of so many waits in vain one has its full length, lest the halves be missed for ever.
    const TRY_AGAIN: u32 = 32;

    fn committed(&mut self, count: usize, took: Duration) {
        self.goal = count;
        self.window = (took / Self::PART).min(Self::WINDOW_MAX);
    }

    fn wait(&mut self, shared: &Shared) {
        let goal = self.goal.saturating_add(shared.writes.len()).min(GROUP_MAX);
        if goal <= 1 {
            return;
        }
        self.goal = 0;
        let shorter = if self.vain.is_multiple_of(Self::TRY_AGAIN) { 0 } else { self.vain.min(6) };
        let until = Instant::now() + self.window / (1 << shorter);
        let came = shared.writes.gather(goal, until);
        self.vain = if came { 0 } else { self.vain.saturating_add(1) };
    }
}

//! Group commit: single jobs of many callers are stored together.
//!
//! There is no timer. While the statements that are allowed at once are under way, what arrives
//! waits and forms the next one, so a lone caller waits for nobody and many share one commit.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};

use super::PgSql;
use super::insert::{Enqueued, insert};
use crate::jobs::store::Inserted;
use crate::kernel::RequestContext;
use crate::store::{PgStore, StoreError};

/// LIMIT: statements under way at once; a second one fills the server's time while the first
/// waits for the disk.
const BATCHES_MAX: usize = 2;

/// LIMIT: rows of one statement.
const ROWS_MAX: usize = 512;

/// LIMIT: rows that wait; who comes later waits for room.
const WAITING_MAX: usize = 8_192;

/// LIMIT: how long one waits for all this, where no request has an earlier deadline.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// Collects single jobs and stores them together. Cheap to clone; clones share the batches.
#[derive(Clone)]
pub(super) struct Group(Arc<Shared>);

struct Shared {
    store: PgStore,
    sql: Arc<PgSql>,
    state: Mutex<State>,
    room: Arc<Semaphore>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Waiting>,
    tickets: u64,
    batches: usize,
}

type Reply = oneshot::Sender<Result<Inserted, StoreError>>;

struct Waiting {
    ticket: u64,
    job: Enqueued,
    reply: Reply,
    room: OwnedSemaphorePermit,
}

impl State {
    fn push(&mut self, job: Enqueued, reply: Reply, room: OwnedSemaphorePermit) -> u64 {
        self.tickets += 1;
        self.waiting.push_back(Waiting { ticket: self.tickets, job, reply, room });
        self.tickets
    }

    /// `false`: it does not wait any more, so its batch is under way.
    fn forget(&mut self, ticket: u64) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|waiting| waiting.ticket != ticket);
        self.waiting.len() < before
    }
}

impl Group {
    pub(super) fn new(store: PgStore, sql: Arc<PgSql>) -> Self {
        let room = Arc::new(Semaphore::new(WAITING_MAX));
        Self(Arc::new(Shared { store, sql, state: Mutex::default(), room }))
    }

    /// Stores one job together with those of others, at most until the deadline of the request.
    ///
    /// CANCEL: dropped while it waits for its batch, the job is stored all the same.
    pub(super) async fn insert(&self, job: Enqueued) -> Result<Inserted, StoreError> {
        let longest = Instant::now() + WAIT_MAX;
        let deadline = RequestContext::current().and_then(|context| context.deadline());
        let until = deadline.map_or(longest, |deadline| deadline.min(longest));
        let room = timeout_at(until, Arc::clone(&self.0.room).acquire_owned()).await;
        let room =
            room.map_err(|_late| StoreError::Timeout)?.map_err(|_gone| StoreError::Closed)?;
        let (reply, mut answer) = oneshot::channel();
        let ticket = self.0.state.lock().push(job, reply, room);
        self.start();
        match timeout_at(until, &mut answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(gone)) => Err(StoreError::OutcomeUnknown(StoreError::source(gone))),
            Err(_late) if self.0.state.lock().forget(ticket) => Err(StoreError::Timeout),
            Err(late) => Err(StoreError::OutcomeUnknown(StoreError::source(late))),
        }
    }

    /// Begins a batch if one may begin and somebody waits.
    fn start(&self) {
        if let Some(turn) = Turn::take(&self.0) {
            self.0.store.spawn(turn.work());
        }
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").finish_non_exhaustive()
    }
}

/// The right to have one statement under way.
struct Turn {
    shared: Arc<Shared>,
    /// Whether it counts; it stops to with the look that found nobody waiting.
    counts: bool,
}

impl Turn {
    fn take(shared: &Arc<Shared>) -> Option<Self> {
        let mut state = shared.state.lock();
        if state.batches == BATCHES_MAX || state.waiting.is_empty() {
            return None;
        }
        state.batches += 1;
        drop(state);
        Some(Self { shared: Arc::clone(shared), counts: true })
    }

    /// Works until nobody waits.
    async fn work(mut self) {
        while let Some(batch) = self.next() {
            self.store(batch).await;
        }
    }

    /// INVARIANT: gives the turn back under the lock under which it saw nobody, so that whoever
    /// comes next finds it free.
    fn next(&mut self) -> Option<Vec<Waiting>> {
        let mut state = self.shared.state.lock();
        let rows = state.waiting.len().min(ROWS_MAX);
        if rows == 0 {
            state.batches -= 1;
            self.counts = false;
            return None;
        }
        Some(state.waiting.drain(..rows).collect())
    }

    async fn store(&self, batch: Vec<Waiting>) {
        let (jobs, replies): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|one| (one.job, (one.reply, one.room))).unzip();
        // Kept for the case that one of them spoils it for all.
        let spare = (jobs.len() > 1).then(|| jobs.clone());
        match (self.insert(jobs).await, spare) {
            (Ok(answers), _) => {
                for ((reply, _room), answer) in replies.into_iter().zip(answers) {
                    drop(reply.send(Ok(answer)));
                }
            }
            (Err(error), Some(jobs)) if is_of_one(&error) => {
                for ((reply, _room), job) in replies.into_iter().zip(jobs) {
                    let answer = self.insert(vec![job]).await;
                    drop(reply.send(answer.map(|all| all.first().copied()).and_then(one)));
                }
            }
            (Err(error), _) => {
                for (reply, _room) in replies {
                    drop(reply.send(Err(error.clone())));
                }
            }
        }
    }

    async fn insert(&self, jobs: Vec<Enqueued>) -> Result<Vec<Inserted>, StoreError> {
        let sql = Arc::clone(&self.shared.sql);
        self.shared.store.run(async move |client| insert(client, sql, &jobs).await).await
    }
}

/// CANCEL: dropped in the middle, because the runtime ends, it lets those go who wait if nobody
/// else works for them.
impl Drop for Turn {
    fn drop(&mut self) {
        if self.counts {
            let mut state = self.shared.state.lock();
            state.batches -= 1;
            let waiting = if state.batches == 0 {
                std::mem::take(&mut state.waiting)
            } else {
                VecDeque::new()
            };
            drop(state);
            drop(waiting);
        }
    }
}

fn one(answer: Option<Inserted>) -> Result<Inserted, StoreError> {
    answer.ok_or_else(|| super::session::defect("a job has no answer"))
}

/// Whether the error may be that of one row, and nothing was written.
fn is_of_one(error: &StoreError) -> bool {
    matches!(error, StoreError::Constraint { .. } | StoreError::Failed(_))
}

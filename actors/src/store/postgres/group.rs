//! Group commit: what many callers store is stored together.
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

use super::PgStore;
use crate::kernel::RequestContext;
use crate::store::StoreError;

/// LIMIT: batches under way at once; a second one fills the server's time while the first waits
/// for the disk.
const BATCHES_MAX: usize = 2;

/// LIMIT: items that wait; who comes later waits for room.
const WAITING_MAX: usize = 8_192;

/// LIMIT: how long one waits for all this, where no request has an earlier deadline.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// What is stored together, and how.
pub(crate) trait Batch: Send + Sync + 'static {
    /// What one caller wants stored.
    type Item: Clone + Send + 'static;
    /// What it is told.
    type Answer: Send + 'static;

    /// LIMIT: items of one batch.
    const ITEMS_MAX: usize;

    /// Stores some, and answers each, in their order. On an error nothing was written, unless that
    /// says otherwise.
    fn store(
        &self,
        store: &PgStore,
        items: Vec<Self::Item>,
    ) -> impl Future<Output = Result<Vec<Self::Answer>, StoreError>> + Send;
}

/// Collects single items and stores them together. Cheap to clone; clones share the batches.
pub(crate) struct Group<B: Batch>(Arc<Shared<B>>);

struct Shared<B: Batch> {
    store: PgStore,
    batch: B,
    state: Mutex<State<B>>,
    room: Arc<Semaphore>,
}

struct State<B: Batch> {
    waiting: VecDeque<Waiting<B>>,
    tickets: u64,
    batches: usize,
}

type Reply<A> = oneshot::Sender<Result<A, StoreError>>;

struct Waiting<B: Batch> {
    ticket: u64,
    item: B::Item,
    reply: Reply<B::Answer>,
    room: OwnedSemaphorePermit,
}

impl<B: Batch> State<B> {
    fn push(&mut self, item: B::Item, reply: Reply<B::Answer>, room: OwnedSemaphorePermit) -> u64 {
        self.tickets += 1;
        self.waiting.push_back(Waiting { ticket: self.tickets, item, reply, room });
        self.tickets
    }

    /// `false`: it does not wait any more, so its batch is under way.
    fn forget(&mut self, ticket: u64) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|waiting| waiting.ticket != ticket);
        self.waiting.len() < before
    }
}

impl<B: Batch> Group<B> {
    pub(crate) fn new(store: PgStore, batch: B) -> Self {
        let state = State { waiting: VecDeque::new(), tickets: 0, batches: 0 };
        let room = Arc::new(Semaphore::new(WAITING_MAX));
        Self(Arc::new(Shared { store, batch, state: Mutex::new(state), room }))
    }

    /// Stores one item together with those of others, at most until the deadline of the request.
    ///
    /// CANCEL: dropped while it waits for its batch, the item is stored all the same.
    pub(crate) async fn store(&self, item: B::Item) -> Result<B::Answer, StoreError> {
        let longest = Instant::now() + WAIT_MAX;
        let deadline = RequestContext::current().and_then(|context| context.deadline());
        let until = deadline.map_or(longest, |deadline| deadline.min(longest));
        let room = timeout_at(until, Arc::clone(&self.0.room).acquire_owned()).await;
        let room =
            room.map_err(|_late| StoreError::Timeout)?.map_err(|_gone| StoreError::Closed)?;
        let (reply, mut answer) = oneshot::channel();
        let ticket = self.0.state.lock().push(item, reply, room);
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

impl<B: Batch> Clone for Group<B> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<B: Batch> fmt::Debug for Group<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").finish_non_exhaustive()
    }
}

/// The right to have one batch under way.
struct Turn<B: Batch> {
    shared: Arc<Shared<B>>,
    /// Whether it counts; it stops to with the look that found nobody waiting.
    counts: bool,
}

impl<B: Batch> Turn<B> {
    fn take(shared: &Arc<Shared<B>>) -> Option<Self> {
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
    fn next(&mut self) -> Option<Vec<Waiting<B>>> {
        let mut state = self.shared.state.lock();
        let items = state.waiting.len().min(B::ITEMS_MAX);
        if items == 0 {
            state.batches -= 1;
            self.counts = false;
            return None;
        }
        Some(state.waiting.drain(..items).collect())
    }

    async fn store(&self, batch: Vec<Waiting<B>>) {
        let (items, replies): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|one| (one.item, (one.reply, one.room))).unzip();
        // Kept for the case that one of them spoils it for all.
        let spare = (items.len() > 1).then(|| items.clone());
        match (self.try_store(items).await, spare) {
            (Ok(answers), _) => {
                for ((reply, _room), answer) in replies.into_iter().zip(answers) {
                    drop(reply.send(Ok(answer)));
                }
            }
            (Err(error), Some(items)) if is_of_one(&error) => {
                for ((reply, _room), item) in replies.into_iter().zip(items) {
                    let answer = self.try_store(vec![item]).await;
                    drop(reply.send(answer.and_then(only)));
                }
            }
            (Err(error), _) => {
                for (reply, _room) in replies {
                    drop(reply.send(Err(error.clone())));
                }
            }
        }
    }

    async fn try_store(&self, items: Vec<B::Item>) -> Result<Vec<B::Answer>, StoreError> {
        self.shared.batch.store(&self.shared.store, items).await
    }
}

/// CANCEL: dropped in the middle, because the runtime ends, it lets those go who wait if nobody
/// else works for them.
impl<B: Batch> Drop for Turn<B> {
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

fn only<A>(answers: Vec<A>) -> Result<A, StoreError> {
    let none =
        || StoreError::Failed(StoreError::source(std::io::Error::other("an item has no answer")));
    answers.into_iter().next().ok_or_else(none)
}

/// Whether the error may be that of one item, and nothing was written.
const fn is_of_one(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Constraint { .. } | StoreError::EnumRejected { .. } | StoreError::Failed(_)
    )
}

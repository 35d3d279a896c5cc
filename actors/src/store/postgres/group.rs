//! Group commit: what many callers store is stored together.
//!
//! There is no timer. While the statements that are allowed at once are under way, what arrives
//! waits and forms the next one, so a lone caller waits for nobody and many share one commit.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::iter;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};

use super::PgStore;
use crate::kernel::RequestContext;
use crate::store::StoreError;

/// LIMIT: batches under way at once; a second one fills the server's time while the first waits
/// for the disk.
const BATCHES_MAX: usize = 2;

/// LIMIT: bytes of one batch, where its first item has not more.
const BYTES_MAX: usize = 8 * 1024 * 1024;

/// LIMIT: items under way at once, each for itself, once one of them has spoilt their batch. One that
/// waits for a lock must not keep the others waiting.
const ALONE_MAX: usize = 4;

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

    /// About how many bytes are sent for it.
    fn bytes(item: &Self::Item) -> usize;

    /// Whether it is stored although whoever wanted it waits no more.
    fn is_kept(item: &Self::Item) -> bool;

    /// Stores some, and answers each, in their order. On an error nothing was written, unless that
    /// says otherwise. Each is tried alone then if the error
    /// may be that of one: a constraint, or a statement that failed.
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
    /// Free again once it has its answer.
    _room: OwnedSemaphorePermit,
}

impl<B: Batch> Waiting<B> {
    fn is_wanted(&self) -> bool {
        !self.reply.is_closed() || B::is_kept(&self.item)
    }
}

impl<B: Batch> State<B> {
    fn push(&mut self, item: B::Item, reply: Reply<B::Answer>, room: OwnedSemaphorePermit) -> u64 {
        self.tickets += 1;
        self.waiting.push_back(Waiting { ticket: self.tickets, item, reply, _room: room });
        self.tickets
    }

    /// `false`: it does not wait any more, so its batch is under way.
    fn forget(&mut self, ticket: u64) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|waiting| waiting.ticket != ticket);
        self.waiting.len() < before
    }

    /// Those that may be stored together: the first of those that wait.
    fn take(&mut self) -> Vec<Waiting<B>> {
        let (mut batch, mut bytes) = (Vec::new(), 0_usize);
        while batch.len() < B::ITEMS_MAX
            && let Some(next) = self.waiting.pop_front()
        {
            if !next.is_wanted() {
                continue;
            }
            bytes = bytes.saturating_add(B::bytes(&next.item));
            if bytes > BYTES_MAX && !batch.is_empty() {
                self.waiting.push_front(next);
                break;
            }
            batch.push(next);
        }
        batch
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
    /// CANCEL: dropped while it waits for its batch, an item that is [kept](Batch::is_kept) is stored
    /// all the same; another is, if its batch is under way already.
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

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.0.state.lock().waiting.len()
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
        let batch = state.take();
        if batch.is_empty() {
            state.batches -= 1;
            self.counts = false;
            return None;
        }
        Some(batch)
    }

    async fn store(&self, batch: Vec<Waiting<B>>) {
        let items = batch.iter().map(|one| one.item.clone()).collect();
        match self.try_store(items).await {
            Ok(answers) => {
                for (one, answer) in batch.into_iter().zip(answers) {
                    drop(one.reply.send(Ok(answer)));
                }
            }
            Err(error) if batch.len() > 1 && is_of_one(&error) => {
                let alone = batch.into_iter().map(|one| self.store_alone(one));
                iter(alone).buffer_unordered(ALONE_MAX).for_each(async |()| {}).await;
            }
            Err(error) => {
                for one in batch {
                    drop(one.reply.send(Err(error.clone())));
                }
            }
        }
    }

    async fn store_alone(&self, one: Waiting<B>) {
        if one.is_wanted() {
            let answer = self.try_store(vec![one.item]).await;
            drop(one.reply.send(answer.and_then(only)));
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

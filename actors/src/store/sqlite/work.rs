//! One piece of work of one caller, and how it is answered.

use std::any::Any;
use std::cell::RefCell;
use std::ops::Deref;
use std::sync::Arc;

use rusqlite::{Connection, Transaction};
use tokio::sync::oneshot;

use crate::kernel::panic;
use crate::store::{StoreError, Wakes};

/// A transaction that is under way; use it as the connection that it is.
///
/// It must not be ended from within: work that runs `COMMIT` or `ROLLBACK` ends the transaction
/// of all the works it is grouped with.
#[derive(Debug, Clone, Copy)]
pub struct SqliteTx<'a> {
    connection: &'a Connection,
    bells: Option<&'a RefCell<Bells>>,
}

impl<'a> SqliteTx<'a> {
    /// A transaction of your own, on a connection of your own to the same file.
    ///
    /// The processes that use the file see its commit within 25 ms, this one too.
    #[must_use]
    pub fn new(transaction: &'a Transaction<'_>) -> Self {
        Self { connection: transaction, bells: None }
    }

    pub(super) const fn ours(connection: &'a Connection, bells: &'a RefCell<Bells>) -> Self {
        Self { connection, bells: Some(bells) }
    }

    /// Wakes who waits for this topic once the transaction is committed. Of a transaction made
    /// with [`new`](Self::new) nobody is told; its commit is noticed.
    pub fn wake(&self, topic: &str) {
        if let Some(bells) = self.bells {
            bells.borrow_mut().add(topic);
        }
    }
}

impl Deref for SqliteTx<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection
    }
}

/// Whom to wake after the commit.
#[derive(Debug, Default)]
pub(super) struct Bells {
    topics: Vec<Arc<str>>,
    all: bool,
}

impl Bells {
    /// LIMIT: beyond so many topics in one group everybody is woken.
    const TOPICS_MAX: usize = 128;

    fn add(&mut self, topic: &str) {
        if self.topics.iter().any(|known| &**known == topic) {
            return;
        }
        if self.topics.len() < Self::TOPICS_MAX {
            self.topics.push(topic.into());
        } else {
            self.all = true;
        }
    }

    pub(super) const fn mark(&self) -> usize {
        self.topics.len()
    }

    /// Forgets what came after the mark.
    pub(super) fn forget(&mut self, mark: usize) {
        self.topics.truncate(mark);
    }

    pub(super) fn clear(&mut self) {
        self.topics.clear();
        self.all = false;
    }

    pub(super) fn ring(&mut self, wakes: &Wakes) {
        if self.all {
            wakes.wake_all();
        } else {
            self.topics.iter().for_each(|topic| wakes.wake(topic));
        }
        self.clear();
    }
}

/// What a work may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

/// What becomes of what a work has done.
#[derive(Debug)]
pub(super) enum Verdict {
    Keep,
    /// Rolled back; with the reason, where the work's error says it in our words.
    Undo(Option<StoreError>),
}

/// One piece of work, whatever it returns.
pub(super) trait Work: Send {
    fn access(&self) -> Access;

    /// Whether nobody waits for the answer any more.
    fn is_abandoned(&self) -> bool;

    /// Runs it, once. Never panics.
    fn run(&mut self, tx: SqliteTx<'_>) -> Verdict;

    /// Tells its caller what came of it. `outcome` is that of the commit, or why it was not run.
    /// Never panics.
    fn answer(self: Box<Self>, outcome: Result<(), &StoreError>);
}

pub(super) type AnyWork = Box<dyn Work>;

pub(super) struct Task<F, T, E> {
    access: Access,
    state: State<F, T, E>,
    answer: oneshot::Sender<Result<T, E>>,
}

enum State<F, T, E> {
    Waits(F),
    Ran(Result<T, E>),
    /// Only while it runs.
    Runs,
}

impl<F, T, E> Task<F, T, E>
where
    F: FnOnce(SqliteTx<'_>) -> Result<T, E> + Send + 'static,
    T: Send + 'static,
    E: From<StoreError> + Send + 'static,
{
    pub(super) fn boxed(access: Access, work: F) -> (AnyWork, oneshot::Receiver<Result<T, E>>) {
        let (answer, answered) = oneshot::channel();
        (Box::new(Self { access, state: State::Waits(work), answer }), answered)
    }
}

impl<F, T, E> Work for Task<F, T, E>
where
    F: FnOnce(SqliteTx<'_>) -> Result<T, E> + Send + 'static,
    T: Send + 'static,
    E: From<StoreError> + Send + 'static,
{
    fn access(&self) -> Access {
        self.access
    }

    fn is_abandoned(&self) -> bool {
        self.answer.is_closed()
    }

    fn run(&mut self, tx: SqliteTx<'_>) -> Verdict {
        let State::Waits(work) = std::mem::replace(&mut self.state, State::Runs) else {
            return Verdict::Undo(None);
        };
        let result = panic::catch(move || work(tx));
        let result = result.unwrap_or_else(|caught| {
            let location = caught.location().unwrap_or("unknown");
            tracing::error!(panic = %caught.message(), location, "store.panicked");
            Err(StoreError::Panicked.into())
        });
        let verdict = match &result {
            Ok(_) => Verdict::Keep,
            Err(error) => Verdict::Undo((error as &dyn Any).downcast_ref::<StoreError>().cloned()),
        };
        self.state = State::Ran(result);
        verdict
    }

    fn answer(self: Box<Self>, outcome: Result<(), &StoreError>) {
        let answered = panic::catch(move || {
            let Self { state, answer, .. } = *self;
            let result = match (state, outcome) {
                // Its own error says more than that of the commit, which had nothing of it.
                (State::Ran(Err(error)), _) => Err(error),
                (State::Ran(Ok(value)), Ok(())) => Ok(value),
                (State::Ran(Ok(_)) | State::Waits(_) | State::Runs, Err(error)) => {
                    Err(error.clone().into())
                }
                (State::Waits(_) | State::Runs, Ok(())) => Err(StoreError::Closed.into()),
            };
            // Nobody may be there any more to be told; the result is dropped here then.
            answer.send(result).is_ok()
        });
        if let Err(caught) = answered {
            tracing::error!(panic = %caught.message(), "store.panic_in_drop");
        }
    }
}

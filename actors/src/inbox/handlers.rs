//! What handles events, and what it knows about its run.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio_postgres::Transaction;

use super::error::InboxError;
use super::event::{EventState, InboxId, StoredEvent};
use super::store::{self, Settle};
use crate::jobs::store::postgres::Session;
use crate::jobs::tx::{JobTx, PostgresTx, SqliteJobTx, at_once};
use crate::jobs::{JobCx, JobResult};
use crate::store::{SqliteTx, Store, WallClock};

/// The type that stands for every type without a handler of its own.
pub(super) const ANY: &str = "*";

type Begins = dyn Fn(StoredEvent, EventCx) -> BoxFuture<'static, JobResult> + Send + Sync;
type InSqlite = dyn Fn(&StoredEvent, &SqliteTx<'_>) -> JobResult + Send + Sync;
type InPostgres =
    dyn for<'a> Fn(&'a StoredEvent, &'a Transaction<'a>) -> BoxFuture<'a, JobResult> + Send + Sync;

/// What handles a type of events.
#[derive(Clone)]
pub(super) enum Handler {
    /// With a transaction of its own, or none.
    Future(Arc<Begins>),
    /// In the transaction that ends the event.
    Sqlite(Arc<InSqlite>),
    /// In the transaction that ends the event.
    Postgres(Arc<InPostgres>),
}

impl Handler {
    pub(super) fn future<F, Run>(handle: F) -> Self
    where
        F: Fn(StoredEvent, EventCx) -> Run + Send + Sync + 'static,
        Run: Future<Output = JobResult> + Send + 'static,
    {
        Self::Future(Arc::new(move |event, cx| handle(event, cx).boxed()))
    }
}

/// The handlers of all types of events.
#[derive(Default)]
pub(super) struct Handlers(HashMap<Arc<str>, HashMap<Arc<str>, Handler>>);

impl Handlers {
    pub(super) fn add(
        &mut self,
        source: &str,
        event_type: &str,
        handler: Handler,
    ) -> Result<(), InboxError> {
        let of_source = self.0.entry(source.into()).or_default();
        if of_source.contains_key(event_type) {
            return Err(InboxError::Taken(event_type.into()));
        }
        of_source.insert(event_type.into(), handler);
        Ok(())
    }

    pub(super) fn find(&self, source: &str, event_type: &str) -> Option<&Handler> {
        let of_source = self.0.get(source)?;
        of_source.get(event_type).or_else(|| of_source.get(ANY))
    }

    /// Whose events they are for.
    pub(super) fn sources(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(|source| &**source)
    }

    /// Whether all of them can run on this database.
    pub(super) fn fit(&self, store: &Store) -> bool {
        let mut all = self.0.values().flat_map(HashMap::values);
        all.all(|handler| match (handler, store) {
            (Handler::Future(_), _)
            | (Handler::Sqlite(_), Store::Sqlite(_))
            | (Handler::Postgres(_), Store::Postgres(_)) => true,
            (Handler::Sqlite(_), Store::Postgres(_)) | (Handler::Postgres(_), Store::Sqlite(_)) => {
                false
            }
        })
    }
}

/// What a handler knows about its run. Cheap to clone.
#[derive(Clone)]
pub struct EventCx(Arc<Inner>);

struct Inner {
    id: InboxId,
    job: JobCx,
    store: Store,
    clock: WallClock,
    /// Whether the end is in the handler's own transaction.
    completed: AtomicBool,
}

impl EventCx {
    pub(super) fn new(id: InboxId, job: JobCx, store: Store, clock: WallClock) -> Self {
        let completed = AtomicBool::new(false);
        Self(Arc::new(Inner { id, job, store, clock, completed }))
    }

    /// The run of the job: attempts, deadline, cancellation.
    #[must_use]
    pub fn job(&self) -> &JobCx {
        &self.0.job
    }

    /// A key that is the same in every run of this event, also after a replay: for a service that
    /// drops repeats.
    #[must_use]
    pub fn idempotency_key(&self) -> String {
        format!("inbox-{}", self.0.id)
    }

    /// Ends the event in the handler's own transaction on SQLite: what the handler did and that
    /// the event is done become true together, or not at all. Return `Ok(())` after the commit.
    ///
    /// # Errors
    ///
    /// [`InboxError::Superseded`] and [`JobsError::Fenced`](crate::jobs::JobsError::Fenced):
    /// another run has the say over the event. Roll back.
    pub fn complete_in(&self, tx: &SqliteTx<'_>) -> Result<(), InboxError> {
        match &self.0.store {
            Store::Sqlite(_) => at_once(self.end(&SqliteJobTx::new(tx), EventState::Done)),
            Store::Postgres(_) => Err(InboxError::ForeignTransaction),
        }
    }

    /// The same on PostgreSQL.
    ///
    /// # Errors
    ///
    /// [`InboxError::Superseded`] and [`JobsError::Fenced`](crate::jobs::JobsError::Fenced):
    /// another run has the say over the event. Roll back.
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves it open whether the transaction has the end in it: roll back.
    pub async fn complete_in_postgres(&self, tx: &Transaction<'_>) -> Result<(), InboxError> {
        self.complete_within(Session::foreign(tx)).await
    }

    /// The same in a transaction that sqlx has begun on PostgreSQL. Feature `sqlx`.
    ///
    /// # Errors
    ///
    /// [`InboxError::Superseded`] and [`JobsError::Fenced`](crate::jobs::JobsError::Fenced):
    /// another run has the say over the event. Roll back.
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves it open whether the transaction has the end in it: roll back.
    #[cfg(feature = "sqlx")]
    pub async fn complete_in_sqlx(
        &self,
        tx: &mut sqlx::Transaction<'_, sqlx::Postgres>,
    ) -> Result<(), InboxError> {
        let connection = crate::jobs::store::postgres::SqlxConnection::new(tx);
        self.complete_within(Session::sqlx(&connection)).await
    }

    async fn complete_within(&self, session: Session<'_>) -> Result<(), InboxError> {
        match &self.0.store {
            Store::Sqlite(_) => Err(InboxError::ForeignTransaction),
            Store::Postgres(store) => {
                self.end(&PostgresTx::new(session, store.schema()), EventState::Done).await
            }
        }
    }

    /// Ends the event and its job.
    pub(super) async fn end(&self, tx: &impl JobTx, state: EventState) -> Result<(), InboxError> {
        let settle = Settle { id: self.0.id, job: self.0.job.id(), state, now: self.0.clock.now() };
        if !store::settle(tx, &settle).await? {
            return Err(InboxError::Superseded);
        }
        tx.complete(&self.0.job).await?;
        self.0.completed.store(true, Ordering::Release);
        Ok(())
    }

    /// Whether the end may be in the tables already, if the handler's transaction was committed.
    pub(super) fn is_completed(&self) -> bool {
        self.0.completed.load(Ordering::Acquire)
    }
}

impl fmt::Debug for EventCx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventCx").field("id", &self.0.id).field("job", &self.0.job).finish()
    }
}

impl fmt::Debug for Handlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let types = self.0.iter().map(|(source, types)| (source, types.keys().collect::<Vec<_>>()));
        f.debug_map().entries(types).finish()
    }
}

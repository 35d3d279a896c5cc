//! PostgreSQL, for where one machine is outgrown.
//!
//! # Guarantees
//!
//! - Nothing waits without an end: connecting, waiting for a connection, a statement, a lock, an
//!   idle transaction and a whole [`run`](PgStore::run) are each bounded, also when the server
//!   or a proxy keeps the connection open and says nothing.
//! - Work that nobody waits for any more is stopped on the server, and its connection is never
//!   used again, so that a late cancel request cannot stop somebody else's statement.
//! - News of other processes arrive at once while one connection listens. They are hints: after
//!   each reconnect everybody is woken, and whoever waits also polls.
//! - Only the library's own schema is touched. Two services with different schemas in one
//!   database do not notice each other.
//!
//! Connections are polled on a runtime of the store's own with one thread, so that no caller's
//! runtime takes them with it when it ends, and no caller that blocks its thread stops them.
//!
//! # Events
//!
//! | event | level | when |
//! |---|---|---|
//! | `store.listening` | info | news of other processes arrive at once |
//! | `store.listen_lost` | warn | they do not; a new connection will be tried |
//! | `store.migrated` | info | a migration was applied |
//! | `store.connection_lost` | debug | a connection of the pool broke |
//! | `store.notify_failed` | debug | others could not be told; it will be tried again |
//! | `store.cancel_failed` | debug | a statement could not be stopped on the server |

mod client;
mod config;
mod connect;
mod error;
mod group;
mod listen;
mod migrate;
mod notify;
mod pool;

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout, timeout_at};

pub use client::PgClient;
pub use config::PgOptions;
#[cfg(feature = "sqlx")]
pub(crate) use error::refused;
pub use error::{commit, outcome};
pub(crate) use group::{Batch, Group};
pub use listen::Listening;
pub(crate) use notify::{NOTIFY, payload};

use super::{AppliedMigration, StoreError, Wakes, migrations};
use crate::kernel::RequestContext;
use client::{AbandonOnDrop, Canceller};
use config::Settings;
use connect::Connector;
use listen::Listener;
use notify::Notifier;
use pool::Connections;

/// How long work whose statement was stopped may take to say how it ended.
const GRACE: Duration = Duration::from_millis(250);

/// How long closing waits for the last news to be told.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A PostgreSQL database as the durable store. Cheap to clone; clones share everything. The
/// last one to be dropped closes its connections, without waiting for them.
#[derive(Clone)]
pub struct PgStore {
    inner: Arc<Inner>,
}

struct Inner {
    connections: Connections,
    canceller: Canceller,
    notifier: Arc<Notifier>,
    wakes: Wakes,
    schema: Arc<str>,
    call_timeout: Duration,
    listening: Arc<Mutex<Listening>>,
    listener: Option<AbortHandle>,
    limit: usize,
    runtime: OwnRuntime,
}

impl PgStore {
    /// Connects, brings the library's tables up to date, and begins to listen.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] when the server cannot be reached within the connect timeout:
    /// try again. [`StoreError::Credentials`], [`StoreError::Untrusted`],
    /// [`StoreError::InvalidSetting`]: correct the options. [`StoreError::ReadOnly`]: the tables
    /// are not there and the role may not make them; see
    /// [`print_migrations`](Self::print_migrations). [`StoreError::NewerSchema`] and
    /// [`StoreError::MigrationChanged`]: this process does not fit the tables.
    ///
    /// # Cancel safety
    ///
    /// Dropping this may leave some migrations applied, each wholly or not at all.
    pub async fn connect(options: PgOptions) -> Result<Self, StoreError> {
        let settings = options.check()?;
        let runtime = OwnRuntime::start()?;
        let connector = Connector::new(&settings, runtime.handle()).await?;
        let mut first = connector.open_driven().await?;
        let known = migrations::ALL;
        migrate::migrate(&mut first.client, &settings.schema, known, migrate::TURN).await?;
        Self::start(&settings, connector, runtime)
    }

    /// A connection of the pool. Its statements are bounded by the server alone: prefer
    /// [`run`](Self::run), which stops them when nobody waits any more.
    ///
    /// # Errors
    ///
    /// [`StoreError::Timeout`] when none is free in time, [`StoreError::Closed`], or as for
    /// [`connect`](Self::connect).
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing is lost.
    pub async fn client(&self) -> Result<PgClient, StoreError> {
        let pooled = self.inner.connections.get().await?;
        Ok(PgClient::new(pooled, Arc::clone(&self.inner)))
    }

    /// Runs `work` with a connection, at most until the deadline of the request this is called
    /// in and for the call timeout.
    ///
    /// When that is over, the statement under way is stopped on the server, and `work` gets a
    /// moment to say how it ended: mostly with [`StoreError::Timeout`]. If it says nothing, the
    /// answer is [`StoreError::OutcomeUnknown`], because what it sent may have been done.
    ///
    /// # Errors
    ///
    /// What `work` returns, and what [`client`](Self::client) does.
    ///
    /// # Cancel safety
    ///
    /// Dropping this stops the statement under way. An open transaction is rolled back; whether
    /// a commit under way is made stays open.
    pub fn run<T, E, F>(
        &self,
        work: impl FnOnce(PgClient) -> F + Send + 'static,
    ) -> impl Future<Output = Result<T, E>> + Send + 'static
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        E: From<StoreError> + Send,
    {
        self.run_for(self.inner.call_timeout, work)
    }

    /// The same for at most so long, instead of the call timeout.
    pub(crate) fn run_for<T, E, F>(
        &self,
        longest: Duration,
        work: impl FnOnce(PgClient) -> F + Send + 'static,
    ) -> impl Future<Output = Result<T, E>> + Send + 'static
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        E: From<StoreError> + Send,
    {
        let store = self.clone();
        let longest = Instant::now() + longest;
        let deadline = RequestContext::current().and_then(|context| context.deadline());
        let until = deadline.map_or(longest, |deadline| deadline.min(longest));
        async move {
            let lent = timeout_at(until, store.client()).await.unwrap_or(Err(StoreError::Timeout));
            store.work(work, lent?, until).await
        }
    }

    /// The schema that the library owns.
    #[must_use]
    pub fn schema(&self) -> &str {
        &self.inner.schema
    }

    /// `template` with the schema for each `{schema}`.
    #[must_use]
    pub fn sql(&self, template: &str) -> String {
        template.replace("{schema}", &self.inner.schema)
    }

    /// Who waits for news, of this process and of others.
    #[must_use]
    pub fn wakes(&self) -> &Wakes {
        &self.inner.wakes
    }

    /// Tells the other processes that `topic` has something new: at once, and at most once in
    /// 5 ms per topic; what is told meanwhile is told after them. Never in the caller's
    /// transaction, so call it after the commit. Does not block.
    pub fn notify(&self, topic: &str) {
        self.inner.notifier.notify(topic);
    }

    /// Asks the server whether it answers.
    ///
    /// # Errors
    ///
    /// As for [`run`](Self::run).
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing is written.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let asked = self.run(async |client| {
            client.simple_query("select 1").await?;
            Ok(())
        });
        asked.await
    }

    /// How its connections are.
    #[must_use]
    pub fn status(&self) -> PgStatus {
        let pool = self.inner.connections.status();
        PgStatus {
            limit: self.inner.limit,
            idle: pool.available,
            in_use: pool.size.saturating_sub(pool.available),
            waiting: pool.waiting,
            listening: *self.inner.listening.lock(),
        }
    }

    /// The migrations that the database has, in order.
    ///
    /// # Errors
    ///
    /// As for [`run`](Self::run).
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing is written.
    pub async fn applied_migrations(&self) -> Result<Vec<AppliedMigration>, StoreError> {
        let schema = Arc::clone(&self.inner.schema);
        self.run(async move |client| migrate::applied(&client, &schema).await).await
    }

    /// All migrations as a script for `psql`, for where a process may not make tables itself.
    ///
    /// # Errors
    ///
    /// [`StoreError::InvalidSetting`] when `schema` cannot be the name of one.
    pub fn print_migrations(schema: &str) -> Result<String, StoreError> {
        migrate::script(schema, migrations::ALL)
    }

    /// Tells others what they are still to be told, closes idle connections at once and those in
    /// use when they are given back. Later calls are [`StoreError::Closed`].
    ///
    /// # Cancel safety
    ///
    /// Dropping this leaves the store open or closed.
    pub async fn close(&self) {
        let last_words = timeout(LAST_WORDS, self.inner.notifier.flush(self.clone())).await;
        if !matches!(last_words, Ok(Ok(()))) {
            tracing::debug!("store.notify_failed");
        }
        self.inner.connections.close();
        if let Some(listener) = &self.inner.listener {
            listener.abort();
        }
        *self.inner.listening.lock() = Listening::Off;
    }

    /// Runs work that no caller may take with it, on the store's own runtime. Not for work that
    /// blocks its thread.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        drop(self.inner.runtime.handle().spawn(work));
    }

    fn start(
        settings: &Settings,
        connector: Connector,
        runtime: OwnRuntime,
    ) -> Result<Self, StoreError> {
        let wakes = Wakes::default();
        let connections = Connections::new(connector.clone(), settings)?;
        let down = Listening::Down { since: Instant::now() };
        let state = if settings.listen { down } else { Listening::Off };
        let listening = Arc::new(Mutex::new(state));
        let listener = settings.listen.then(|| Listener {
            connector: connector.clone(),
            schema: Arc::clone(&settings.schema),
            wakes: wakes.clone(),
            state: Arc::clone(&listening),
            ping_every: settings.ping_every,
            answer_within: settings.connect_timeout,
        });
        let handle = runtime.handle().clone();
        let inner = Arc::new(Inner {
            connections,
            canceller: Canceller::new(connector),
            notifier: Arc::default(),
            wakes,
            schema: Arc::clone(&settings.schema),
            call_timeout: settings.call_timeout,
            listening,
            listener: listener.map(|listener| handle.spawn(listener.run()).abort_handle()),
            limit: settings.connections,
            runtime,
        });
        handle.spawn(Arc::clone(&inner.notifier).run(Arc::downgrade(&inner)));
        Ok(Self { inner })
    }

    async fn work<T, E, F>(
        &self,
        work: impl FnOnce(PgClient) -> F,
        client: PgClient,
        until: Instant,
    ) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
        E: From<StoreError>,
    {
        let lease = client.lease();
        let mut work = pin!(work(client));
        // CANCEL: declared after `work` and so dropped before it: the connection learns that it
        // was abandoned before it is given back.
        let mut guard = AbandonOnDrop::new(lease);
        if let Ok(done) = timeout_at(until, &mut work).await {
            guard.disarm();
            return done;
        }
        let stopped = guard.abandon();
        match timeout(GRACE, &mut work).await {
            Ok(done) => done,
            Err(_) => {
                if stopped {
                    self.inner.connections.forget_idle();
                }
                let silence = error::silence("no answer in time, not even to its cancellation");
                Err(StoreError::OutcomeUnknown(silence).into())
            }
        }
    }
}

impl fmt::Debug for PgStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgStore")
            .field("schema", &self.inner.schema)
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

/// How the connections of a store are. A connection found dead still counts as idle until
/// somebody wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PgStatus {
    /// Connections the pool makes at most.
    pub limit: usize,
    /// Connections nobody uses.
    pub idle: usize,
    /// Connections lent or being made.
    pub in_use: usize,
    /// Callers that wait for a connection.
    pub waiting: usize,
    /// Whether news of other processes arrive at once.
    pub listening: Listening,
}

/// A runtime with one thread that ends without being waited for: dropping a runtime where one
/// must not block is a panic.
struct OwnRuntime {
    runtime: Option<Runtime>,
    handle: Handle,
}

impl OwnRuntime {
    fn start() -> Result<Self, StoreError> {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(1).max_blocking_threads(2).thread_name("steadfast-pg").enable_all();
        let runtime =
            builder.build().map_err(|error| StoreError::Failed(StoreError::source(error)));
        runtime.map(|runtime| Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    const fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

//! The pool: which connections are kept, and which are thrown away.

use std::time::Duration;

use deadpool::managed::{self, Metrics, Pool, PoolError, QueueMode, RecycleError, RecycleResult};
use deadpool_postgres::Runtime;

use super::config::Settings;
use super::connect::{Connector, Driven};
use super::error::unreachable;
use crate::store::StoreError;

/// How long an idle connection may take to say that it lives.
const ANSWER: Duration = Duration::from_secs(1);

/// A connection of the pool.
pub(super) type Pooled = managed::Object<Manager>;

/// The connections of a store.
pub(super) struct Connections {
    pool: Pool<Manager>,
    acquire_within: Duration,
}

impl Connections {
    pub(super) fn new(connector: Connector, settings: &Settings) -> Result<Self, StoreError> {
        let pool = Pool::builder(Manager { connector, quiet: settings.quiet })
            .max_size(settings.connections)
            .wait_timeout(Some(settings.acquire_timeout))
            .recycle_timeout(Some(ANSWER))
            .queue_mode(QueueMode::Lifo)
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| StoreError::Failed(StoreError::source(error)))?;
        // Connecting is bounded by itself; many dead connections in a row are not.
        let acquire_within = settings.acquire_timeout + settings.connect_timeout;
        Ok(Self { pool, acquire_within })
    }

    pub(super) async fn get(&self) -> Result<Pooled, StoreError> {
        match tokio::time::timeout(self.acquire_within, self.pool.get()).await {
            Ok(Ok(pooled)) => Ok(pooled),
            Ok(Err(PoolError::Backend(error))) => Err(error),
            Ok(Err(PoolError::Closed)) => Err(StoreError::Closed),
            Ok(Err(PoolError::Timeout(_))) => Err(StoreError::Timeout),
            Ok(Err(PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_))) => {
                Err(unreachable("the pool has no runtime"))
            }
            Err(_) => {
                self.forget_idle();
                Err(unreachable("no connection of the pool answers"))
            }
        }
    }

    /// Closes what nobody uses: when one peer is found dead, the others are dead as well.
    pub(super) fn forget_idle(&self) {
        drop(self.pool.retain(|_, _| false));
    }

    pub(super) fn close(&self) {
        self.pool.close();
    }

    pub(super) fn status(&self) -> deadpool_postgres::Status {
        self.pool.status()
    }
}

/// Makes connections and judges those that come back.
pub(super) struct Manager {
    connector: Connector,
    quiet: Duration,
}

impl managed::Manager for Manager {
    type Type = Lent;
    type Error = StoreError;

    async fn create(&self) -> Result<Lent, StoreError> {
        Ok(Lent { driven: self.connector.open_driven().await?, doomed: false })
    }

    async fn recycle(&self, lent: &mut Lent, metrics: &Metrics) -> RecycleResult<StoreError> {
        if lent.doomed || lent.driven.client.is_closed() {
            return Err(RecycleError::message("the connection is closed"));
        }
        if metrics.last_used() > self.quiet {
            let asked = lent.driven.client.simple_query("").await;
            asked.map_err(|error| RecycleError::Backend(error.into()))?;
        }
        Ok(())
    }
}

/// A connection as the pool keeps it.
pub(super) struct Lent {
    pub(super) driven: Driven,
    doomed: bool,
}

impl Lent {
    /// Closes it at once and for good.
    ///
    /// INVARIANT: a connection for which a cancel request was sent is never lent again. The
    /// server acts on the request whenever it gets to it, and would stop another's statement.
    pub(super) fn doom(&mut self) {
        self.doomed = true;
        self.driven.close.abort();
    }
}

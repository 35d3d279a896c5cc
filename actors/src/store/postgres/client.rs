//! A connection that is lent, and what stops its statement when nobody waits any more.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use deadpool_postgres::ClientWrapper;
use tokio::sync::Semaphore;
use tokio_postgres::CancelToken;

use super::Inner;
use super::connect::Connector;
use super::pool::Pooled;

/// A connection of the pool, which gets it back when this is dropped.
///
/// A [`ClientWrapper`] behind `Deref`: `prepare_cached`, `query`, `transaction` and the rest.
pub struct PgClient {
    pooled: Pooled,
    lease: Arc<Lease>,
    /// Keeps the runtime that polls the connection.
    _store: Arc<Inner>,
}

impl PgClient {
    pub(super) fn new(pooled: Pooled, store: Arc<Inner>) -> Self {
        let lease = Lease {
            state: AtomicU8::new(Lease::HELD),
            token: pooled.driven.client.cancel_token(),
            canceller: store.canceller.clone(),
        };
        Self { pooled, lease: Arc::new(lease), _store: store }
    }

    pub(super) fn lease(&self) -> Arc<Lease> {
        Arc::clone(&self.lease)
    }
}

impl Deref for PgClient {
    type Target = ClientWrapper;

    fn deref(&self) -> &ClientWrapper {
        &self.pooled.driven.client
    }
}

impl DerefMut for PgClient {
    fn deref_mut(&mut self) -> &mut ClientWrapper {
        &mut self.pooled.driven.client
    }
}

impl Drop for PgClient {
    fn drop(&mut self) {
        if !self.lease.give_back() {
            self.pooled.doom();
        }
    }
}

impl fmt::Debug for PgClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgClient").finish_non_exhaustive()
    }
}

/// Who has the say over a connection: whoever it was lent to, or whoever gave up on them.
pub(super) struct Lease {
    state: AtomicU8,
    token: CancelToken,
    canceller: Canceller,
}

impl Lease {
    const HELD: u8 = 0;
    const RETURNED: u8 = 1;
    const ABANDONED: u8 = 2;

    /// Stops the statement under way on the server. `false`, and nothing is stopped: the
    /// connection was given back already, and may work for somebody else by now.
    pub(super) fn abandon(&self) -> bool {
        let abandoned = self.leave(Self::ABANDONED);
        if abandoned {
            self.canceller.cancel(self.token.clone());
        }
        abandoned
    }

    /// `false`: it was abandoned before.
    fn give_back(&self) -> bool {
        self.leave(Self::RETURNED)
    }

    fn leave(&self, to: u8) -> bool {
        self.state.compare_exchange(Self::HELD, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// Abandons a lease when it is dropped before its work is done.
pub(super) struct AbandonOnDrop(Option<Arc<Lease>>);

impl AbandonOnDrop {
    pub(super) fn new(lease: Arc<Lease>) -> Self {
        Self(Some(lease))
    }

    /// The work is done.
    pub(super) fn disarm(&mut self) {
        self.0 = None;
    }

    /// Gives up on the work now. Whether it still held its connection.
    pub(super) fn abandon(&mut self) -> bool {
        self.0.take().is_some_and(|lease| lease.abandon())
    }
}

impl Drop for AbandonOnDrop {
    fn drop(&mut self) {
        self.abandon();
    }
}

/// Sends cancel requests.
#[derive(Clone)]
pub(super) struct Canceller {
    connector: Connector,
    permits: Arc<Semaphore>,
}

impl Canceller {
    pub(super) fn new(connector: Connector) -> Self {
        // LIMIT: each request is a connection of its own. Beyond this none is sent, and the
        // server's statement timeout ends what nobody waits for.
        Self { connector, permits: Arc::new(Semaphore::new(32)) }
    }

    fn cancel(&self, token: CancelToken) {
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            self.connector.cancel(token, permit);
        }
    }
}

//! Which requests are being served, and whether the server still wants more.
//!
//! The request middleware enters every request; the drain sequence closes the gate,
//! waits until nobody is left, and cuts off whoever stays too long. The two share
//! nothing else.

use std::cmp::Reverse;
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::table::{InFlightRequests, Table};

/// Counts the requests in flight over all workers. Cheap to clone; clones share one count.
///
/// A request is in flight from its head until nothing of the application runs for it any more: to
/// the end of its handler, or to the last byte of a body that streams, or until it is dropped. Keep
/// the [`InFlightGuard`] that long. Whether the client takes what it was answered is no part of it.
#[derive(Clone, Default)]
pub struct InFlight(Arc<Shared>);

#[derive(Default)]
struct Shared {
    count: AtomicUsize,
    closing: AtomicBool,
    used: AtomicBool,
    idle: Notify,
    cut: CancellationToken,
    /// One of each worker's app.
    tables: Mutex<Vec<Weak<Table>>>,
}

impl InFlight {
    /// Nobody in flight, open.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts one request until the guard is dropped. Never refuses: a request that
    /// reached the server is served, also while it closes.
    #[must_use = "the request counts only as long as the guard lives"]
    pub fn enter(&self) -> InFlightGuard {
        self.0.count.fetch_add(1, Ordering::AcqRel);
        if !self.0.used.load(Ordering::Relaxed) {
            self.0.used.store(true, Ordering::Relaxed);
        }
        InFlightGuard(self.clone())
    }

    /// How many requests are in flight now.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.count.load(Ordering::Acquire)
    }

    /// Whether anybody counts: `false` until the first [`enter`](Self::enter).
    pub(crate) fn is_used(&self) -> bool {
        self.0.used.load(Ordering::Relaxed)
    }

    /// The requests in flight: which, since when, until when, and how far they have come.
    ///
    /// Cheap enough to be asked every second. It takes no part in the workers' event loops, so it
    /// answers also when they are stuck.
    #[must_use]
    pub fn requests(&self) -> InFlightRequests {
        let tables: Vec<_> = self.0.tables.lock().iter().filter_map(Weak::upgrade).collect();
        let mut all = InFlightRequests::default();
        let now = Instant::now();
        tables.iter().for_each(|table| table.read(now, &mut all));
        all.requests.sort_by_key(|request| Reverse(request.age));
        all
    }

    /// A table for the requests of one more worker.
    pub(super) fn table(&self) -> Arc<Table> {
        let table = Arc::default();
        let mut tables = self.0.tables.lock();
        tables.retain(|table| table.strong_count() > 0);
        tables.push(Arc::downgrade(&table));
        table
    }

    /// Waits until no request is in flight. Completes at once when there is none.
    ///
    /// # Cancel safety
    ///
    /// Dropping it changes nothing.
    pub fn idle(&self) -> impl Future<Output = ()> + use<> {
        let shared = Arc::clone(&self.0);
        async move {
            loop {
                // ORDER: registered before the count is read, so that a guard dropped in
                // between wakes us.
                let idle = shared.idle.notified();
                tokio::pin!(idle);
                idle.as_mut().enable();
                if shared.count.load(Ordering::Acquire) == 0 {
                    return;
                }
                idle.await;
            }
        }
    }

    /// Asks clients to leave: from now on HTTP/1 responses carry `Connection: close`.
    pub fn close(&self) {
        self.0.closing.store(true, Ordering::Release);
    }

    /// Whether responses should carry `Connection: close`.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.0.closing.load(Ordering::Acquire)
    }

    /// Gives up every request still in flight, and each that comes later. Also closes.
    pub fn cut(&self) {
        self.close();
        self.0.cut.cancel();
    }

    /// Is cancelled by [`cut`](Self::cut). A request that sees it stops with
    /// [`Stopped::Shutdown`](steadfast_actors::kernel::Stopped::Shutdown).
    #[must_use]
    pub fn cut_token(&self) -> &CancellationToken {
        &self.0.cut
    }
}

impl fmt::Debug for InFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InFlight")
            .field("count", &self.count())
            .field("closing", &self.is_closing())
            .field("cut", &self.0.cut.is_cancelled())
            .finish()
    }
}

/// One request in flight; dropping it ends the request.
#[derive(Debug)]
pub struct InFlightGuard(InFlight);

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        if self.0.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.0.idle.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn counts_until_the_guard_is_dropped() {
        let flights = InFlight::new();
        let first = flights.enter();
        let second = flights.clone().enter();
        assert_eq!(flights.count(), 2);
        drop(first);
        assert_eq!(flights.count(), 1);
        drop(second);
        assert_eq!(flights.count(), 0);
    }

    #[tokio::test]
    async fn is_idle_exactly_when_the_last_guard_is_gone() {
        let flights = InFlight::new();
        flights.idle().await;
        let guards = [flights.enter(), flights.enter()];
        let idle = flights.idle();
        tokio::pin!(idle);
        for guard in guards {
            assert!(idle.as_mut().now_or_never().is_none(), "{flights:?}");
            drop(guard);
        }
        idle.await;
    }

    #[test]
    fn a_cut_closes_too_and_a_close_does_not_cut() {
        let flights = InFlight::new();
        flights.close();
        assert!(flights.is_closing() && !flights.cut_token().is_cancelled());
        let flights = InFlight::new();
        flights.cut();
        assert!(flights.is_closing() && flights.cut_token().is_cancelled());
    }
}

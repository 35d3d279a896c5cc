//! The shell around [`Shared`]: a mailbox, a timer, and the thread that loaders run on.
//!
//! **Invariant:** which load may run is decided in `state.rs`. No user code runs in a
//! handler here, so nothing a loader does can take the actor down; and nothing that
//! must survive a restart is kept here.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use actix::{Actor, AsyncContext, Handler};

use super::loader::Key;
use super::messages::{Clear, Fill, Invalidate, Refresh};
use super::shared::Shared;
use crate::kernel::{Context, Reply};

/// How often the queue and the cool-downs are looked through.
const SWEEP: Duration = Duration::from_secs(1);

/// The actor behind a [`Cache`](super::Cache): admits loads, within the limits, to run
/// on its thread. Each load holds its place in the mailbox until it ends, so the
/// tree shows the loads under way as its depth, and a stop waits for them. Loads that
/// outlived a restart are not waited for: a stop ends them, and their waiters are told.
pub struct CacheFill<K: Key, V: Send + Sync + 'static> {
    shared: Arc<Shared<K, V>>,
}

impl<K: Key, V: Send + Sync + 'static> CacheFill<K, V> {
    pub(super) const fn new(shared: Arc<Shared<K, V>>) -> Self {
        Self { shared }
    }
}

impl<K: Key, V: Send + Sync + 'static> Actor for CacheFill<K, V> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(SWEEP, |actor, _| actor.shared.sweep());
        if self.shared.settle_here() {
            self.shared.spawn(keep(Arc::downgrade(&self.shared)));
        }
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        self.shared.close();
    }
}

/// Closes the cache when the runtime of its loads ends, whichever way: what was queued
/// for it would wait for ever.
async fn keep<K: Key, V: Send + Sync + 'static>(shared: Weak<Shared<K, V>>) {
    let _close = CloseOnDrop(shared);
    std::future::pending::<()>().await;
}

struct CloseOnDrop<K: Key, V: Send + Sync + 'static>(Weak<Shared<K, V>>);

impl<K: Key, V: Send + Sync + 'static> Drop for CloseOnDrop<K, V> {
    fn drop(&mut self) {
        if let Some(shared) = self.0.upgrade() {
            shared.close();
        }
    }
}

impl<K: Key, V: Send + Sync + 'static> Handler<Fill<K, V>> for CacheFill<K, V> {
    type Result = Reply<()>;

    fn handle(&mut self, message: Fill<K, V>, _: &mut Self::Context) -> Self::Result {
        let Some(guard) = message.0.lock().take() else { return Reply::ready(()) };
        let done = guard.flight.done.clone();
        self.shared.admit(guard);
        if done.is_cancelled() {
            return Reply::ready(());
        }
        Reply::task(async move { done.cancelled().await })
    }
}

impl<K: Key, V: Send + Sync + 'static> Handler<Refresh<K>> for CacheFill<K, V> {
    type Result = ();

    fn handle(&mut self, message: Refresh<K>, _: &mut Self::Context) {
        if let Some(guard) = self.shared.begin_unattended(message.key) {
            self.shared.admit(guard);
        }
    }
}

impl<K: Key, V: Send + Sync + 'static> Handler<Invalidate<K>> for CacheFill<K, V> {
    type Result = bool;

    fn handle(&mut self, message: Invalidate<K>, _: &mut Self::Context) -> bool {
        self.shared.invalidate(&message.key)
    }
}

impl<K: Key, V: Send + Sync + 'static> Handler<Clear> for CacheFill<K, V> {
    type Result = ();

    fn handle(&mut self, _: Clear, _: &mut Self::Context) {
        self.shared.clear();
    }
}

impl<K: Key, V: Send + Sync + 'static> fmt::Debug for CacheFill<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheFill").field("name", &self.shared.name).finish_non_exhaustive()
    }
}

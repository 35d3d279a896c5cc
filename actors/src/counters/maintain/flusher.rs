//! The actor that folds deltas into their counters, again and again.

use std::fmt;
use std::sync::Arc;

use actix::{Actor, AsyncContext};
use tokio::time::sleep;

use crate::counters::core::Core;
use crate::kernel::Context;

/// Folds what [`Maintain::Deferred`](crate::counters::Maintain::Deferred) counters have to be
/// changed by. Each process has one; they do not get into each other's way. It keeps nothing: what
/// is not folded is in the tables, and repair knows of it.
pub struct CounterFlush {
    core: Arc<Core>,
}

impl CounterFlush {
    pub(in crate::counters) const fn new(core: Arc<Core>) -> Self {
        Self { core }
    }
}

impl Actor for CounterFlush {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.spawn(actix::fut::wrap_future(flush(Arc::clone(&self.core))));
    }
}

async fn flush(core: Arc<Core>) {
    let mut failing = false;
    loop {
        sleep(core.flush_every).await;
        match core.flush().await {
            Ok(folded) => {
                failing = false;
                if folded > 0 {
                    tracing::trace!(folded, "counters.flushed");
                }
            }
            Err(error) if !failing => {
                failing = true;
                tracing::warn!(%error, "counters.not_flushed");
            }
            Err(_) => {}
        }
    }
}

impl fmt::Debug for CounterFlush {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CounterFlush").finish_non_exhaustive()
    }
}

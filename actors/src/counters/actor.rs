//! The shell: a bounded mailbox and a deadline in front of the store.

use std::fmt;
use std::sync::Arc;

use actix::{Actor, Handler};

use super::core::Shared;
use super::messages::Operation;
use crate::kernel::{Context, Reply};

/// Starts runs and reads their reports. It keeps nothing: runs are jobs, and how far they are is
/// in the tables. [`Counters`](super::Counters) is its handle.
pub struct CounterRepair {
    shared: Arc<Shared>,
}

impl CounterRepair {
    pub(super) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

impl Actor for CounterRepair {
    type Context = Context<Self>;
}

impl<M> Handler<M> for CounterRepair
where
    M: Operation,
    M::Result: Send,
{
    type Result = Reply<M::Result>;

    fn handle(&mut self, message: M, _: &mut Self::Context) -> Self::Result {
        Reply::task(message.perform(Arc::clone(&self.shared)))
    }
}

impl fmt::Debug for CounterRepair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CounterRepair").finish_non_exhaustive()
    }
}

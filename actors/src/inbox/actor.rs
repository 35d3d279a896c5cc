//! The shell: a bounded mailbox and a deadline in front of the store.

use std::fmt;
use std::sync::Arc;

use actix::{Actor, Handler};

use super::core::Shared;
use super::messages::Operation;
use crate::kernel::{Context, Reply};

/// Stores the events of an inbox, as many deliveries at a time as its mailbox holds. It keeps
/// nothing: everything is in the tables. [`Inbox`](super::Inbox) is its handle.
pub struct InboxActor {
    shared: Arc<Shared>,
}

impl InboxActor {
    pub(super) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

impl Actor for InboxActor {
    type Context = Context<Self>;
}

impl<M> Handler<M> for InboxActor
where
    M: Operation,
    M::Result: Send,
{
    type Result = Reply<M::Result>;

    fn handle(&mut self, message: M, _: &mut Self::Context) -> Self::Result {
        Reply::task(message.perform(Arc::clone(&self.shared)))
    }
}

impl fmt::Debug for InboxActor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InboxActor").finish_non_exhaustive()
    }
}

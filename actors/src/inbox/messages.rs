//! What the inbox's actor is asked. [`Inbox`](super::Inbox) has a method for each.

use std::sync::Arc;

use actix::Message;
use futures_util::future::BoxFuture;

use super::core::Shared;
use super::error::InboxError;
use super::event::NewEvent;
use super::store::Inserted;

/// An operation of the inbox: what its actor does with the message.
pub(super) trait Operation: Message + Send + 'static {
    fn perform(self, shared: Arc<Shared>) -> BoxFuture<'static, Self::Result>;
}

/// Stores the events of one delivery that was verified, and the jobs that handle them.
///
/// The reply means that all of them are on disk.
#[derive(Debug, Message)]
#[rtype(result = "Result<Vec<Inserted>, InboxError>")]
pub(super) struct StoreEvents {
    pub(super) events: Vec<NewEvent>,
}

impl Operation for StoreEvents {
    fn perform(self, shared: Arc<Shared>) -> BoxFuture<'static, Self::Result> {
        Box::pin(async move { shared.core.insert(shared.enqueuer.clone(), self.events).await })
    }
}

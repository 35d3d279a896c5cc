//! The shell: a bounded mailbox and a deadline in front of the store.

use std::fmt;
use std::sync::Arc;

use actix::{Actor, Handler};

use super::messages::Operation;
use super::shared::Shared;
use crate::kernel::{Context, Reply};

/// Takes the operations of a job queue and carries them out, many at a time, as many as its
/// mailbox holds. It keeps nothing: everything is in the tables.
///
/// [`Jobs`](super::Jobs) is its handle. It takes [`InsertJobs`](super::InsertJobs),
/// [`CancelJob`](super::CancelJob), [`RetryJob`](super::RetryJob), [`FindJob`](super::FindJob),
/// [`PauseQueue`](super::PauseQueue) and [`CountJobs`](super::CountJobs).
pub struct JobQueue {
    shared: Arc<Shared>,
}

impl JobQueue {
    pub(super) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

impl Actor for JobQueue {
    type Context = Context<Self>;
}

impl<M> Handler<M> for JobQueue
where
    M: Operation,
    M::Result: Send,
{
    type Result = Reply<M::Result>;

    fn handle(&mut self, message: M, _: &mut Self::Context) -> Self::Result {
        Reply::task(message.perform(Arc::clone(&self.shared)))
    }
}

impl fmt::Debug for JobQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobQueue").field("shared", &self.shared).finish()
    }
}

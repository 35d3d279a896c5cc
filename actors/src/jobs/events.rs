//! What happens to jobs, for whoever watches: counters, broadcast and the log.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;

use super::store::{DeadReason, Rescued, Settle, Settlement};
use super::{JobId, NodeId};

/// LIMIT: events kept for a subscriber that lags behind.
const KEPT: usize = 1_024;

/// Something that happened to a job or to the queue.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum JobEvent {
    /// A run did its work.
    Done {
        /// The job.
        id: JobId,
        /// Its kind.
        kind: Arc<str>,
        /// How long it ran.
        ran: Duration,
    },
    /// A run failed, and the job will be tried again.
    Failed {
        /// The job.
        id: JobId,
        /// Its kind.
        kind: Arc<str>,
        /// Which attempt it was.
        attempt: u16,
    },
    /// A job is over without having done its work.
    Died {
        /// The job.
        id: JobId,
        /// Its kind.
        kind: Arc<str>,
        /// Why.
        reason: DeadReason,
    },
    /// A job was put back: snoozed, parked, put off, of an unknown kind, or the process ends.
    Released {
        /// The job.
        id: JobId,
        /// Its kind.
        kind: Arc<str>,
    },
    /// A run's end came too late: another run has begun, or the job is over.
    StaleCompletion {
        /// The job.
        id: JobId,
    },
    /// Jobs of dead processes were made ready again.
    Rescued {
        /// The processes.
        nodes: Vec<NodeId>,
        /// How many jobs.
        rescued: Rescued,
    },
}

/// Where events go.
#[derive(Debug)]
pub(super) struct Events(broadcast::Sender<JobEvent>);

impl Events {
    pub(super) fn new() -> Self {
        Self(broadcast::channel(KEPT).0)
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<JobEvent> {
        self.0.subscribe()
    }

    /// Tells whoever listens, and the log.
    pub(super) fn tell(&self, event: JobEvent) {
        report(&event);
        // Nobody listening is no fault.
        let _listeners = self.0.send(event);
    }

    /// Tells how a run ended.
    pub(super) fn settled(&self, kind: &Arc<str>, attempt: u16, settle: &Settle) {
        let (id, kind) = (settle.key.id, Arc::clone(kind));
        self.tell(match &settle.how {
            Settlement::Done { .. } => JobEvent::Done { id, kind, ran: settle.ran },
            Settlement::Retry { .. } => JobEvent::Failed { id, kind, attempt },
            Settlement::Release { .. } | Settlement::PutOff { .. } => {
                JobEvent::Released { id, kind }
            }
            Settlement::Dead { reason, .. } => JobEvent::Died { id, kind, reason: *reason },
        });
    }
}

fn report(event: &JobEvent) {
    match event {
        JobEvent::Done { id, kind, ran } => {
            let ran_ms = u64::try_from(ran.as_millis()).unwrap_or(u64::MAX);
            tracing::debug!(job = id.0, kind = &**kind, ran_ms, "jobs.done");
        }
        JobEvent::Failed { id, kind, attempt } => {
            tracing::info!(job = id.0, kind = &**kind, attempt, "jobs.failed");
        }
        JobEvent::Died { id, kind, reason } => {
            tracing::warn!(job = id.0, kind = &**kind, reason = reason.as_str(), "jobs.died");
        }
        JobEvent::Released { id, kind } => {
            tracing::debug!(job = id.0, kind = &**kind, "jobs.released");
        }
        JobEvent::StaleCompletion { id } => tracing::warn!(job = id.0, "jobs.stale_completion"),
        JobEvent::Rescued { nodes, rescued } => {
            let Rescued { requeued, poisoned, discarded } = *rescued;
            let nodes = nodes.len();
            tracing::warn!(nodes, requeued, poisoned, discarded, "jobs.rescued");
        }
    }
}

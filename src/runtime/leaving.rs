//! Draining the job queues beside the requests: both begin when the process is told to leave.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use steadfast_actors::jobs::{DrainReport, Jobs};
use tokio::task::JoinHandle;

/// The job queues of a runtime, and how their drain goes.
pub(super) struct Leaving {
    queues: Vec<Jobs>,
    under_way: Mutex<Option<JoinHandle<Vec<DrainReport>>>>,
}

impl Leaving {
    pub(super) const fn new(queues: Vec<Jobs>) -> Self {
        Self { queues, under_way: Mutex::new(None) }
    }

    /// Begins to drain, once: what runs may go on for `grace`.
    pub(super) fn begin(&self, grace: Duration) {
        let mut under_way = self.under_way.lock();
        if under_way.is_none() && !self.queues.is_empty() {
            let drains: Vec<_> = self.queues.iter().map(|jobs| jobs.drain(grace)).collect();
            *under_way = Some(tokio::spawn(join_all(drains)));
        }
    }

    /// Waits until all have drained. How many runs were abandoned: others have to rescue them.
    pub(super) fn end(&self) -> impl Future<Output = u64> + use<> {
        let under_way = self.under_way.lock().take();
        async move {
            let Some(under_way) = under_way else { return 0 };
            // A drain that panicked has left everything behind that it had not given back.
            under_way.await.map_or(1, |all| all.iter().map(|report| report.abandoned).sum())
        }
    }
}

impl fmt::Debug for Leaving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leaving").field("queues", &self.queues.len()).finish_non_exhaustive()
    }
}

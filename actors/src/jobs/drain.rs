//! Ending in order.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::keeper::{LEADER, give_back};
use super::pool::Pool;
use super::shared::Shared;
use crate::kernel::Stopped;

/// How often it is looked whether all has ended.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// LIMIT: for handlers that were told to stop, and for the store to take the last ends.
const LAST_MOMENT: Duration = Duration::from_secs(4);

/// How a process ended its work on the queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DrainReport {
    /// Runs that finished within the grace.
    pub finished: u64,
    /// Jobs given back that had been claimed and not begun.
    pub released: u64,
    /// Runs that were told to stop when the grace was over.
    pub interrupted: u64,
    /// Runs that did not stop, or whose end the store did not take: others rescue them when this
    /// process is gone.
    pub abandoned: u64,
}

impl DrainReport {
    /// Whether nothing was interrupted or left behind.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.interrupted == 0 && self.abandoned == 0
    }
}

pub(super) async fn drain(shared: Arc<Shared>, grace: Duration) -> DrainReport {
    let until = Instant::now() + grace;
    let before = runs(&shared);
    shared.drain();
    let released = release_unstarted(&shared);
    while runs(&shared) > 0 && Instant::now() < until {
        sleep(LOOK_EVERY).await;
    }
    let interrupted = runs(&shared);
    if interrupted > 0 {
        shared.running.stop_all(Stopped::Shutdown);
    }
    let last = Instant::now() + LAST_MOMENT;
    while !shared.pools.values().all(|pool| pool.is_empty()) && Instant::now() < last {
        sleep(LOOK_EVERY).await;
    }
    let abandoned = shared.pools.values().map(|pool| pool.unsettled()).sum();
    leave(&shared, abandoned == 0).await;
    let finished = before.saturating_sub(interrupted);
    let report = DrainReport { finished, released, interrupted, abandoned };
    tracing::info!(finished, released, interrupted, abandoned, "jobs.drained");
    report
}

fn runs(shared: &Shared) -> u64 {
    shared.pools.values().map(|pool| u64::from(pool.active())).sum()
}

/// Gives back what was claimed and not begun.
fn release_unstarted(shared: &Shared) -> u64 {
    let release = |pool: &Arc<Pool>| {
        let unstarted = pool.take_unstarted();
        let (count, now) = (unstarted.len() as u64, shared.clock.now());
        for claimed in unstarted {
            pool.end(give_back(claimed.key, now), false, Instant::now());
        }
        count
    };
    shared.pools.values().map(release).sum()
}

/// Makes room for another leader at once; the node's row goes only if nothing is left under it.
async fn leave(shared: &Shared, nothing_left: bool) {
    if let Some(term) = shared.term()
        && let Err(error) = shared.store.resign(LEADER, shared.node, term).await
    {
        tracing::warn!(%error, "jobs.not_resigned");
    }
    shared.lead(None);
    if nothing_left && let Err(error) = shared.store.leave(shared.node).await {
        tracing::warn!(%error, "jobs.not_left");
    }
}

//! What the handle, the actors and the runs share.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use tokio::sync::OnceCell;

use super::catalog;
use super::error::CounterError;
use super::maintain::{FOLD, fold};
use super::repair::Settings;
use super::spec::{CounterSpec, Maintain};
use super::sql::Subject;
use crate::jobs::Jobs;
use crate::store::{Store, WallClock};

/// LIMIT: transactions of one flush of one counter; what is left is for the next.
const FOLDS: u32 = 100;

/// What a run needs. The job queue holds it, so it must not hold the queue.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) store: Store,
    pub(super) counters: BTreeMap<Arc<str>, CounterSpec>,
    /// Deferred counters that were checked, for the flusher.
    pub(super) deferred: OnceCell<Vec<Subject>>,
    pub(super) settings: Settings,
    pub(super) flush_every: Duration,
    pub(super) keep_for: Duration,
    /// Set when the counters start; runs that begin before do without.
    pub(super) shared: OnceLock<Weak<Shared>>,
    pub(super) clock: OnceLock<WallClock>,
}

/// What the handle and the actor need.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) core: Arc<Core>,
    pub(super) jobs: Jobs,
}

impl Core {
    /// The clock of the queue, or the system's where that is not known yet.
    pub(super) fn clock(&self) -> WallClock {
        self.clock.get().cloned().unwrap_or_default()
    }

    /// The queue, once the counters have started and until they have ended.
    pub(super) fn jobs(&self) -> Option<Jobs> {
        Some(self.shared.get()?.upgrade()?.jobs.clone())
    }

    pub(super) fn spec(&self, name: &str) -> Result<&CounterSpec, CounterError> {
        self.counters.get(name).ok_or(CounterError::Unknown)
    }

    /// Checks a counter against its tables, as they are now.
    pub(super) async fn subject(&self, name: &str) -> Result<Subject, CounterError> {
        catalog::check(&self.store, self.spec(name)?).await
    }

    pub(super) fn is_deferred(spec: &CounterSpec) -> bool {
        spec.maintain == Maintain::Deferred
    }

    /// Folds what is to be folded now. How many deltas there were.
    pub(super) async fn flush(&self) -> Result<u64, CounterError> {
        let deferred = self.deferred.get_or_try_init(async || {
            let mut all = Vec::new();
            for spec in self.counters.values().filter(|spec| Self::is_deferred(spec)) {
                all.push(catalog::check(&self.store, spec).await?);
            }
            Ok::<_, CounterError>(all)
        });
        let mut folded = 0;
        for subject in deferred.await? {
            for _ in 0..FOLDS {
                let some = fold(&self.store, subject).await?;
                folded += u64::from(some);
                if some < FOLD {
                    break;
                }
            }
        }
        Ok(folded)
    }
}

//! The handle that everybody holds.

use std::fmt;
use std::sync::Arc;

use super::actor::CounterRepair;
use super::core::Shared;
use super::error::CounterError;
use super::maintain::Plan;
use super::messages::{
    ChangeTriggers, Flush, MakePlan, Operation, ReadRun, StartRun, Started, Which,
};
use super::report::CounterReport;
use super::run::RepairJob;
use super::spec::{Maintain, Mode};
use super::store::Run;
use crate::jobs::JobId;
use crate::kernel::Ref;

/// The counters of a service. Cheap to clone; clones are the same counters.
#[derive(Clone)]
pub struct Counters {
    shared: Arc<Shared>,
    actor: Ref<CounterRepair>,
}

impl Counters {
    pub(super) const fn new(shared: Arc<Shared>, actor: Ref<CounterRepair>) -> Self {
        Self { shared, actor }
    }

    /// The names of all counters, and who keeps each true.
    pub fn list(&self) -> impl Iterator<Item = (&Arc<str>, Maintain)> {
        self.shared.core.counters.iter().map(|(name, spec)| (name, spec.maintain))
    }

    /// Has a counter looked through and put right, in the background. If that is under way
    /// already, this joins it ([`Started::joined`]): what drifts behind its cursor is left to the
    /// next one.
    ///
    /// # Errors
    ///
    /// [`CounterError::Unknown`], and [`CounterError::InvalidSpec`] if the tables do not fit the
    /// declaration: nothing is begun. [`CounterError::Jobs`] if the job could not be stored.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it may have been begun; asking again joins it then.
    pub async fn repair(&self, counter: &str) -> Result<Started, CounterError> {
        self.start(counter, Mode::Repair).await
    }

    /// The same without putting anything right: what is wrong is in the report. It may run
    /// beside a repair.
    ///
    /// # Errors
    ///
    /// As for [`repair`](Self::repair).
    ///
    /// # Cancel safety
    ///
    /// Dropped, it may have been begun; asking again joins it then.
    pub async fn survey(&self, counter: &str) -> Result<Started, CounterError> {
        self.start(counter, Mode::Report).await
    }

    /// What the run of this job has found so far, or in all. `None`: the job has not begun, or
    /// the run was forgotten.
    ///
    /// # Errors
    ///
    /// The store or the actor failed.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn report(&self, job: JobId) -> Result<Option<CounterReport>, CounterError> {
        let run = self.ask(ReadRun(Which::OfJob(job))).await?;
        Ok(run.map(|run| self.described(run)))
    }

    /// The report of the newest run of a counter. `None`: there was none yet.
    ///
    /// # Errors
    ///
    /// [`CounterError::Unknown`]. The store or the actor failed.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn latest(&self, counter: &str) -> Result<Option<CounterReport>, CounterError> {
        let name = Arc::clone(self.shared.core.spec(counter)?.name());
        let run = self.ask(ReadRun(Which::Latest(name))).await?;
        Ok(run.map(|run| self.described(run)))
    }

    /// Checks a counter against its tables, and says which statements would make the triggers
    /// that keep it true. Nothing is written.
    ///
    /// # Errors
    ///
    /// [`CounterError::Unknown`]; [`CounterError::InvalidSpec`] says what does not fit, and what
    /// to do. The store or the actor failed.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn plan(&self, counter: &str) -> Result<Plan, CounterError> {
        let name = Arc::clone(self.shared.core.spec(counter)?.name());
        self.ask(MakePlan(name)).await
    }

    /// Makes the triggers of a counter, all of them or none; those that are there are made anew.
    /// Nothing where the service's own statements keep it. What drifted before is left: repair it.
    ///
    /// On PostgreSQL this waits up to 2 s for a lock that lets nobody write children meanwhile.
    ///
    /// # Errors
    ///
    /// As for [`plan`](Self::plan); [`StoreError::Timeout`](crate::store::StoreError::Timeout) if
    /// the tables are busy for too long: nothing was made, try again.
    ///
    /// # Cancel safety
    ///
    /// Dropped, all triggers may be there, or none.
    pub async fn apply(&self, counter: &str) -> Result<(), CounterError> {
        self.change(counter, true).await
    }

    /// Takes the triggers of a counter away. Deltas that are still to be folded stay.
    ///
    /// # Errors
    ///
    /// As for [`apply`](Self::apply).
    ///
    /// # Cancel safety
    ///
    /// Dropped, all triggers may be there, or none.
    pub async fn remove_triggers(&self, counter: &str) -> Result<(), CounterError> {
        self.change(counter, false).await
    }

    /// Folds now what [`Maintain::Deferred`] counters have to be changed by. How many deltas
    /// there were.
    ///
    /// # Errors
    ///
    /// The store or the actor failed: what is not folded is folded later.
    ///
    /// # Cancel safety
    ///
    /// Dropped, some or all may be folded.
    pub async fn flush(&self) -> Result<u64, CounterError> {
        self.ask(Flush).await
    }

    async fn start(&self, counter: &str, mode: Mode) -> Result<Started, CounterError> {
        let counter = Arc::clone(self.shared.core.spec(counter)?.name());
        self.ask(StartRun(RepairJob { counter, mode })).await
    }

    async fn change(&self, counter: &str, make: bool) -> Result<(), CounterError> {
        let counter = Arc::clone(self.shared.core.spec(counter)?.name());
        self.ask(ChangeTriggers { counter, make }).await
    }

    async fn ask<M, T>(&self, message: M) -> Result<T, CounterError>
    where
        M: Operation + actix::Message<Result = Result<T, CounterError>>,
        T: Send + 'static,
    {
        self.actor.call(message).await?
    }

    fn described(&self, run: Run) -> CounterReport {
        let spec = self.shared.core.counters.get(&run.counter);
        let maintain = spec.map(|spec| spec.maintain);
        CounterReport {
            state: run.state(),
            counter: run.counter,
            job: run.job,
            mode: run.mode,
            maintain,
            relies_on_application: maintain == Some(Maintain::App),
            totals: run.totals,
            started_at: run.started_at,
            updated_at: run.updated_at,
            finished_at: run.finished_at,
        }
    }
}

impl fmt::Debug for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counters").field("actor", &self.actor).finish_non_exhaustive()
    }
}

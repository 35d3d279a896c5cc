//! A store that fails as it is told.

use std::fmt;

use super::*;
use crate::jobs::store::{
    Beat, Claim, Depths, Inserted, JobStore, NewJob, Pruned, Pulse, QueueRow, Rescued, Settle,
    Step, Stored,
};
use crate::store::{StoreError, Timestamp, Wakes};

/// What becomes of one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is carried out and answered.
    None,
    /// It is not carried out, and says so.
    Refused,
    /// It is carried out, and says that nobody knows.
    AnswerLost,
    /// It is not carried out, and nothing is said until the test's end.
    Hangs,
}

/// Decides by the name of the operation.
type Plan = Box<dyn FnMut(&'static str) -> Fault + Send>;

/// Tells a [`FaultStore`] what to do. Cheap to clone; clones are the same.
#[derive(Clone)]
pub(super) struct Faults(Arc<Mutex<Plan>>);

impl Faults {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Box::new(|_| Fault::None))))
    }

    pub(super) fn plan(&self, plan: impl FnMut(&'static str) -> Fault + Send + 'static) {
        *self.0.lock() = Box::new(plan);
    }

    pub(super) fn none(&self) {
        self.plan(|_| Fault::None);
    }

    /// For [`JobsBuilder::wrap`].
    pub(super) fn wrap(&self, store: Arc<dyn JobStore>) -> Arc<dyn JobStore> {
        Arc::new(FaultStore { store, faults: self.clone() })
    }

    fn next(&self, operation: &'static str) -> Fault {
        (self.0.lock())(operation)
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults").finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct FaultStore {
    store: Arc<dyn JobStore>,
    faults: Faults,
}

impl FaultStore {
    fn through<T: Send + 'static>(
        &self,
        operation: &'static str,
        carry_out: impl FnOnce(&dyn JobStore) -> Stored<T>,
    ) -> Stored<T> {
        let lost = || StoreError::source(std::io::Error::other("the plan says so"));
        match self.faults.next(operation) {
            Fault::None => carry_out(&*self.store),
            Fault::Refused => Box::pin(async move { Err(StoreError::Unavailable(lost())) }),
            Fault::AnswerLost => {
                let work = carry_out(&*self.store);
                Box::pin(async move {
                    work.await?;
                    Err(StoreError::OutcomeUnknown(lost()))
                })
            }
            Fault::Hangs => Box::pin(std::future::pending()),
        }
    }
}

macro_rules! through {
    ($($operation:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        impl JobStore for FaultStore {
            fn wakes(&self) -> &Wakes {
                self.store.wakes()
            }

            /// A step that ends runs is an operation called `settle`.
            fn step(
                &self,
                settles: Vec<Settle>,
                claim: Option<Claim>,
                now: Timestamp,
            ) -> Stored<Step> {
                let name = if settles.is_empty() { "step" } else { "settle" };
                self.through(name, |store| store.step(settles, claim, now))
            }

            $(
                fn $operation(&self, $($argument: $type),*) -> Stored<$answer> {
                    self.through(stringify!($operation), |store| store.$operation($($argument),*))
                }
            )*
        }
    };
}

through! {
    insert(jobs: Vec<NewJob>, now: Timestamp) -> Vec<Inserted>;
    begin_suspect(key: RunKey, now: Timestamp) -> bool;
    progress(reports: Vec<(RunKey, Arc<str>)>) -> ();
    cancel(id: JobId, now: Timestamp) -> Cancelled;
    retry(id: JobId, now: Timestamp) -> bool;
    find(id: JobId) -> Option<JobInfo>;
    errors(id: JobId) -> Vec<(RunKey, Timestamp, RunError)>;
    beat(beat: Beat, now: Timestamp) -> Pulse;
    runs_of(node: NodeId, before: Timestamp) -> Vec<RunKey>;
    rescue(dead: Vec<NodeId>, poison_after: i16, now: Timestamp) -> Rescued;
    leave(node: NodeId) -> ();
    elect(name: &'static str, node: NodeId, until: Timestamp, now: Timestamp) -> Option<i64>;
    resign(name: &'static str, node: NodeId, term: i64) -> ();
    depths(queue: Arc<str>, limit: u32, now: Timestamp) -> Depths;
    park(dependency: Arc<str>, limit: u32) -> u64;
    release(dependency: Arc<str>, limit: u32, now: Timestamp) -> u64;
    parked(limit: u32) -> Vec<(Arc<str>, u64)>;
    pull_forward(queue: Arc<str>, limit: u32, now: Timestamp) -> u64;
    shed(queue: Arc<str>, class: Option<Class>, limit: u32, now: Timestamp) -> u64;
    pause(queue: Arc<str>, paused: bool, now: Timestamp) -> ();
    queues() -> Vec<QueueRow>;
    put_cron(cron: CronRow) -> ();
    remove_cron(name: Arc<str>) -> bool;
    pause_cron(name: Arc<str>, paused: bool) -> bool;
    crons() -> Vec<CronRow>;
    tick_cron(name: Arc<str>, from: Timestamp, to: Timestamp, jobs: Vec<NewJob>, now: Timestamp)
        -> bool;
    dead(filter: DeadFilter, limit: u32) -> Vec<JobInfo>;
    replay(filter: DeadFilter, limit: u32, now: Timestamp) -> Replayed;
    prune(done_before: Timestamp, dead_before: Timestamp, limit: u32, now: Timestamp) -> Pruned;
    counts() -> Counts;
}

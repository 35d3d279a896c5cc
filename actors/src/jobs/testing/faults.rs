//! A store that fails when the test says so.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::jobs::store::{
    Beat, Cancelled, Claim, Counts, CronRow, DeadFilter, Depths, Inserted, JobInfo, JobStore,
    NewJob, Pruned, Pulse, QueueRow, Replayed, Rescued, RunError, Settle, Step, Stored,
};
use crate::jobs::{Class, JobId, NodeId, RunKey};
use crate::store::{StoreError, Timestamp, Wakes};

/// Decides what becomes of the operations of a [`FaultStore`]. Cheap to clone; clones are the
/// same.
///
/// Faults of an operation happen in the order in which they were asked for, one to a call; then
/// it works again. Only the queue's own operations are touched: a job in a transaction of your
/// own, and its end with [`complete_in`](crate::jobs::JobCx::complete_in), go past them.
///
/// # Examples
///
/// ```
/// use steadfast_actors::jobs::testing::{Faults, Operation, TestJobs};
/// # use steadfast_actors::jobs::{Job, JobCx};
/// # use steadfast_actors::store::StoreError;
/// # #[derive(serde::Serialize, serde::Deserialize)] struct Ping;
/// # impl Job for Ping { const KIND: &'static str = "ping"; }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), steadfast_actors::jobs::JobsError> {
/// let faults = Faults::new();
/// let mut kit = TestJobs::new(|jobs| {
///     jobs.handle(|_: Ping, _: JobCx| async { Ok(()) }).wrap(|store| faults.wrap(store))
/// })
/// .await?;
/// faults.fail_next(Operation::Insert, 1, StoreError::Timeout);
/// assert!(kit.jobs().enqueue(Ping).await.is_err());
/// assert!(kit.jobs().enqueue(Ping).await.is_ok());
/// assert_eq!(kit.run_due().await.done(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Faults(Arc<Mutex<Plans>>);

#[derive(Default)]
struct Plans {
    by_operation: HashMap<Operation, Plan>,
    outage: Option<StoreError>,
}

#[derive(Default)]
struct Plan {
    calls: u64,
    /// What happens to the next calls, and to how many. LIMIT: what a test asks for.
    next: VecDeque<(Fault, u32)>,
    held: Option<watch::Sender<()>>,
}

/// What happens to one call.
#[derive(Debug, Clone)]
enum Fault {
    Fail(StoreError),
    LoseAnswer,
    Delay(Duration),
    Repeat,
}

/// What one call meets.
struct Fate {
    fault: Option<Fault>,
    held: Option<watch::Receiver<()>>,
}

/// The answer of the store was lost, as a test wanted it.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the answer was lost on purpose")]
struct AnswerLost;

impl Faults {
    /// No faults yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a [`FaultStore`] that these faults control before a store; for
    /// [`JobsBuilder::wrap`](crate::jobs::JobsBuilder::wrap).
    #[must_use]
    pub fn wrap(&self, store: Arc<dyn JobStore>) -> Arc<dyn JobStore> {
        Arc::new(FaultStore::new(store, self.clone()))
    }

    /// The next `count` calls do nothing and answer `error`.
    pub fn fail_next(&self, operation: Operation, count: u32, error: StoreError) {
        self.plan(operation, Fault::Fail(error), count);
    }

    /// The next `count` calls are carried out and answer [`StoreError::OutcomeUnknown`], as when
    /// the connection breaks during a commit. One that fails by itself answers that.
    pub fn lose_answers(&self, operation: Operation, count: u32) {
        self.plan(operation, Fault::LoseAnswer, count);
    }

    /// The next `count` calls are carried out after a pause, on tokio's clock.
    pub fn delay_next(&self, operation: Operation, count: u32, by: Duration) {
        self.plan(operation, Fault::Delay(by), count);
    }

    /// The next `count` calls are carried out twice and answer what the second came to, as when
    /// something between repeats them.
    pub fn repeat_next(&self, operation: Operation, count: u32) {
        self.plan(operation, Fault::Repeat, count);
    }

    /// Calls from now on wait until [`release`](Self::release), and are carried out then.
    pub fn hold(&self, operation: Operation) {
        let mut plans = self.0.lock();
        plans.by_operation.entry(operation).or_default().held.get_or_insert_with(watch_for_release);
    }

    /// Lets go on what is held.
    pub fn release(&self, operation: Operation) {
        if let Some(plan) = self.0.lock().by_operation.get_mut(&operation) {
            plan.held = None;
        }
    }

    /// All operations do nothing and answer `error`, until [`clear`](Self::clear).
    pub fn fail_all(&self, error: StoreError) {
        self.0.lock().outage = Some(error);
    }

    /// Forgets all faults and lets go on what is held. Counts stay.
    pub fn clear(&self) {
        let mut plans = self.0.lock();
        plans.outage = None;
        for plan in plans.by_operation.values_mut() {
            plan.next.clear();
            plan.held = None;
        }
    }

    /// How often an operation was called so far, whatever became of it.
    #[must_use]
    pub fn calls(&self, operation: Operation) -> u64 {
        self.0.lock().by_operation.get(&operation).map_or(0, |plan| plan.calls)
    }

    fn plan(&self, operation: Operation, fault: Fault, count: u32) {
        let mut plans = self.0.lock();
        plans.by_operation.entry(operation).or_default().next.push_back((fault, count));
    }

    fn called(&self, operation: Operation) -> Fate {
        let mut plans = self.0.lock();
        let outage = plans.outage.clone();
        let plan = plans.by_operation.entry(operation).or_default();
        plan.calls += 1;
        let held = plan.held.as_ref().map(watch::Sender::subscribe);
        let fault = outage.map(Fault::Fail).or_else(|| plan.take());
        Fate { fault, held }
    }
}

impl Plan {
    fn take(&mut self) -> Option<Fault> {
        while let Some((fault, count)) = self.next.front_mut() {
            if *count > 0 {
                *count -= 1;
                return Some(fault.clone());
            }
            self.next.pop_front();
        }
        None
    }
}

/// Calls that are held wait until the sender is dropped.
fn watch_for_release() -> watch::Sender<()> {
    watch::channel(()).0
}

/// A store whose operations fail when its [`Faults`] say so.
pub struct FaultStore {
    store: Arc<dyn JobStore>,
    faults: Faults,
}

impl FaultStore {
    /// Puts faults before a store.
    #[must_use]
    pub const fn new(store: Arc<dyn JobStore>, faults: Faults) -> Self {
        Self { store, faults }
    }

    /// Carries `call` out, as the faults say.
    fn call<T: Send + 'static>(
        &self,
        operation: Operation,
        call: impl Fn(&dyn JobStore) -> Stored<T> + Send + Sync + 'static,
    ) -> Stored<T> {
        let (store, faults) = (Arc::clone(&self.store), self.faults.clone());
        Box::pin(async move {
            let Fate { fault, held } = faults.called(operation);
            if let Some(mut held) = held {
                // An error is the release: nothing is ever sent.
                let _released = held.changed().await;
            }
            match fault {
                None => call(&*store).await,
                Some(Fault::Fail(error)) => Err(error),
                Some(Fault::LoseAnswer) => {
                    call(&*store).await?;
                    Err(StoreError::OutcomeUnknown(StoreError::source(AnswerLost)))
                }
                Some(Fault::Delay(by)) => {
                    sleep(by).await;
                    call(&*store).await
                }
                Some(Fault::Repeat) => {
                    call(&*store).await?;
                    call(&*store).await
                }
            }
        })
    }
}

/// Makes [`Operation`], and each method of a [`JobStore`] that passes through the faults.
macro_rules! operations {
    ($($operation:ident: $method:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        /// An operation of a [`JobStore`].
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Operation {
            $(
                #[doc = concat!("[`JobStore::", stringify!($method), "`].")]
                $operation,
            )*
        }

        impl Operation {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$operation),*];
        }

        impl JobStore for FaultStore {
            fn wakes(&self) -> &Wakes {
                self.store.wakes()
            }

            $(
                fn $method(&self, $($argument: $type),*) -> Stored<$answer> {
                    self.call(Operation::$operation, move |store| {
                        store.$method($(Clone::clone(&$argument)),*)
                    })
                }
            )*
        }
    };
}

operations! {
    Insert: insert(jobs: Vec<NewJob>, now: Timestamp) -> Vec<Inserted>;
    Step: step(settles: Vec<Settle>, claim: Option<Claim>, now: Timestamp) -> Step;
    BeginSuspect: begin_suspect(key: RunKey, now: Timestamp) -> bool;
    Progress: progress(reports: Vec<(RunKey, Arc<str>)>) -> ();
    Cancel: cancel(id: JobId, now: Timestamp) -> Cancelled;
    Retry: retry(id: JobId, now: Timestamp) -> bool;
    Find: find(id: JobId) -> Option<JobInfo>;
    Errors: errors(id: JobId) -> Vec<(RunKey, Timestamp, RunError)>;
    Beat: beat(beat: Beat, now: Timestamp) -> Pulse;
    RunsOf: runs_of(node: NodeId, before: Timestamp) -> Vec<RunKey>;
    Rescue: rescue(dead: Vec<NodeId>, poison_after: i16, now: Timestamp) -> Rescued;
    Leave: leave(node: NodeId) -> ();
    Elect: elect(name: &'static str, node: NodeId, until: Timestamp, now: Timestamp) -> Option<i64>;
    Resign: resign(name: &'static str, node: NodeId, term: i64) -> ();
    Depths: depths(queue: Arc<str>, limit: u32, now: Timestamp) -> Depths;
    Park: park(dependency: Arc<str>, limit: u32) -> u64;
    Release: release(dependency: Arc<str>, limit: u32, now: Timestamp) -> u64;
    Parked: parked(limit: u32) -> Vec<(Arc<str>, u64)>;
    PullForward: pull_forward(queue: Arc<str>, limit: u32, now: Timestamp) -> u64;
    Shed: shed(queue: Arc<str>, class: Option<Class>, limit: u32, now: Timestamp) -> u64;
    Pause: pause(queue: Arc<str>, paused: bool, now: Timestamp) -> ();
    Queues: queues() -> Vec<QueueRow>;
    PutCron: put_cron(cron: CronRow) -> ();
    RemoveCron: remove_cron(name: Arc<str>) -> bool;
    PauseCron: pause_cron(name: Arc<str>, paused: bool) -> bool;
    Crons: crons() -> Vec<CronRow>;
    TickCron: tick_cron(
        name: Arc<str>, from: Timestamp, to: Timestamp, jobs: Vec<NewJob>, now: Timestamp
    ) -> bool;
    Dead: dead(filter: DeadFilter, limit: u32) -> Vec<JobInfo>;
    Replay: replay(filter: DeadFilter, limit: u32, now: Timestamp) -> Replayed;
    Prune: prune(
        done_before: Timestamp, dead_before: Timestamp, limit: u32, now: Timestamp
    ) -> Pruned;
    Counts: counts() -> Counts;
}

impl fmt::Debug for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultStore").field("store", &self.store).finish_non_exhaustive()
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pending: usize = self.0.lock().by_operation.values().map(|plan| plan.next.len()).sum();
        f.debug_struct("Faults").field("pending", &pending).finish_non_exhaustive()
    }
}

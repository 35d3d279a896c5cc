//! The seam between the job queue and its database: every operation, once for all backends.
//!
//! No operation reads a clock: `now` comes in. Each is one transaction, and may be repeated
//! after [`StoreError::OutcomeUnknown`] unless it says otherwise.

#[cfg(test)]
pub(crate) mod conformance;
pub(crate) mod postgres;
mod rows;
pub(crate) mod sqlite;

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::{JobId, NodeId, RunKey};
use crate::store::{StoreError, Timestamp, Wakes};

pub use rows::{
    Beat, Cancelled, Claim, Claimed, Counts, CronRow, DeadFilter, DeadReason, Depths, Inserted,
    JobInfo, JobState, NewJob, NodeRow, OnConflict, Pruned, Pulse, QueueRow, Replayed, Rescued,
    RunError, Settle, Settlement, Step, Unique,
};

/// What an operation of the store comes to.
pub type Stored<T> = BoxFuture<'static, Result<T, StoreError>>;

/// The tables of the job queue.
///
/// # Cancel safety
///
/// Dropping a returned future leaves it open whether the operation is carried out.
pub trait JobStore: fmt::Debug + Send + Sync + 'static {
    /// Who waits for jobs; woken after each commit that made one ready.
    fn wakes(&self) -> &Wakes;

    /// Stores jobs, each for itself: one whose key is taken does not hinder the others.
    /// The answers are in the order of the jobs. Not repeatable but for jobs with unique keys.
    fn insert(&self, jobs: Vec<NewJob>, now: Timestamp) -> Stored<Vec<Inserted>>;

    /// Ends runs and claims new ones, in one transaction and on PostgreSQL in one round trip.
    ///
    /// A claim takes ready jobs that are due, oldest first within each class, never one of a
    /// paused queue. It counts the attempt and raises the fence.
    ///
    /// An end that is told once more changes nothing, whether or not it is reported as stale.
    fn step(&self, settles: Vec<Settle>, claim: Option<Claim>, now: Timestamp) -> Stored<Step>;

    /// Marks a job that was charged with a crash as begun, so that the next crash is charged to
    /// it alone. `false`: the run is over.
    fn begin_suspect(&self, key: RunKey, now: Timestamp) -> Stored<bool>;

    /// Writes down what handlers say of their progress. Runs that are over are passed over.
    fn progress(&self, reports: Vec<(RunKey, Arc<str>)>) -> Stored<()>;

    /// Cancels a job: at once if it waits, else by telling its process.
    fn cancel(&self, id: JobId, now: Timestamp) -> Stored<Cancelled>;

    /// Makes a job that waits or is parked due now, or a dead one ready with one more attempt at
    /// least. `false`: it runs, is done, is unknown, or its unique key is taken.
    ///
    /// One that is due already keeps its place. One that was dead expires no more, its fence
    /// rises, and if it was charged with crashes it is charged with one from now on.
    fn retry(&self, id: JobId, now: Timestamp) -> Stored<bool>;

    /// A job as it is now.
    fn find(&self, id: JobId) -> Stored<Option<JobInfo>>;

    /// What went wrong in each of its runs, oldest first.
    fn errors(&self, id: JobId) -> Stored<Vec<(RunKey, Timestamp, RunError)>>;

    /// Says that a process lives, and hears of the others.
    fn beat(&self, beat: Beat, now: Timestamp) -> Stored<Pulse>;

    /// The runs that the tables say are this process's and were claimed before `before`.
    ///
    /// A suspect that has not begun does not say when it was claimed and is always told: look
    /// twice before you take it for lost.
    fn runs_of(&self, node: NodeId, before: Timestamp) -> Stored<Vec<RunKey>>;

    /// Forgets processes and makes their jobs ready again, in one transaction: those of `dead`,
    /// and those of processes that have no row. The fence of each rises.
    ///
    /// A crash is charged to all that had begun: of those that were charged before that is one, on
    /// trial. At `poison_after` crashes a job is dead, and so is one that has no
    /// attempt left or was to be cancelled. What had not begun gets its attempt back.
    fn rescue(&self, dead: Vec<NodeId>, poison_after: i16, now: Timestamp) -> Stored<Rescued>;

    /// Forgets a process that ends in order. Its jobs must have been settled.
    fn leave(&self, node: NodeId) -> Stored<()>;

    /// Becomes or stays the leader of `name` until `until`. `None`: another one is, whose
    /// process is not forgotten. The term rises with every change of leader.
    fn elect(
        &self,
        name: &'static str,
        node: NodeId,
        until: Timestamp,
        now: Timestamp,
    ) -> Stored<Option<i64>>;

    /// Gives leadership up. A term that is over changes nothing.
    fn resign(&self, name: &'static str, node: NodeId, term: i64) -> Stored<()>;

    /// How full a queue is; no count goes beyond `limit`.
    fn depths(&self, queue: Arc<str>, limit: u32, now: Timestamp) -> Stored<Depths>;

    /// Parks up to `limit` ready jobs of a dependency. How many.
    fn park(&self, dependency: Arc<str>, limit: u32) -> Stored<u64>;

    /// Makes up to `limit` parked jobs of a dependency ready, those first that were due first.
    /// They keep their time, and count their age from now if that has come. How many.
    fn release(&self, dependency: Arc<str>, limit: u32, now: Timestamp) -> Stored<u64>;

    /// Dependencies with parked jobs, and how many, counted up to `limit` each.
    fn parked(&self, limit: u32) -> Stored<Vec<(Arc<str>, u64)>>;

    /// Makes up to `limit` jobs due that the guard had put off, those first that would be due
    /// first. How many.
    fn pull_forward(&self, queue: Arc<str>, limit: u32, now: Timestamp) -> Stored<u64>;

    /// Gives up to `limit` ready jobs of a queue up: those that have expired, and those of
    /// `class` that are due, if it is named. How many.
    fn shed(
        &self,
        queue: Arc<str>,
        class: Option<super::Class>,
        limit: u32,
        now: Timestamp,
    ) -> Stored<u64>;

    /// Pauses or resumes a queue, or all with `*`.
    fn pause(&self, queue: Arc<str>, paused: bool, now: Timestamp) -> Stored<()>;

    /// All queues that were ever paused.
    fn queues(&self) -> Stored<Vec<QueueRow>>;

    /// Declares a periodic job. One of this name keeps its next tick if its expression and zone
    /// are the same, and whether it is paused.
    fn put_cron(&self, cron: CronRow) -> Stored<()>;

    /// Removes a periodic job. `false`: there was none.
    fn remove_cron(&self, name: Arc<str>) -> Stored<bool>;

    /// Pauses or resumes a periodic job. `false`: there is none.
    fn pause_cron(&self, name: Arc<str>, paused: bool) -> Stored<bool>;

    /// All periodic jobs.
    fn crons(&self) -> Stored<Vec<CronRow>>;

    /// Moves a periodic job from the tick `from` to `to` and stores `jobs`, in one transaction.
    /// `false`, and nothing stored: it stands at another tick, so somebody else was faster.
    fn tick_cron(
        &self,
        name: Arc<str>,
        from: Timestamp,
        to: Timestamp,
        jobs: Vec<NewJob>,
        now: Timestamp,
    ) -> Stored<bool>;

    /// Dead jobs in the order of their ids, up to `limit`.
    fn dead(&self, filter: DeadFilter, limit: u32) -> Stored<Vec<JobInfo>>;

    /// Makes up to `limit` dead jobs ready again as [`retry`](Self::retry) does, but with all
    /// their attempts.
    fn replay(&self, filter: DeadFilter, limit: u32, now: Timestamp) -> Stored<Replayed>;

    /// Forgets up to `limit` jobs of each kind that were over before these moments, their
    /// errors, and unique keys whose time is over.
    fn prune(
        &self,
        done_before: Timestamp,
        dead_before: Timestamp,
        limit: u32,
        now: Timestamp,
    ) -> Stored<Pruned>;

    /// Jobs in each state.
    fn counts(&self) -> Stored<Counts>;
}

//! What the claims have in common: short ways to say what is done to a store.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use crate::jobs::store::{
    Beat, Claim, Claimed, DeadReason, Inserted, JobInfo, JobState, JobStore, NewJob, OnConflict,
    Pulse, RunError, Settle, Settlement, Unique,
};
use crate::jobs::{Class, JobId, NodeId, RunKey};
use crate::store::Timestamp;

/// When the claims begin.
pub(crate) const NOW: Timestamp = Timestamp(1_700_000_000_000);

/// The queue of [`job`].
pub(crate) const QUEUE: &str = "mail";

/// The dependency of [`dependent`].
pub(crate) const DEPENDENCY: &str = "ses";

/// So many seconds after [`NOW`].
pub(crate) fn at(seconds: u64) -> Timestamp {
    NOW.after(Duration::from_secs(seconds))
}

/// A job that is due, with three attempts and nothing special.
pub(crate) fn job() -> NewJob {
    NewJob {
        queue: QUEUE.into(),
        kind: "send".into(),
        class: Class::Normal,
        run_at: NOW,
        expires_at: None,
        max_attempts: 3,
        dependency: None,
        unique: None,
        args: b"{}".as_slice().into(),
        args_format: 0,
        meta: None,
        deferred: false,
        depth_limit: None,
    }
}

/// A job that is due at this moment.
pub(crate) fn job_at(run_at: Timestamp) -> NewJob {
    NewJob { run_at, ..job() }
}

/// A job of this class.
pub(crate) fn job_of(class: Class) -> NewJob {
    NewJob { class, ..job() }
}

/// A job that the breaker of a dependency parks.
pub(crate) fn dependent() -> NewJob {
    NewJob { dependency: Some(DEPENDENCY.into()), ..job() }
}

/// A job that the guard put off to this moment.
pub(crate) fn deferred(run_at: Timestamp) -> NewJob {
    NewJob { run_at, deferred: true, ..job() }
}

/// A job with a key that is taken while it is live.
pub(crate) fn keyed(key: &[u8]) -> NewJob {
    NewJob { unique: Some(unique(key)), ..job() }
}

/// A key that is taken while its job is live.
pub(crate) fn unique(key: &[u8]) -> Unique {
    Unique { key: key.into(), until: None, conflict: OnConflict::Keep }
}

/// What went wrong.
pub(crate) fn error(message: &str) -> RunError {
    RunError { message: message.into(), trace: None }
}

/// The end of a run that did its work.
pub(crate) const DONE: Settlement = Settlement::Done { keep: true };

/// The end of a run that is tried again at this moment.
pub(crate) fn retry(run_at: Timestamp) -> Settlement {
    Settlement::Retry { run_at, error: error("refused") }
}

/// The end of a run that does not count.
pub(crate) fn release(run_at: Timestamp) -> Settlement {
    Settlement::Release { run_at, parked: false, keeps_age: false, error: None }
}

/// The end of a run that waits for its dependency.
pub(crate) fn park() -> Settlement {
    Settlement::Release { run_at: NOW, parked: true, keeps_age: false, error: None }
}

/// The end of a job that is given up.
pub(crate) fn dead(reason: DeadReason) -> Settlement {
    Settlement::Dead { reason, error: Some(error("refused")) }
}

/// The end of one run.
pub(crate) fn settle(key: RunKey, how: Settlement) -> Settle {
    let (queued, ran) = (Duration::from_millis(40), Duration::from_millis(2));
    Settle { key, how, queued, ran }
}

/// Asks for so many of each class.
pub(crate) fn claim(node: NodeId, each: u16) -> Claim {
    Claim { queue: QUEUE.into(), node, wants: [each; 4], running_limit: None }
}

/// The jobs that were claimed.
pub(crate) fn ids(claimed: &[Claimed]) -> Vec<JobId> {
    claimed.iter().map(|claimed| claimed.key.id).collect()
}

/// A store, with short ways to say what is done to it. What fails ends the test.
#[derive(Debug, Clone)]
pub(crate) struct Stage(Arc<dyn JobStore>);

impl Deref for Stage {
    type Target = dyn JobStore;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl Stage {
    pub(crate) fn new(store: Arc<dyn JobStore>) -> Self {
        Self(store)
    }

    /// What becomes of one job at [`NOW`].
    pub(crate) async fn offer(&self, job: NewJob) -> Inserted {
        self.offer_at(job, NOW).await
    }

    /// What becomes of one job.
    pub(crate) async fn offer_at(&self, job: NewJob, now: Timestamp) -> Inserted {
        self.insert(vec![job], now).await.unwrap()[0]
    }

    /// Stores one job.
    pub(crate) async fn add(&self, job: NewJob) -> JobId {
        new_id(self.offer(job).await)
    }

    /// Stores some jobs.
    pub(crate) async fn add_all(&self, jobs: impl IntoIterator<Item = NewJob>) -> Vec<JobId> {
        let inserted = self.insert(jobs.into_iter().collect(), NOW).await.unwrap();
        inserted.into_iter().map(new_id).collect()
    }

    /// A process that lives.
    pub(crate) async fn node(&self) -> NodeId {
        let node = NodeId::fresh();
        self.pulse(node).await;
        node
    }

    /// Says that a process lives.
    pub(crate) async fn pulse(&self, node: NodeId) -> Pulse {
        let report = "{}".into();
        let beat = Beat { node, name: "host".into(), presence: None, report };
        self.beat(beat, NOW).await.unwrap()
    }

    /// Claims at [`NOW`].
    pub(crate) async fn claim(&self, claim: Claim) -> Vec<Claimed> {
        self.claim_at(claim, NOW).await
    }

    /// Claims.
    pub(crate) async fn claim_at(&self, claim: Claim, now: Timestamp) -> Vec<Claimed> {
        self.step(Vec::new(), Some(claim), now).await.unwrap().claimed
    }

    /// Claims the one job that is due at [`NOW`].
    pub(crate) async fn run(&self, node: NodeId) -> RunKey {
        self.run_at(node, NOW).await
    }

    /// Claims the one job that is due.
    pub(crate) async fn run_at(&self, node: NodeId, now: Timestamp) -> RunKey {
        let claimed = self.claim_at(claim(node, 10), now).await;
        assert_eq!(claimed.len(), 1, "{claimed:?}");
        claimed[0].key
    }

    /// Stores one job and claims it.
    pub(crate) async fn running(&self, node: NodeId, job: NewJob) -> RunKey {
        let id = self.add(job).await;
        let key = self.run(node).await;
        assert_eq!(key.id, id);
        key
    }

    /// Ends a run at [`NOW`]. Whether it was not over before.
    pub(crate) async fn end(&self, key: RunKey, how: Settlement) -> bool {
        self.end_at(key, how, NOW).await
    }

    /// Ends a run. Whether it was not over before.
    pub(crate) async fn end_at(&self, key: RunKey, how: Settlement, now: Timestamp) -> bool {
        let step = self.step(vec![settle(key, how)], None, now).await.unwrap();
        assert!(step.claimed.is_empty());
        step.stale.is_empty()
    }

    /// Stores one job, runs it and lets it die.
    pub(crate) async fn dead_job(&self, node: NodeId, job: NewJob, reason: DeadReason) -> JobId {
        let key = self.running(node, job).await;
        assert!(self.end(key, dead(reason)).await);
        key.id
    }

    /// A job that is there.
    pub(crate) async fn info(&self, id: JobId) -> JobInfo {
        self.find(id).await.unwrap().expect("the job is there")
    }

    /// The state of a job that is there.
    pub(crate) async fn state(&self, id: JobId) -> JobState {
        self.info(id).await.state
    }

    /// The messages of what went wrong in a job.
    pub(crate) async fn messages(&self, id: JobId) -> Vec<String> {
        let errors = self.errors(id).await.unwrap();
        errors.iter().map(|(_, _, error)| error.message.to_string()).collect()
    }

    /// Expects a job to be dead for this reason.
    pub(crate) async fn expect_dead(&self, id: JobId, reason: DeadReason) {
        let info = self.info(id).await;
        assert_eq!((info.state, info.reason), (JobState::Dead, Some(reason)));
        assert!(info.run_at.is_none() && info.finished_at.is_some(), "{info:?}");
    }
}

fn new_id(inserted: Inserted) -> JobId {
    let Inserted::New(id) = inserted else { panic!("not stored: {inserted:?}") };
    id
}

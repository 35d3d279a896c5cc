//! Random sequences of operations, each told to a store and to a small model of its tables.

mod operation;

use super::stage::{DEPENDENCY, NOW, QUEUE, Stage, claim, error, job, settle, unique};
use crate::jobs::store::{
    Cancelled, Claim, DeadFilter, DeadReason, Inserted, JobInfo, JobState, NewJob, OnConflict,
    Replayed, Rescued, Settlement, Unique,
};
use crate::jobs::{Class, JobId, NodeId, RunKey};
use crate::store::Timestamp;

pub(crate) use operation::operation;

use operation::{Draft, End, Operation};

const POISON_AFTER: i16 = 3;

/// Does all of it, and compares after each step.
pub(crate) async fn play(stage: &Stage, operations: Vec<Operation>) {
    let nodes = [stage.node().await, stage.node().await];
    let mut model = Model::new(nodes);
    for operation in operations {
        model.perform(stage, operation.clone()).await;
        model.compare(stage, &operation).await;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Ready,
    Running { node: usize, begun: bool },
    Parked,
    Done,
    Dead(DeadReason),
}

#[derive(Debug, Clone)]
struct Job {
    id: JobId,
    place: Place,
    class: Class,
    run_at: Timestamp,
    due_at: Timestamp,
    expires_at: Option<Timestamp>,
    attempt: i16,
    max_attempts: i16,
    run: i32,
    crashes: i16,
    dependent: bool,
    deferred: bool,
    cancel: bool,
    key: Option<u8>,
}

impl Job {
    const fn is_live(&self) -> bool {
        matches!(self.place, Place::Ready | Place::Running { .. } | Place::Parked)
    }

    const fn is_running(&self) -> bool {
        matches!(self.place, Place::Running { .. })
    }

    fn is_due(&self, now: Timestamp) -> bool {
        self.place == Place::Ready && self.run_at <= now
    }

    fn state(&self) -> JobState {
        match self.place {
            Place::Ready if self.deferred => JobState::Parked,
            Place::Ready => JobState::Ready,
            Place::Running { .. } => JobState::Running,
            Place::Parked => JobState::Parked,
            Place::Done => JobState::Done,
            Place::Dead(_) => JobState::Dead,
        }
    }
}

#[derive(Debug)]
struct Model {
    now: Timestamp,
    nodes: [NodeId; 2],
    paused: bool,
    jobs: Vec<Job>,
    runs: Vec<RunKey>,
    /// By key: which job holds it and until when.
    held: [Option<(JobId, Timestamp)>; 3],
}

impl Model {
    const fn new(nodes: [NodeId; 2]) -> Self {
        Self { now: NOW, nodes, paused: false, jobs: Vec::new(), runs: Vec::new(), held: [None; 3] }
    }

    const fn later(&self, steps: u64) -> Timestamp {
        Timestamp(self.now.0 + steps.cast_signed() * 10_000)
    }

    fn job(&mut self, id: JobId) -> &mut Job {
        self.jobs.iter_mut().find(|job| job.id == id).unwrap()
    }

    /// Those that are meant, by their time.
    fn chosen(&self, limit: u32, is_meant: impl Fn(&Job) -> bool) -> Vec<JobId> {
        let mut chosen: Vec<_> =
            self.jobs.iter().filter(|job| is_meant(job)).map(|job| (job.run_at, job.id)).collect();
        chosen.sort_unstable();
        chosen.into_iter().take(limit as usize).map(|(_, id)| id).collect()
    }

    async fn perform(&mut self, stage: &Stage, operation: Operation) {
        let now = self.now;
        match operation {
            Operation::Insert(draft) => self.insert(stage, &draft).await,
            Operation::Claim { node, each, running_limit } => {
                let ask = Claim { running_limit, ..claim(self.nodes[node], each) };
                self.claim(stage, node, ask).await;
            }
            Operation::Settle { run, end, delay } if !self.runs.is_empty() => {
                self.settle(stage, self.runs[run % self.runs.len()], end, delay).await;
            }
            Operation::Begin { run } if !self.runs.is_empty() => {
                self.begin(stage, self.runs[run % self.runs.len()]).await;
            }
            Operation::Cancel { job } if !self.jobs.is_empty() => {
                self.cancel(stage, job % self.jobs.len()).await;
            }
            Operation::Retry { job } if !self.jobs.is_empty() => {
                self.retry(stage, job % self.jobs.len()).await;
            }
            Operation::Settle { .. }
            | Operation::Begin { .. }
            | Operation::Cancel { .. }
            | Operation::Retry { .. } => {}
            Operation::Park { limit } => self.park(stage, limit).await,
            Operation::Release { limit } => self.release(stage, limit).await,
            Operation::PullForward { limit } => self.pull_forward(stage, limit).await,
            Operation::Shed { class } => self.shed(stage, class).await,
            Operation::Pause { paused } => {
                self.paused = paused;
                stage.pause(QUEUE.into(), paused, now).await.unwrap();
            }
            Operation::Crash { node } => self.crash(stage, node).await,
            Operation::Replay { limit } => self.replay(stage, limit).await,
            Operation::Wait => self.now = self.later(1),
        }
    }

    async fn compare(&self, stage: &Stage, operation: &Operation) {
        let mut counted = [0; 5];
        for job in &self.jobs {
            let state = job.state();
            counted[state as usize] += 1;
            let found = stage.info(job.id).await;
            let reason = match job.place {
                Place::Dead(reason) => Some(reason),
                Place::Ready | Place::Running { .. } | Place::Parked | Place::Done => None,
            };
            let crashes = if state == JobState::Done { 0 } else { job.crashes };
            let expected = JobInfo {
                class: job.class,
                state,
                attempt: job.attempt,
                crashes,
                run_at: job.is_live().then_some(job.run_at),
                reason,
                ..found.clone()
            };
            assert_eq!(found, expected, "after {operation:?}");
            assert!(found.run >= job.run, "the fence fell after {operation:?}");
            assert!(!job.is_running() || found.run == job.run, "after {operation:?}");
        }
        let counts = stage.counts().await.unwrap();
        let found = [counts.ready, counts.running, counts.parked, counts.done, counts.dead];
        assert_eq!(found, counted, "after {operation:?}");
    }

    /// The job that has a key, unless it is `own`.
    fn holder(&self, key: u8, own: Option<JobId>) -> Option<JobId> {
        let live = self.jobs.iter().find(|job| job.is_live() && job.key == Some(key));
        let late = self.held[usize::from(key)].filter(|(_, until)| *until > self.now);
        let holder = live.map(|job| job.id).or_else(|| late.map(|(id, _)| id));
        holder.filter(|id| Some(*id) != own)
    }

    async fn insert(&mut self, stage: &Stage, draft: &Draft) {
        let unique = draft.key.map(|(key, conflict, until)| Unique {
            until: until.map(|steps| self.later(steps)),
            conflict,
            ..unique(&[key])
        });
        let new = NewJob {
            class: draft.class,
            run_at: self.later(draft.delay),
            expires_at: draft.expires.map(|steps| self.later(steps)),
            max_attempts: draft.attempts,
            dependency: draft.dependent.then(|| DEPENDENCY.into()),
            unique: unique.clone(),
            deferred: draft.deferred,
            depth_limit: draft.depth_limit,
            ..job()
        };
        let found = stage.offer_at(new.clone(), self.now).await;
        let key = draft.key.map(|(key, _, _)| key);
        let holder = key.and_then(|key| self.holder(key, None));
        let place = holder.map(|id| self.job(id).place);
        let conflict = draft.key.map(|(_, conflict, _)| conflict);
        let live = self.jobs.iter().filter(|job| job.is_live()).count();
        match (place, conflict) {
            (Some(Place::Done | Place::Dead(_)), _) | (Some(_), Some(OnConflict::Keep)) => {
                assert_eq!(Some(found), holder.map(Inserted::Duplicate));
                return;
            }
            (Some(Place::Ready | Place::Parked), _) => {
                assert_eq!(Some(found), holder.map(Inserted::Replaced));
                self.replace(holder.unwrap(), &new, conflict.unwrap());
            }
            (_, _) if draft.depth_limit.is_some_and(|limit| live >= limit as usize) => {
                assert_eq!(found, Inserted::QueueFull);
                return;
            }
            (Some(Place::Running { .. }), _) | (None, _) => {
                if let (Some(id), Some(key)) = (holder, key) {
                    self.job(id).key = None;
                    self.held[usize::from(key)] = None;
                }
                let Inserted::New(id) = found else { panic!("{found:?}") };
                self.add(id, &new, key);
            }
        }
        let (Inserted::New(id) | Inserted::Replaced(id)) = found else { return };
        if let (Some(key), Some(until)) = (key, unique.and_then(|unique| unique.until)) {
            self.held[usize::from(key)] = Some((id, until));
        }
    }

    fn add(&mut self, id: JobId, new: &NewJob, key: Option<u8>) {
        self.jobs.push(Job {
            id,
            place: Place::Ready,
            class: new.class,
            run_at: new.run_at,
            due_at: new.run_at,
            expires_at: new.expires_at,
            attempt: 0,
            max_attempts: new.max_attempts,
            run: 0,
            crashes: 0,
            dependent: new.dependency.is_some(),
            deferred: new.deferred,
            cancel: false,
            key,
        });
    }

    fn replace(&mut self, id: JobId, new: &NewJob, conflict: OnConflict) {
        let job = self.job(id);
        if conflict == OnConflict::Replace {
            (job.run_at, job.due_at) = (new.run_at, new.run_at);
            (job.expires_at, job.deferred) = (new.expires_at, new.deferred);
        }
    }

    async fn claim(&mut self, stage: &Stage, node: usize, ask: Claim) {
        let claimed = stage.claim_at(ask.clone(), self.now).await;
        let running = self.jobs.iter().filter(|job| job.is_running()).count();
        let mut free = ask.running_limit.map_or(usize::MAX, |limit| limit as usize);
        free = free.saturating_sub(running);
        let mut expected = Vec::new();
        for (class, want) in Class::ALL.into_iter().zip(ask.wants) {
            let now = self.now;
            expected.extend(self.chosen(want.into(), |job| job.class == class && job.is_due(now)));
        }
        expected.truncate(if self.paused { 0 } else { free });
        assert_eq!(super::stage::ids(&claimed), expected);
        for one in claimed {
            self.runs.push(one.key);
            let job = self.job(one.key.id);
            assert!(one.key.run > job.run);
            assert_eq!((one.attempt, one.due_at), (job.attempt + 1, job.due_at));
            assert_eq!((one.crashes, one.expires_at), (job.crashes, job.expires_at));
            assert_eq!(one.max_attempts, job.max_attempts);
            (job.run, job.attempt, job.deferred) = (one.key.run, one.attempt, false);
            job.place = Place::Running { node, begun: job.crashes == 0 };
        }
    }

    async fn settle(&mut self, stage: &Stage, key: RunKey, end: End, delay: u64) {
        let (now, run_at) = (self.now, self.later(delay));
        let release =
            |parked| Settlement::Release { run_at, parked, keeps_age: delay == 1, error: None };
        let how = match end {
            End::Done => Settlement::Done { keep: true },
            End::Retry => Settlement::Retry { run_at, error: error("refused") },
            End::Release => release(false),
            End::Park => release(true),
            End::PutOff => Settlement::PutOff { until: run_at },
            End::Dead => Settlement::Dead { reason: DeadReason::Discarded, error: None },
        };
        let step = stage.step(vec![settle(key, how)], None, now).await.unwrap();
        let job = self.job(key.id);
        let is_present = job.is_running() && job.run == key.run;
        assert_eq!(step.stale.is_empty(), is_present);
        if !is_present {
            return;
        }
        let cancelled = job.cancel.then_some(Place::Dead(DeadReason::Cancelled));
        let spent = job.attempt >= job.max_attempts;
        job.place = match end {
            End::Done => Place::Done,
            End::Dead => Place::Dead(DeadReason::Discarded),
            End::Retry if spent => cancelled.unwrap_or(Place::Dead(DeadReason::Discarded)),
            End::Park if job.dependent => cancelled.unwrap_or(Place::Parked),
            End::Retry | End::Release | End::Park | End::PutOff => {
                cancelled.unwrap_or(Place::Ready)
            }
        };
        if job.is_live() {
            let keeps_age = matches!(end, End::Release | End::Park) && delay == 1;
            job.deferred = matches!(end, End::PutOff);
            let due_at = if keeps_age { job.due_at } else { run_at };
            (job.run_at, job.due_at) = (run_at, due_at);
            job.attempt -= i16::from(!matches!(end, End::Retry));
        }
    }

    async fn begin(&mut self, stage: &Stage, key: RunKey) {
        let begun = stage.begin_suspect(key, self.now).await.unwrap();
        let job = self.job(key.id);
        let is_present = job.is_running() && job.run == key.run;
        assert_eq!(begun, is_present);
        if let Place::Running { begun, .. } = &mut job.place
            && is_present
        {
            *begun = true;
        }
    }

    async fn cancel(&mut self, stage: &Stage, index: usize) {
        let nodes = self.nodes;
        let job = &mut self.jobs[index];
        let expected = match job.place {
            Place::Ready | Place::Parked => {
                job.place = Place::Dead(DeadReason::Cancelled);
                Cancelled::Queued
            }
            Place::Running { node, .. } => {
                job.cancel = true;
                Cancelled::Running(nodes[node])
            }
            Place::Done | Place::Dead(_) => Cancelled::Over,
        };
        assert_eq!(stage.cancel(job.id, self.now).await.unwrap(), expected);
    }

    async fn retry(&mut self, stage: &Stage, index: usize) {
        let now = self.now;
        let mut job = self.jobs[index].clone();
        let retried = stage.retry(job.id, now).await.unwrap();
        let expected = match job.place {
            Place::Running { .. } | Place::Done => false,
            Place::Ready | Place::Parked => {
                if job.place == Place::Parked || job.run_at > now {
                    job.due_at = now;
                }
                job.run_at = job.run_at.min(now);
                (job.place, job.deferred) = (Place::Ready, false);
                true
            }
            Place::Dead(_) => self.resurrect(&mut job, false),
        };
        assert_eq!(retried, expected);
        self.jobs[index] = job;
    }

    /// Whether it could be.
    fn resurrect(&self, job: &mut Job, all_attempts: bool) -> bool {
        if job.key.is_some_and(|key| self.holder(key, Some(job.id)).is_some()) {
            return false;
        }
        if all_attempts {
            job.attempt = 0;
        }
        job.max_attempts = job.max_attempts.max(job.attempt + 1);
        (job.run_at, job.due_at, job.expires_at) = (self.now, self.now, None);
        (job.crashes, job.cancel, job.deferred) = (job.crashes.min(1), false, false);
        job.place = Place::Ready;
        true
    }

    async fn park(&mut self, stage: &Stage, limit: u32) {
        let chosen = self.chosen(limit, |job| job.dependent && job.place == Place::Ready);
        let parked = stage.park(DEPENDENCY.into(), limit).await.unwrap();
        assert_eq!(parked, chosen.len() as u64);
        for id in chosen {
            self.job(id).place = Place::Parked;
        }
    }

    async fn release(&mut self, stage: &Stage, limit: u32) {
        let now = self.now;
        let chosen = self.chosen(limit, |job| job.dependent && job.place == Place::Parked);
        let released = stage.release(DEPENDENCY.into(), limit, now).await.unwrap();
        assert_eq!(released, chosen.len() as u64);
        for id in chosen {
            let job = self.job(id);
            (job.place, job.due_at) = (Place::Ready, job.run_at.max(now));
        }
    }

    async fn pull_forward(&mut self, stage: &Stage, limit: u32) {
        let now = self.now;
        let is_meant = |job: &Job| job.place == Place::Ready && job.deferred && job.run_at > now;
        let chosen = self.chosen(limit, is_meant);
        let pulled = stage.pull_forward(QUEUE.into(), limit, now).await.unwrap();
        assert_eq!(pulled, chosen.len() as u64);
        for id in chosen {
            let job = self.job(id);
            (job.run_at, job.due_at, job.deferred) = (now, now, false);
        }
    }

    async fn shed(&mut self, stage: &Stage, class: Option<Class>) {
        let now = self.now;
        let mut expected = 0;
        for job in self.jobs.iter_mut().filter(|job| job.place == Place::Ready) {
            if job.expires_at.is_some_and(|at| at < now) {
                job.place = Place::Dead(DeadReason::Expired);
                expected += 1;
            } else if Some(job.class) == class && job.is_due(now) {
                job.place = Place::Dead(DeadReason::Shed);
                expected += 1;
            }
        }
        assert_eq!(stage.shed(QUEUE.into(), class, 10_000, now).await.unwrap(), expected);
    }

    async fn crash(&mut self, stage: &Stage, died: usize) {
        let now = self.now;
        let rescued = stage.rescue(vec![self.nodes[died]], POISON_AFTER, now).await.unwrap();
        self.nodes[died] = stage.node().await;
        let mine =
            |job: &&mut Job| matches!(job.place, Place::Running { node, .. } if node == died);
        let mut expected = Rescued::default();
        for job in self.jobs.iter_mut().filter(mine) {
            let begun = matches!(job.place, Place::Running { begun: true, .. });
            job.crashes += i16::from(begun);
            job.place = if job.cancel {
                expected.discarded += 1;
                Place::Dead(DeadReason::Cancelled)
            } else if begun && job.crashes >= POISON_AFTER {
                expected.poisoned += 1;
                Place::Dead(DeadReason::Poison)
            } else if begun && job.attempt >= job.max_attempts {
                expected.discarded += 1;
                Place::Dead(DeadReason::Discarded)
            } else {
                expected.requeued += 1;
                job.attempt -= i16::from(!begun);
                job.run_at = now;
                Place::Ready
            };
        }
        assert_eq!(rescued, expected);
    }

    async fn replay(&mut self, stage: &Stage, limit: u32) {
        let replayed = stage.replay(DeadFilter::default(), limit, self.now).await.unwrap();
        let dead = |job: &&Job| matches!(job.place, Place::Dead(_));
        let chosen: Vec<_> =
            self.jobs.iter().filter(dead).take(limit as usize).map(|job| job.id).collect();
        let mut expected = Replayed { last: chosen.last().copied(), ..Replayed::default() };
        for id in chosen {
            let mut job = self.job(id).clone();
            if self.resurrect(&mut job, true) {
                expected.moved += 1;
            } else {
                expected.duplicates += 1;
            }
            *self.job(id) = job;
        }
        assert_eq!(replayed, expected);
    }
}

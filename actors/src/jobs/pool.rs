//! The workers of one queue: what they hold, what they have finished, what to ask for next.
//!
//! INVARIANT: everything a claim brought is in `waiting`, running, or in `ends`, whatever becomes
//! of the actor that feeds the pool. So a restart of that actor loses nothing.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::{Notify, broadcast};
use tokio::time::Instant;

use super::config::QueueSpec;
use super::demand::Demand;
use super::guard::{self, GuardSnapshot, LevelChanged};
use super::store::{Claim, Claimed, Settle, Settlement, Step};
use super::{NodeId, RunKey, watchman};

/// LIMIT: ends that go into one step.
const ENDS_MAX: usize = 1_024;
/// Ends that are worth a step of their own.
const ENDS_ENOUGH: usize = 384;
/// LIMIT: steps under way at once. Another one only goes when there are enough ends for it: it
/// keeps the database busy while those before it wait for the disk, or are read here.
const STEPS_MAX: usize = 3;
/// How long an end may wait for others to share its transaction.
const ENDS_WAIT: Duration = Duration::from_millis(5);
/// How often the tables are looked at when nobody rings.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The pause after a step that failed.
const PAUSE: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(5);
/// How much work the pool keeps ready beyond its workers: what they do in this time.
const AHEAD: Duration = Duration::from_millis(10);
/// LIMIT: jobs kept ready beyond the workers.
const AHEAD_MAX: u32 = 1_024;

/// What the workers of a queue share with its feeder, its guard and whoever enqueues.
pub(super) struct Pool {
    pub(super) queue: Arc<str>,
    /// Runs at a time in this process.
    pub(super) workers: u16,
    /// Runs at a time in all processes together.
    pub(super) running_limit: Option<u32>,
    /// Jobs that may wait or run, counted exactly.
    pub(super) depth_limit: Option<u32>,
    /// Rung when a run ended or a step came back.
    pub(super) bell: Notify,
    pub(super) guard: ArcSwap<GuardSnapshot>,
    /// Each change of the guard's level.
    pub(super) changes: broadcast::Sender<LevelChanged>,
    pub(super) tally: Tally,
    active: AtomicU32,
    state: Mutex<State>,
}

/// What happened in this process, ever.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) enqueued: AtomicU64,
    /// Normal and sheddable jobs that the guard put off or turned away.
    pub(super) held_back: AtomicU64,
    pub(super) finished: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) stale: AtomicU64,
    /// Given up by the guard.
    pub(super) shed: AtomicU64,
    /// Enqueued since the guard looked last.
    pub(super) since_look: AtomicU64,
}

struct State {
    /// Claimed, not begun.
    waiting: VecDeque<Claimed>,
    /// Claimed, charged with a crash, not begun: one at a time in the whole process, those first
    /// that were charged least.
    suspects: VecDeque<Claimed>,
    ends: Vec<Settle>,
    /// Every run from its claim until its end is in the tables.
    held: HashSet<RunKey>,
    /// Those of them whose end the tables may know: from a handler's own transaction, or because
    /// the answer to a step was lost.
    completed: HashSet<RunKey>,
    oldest_end: Option<Instant>,
    /// Steps under way.
    steps: usize,
    /// What those may bring.
    asked: u32,
    demand: Demand,
    /// Nothing is asked of the store before this.
    not_before: Option<Instant>,
    /// The store failed: what it was asked is asked again as soon as it may be.
    ask_again: bool,
    pause: Duration,
    look_at: Instant,
    /// A job is known to be due then.
    due_at: Option<Instant>,
    /// Exponentially weighted mean of how long a run takes.
    mean_run: Duration,
    failing: bool,
}

/// How much to claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claims {
    /// Nothing: only ends are handed in, and at once.
    Nothing,
    /// As much as there are workers for, and a little ahead.
    Room,
    /// One job, for whoever runs one after the other.
    One,
}

/// What to ask of the store next.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) settles: Vec<Settle>,
    pub(super) claim: Option<Claim>,
    /// How often somebody had rung.
    wakes: u64,
}

impl Pool {
    pub(super) fn new(spec: &QueueSpec) -> Self {
        let now = Instant::now();
        Self {
            queue: Arc::clone(&spec.name),
            workers: spec.workers,
            running_limit: spec.running_limit,
            depth_limit: spec.depth_limit,
            bell: Notify::new(),
            guard: ArcSwap::from_pointee(guard::State::new(spec.guard.clone()).snapshot()),
            changes: watchman::changes(),
            tally: Tally::default(),
            active: AtomicU32::new(0),
            state: Mutex::new(State {
                waiting: VecDeque::new(),
                suspects: VecDeque::new(),
                ends: Vec::new(),
                held: HashSet::new(),
                completed: HashSet::new(),
                oldest_end: None,
                steps: 0,
                asked: 0,
                demand: Demand::new(),
                not_before: None,
                ask_again: false,
                pause: *PAUSE.start(),
                look_at: now,
                due_at: None,
                mean_run: Duration::from_secs(1),
                failing: false,
            }),
        }
    }

    /// The next job to begin and the worker it gets; `None` when there is no job or no worker.
    /// `suspects` says whether one that was charged with a crash may begin.
    pub(super) fn next(self: &Arc<Self>, suspects: bool) -> Option<(Claimed, Worker)> {
        let mut state = self.state.lock();
        if self.active.load(Ordering::Acquire) >= u32::from(self.workers) {
            return None;
        }
        let suspect = if suspects { state.suspects.pop_front() } else { None };
        let claimed = suspect.or_else(|| state.waiting.pop_front())?;
        self.active.fetch_add(1, Ordering::AcqRel);
        Some((claimed, Worker(Arc::clone(self))))
    }

    /// Whether a job that was charged with a crash waits to begin.
    pub(super) fn has_suspect(&self) -> bool {
        !self.state.lock().suspects.is_empty()
    }

    /// Runs that have not returned.
    pub(super) fn active(&self) -> u32 {
        self.active.load(Ordering::Acquire)
    }

    /// Takes the end of a run in, for the next step.
    ///
    /// `completed`: the tables may know of it already, from the handler's own transaction.
    pub(super) fn end(&self, settle: Settle, completed: bool, now: Instant) {
        let mut state = self.state.lock();
        if !matches!(settle.how, Settlement::Release { .. } | Settlement::PutOff { .. }) {
            // The weight of one run is an eighth: a few runs are enough to see a change.
            state.mean_run = (state.mean_run * 7 + settle.ran) / 8;
        }
        state.oldest_end.get_or_insert(now);
        if completed {
            state.completed.insert(settle.key);
        }
        state.ends.push(settle);
        if self.running_limit.is_some() {
            // What was not claimed for the limit's sake may be claimed now.
            state.demand.woken();
        }
        drop(state);
        self.bell.notify_one();
    }

    /// Somebody rang: there may be work.
    pub(super) fn woken(&self, now: Instant) {
        let mut state = self.state.lock();
        state.demand.woken();
        state.look_at = now;
    }

    /// A job of this queue will be due in `wait`.
    pub(super) fn due_in(&self, wait: Duration, now: Instant) {
        if wait > LOOK_EVERY {
            return;
        }
        let mut state = self.state.lock();
        let at = now + wait;
        if state.due_at.is_none_or(|due| at < due) {
            state.due_at = Some(at);
            drop(state);
            self.bell.notify_one();
        }
    }

    /// Looks into the tables at once, whatever was found there or failed before.
    pub(super) fn look_now(&self, now: Instant) {
        self.woken(now);
        self.state.lock().not_before = None;
    }

    /// What to ask of the store now, if anything. Whoever asks must say that it was
    /// [`answered`](Self::answered) or [`unanswered`](Self::unanswered).
    pub(super) fn ask(&self, node: NodeId, claims: Claims, now: Instant) -> Option<Ask> {
        let mut state = self.state.lock();
        if !state.may_step() || state.not_before.is_some_and(|at| now < at) {
            return None;
        }
        state.ask_again = false;
        let idle = self.active() == 0 && state.waiting.is_empty() && state.suspects.is_empty();
        let flush = state.must_flush(idle || claims == Claims::Nothing, now);
        let wants = match claims {
            Claims::Nothing => [0; 4],
            Claims::Room => state.wants(self.workers, self.active(), flush, now),
            Claims::One => state.demand.split(self.workers.min(1), now),
        };
        if !flush && wants == [0; 4] {
            return None;
        }
        state.steps += 1;
        state.asked += sum(wants);
        let count = state.ends.len().min(ENDS_MAX);
        let settles: Vec<_> = state.ends.drain(..count).collect();
        state.oldest_end = (!state.ends.is_empty()).then_some(now);
        let claim = (wants != [0; 4]).then(|| Claim {
            queue: Arc::clone(&self.queue),
            node,
            wants,
            running_limit: self.running_limit,
        });
        Some(Ask { settles, claim, wakes: state.demand.wakes() })
    }

    /// What the store answered to what it was asked: takes in what was claimed, and gives back
    /// the runs whose end came too late.
    pub(super) fn answered(&self, ask: &Ask, step: Step, now: Instant) -> Vec<RunKey> {
        let mut state = self.state.lock();
        state.stepped(ask);
        state.not_before = None;
        state.pause = *PAUSE.start();
        state.failing = false;
        if let Some(claim) = &ask.claim {
            let _asked_again_anyway =
                state.demand.learned(claim.wants, by_class(&step.claimed), ask.wakes, now);
        }
        for claimed in step.claimed {
            state.held.insert(claimed.key);
            if claimed.crashes > 0 {
                state.suspect(claimed);
            } else {
                state.waiting.push_back(claimed);
            }
        }
        let mut stale = step.stale;
        stale.retain(|key| !state.completed.contains(key));
        for settle in &ask.settles {
            state.held.remove(&settle.key);
            state.completed.remove(&settle.key);
        }
        drop(state);
        self.tally.stale.fetch_add(stale.len() as u64, Ordering::Relaxed);
        self.bell.notify_one();
        stale
    }

    /// The store did not answer: what was to be settled is kept, and asked again after a pause.
    /// `true` if it had answered before.
    ///
    /// `wrote_nothing`: it is certain that the tables know of none of these ends.
    pub(super) fn unanswered(&self, ask: Ask, wrote_nothing: bool, now: Instant) -> bool {
        let mut state = self.state.lock();
        state.stepped(&ask);
        if !wrote_nothing {
            state.completed.extend(ask.settles.iter().map(|settle| settle.key));
        }
        state.ends.splice(0..0, ask.settles);
        state.oldest_end = (!state.ends.is_empty()).then_some(now);
        state.not_before = Some(now + state.pause);
        state.ask_again = true;
        state.pause = (state.pause * 2).min(*PAUSE.end());
        let first = !std::mem::replace(&mut state.failing, true);
        drop(state);
        self.bell.notify_one();
        first
    }

    /// When to look again if nobody rings: never in the past for long, whatever waits.
    pub(super) fn look_at(&self, claims: Claims, now: Instant) -> Instant {
        let state = self.state.lock();
        let mut at = now + LOOK_EVERY;
        if !state.may_step() {
            // Until an answer or one more end rings there is nothing to ask.
            return at;
        }
        if let Some(end) = state.oldest_end {
            at = at.min(end + ENDS_WAIT);
        }
        if state.ask_again {
            at = now;
        }
        if claims != Claims::Nothing {
            at = at.min(state.look_at);
            at = state.due_at.map_or(at, |due| at.min(due));
        }
        state.not_before.map_or(at, |earliest| at.max(earliest))
    }

    /// Takes everything that has not begun, to give it back.
    pub(super) fn take_unstarted(&self) -> Vec<Claimed> {
        let mut state = self.state.lock();
        let mut all: Vec<_> = state.waiting.drain(..).collect();
        all.extend(state.suspects.drain(..));
        all
    }

    /// Whether nothing is held any more: nothing claimed, running or to be settled.
    pub(super) fn is_empty(&self) -> bool {
        let state = self.state.lock();
        state.steps == 0 && state.held.is_empty() && self.active() == 0
    }

    /// Runs that are not over: claimed or running, or their end is not in the tables yet.
    pub(super) fn unsettled(&self) -> u64 {
        let held = self.state.lock().held.len();
        u64::from(self.active()).max(held as u64)
    }

    /// Whether this run is held here: claimed, and its end not in the tables yet.
    pub(super) fn holds(&self, key: RunKey) -> bool {
        self.state.lock().held.contains(&key)
    }

    /// Lets go of a run that is over, or that somebody else will find.
    pub(super) fn forget(&self, key: RunKey) {
        self.state.lock().held.remove(&key);
    }
}

impl State {
    /// Whether one more step may be under way.
    fn may_step(&self) -> bool {
        match self.steps {
            0 => true,
            steps => steps < STEPS_MAX && self.ends.len() >= ENDS_ENOUGH,
        }
    }

    /// One that was on trial before is tried after the others: were it the first each time, three
    /// deaths for another reason would be blamed on it alone.
    fn suspect(&mut self, claimed: Claimed) {
        let place = self.suspects.partition_point(|other| other.crashes <= claimed.crashes);
        self.suspects.insert(place, claimed);
    }

    fn stepped(&mut self, ask: &Ask) {
        self.steps = self.steps.saturating_sub(1);
        let asked = ask.claim.as_ref().map_or(0, |claim| sum(claim.wants));
        self.asked = self.asked.saturating_sub(asked);
    }

    fn must_flush(&self, idle: bool, now: Instant) -> bool {
        let waited = self.oldest_end.is_some_and(|end| end + ENDS_WAIT <= now);
        !self.ends.is_empty() && (idle || waited || self.ends.len() >= ENDS_ENOUGH)
    }

    /// How many of each class to claim now.
    fn wants(&mut self, workers: u16, active: u32, flush: bool, now: Instant) -> [u16; 4] {
        if self.due_at.is_some_and(|due| due <= now) {
            self.due_at = None;
            self.demand.woken();
        } else if self.look_at <= now {
            self.demand.woken();
        }
        if self.look_at <= now {
            self.look_at = now + LOOK_EVERY;
        }
        let workers = u32::from(workers);
        let held = u32::try_from(self.waiting.len()).unwrap_or(u32::MAX);
        let most = workers + self.ahead(workers);
        let room = most.saturating_sub(active + held + self.asked);
        // A claim for a single free place would be a transaction per job: wait for a quarter of
        // them, unless the workers have nothing left to do or the transaction is made anyway.
        let worth = flush || self.waiting.is_empty() || room * 4 >= most;
        if room == 0 || !worth {
            return [0; 4];
        }
        self.demand.split(u16::try_from(room).unwrap_or(u16::MAX), now)
    }

    /// What the workers do in [`AHEAD`]: the shorter the runs, the more jobs are kept ready.
    fn ahead(&self, workers: u32) -> u32 {
        let runs = AHEAD.as_nanos() / self.mean_run.as_nanos().max(1_000);
        u32::try_from(runs).unwrap_or(u32::MAX).saturating_mul(workers).min(AHEAD_MAX)
    }
}

fn sum(counts: [u16; 4]) -> u32 {
    counts.map(u32::from).iter().sum()
}

fn by_class(claimed: &[Claimed]) -> [u16; 4] {
    let mut counts = [0_u16; 4];
    for one in claimed {
        if let Some(count) = counts.get_mut(one.class.index()) {
            *count = count.saturating_add(1);
        }
    }
    counts
}

impl Tally {
    /// Counts the end of a run.
    pub(super) fn count(&self, settle: &Settle) {
        match settle.how {
            Settlement::Done { .. } | Settlement::Dead { .. } => &self.finished,
            Settlement::Retry { .. } => &self.failed,
            Settlement::Release { .. } | Settlement::PutOff { .. } => return,
        }
        .fetch_add(1, Ordering::Relaxed);
    }
}

/// A worker that a run holds; free again when it is dropped, however the run ends.
pub(super) struct Worker(Arc<Pool>);

impl Worker {
    pub(super) fn pool(&self) -> &Arc<Pool> {
        &self.0
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::AcqRel);
        self.0.bell.notify_one();
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("queue", &self.queue)
            .field("workers", &self.workers)
            .field("active", &self.active())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::{Class, JobId};
    use crate::store::Timestamp;

    fn pool() -> (Pool, Instant) {
        (Pool::new(&QueueSpec::new("default")), Instant::now())
    }

    fn end(pool: &Pool, id: i64, now: Instant) {
        let (key, how) = (RunKey { id: JobId(id), run: 1 }, Settlement::Done { keep: true });
        let settle = Settle { key, how, queued: Duration::ZERO, ran: Duration::ZERO };
        pool.end(settle, false, now);
    }

    #[test]
    fn nobody_looks_while_a_question_is_under_way() {
        let (pool, began) = pool();
        assert!(pool.ask(NodeId::fresh(), Claims::Room, began).is_some());
        end(&pool, 1, began);
        let now = began + ENDS_WAIT * 2;
        assert_eq!(pool.look_at(Claims::Room, now), now + LOOK_EVERY);
    }

    #[test]
    fn further_steps_go_with_enough_ends_and_none_beyond_the_limit() {
        let (pool, now) = pool();
        let mut asks = vec![pool.ask(NodeId::fresh(), Claims::Room, now).unwrap()];
        let enough = i64::try_from(ENDS_ENOUGH).unwrap();
        for step in 1..STEPS_MAX {
            (1..enough).for_each(|id| end(&pool, id, now));
            assert!(pool.ask(NodeId::fresh(), Claims::Room, now + ENDS_WAIT).is_none(), "{step}");
            end(&pool, 0, now);
            asks.push(pool.ask(NodeId::fresh(), Claims::Room, now).unwrap());
        }
        assert!(asks.iter().skip(1).all(|ask| ask.settles.len() == ENDS_ENOUGH));
        let asked = asks.iter().map(|ask| ask.claim.as_ref().map_or(0, |one| sum(one.wants)));
        assert!(asked.sum::<u32>() <= u32::from(pool.workers) + AHEAD_MAX);
        (0..2 * enough).for_each(|id| end(&pool, id, now));
        assert!(pool.ask(NodeId::fresh(), Claims::Room, now).is_none());
        assert!(pool.answered(&asks.remove(0), Step::default(), now).is_empty());
        assert!(pool.ask(NodeId::fresh(), Claims::Room, now).is_some());
    }

    #[test]
    fn an_end_waits_for_no_more_than_its_time() {
        let (pool, now) = pool();
        let ask = pool.ask(NodeId::fresh(), Claims::Room, now).unwrap();
        assert!(pool.answered(&ask, Step::default(), now).is_empty());
        end(&pool, 1, now);
        assert_eq!(pool.look_at(Claims::Room, now), now + ENDS_WAIT);
    }

    #[test]
    fn a_question_that_failed_is_asked_again_after_the_pause_and_not_sooner() {
        let (pool, now) = pool();
        let ask = pool.ask(NodeId::fresh(), Claims::Room, now).unwrap();
        pool.unanswered(ask, true, now);
        let at = now + *PAUSE.start();
        assert_eq!(pool.look_at(Claims::Room, now), at);
        assert!(pool.ask(NodeId::fresh(), Claims::Room, now).is_none());
        assert!(pool.ask(NodeId::fresh(), Claims::Room, at).is_some());
    }

    #[test]
    fn what_was_not_begun_does_not_make_runs_look_short() {
        let (pool, now) = pool();
        for id in 0..100 {
            let (key, how) =
                (RunKey { id: JobId(id), run: 1 }, Settlement::PutOff { until: Timestamp(1) });
            pool.end(Settle { key, how, queued: Duration::ZERO, ran: Duration::ZERO }, false, now);
        }
        let ask = pool.ask(NodeId::fresh(), Claims::Room, now).unwrap();
        assert_eq!(sum(ask.claim.unwrap().wants), u32::from(pool.workers), "none ahead");
    }

    #[test]
    fn of_suspects_those_are_tried_first_that_were_charged_least() {
        let (pool, now) = pool();
        let pool = Arc::new(pool);
        let claimed = [(1, 2), (2, 1), (3, 1)].map(|(id, crashes)| suspect(id, crashes)).into();
        let ask = pool.ask(NodeId::fresh(), Claims::Room, now).unwrap();
        assert!(pool.answered(&ask, Step { claimed, ..Step::default() }, now).is_empty());
        assert!(pool.next(false).is_none(), "none begins without leave");
        let tried = std::iter::from_fn(|| pool.next(true)).map(|(claimed, _)| claimed.key.id.0);
        assert_eq!(tried.collect::<Vec<_>>(), [2, 3, 1]);
    }

    fn suspect(id: i64, crashes: i16) -> Claimed {
        Claimed {
            key: RunKey { id: JobId(id), run: 2 },
            kind: "work".into(),
            class: Class::Normal,
            attempt: 2,
            max_attempts: 10,
            crashes,
            deferrals: 0,
            due_at: Timestamp(0),
            expires_at: None,
            dependency: None,
            args: b"{}".as_slice().into(),
            args_format: 0,
            meta: None,
            created_at: Timestamp(0),
        }
    }

    #[test]
    fn who_may_not_claim_does_not_look_for_work() {
        let (pool, began) = pool();
        pool.due_in(Duration::ZERO, began);
        let now = began + LOOK_EVERY;
        assert_eq!(pool.look_at(Claims::Nothing, now), now + LOOK_EVERY);
        assert!(pool.look_at(Claims::Room, now) <= now);
    }
}

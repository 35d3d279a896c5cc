//! What all handles, permits and the actor of one breaker share.
//!
//! INVARIANT: liveness never depends on the actor. Any thread makes any transition; the
//! actor only makes those that are due while nobody calls.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_utils::CachePadded;
use tokio::sync::broadcast;

use super::clock::{Clock, NANOS_PER_MILLI, millis_up};
use super::config::Config;
use super::gate::{Flaps, Gate, Lease, Word};
use super::journal::{Event, Journal};
use super::state::{self, Ending, Entry, Finding, FlapMemory, Phase, Step, Trials, Verdict};
use super::window::Window;
use super::{BreakerState, Cause, DependencyId, Outcome, RejectCause, Rejected, Snapshot};

#[derive(Debug)]
pub(super) struct Core {
    pub(super) gate: Gate,
    streak: CachePadded<Streak>,
    window: Window,
    lease: Lease,
    pub(super) flaps: Flaps,
    /// An operator has ordered something since the breaker was built.
    pub(super) commanded: AtomicBool,
    late: AtomicU64,
    pub(super) journal: Journal,
    dependency: DependencyId,
    pub(super) clock: Clock,
    pub(super) config: Config,
}

/// When a call was admitted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Admission {
    pub(super) epoch: u64,
    pub(super) at_ns: u64,
}

/// What a success must look at besides its own bucket.
#[derive(Debug, Default)]
struct Streak {
    /// Failures since the last success, if a row of them opens; a racing success may
    /// swallow one.
    failures: AtomicU32,
    /// A rate is over its limit, and only the minimum of calls is missing.
    armed: AtomicBool,
}

// Every call reads these, so they are only written when they change.
impl Streak {
    #[inline]
    fn end(&self) {
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    fn arm(&self, armed: bool) {
        if self.armed.load(Ordering::Relaxed) != armed {
            self.armed.store(armed, Ordering::Relaxed);
        }
    }
}

impl Core {
    pub(super) fn new(dependency: DependencyId, clock: Clock, config: Config) -> Self {
        Self {
            gate: Gate::new(),
            streak: CachePadded::default(),
            window: Window::new(config.window, config.slow_percent.is_some()),
            lease: Lease::default(),
            flaps: Flaps::default(),
            commanded: AtomicBool::new(false),
            late: AtomicU64::new(0),
            journal: Journal::new(),
            dependency,
            clock,
            config,
        }
    }

    pub(super) const fn dependency(&self) -> DependencyId {
        self.dependency
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.journal.subscribe()
    }

    pub(super) fn history(&self) -> Vec<Event> {
        self.journal.history()
    }

    #[inline]
    pub(super) fn admit(&self) -> Result<Admission, Rejected> {
        let now = self.clock.nanos();
        let word = self.gate.load();
        let epoch = if word.is_closed() { word.epoch() } else { self.enter(word, now)? };
        Ok(Admission { epoch, at_ns: now })
    }

    /// Asks a gate that is not closed; the epoch if the call may pass.
    fn enter(&self, mut word: Word, now_ns: u64) -> Result<u64, Rejected> {
        let now = now_ns / NANOS_PER_MILLI;
        loop {
            let lease = self.lease_of(word, now);
            match state::enter(word.phase(), now, lease, &self.config) {
                Entry::Admit => return Ok(word.epoch()),
                Entry::Refuse(cause, wait) => return Err(self.reject(cause, wait)),
                Entry::Probe(trials) => {
                    let more = word.with(Phase::HalfOpen(trials));
                    self.lease.extend(word.epoch(), now + self.config.lease_ms);
                    if self.gate.swap(word, more) {
                        return Ok(word.epoch());
                    }
                }
                Entry::FirstProbe(cause) => {
                    let first = Phase::HalfOpen(Trials { issued: 1, ..Trials::default() });
                    let epoch = word.next(first).epoch();
                    self.lease.extend(epoch, now + self.config.lease_ms);
                    if self.transition(word, first, cause, now_ns) {
                        return Ok(epoch);
                    }
                }
                Entry::Over(ending) => self.end(word, ending, now_ns),
            }
            word = self.gate.load();
        }
    }

    #[inline]
    fn reject(&self, cause: RejectCause, wait_ms: u64) -> Rejected {
        self.window.record_rejected();
        Rejected::new(self.dependency, cause, Duration::from_millis(wait_ms))
    }

    /// Counts what came of an admitted call.
    #[inline]
    pub(super) fn settle(&self, admission: Admission, outcome: Outcome) {
        let now = self.clock.nanos();
        let slow = now.saturating_sub(admission.at_ns) >= self.config.slow_after_ns;
        let word = self.gate.load();
        if word.epoch() != admission.epoch {
            self.late.fetch_add(1, Ordering::Relaxed);
        } else if word.is_closed() {
            self.count(word, now, outcome, slow);
        } else {
            self.settle_elsewhere(word, now, outcome, slow);
        }
    }

    fn settle_elsewhere(&self, word: Word, now: u64, outcome: Outcome, slow: bool) {
        match word.state() {
            BreakerState::HalfOpen => self.settle_probe(word, now, outcome, slow),
            BreakerState::MetricsOnly => {
                if let Some(sample) = outcome.sample(slow) {
                    self.window.record(now, sample);
                }
            }
            // Disabled counts nothing; the others admit nothing.
            BreakerState::Disabled
            | BreakerState::Closed
            | BreakerState::Open
            | BreakerState::ForcedOpen => {}
        }
    }

    /// Takes back the permit of a call that was not made.
    pub(super) fn give_back(&self, admission: Admission) {
        let word = self.gate.load();
        if word.epoch() == admission.epoch && word.state() == BreakerState::HalfOpen {
            self.step_trial(word, self.clock.nanos(), Finding::Returned);
        }
    }

    #[inline]
    fn count(&self, word: Word, now: u64, outcome: Outcome, slow: bool) {
        if let Some(retry_after) = outcome.asked_wait() {
            return self.open(word, now, Cause::Throttled { retry_after });
        }
        let Some(sample) = outcome.sample(slow) else { return };
        self.window.record(now, sample);
        if sample.failed {
            self.count_failure(word, now);
        } else {
            self.streak.end();
            let suspect = sample.slow && self.config.slow_percent.is_some();
            if suspect || self.streak.armed.load(Ordering::Relaxed) {
                self.judge(word, now);
            }
        }
    }

    fn count_failure(&self, word: Word, now: u64) {
        if let Some(limit) = self.config.consecutive_failures {
            let failures = self.streak.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
            if failures >= limit {
                return self.open(word, now, Cause::ConsecutiveFailures { failures });
            }
        }
        self.judge(word, now);
    }

    fn judge(&self, word: Word, now: u64) {
        match state::judge(self.window.sum(now), &self.config) {
            Verdict::Healthy => self.streak.arm(false),
            Verdict::TooFewCalls => self.streak.arm(true),
            Verdict::Trip(cause) => self.open(word, now, cause),
        }
    }

    fn settle_probe(&self, word: Word, now: u64, outcome: Outcome, slow: bool) {
        if let Some(retry_after) = outcome.asked_wait() {
            // Another probe may have changed the counts meanwhile; the wait stands.
            let mut word = word;
            let epoch = word.epoch();
            while word.epoch() == epoch {
                self.open(word, now, Cause::Throttled { retry_after });
                word = self.gate.load();
            }
            return;
        }
        let finding = outcome.finding(slow, self.config.slow_percent.is_some());
        self.step_trial(word, now, finding);
    }

    fn step_trial(&self, mut word: Word, now: u64, finding: Finding) {
        let epoch = word.epoch();
        while word.epoch() == epoch {
            let Phase::HalfOpen(trials) = word.phase() else { return };
            match state::settle_trial(trials, finding, &self.config) {
                Step::Stay(trials) => {
                    if self.gate.swap(word, word.with(Phase::HalfOpen(trials))) {
                        return;
                    }
                }
                Step::Close(cause) => self.end(word, Ending::Close(cause), now),
                Step::Reopen(cause) => self.end(word, Ending::Reopen(cause), now),
            }
            word = self.gate.load();
        }
    }

    /// Makes the transitions that are due; says after how long to look again.
    pub(super) fn tick(&self) -> Option<Duration> {
        let now_ns = self.clock.nanos();
        let now = now_ns / NANOS_PER_MILLI;
        let word = self.gate.load();
        if let Some(ending) = state::ending(word.phase(), now, self.lease_of(word, now)) {
            self.end(word, ending, now_ns);
        }
        let word = self.gate.load();
        let look = state::next_look(word.phase(), now, self.lease_of(word, now), &self.config)?;
        Some(Duration::from_millis(look.saturating_sub(now).max(1)))
    }

    /// When the lease of this word's probes ends. One that was overwritten by a straggler
    /// of an earlier epoch is given anew.
    fn lease_of(&self, word: Word, now: u64) -> u64 {
        if word.state() != BreakerState::HalfOpen {
            return u64::MAX;
        }
        if self.lease.of(word.epoch()) == u64::MAX {
            self.lease.extend(word.epoch(), now + self.config.lease_ms);
        }
        self.lease.of(word.epoch())
    }

    fn end(&self, word: Word, ending: Ending, now_ns: u64) {
        match ending {
            Ending::Try(cause) => {
                self.transition(word, Phase::HalfOpen(Trials::default()), cause, now_ns);
            }
            Ending::Close(cause) => {
                self.close(word, cause, now_ns);
            }
            Ending::Reopen(cause) => self.open(word, now_ns, cause),
        }
    }

    /// Closes with a clean window; says whether it was this thread that closed.
    pub(super) fn close(&self, word: Word, cause: Cause, now_ns: u64) -> bool {
        if self.gate.load() != word {
            return false;
        }
        // ORDER: cleared before it is published, or the first calls' results would be lost.
        // A thread that loses the race below may clear some of them: that is tolerated.
        self.window.clear();
        self.streak.end();
        self.streak.arm(false);
        let before = self.flaps.load();
        let after = FlapMemory { closed_at: now_ns / NANOS_PER_MILLI, ..before };
        self.move_to(word, Phase::Closed, before, after, cause, now_ns)
    }

    fn open(&self, word: Word, now_ns: u64, cause: Cause) {
        let now = now_ns.div_ceil(NANOS_PER_MILLI);
        let before = self.flaps.load();
        let memory = self.less_forgotten(before, word, now);
        let (shortest, longest) = memory.pause(&self.config);
        let pause = fastrand::u64(shortest..=longest);
        let (pause, after) = if let Cause::Throttled { retry_after } = cause {
            let asked = millis_up(retry_after).min(self.config.retry_after_max_ms);
            (pause.max(asked), memory)
        } else {
            (pause, memory.one_more())
        };
        self.move_to(word, Phase::Open { until: now + pause }, before, after, cause, now_ns);
    }

    /// The memory of earlier openings, less what closed time has made it forget.
    fn less_forgotten(&self, memory: FlapMemory, word: Word, now: u64) -> FlapMemory {
        if word.is_closed() { memory.after_closed(now, &self.config) } else { memory }
    }

    /// Changes the state, not what is remembered. Says whether it was this thread that did.
    pub(super) fn transition(&self, word: Word, phase: Phase, cause: Cause, now_ns: u64) -> bool {
        let memory = self.flaps.load();
        self.move_to(word, phase, memory, memory, cause, now_ns)
    }

    /// The one way to change state. Says whether it was this thread that did.
    fn move_to(
        &self,
        word: Word,
        phase: Phase,
        before: FlapMemory,
        after: FlapMemory,
        cause: Cause,
        now_ns: u64,
    ) -> bool {
        let next = word.next(phase);
        if !self.gate.swap(word, next) {
            return false;
        }
        // ORDER: remembered before it is announced, for a subscriber may use the breaker.
        if before != after {
            self.flaps.replace(before, after);
        }
        let now = now_ns / NANOS_PER_MILLI;
        let left = |until: u64| Duration::from_millis(until.saturating_sub(now));
        self.journal.hand_in(Event {
            dependency: self.dependency,
            epoch: next.epoch(),
            from: word.state(),
            to: next.state(),
            cause,
            lasts: phase.until().map(left),
            at: Duration::from_nanos(now_ns),
        });
        true
    }

    #[cfg(test)]
    pub(super) fn probes_under_way(&self) -> u16 {
        match self.gate.load().phase() {
            Phase::HalfOpen(trials) => trials.under_way(),
            Phase::Closed
            | Phase::Open { .. }
            | Phase::ForcedOpen { .. }
            | Phase::Disabled { .. }
            | Phase::MetricsOnly { .. } => 0,
        }
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let now_ns = self.clock.nanos();
        let word = self.gate.load();
        let counts = self.window.sum(now_ns);
        let last = self.journal.last();
        let until = word.phase().until();
        let now = now_ns / NANOS_PER_MILLI;
        Snapshot {
            dependency: self.dependency,
            state: word.state(),
            cause: last.as_ref().map_or(Cause::Built, |event| event.cause.clone()),
            since: last.as_ref().map_or(Duration::ZERO, |event| event.at),
            now: Duration::from_nanos(now_ns),
            remaining: until.map(|until| Duration::from_millis(until.saturating_sub(now))),
            epoch: last.map_or(0, |event| event.epoch),
            calls: counts.calls,
            failures: counts.failures,
            slow: self.config.slow_percent.map(|_| counts.slow),
            rejected: self.window.rejected(),
            late: self.late.load(Ordering::Relaxed),
            openings: self.less_forgotten(self.flaps.load(), word, now).openings,
        }
    }
}

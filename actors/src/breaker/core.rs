//! What all handles, permits and the actor of one breaker share.
//!
//! INVARIANT: liveness never depends on the actor. Any thread makes any transition; the
//! actor only makes those that are due while nobody calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_utils::CachePadded;
use tokio::sync::broadcast;

use super::clock::{Clock, NANOS_PER_MILLI, millis_up};
use super::config::Config;
use super::gate::{Gate, Lease, Memory, Word};
use super::journal::{Event, Journal};
use super::state::{self, Ending, Entry, Finding, FlapMemory, Phase, Step, Trials, Verdict};
use super::window::{Sample, Window};
use super::{
    Ack, BreakerState, Cause, DependencyId, Outcome, Permit, RejectCause, Rejected, Snapshot,
};

#[derive(Debug)]
pub(super) struct Core {
    gate: Gate,
    streak: CachePadded<Streak>,
    window: Window,
    lease: Lease,
    memory: Memory,
    late: AtomicU64,
    journal: Journal,
    dependency: DependencyId,
    clock: Clock,
    config: Config,
}

/// What a success must look at besides its own bucket.
#[derive(Debug, Default)]
struct Streak {
    /// Failures since the last success; a racing success may swallow one.
    failures: AtomicU32,
    /// A rate is over its limit, and only the minimum of calls is missing.
    armed: AtomicBool,
}

impl Core {
    pub(super) fn new(dependency: DependencyId, clock: Clock, config: Config) -> Self {
        Self {
            gate: Gate::new(),
            streak: CachePadded::default(),
            window: Window::new(config.window, config.slow_percent.is_some()),
            lease: Lease::default(),
            memory: Memory::default(),
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
    pub(super) fn try_acquire(self: &Arc<Self>) -> Result<Permit, Rejected> {
        let now = self.clock.nanos();
        let word = self.gate.load();
        let epoch = if word.is_closed() { word.epoch() } else { self.enter(word, now)? };
        Ok(Permit::new(Arc::clone(self), epoch, now))
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

    /// Counts what came of a call that was admitted in `epoch`.
    #[inline]
    pub(super) fn settle(&self, epoch: u64, started_ns: u64, outcome: Outcome) {
        let now = self.clock.nanos();
        let slow = now.saturating_sub(started_ns) >= self.config.slow_after_ns;
        let word = self.gate.load();
        if word.epoch() != epoch {
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
                if let Some(sample) = sample(outcome, slow) {
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
    pub(super) fn give_back(&self, epoch: u64) {
        let word = self.gate.load();
        if word.epoch() == epoch && word.state() == BreakerState::HalfOpen {
            self.step_trial(word, self.clock.nanos(), Finding::Returned);
        }
    }

    #[inline]
    fn count(&self, word: Word, now: u64, outcome: Outcome, slow: bool) {
        if let Some(retry_after) = asked_wait(outcome) {
            return self.open(word, now, Cause::Throttled { retry_after });
        }
        let Some(sample) = sample(outcome, slow) else { return };
        self.window.record(now, sample);
        if sample.failed {
            self.count_failure(word, now);
        } else {
            if self.streak.failures.load(Ordering::Relaxed) != 0 {
                self.streak.failures.store(0, Ordering::Relaxed);
            }
            let suspect = sample.slow && self.config.slow_percent.is_some();
            if suspect || self.streak.armed.load(Ordering::Relaxed) {
                self.judge(word, now);
            }
        }
    }

    fn count_failure(&self, word: Word, now: u64) {
        let failures = self.streak.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if self.config.consecutive_failures.is_some_and(|limit| failures >= limit) {
            self.open(word, now, Cause::ConsecutiveFailures { failures });
        } else {
            self.judge(word, now);
        }
    }

    fn judge(&self, word: Word, now: u64) {
        match state::judge(self.window.sum(now), &self.config) {
            Verdict::Healthy => self.streak.armed.store(false, Ordering::Relaxed),
            Verdict::TooFewCalls => self.streak.armed.store(true, Ordering::Relaxed),
            Verdict::Trip(cause) => self.open(word, now, cause),
        }
    }

    fn settle_probe(&self, word: Word, now: u64, outcome: Outcome, slow: bool) {
        if let Some(retry_after) = asked_wait(outcome) {
            // Another probe may have changed the counts meanwhile; the wait stands.
            let mut word = word;
            let epoch = word.epoch();
            while word.epoch() == epoch {
                self.open(word, now, Cause::Throttled { retry_after });
                word = self.gate.load();
            }
            return;
        }
        let too_slow = slow && self.config.slow_percent.is_some();
        let finding = match outcome {
            Outcome::Success if too_slow => Finding::Bad,
            Outcome::Success => Finding::Ok,
            Outcome::Failure | Outcome::Slow | Outcome::Throttled { .. } => Finding::Bad,
            Outcome::Ignored => Finding::Ignored,
            Outcome::Cancelled if slow => Finding::Bad,
            Outcome::Cancelled => Finding::Returned,
        };
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
    fn close(&self, word: Word, cause: Cause, now_ns: u64) -> bool {
        if self.gate.load() != word {
            return false;
        }
        // ORDER: cleared before it is published, or the first calls' results would be lost.
        // A thread that loses the race below may clear some of them: that is tolerated.
        self.window.clear();
        self.streak.failures.store(0, Ordering::Relaxed);
        self.streak.armed.store(false, Ordering::Relaxed);
        let memory = self.memory.load();
        let closed = self.transition(word, Phase::Closed, cause, now_ns);
        if closed {
            let closed_at = now_ns / NANOS_PER_MILLI;
            self.memory.replace(memory, FlapMemory { closed_at, ..memory });
        }
        closed
    }

    fn open(&self, word: Word, now_ns: u64, cause: Cause) {
        let now = now_ns.div_ceil(NANOS_PER_MILLI);
        let before = self.memory.load();
        let memory = self.memory_at(word, now);
        let (shortest, longest) = memory.pause(&self.config);
        let pause = fastrand::u64(shortest..=longest).max(1);
        let (pause, after) = if let Cause::Throttled { retry_after } = cause {
            let asked = millis_up(retry_after).min(self.config.retry_after_max_ms);
            (pause.max(asked), memory)
        } else {
            (pause, memory.one_more())
        };
        if self.transition(word, Phase::Open { until: now + pause }, cause, now_ns) {
            self.memory.replace(before, after);
        }
    }

    /// The memory of earlier openings, less what closed time has made it forget.
    fn memory_at(&self, word: Word, now: u64) -> FlapMemory {
        let memory = self.memory.load();
        if word.is_closed() { memory.after_closed(now, &self.config) } else { memory }
    }

    /// The one way to change state. Says whether it was this thread that did.
    fn transition(&self, word: Word, phase: Phase, cause: Cause, now_ns: u64) -> bool {
        let next = word.next(phase);
        if !self.gate.swap(word, next) {
            return false;
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

    /// Sets an operator's state, whatever the state is now. `lasts`: without end if `None`.
    pub(super) fn command(&self, command: Command, lasts: Option<Duration>, why: &str) -> Ack {
        let cause = Cause::Operator { why: Arc::from(cut(why)) };
        loop {
            let now_ns = self.clock.nanos();
            let end = |lasts| now_ns.div_ceil(NANOS_PER_MILLI) + millis_up(lasts);
            let until = lasts.map(end);
            let word = self.gate.load();
            let (cause, to) = (cause.clone(), command.phase(until));
            let done = match command {
                Command::ForceClose => self.close(word, cause, now_ns),
                Command::Reset => {
                    let old = self.memory.load();
                    self.memory.replace(old, FlapMemory::default());
                    self.close(word, cause, now_ns)
                }
                Command::ForceOpen | Command::Disable | Command::MetricsOnly => {
                    self.transition(word, to, cause, now_ns)
                }
            };
            if done {
                return Ack::new(word.state(), to.state());
            }
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
            openings: self.memory_at(word, now).openings,
        }
    }
}

/// What an operator can order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    ForceOpen,
    ForceClose,
    Disable,
    MetricsOnly,
    Reset,
}

impl Command {
    const fn phase(self, until: Option<u64>) -> Phase {
        match self {
            Self::ForceOpen => Phase::ForcedOpen { until },
            Self::Disable => Phase::Disabled { until },
            Self::MetricsOnly => Phase::MetricsOnly { until },
            Self::ForceClose | Self::Reset => Phase::Closed,
        }
    }
}

/// What the window is told of an outcome; `None`: nothing.
#[inline]
fn sample(outcome: Outcome, slow: bool) -> Option<Sample> {
    match outcome {
        Outcome::Success => Some(Sample { failed: false, slow }),
        Outcome::Slow => Some(Sample { failed: false, slow: true }),
        Outcome::Failure | Outcome::Throttled { .. } => Some(Sample { failed: true, slow }),
        Outcome::Cancelled if slow => Some(Sample { failed: true, slow: true }),
        Outcome::Cancelled | Outcome::Ignored => None,
    }
}

/// The wait a throttling answer asks for, if it asks for one.
#[inline]
fn asked_wait(outcome: Outcome) -> Option<Duration> {
    match outcome {
        Outcome::Throttled { retry_after } => retry_after.filter(|wait| !wait.is_zero()),
        Outcome::Success
        | Outcome::Failure
        | Outcome::Slow
        | Outcome::Ignored
        | Outcome::Cancelled => None,
    }
}

/// LIMIT: bytes kept of an operator's reason.
const WHY_MAX: usize = 256;

fn cut(why: &str) -> &str {
    let mut end = why.len().min(WHY_MAX);
    while !why.is_char_boundary(end) {
        end -= 1;
    }
    why.get(..end).unwrap_or_default()
}

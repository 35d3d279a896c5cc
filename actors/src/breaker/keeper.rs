//! Recalls a breaker's state when it begins, and saves each change of it.
//!
//! INVARIANT: only this task waits for the memory. No call, no transition and no operator ever
//! does, and what the memory throws ends here.
//!
//! INVARIANT: nothing is saved before it was recalled, so that what calls do in the first
//! moments of a process does not overwrite what is remembered.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::time::{sleep, timeout};

use super::clock::{NANOS_PER_MILLI, millis_up};
use super::core::Core;
use super::state::{FlapMemory, Phase};
use super::{BreakerState, Cause, Memory, MemoryError, Remembered};
use crate::kernel::panic::{Panic, catch};

/// LIMIT: how long the memory may take for one answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// The first wait after a failure, and the longest.
const WAIT_MIN: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(60);

/// What is known of the memory, across incarnations of the actor.
#[derive(Debug)]
pub(super) struct Keeper {
    memory: Arc<dyn Memory>,
    recalled: AtomicBool,
    /// The number of the last change that was saved.
    saved: AtomicU64,
    /// The memory failed, and that is in the log.
    failing: AtomicBool,
}

impl Keeper {
    pub(super) fn new(memory: Arc<dyn Memory>) -> Self {
        let (recalled, failing) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { memory, recalled, saved: AtomicU64::new(0), failing }
    }

    /// Recalls once, then saves each change. Ends with the breaker.
    pub(super) async fn keep(self: Arc<Self>, core: Arc<Core>) {
        // ORDER: subscribed before the first look, so that no change falls between.
        let mut changes = core.subscribe();
        self.recall(&core).await;
        loop {
            self.save(&core).await;
            // Whatever the change is, only the newest one is saved.
            if matches!(changes.recv().await, Err(RecvError::Closed)) {
                return;
            }
        }
    }

    async fn recall(&self, core: &Core) {
        let mut wait = WAIT_MIN;
        while !self.recalled.load(Ordering::Acquire) {
            let recall = || self.memory.recall(core.dependency());
            let Some(recalled) = self.attempt(core, recall).await else {
                back_off(&mut wait).await;
                continue;
            };
            if let Some(remembered) = recalled {
                core.resume(&remembered);
            }
            self.recalled.store(true, Ordering::Release);
        }
    }

    /// Saves until nothing is left to be saved.
    async fn save(&self, core: &Core) {
        let mut wait = WAIT_MIN;
        while let Some((change, remembered)) = core.remember() {
            if change == self.saved.load(Ordering::Acquire) {
                return;
            }
            if self.attempt(core, || self.memory.save(remembered)).await.is_some() {
                self.saved.store(change, Ordering::Release);
                wait = WAIT_MIN;
            } else {
                back_off(&mut wait).await;
            }
        }
    }

    /// Asks the memory once; `None` if it failed, panicked or hung, which is said once.
    async fn attempt<T, F>(&self, core: &Core, ask: impl FnOnce() -> F) -> Option<T>
    where
        F: Future<Output = Result<T, MemoryError>>,
    {
        // The call itself may panic too, not only the future it returns.
        let asked = async { ask().await };
        let failure: MemoryError = match timeout(ANSWER_MAX, caught(asked)).await {
            Ok(Ok(Ok(answer))) => {
                if self.failing.swap(false, Ordering::AcqRel) {
                    tracing::info!(dependency = %core.dependency(), "breaker.memory_recovered");
                }
                return Some(answer);
            }
            Ok(Ok(Err(error))) => error,
            Ok(Err(panic)) => format!("it panicked: {}", panic.message()).into(),
            Err(_elapsed) => "it did not answer in time".into(),
        };
        if !self.failing.swap(true, Ordering::AcqRel) {
            let dependency = core.dependency();
            tracing::warn!(%dependency, error = failure, "breaker.memory_failed");
        }
        None
    }
}

async fn caught<T>(work: impl Future<Output = T>) -> Result<T, Panic> {
    let mut work = pin!(work);
    poll_fn(|cx| match catch(|| work.as_mut().poll(cx)) {
        Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
        Ok(Poll::Pending) => Poll::Pending,
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}

/// Waits between half of `wait` and all of it, and doubles it.
async fn back_off(wait: &mut Duration) {
    sleep(wait.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
    *wait = (*wait * 2).min(WAIT_MAX);
}

impl Core {
    /// What is to be remembered, with the number of the change that led to it; `None` while
    /// the state is the first.
    fn remember(&self) -> Option<(u64, Remembered)> {
        let last = self.journal.last()?;
        let age = Duration::from_nanos(self.clock.nanos()).saturating_sub(last.at);
        let left = last.lasts.map(|lasts| lasts.saturating_sub(age));
        let (state, lasts) = match last.to {
            // Another process cannot go on with these probes; it makes its own.
            BreakerState::HalfOpen => (BreakerState::Open, Some(Duration::ZERO)),
            BreakerState::Closed
            | BreakerState::Open
            | BreakerState::ForcedOpen
            | BreakerState::Disabled
            | BreakerState::MetricsOnly => (last.to, left),
        };
        let cause = Arc::from(last.cause.to_string());
        let (dependency, openings) = (last.dependency, self.flaps.load().openings);
        Some((last.epoch, Remembered { dependency, state, lasts, openings, cause, age }))
    }

    /// Takes up what an earlier process left. What calls have done meanwhile stands, unless an
    /// operator had decided otherwise; what an operator has ordered meanwhile stands always.
    fn resume(&self, remembered: &Remembered) {
        loop {
            let (word, now_ns) = (self.gate.load(), self.clock.nanos());
            // ORDER: asked after the word is read: a command that comes later changes the word,
            // and the swap below fails.
            if self.commanded.load(Ordering::Acquire) {
                return;
            }
            let phase = self.remembered_phase(remembered, now_ns);
            let ordered = matches!(
                phase,
                Phase::ForcedOpen { .. } | Phase::Disabled { .. } | Phase::MetricsOnly { .. }
            );
            let untouched = word.epoch() == 0 && self.journal.last().is_none();
            if !untouched && !ordered {
                return;
            }
            if untouched {
                self.remember_flaps(remembered, now_ns);
            }
            let cause = Cause::Remembered { cause: Arc::clone(&remembered.cause) };
            if phase == Phase::Closed || self.transition(word, phase, cause, now_ns) {
                return;
            }
        }
    }

    fn remembered_phase(&self, remembered: &Remembered, now_ns: u64) -> Phase {
        let now = now_ns.div_ceil(NANOS_PER_MILLI);
        let until = remembered.lasts.map(|lasts| now.saturating_add(millis_up(lasts)));
        match remembered.state {
            BreakerState::Closed => Phase::Closed,
            BreakerState::Open | BreakerState::HalfOpen => {
                // LIMIT: no longer than a pause of this breaker. A wall clock that was set
                // back, or settings of another day, would make it last longer.
                let longest = now.saturating_add(self.config.pause_max());
                Phase::Open { until: until.unwrap_or(now).min(longest) }
            }
            BreakerState::ForcedOpen => Phase::ForcedOpen { until },
            BreakerState::Disabled => Phase::Disabled { until },
            BreakerState::MetricsOnly => Phase::MetricsOnly { until },
        }
    }

    fn remember_flaps(&self, remembered: &Remembered, now_ns: u64) {
        let then = FlapMemory { openings: remembered.openings, closed_at: 0 };
        let openings = match remembered.state {
            BreakerState::Closed => then.after_closed(millis_up(remembered.age), &self.config),
            BreakerState::Open
            | BreakerState::HalfOpen
            | BreakerState::ForcedOpen
            | BreakerState::Disabled
            | BreakerState::MetricsOnly => then,
        };
        let now = FlapMemory { closed_at: now_ns / NANOS_PER_MILLI, ..openings };
        self.flaps.replace(FlapMemory::default(), now);
    }
}

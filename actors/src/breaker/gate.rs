//! The gate: state, its data and its epoch in one 64-bit word.
//!
//! | bits | 63–61 | 60–24 | 23–0 |
//! |---|---|---|---|
//! | hold | state | deadline in ms, or four 9-bit probe counts | epoch |
//!
//! INVARIANT: every change of state is one compare-and-swap that also raises the epoch.
//! So each transition has one winner, nothing is ever seen half-changed, and a permit of
//! an earlier epoch cannot touch this one.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

use super::state::{BreakerState, FlapMemory, Phase, Trials};

pub(super) const EPOCH_MASK: u64 = (1 << 24) - 1;
const PAYLOAD_SHIFT: u32 = 24;
// LIMIT: 37 bits of milliseconds are 4.3 years of the breaker's clock.
const PAYLOAD_MASK: u64 = (1 << 37) - 1;
const STATE_SHIFT: u32 = 61;
// LIMIT: 9 bits hold every count of at most 256 probes.
const COUNT_MASK: u64 = (1 << 9) - 1;
/// The payload of an operator's state without an end.
const ENDLESS: u64 = PAYLOAD_MASK;

/// A value of the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word(u64);

impl Word {
    pub(super) fn new(phase: Phase, epoch: u64) -> Self {
        let (tag, payload) = encode(phase);
        Self(tag << STATE_SHIFT | payload << PAYLOAD_SHIFT | epoch & EPOCH_MASK)
    }

    #[inline]
    pub(super) const fn epoch(self) -> u64 {
        self.0 & EPOCH_MASK
    }

    #[inline]
    pub(super) const fn is_closed(self) -> bool {
        self.0 >> STATE_SHIFT == CLOSED
    }

    pub(super) const fn state(self) -> BreakerState {
        match self.0 >> STATE_SHIFT {
            OPEN => BreakerState::Open,
            HALF_OPEN => BreakerState::HalfOpen,
            FORCED_OPEN => BreakerState::ForcedOpen,
            DISABLED => BreakerState::Disabled,
            METRICS_ONLY => BreakerState::MetricsOnly,
            // INVARIANT: only `encode` writes tags; what is left is `CLOSED`.
            _ => BreakerState::Closed,
        }
    }

    pub(super) const fn phase(self) -> Phase {
        let payload = self.0 >> PAYLOAD_SHIFT & PAYLOAD_MASK;
        let until = if payload == ENDLESS { None } else { Some(payload) };
        match self.state() {
            BreakerState::Closed => Phase::Closed,
            BreakerState::Open => Phase::Open { until: payload },
            BreakerState::HalfOpen => Phase::HalfOpen(trials(payload)),
            BreakerState::ForcedOpen => Phase::ForcedOpen { until },
            BreakerState::Disabled => Phase::Disabled { until },
            BreakerState::MetricsOnly => Phase::MetricsOnly { until },
        }
    }

    /// Another state, in the next epoch.
    pub(super) fn next(self, phase: Phase) -> Self {
        Self::new(phase, self.epoch() + 1)
    }

    /// The same state with other data, in the same epoch.
    pub(super) fn with(self, phase: Phase) -> Self {
        Self::new(phase, self.epoch())
    }
}

const CLOSED: u64 = 0;
const OPEN: u64 = 1;
const HALF_OPEN: u64 = 2;
const FORCED_OPEN: u64 = 3;
const DISABLED: u64 = 4;
const METRICS_ONLY: u64 = 5;

fn encode(phase: Phase) -> (u64, u64) {
    let end = |until: Option<u64>| until.map_or(ENDLESS, |until| until.min(ENDLESS - 1));
    match phase {
        Phase::Closed => (CLOSED, 0),
        Phase::Open { until } => (OPEN, until.min(ENDLESS - 1)),
        Phase::HalfOpen(Trials { issued, ok, bad, ignored }) => {
            let [issued, ok, bad, ignored] = [issued, ok, bad, ignored].map(u64::from);
            (HALF_OPEN, issued << 27 | ok << 18 | bad << 9 | ignored)
        }
        Phase::ForcedOpen { until } => (FORCED_OPEN, end(until)),
        Phase::Disabled { until } => (DISABLED, end(until)),
        Phase::MetricsOnly { until } => (METRICS_ONLY, end(until)),
    }
}

const fn trials(payload: u64) -> Trials {
    Trials {
        issued: (payload >> 27 & COUNT_MASK) as u16,
        ok: (payload >> 18 & COUNT_MASK) as u16,
        bad: (payload >> 9 & COUNT_MASK) as u16,
        ignored: (payload & COUNT_MASK) as u16,
    }
}

/// The word that all callers share, on a cache line of its own.
#[derive(Debug)]
pub(super) struct Gate(CachePadded<AtomicU64>);

impl Gate {
    pub(super) fn new() -> Self {
        Self(CachePadded::new(AtomicU64::new(Word::new(Phase::Closed, 0).0)))
    }

    #[inline]
    pub(super) fn load(&self) -> Word {
        Word(self.0.load(Ordering::Acquire))
    }

    /// Moves the gate if it still holds `from`; says whether it did.
    pub(super) fn swap(&self, from: Word, to: Word) -> bool {
        self.0.compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

const LEASE_TIME_MASK: u64 = (1 << 40) - 1;

/// When the probes of an epoch must have answered: `epoch:24 | time in ms:40`.
#[derive(Debug, Default)]
pub(super) struct Lease(AtomicU64);

impl Lease {
    /// Gives the probes of `epoch` until `until`, if they do not have longer already.
    ///
    /// ORDER: called before the compare-and-swap that admits a probe, so that no probe is
    /// ever under way without a lease. If that swap then fails, the others' time is a
    /// little longer, which is harmless.
    pub(super) fn extend(&self, epoch: u64, until: u64) {
        let mine = epoch << 40 | until.min(LEASE_TIME_MASK);
        let mut seen = self.0.load(Ordering::Acquire);
        while !Self::covers(seen, mine) {
            match self.0.compare_exchange_weak(seen, mine, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
    }

    /// When the lease of `epoch` ends; a lease of another epoch has not been given.
    pub(super) fn of(&self, epoch: u64) -> u64 {
        let seen = self.0.load(Ordering::Acquire);
        if seen >> 40 == epoch { seen & LEASE_TIME_MASK } else { u64::MAX }
    }

    /// Whether `seen` is of a later epoch than `mine`, or lasts as long.
    const fn covers(seen: u64, mine: u64) -> bool {
        let behind = (seen >> 40).wrapping_sub(mine >> 40) & EPOCH_MASK;
        if behind == 0 { seen >= mine } else { behind < EPOCH_MASK / 2 }
    }
}

/// [`FlapMemory`] in one word: `openings:16 | closed_at:48`.
#[derive(Debug, Default)]
pub(super) struct Flaps(AtomicU64);

impl Flaps {
    pub(super) fn load(&self) -> FlapMemory {
        let word = self.0.load(Ordering::Acquire);
        FlapMemory { openings: (word >> 48 & 0xFFFF) as u16, closed_at: word & ((1 << 48) - 1) }
    }

    /// Stores `new` if the memory still is `old`. Losing is fine: a later transition has
    /// written, and knows more.
    pub(super) fn replace(&self, old: FlapMemory, new: FlapMemory) {
        let word = |memory: FlapMemory| {
            u64::from(memory.openings) << 48 | memory.closed_at & ((1 << 48) - 1)
        };
        let _later_wins =
            self.0.compare_exchange(word(old), word(new), Ordering::AcqRel, Ordering::Acquire);
    }
}

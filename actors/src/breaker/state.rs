//! What the breaker decides: time in (milliseconds of its clock), decisions out.
//!
//! | from | when | to |
//! |---|---|---|
//! | `Closed` | a rate or a row of failures reaches its limit, or `Retry-After` | `Open` |
//! | `Open` | its pause is over | `HalfOpen` |
//! | `HalfOpen` | enough probes succeeded, or all answers were ignored | `Closed` |
//! | `HalfOpen` | too many probes failed, or the lease ran out | `Open`, for longer |
//! | `ForcedOpen` | its time is over | `HalfOpen` |
//! | `Disabled`, `MetricsOnly` | their time is over | `Closed` |
//! | `Closed` | an earlier process left it so | `Open`, `ForcedOpen`, `Disabled`, `MetricsOnly` |
//! | any | an operator says so | `Closed`, `ForcedOpen`, `Disabled`, `MetricsOnly` |

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::config::Config;
use super::error::RejectCause;
use super::window::Counts;

/// What a breaker does with calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BreakerState {
    /// Calls pass and are measured.
    Closed,
    /// Calls are refused until the pause is over.
    Open,
    /// A few calls pass as probes; their results decide.
    HalfOpen,
    /// An operator has all calls refused.
    ForcedOpen,
    /// An operator has all calls pass, unmeasured.
    Disabled,
    /// An operator has all calls pass, measured.
    MetricsOnly,
}

impl BreakerState {
    /// The name for metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::ForcedOpen => "forced_open",
            Self::Disabled => "disabled",
            Self::MetricsOnly => "metrics_only",
        }
    }

    /// Reads the name that [`as_str`](Self::as_str) gives.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    const ALL: [Self; 6] = [
        Self::Closed,
        Self::Open,
        Self::HalfOpen,
        Self::ForcedOpen,
        Self::Disabled,
        Self::MetricsOnly,
    ];
}

/// Why a breaker came into its state.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// It was just built.
    Built,
    /// Too many calls in the window failed.
    FailureRate {
        /// Failed calls in the window.
        failures: u64,
        /// All calls in the window.
        calls: u64,
    },
    /// Too many calls in the window were slow.
    SlowRate {
        /// Slow calls in the window.
        slow: u64,
        /// All calls in the window.
        calls: u64,
    },
    /// Too many calls failed in a row.
    ConsecutiveFailures {
        /// How many.
        failures: u32,
    },
    /// The dependency asked to be left alone with `Retry-After`.
    Throttled {
        /// For how long it asked, before the configured limit.
        retry_after: Duration,
    },
    /// The pause is over; the dependency is tried.
    PauseOver,
    /// Enough probes succeeded.
    ProbesPassed {
        /// Probes that succeeded.
        ok: u16,
        /// Probes that failed.
        failed: u16,
    },
    /// Too many probes failed.
    ProbesFailed {
        /// Probes that succeeded.
        ok: u16,
        /// Probes that failed.
        failed: u16,
    },
    /// So many probe results were ignored that what is known had to decide.
    ProbesIgnored {
        /// Probes that succeeded.
        ok: u16,
        /// Probes that failed.
        failed: u16,
    },
    /// Probes were under way for longer than their lease.
    LeaseOver {
        /// Probes that had not answered.
        missing: u16,
    },
    /// An operator's command.
    Operator {
        /// The operator's own words.
        why: Arc<str>,
    },
    /// The time of an operator's command is over.
    OverrideOver,
    /// An earlier process left it in this state.
    Remembered {
        /// Why that one was in it.
        cause: Arc<str>,
    },
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Built => f.write_str("it was just built"),
            Self::FailureRate { failures, calls } => {
                write!(f, "{failures} of {calls} calls failed")
            }
            Self::SlowRate { slow, calls } => write!(f, "{slow} of {calls} calls were slow"),
            Self::ConsecutiveFailures { failures } => write!(f, "{failures} calls failed in a row"),
            Self::Throttled { retry_after } => {
                write!(f, "it asked to be left alone for {} ms", retry_after.as_millis())
            }
            Self::PauseOver => f.write_str("its pause is over"),
            Self::ProbesPassed { ok, failed } => {
                write!(f, "{ok} probes succeeded and {failed} failed")
            }
            Self::ProbesFailed { ok, failed } => {
                write!(f, "{failed} probes failed and {ok} succeeded")
            }
            Self::ProbesIgnored { ok, failed } => {
                write!(f, "probes were ignored; {ok} succeeded and {failed} failed")
            }
            Self::LeaseOver { missing } => write!(f, "{missing} probes did not answer"),
            Self::Operator { why } if why.is_empty() => f.write_str("an operator ordered it"),
            Self::Operator { why } => write!(f, "an operator ordered it: {why}"),
            Self::OverrideOver => f.write_str("the time of an operator's order is over"),
            Self::Remembered { cause } => f.write_str(cause),
        }
    }
}

/// The state with its data, as the gate word holds it. Times are milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Closed,
    Open { until: u64 },
    HalfOpen(Trials),
    ForcedOpen { until: Option<u64> },
    Disabled { until: Option<u64> },
    MetricsOnly { until: Option<u64> },
}

impl Phase {
    pub(super) const fn state(self) -> BreakerState {
        match self {
            Self::Closed => BreakerState::Closed,
            Self::Open { .. } => BreakerState::Open,
            Self::HalfOpen(_) => BreakerState::HalfOpen,
            Self::ForcedOpen { .. } => BreakerState::ForcedOpen,
            Self::Disabled { .. } => BreakerState::Disabled,
            Self::MetricsOnly { .. } => BreakerState::MetricsOnly,
        }
    }

    /// When this phase ends by itself, apart from a half-open lease.
    pub(super) const fn until(self) -> Option<u64> {
        match self {
            Self::Open { until } => Some(until),
            Self::ForcedOpen { until } | Self::Disabled { until } | Self::MetricsOnly { until } => {
                until
            }
            Self::Closed | Self::HalfOpen(_) => None,
        }
    }
}

/// The count of one half-open epoch's probes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Trials {
    /// Slots in use: under way, succeeded or failed.
    pub(super) issued: u16,
    pub(super) ok: u16,
    pub(super) bad: u16,
    pub(super) ignored: u16,
}

impl Trials {
    /// Probes that have not answered.
    pub(super) const fn under_way(self) -> u16 {
        self.issued.saturating_sub(self.ok + self.bad)
    }
}

/// What becomes of a call that asks to pass.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// Pass.
    Admit,
    /// Pass as one more probe.
    Probe(Trials),
    /// Turn half-open, and pass as the first probe.
    FirstProbe(Cause),
    /// The phase is over: move on, then ask again.
    Over(Ending),
    /// Refuse; the wait is in milliseconds.
    Refuse(RejectCause, u64),
}

/// How a phase ends without a call.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Try(Cause),
    Close(Cause),
    Reopen(Cause),
}

/// Asks `phase` to let a call pass at `now`. `lease` is when the probes' time is over.
pub(super) fn enter(phase: Phase, now: u64, lease: u64, config: &Config) -> Entry {
    if let Some(ending) = ending(phase, now, lease) {
        return match ending {
            Ending::Try(cause) => Entry::FirstProbe(cause),
            Ending::Close(_) | Ending::Reopen(_) => Entry::Over(ending),
        };
    }
    match phase {
        Phase::Closed | Phase::Disabled { .. } | Phase::MetricsOnly { .. } => Entry::Admit,
        Phase::Open { until } => Entry::Refuse(RejectCause::Open, until - now),
        Phase::ForcedOpen { until } => {
            let wait = until.map_or(config.open_ms, |until| until - now);
            Entry::Refuse(RejectCause::ForcedOpen, wait)
        }
        Phase::HalfOpen(trials) if trials.issued < config.probes => {
            Entry::Probe(Trials { issued: trials.issued + 1, ..trials })
        }
        Phase::HalfOpen(_) => Entry::Refuse(RejectCause::TrialsTaken, trial_wait(now, lease)),
    }
}

/// The longest wait a caller is told when all trial slots are taken, in milliseconds: a
/// trial usually ends long before its lease does.
const TRIAL_WAIT_MAX: u64 = 1_000;

fn trial_wait(now: u64, lease: u64) -> u64 {
    lease.saturating_sub(now).clamp(1, TRIAL_WAIT_MAX)
}

/// How `phase` ends at `now` by itself, if its time is over.
pub(super) fn ending(phase: Phase, now: u64, lease: u64) -> Option<Ending> {
    let over = phase.until().is_some_and(|until| until <= now);
    match phase {
        Phase::Open { .. } => over.then_some(Ending::Try(Cause::PauseOver)),
        // Whoever forced it open had a reason: it is tried before it is trusted.
        Phase::ForcedOpen { .. } => over.then_some(Ending::Try(Cause::OverrideOver)),
        Phase::Disabled { .. } | Phase::MetricsOnly { .. } => {
            over.then_some(Ending::Close(Cause::OverrideOver))
        }
        Phase::HalfOpen(trials) => {
            let missing = trials.under_way();
            let hung = missing > 0 && lease <= now;
            hung.then_some(Ending::Reopen(Cause::LeaseOver { missing }))
        }
        Phase::Closed => None,
    }
}

/// When [`ending`] should be asked again, if nobody calls until then.
pub(super) fn next_look(phase: Phase, now: u64, lease: u64, config: &Config) -> Option<u64> {
    match phase {
        Phase::HalfOpen(trials) if trials.under_way() > 0 => Some(lease),
        // A probe admitted after this look has its lease run out after the next one.
        Phase::HalfOpen(_) => Some(now + config.lease_ms),
        Phase::Closed
        | Phase::Open { .. }
        | Phase::ForcedOpen { .. }
        | Phase::Disabled { .. }
        | Phase::MetricsOnly { .. } => phase.until(),
    }
}

/// What a probe came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finding {
    Ok,
    Bad,
    /// Answered, but the answer says nothing about the dependency's health.
    Ignored,
    /// Did not come to an answer; the slot goes back.
    Returned,
}

/// What follows from a probe's result.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Stay(Trials),
    Close(Cause),
    Reopen(Cause),
}

/// Counts one probe's result, and decides as soon as the decision is certain.
pub(super) fn settle_trial(trials: Trials, finding: Finding, config: &Config) -> Step {
    let mut next = trials;
    match finding {
        Finding::Ok => next.ok += 1,
        Finding::Bad => next.bad += 1,
        Finding::Returned => next.issued = next.issued.saturating_sub(1),
        Finding::Ignored => {
            next.issued = next.issued.saturating_sub(1);
            next.ignored += 1;
        }
    }
    let (ok, failed) = (next.ok, next.bad);
    if ok >= config.probes_needed {
        return Step::Close(Cause::ProbesPassed { ok, failed });
    }
    if config.probes - failed < config.probes_needed {
        return Step::Reopen(Cause::ProbesFailed { ok, failed });
    }
    // LIMIT: as many ignored answers as there are slots; without it, a dependency whose
    // answers are mostly ignored would stay half-open for ever.
    if next.ignored < config.probes {
        return Step::Stay(next);
    }
    let cause = Cause::ProbesIgnored { ok, failed };
    let known = u32::from(ok) + u32::from(failed);
    let passed = u32::from(ok) * u32::from(config.probes);
    let closes = passed >= known * u32::from(config.probes_needed);
    if closes { Step::Close(cause) } else { Step::Reopen(cause) }
}

/// What the window says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Healthy,
    /// A limit is reached, but by too few calls: the next success may be the one missing.
    TooFewCalls,
    Trip(Cause),
}

/// Judges the window's counts.
pub(super) fn judge(counts: Counts, config: &Config) -> Verdict {
    let Counts { calls, failures, timed, slow } = counts;
    let reached = |part: u64, of: u64, percent: u64| part > 0 && part * 100 >= percent * of;
    let failing = reached(failures, calls, config.failure_percent);
    let slowing = config.slow_percent.is_some_and(|percent| reached(slow, timed, percent));
    if failing && calls >= config.min_calls {
        Verdict::Trip(Cause::FailureRate { failures, calls })
    } else if slowing && timed >= config.min_calls {
        Verdict::Trip(Cause::SlowRate { slow, calls: timed })
    } else if failing || slowing {
        Verdict::TooFewCalls
    } else {
        Verdict::Healthy
    }
}

/// What is remembered of earlier openings. Closing does not forget them: time does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct FlapMemory {
    /// Openings not yet forgotten.
    pub(super) openings: u16,
    /// When the breaker last closed.
    pub(super) closed_at: u64,
}

impl FlapMemory {
    /// The memory after being closed until `now`: one opening less per `open_max`.
    pub(super) fn after_closed(self, now: u64, config: &Config) -> Self {
        let forgotten = now.saturating_sub(self.closed_at) / config.open_max_ms;
        let forgotten = u16::try_from(forgotten).unwrap_or(u16::MAX);
        Self { openings: self.openings.saturating_sub(forgotten), ..self }
    }

    pub(super) const fn one_more(self) -> Self {
        Self { openings: self.openings.saturating_add(1), ..self }
    }

    /// The shortest and the longest next pause, in milliseconds.
    pub(super) fn pause(self, config: &Config) -> (u64, u64) {
        let growth = config.open_factor.saturating_pow(self.openings.into());
        let nominal = config.open_ms.saturating_mul(growth).min(config.open_max_ms);
        let spread = nominal * config.jitter_percent / 100;
        (nominal - spread, nominal + spread)
    }
}

//! The level, and what raises and lowers it.

use std::time::Duration;

use serde::Serialize;

use super::GuardConfig;
use super::window::Window;

/// How much the guard holds back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Level {
    /// Everything is accepted.
    #[default]
    Normal,
    /// The backlog grows and is near its target: bulk work waits.
    Elevated,
    /// The backlog is over its target: cheap work is turned away, normal work put off in part.
    Overloaded,
    /// The queue cannot recover by putting work off: only critical work is accepted.
    Critical,
}

impl Level {
    /// All of them, the calmest first.
    pub const ALL: [Self; 4] = [Self::Normal, Self::Elevated, Self::Overloaded, Self::Critical];

    /// The name for metrics, logs and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Elevated => "elevated",
            Self::Overloaded => "overloaded",
            Self::Critical => "critical",
        }
    }

    /// The pressure from which on a queue belongs in this level.
    #[must_use]
    pub const fn enters_at(self) -> f64 {
        match self {
            Self::Normal => 0.0,
            Self::Elevated => 0.7,
            Self::Overloaded => 1.0,
            Self::Critical => 1.5,
        }
    }

    /// The pressure at or under which this level is left for the next calmer one.
    #[must_use]
    pub const fn leaves_at(self) -> f64 {
        0.7 * self.enters_at()
    }

    const fn below(self) -> Self {
        match self {
            Self::Normal | Self::Elevated => Self::Normal,
            Self::Overloaded => Self::Elevated,
            Self::Critical => Self::Overloaded,
        }
    }
}

/// What the level is decided from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Evidence {
    pub(super) pressure: f64,
    pub(super) growing: bool,
    /// The hard limit is reached.
    pub(super) full: bool,
    /// A ramp holds work back that would come if it did not.
    pub(super) held: bool,
}

/// The level and the times that decide the next.
#[derive(Debug, Clone)]
pub(super) struct Ladder {
    sustain: Duration,
    calm: Duration,
    /// Longer than this after the last look, what was seen then proves nothing.
    gap: Duration,
    last: Option<Duration>,
    level: Level,
    since: Option<Duration>,
    /// Since when there has been reason for each level, without a break.
    reason: [(Level, Option<Duration>); 3],
    recent: Window<1>,
    /// Since when no ramp holds anything back.
    free: Option<Duration>,
}

impl Ladder {
    pub(super) const fn new(config: &GuardConfig) -> Self {
        Self {
            sustain: config.sustain,
            calm: config.calm,
            gap: config.gap(),
            last: None,
            level: Level::Normal,
            since: None,
            reason: [(Level::Elevated, None), (Level::Overloaded, None), (Level::Critical, None)],
            recent: Window::greatest(config.calm),
            free: None,
        }
    }

    pub(super) const fn level(&self) -> Level {
        self.level
    }

    /// Since when the level is what it is.
    pub(super) fn since(&self) -> Duration {
        self.since.unwrap_or_default()
    }

    /// Takes the evidence of this moment in. If the level changed: what it was, and the
    /// greatest pressure of late.
    pub(super) fn step(&mut self, at: Duration, evidence: Evidence) -> Option<(Level, f64)> {
        let since = *self.since.get_or_insert(at);
        let [recent] = self.recent.put(at, [evidence.pressure]);
        let risen = self.risen(at, evidence);
        let free = self.free(at, evidence.held).max(since);
        let calm = recent <= self.level.leaves_at() && at.saturating_sub(free) >= self.calm;
        let next = match risen {
            _ if evidence.full => Level::Critical,
            Some(level) if level > self.level => level,
            Some(_) | None if calm => self.level.below(),
            Some(_) | None => self.level,
        };
        if next == self.level {
            return None;
        }
        let from = std::mem::replace(&mut self.level, next);
        self.since = Some(at);
        Some((from, recent))
    }

    /// Since when nothing is held back that the next lower level would let in at once: else the
    /// overload would be back as soon as the level is left.
    fn free(&mut self, at: Duration, held: bool) -> Duration {
        if held {
            self.free = None;
            return at;
        }
        *self.free.get_or_insert(at)
    }

    /// The highest level for which there has been reason for long enough.
    fn risen(&mut self, at: Duration, evidence: Evidence) -> Option<Level> {
        let last = self.last.replace(at).unwrap_or(at);
        let (gap, sustain) = (at.saturating_sub(last) > self.gap, self.sustain);
        let mut highest = None;
        for (level, since) in &mut self.reason {
            let wanted = evidence.pressure >= level.enters_at();
            if !wanted || (*level == Level::Elevated && !evidence.growing) {
                *since = None;
                continue;
            }
            let began = if gap { *since.insert(at) } else { *since.get_or_insert(at) };
            if at.saturating_sub(began) >= sustain {
                highest = Some(*level);
            }
        }
        highest
    }
}

//! What operators can order, and how it is carried out.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::clock::{NANOS_PER_MILLI, millis_up};
use super::core::Core;
use super::state::{FlapMemory, Phase};
use super::{Ack, Cause};

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

impl Core {
    /// Sets an operator's state, whatever the state is now. `lasts`: without end if `None`.
    pub(super) fn command(&self, command: Command, lasts: Option<Duration>, why: &str) -> Ack {
        let cause = Cause::Operator { why: Arc::from(cut(why)) };
        // ORDER: noted before it is carried out, so that what is remembered never undoes it.
        self.commanded.store(true, Ordering::Release);
        loop {
            let now_ns = self.clock.nanos();
            let end = |lasts| now_ns.div_ceil(NANOS_PER_MILLI) + millis_up(lasts);
            let until = lasts.map(end);
            let word = self.gate.load();
            let (cause, to) = (cause.clone(), command.phase(until));
            let done = match command {
                Command::ForceClose => self.close(word, cause, now_ns),
                Command::Reset => {
                    let old = self.flaps.load();
                    self.flaps.replace(old, FlapMemory::default());
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

//! What a sender is told when its message got no answer.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::fault::{Code, Fault};

/// Why a [`Ref::call`](super::Ref::call) got no answer, and whether the message ran.
///
/// [`CallError::ran`] is the retry contract: when it is `false`, no line of the
/// handler was executed and sending the message again is always safe.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The mailbox is full. Not run. Shed the work or try again later.
    #[error("the actor's mailbox is full")]
    Overloaded,

    /// The deadline passed, or the request was given up, while the message waited its
    /// turn. Not run. Nobody wants the answer any more; do not try again for it.
    #[error("nobody waited any more when the message's turn came")]
    Expired,

    /// The actor has stopped, or is stopping and takes no new work. Not run.
    #[error("the actor has stopped")]
    Stopped,

    /// The actor failed too often and rests. Not run. Try again after the wait.
    #[error("the actor is quarantined for another {} ms", retry_after.as_millis())]
    Quarantined {
        /// Time until the actor is rebuilt.
        retry_after: Duration,
    },

    /// The handler panicked; the actor is rebuilt. Ran, perhaps partly: try again
    /// only what is idempotent. The text is for logs, never for clients.
    #[error("the actor panicked in generation {generation}")]
    Panicked {
        /// The panic's message.
        message: Arc<str>,
        /// The incarnation that panicked; the first is 1.
        generation: u32,
    },

    /// The handler began and was cut short. Ran, perhaps partly: try again only
    /// what is idempotent.
    #[error("the message was cut short: {0}")]
    Cancelled(CutShort),
}

/// What cut a running handler short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CutShort {
    /// The caller's deadline passed while the handler worked.
    Deadline,
    /// The request was given up while the handler worked.
    GivenUp,
    /// The actor was rebuilt while the handler's future was pending.
    Restart,
    /// The actor was stopped while the handler's future was pending.
    Stop,
    /// The handler dropped its reply without answering.
    NoReply,
}

impl fmt::Display for CutShort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deadline => "its deadline passed",
            Self::GivenUp => "the request was given up",
            Self::Restart => "the actor was restarted",
            Self::Stop => "the actor was stopped",
            Self::NoReply => "the handler gave no reply",
        })
    }
}

impl CallError {
    /// Whether the handler began to run. `false`: sending again is always safe.
    #[must_use]
    pub const fn ran(&self) -> bool {
        match self {
            Self::Overloaded | Self::Expired | Self::Stopped | Self::Quarantined { .. } => false,
            Self::Panicked { .. } | Self::Cancelled(_) => true,
        }
    }
}

impl Fault for CallError {
    fn code(&self) -> Code {
        match self {
            Self::Overloaded => Code::new("actor.overloaded"),
            Self::Expired => Code::new("actor.expired"),
            Self::Stopped => Code::new("actor.stopped"),
            Self::Quarantined { .. } => Code::new("actor.quarantined"),
            Self::Panicked { .. } => Code::new("actor.panicked"),
            Self::Cancelled(CutShort::Deadline) => Code::new("request.deadline_exceeded"),
            Self::Cancelled(_) => Code::new("actor.cancelled"),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Overloaded => Some(Duration::from_secs(1)),
            Self::Quarantined { retry_after } => Some(*retry_after),
            Self::Expired | Self::Stopped | Self::Panicked { .. } | Self::Cancelled(_) => None,
        }
    }
}

/// Why a [`Ref::tell`](super::Ref::tell) was not accepted. The message did not run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// The mailbox is full. Shed the work or try again later.
    #[error("the actor's mailbox is full")]
    Overloaded,
    /// The ambient deadline has already passed.
    #[error("the deadline has passed")]
    Expired,
    /// The actor has stopped, or is stopping and takes no new work.
    #[error("the actor has stopped")]
    Stopped,
    /// The actor failed too often and rests.
    #[error("the actor is quarantined for another {} ms", retry_after.as_millis())]
    Quarantined {
        /// Time until the actor is rebuilt.
        retry_after: Duration,
    },
}

impl From<Refused> for CallError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Overloaded => Self::Overloaded,
            Refused::Expired => Self::Expired,
            Refused::Stopped => Self::Stopped,
            Refused::Quarantined { retry_after } => Self::Quarantined { retry_after },
        }
    }
}

impl Fault for Refused {
    fn code(&self) -> Code {
        CallError::from(self.clone()).code()
    }

    fn retry_after(&self) -> Option<Duration> {
        CallError::from(self.clone()).retry_after()
    }
}

/// Why a factory could not build its actor. Counts as a failure of the actor.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct BuildError(Arc<str>);

impl BuildError {
    /// Says in one sentence what was missing; the sentence goes to the log and the tree.
    pub fn new(reason: impl Into<Arc<str>>) -> Self {
        Self(reason.into())
    }
}

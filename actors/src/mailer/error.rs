//! Why the mailer did not do what it was asked.

use std::time::Duration;

use super::MailId;
use crate::breaker::ConfigError;
use crate::jobs::JobsError;
use crate::kernel::{CallError, Code, Fault};
use crate::store::StoreError;

/// Why the mailer did not do what it was asked. Variants are different reactions.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MailerError {
    /// The key belongs to a mail with other content. Take another key, or send the same mail.
    #[error("the idempotency key belongs to another mail")]
    KeyConflict {
        /// The mail that has it.
        id: MailId,
    },
    /// A recipient is on the suppression list. Send to others, or override it for this kind.
    #[error("a recipient is on the suppression list")]
    Suppressed,
    /// The key, the kind or the tenant is out of its range. Correct it.
    #[error("`{setting}` must be {expected}")]
    InvalidSetting {
        /// Which one.
        setting: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// A mailer has no provider, or two with the same name. Correct the declaration.
    #[error("a mailer needs providers, each with a name of its own")]
    Providers,
    /// The mailer was not started yet. Call [`Mailer::start`](super::Mailer::start).
    #[error("the mailer was not started")]
    NotStarted,
    /// The run of the job was given to another. Stop.
    #[error("another run has this mail")]
    Fenced,
    /// A provider's breaker has a setting out of its range. Correct it.
    #[error(transparent)]
    Breaker(#[from] ConfigError),
    /// As the job queue says: too much work, or the store failed.
    #[error(transparent)]
    Jobs(#[from] JobsError),
    /// As the store says.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The mailer's actor did not answer.
    #[error(transparent)]
    Call(#[from] CallError),
}

impl Fault for MailerError {
    fn code(&self) -> Code {
        match self {
            Self::KeyConflict { .. } => Code::new("mailer.key_conflict"),
            Self::Suppressed => Code::new("mailer.suppressed"),
            Self::InvalidSetting { .. } => Code::new("mailer.invalid_setting"),
            Self::Providers => Code::new("mailer.providers"),
            Self::NotStarted => Code::new("mailer.not_started"),
            Self::Fenced => Code::new("mailer.fenced"),
            Self::Breaker(_) => Code::new("mailer.invalid_setting"),
            Self::Jobs(error) => error.code(),
            Self::Store(error) => error.code(),
            Self::Call(error) => error.code(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Jobs(error) => error.retry_after(),
            Self::Store(error) => error.retry_after(),
            Self::Call(error) => error.retry_after(),
            Self::KeyConflict { .. }
            | Self::Suppressed
            | Self::InvalidSetting { .. }
            | Self::Providers
            | Self::NotStarted
            | Self::Fenced
            | Self::Breaker(_) => None,
        }
    }
}

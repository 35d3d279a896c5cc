//! Why the job queue did not do what it was asked.

use std::sync::Arc;
use std::time::Duration;

use super::guard::Level;
use crate::kernel::{CallError, Code, Fault};
use crate::store::StoreError;

/// Why the job queue did not do what it was asked. Variants are different reactions.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum JobsError {
    /// There is too much work for a job of this class, and its kind asked to be refused rather
    /// than put off. Nothing was stored: come back after the wait.
    #[error("queue `{queue}` is {level} and takes no more of this work", level = .level.as_str())]
    Rejected {
        /// Which queue.
        queue: Arc<str>,
        /// How bad it is.
        level: Level,
        /// When there should be room again.
        retry_after: Duration,
    },
    /// The queue is at its limit. Nothing was stored: come back after the wait.
    #[error("queue `{queue}` is full")]
    QueueFull {
        /// Which queue.
        queue: Arc<str>,
        /// When there should be room again.
        retry_after: Duration,
    },
    /// The arguments are too large. Store them elsewhere and enqueue where they are.
    #[error("the arguments have {size} bytes; {limit} are allowed")]
    PayloadTooLarge {
        /// Their size in bytes.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// The arguments cannot be written as JSON: correct their type.
    #[error("the arguments cannot be written as JSON: {0}")]
    Unencodable(Arc<str>),
    /// A name or a setting is out of its range: correct it.
    #[error("`{setting}` must be {expected}")]
    InvalidSetting {
        /// Which one.
        setting: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// Two handlers were registered for one kind: remove one.
    #[error("two handlers for jobs of kind `{0}`")]
    KindTaken(Arc<str>),
    /// This run is over: another one has begun, or the job was given up. Undo what the
    /// transaction did.
    #[error("this run of the job is over")]
    Fenced,
    /// The transaction belongs to the other kind of database than the queue: use the queue's.
    #[error("the transaction belongs to another kind of database")]
    ForeignTransaction,
    /// The store failed. Its own text says whether the job may have been stored.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The queue's actor did not answer. [`CallError::ran`] says whether the job may have been
    /// stored.
    #[error(transparent)]
    Call(#[from] CallError),
    /// A periodic job is declared wrongly: correct it.
    #[error(transparent)]
    Cron(#[from] super::cron::CronError),
}

impl JobsError {
    /// Whether it is certain that nothing was stored.
    #[must_use]
    pub const fn stored_nothing(&self) -> bool {
        match self {
            Self::Store(error) => error.wrote_nothing(),
            Self::Call(error) => !error.ran(),
            Self::Rejected { .. }
            | Self::QueueFull { .. }
            | Self::PayloadTooLarge { .. }
            | Self::Unencodable(_)
            | Self::InvalidSetting { .. }
            | Self::KindTaken(_)
            | Self::Fenced
            | Self::ForeignTransaction
            | Self::Cron(_) => true,
        }
    }
}

impl Fault for JobsError {
    fn code(&self) -> Code {
        match self {
            Self::Rejected { .. } => Code::new("jobs.rejected"),
            Self::QueueFull { .. } => Code::new("jobs.queue_full"),
            Self::PayloadTooLarge { .. } => Code::new("jobs.payload_too_large"),
            Self::Unencodable(_) => Code::new("jobs.unencodable"),
            Self::InvalidSetting { .. } => Code::new("jobs.invalid_setting"),
            Self::KindTaken(_) => Code::new("jobs.kind_taken"),
            Self::Fenced => Code::new("jobs.fenced"),
            Self::ForeignTransaction => Code::new("jobs.foreign_transaction"),
            Self::Store(error) => error.code(),
            Self::Call(error) => error.code(),
            Self::Cron(error) => error.code(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Rejected { retry_after, .. } | Self::QueueFull { retry_after, .. } => {
                Some(*retry_after)
            }
            Self::Store(error) => error.retry_after(),
            Self::Call(error) => error.retry_after(),
            Self::PayloadTooLarge { .. }
            | Self::Unencodable(_)
            | Self::InvalidSetting { .. }
            | Self::KindTaken(_)
            | Self::Fenced
            | Self::ForeignTransaction
            | Self::Cron(_) => None,
        }
    }
}

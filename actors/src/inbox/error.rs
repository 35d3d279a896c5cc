//! Why the inbox did not do what it was asked.

use std::sync::Arc;
use std::time::Duration;

use crate::jobs::JobsError;
use crate::kernel::{CallError, Code, Fault};
use crate::store::StoreError;

/// Why the inbox did not do what it was asked. Variants are different reactions.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum InboxError {
    /// There is no source of this name. Correct the route, or add the source.
    #[error("there is no such source")]
    UnknownSource,
    /// The delivery is not proved to be from its source. Nothing was stored; why not is in the
    /// counters, and is not for the sender.
    #[error("the delivery is not verified")]
    Unverified,
    /// The body is larger than the source may send. Nothing was stored.
    #[error("the body has more than {limit} bytes")]
    TooLarge {
        /// How many are allowed.
        limit: usize,
    },
    /// The certificate that would verify the delivery cannot be fetched now. Nothing was stored:
    /// the sender may try again after the wait.
    #[error("the certificate of the sender cannot be fetched now")]
    CertificateUnavailable {
        /// When to try again.
        retry_after: Duration,
    },
    /// A name, a key or a setting is of the wrong form: correct it.
    #[error("`{setting}` must be {expected}")]
    InvalidSetting {
        /// Which one.
        setting: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// Two sources have one name, or two handlers or upcasters are for one type of event: remove
    /// one.
    #[error("`{0}` is declared twice")]
    Taken(Arc<str>),
    /// This run is no longer the one that handles the event: it was settled or replayed
    /// meanwhile. Undo what the transaction did.
    #[error("this run of the event is over")]
    Superseded,
    /// The transaction belongs to the other kind of database than the inbox: use the inbox's.
    #[error("the transaction belongs to another kind of database")]
    ForeignTransaction,
    /// The job that handles the event could not be stored, and so neither was the event.
    #[error(transparent)]
    Jobs(#[from] JobsError),
    /// The store failed. Its own text says whether the event may have been stored; receiving it
    /// again is safe in either case.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The inbox's actor did not answer. Receiving the event again is safe.
    #[error(transparent)]
    Call(#[from] CallError),
}

impl Fault for InboxError {
    fn code(&self) -> Code {
        match self {
            Self::UnknownSource => Code::new("inbox.unknown_source"),
            Self::Unverified => Code::new("inbox.unverified"),
            Self::TooLarge { .. } => Code::new("inbox.too_large"),
            Self::CertificateUnavailable { .. } => Code::new("inbox.certificate_unavailable"),
            Self::InvalidSetting { .. } => Code::new("inbox.invalid_setting"),
            Self::Taken(_) => Code::new("inbox.taken"),
            Self::Superseded => Code::new("inbox.superseded"),
            Self::ForeignTransaction => Code::new("inbox.foreign_transaction"),
            Self::Jobs(error) => error.code(),
            Self::Store(error) => error.code(),
            Self::Call(error) => error.code(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::CertificateUnavailable { retry_after } => Some(*retry_after),
            Self::Jobs(error) => error.retry_after(),
            Self::Store(error) => error.retry_after(),
            Self::Call(error) => error.retry_after(),
            Self::UnknownSource
            | Self::Unverified
            | Self::TooLarge { .. }
            | Self::InvalidSetting { .. }
            | Self::Taken(_)
            | Self::Superseded
            | Self::ForeignTransaction => None,
        }
    }
}

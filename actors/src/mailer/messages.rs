//! What the mailer's actor is asked. [`Mailer`](super::Mailer) has a method for each.

use std::sync::Arc;

use actix::Message;
use serde::Serialize;

use super::error::MailerError;
use super::events::{DeliveryEvent, Recorded};
use super::state::{Delivery, MailState};
use super::store::Attempt;
use super::{Mail, MailId};
use crate::store::Timestamp;

/// What became of a mail that was enqueued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MailEnqueued {
    /// It is stored, and will be sent.
    New(MailId),
    /// The same mail was enqueued under this key before; nothing was stored.
    Replayed(MailId),
}

impl MailEnqueued {
    /// The mail.
    #[must_use]
    pub const fn id(self) -> MailId {
        match self {
            Self::New(id) | Self::Replayed(id) => id,
        }
    }
}

/// How far a mail is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct MailStatus {
    /// Which.
    pub id: MailId,
    /// What its user called it.
    pub kind: Arc<str>,
    /// How far it is.
    pub state: MailState,
    /// What became of it after it was accepted.
    pub delivery: Delivery,
    /// The provider that has it, or was asked last.
    pub provider: Option<Arc<str>>,
    /// What that calls it.
    pub provider_id: Option<Arc<str>>,
    /// Why it is what it is.
    pub code: Option<Arc<str>>,
    /// The mail that it repeats.
    pub resend_of: Option<MailId>,
    /// When it is too late to send it.
    pub deadline: Option<Timestamp>,
    /// When it was enqueued.
    pub created_at: Timestamp,
    /// When its state changed last.
    pub updated_at: Timestamp,
    /// All attempts, the first one first.
    pub attempts: Vec<Attempt>,
}

/// Stores a mail to be sent. The reply means that it is on disk, not that it was sent.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<MailEnqueued, MailerError>")]
pub struct StoreMail {
    /// What.
    pub mail: Mail,
    /// The idempotency key, 1 to 200 visible ASCII characters; `None`: every mail is a new one.
    pub key: Option<Arc<str>>,
}

/// Looks a mail up.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<Option<MailStatus>, MailerError>")]
pub struct FindMail {
    /// Which.
    pub id: MailId,
}

/// Calls a mail back. The reply is `false` if an attempt was made already, or it is unknown.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<bool, MailerError>")]
pub struct CancelMail {
    /// Which.
    pub id: MailId,
}

/// Takes in what a provider told.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Recorded, MailerError>")]
pub struct RecordEvent {
    /// What.
    pub event: DeliveryEvent,
}

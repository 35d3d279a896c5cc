//! What providers tell of a mail after they took it.
//!
//! A provider posts events to a webhook, each in a form of its own; [`EventReader`] makes
//! [`DeliveryEvent`]s of them, and [`Mailer::record`](super::Mailer::record) takes those in.
//! [`Mailer::listen`](super::Mailer::listen) does both for a source of an inbox.

mod mailgun;
mod postmark;
mod reader;
mod resend;
mod sendgrid;
mod ses;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::state::Delivery;
use super::{EmailAddress, MailId};
use crate::store::Timestamp;

pub use reader::{EventError, EventReader};

/// What a provider told, in the words of all providers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryEvent {
    /// Which provider, as the mailer calls it.
    pub provider: Arc<str>,
    /// The provider's own number of the event; the same one is taken in once.
    pub event_id: Arc<str>,
    /// The mail, where the provider gave our number back.
    pub mail: Option<MailId>,
    /// What the provider calls the mail.
    pub provider_id: Option<Arc<str>>,
    /// What happened.
    pub kind: DeliveryKind,
    /// To whom; `None` where the provider does not say. Then it is the mail's only recipient, if
    /// it has no other.
    pub recipient: Option<EmailAddress>,
    /// When, says the provider.
    pub happened_at: Timestamp,
}

/// What happened to a mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DeliveryKind {
    /// The provider has it.
    Sent,
    /// The recipient's server took it not yet.
    Deferred,
    /// The recipient's server took it.
    Delivered,
    /// The recipient's server refused it for good: the address is suppressed.
    Bounced,
    /// The recipient's server refused it this time.
    SoftBounced,
    /// The recipient called it spam: the address is suppressed.
    Complained,
    /// The recipient wants no more: the address is suppressed.
    Unsubscribed,
    /// It was opened.
    Opened,
    /// A link in it was followed.
    Clicked,
    /// The provider would not send it on.
    Dropped,
    /// Something else.
    Other,
}

impl DeliveryKind {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::Sent,
        Self::Deferred,
        Self::Delivered,
        Self::Bounced,
        Self::SoftBounced,
        Self::Complained,
        Self::Unsubscribed,
        Self::Opened,
        Self::Clicked,
        Self::Dropped,
        Self::Other,
    ];

    /// The name in rows, JSON and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Deferred => "deferred",
            Self::Delivered => "delivered",
            Self::Bounced => "bounced",
            Self::SoftBounced => "soft_bounced",
            Self::Complained => "complained",
            Self::Unsubscribed => "unsubscribed",
            Self::Opened => "opened",
            Self::Clicked => "clicked",
            Self::Dropped => "dropped",
            Self::Other => "other",
        }
    }

    pub(super) fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|known| known.as_str() == word)
    }

    /// How far the mail is then; `None` if that is not known from it.
    #[must_use]
    pub const fn delivery(self) -> Option<Delivery> {
        match self {
            Self::Sent => Some(Delivery::Sent),
            Self::Deferred => Some(Delivery::Deferred),
            Self::Delivered | Self::Opened | Self::Clicked | Self::Unsubscribed => {
                Some(Delivery::Delivered)
            }
            Self::Bounced | Self::SoftBounced | Self::Dropped => Some(Delivery::Bounced),
            Self::Complained => Some(Delivery::Complained),
            Self::Other => None,
        }
    }

    /// Why the recipient gets no more mail, if so.
    pub(super) const fn suppresses(self) -> Option<&'static str> {
        match self {
            Self::Bounced => Some("bounced"),
            Self::Complained => Some("complained"),
            Self::Unsubscribed => Some("unsubscribed"),
            Self::Sent
            | Self::Deferred
            | Self::Delivered
            | Self::SoftBounced
            | Self::Opened
            | Self::Clicked
            | Self::Dropped
            | Self::Other => None,
        }
    }
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Recorded {
    /// It belongs to this mail.
    Mail(MailId),
    /// It was taken in before.
    Duplicate,
    /// It is kept, and belongs to no mail that is known. If it has what its provider calls the
    /// mail, it counts as soon as a mail is called so.
    UnknownMail,
}

//! Reading an event as its provider posted it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{DeliveryEvent, DeliveryKind, mailgun, postmark, resend, sendgrid, ses};
use crate::kernel::{Code, Fault};
use crate::mailer::provider::{ProviderError, check_name, provider_id};
use crate::mailer::{EmailAddress, Mail, MailId, Mailbox};
use crate::store::Timestamp;

/// LIMIT: the last second of the year 9999.
const SECONDS_MAX: i64 = 253_402_300_799;
/// LIMIT: bytes of a time in the form of RFC 3339.
const TIME_MAX: usize = 40;

/// Reads the events of one provider. Pure: bytes in, [`DeliveryEvent`]s out.
///
/// # Examples
///
/// ```
/// use steadfast_actors::mailer::events::{DeliveryKind, EventReader};
/// use steadfast_actors::store::Timestamp;
///
/// let body = br#"{"type":"email.delivered","created_at":"2024-02-22T23:41:12.126Z",
///     "data":{"email_id":"56761188-7520-42d8-8898-ff6fc54ce618",
///             "tags":{"mail_id":"0192f0c1a2b37c4d8e5f60718293a4b5"}}}"#;
/// let events = EventReader::resend().read("msg_1", Timestamp(0), body)?;
/// assert_eq!(events[0].kind, DeliveryKind::Delivered);
/// assert!(events[0].mail.is_some());
/// # Ok::<(), steadfast_actors::mailer::events::EventError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a reader does nothing until it is given an event"]
pub struct EventReader {
    format: Format,
    provider: Arc<str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Postmark,
    SendGrid,
    Mailgun,
    Resend,
    Ses,
}

impl EventReader {
    /// Of Postmark's webhooks: delivery, bounce, spam complaint, open, click and subscription
    /// change.
    pub fn postmark() -> Self {
        Self::new(Format::Postmark, postmark::PROVIDER)
    }

    /// Of SendGrid's event webhook: one event of the list that it posts.
    pub fn sendgrid() -> Self {
        Self::new(Format::SendGrid, sendgrid::PROVIDER)
    }

    /// Of Mailgun's webhooks, in JSON.
    pub fn mailgun() -> Self {
        Self::new(Format::Mailgun, mailgun::PROVIDER)
    }

    /// Of Resend's webhooks.
    pub fn resend() -> Self {
        Self::new(Format::Resend, resend::PROVIDER)
    }

    /// Of Amazon SES by way of SNS, in SNS's envelope: what a configuration set publishes, and the
    /// notifications of an identity. Those of an identity do not bring the mail's number back.
    pub fn ses() -> Self {
        Self::new(Format::Ses, ses::PROVIDER)
    }

    fn new(format: Format, provider: &str) -> Self {
        Self { format, provider: provider.into() }
    }

    /// For a provider that the mailer has under another name than its usual one; see
    /// [`HttpProvider::named`](crate::mailer::provider::HttpProvider::named).
    ///
    /// # Errors
    ///
    /// [`ProviderError::InvalidSetting`].
    pub fn named(mut self, provider: &str) -> Result<Self, ProviderError> {
        self.provider = check_name(provider)?;
        Ok(self)
    }

    /// The types of events, as the inbox has them, that tell of mails.
    pub(in crate::mailer) const fn types(&self) -> &'static str {
        match self.format {
            // What else SNS sends is about the subscription.
            Format::Ses => "Notification",
            Format::Postmark | Format::SendGrid | Format::Mailgun | Format::Resend => "*",
        }
    }

    /// Reads one event: one of each recipient that it names, or one if it names none. Of a type
    /// that is not known it is [`DeliveryKind::Other`].
    ///
    /// `event_id` is what the provider calls the event, as the inbox has it; Postmark calls most of
    /// its events nothing, and there it is not looked at. `received_at` stands for the time of an
    /// event of a type that is not known, where none is found.
    ///
    /// # Errors
    ///
    /// [`EventError`]: it is not what the provider documents.
    pub fn read(
        &self,
        event_id: &str,
        received_at: Timestamp,
        body: &[u8],
    ) -> Result<Vec<DeliveryEvent>, EventError> {
        let told = match self.format {
            Format::Postmark => Some(postmark::read(body)?),
            Format::SendGrid => Some(sendgrid::read(body)?),
            Format::Mailgun => Some(mailgun::read(body)?),
            Format::Resend => Some(resend::read(body)?),
            Format::Ses => ses::read(body)?,
        };
        let Some(told) = told else { return Ok(Vec::new()) };
        // LIMIT: no mail has more recipients.
        if told.recipients.len() > Mail::RECIPIENT_LIMIT {
            return Err(EventError::TooManyRecipients { limit: Mail::RECIPIENT_LIMIT });
        }
        Ok(self.events(told, event_id, received_at))
    }

    fn events(&self, told: Told, event_id: &str, received_at: Timestamp) -> Vec<DeliveryEvent> {
        let Told { event_id: own, mail, provider_id, kind, recipients, happened_at } = told;
        let event_id = own.as_deref().unwrap_or(event_id);
        let event = |id: Arc<str>, recipient| DeliveryEvent {
            provider: Arc::clone(&self.provider),
            event_id: id,
            mail,
            provider_id: provider_id.clone(),
            kind,
            recipient,
            happened_at: happened_at.unwrap_or(received_at),
        };
        if recipients.len() < 2 {
            return vec![event(event_id.into(), recipients.into_iter().next())];
        }
        let numbered = recipients.into_iter().enumerate();
        let one = |(n, address)| event(format!("{event_id}:{n}").into(), Some(address));
        numbered.map(one).collect()
    }
}

/// What an event says, whoever posted it.
#[derive(Debug, Clone)]
pub(super) struct Told {
    /// Its id, where that is not found by the inbox.
    pub(super) event_id: Option<String>,
    pub(super) mail: Option<MailId>,
    pub(super) provider_id: Option<Arc<str>>,
    pub(super) kind: DeliveryKind,
    pub(super) recipients: Vec<EmailAddress>,
    /// `None` only where the type is not known.
    pub(super) happened_at: Option<Timestamp>,
}

/// Why a provider's event cannot be read. Nothing of the event is in the text.
///
/// It is not what the provider documents, and never will be: look at it, correct the source or
/// this library, and replay it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventError {
    /// It is no JSON, or something in it is missing or of another kind.
    #[error("the event is not of its provider's form, at line {line}, column {column}")]
    Malformed {
        /// The line, from 1; 0 if it is not known.
        line: usize,
        /// The column, from 1; 0 if it is not known.
        column: usize,
    },
    /// A part of it is missing that belongs to its type.
    #[error("the event has no `{part}`")]
    Missing {
        /// Which part.
        part: &'static str,
    },
    /// Its time is none.
    #[error("the time of the event is none")]
    Time,
    /// It names more recipients than a mail can have.
    #[error("the event names more than {limit} recipients")]
    TooManyRecipients {
        /// How many are allowed.
        limit: usize,
    },
}

impl Fault for EventError {
    fn code(&self) -> Code {
        match self {
            Self::Malformed { .. } | Self::Missing { .. } | Self::Time => {
                Code::new("mailer.event_malformed")
            }
            Self::TooManyRecipients { .. } => Code::new("mailer.event_too_many_recipients"),
        }
    }
}

impl From<serde_json::Error> for EventError {
    /// Without its text, which may quote the event.
    fn from(error: serde_json::Error) -> Self {
        Self::Malformed { line: error.line(), column: error.column() }
    }
}

pub(super) fn decode<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, EventError> {
    Ok(serde_json::from_slice(body)?)
}

/// A part that must be there.
pub(super) fn part<'a, T: Deserialize<'a>>(
    whole: &'a RawValue,
    name: &'static str,
) -> Result<T, EventError> {
    let found = member(whole, name).ok_or(EventError::Missing { part: name })?;
    Ok(serde_json::from_str(found.get())?)
}

/// A member of an object; `None` also if it is no object. What users may fill as they like is
/// looked at in this way: nothing of theirs makes an event unreadable.
pub(super) fn member<'a>(object: &'a RawValue, name: &str) -> Option<&'a RawValue> {
    let members: HashMap<Cow<'a, str>, &'a RawValue> = serde_json::from_str(object.get()).ok()?;
    members.get(name).copied()
}

/// A text, if it is one.
pub(super) fn text(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

/// Our own number. What else stands there is somebody else's.
pub(super) fn own_number(value: &RawValue) -> Option<MailId> {
    text(value)?.parse().ok()
}

/// What the provider calls the mail.
pub(super) fn called(value: &RawValue) -> Option<Arc<str>> {
    provider_id(&text(value)?)
}

/// The address of a recipient, with a name before it or without. One that no mail of ours can go
/// to is none.
pub(super) fn address(text: &str) -> Option<EmailAddress> {
    Mailbox::parse(text).ok().map(|mailbox| mailbox.address)
}

/// A time in the form of RFC 3339, with its offset.
pub(super) fn rfc3339(text: &str) -> Result<Timestamp, EventError> {
    // The parser takes more than the form has: a space for the `T`, a zone behind.
    let known = |byte: u8| byte.is_ascii_digit() || b"-:.+TZ".contains(&byte);
    let is_form =
        text.len() <= TIME_MAX && text.as_bytes().get(10) == Some(&b'T') && text.bytes().all(known);
    let at = is_form.then(|| text.parse::<jiff::Timestamp>().ok()).flatten();
    at.map(|at| Timestamp(at.as_millisecond())).ok_or(EventError::Time)
}

/// A number of seconds since 1970, with a fraction or without.
pub(super) fn unix(number: &RawValue) -> Result<Timestamp, EventError> {
    let number = number.get();
    let (seconds, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let is_digits = |text: &str| {
        (1..=TIME_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    if !is_digits(seconds) || !is_digits(fraction) {
        return Err(EventError::Time);
    }
    let seconds: i64 = seconds.parse().or(Err(EventError::Time))?;
    let millis: String = fraction.chars().chain("000".chars()).take(3).collect();
    let millis: i64 = millis.parse().or(Err(EventError::Time))?;
    let is_known = (0..=SECONDS_MAX).contains(&seconds);
    is_known.then(|| Timestamp(seconds * 1_000 + millis)).ok_or(EventError::Time)
}

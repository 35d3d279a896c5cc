//! Amazon SES by way of SNS:
//! <https://docs.aws.amazon.com/ses/latest/dg/event-publishing-retrieving-sns-contents.html>.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::DeliveryKind;
use super::reader::{EventError, Told, address, called, decode, member, own_number, part, rfc3339};
use crate::mailer::provider::MAIL_ID;
use crate::mailer::{EmailAddress, MailId};
use crate::store::Timestamp;

pub(super) const PROVIDER: &str = "ses";

/// What SES says on a topic when it is told to publish there. It tells of no mail.
const GREETING: &str = "Successfully validated SNS topic for Amazon SES";

/// A message of SNS; what it carries is JSON in a text.
#[derive(Deserialize)]
struct Message {
    #[serde(rename = "Message")]
    message: String,
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(alias = "notificationType", rename = "eventType")]
    event_type: String,
    #[serde(borrow)]
    mail: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Mail {
    timestamp: String,
    #[serde(default)]
    destination: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Recipient {
    email_address: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bounce {
    bounce_type: String,
    bounce_sub_type: Option<String>,
    bounced_recipients: Vec<Recipient>,
    timestamp: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Complaint {
    complaint_feedback_type: Option<String>,
    complaint_sub_type: Option<String>,
    complained_recipients: Vec<Recipient>,
    timestamp: String,
}

#[derive(Deserialize)]
struct Delivery {
    recipients: Vec<String>,
    timestamp: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Delay {
    delayed_recipients: Vec<Recipient>,
    timestamp: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Subscription {
    timestamp: String,
    new_topic_preferences: Option<Preferences>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Preferences {
    #[serde(default)]
    unsubscribe_all: bool,
}

/// `open` and `click`.
#[derive(Deserialize)]
struct Seen {
    timestamp: String,
}

/// What differs from type to type.
struct Particulars {
    kind: DeliveryKind,
    recipients: Vec<EmailAddress>,
    at: Timestamp,
}

pub(super) fn read(body: &[u8]) -> Result<Option<Told>, EventError> {
    let Message { message } = decode(body)?;
    if message.starts_with(GREETING) {
        return Ok(None);
    }
    let record: &RawValue = decode(message.as_bytes())?;
    let head: Head<'_> = decode(message.as_bytes())?;
    let particulars = particulars(&head, record)?;
    Ok(Some(Told {
        event_id: None,
        mail: head.mail.and_then(tagged),
        provider_id: head.mail.and_then(|mail| member(mail, "messageId")).and_then(called),
        kind: particulars.as_ref().map_or(DeliveryKind::Other, |known| known.kind),
        happened_at: particulars.as_ref().map(|known| known.at),
        recipients: particulars.map(|known| known.recipients).unwrap_or_default(),
    }))
}

/// `None`: the type is not known.
fn particulars(head: &Head<'_>, record: &RawValue) -> Result<Option<Particulars>, EventError> {
    let known =
        |kind, recipients, at: &str| Ok(Some(Particulars { kind, recipients, at: rfc3339(at)? }));
    let of_mail = |kind| {
        let mail: Mail = part(record, "mail")?;
        known(kind, only(&mail), &mail.timestamp)
    };
    let seen = |kind, name| {
        let Seen { timestamp } = part(record, name)?;
        known(kind, only(&part(record, "mail")?), &timestamp)
    };
    match &*head.event_type {
        "Send" => of_mail(DeliveryKind::Sent),
        "Reject" | "Rendering Failure" => of_mail(DeliveryKind::Dropped),
        "Open" => seen(DeliveryKind::Opened, "open"),
        "Click" => seen(DeliveryKind::Clicked, "click"),
        "Bounce" => {
            let bounce: Bounce = part(record, "bounce")?;
            known(kind_of_bounce(&bounce), all(&bounce.bounced_recipients), &bounce.timestamp)
        }
        "Complaint" => {
            let complaint: Complaint = part(record, "complaint")?;
            let recipients = complainers(&complaint);
            known(kind_of_complaint(&complaint), recipients, &complaint.timestamp)
        }
        "Delivery" => {
            let Delivery { recipients, timestamp } = part(record, "delivery")?;
            let recipients = recipients.iter().filter_map(|one| address(one)).collect();
            known(DeliveryKind::Delivered, recipients, &timestamp)
        }
        "DeliveryDelay" => {
            let delay: Delay = part(record, "deliveryDelay")?;
            known(DeliveryKind::Deferred, all(&delay.delayed_recipients), &delay.timestamp)
        }
        "Subscription" => {
            let subscription: Subscription = part(record, "subscription")?;
            let kind = kind_of_change(&subscription);
            known(kind, only(&part(record, "mail")?), &subscription.timestamp)
        }
        _ => Ok(None),
    }
}

fn kind_of_bounce(bounce: &Bounce) -> DeliveryKind {
    match (&*bounce.bounce_type, bounce.bounce_sub_type.as_deref()) {
        // It was not sent: the address is on a list of Amazon's.
        ("Permanent", Some("Suppressed" | "OnAccountSuppressionList")) => DeliveryKind::Dropped,
        ("Permanent", _) => DeliveryKind::Bounced,
        _ => DeliveryKind::SoftBounced,
    }
}

fn kind_of_complaint(complaint: &Complaint) -> DeliveryKind {
    match (&complaint.complaint_feedback_type, complaint.complaint_sub_type.as_deref()) {
        // It was not sent, as the address complained before.
        (_, Some("OnAccountSuppressionList")) => DeliveryKind::Dropped,
        // Somebody took it out of the folder for spam.
        (Some(feedback), _) if feedback == "not-spam" => DeliveryKind::Other,
        _ => DeliveryKind::Complained,
    }
}

fn kind_of_change(subscription: &Subscription) -> DeliveryKind {
    let wants_none = |preferences: &Preferences| preferences.unsubscribe_all;
    if subscription.new_topic_preferences.as_ref().is_some_and(wants_none) {
        DeliveryKind::Unsubscribed
    } else {
        DeliveryKind::Other
    }
}

fn all(recipients: &[Recipient]) -> Vec<EmailAddress> {
    recipients.iter().filter_map(|one| address(&one.email_address)).collect()
}

/// Most hosts do not say who complained. Then these are all recipients there, and to stop mail to
/// all of them for what one did would be wrong.
fn complainers(complaint: &Complaint) -> Vec<EmailAddress> {
    match &*complaint.complained_recipients {
        [one] => address(&one.email_address).into_iter().collect(),
        _ => Vec::new(),
    }
}

/// The recipient of a mail that has one.
fn only(mail: &Mail) -> Vec<EmailAddress> {
    match &*mail.destination {
        [one] => address(one).into_iter().collect(),
        _ => Vec::new(),
    }
}

/// A tag has a list of values.
fn tagged(mail: &RawValue) -> Option<MailId> {
    let values = member(member(mail, "tags")?, MAIL_ID)?;
    let values: Vec<&RawValue> = serde_json::from_str(values.get()).ok()?;
    values.first().and_then(|value| own_number(value))
}

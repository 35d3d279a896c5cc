//! Mailgun: <https://documentation.mailgun.com/docs/mailgun/user-manual/events/events>.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::DeliveryKind;
use super::reader::{EventError, Told, address, decode, member, own_number, text, unix};
use crate::mailer::provider::{MAIL_ID, provider_id};

pub(super) const PROVIDER: &str = "mailgun";

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, rename = "event-data")]
    data: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Head<'a> {
    event: String,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    user_variables: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Particulars<'a> {
    #[serde(borrow)]
    timestamp: &'a RawValue,
    /// A mail that was rejected has none.
    recipient: Option<String>,
    severity: Option<String>,
    reason: Option<String>,
}

pub(super) fn read(body: &[u8]) -> Result<Told, EventError> {
    let Body { data } = decode(body)?;
    let data = data.get().as_bytes();
    let head: Head<'_> = decode(data)?;
    let mut told = Told {
        event_id: None,
        mail: head.user_variables.and_then(|all| member(all, MAIL_ID)).and_then(own_number),
        provider_id: head.message.and_then(message_id),
        kind: DeliveryKind::Other,
        recipients: Vec::new(),
        happened_at: None,
    };
    if !EVENTS.contains(&&*head.event) {
        return Ok(told);
    }
    let particulars: Particulars<'_> = decode(data)?;
    told.kind = kind(&head.event, &particulars);
    told.happened_at = Some(unix(particulars.timestamp)?);
    told.recipients = particulars.recipient.as_deref().and_then(address).into_iter().collect();
    Ok(told)
}

/// The events that are documented.
const EVENTS: [&str; 10] = [
    "accepted",
    "clicked",
    "complained",
    "delivered",
    "failed",
    "opened",
    "rejected",
    "stored",
    "temporary_fail",
    "unsubscribed",
];

fn kind(event: &str, particulars: &Particulars<'_>) -> DeliveryKind {
    match event {
        "accepted" => DeliveryKind::Sent,
        "clicked" => DeliveryKind::Clicked,
        "complained" => DeliveryKind::Complained,
        "delivered" => DeliveryKind::Delivered,
        "failed" => kind_of_failure(particulars),
        "opened" => DeliveryKind::Opened,
        "rejected" => DeliveryKind::Dropped,
        "temporary_fail" => DeliveryKind::Deferred,
        "unsubscribed" => DeliveryKind::Unsubscribed,
        _ => DeliveryKind::Other,
    }
}

/// An address is given up only where it is at fault: what Mailgun grew tired of trying, or was
/// refused for its sender, may be taken the next time.
fn kind_of_failure(particulars: &Particulars<'_>) -> DeliveryKind {
    if particulars.severity.as_deref() == Some("temporary") {
        return DeliveryKind::Deferred;
    }
    match particulars.reason.as_deref() {
        Some("bounce" | "hardfail") => DeliveryKind::Bounced,
        Some(reason) if reason.starts_with("suppress-") => DeliveryKind::Dropped,
        _ => DeliveryKind::SoftBounced,
    }
}

/// As the API answered with it: without its brackets.
fn message_id(message: &RawValue) -> Option<Arc<str>> {
    let id = text(member(member(message, "headers")?, "message-id")?)?;
    provider_id(id.trim_start_matches('<').trim_end_matches('>'))
}

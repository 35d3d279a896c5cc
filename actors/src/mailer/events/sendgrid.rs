//! SendGrid: <https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/event>.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::DeliveryKind;
use super::reader::{EventError, Told, address, decode, own_number, text, unix};
use crate::mailer::provider::provider_id;

pub(super) const PROVIDER: &str = "sendgrid";

#[derive(Deserialize)]
struct Head<'a> {
    event: String,
    #[serde(borrow)]
    sg_message_id: Option<&'a RawValue>,
    /// Custom arguments stand beside everything else.
    #[serde(borrow)]
    mail_id: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Particulars<'a> {
    email: String,
    #[serde(borrow)]
    timestamp: &'a RawValue,
    r#type: Option<String>,
}

pub(super) fn read(body: &[u8]) -> Result<Told, EventError> {
    let head: Head<'_> = decode(body)?;
    let mut told = Told {
        event_id: None,
        mail: head.mail_id.and_then(own_number),
        provider_id: head.sg_message_id.and_then(text).and_then(|id| message_id(&id)),
        kind: DeliveryKind::Other,
        recipients: Vec::new(),
        happened_at: None,
    };
    let Some(kind) = kind(&head.event) else { return Ok(told) };
    let particulars: Particulars<'_> = decode(body)?;
    told.happened_at = Some(unix(particulars.timestamp)?);
    told.recipients = address(&particulars.email).into_iter().collect();
    // `bounce` is for good, `blocked` and `expired` are for this time.
    let is_for_good = particulars.r#type.as_deref() == Some("bounce");
    let is_soft = kind == DeliveryKind::Bounced && !is_for_good;
    told.kind = if is_soft { DeliveryKind::SoftBounced } else { kind };
    Ok(told)
}

fn kind(event: &str) -> Option<DeliveryKind> {
    Some(match event {
        "processed" => DeliveryKind::Sent,
        "deferred" => DeliveryKind::Deferred,
        "delivered" => DeliveryKind::Delivered,
        "bounce" => DeliveryKind::Bounced,
        "dropped" => DeliveryKind::Dropped,
        "open" => DeliveryKind::Opened,
        "click" => DeliveryKind::Clicked,
        "spamreport" => DeliveryKind::Complained,
        "unsubscribe" | "group_unsubscribe" => DeliveryKind::Unsubscribed,
        "group_resubscribe" => DeliveryKind::Other,
        _ => return None,
    })
}

/// What the API answered with: the events' id goes on with the name of the machine that had the
/// mail.
fn message_id(id: &str) -> Option<Arc<str>> {
    let end = [".filter", ".recv"].iter().filter_map(|machine| id.find(machine)).min();
    provider_id(id.get(..end.unwrap_or(id.len()))?)
}

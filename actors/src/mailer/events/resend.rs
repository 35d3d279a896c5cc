//! Resend: <https://resend.com/docs/dashboard/webhooks/event-types>.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::DeliveryKind;
use super::reader::{EventError, Told, called, decode, member, own_number, rfc3339, text};
use crate::mailer::MailId;
use crate::mailer::provider::MAIL_ID;

pub(super) const PROVIDER: &str = "resend";

#[derive(Deserialize)]
struct Event<'a> {
    r#type: String,
    created_at: String,
    #[serde(borrow)]
    data: &'a RawValue,
}

#[derive(Deserialize)]
struct Tag<'a> {
    name: String,
    #[serde(borrow)]
    value: &'a RawValue,
}

/// Resend tells of each recipient and does not say of which: `to` is what the mail has in that
/// field. So it names none.
pub(super) fn read(body: &[u8]) -> Result<Told, EventError> {
    let Event { r#type, created_at, data } = decode(body)?;
    Ok(Told {
        event_id: None,
        mail: member(data, "tags").and_then(tagged),
        provider_id: member(data, "email_id").and_then(called),
        kind: kind(&r#type, data),
        recipients: Vec::new(),
        happened_at: Some(rfc3339(&created_at)?),
    })
}

fn kind(event: &str, data: &RawValue) -> DeliveryKind {
    match event {
        "email.sent" => DeliveryKind::Sent,
        "email.delivery_delayed" => DeliveryKind::Deferred,
        "email.delivered" => DeliveryKind::Delivered,
        "email.bounced" if is_for_good(data) => DeliveryKind::Bounced,
        "email.bounced" => DeliveryKind::SoftBounced,
        "email.complained" => DeliveryKind::Complained,
        "email.opened" => DeliveryKind::Opened,
        "email.clicked" => DeliveryKind::Clicked,
        "email.failed" | "email.suppressed" => DeliveryKind::Dropped,
        // Also mails that are scheduled or came in, contacts and domains.
        _ => DeliveryKind::Other,
    }
}

fn is_for_good(data: &RawValue) -> bool {
    let bounce = member(data, "bounce").and_then(|bounce| member(bounce, "type"));
    bounce.and_then(text).as_deref() == Some("Permanent")
}

/// Tags are documented as a list, and come as an object.
fn tagged(tags: &RawValue) -> Option<MailId> {
    if let Some(value) = member(tags, MAIL_ID) {
        return own_number(value);
    }
    let tags: Vec<Tag<'_>> = serde_json::from_str(tags.get()).ok()?;
    tags.iter().find(|tag| tag.name == MAIL_ID).and_then(|tag| own_number(tag.value))
}

//! Postmark: <https://postmarkapp.com/developer/webhooks/webhooks-overview>.

use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::DeliveryKind;
use super::reader::{EventError, Told, address, called, decode, member, own_number, rfc3339};
use crate::hex::hex;
use crate::mailer::provider::MAIL_ID;

pub(super) const PROVIDER: &str = "postmark";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Head<'a> {
    record_type: String,
    /// Null where somebody suppressed an address by hand.
    #[serde(borrow, rename = "MessageID")]
    message_id: Option<&'a RawValue>,
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
}

/// `Bounce` and `SpamComplaint`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Bounce {
    #[serde(rename = "ID")]
    id: Option<u64>,
    r#type: String,
    email: String,
    bounced_at: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Delivery {
    recipient: String,
    delivered_at: String,
}

/// `Open` and `Click`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Seen {
    recipient: String,
    received_at: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SubscriptionChange {
    recipient: String,
    changed_at: String,
    suppress_sending: bool,
    suppression_reason: Option<String>,
}

/// What differs from type to type.
struct Particulars {
    id: Option<u64>,
    kind: DeliveryKind,
    email: String,
    at: String,
}

pub(super) fn read(body: &[u8]) -> Result<Told, EventError> {
    let head: Head<'_> = decode(body)?;
    let (mail, provider_id) = (
        head.metadata.and_then(|metadata| member(metadata, MAIL_ID)).and_then(own_number),
        head.message_id.and_then(called),
    );
    let message_id = provider_id.as_deref().unwrap_or_default();
    let Some(Particulars { id, kind, email, at }) = particulars(&head.record_type, body)? else {
        let event_id = Some(hash(&[&String::from_utf8_lossy(body)]));
        let (kind, recipients) = (DeliveryKind::Other, Vec::new());
        return Ok(Told { event_id, mail, provider_id, kind, recipients, happened_at: None });
    };
    // Only bounces and complaints have an id.
    let event_id = match id {
        Some(id) => format!("{}:{id}", head.record_type),
        None => hash(&[&head.record_type, message_id, &email, &at]),
    };
    Ok(Told {
        event_id: Some(event_id),
        happened_at: Some(rfc3339(&at)?),
        recipients: address(&email).into_iter().collect(),
        mail,
        provider_id,
        kind,
    })
}

fn particulars(record_type: &str, body: &[u8]) -> Result<Option<Particulars>, EventError> {
    let seen = |kind| {
        let Seen { recipient: email, received_at: at } = decode(body)?;
        Ok(Some(Particulars { id: None, kind, email, at }))
    };
    match record_type {
        "Bounce" | "SpamComplaint" => {
            let Bounce { id, r#type, email, bounced_at: at } = decode(body)?;
            Ok(Some(Particulars { id, kind: kind_of_bounce(&r#type), email, at }))
        }
        "Delivery" => {
            let Delivery { recipient: email, delivered_at: at } = decode(body)?;
            Ok(Some(Particulars { id: None, kind: DeliveryKind::Delivered, email, at }))
        }
        "Open" => seen(DeliveryKind::Opened),
        "Click" => seen(DeliveryKind::Clicked),
        "SubscriptionChange" => {
            let change: SubscriptionChange = decode(body)?;
            let kind = kind_of_change(&change);
            let SubscriptionChange { recipient: email, changed_at: at, .. } = change;
            Ok(Some(Particulars { id: None, kind, email, at }))
        }
        _ => Ok(None),
    }
}

/// Postmark's list of types of bounces. An address is given up only where it is at fault: what was
/// refused for its content or its sender may be taken the next time.
fn kind_of_bounce(bounce_type: &str) -> DeliveryKind {
    match bounce_type {
        "HardBounce" | "BadEmailAddress" => DeliveryKind::Bounced,
        "SpamComplaint" => DeliveryKind::Complained,
        "Unsubscribe" => DeliveryKind::Unsubscribed,
        "SoftBounce" | "Blocked" | "SpamNotification" | "VirusNotification" | "DMARCPolicy" => {
            DeliveryKind::SoftBounced
        }
        "Transient" | "DnsError" => DeliveryKind::Deferred,
        "ManuallyDeactivated" | "Unconfirmed" | "SMTPApiError" | "TemplateRenderingFailed" => {
            DeliveryKind::Dropped
        }
        // An answer that somebody's program wrote, or nothing that Postmark can tell.
        _ => DeliveryKind::Other,
    }
}

/// An address that may get mail again is no reason to send any: who took it off the list puts it
/// on ours too, or off it.
fn kind_of_change(change: &SubscriptionChange) -> DeliveryKind {
    match change.suppression_reason.as_deref() {
        _ if !change.suppress_sending => DeliveryKind::Other,
        Some("HardBounce") => DeliveryKind::Bounced,
        Some("SpamComplaint") => DeliveryKind::Complained,
        _ => DeliveryKind::Unsubscribed,
    }
}

/// An id of what makes an event this one.
fn hash(parts: &[&str]) -> String {
    hex(&Sha256::digest(parts.join("\n")))
}

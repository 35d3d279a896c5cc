//! A message of SNS and the text of it that is signed.

use std::borrow::Cow;

use serde::Deserialize;

use super::urls::{Confirmation, region_of};
use crate::inbox::verify::Refusal;
use crate::store::Timestamp;

const CONFIRMATION: &str = "SubscriptionConfirmation";

/// What is read of a message; the rest of it is kept and not looked at.
#[derive(Deserialize)]
pub(super) struct Message<'a> {
    #[serde(borrow, rename = "Type")]
    message_type: Cow<'a, str>,
    #[serde(borrow, rename = "MessageId")]
    id: Cow<'a, str>,
    #[serde(borrow, rename = "TopicArn")]
    pub(super) topic: Cow<'a, str>,
    #[serde(borrow, rename = "Subject")]
    subject: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "Message")]
    message: Cow<'a, str>,
    #[serde(borrow, rename = "Timestamp")]
    timestamp: Cow<'a, str>,
    #[serde(borrow, rename = "Token")]
    token: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "SubscribeURL")]
    subscribe: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "SignatureVersion")]
    pub(super) version: Cow<'a, str>,
    #[serde(borrow, rename = "Signature")]
    pub(super) signature: Cow<'a, str>,
    #[serde(borrow, rename = "SigningCertURL")]
    pub(super) certificate: Cow<'a, str>,
}

impl Message<'_> {
    /// The names and values that are signed, each on a line of its own, in the order that the
    /// documentation gives for its type. `None` for a type that is not known.
    pub(super) fn signed_text(&self) -> Option<String> {
        let pairs: Vec<(&str, Option<&str>)> = match &*self.message_type {
            "Notification" => vec![
                ("Message", Some(&self.message)),
                ("MessageId", Some(&self.id)),
                ("Subject", self.subject.as_deref()),
                ("Timestamp", Some(&self.timestamp)),
                ("TopicArn", Some(&self.topic)),
                ("Type", Some(&self.message_type)),
            ],
            CONFIRMATION | "UnsubscribeConfirmation" => vec![
                ("Message", Some(&self.message)),
                ("MessageId", Some(&self.id)),
                ("SubscribeURL", Some(self.subscribe.as_deref()?)),
                ("Timestamp", Some(&self.timestamp)),
                ("Token", Some(self.token.as_deref()?)),
                ("TopicArn", Some(&self.topic)),
                ("Type", Some(&self.message_type)),
            ],
            _ => return None,
        };
        let mut text = String::new();
        for (name, value) in pairs {
            if let Some(value) = value {
                text.extend([name, "\n", value, "\n"]);
            }
        }
        Some(text)
    }

    pub(super) fn sent(&self) -> Option<Timestamp> {
        let sent: jiff::Timestamp = self.timestamp.parse().ok()?;
        Some(Timestamp(sent.as_millisecond()))
    }

    /// What is to be confirmed, if this asks for it.
    pub(super) fn confirmation(&self) -> Result<Option<Confirmation>, Refusal> {
        if self.message_type != CONFIRMATION {
            return Ok(None);
        }
        let url = self.subscribe.as_deref().ok_or(Refusal::Malformed)?;
        let region = region_of(&self.topic).ok_or(Refusal::Untrusted)?;
        Confirmation::read(url, region, &self.topic).map(Some).ok_or(Refusal::Untrusted)
    }
}

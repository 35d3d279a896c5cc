//! Postmark's `POST /email`: it knows no idempotency, so every request is another message.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;

use super::log::{Accepted, MailLog};
use crate::simulator::connection::{Answer, Request};

/// The part of a message that is looked at. Other members are allowed and ignored.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Message {
    #[serde(default)]
    to: String,
    #[serde(default)]
    subject: String,
    #[serde(default)]
    metadata: Metadata,
}

/// Where the mailer puts the number of a mail.
#[derive(Debug, Default, Deserialize)]
struct Metadata {
    mail_id: Option<String>,
}

pub(super) fn answer(request: &Request, log: &MailLog) -> Answer {
    if request.header("x-postmark-server-token").is_none_or(str::is_empty) {
        return error(401, 10, "The server token is missing");
    }
    let message: Message = match serde_json::from_slice(&request.body) {
        Ok(message) => message,
        Err(invalid) if invalid.is_data() => return error(422, 403, "The JSON is no message"),
        Err(_) => return error(422, 402, "The body is not JSON"),
    };
    if message.to.is_empty() {
        return error(422, 300, "Zero recipients specified");
    }
    let key = message.metadata.mail_id.as_deref();
    let id = log.record(Accepted::new(key, &message.to, &message.subject));
    let body = json!({
        "To": message.to,
        "SubmittedAt": Timestamp::now().to_string(),
        "MessageID": id.to_string(),
        "ErrorCode": 0,
        "Message": "OK",
    });
    Answer::json(200, &body)
}

/// Postmark has no code for this; the status says it.
pub(super) fn throttled() -> Answer {
    Answer::json(429, &json!({ "Message": "Too many requests" }))
}

fn error(status: u16, code: u16, message: &str) -> Answer {
    Answer::json(status, &json!({ "ErrorCode": code, "Message": message }))
}

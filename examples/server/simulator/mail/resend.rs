//! Resend's `POST /emails`: a message with an `Idempotency-Key` is accepted once.

use serde::Deserialize;
use serde_json::json;

use super::log::{Accepted, KeyTaken, MailLog};
use crate::simulator::connection::{Answer, Request};

/// LIMIT: characters of a key, as Resend has it. Less than the log clips a text at.
const KEY_MAX: usize = 256;

/// The part of a message that is looked at. Other members are allowed and ignored.
#[derive(Debug, Deserialize)]
struct Message {
    to: Option<Recipients>,
    subject: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Recipients {
    One(String),
    Many(Vec<String>),
}

impl Recipients {
    /// All of them as one text; [`None`] if there are none.
    fn joined(self) -> Option<String> {
        let all = match self {
            Self::One(one) => one,
            Self::Many(many) => many.join(", "),
        };
        (!all.is_empty()).then_some(all)
    }
}

pub(super) fn answer(request: &Request, log: &MailLog) -> Answer {
    accept(request, log).unwrap_or_else(|refused| refused)
}

fn accept(request: &Request, log: &MailLog) -> Result<Answer, Answer> {
    let token = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    if token.is_none_or(str::is_empty) {
        return Err(error(401, "missing_api_key", "Missing API key in the authorization header"));
    }
    let key = request.header("idempotency-key");
    if key.is_some_and(|key| key.is_empty() || key.chars().count() > KEY_MAX) {
        let message = "The idempotency key must be between 1 and 256 characters";
        return Err(error(400, "invalid_idempotency_key", message));
    }
    let message: Message = serde_json::from_slice(&request.body).map_err(|invalid| {
        let status = if invalid.is_data() { 422 } else { 400 };
        error(status, "validation_error", "The body is not a message")
    })?;
    let missing = |message| error(422, "missing_required_field", message);
    let to = message.to.and_then(Recipients::joined);
    let to = to.ok_or_else(|| missing("Missing `to` field."))?;
    let subject = message.subject.ok_or_else(|| missing("Missing `subject` field."))?;
    let accepted = Accepted::new(key, &to, &subject);
    let id = match key {
        Some(key) => log.record_once(key, &request.body, accepted).map_err(|KeyTaken| {
            let message = "The idempotency key was used with another body";
            error(409, "invalid_idempotent_request", message)
        })?,
        None => log.record(accepted),
    };
    Ok(Answer::json(200, &json!({ "id": id.to_string() })))
}

pub(super) fn throttled() -> Answer {
    error(429, "rate_limit_exceeded", "Too many requests")
}

fn error(status: u16, name: &str, message: &str) -> Answer {
    Answer::json(status, &json!({ "statusCode": status, "name": name, "message": message }))
}

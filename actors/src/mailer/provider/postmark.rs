//! Postmark.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::answer::{
    AmbiguousCause, Answer, Outcome, RecipientOutcome, RecipientStatus, ThrottleScope,
};
use super::base_url::BaseUrl;
use super::error::{EncodeError, ProviderError};
use super::secret::Secret;
use super::status::{outcome_of_status, retry_after};
use super::{Capabilities, HttpApi, HttpResponse, Idempotency, WireRequest, json};
use crate::mailer::{Attachment, EmailAddress, Mail, MailId, Mailbox};
use crate::store::Timestamp;

const KIND: &str = "postmark";

/// Postmark's API for one mail, `POST /email`.
///
/// It has no idempotency keys. Mails go to the message stream `outbound` unless another is named.
/// Opens and links are tracked as the server's settings at Postmark say.
#[derive(Debug, Clone)]
pub struct Postmark {
    token: Secret,
    base: BaseUrl,
    stream: Option<String>,
    capabilities: Capabilities,
}

impl Postmark {
    /// The API for the server whose token this is. With `POSTMARK_API_TEST` mail is checked and
    /// not sent.
    ///
    /// # Errors
    ///
    /// [`ProviderError::InvalidSetting`], when the token cannot stand in a header.
    pub fn new(token: impl Into<Secret>) -> Result<Self, ProviderError> {
        Ok(Self {
            token: token.into().checked("postmark.token")?,
            base: BaseUrl::known("https://api.postmarkapp.com"),
            stream: None,
            // LIMIT: 10 MB for a mail with its files, 50 recipients in all.
            capabilities: Capabilities {
                idempotency: Idempotency::None,
                max_bytes: 10_000_000,
                max_recipients: 50,
            },
        })
    }

    /// Another address of the API. Default `https://api.postmarkapp.com`.
    ///
    /// # Errors
    ///
    /// [`ProviderError::InvalidSetting`]: it must be `https`, or `http` to this host.
    pub fn base_url(mut self, url: &str) -> Result<Self, ProviderError> {
        self.base = BaseUrl::parse(url)?;
        Ok(self)
    }

    /// The message stream: 1 to 64 letters, digits, `-` and `_`. Default: Postmark's, `outbound`.
    ///
    /// # Errors
    ///
    /// [`ProviderError::InvalidSetting`].
    pub fn message_stream(mut self, stream: &str) -> Result<Self, ProviderError> {
        if json::code(KIND, stream).is_none() {
            let expected = "1 to 64 letters, digits, `-` and `_`";
            return Err(ProviderError::InvalidSetting { setting: "message_stream", expected });
        }
        self.stream = Some(stream.to_owned());
        Ok(self)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Body<'a> {
    from: String,
    to: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    cc: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    bcc: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    reply_to: String,
    subject: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    text_body: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    html_body: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    headers: Vec<Header<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<&'a str>,
    metadata: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_stream: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attachments: Vec<File<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Header<'a> {
    name: &'a str,
    value: Cow<'a, str>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct File<'a> {
    name: &'a str,
    content: String,
    content_type: &'a str,
    #[serde(rename = "ContentID", skip_serializing_if = "Option::is_none")]
    content_id: Option<String>,
}

/// Mailboxes as one header would list them.
fn list(mailboxes: &[Mailbox]) -> String {
    mailboxes.iter().map(Mailbox::rfc5322).collect::<Vec<_>>().join(", ")
}

fn file(attachment: &Attachment) -> File<'_> {
    File {
        name: attachment.name(),
        content: attachment.base64(),
        content_type: attachment.content_type(),
        content_id: attachment.content_id().map(|id| format!("cid:{id}")),
    }
}

impl HttpApi for Postmark {
    fn name(&self) -> &str {
        KIND
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn url(&self) -> String {
        self.base.join("/email")
    }

    fn encode(&self, id: MailId, mail: &Mail) -> Result<WireRequest, EncodeError> {
        json::check_recipients(mail, &self.capabilities)?;
        let body = Body {
            from: mail.from().rfc5322(),
            to: list(mail.to()),
            cc: list(mail.cc()),
            bcc: list(mail.bcc()),
            reply_to: list(mail.reply_to()),
            subject: mail.subject(),
            text_body: mail.text(),
            html_body: mail.html(),
            headers: json::headers(mail).map(|(name, value)| Header { name, value }).collect(),
            tag: mail.tag(),
            metadata: json::metadata(id, mail),
            message_stream: self.stream.as_deref(),
            attachments: mail.attachments().iter().map(file).collect(),
        };
        json::request(self.url(), &body, &self.capabilities)
    }

    fn authorize(&self, _request: &WireRequest, _now: Timestamp) -> Vec<(String, Secret)> {
        vec![("x-postmark-server-token".to_owned(), self.token.clone())]
    }

    fn decode(&self, response: &HttpResponse, now: Timestamp) -> Answer {
        let said = json::read::<Said>(response).unwrap_or_default();
        let code = said.error_code.filter(|code| *code != 0);
        Answer {
            outcome: outcome(response, &said, now),
            http_status: Some(response.status),
            code: code.and_then(|code| json::code(KIND, &code.to_string())),
            rate: None,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Said {
    error_code: Option<i64>,
    message: Option<String>,
    #[serde(rename = "MessageID")]
    message_id: Option<String>,
}

fn outcome(response: &HttpResponse, said: &Said, now: Timestamp) -> Outcome {
    let message = said.message.as_deref().unwrap_or_default();
    match (response.status, said.error_code) {
        // Refusals also come with 200.
        (200..=299 | 422, Some(code)) if code != 0 => outcome_of_code(code, message, response, now),
        // The code is absent when acceptance is certain and delivery late.
        (200..=299, _) => match said.message_id.as_deref().and_then(json::provider_id) {
            Some(id) => Outcome::Accepted { provider_id: Some(id), recipients: inactive(message) },
            None => Outcome::Ambiguous(AmbiguousCause::BadAnswer),
        },
        _ => outcome_of_status(response, now),
    }
}

/// The codes that are no fault of the mail (Postmark's list of API error codes); all others are.
fn outcome_of_code(code: i64, message: &str, response: &HttpResponse, now: Timestamp) -> Outcome {
    match code {
        // The token; the sender's signature, missing or not confirmed; an account that is not
        // approved or may not send; a message stream that is not there.
        10 | 400 | 401 | 412 | 413 | 1235 => Outcome::Misconfigured,
        // Maintenance.
        100 => Outcome::Unavailable { retry_after: retry_after(response, now) },
        // No credits are left.
        405 => Outcome::Throttled {
            retry_after: retry_after(response, now),
            scope: ThrottleScope::Quota,
        },
        406 => Outcome::RecipientRejected { recipients: inactive(message), suppress: true },
        300 if names_recipient(message) => {
            Outcome::RecipientRejected { recipients: invalid(message), suppress: false }
        }
        _ => Outcome::RequestRejected,
    }
}

/// Whether code 300 is about a recipient: `Invalid 'To' address…`, `Error parsing 'Cc': …`.
fn names_recipient(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    let about = message.strip_prefix("invalid").or_else(|| message.strip_prefix("error parsing"));
    let field = about.map(str::trim_start).unwrap_or_default();
    ["'to'", "'cc'", "'bcc'"].iter().any(|name| field.starts_with(name))
}

/// The address that a message quotes last: `… address 'a@example.com'.`
fn invalid(message: &str) -> Vec<RecipientOutcome> {
    let quoted = message.rsplit('\'').nth(1).and_then(|text| EmailAddress::parse(text).ok());
    let invalid = |address| RecipientOutcome { address, status: RecipientStatus::Invalid };
    quoted.map(invalid).into_iter().collect()
}

/// The addresses that a message lists: `…inactive addresses: a@example.com, b@example.com.
/// Inactive recipients are…`. Empty when it lists none.
fn inactive(message: &str) -> Vec<RecipientOutcome> {
    let list = message.split_once("inactive addresses:").map(|(_, list)| list).unwrap_or_default();
    let list = list.split_once("Inactive recipients").map_or(list, |(list, _)| list);
    list.split(',')
        // LIMIT: a mail has no more recipients.
        .take(Mail::RECIPIENT_LIMIT)
        .filter_map(|text| EmailAddress::parse(text.trim().trim_end_matches('.')).ok())
        .map(|address| RecipientOutcome { address, status: RecipientStatus::Inactive })
        .collect()
}

//! SendGrid.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::answer::{AmbiguousCause, Answer, Outcome, ThrottleScope};
use super::base_url::BaseUrl;
use super::error::{EncodeError, ProviderError};
use super::secret::Secret;
use super::status::{outcome_of_status, rate_hint, retry_after, until_epoch};
use super::{Capabilities, HttpApi, HttpResponse, Idempotency, WireRequest, json};
use crate::mailer::phrase::quoted;
use crate::mailer::{Attachment, Mail, MailId, Mailbox};
use crate::store::Timestamp;

const KIND: &str = "sendgrid";

/// The fields of SendGrid's events, beside which it puts a mail's metadata.
const EVENT_FIELDS: [&str; 22] = [
    "asm_group_id",
    "attempt",
    "bounce_classification",
    "category",
    "email",
    "event",
    "ip",
    "marketing_campaign_id",
    "marketing_campaign_name",
    "pool",
    "reason",
    "response",
    "sg_content_type",
    "sg_event_id",
    "sg_machine_open",
    "sg_message_id",
    "smtp-id",
    "status",
    "timestamp",
    "tls",
    "type",
    "url",
];

/// SendGrid's API, `POST /v3/mail/send`.
///
/// It has no idempotency keys, and its events are told by the mail's number in `custom_args`, not
/// by the id that it answers with.
#[derive(Debug, Clone)]
pub struct SendGrid {
    key: Secret,
    base: BaseUrl,
    sandbox: bool,
    capabilities: Capabilities,
}

impl SendGrid {
    /// The API with this key.
    ///
    /// # Errors
    ///
    /// [`ProviderError::InvalidSetting`], when the key cannot stand in a header.
    pub fn new(key: impl Into<Secret>) -> Result<Self, ProviderError> {
        Ok(Self {
            key: key.into().checked("sendgrid.key")?,
            base: BaseUrl::known("https://api.sendgrid.com"),
            sandbox: false,
            // LIMIT: 30 MB for a mail with its files, 1000 recipients.
            capabilities: Capabilities {
                idempotency: Idempotency::None,
                max_bytes: 30_000_000,
                max_recipients: 1000,
            },
        })
    }

    /// Another address of the API, such as that of the EU. Default `https://api.sendgrid.com`.
    ///
    /// # Errors
    ///
    /// [`ProviderError::InvalidSetting`]: it must be `https`, or `http` to this host.
    pub fn base_url(mut self, url: &str) -> Result<Self, ProviderError> {
        self.base = BaseUrl::parse(url)?;
        Ok(self)
    }

    /// Whether mail is checked and not sent. Default no.
    #[must_use]
    pub const fn sandbox(mut self, sandbox: bool) -> Self {
        self.sandbox = sandbox;
        self
    }
}

#[derive(Serialize)]
struct Body<'a> {
    personalizations: [Personalization<'a>; 1],
    from: Address<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reply_to_list: Vec<Address<'a>>,
    subject: &'a str,
    content: Vec<Content<'a>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<&'a str, Cow<'a, str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    categories: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attachments: Vec<File<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mail_settings: Option<Settings>,
}

#[derive(Serialize)]
struct Personalization<'a> {
    to: Vec<Address<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cc: Vec<Address<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    bcc: Vec<Address<'a>>,
    custom_args: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct Address<'a> {
    email: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

#[derive(Serialize)]
struct Content<'a> {
    r#type: &'static str,
    value: &'a str,
}

#[derive(Serialize)]
struct File<'a> {
    content: String,
    r#type: &'a str,
    filename: &'a str,
    disposition: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_id: Option<&'a str>,
}

#[derive(Serialize)]
struct Settings {
    sandbox_mode: Switch,
}

#[derive(Serialize)]
struct Switch {
    enable: bool,
}

fn address(mailbox: &Mailbox) -> Address<'_> {
    let name = mailbox.name.as_ref().map(|name| name.as_str().to_owned());
    Address { email: mailbox.address.as_str(), name }
}

/// A recipient. SendGrid writes the names of these into headers without the quotes that a comma
/// or semicolon needs, so they come with the name.
fn recipient(mailbox: &Mailbox) -> Address<'_> {
    let mut address = address(mailbox);
    address.name = address.name.map(|name| {
        let breaks = name.contains([',', ';']);
        if breaks { quoted(&name) } else { name }
    });
    address
}

/// The parts in the order that is demanded; an empty one is refused, and a mail has none.
fn contents(mail: &Mail) -> Vec<Content<'_>> {
    let text = mail.text().map(|value| Content { r#type: "text/plain", value });
    let html = mail.html().map(|value| Content { r#type: "text/html", value });
    text.into_iter().chain(html).collect()
}

fn file(attachment: &Attachment) -> File<'_> {
    let content_id = attachment.content_id();
    File {
        content: attachment.base64(),
        r#type: attachment.content_type(),
        filename: attachment.name(),
        disposition: if content_id.is_some() { "inline" } else { "attachment" },
        content_id,
    }
}

impl HttpApi for SendGrid {
    fn name(&self) -> &str {
        KIND
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn url(&self) -> String {
        self.base.join("/v3/mail/send")
    }

    fn encode(&self, id: MailId, mail: &Mail) -> Result<WireRequest, EncodeError> {
        json::check_recipients(mail, &self.capabilities)?;
        // SendGrid gives a `;` in a type a meaning of its own and refuses it.
        if mail.attachments().iter().any(|file| file.content_type().contains(';')) {
            return Err(EncodeError::Unsupported { what: "a content type with parameters" });
        }
        if mail.metadata().keys().any(|key| EVENT_FIELDS.contains(&key.as_str())) {
            return Err(EncodeError::Unsupported {
                what: "metadata named as a field of its events",
            });
        }
        let body = Body {
            personalizations: [Personalization {
                to: mail.to().iter().map(recipient).collect(),
                cc: mail.cc().iter().map(recipient).collect(),
                bcc: mail.bcc().iter().map(recipient).collect(),
                custom_args: json::metadata(id, mail),
            }],
            from: address(mail.from()),
            reply_to_list: mail.reply_to().iter().map(address).collect(),
            subject: mail.subject(),
            content: contents(mail),
            headers: json::headers(mail).collect(),
            categories: mail.tag().into_iter().collect(),
            attachments: mail.attachments().iter().map(file).collect(),
            mail_settings: self
                .sandbox
                .then_some(Settings { sandbox_mode: Switch { enable: true } }),
        };
        json::request(self.url(), &body, &self.capabilities)
    }

    fn authorize(&self, _request: &WireRequest, _now: Timestamp) -> Vec<(String, Secret)> {
        let bearer = format!("Bearer {}", self.key.expose());
        vec![("authorization".to_owned(), bearer.into())]
    }

    fn decode(&self, response: &HttpResponse, now: Timestamp) -> Answer {
        let reset = until_epoch(response, "x-ratelimit-reset", now);
        let said = json::read::<Said>(response).unwrap_or_default();
        Answer {
            outcome: outcome(response, &said, reset, now),
            http_status: Some(response.status),
            // It has no codes of its own.
            code: None,
            rate: rate_hint(response, "x-ratelimit-limit", "x-ratelimit-remaining", reset),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Said {
    errors: Vec<Problem>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Problem {
    message: Option<String>,
    field: Option<String>,
}

impl Said {
    fn says(&self, words: &str) -> bool {
        let says = |message: &str| message.to_ascii_lowercase().contains(words);
        self.errors.iter().any(|problem| problem.message.as_deref().is_some_and(says))
    }

    /// Whether all that is wrong is a recipient's address: `personalizations.0.to.0.email`.
    fn is_about_recipients(&self) -> bool {
        let about = |problem: &Problem| {
            let field = problem.field.as_deref().unwrap_or_default();
            let recipient = [".to", ".cc", ".bcc"].iter().any(|part| field.contains(part));
            let address = field.ends_with("email");
            field.starts_with("personalizations.") && recipient && address
        };
        !self.errors.is_empty() && self.errors.iter().all(about)
    }
}

fn outcome(
    response: &HttpResponse,
    said: &Said,
    reset: Option<Duration>,
    now: Timestamp,
) -> Outcome {
    match response.status {
        200 | 202 => accepted(response),
        201 | 203..=299 => Outcome::Ambiguous(AmbiguousCause::BadAnswer),
        // The key is good, the credits are used up.
        400..=403 if said.says("maximum credits exceeded") => {
            Outcome::Throttled { retry_after: None, scope: ThrottleScope::Quota }
        }
        403 if said.says("temporarily blocked") => {
            Outcome::Unavailable { retry_after: retry_after(response, now) }
        }
        400 if said.is_about_recipients() => {
            Outcome::RecipientRejected { recipients: Vec::new(), suppress: false }
        }
        429 => Outcome::Throttled {
            retry_after: reset.or_else(|| retry_after(response, now)),
            scope: ThrottleScope::Rate,
        },
        _ => outcome_of_status(response, now),
    }
}

/// An acceptance has an id or no body (200 in the sandbox, 202 else). A page of somebody on the
/// way has a body and no id.
fn accepted(response: &HttpResponse) -> Outcome {
    let provider_id = response.header("x-message-id").and_then(json::provider_id);
    if provider_id.is_none() && !response.body.is_empty() {
        return Outcome::Ambiguous(AmbiguousCause::BadAnswer);
    }
    Outcome::Accepted { provider_id, recipients: Vec::new() }
}

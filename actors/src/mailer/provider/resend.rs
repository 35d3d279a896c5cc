//! Resend.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::answer::{AmbiguousCause, Answer, Outcome, ThrottleScope};
use super::base_url::BaseUrl;
use super::error::{EncodeError, ProviderError};
use super::secret::Secret;
use super::status::{outcome_of_status, rate_hint, retry_after, seconds};
use super::{Capabilities, HttpApi, HttpResponse, Idempotency, MAIL_ID, WireRequest, json};
use crate::mailer::phrase::{encoded_words, phrase};
use crate::mailer::{Attachment, Mail, MailId, Mailbox};
use crate::store::Timestamp;

const KIND: &str = "resend";

/// Resend's API, `POST /emails`.
///
/// The mail's number is the idempotency key, which is remembered for 24 hours. Metadata goes into
/// the header `X-Metadata`, where recipients can see it: tags cannot hold it.
#[derive(Debug, Clone)]
pub struct Resend {
    key: Secret,
    base: BaseUrl,
    capabilities: Capabilities,
}

impl Resend {
    /// The API with this key.
    ///
    /// # Errors
    ///
    /// [`ProviderError::InvalidSetting`], when the key cannot stand in a header.
    pub fn new(key: impl Into<Secret>) -> Result<Self, ProviderError> {
        Ok(Self {
            key: key.into().checked("resend.key")?,
            base: BaseUrl::known("https://api.resend.com"),
            // LIMIT: 40 MB for a mail with its files in base64, 50 recipients.
            capabilities: Capabilities {
                idempotency: Idempotency::Replay { ttl: Duration::from_secs(24 * 60 * 60) },
                max_bytes: 40_000_000,
                max_recipients: 50,
            },
        })
    }

    /// Another address of the API. Default `https://api.resend.com`.
    ///
    /// # Errors
    ///
    /// [`ProviderError::InvalidSetting`]: it must be `https`, or `http` to this host.
    pub fn base_url(mut self, url: &str) -> Result<Self, ProviderError> {
        self.base = BaseUrl::parse(url)?;
        Ok(self)
    }
}

#[derive(Serialize)]
struct Body<'a> {
    from: String,
    to: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cc: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    bcc: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reply_to: Vec<String>,
    subject: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    html: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<&'a str, Cow<'a, str>>,
    tags: Vec<Tag<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attachments: Vec<File<'a>>,
}

#[derive(Serialize)]
struct Tag<'a> {
    name: &'static str,
    value: Cow<'a, str>,
}

#[derive(Serialize)]
struct File<'a> {
    content: String,
    filename: &'a str,
    content_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_id: Option<&'a str>,
}

/// A mailbox but the sender's. Resend refuses quoted names, and takes encoded words.
fn mailbox(mailbox: &Mailbox) -> String {
    let address = mailbox.address.as_str();
    match mailbox.name.as_deref() {
        None => address.to_owned(),
        Some(name) if phrase(name).starts_with('"') => {
            format!("{} <{address}>", encoded_words(name))
        }
        Some(name) => format!("{} <{address}>", phrase(name)),
    }
}

/// The sender. Here Resend refuses encoded words as well as quotes, and takes the name as it is:
/// so one with a character that could be read as another address cannot be sent.
fn sender(mailbox: &Mailbox) -> Result<String, EncodeError> {
    let address = mailbox.address.as_str();
    match mailbox.name.as_deref() {
        None => Ok(address.to_owned()),
        Some(name)
            if name.contains(['"', '\\', '<', '>', '(', ')', '[', ']', '@', ',', ';', ':']) =>
        {
            Err(EncodeError::Unsupported { what: "punctuation in the sender's name" })
        }
        Some(name) => Ok(format!("{name} <{address}>")),
    }
}

fn file(attachment: &Attachment) -> Result<File<'_>, EncodeError> {
    if !ending_fits(attachment) {
        return Err(EncodeError::Unsupported { what: "a file whose name does not fit its type" });
    }
    Ok(File {
        content: attachment.base64(),
        filename: attachment.name(),
        content_type: attachment.content_type(),
        content_id: attachment.content_id(),
    })
}

/// What endings go with the types that are mailed most. Resend answers that it accepted a mail
/// whose file has an ending that does not fit its type, and drops it.
const ENDINGS: [(&str, &[&str]); 14] = [
    ("application/gzip", &["gz", "tgz"]),
    ("application/json", &["json"]),
    ("application/pdf", &["pdf"]),
    ("application/xml", &["xml"]),
    ("application/zip", &["zip"]),
    ("image/gif", &["gif"]),
    ("image/jpeg", &["jpg", "jpeg"]),
    ("image/png", &["png"]),
    ("image/svg+xml", &["svg"]),
    ("image/webp", &["webp"]),
    ("text/calendar", &["ics"]),
    ("text/csv", &["csv"]),
    ("text/html", &["html", "htm"]),
    ("text/plain", &["txt", "text", "log", "md"]),
];

fn ending_fits(attachment: &Attachment) -> bool {
    let Some((_, ending)) = attachment.name().rsplit_once('.') else { return false };
    let essence = attachment.content_type().split(';').next().unwrap_or_default().trim();
    let is = |one: &str, other: &str| one.eq_ignore_ascii_case(other);
    let known = ENDINGS.iter().find(|(content_type, _)| is(content_type, essence));
    // An ending that belongs to one of these types is no ending of another.
    let taken = ENDINGS.iter().any(|(_, endings)| endings.iter().any(|known| is(known, ending)));
    match known {
        Some((_, endings)) => endings.iter().any(|known| is(known, ending)),
        None => !ending.is_empty() && !taken,
    }
}

impl HttpApi for Resend {
    fn name(&self) -> &str {
        KIND
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn url(&self) -> String {
        self.base.join("/emails")
    }

    fn encode(&self, id: MailId, mail: &Mail) -> Result<WireRequest, EncodeError> {
        json::check_recipients(mail, &self.capabilities)?;
        let all = |mailboxes: &[Mailbox]| mailboxes.iter().map(mailbox).collect::<Vec<_>>();
        let body = Body {
            from: sender(mail.from())?,
            to: all(mail.to()),
            cc: all(mail.cc()),
            bcc: all(mail.bcc()),
            reply_to: all(mail.reply_to()),
            subject: mail.subject(),
            text: mail.text(),
            html: mail.html(),
            headers: headers(mail)?,
            tags: tags(id, mail),
            attachments: mail.attachments().iter().map(file).collect::<Result<_, _>>()?,
        };
        let request = json::request(self.url(), &body, &self.capabilities)?;
        let key = id.to_string();
        let mut request = WireRequest { idempotency_key: Some(key.clone()), ..request };
        request.headers.push(("idempotency-key".to_owned(), key));
        Ok(request)
    }

    fn authorize(&self, _request: &WireRequest, _now: Timestamp) -> Vec<(String, Secret)> {
        let bearer = format!("Bearer {}", self.key.expose());
        vec![("authorization".to_owned(), bearer.into())]
    }

    fn decode(&self, response: &HttpResponse, now: Timestamp) -> Answer {
        let said = json::read::<Said>(response).unwrap_or_default();
        let reset = seconds(response, "ratelimit-reset");
        Answer {
            outcome: outcome(response, &said, reset, now),
            http_status: Some(response.status),
            code: said.name.as_deref().and_then(|name| json::code(KIND, name)),
            rate: rate_hint(response, "ratelimit-limit", "ratelimit-remaining", reset),
        }
    }
}

/// Its own headers, and the metadata as one more.
fn headers(mail: &Mail) -> Result<BTreeMap<&str, Cow<'_, str>>, EncodeError> {
    json::check_metadata_header(mail)?;
    let own = json::headers(mail);
    let metadata = json::metadata_header(mail).map(|value| (json::METADATA_HEADER, value.into()));
    Ok(own.chain(metadata).collect())
}

fn tags(id: MailId, mail: &Mail) -> Vec<Tag<'_>> {
    let number = Tag { name: MAIL_ID, value: id.to_string().into() };
    let tag = mail.tag().map(|tag| Tag { name: "tag", value: tag.into() });
    std::iter::once(number).chain(tag).collect()
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Said {
    id: Option<String>,
    name: Option<String>,
    message: Option<String>,
}

fn outcome(
    response: &HttpResponse,
    said: &Said,
    reset: Option<Duration>,
    now: Timestamp,
) -> Outcome {
    if response.is_success() {
        return match said.id.as_deref().and_then(json::provider_id) {
            Some(id) => Outcome::Accepted { provider_id: Some(id), recipients: Vec::new() },
            None => Outcome::Ambiguous(AmbiguousCause::BadAnswer),
        };
    }
    let throttled = |scope, retry_after| Outcome::Throttled { retry_after, scope };
    match (response.status, said.name.as_deref().unwrap_or_default()) {
        (409, "concurrent_idempotent_requests") => Outcome::KeyBusy,
        // The headers are about requests in a second; a quota lasts for hours.
        (429, "daily_quota_exceeded" | "monthly_quota_exceeded") => {
            throttled(ThrottleScope::Quota, None)
        }
        (429, _) => {
            let wait = retry_after(response, now).or(reset);
            throttled(ThrottleScope::Rate, wait)
        }
        (400 | 422, _) if is_about_recipients(said) => {
            Outcome::RecipientRejected { recipients: Vec::new(), suppress: false }
        }
        _ => outcome_of_status(response, now),
    }
}

/// Whether a field of recipients is what is wrong: ``Invalid `to` field. …``
fn is_about_recipients(said: &Said) -> bool {
    let message = said.message.as_deref().unwrap_or_default();
    let field = message.strip_prefix("Invalid `").and_then(|rest| rest.split('`').next());
    matches!(field, Some("to" | "cc" | "bcc"))
}

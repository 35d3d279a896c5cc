//! Mailgun.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;

use super::answer::{AmbiguousCause, Answer, Outcome};
use super::base_url::BaseUrl;
use super::error::{EncodeError, ProviderError};
use super::multipart::Form;
use super::secret::Secret;
use super::status::{outcome_of_status, rate_hint, retry_after};
use super::{Capabilities, HttpApi, HttpResponse, Idempotency, WireRequest, json};
use crate::mailer::{EmailAddress, Mail, MailId, Mailbox};
use crate::store::Timestamp;

const KIND: &str = "mailgun";

/// LIMIT: names and values of all options, headers and variables together, in bytes.
const OPTIONS_LIMIT: usize = 16 * 1024;

/// Mailgun's API for one domain, `POST /v3/<domain>/messages`.
///
/// It has no idempotency keys. A file that the HTML shows goes under its content id, not its name.
#[derive(Debug, Clone)]
pub struct Mailgun {
    key: Secret,
    domain: String,
    base: BaseUrl,
    capabilities: Capabilities,
}

impl Mailgun {
    /// The API with this key, for mail from this domain.
    ///
    /// # Errors
    ///
    /// [`ProviderError::InvalidSetting`], when the key cannot stand in a header or the domain is
    /// no domain name. Mailgun answers 200 to one with a slash, and sends nothing.
    pub fn new(domain: &str, key: impl Into<Secret>) -> Result<Self, ProviderError> {
        let invalid =
            ProviderError::InvalidSetting { setting: "mailgun.domain", expected: "a domain name" };
        let sender = EmailAddress::parse(&format!("mail@{domain}")).map_err(|_invalid| invalid)?;
        Ok(Self {
            key: key.into().checked("mailgun.key")?,
            domain: sender.domain().to_owned(),
            base: BaseUrl::known("https://api.mailgun.net"),
            // LIMIT: 25 MB for a mail with its files, 1000 recipients.
            capabilities: Capabilities {
                idempotency: Idempotency::None,
                max_bytes: 25_000_000,
                max_recipients: 1000,
            },
        })
    }

    /// Another address of the API: `https://api.eu.mailgun.net` for domains in the EU. Default
    /// `https://api.mailgun.net`.
    ///
    /// # Errors
    ///
    /// [`ProviderError::InvalidSetting`]: it must be `https`, or `http` to this host.
    pub fn base_url(mut self, url: &str) -> Result<Self, ProviderError> {
        self.base = BaseUrl::parse(url)?;
        Ok(self)
    }
}

/// Everything but the files.
fn fields(form: &mut Form, id: MailId, mail: &Mail) {
    form.field("from", &mail.from().rfc5322());
    for (name, mailboxes) in [("to", mail.to()), ("cc", mail.cc()), ("bcc", mail.bcc())] {
        for mailbox in mailboxes {
            form.field(name, &mailbox.rfc5322());
        }
    }
    form.field("subject", mail.subject());
    for (name, part) in [("text", mail.text()), ("html", mail.html())] {
        if let Some(part) = part {
            form.field(name, part);
        }
    }
    if !mail.reply_to().is_empty() {
        let list: Vec<_> = mail.reply_to().iter().map(Mailbox::rfc5322).collect();
        form.counted_field("h:Reply-To", &list.join(", "));
    }
    for (name, value) in json::headers(mail) {
        form.counted_field(&format!("h:{name}"), &value);
    }
    for (key, value) in json::metadata(id, mail) {
        form.counted_field(&format!("v:{key}"), &value);
    }
    if let Some(tag) = mail.tag() {
        form.counted_field("o:tag", tag);
    }
}

impl HttpApi for Mailgun {
    fn name(&self) -> &str {
        KIND
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn url(&self) -> String {
        self.base.join(&format!("/v3/{}/messages", self.domain))
    }

    fn encode(&self, id: MailId, mail: &Mail) -> Result<WireRequest, EncodeError> {
        json::check_recipients(mail, &self.capabilities)?;
        let mut form = Form::new(&[&id.as_bytes()[..], &mail.content_hash()].concat());
        fields(&mut form, id, mail);
        if form.counted() > OPTIONS_LIMIT {
            return Err(EncodeError::TooLarge { bytes: form.counted(), limit: OPTIONS_LIMIT });
        }
        for file in mail.attachments() {
            let (field, name) = match file.content_id() {
                Some(content_id) => ("inline", content_id),
                None => ("attachment", file.name()),
            };
            form.file(field, name, file.content_type(), file.content());
        }
        let (content_type, body) = form.finish();
        let url = self.url();
        let headers = vec![("content-type".to_owned(), content_type)];
        json::within(WireRequest { url, headers, body, idempotency_key: None }, &self.capabilities)
    }

    fn authorize(&self, _request: &WireRequest, _now: Timestamp) -> Vec<(String, Secret)> {
        let basic = BASE64.encode(format!("api:{}", self.key.expose()));
        vec![("authorization".to_owned(), format!("Basic {basic}").into())]
    }

    fn decode(&self, response: &HttpResponse, now: Timestamp) -> Answer {
        Answer {
            outcome: outcome(response, now),
            http_status: Some(response.status),
            // It has no codes of its own.
            code: None,
            rate: rate_hint(response, "x-ratelimit-limit", "x-ratelimit-remaining", None),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Said {
    id: Option<String>,
    message: Option<String>,
}

fn outcome(response: &HttpResponse, now: Timestamp) -> Outcome {
    let said = json::read::<Said>(response).unwrap_or_default();
    let message = said.message.as_deref().unwrap_or_default();
    match response.status {
        200..=299 => accepted(response, &said),
        400 if is_about_recipients(message) => {
            Outcome::RecipientRejected { recipients: Vec::new(), suppress: false }
        }
        // A domain that was made or changed is not known everywhere at once.
        404 if message.to_ascii_lowercase().contains("domain not found") => {
            Outcome::Unavailable { retry_after: retry_after(response, now) }
        }
        _ => outcome_of_status(response, now),
    }
}

fn accepted(response: &HttpResponse, said: &Said) -> Outcome {
    let id = said.id.as_deref().map(|id| id.trim_start_matches('<').trim_end_matches('>'));
    if let Some(id) = id.and_then(json::provider_id) {
        return Outcome::Accepted { provider_id: Some(id), recipients: Vec::new() };
    }
    // What the root of the API says to whatever reaches it: the path is wrong.
    let greeting = b"Mailgun Magnificent API";
    if response.body.windows(greeting.len()).any(|window| window == greeting) {
        return Outcome::Misconfigured;
    }
    Outcome::Ambiguous(AmbiguousCause::BadAnswer)
}

/// Whether a field of recipients is what is wrong: `'to' parameter is not a valid address. …`
fn is_about_recipients(message: &str) -> bool {
    let field = message.strip_prefix('\'').and_then(|rest| rest.split('\'').next());
    matches!(field, Some("to" | "cc" | "bcc")) && message.contains("not a valid address")
}

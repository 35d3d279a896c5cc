//! Who sends mail: the seam, and the providers that are known.
//!
//! | provider | type | a second send under one key |
//! |---|---|---|
//! | Resend | [`Resend`] | gives the first answer again, for 24 hours |
//! | Postmark | [`Postmark`] | sends again |
//! | SendGrid | [`SendGrid`] | sends again |
//! | Mailgun | [`Mailgun`] | sends again |
//! | Amazon SES | [`Ses`] | sends again |
//! | any, over SMTP | `Smtp`, with the feature `smtp` | sends again |
//! | memory | [`DevMailbox`] | keeps both, so that a test can see it |
//!
//! An HTTP API is pure code ([`HttpApi`]): a mail in, a request out; an answer in, what it means
//! out. [`HttpProvider`] adds the wire. What an answer means is never guessed: where it is open
//! whether the mail was accepted, the outcome is [`Outcome::Ambiguous`].

mod answer;
mod api;
mod base_url;
mod dev_mailbox;
mod error;
mod json;
mod mailgun;
mod multipart;
mod postmark;
mod resend;
mod secret;
mod sendgrid;
mod ses;
#[cfg(feature = "smtp")]
mod smtp;
mod status;

use std::fmt;
use std::time::Duration;

use futures_util::future::BoxFuture;

pub use answer::{
    AmbiguousCause, Answer, NotSentCause, Outcome, RateHint, RecipientOutcome, RecipientStatus,
    ThrottleScope, TransportError,
};
pub use api::{HttpApi, HttpProvider, HttpResponse};
pub use dev_mailbox::{DevMail, DevMailbox};
pub use error::{EncodeError, ProviderError};
pub use mailgun::Mailgun;
pub use postmark::Postmark;
pub use resend::Resend;
pub use secret::Secret;
pub use sendgrid::SendGrid;
pub use ses::{Ses, SesCredentials, SesKeys};
#[cfg(feature = "smtp")]
pub use smtp::{Smtp, SmtpSecurity};

pub(super) use api::check_name;
pub(super) use json::provider_id;

use super::mail::Mail;
use super::mail_id::MailId;

/// The key under which a mail's number goes to the provider, and comes back with its events.
pub(crate) const MAIL_ID: &str = "mail_id";

/// Who sends mail. Object safe; to be called from any thread.
pub trait MailProvider: fmt::Debug + Send + Sync + 'static {
    /// Unique within a mailer: `postmark`, or what the user called it.
    fn name(&self) -> &str;

    /// What it can do.
    fn capabilities(&self) -> &Capabilities;

    /// Writes the request. Pure: the same mail gives the same request. No secret is in it, for it
    /// is stored before it is sent, so that every attempt sends the same bytes.
    ///
    /// # Errors
    ///
    /// [`EncodeError`], when this provider cannot send this mail; another may.
    fn encode(&self, id: MailId, mail: &Mail) -> Result<WireRequest, EncodeError>;

    /// Sends those bytes once, with no hidden retries and no redirects. Never panics, whatever
    /// the answer.
    ///
    /// # Errors
    ///
    /// [`TransportError`] says whether anything was sent.
    ///
    /// # Cancel safety
    ///
    /// Whoever drops the future does not know whether the mail was sent:
    /// [`AmbiguousCause::Cancelled`].
    fn send<'a>(
        &'a self,
        request: &'a WireRequest,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Answer, TransportError>>;
}

/// What a provider can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// What becomes of a second request with the same key.
    pub idempotency: Idempotency,
    /// The largest body of a request in bytes.
    pub max_bytes: usize,
    /// The most recipients of a mail, in all fields together.
    pub max_recipients: usize,
}

/// What becomes of a second request with the same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Idempotency {
    /// It is answered as the first was, and nothing is sent.
    Replay {
        /// How long the key is remembered.
        ttl: Duration,
    },
    /// It is refused ([`Outcome::DuplicateKey`]), and nothing is sent.
    RejectDuplicate {
        /// How long the key is remembered.
        ttl: Duration,
    },
    /// There are no keys: it is sent again.
    None,
}

/// What goes over the wire as a `POST`, frozen before its first byte leaves.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct WireRequest {
    /// Where to.
    pub url: String,
    /// Names in lower case, with `content-type` and the idempotency key; without secrets.
    pub headers: Vec<(String, String)>,
    /// The body.
    #[serde(with = "base64_body")]
    pub body: Vec<u8>,
    /// What the provider tells a repeated request by, where it can.
    pub idempotency_key: Option<String>,
}

/// Stored as text: an array of numbers would be three times as long.
mod base64_body {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(body: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(body))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        STANDARD.decode(String::deserialize(from)?).map_err(de::Error::custom)
    }
}

impl WireRequest {
    /// The value of the header of this name, which is in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Shows sizes only.
impl fmt::Debug for WireRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WireRequest")
            .field("body_bytes", &self.body.len())
            .field("has_idempotency_key", &self.idempotency_key.is_some())
            .finish_non_exhaustive()
    }
}

//! Who sends: how it is verified, where its events have their ids, and what it may send.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::envelope::Envelope;
use super::error::InboxError;
use super::raw_json::JsonLimits;
use super::verify::{
    Basic, Certificates, GitHub, Mailgun, SendGrid, Sns, StandardWebhooks, Stripe, Unverified,
    Verifier, Window,
};

/// LIMIT: headers that a source may have kept besides.
const KEPT_MAX: usize = 16;
const BYTES: std::ops::RangeInclusive<usize> = 1..=16 * 1024 * 1024;
const DEPTH: std::ops::RangeInclusive<usize> = 1..=127;
const TOKENS: std::ops::RangeInclusive<usize> = 1..=10_000_000;
const WINDOW_MAX: Duration = Duration::from_secs(30 * 86_400);

/// What is kept of every delivery.
const KEPT: [&str; 2] = ["content-type", "user-agent"];
/// What is never kept.
const SECRET: [&str; 5] =
    ["authorization", "cookie", "set-cookie", "proxy-authorization", "x-api-key"];

/// Who sends events: how its deliveries are verified, where their ids are, and what they may be.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use steadfast_actors::inbox::{InboxError, Source};
///
/// # fn example() -> Result<(), InboxError> {
/// // While a secret is changed, both are active.
/// let payments = Source::stripe("payments", ["whsec_new", "whsec_old"])?
///     .body_max(64 * 1024)
///     .window(Duration::from_secs(120), Duration::from_secs(30));
/// # Ok(())
/// # }
/// # example().unwrap();
/// ```
#[must_use = "a source does nothing until an inbox has it"]
pub struct Source {
    pub(super) name: Arc<str>,
    pub(super) verifier: Arc<dyn Verifier>,
    pub(super) envelope: Envelope,
    pub(super) limits: JsonLimits,
    pub(super) window: Window,
    pub(super) is_serial: bool,
    kept: Vec<Box<str>>,
}

impl Source {
    /// A source with a verifier and an envelope of your own. `name` is part of the route and of
    /// the rows: 1 to 64 of `a` to `z`, `0` to `9`, `-` and `_`.
    pub fn new(name: &str, verifier: impl Verifier, envelope: Envelope) -> Self {
        Self {
            name: name.into(),
            verifier: Arc::new(verifier),
            envelope,
            limits: JsonLimits::default(),
            window: Window::default(),
            is_serial: false,
            kept: Vec::new(),
        }
    }

    /// [Standard Webhooks](StandardWebhooks), with `whsec_…` and `whpk_…` keys.
    ///
    /// # Errors
    ///
    /// [`InboxError::InvalidSetting`], as each verifier says.
    pub fn standard_webhooks<K: AsRef<str>>(
        name: &str,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Self, InboxError> {
        let envelope = Envelope::standard_webhooks("webhook");
        Ok(Self::new(name, StandardWebhooks::new(keys)?, envelope))
    }

    /// The same with `svix-…` headers: Resend, Clerk and others that send through Svix.
    ///
    /// # Errors
    ///
    /// [`InboxError::InvalidSetting`], as each verifier says.
    pub fn svix<K: AsRef<str>>(
        name: &str,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Self, InboxError> {
        let envelope = Envelope::standard_webhooks("svix");
        Ok(Self::new(name, StandardWebhooks::new(keys)?.svix(), envelope))
    }

    /// [Stripe].
    ///
    /// # Errors
    ///
    /// [`InboxError::InvalidSetting`], as each verifier says.
    pub fn stripe<K: AsRef<str>>(
        name: &str,
        secrets: impl IntoIterator<Item = K>,
    ) -> Result<Self, InboxError> {
        Ok(Self::new(name, Stripe::new(secrets)?, Envelope::stripe()))
    }

    /// [GitHub], with its webhooks set to send JSON.
    ///
    /// # Errors
    ///
    /// [`InboxError::InvalidSetting`], as each verifier says.
    pub fn github<K: AsRef<[u8]>>(
        name: &str,
        secrets: impl IntoIterator<Item = K>,
    ) -> Result<Self, InboxError> {
        Ok(Self::new(name, GitHub::new(secrets)?, Envelope::github()))
    }

    /// Postmark, with the users and passwords of [HTTP basic](Basic), which is all that it offers.
    ///
    /// # Errors
    ///
    /// [`InboxError::InvalidSetting`], as each verifier says.
    pub fn postmark<U: AsRef<str>, P: AsRef<str>>(
        name: &str,
        credentials: impl IntoIterator<Item = (U, P)>,
    ) -> Result<Self, InboxError> {
        Self::basic(name, credentials, Envelope::postmark())
    }

    /// [`SendGrid`]. Its bodies are lists, of up to 1 MiB by default.
    ///
    /// # Errors
    ///
    /// [`InboxError::InvalidSetting`], as each verifier says.
    pub fn sendgrid<K: AsRef<str>>(
        name: &str,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Self, InboxError> {
        Ok(Self::new(name, SendGrid::new(keys)?, Envelope::sendgrid()).body_max(1024 * 1024))
    }

    /// [Mailgun]. Its window is 12 hours into the past by default, because it goes on trying for 8
    /// hours with the signature of the first time.
    ///
    /// # Errors
    ///
    /// [`InboxError::InvalidSetting`], as each verifier says.
    pub fn mailgun<K: AsRef<[u8]>>(
        name: &str,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Self, InboxError> {
        let source = Self::new(name, Mailgun::new(keys)?, Envelope::mailgun());
        Ok(source.window(Duration::from_secs(12 * 3_600), Duration::from_secs(300)))
    }

    /// [Amazon SNS](Sns). Its window is 75 minutes into the past by default, because SNS goes on
    /// trying for an hour with the signature of the first time.
    ///
    /// # Errors
    ///
    /// [`InboxError::InvalidSetting`], as each verifier says.
    pub fn sns<T: AsRef<str>>(
        name: &str,
        topics: impl IntoIterator<Item = T>,
        roots: &[u8],
        certificates: Arc<dyn Certificates>,
    ) -> Result<Self, InboxError> {
        let source = Self::new(name, Sns::new(topics, roots, certificates)?, Envelope::sns());
        Ok(source.window(Duration::from_secs(75 * 60), Duration::from_secs(300)))
    }

    /// [HTTP basic](Basic), with users and passwords.
    ///
    /// # Errors
    ///
    /// [`InboxError::InvalidSetting`], as each verifier says.
    pub fn basic<U: AsRef<str>, P: AsRef<str>>(
        name: &str,
        credentials: impl IntoIterator<Item = (U, P)>,
        envelope: Envelope,
    ) -> Result<Self, InboxError> {
        Ok(Self::new(name, Basic::new(credentials)?, envelope))
    }

    /// A source that is believed as it is: only for a route that something else protects.
    pub fn unverified(name: &str, envelope: Envelope) -> Self {
        Self::new(name, Unverified::new(), envelope)
    }

    /// Where its events have their id and type, instead of where its sender usually puts them.
    pub fn envelope(mut self, envelope: Envelope) -> Self {
        self.envelope = envelope;
        self
    }

    /// The largest body, in bytes. Default 256 KiB; 1 byte to 16 MiB. Too small: a delivery is
    /// refused that its sender will try again for days. Too large: each request under way may
    /// take so much memory before it is verified.
    pub const fn body_max(mut self, bytes: usize) -> Self {
        self.limits.bytes = bytes;
        self
    }

    /// The deepest nesting of containers. Default 64; 1 to 127. What is deeper is kept and not
    /// handled.
    pub const fn depth_max(mut self, depth: usize) -> Self {
        self.limits.depth = depth;
        self
    }

    /// The most values and names. Default 100,000; 1 to 10 million. What has more is kept and not
    /// handled.
    pub const fn tokens_max(mut self, tokens: usize) -> Self {
        self.limits.tokens = tokens;
        self
    }

    /// How long ago a delivery may have been signed, and how far ahead its sender's clock may be.
    /// Default 5 minutes each, where its sender signs a time; up to 30 days. Too short: what is
    /// late, or sent again with its old signature, is lost. Too long: what somebody has recorded
    /// can be played for longer — once, as long as its event is [kept](super::InboxBuilder::keep_for).
    pub const fn window(mut self, past: Duration, future: Duration) -> Self {
        self.window = Window { past, future };
        self
    }

    /// Keeps this header with each event; up to 16 of them. Those with credentials, such as
    /// `authorization` and `cookie`, cannot be kept.
    pub fn keep_header(mut self, name: &str) -> Self {
        self.kept.push(name.to_ascii_lowercase().into());
        self
    }

    /// Handles the events of one subject one at a time, in the order they were received. Needs an
    /// envelope with a [subject](Envelope::subject); an event without one waits for nobody.
    ///
    /// An event that fails holds up those behind it until it succeeds or is dead. Senders do not
    /// promise to send in order: let a handler look up how things are now.
    pub const fn serial_by_subject(mut self) -> Self {
        self.is_serial = true;
        self
    }

    pub(crate) fn name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }

    pub(super) fn check(&self) -> Result<(), InboxError> {
        let invalid = |setting, expected| Err(InboxError::InvalidSetting { setting, expected });
        let is_plain = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_'
        };
        if !(1..=64).contains(&self.name.len()) || !self.name.bytes().all(is_plain) {
            return invalid("the name of a source", "1 to 64 of a to z, 0 to 9, - and _");
        }
        if !self.envelope.is_valid() {
            return invalid("envelope", "headers in lower case and pointers of up to 8 parts");
        }
        if !BYTES.contains(&self.limits.bytes) {
            return invalid("body_max", "1 byte to 16 MiB");
        }
        if !DEPTH.contains(&self.limits.depth) {
            return invalid("depth_max", "1 to 127");
        }
        if !TOKENS.contains(&self.limits.tokens) {
            return invalid("tokens_max", "1 to 10 million");
        }
        if self.window.past > WINDOW_MAX || self.window.future > WINDOW_MAX {
            return invalid("window", "at most 30 days");
        }
        let mut kept = self.kept.iter().map(|name| &**name).chain(self.envelope.headers());
        if self.kept.len() > KEPT_MAX || kept.any(|name| SECRET.contains(&name)) {
            return invalid("keep_header", "at most 16 headers without credentials");
        }
        Ok(())
    }

    /// The names of the headers that are kept.
    pub(super) fn kept(&self) -> impl Iterator<Item = &str> {
        let own = self.kept.iter().map(|name| &**name);
        own.chain(KEPT).chain(self.envelope.headers())
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("name", &self.name)
            .field("verifier", &self.verifier)
            .field("envelope", &self.envelope)
            .field("limits", &self.limits)
            .field("window", &self.window)
            .field("is_serial", &self.is_serial)
            .field("kept", &self.kept)
            .finish()
    }
}

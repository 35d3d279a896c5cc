//! Is this delivery from whom it says it is?
//!
//! All of it is pure: headers, bytes and a time in, a verdict out. What has to be fetched first
//! is fetched by [`Verifier::prepare`].

mod basic;
mod github;
mod keys;
mod mailgun;
mod sendgrid;
mod sns;
mod standard_webhooks;
mod stripe;

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::error::InboxError;
use super::headers::Headers;
use super::raw_json::JsonLimits;
use crate::store::Timestamp;

pub use basic::Basic;
pub use github::GitHub;
pub use mailgun::Mailgun;
pub use sendgrid::SendGrid;
pub use sns::{CertificateUrl, Certificates, Confirmation, FetchFailed, Sns};
pub use standard_webhooks::StandardWebhooks;
pub use stripe::Stripe;

/// A delivery that is to be verified.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Delivery<'a> {
    /// Its headers.
    pub headers: &'a Headers,
    /// Its body as it came, within the source's limit.
    pub body: &'a Bytes,
    /// What its body may be, for a verifier that has to read it.
    pub limits: &'a JsonLimits,
    /// How old it may be.
    pub window: Window,
    /// The time that is now.
    pub now: Timestamp,
}

/// Nothing of the body.
impl fmt::Debug for Delivery<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("headers", &self.headers)
            .field("bytes", &self.body.len())
            .field("window", &self.window)
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}

/// How far the time that a sender signed may be from ours; the ends belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Window {
    /// How long ago it may have been signed.
    pub past: Duration,
    /// How far the sender's clock may be ahead.
    pub future: Duration,
}

impl Window {
    /// A window with these ends.
    #[must_use]
    pub const fn new(past: Duration, future: Duration) -> Self {
        Self { past, future }
    }

    /// Whether a moment is within it.
    #[must_use]
    pub fn admits(&self, signed: Timestamp, now: Timestamp) -> bool {
        now.since(signed) <= self.past && signed.since(now) <= self.future
    }
}

/// Five minutes to both sides, as Stripe and the Standard Webhooks libraries have it.
impl Default for Window {
    fn default() -> Self {
        Self::new(Duration::from_secs(300), Duration::from_secs(300))
    }
}

/// That a delivery is from whom it says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    /// Which of the source's keys fitted, in the order they were given; `None`: it has none.
    pub key: Option<u8>,
    /// What the sender wants to have confirmed before it sends more.
    pub confirmation: Option<Confirmation>,
}

impl Verified {
    /// With the key of this number.
    #[must_use]
    pub const fn by(key: u8) -> Self {
        Self { key: Some(key), confirmation: None }
    }
}

/// Why a delivery is not believed. For counters: whoever sent it learns none of this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// What should prove it is missing.
    Missing,
    /// What should prove it is not of the form it should have.
    Malformed,
    /// It was signed too long ago, or in the future.
    Stale,
    /// It was signed with none of the keys, or is not what was signed.
    Mismatch,
    /// Whoever signed it is not trusted: a certificate, a host or a topic that is not allowed.
    Untrusted,
}

impl Refusal {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Missing, Self::Malformed, Self::Stale, Self::Mismatch, Self::Untrusted];

    /// The name for metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::Stale => "stale",
            Self::Mismatch => "mismatch",
            Self::Untrusted => "untrusted",
        }
    }
}

/// Tells a genuine delivery from a forged one.
///
/// It must compare secrets in constant time, and try all keys, so that the time it takes tells
/// nothing about them.
pub trait Verifier: Send + Sync + fmt::Debug + 'static {
    /// Fetches what [`verify`](Self::verify) needs. The default needs nothing.
    ///
    /// Nothing of the delivery is verified yet: what is fetched must be bounded whoever asks.
    ///
    /// # Errors
    ///
    /// [`InboxError::CertificateUnavailable`]: the sender may try again later.
    fn prepare<'a>(&'a self, delivery: Delivery<'a>) -> BoxFuture<'a, Result<(), InboxError>> {
        let _nothing_of_it = delivery;
        Box::pin(std::future::ready(Ok(())))
    }

    /// Whether the delivery is genuine.
    ///
    /// # Errors
    ///
    /// [`Refusal`] says why not.
    fn verify(&self, delivery: &Delivery<'_>) -> Result<Verified, Refusal>;
}

/// Believes everybody: for a route that something else protects, such as mutual TLS.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct Unverified;

impl Unverified {
    /// Believes everybody.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

impl Verifier for Unverified {
    fn verify(&self, _: &Delivery<'_>) -> Result<Verified, Refusal> {
        Ok(Verified::default())
    }
}

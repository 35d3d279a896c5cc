//! Amazon SNS over HTTPS:
//! <https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html>.

mod certificates;
mod message;
mod urls;

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use ring::signature::{self, UnparsedPublicKey};
use rustls_pki_types::{
    AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm, alg_id,
};

use super::super::error::InboxError;
use super::super::raw_json::RawJson;
use super::{Delivery, Refusal, Verified, Verifier};
use certificates::Chains;
use message::Message;

pub use certificates::{Certificates, FetchFailed};
pub use urls::{CertificateUrl, Confirmation};

/// LIMIT: topics of one source.
const TOPICS_MAX: usize = 100;

/// Verifies messages of Amazon SNS: the topic, the host of the certificate, its chain up to a
/// trusted root, and the signature (version 1 and 2).
///
/// Certificates are got through [`Certificates`], at most one at a time and 30 in a minute, only
/// from `sns.<region>.amazonaws.com` and only for a topic that is allowed; 32 are kept.
///
/// A `SubscriptionConfirmation` that is verified comes out as a [`Confirmation`]. Nothing is
/// confirmed by itself.
pub struct Sns {
    topics: Vec<Box<str>>,
    chains: Chains,
}

impl Sns {
    /// For these topics, by their ARN, with certificates that end at one of these roots.
    ///
    /// `roots` are certificates in PEM: at least Amazon's (<https://www.amazontrust.com>). What SNS
    /// serves is the signing certificate alone, so put the intermediate ones there too, or in
    /// their place.
    ///
    /// # Errors
    ///
    /// [`InboxError::InvalidSetting`] if there is no topic or more than 100, or `roots` has no
    /// certificate or one that cannot be read.
    pub fn new<T: AsRef<str>>(
        topics: impl IntoIterator<Item = T>,
        roots: &[u8],
        certificates: Arc<dyn Certificates>,
    ) -> Result<Self, InboxError> {
        let (setting, expected) = ("topics", "1 to 100 ARNs of SNS topics");
        let topics: Vec<Box<str>> =
            topics.into_iter().take(TOPICS_MAX + 1).map(|topic| topic.as_ref().into()).collect();
        let is_arn = |topic: &str| urls::region_of(topic).is_some();
        if topics.is_empty() || topics.len() > TOPICS_MAX || !topics.iter().all(|one| is_arn(one)) {
            return Err(InboxError::InvalidSetting { setting, expected });
        }
        Ok(Self { topics, chains: Chains::new(roots, certificates)? })
    }

    /// Reads as much as has to be known before a certificate is fetched.
    fn read<'a>(&self, json: &'a RawJson) -> Result<(Message<'a>, CertificateUrl), Refusal> {
        let message: Message<'_> = json.decode().or(Err(Refusal::Missing))?;
        if !self.topics.iter().any(|topic| **topic == *message.topic) {
            return Err(Refusal::Untrusted);
        }
        let region = urls::region_of(&message.topic).ok_or(Refusal::Untrusted)?;
        let url = CertificateUrl::read(&message.certificate, region).ok_or(Refusal::Untrusted)?;
        Ok((message, url))
    }
}

fn parse(delivery: &Delivery<'_>) -> Result<RawJson, Refusal> {
    RawJson::parse(delivery.body.clone(), delivery.limits).or(Err(Refusal::Malformed))
}

impl Verifier for Sns {
    fn prepare<'a>(&'a self, delivery: Delivery<'a>) -> BoxFuture<'a, Result<(), InboxError>> {
        Box::pin(async move {
            // What is wrong with it, `verify` tells.
            let Ok(json) = parse(&delivery) else { return Ok(()) };
            match self.read(&json) {
                Ok((_, url)) => self.chains.fetch(url, delivery.now).await,
                Err(_) => Ok(()),
            }
        })
    }

    fn verify(&self, delivery: &Delivery<'_>) -> Result<Verified, Refusal> {
        let json = parse(delivery)?;
        let (message, url) = self.read(&json)?;
        let algorithm: &dyn SignatureVerificationAlgorithm = match &*message.version {
            "1" => &RsaSha1,
            "2" => webpki::ring::RSA_PKCS1_2048_8192_SHA256,
            _ => return Err(Refusal::Malformed),
        };
        let signature = super::keys::base64(&message.signature).ok_or(Refusal::Malformed)?;
        let signed = message.signed_text().ok_or(Refusal::Malformed)?;
        let sent = message.sent().ok_or(Refusal::Malformed)?;
        if !delivery.window.admits(sent, delivery.now) {
            return Err(Refusal::Stale);
        }
        self.chains.verify(&url, delivery.now, algorithm, signed.as_bytes(), &signature)?;
        let confirmation = message.confirmation()?;
        Ok(Verified { key: None, confirmation })
    }
}

impl fmt::Debug for Sns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sns").field("topics", &self.topics).finish_non_exhaustive()
    }
}

/// RSA with SHA-1, of signature version 1. Only for messages: no certificate is verified with it.
#[derive(Debug)]
struct RsaSha1;

impl SignatureVerificationAlgorithm for RsaSha1 {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        let algorithm = &signature::RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY;
        let key = UnparsedPublicKey::new(algorithm, public_key);
        key.verify(message, signature).or(Err(InvalidSignature))
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::RSA_ENCRYPTION
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        // sha1WithRSAEncryption, 1.2.840.113549.1.1.5, with NULL (RFC 3279).
        AlgorithmIdentifier::from_slice(&[
            0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x05, 0x05, 0x00,
        ])
    }
}

//! GitHub: <https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries>.

use super::super::error::InboxError;
use super::keys::{HmacKey, Keys, hex32};
use super::{Delivery, Refusal, Verified, Verifier};

/// Verifies GitHub's `X-Hub-Signature-256`: HMAC-SHA256 over the body.
///
/// GitHub signs neither a time nor the id of the delivery. Whoever gets hold of a delivery can
/// send it again under another id, for ever: let what handles it bear repetition.
#[derive(Debug)]
pub struct GitHub {
    keys: Keys<HmacKey>,
}

impl GitHub {
    /// With these secrets.
    ///
    /// # Errors
    ///
    /// [`InboxError::InvalidSetting`] if there are none or more than 8, or one is empty.
    pub fn new<K: AsRef<[u8]>>(secrets: impl IntoIterator<Item = K>) -> Result<Self, InboxError> {
        let keys = secrets.into_iter().map(|key| HmacKey::new(key.as_ref()));
        Ok(Self { keys: Keys::new("secrets", keys, "1 to 8, none of them empty")? })
    }
}

impl Verifier for GitHub {
    fn verify(&self, delivery: &Delivery<'_>) -> Result<Verified, Refusal> {
        let header = delivery.headers.value("x-hub-signature-256").ok_or(Refusal::Missing)?;
        let tag = header.strip_prefix(b"sha256=").and_then(hex32).ok_or(Refusal::Malformed)?;
        Ok(Verified::by(self.keys.fitting(|key| key.signed(&[delivery.body], &[tag]))?))
    }
}

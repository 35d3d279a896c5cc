//! `SendGrid`'s signed event webhook.

use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};

use super::super::error::InboxError;
use super::keys::{Keys, base64, seconds};
use super::{Delivery, Refusal, Verified, Verifier};

const KEYS: &str = "1 to 8 P-256 public keys in base64, as SendGrid shows them";
const SIGNATURE: &str = "x-twilio-email-event-webhook-signature";
const TIMESTAMP: &str = "x-twilio-email-event-webhook-timestamp";

/// What every `SubjectPublicKeyInfo` of an uncompressed P-256 key begins with (RFC 5480).
const P256: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// Verifies `SendGrid`'s events: ECDSA with P-256 and SHA-256 over the timestamp and the body.
#[derive(Debug)]
pub struct SendGrid {
    keys: Keys<UnparsedPublicKey<Vec<u8>>>,
}

impl SendGrid {
    /// With these verification keys, as `SendGrid` shows them.
    ///
    /// # Errors
    ///
    /// [`InboxError::InvalidSetting`] if there are none or more than 8, or one is of another form.
    pub fn new<K: AsRef<str>>(keys: impl IntoIterator<Item = K>) -> Result<Self, InboxError> {
        let keys = keys.into_iter().map(|key| read(key.as_ref()));
        Ok(Self { keys: Keys::new("keys", keys, KEYS)? })
    }
}

fn read(key: &str) -> Option<UnparsedPublicKey<Vec<u8>>> {
    let der = base64(key)?;
    let point = der.strip_prefix(&P256).filter(|point| point.len() == 65)?;
    Some(UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point.to_vec()))
}

impl Verifier for SendGrid {
    fn verify(&self, delivery: &Delivery<'_>) -> Result<Verified, Refusal> {
        let text = |name| delivery.headers.text(name).ok_or(Refusal::Missing);
        let signature = base64(text(SIGNATURE)?).ok_or(Refusal::Malformed)?;
        let timestamp = text(TIMESTAMP)?;
        if !delivery.window.admits(seconds(timestamp)?, delivery.now) {
            return Err(Refusal::Stale);
        }
        let signed = [timestamp.as_bytes(), delivery.body.as_ref()].concat();
        Ok(Verified::by(self.keys.fitting(|key| key.verify(&signed, &signature).is_ok())?))
    }
}

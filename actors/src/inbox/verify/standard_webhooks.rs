//! Standard Webhooks, which Svix began: <https://www.standardwebhooks.com>.

use ring::signature::{ED25519, UnparsedPublicKey};

use super::super::error::InboxError;
use super::keys::{HmacKey, Keys, SIGNATURES_MAX, base64, seconds};
use super::{Delivery, Refusal, Verified, Verifier};

const KEYS: &str = "1 to 8 of `whsec_` and 24 to 64 bytes, or `whpk_` and 32 bytes, in base64";

/// Verifies Standard Webhooks: `v1` (HMAC-SHA256) and `v1a` (ed25519) over `id.timestamp.body`.
#[derive(Debug)]
pub struct StandardWebhooks {
    keys: Keys<Key>,
    names: &'static Names,
}

enum Key {
    Symmetric(HmacKey),
    Public(UnparsedPublicKey<Vec<u8>>),
}

/// The headers.
#[derive(Debug)]
struct Names {
    id: &'static str,
    timestamp: &'static str,
    signature: &'static str,
}

const STANDARD: Names =
    Names { id: "webhook-id", timestamp: "webhook-timestamp", signature: "webhook-signature" };
const SVIX: Names =
    Names { id: "svix-id", timestamp: "svix-timestamp", signature: "svix-signature" };

impl StandardWebhooks {
    /// With these keys: `whsec_…` for `v1`, `whpk_…` for `v1a`; without a prefix, `v1`.
    ///
    /// # Errors
    ///
    /// [`InboxError::InvalidSetting`] if there are none or more than 8, or one of them is of
    /// another form.
    pub fn new<K: AsRef<str>>(keys: impl IntoIterator<Item = K>) -> Result<Self, InboxError> {
        let keys = keys.into_iter().map(|key| Key::read(key.as_ref()));
        Ok(Self { keys: Keys::new("keys", keys, KEYS)?, names: &STANDARD })
    }

    /// The same with the headers `svix-id`, `svix-timestamp` and `svix-signature`.
    #[must_use]
    pub const fn svix(mut self) -> Self {
        self.names = &SVIX;
        self
    }
}

impl Key {
    fn read(text: &str) -> Option<Self> {
        if let Some(public) = text.strip_prefix("whpk_") {
            let bytes = base64(public).filter(|bytes| bytes.len() == 32)?;
            return Some(Self::Public(UnparsedPublicKey::new(&ED25519, bytes)));
        }
        let secret = base64(text.strip_prefix("whsec_").unwrap_or(text))?;
        let secret = Some(secret).filter(|secret| (24..=64).contains(&secret.len()))?;
        HmacKey::new(&secret).map(Self::Symmetric)
    }
}

impl Verifier for StandardWebhooks {
    fn verify(&self, delivery: &Delivery<'_>) -> Result<Verified, Refusal> {
        let text = |name| delivery.headers.text(name).ok_or(Refusal::Missing);
        let (id, timestamp) = (text(self.names.id)?, text(self.names.timestamp)?);
        let signed = seconds(timestamp)?;
        // A dot in the id would let the same signature stand for another id and body.
        if id.is_empty() || id.contains('.') {
            return Err(Refusal::Malformed);
        }
        if !delivery.window.admits(signed, delivery.now) {
            return Err(Refusal::Stale);
        }
        let Signatures { tags, signatures } = Signatures::read(text(self.names.signature)?)?;
        // The text of the header is what was signed, not the number that it stands for.
        let parts = [id.as_bytes(), b".", timestamp.as_bytes(), b".", delivery.body.as_ref()];
        let whole = if signatures.is_empty() { Vec::new() } else { parts.concat() };
        let fits = |key: &Key| match key {
            Key::Symmetric(key) => key.signed(&parts, &tags),
            Key::Public(key) => {
                signatures.iter().fold(false, |any, one| key.verify(&whole, one).is_ok() | any)
            }
        };
        Ok(Verified::by(self.keys.fitting(fits)?))
    }
}

/// The signatures of a delivery, by their version.
#[derive(Default)]
struct Signatures {
    tags: Vec<[u8; 32]>,
    signatures: Vec<Vec<u8>>,
}

impl Signatures {
    fn read(text: &str) -> Result<Self, Refusal> {
        let mut all = Self::default();
        for (number, one) in text.split(' ').enumerate() {
            let (version, value) = one.split_once(',').ok_or(Refusal::Malformed)?;
            if number == SIGNATURES_MAX {
                return Err(Refusal::Malformed);
            }
            // One of a version that is not known is for others.
            match version {
                "v1" => {
                    let tag = base64(value).and_then(|tag| <[u8; 32]>::try_from(tag).ok());
                    all.tags.extend(tag);
                }
                "v1a" => all.signatures.extend(base64(value)),
                _ => {}
            }
        }
        Ok(all)
    }
}

//! Mailgun: <https://documentation.mailgun.com/docs/mailgun/user-manual/webhooks/securing-webhooks>.

use std::borrow::Cow;

use serde::Deserialize;

use super::super::error::InboxError;
use super::super::raw_json::RawJson;
use super::keys::{HmacKey, Keys, hex32, seconds};
use super::{Delivery, Refusal, Verified, Verifier};

/// Verifies Mailgun's `signature`: HMAC-SHA256 over its timestamp and token.
///
/// The signature does not cover the event. Whoever gets hold of one can attach it to an event of
/// their own; that the token is taken once, and only within the window, is all that holds them
/// off. So let no other party see the route's bodies, and look up at Mailgun what matters.
#[derive(Debug)]
pub struct Mailgun {
    keys: Keys<HmacKey>,
}

impl Mailgun {
    /// With these webhook signing keys.
    ///
    /// # Errors
    ///
    /// [`InboxError::InvalidSetting`] if there are none or more than 8, or one is empty.
    pub fn new<K: AsRef<[u8]>>(keys: impl IntoIterator<Item = K>) -> Result<Self, InboxError> {
        let keys = keys.into_iter().map(|key| HmacKey::new(key.as_ref()));
        Ok(Self { keys: Keys::new("keys", keys, "1 to 8, none of them empty")? })
    }
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    signature: Signature<'a>,
}

#[derive(Deserialize)]
struct Signature<'a> {
    #[serde(borrow)]
    timestamp: Cow<'a, str>,
    #[serde(borrow)]
    token: Cow<'a, str>,
    #[serde(borrow)]
    signature: Cow<'a, str>,
}

impl Verifier for Mailgun {
    fn verify(&self, delivery: &Delivery<'_>) -> Result<Verified, Refusal> {
        let json = RawJson::parse(delivery.body.clone(), delivery.limits);
        let json = json.or(Err(Refusal::Malformed))?;
        let Body { signature } = json.decode().or(Err(Refusal::Missing))?;
        let signed = seconds(&signature.timestamp)?;
        // The two are signed as one text: a length that may vary could be shifted between them.
        let is_token = signature.token.len() == 50 && signature.timestamp.len() == 10;
        if !is_token {
            return Err(Refusal::Malformed);
        }
        let tag = hex32(signature.signature.as_bytes()).ok_or(Refusal::Malformed)?;
        if !delivery.window.admits(signed, delivery.now) {
            return Err(Refusal::Stale);
        }
        let parts = [signature.timestamp.as_bytes(), signature.token.as_bytes()];
        Ok(Verified::by(self.keys.fitting(|key| key.signed(&parts, &[tag]))?))
    }
}

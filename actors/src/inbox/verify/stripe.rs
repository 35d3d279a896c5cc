//! Stripe: <https://docs.stripe.com/webhooks#verify-manually>.

use super::super::error::InboxError;
use super::keys::{HmacKey, Keys, SIGNATURES_MAX, hex32, seconds};
use super::{Delivery, Refusal, Verified, Verifier};

/// Verifies Stripe's `Stripe-Signature`: HMAC-SHA256 over `t.body`.
#[derive(Debug)]
pub struct Stripe {
    keys: Keys<HmacKey>,
}

impl Stripe {
    /// With these endpoint secrets, each as Stripe shows it: `whsec_…`, all of it.
    ///
    /// # Errors
    ///
    /// [`InboxError::InvalidSetting`] if there are none or more than 8, or one is empty.
    pub fn new<K: AsRef<str>>(secrets: impl IntoIterator<Item = K>) -> Result<Self, InboxError> {
        let keys = secrets.into_iter().map(|key| HmacKey::new(key.as_ref().as_bytes()));
        Ok(Self { keys: Keys::new("secrets", keys, "1 to 8, none of them empty")? })
    }
}

impl Verifier for Stripe {
    fn verify(&self, delivery: &Delivery<'_>) -> Result<Verified, Refusal> {
        let header = delivery.headers.text("stripe-signature").ok_or(Refusal::Missing)?;
        let (mut times, mut tags) = (Vec::new(), Vec::new());
        for (number, pair) in header.split(',').enumerate() {
            let (name, value) = pair.trim_start().split_once('=').ok_or(Refusal::Malformed)?;
            if number == SIGNATURES_MAX {
                return Err(Refusal::Malformed);
            }
            match name {
                "t" => times.push(value),
                "v1" => tags.extend(hex32(value.as_bytes())),
                // `v0` is for Stripe's own tests.
                _ => {}
            }
        }
        let [time] = *times else { return Err(Refusal::Malformed) };
        if !delivery.window.admits(seconds(time)?, delivery.now) {
            return Err(Refusal::Stale);
        }
        let parts = [time.as_bytes(), b".", delivery.body.as_ref()];
        Ok(Verified::by(self.keys.fitting(|key| key.signed(&parts, &tags))?))
    }
}

//! HTTP basic authentication (RFC 7617), which is all that some senders offer.

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::super::error::InboxError;
use super::keys::{Keys, base64};
use super::{Delivery, Refusal, Verified, Verifier};

const KEYS: &str = "1 to 8 of a user without a colon and a password, not both empty";

/// Verifies a user and a password. They protect the route, not the body: use TLS.
#[derive(Debug)]
pub struct Basic {
    /// Hashes, so that comparing tells nothing of their length.
    keys: Keys<[u8; 32]>,
}

impl Basic {
    /// With these users and passwords.
    ///
    /// # Errors
    ///
    /// [`InboxError::InvalidSetting`] if there are none or more than 8, or one cannot be sent.
    pub fn new<U: AsRef<str>, P: AsRef<str>>(
        credentials: impl IntoIterator<Item = (U, P)>,
    ) -> Result<Self, InboxError> {
        let keys = credentials.into_iter().map(|(user, password)| {
            let (user, password) = (user.as_ref(), password.as_ref());
            let is_usable = !(user.contains(':') || user.is_empty() && password.is_empty());
            is_usable.then(|| hash(format!("{user}:{password}").as_bytes()))
        });
        Ok(Self { keys: Keys::new("credentials", keys, KEYS)? })
    }
}

fn hash(text: &[u8]) -> [u8; 32] {
    Sha256::digest(text).into()
}

impl Verifier for Basic {
    fn verify(&self, delivery: &Delivery<'_>) -> Result<Verified, Refusal> {
        let header = delivery.headers.text("authorization").ok_or(Refusal::Missing)?;
        let (scheme, value) = header.split_once(' ').ok_or(Refusal::Malformed)?;
        let value = base64(value).filter(|_| scheme.eq_ignore_ascii_case("basic"));
        let given = hash(&value.ok_or(Refusal::Malformed)?);
        Ok(Verified::by(self.keys.fitting(|key| key.ct_eq(&given).into())?))
    }
}

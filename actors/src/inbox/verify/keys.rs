//! What the verifiers share: secrets, several of them at a time, and strict readers.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::super::error::InboxError;
use super::Refusal;
use crate::store::Timestamp;

/// LIMIT: keys that are active at a time; a rotation needs two.
const KEYS_MAX: usize = 8;
/// LIMIT: signatures of one delivery; a sender that rotates sends two.
pub(super) const SIGNATURES_MAX: usize = 16;

/// The keys of a source that are active at a time.
pub(super) struct Keys<T>(Vec<T>);

impl<T> Keys<T> {
    pub(super) fn new(
        setting: &'static str,
        keys: impl Iterator<Item = Option<T>>,
        expected: &'static str,
    ) -> Result<Self, InboxError> {
        let invalid = InboxError::InvalidSetting { setting, expected };
        let keys: Option<Vec<T>> = keys.take(KEYS_MAX + 1).collect();
        let keys = keys.filter(|keys| (1..=KEYS_MAX).contains(&keys.len()));
        keys.map(Self).ok_or(invalid)
    }

    /// The number of a key that fits. All are tried, whichever fits: how long it takes says
    /// nothing about which one did.
    pub(super) fn fitting(&self, fits: impl Fn(&T) -> bool) -> Result<u8, Refusal> {
        let mut found = None;
        for (number, key) in (0..).zip(&self.0) {
            let fits = fits(key);
            if fits && found.is_none() {
                found = Some(number);
            }
        }
        found.ok_or(Refusal::Mismatch)
    }
}

/// Only how many: they are secrets.
impl<T> fmt::Debug for Keys<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({})", self.0.len())
    }
}

/// A key of HMAC-SHA256.
pub(super) struct HmacKey(Hmac<Sha256>);

impl HmacKey {
    /// `None` for an empty key, which would verify what anybody signs.
    pub(super) fn new(secret: &[u8]) -> Option<Self> {
        if secret.is_empty() {
            return None;
        }
        Hmac::new_from_slice(secret).ok().map(Self)
    }

    /// Whether one of the tags is that of the parts, one after the other. In constant time, and
    /// all tags are compared.
    pub(super) fn signed(&self, parts: &[&[u8]], tags: &[[u8; 32]]) -> bool {
        let mut mac = self.0.clone();
        parts.iter().for_each(|part| mac.update(part));
        tags.iter().fold(false, |any, tag| mac.clone().verify_slice(tag).is_ok() | any)
    }
}

/// Seconds since 1970 in digits, as a moment. Nothing else is read, so that a text stands for one
/// moment and a moment for one text.
pub(super) fn seconds(text: &str) -> Result<Timestamp, Refusal> {
    let is_plain = (1..=12).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = is_plain.then(|| text.parse::<i64>().ok()).flatten().ok_or(Refusal::Malformed)?;
    Ok(Timestamp(seconds * 1_000))
}

/// 32 bytes in lower-case hexadecimal digits. Upper case would be a second spelling of the same.
pub(super) fn hex32(text: &[u8]) -> Option<[u8; 32]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; 32];
    let (pairs, rest) = text.as_chunks::<2>();
    if pairs.len() != bytes.len() || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

/// Base64 in its one canonical spelling.
pub(super) fn base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

//! What names a mail, here and at the provider.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The number of a mail: 16 bytes, unique for ever, later ones greater (UUIDv7).
///
/// It also goes to the provider, and comes back with its events: it is written as 32 hexadecimal
/// digits, which every provider takes in a tag and as an idempotency key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MailId(Uuid);

impl MailId {
    /// A number nobody else has.
    #[must_use]
    pub fn fresh() -> Self {
        Self(Uuid::now_v7())
    }

    /// The number in these bytes, as [`MailId::as_bytes`] gives them.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// Its bytes; they sort as the numbers do.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// When it was made, in milliseconds since 1970; 0 for a number that does not say.
    #[must_use]
    pub fn created_ms(&self) -> u64 {
        let made = self.0.get_timestamp().map(|made| made.to_unix());
        made.map_or(0, |(seconds, nanos)| seconds * 1_000 + u64::from(nanos / 1_000_000))
    }
}

impl fmt::Display for MailId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_simple().fmt(f)
    }
}

impl fmt::Debug for MailId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MailId({self})")
    }
}

impl From<Uuid> for MailId {
    fn from(uuid: Uuid) -> Self {
        Self(uuid)
    }
}

impl From<MailId> for Uuid {
    fn from(id: MailId) -> Self {
        id.0
    }
}

impl From<MailId> for String {
    fn from(id: MailId) -> Self {
        id.to_string()
    }
}

/// The text is no number of a mail: neither 32 hexadecimal digits nor a UUID with hyphens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a mail's number has 32 hexadecimal digits")]
pub struct NotAMailId(());

impl FromStr for MailId {
    type Err = NotAMailId;

    /// Takes 32 digits and the form with hyphens; providers give either back.
    fn from_str(text: &str) -> Result<Self, NotAMailId> {
        let known_form = matches!(text.len(), 32 | 36);
        let uuid = known_form.then(|| Uuid::try_parse(text).ok()).flatten();
        uuid.map(Self).ok_or(NotAMailId(()))
    }
}

impl TryFrom<String> for MailId {
    type Error = NotAMailId;

    fn try_from(text: String) -> Result<Self, NotAMailId> {
        text.parse()
    }
}

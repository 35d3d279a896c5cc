//! A JSON document as it came: checked, and kept byte for byte.

use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::scan::scan;
use crate::kernel::{Code, Fault};

/// A JSON document as it came: checked, and kept byte for byte.
///
/// It is valid UTF-8 and valid JSON (RFC 8259), within the [`JsonLimits`] it was read with, and no
/// name occurs twice in its outermost object — two readers that disagree on which one counts are
/// how signed documents are forged. White space, the order of names, escapes, `1E400` and numbers
/// of 30 digits are as they were sent. Cheap to clone: clones share the bytes.
///
/// # Examples
///
/// ```
/// use std::borrow::Cow;
/// use serde::Deserialize;
/// use serde_json::value::RawValue;
/// use steadfast_actors::inbox::{JsonLimits, RawJson};
///
/// #[derive(Deserialize)]
/// struct Envelope<'a> {
///     // `Cow`, not `&str`: a text with an escape in it cannot be borrowed.
///     #[serde(borrow, rename = "type")]
///     kind: Cow<'a, str>,
///     #[serde(borrow)]
///     data: &'a RawValue,
/// }
///
/// let body = br#"{"type":"order.paid", "data": {"amount": 1.50}}"#.as_slice();
/// let json = RawJson::parse(body.into(), &JsonLimits::default())?;
/// let envelope: Envelope<'_> = json.decode()?;
/// assert_eq!(envelope.kind, "order.paid");
/// // The part that this program does not know, as it was sent and without a copy.
/// assert_eq!(&json.slice_of(envelope.data)[..], br#"{"amount": 1.50}"#);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// In the structure that is decoded, stay away from `#[serde(flatten)]`, from `untagged` and from
/// tagged enums: serde reads those through a buffer that knows no [`RawValue`].
#[derive(Clone, PartialEq, Eq)]
pub struct RawJson(Bytes);

/// How large a JSON document may be. The defaults suit a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct JsonLimits {
    /// Bytes. Default 256 KiB.
    pub bytes: usize,
    /// Containers within each other. Default 64. Above 127, `serde_json` refuses to decode what
    /// was let in here.
    pub depth: usize,
    /// Values and names. Default 100,000.
    pub tokens: usize,
}

impl Default for JsonLimits {
    fn default() -> Self {
        Self { bytes: 256 * 1024, depth: 64, tokens: 100_000 }
    }
}

impl JsonLimits {
    /// At most this many bytes.
    #[must_use]
    pub const fn bytes(mut self, max: usize) -> Self {
        self.bytes = max;
        self
    }

    /// At most this many containers within each other.
    #[must_use]
    pub const fn depth(mut self, max: usize) -> Self {
        self.depth = max;
        self
    }

    /// At most this many values and names.
    #[must_use]
    pub const fn tokens(mut self, max: usize) -> Self {
        self.tokens = max;
        self
    }
}

/// Why a document was not taken. The texts carry nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RawJsonError {
    /// It has too many bytes. Send less.
    #[error("the document has more than {limit} bytes")]
    TooLarge {
        /// How many are allowed.
        limit: usize,
    },
    /// Its containers are nested too deeply. Send it flatter.
    #[error("the document is nested more than {limit} deep")]
    TooDeep {
        /// How deep is allowed.
        limit: usize,
    },
    /// It has too many values and names. Send less.
    #[error("the document has more than {limit} values and names")]
    TooManyTokens {
        /// How many are allowed.
        limit: usize,
    },
    /// Its outermost object has a name twice. Send each once.
    #[error("a name occurs twice in the outermost object")]
    DuplicateName,
    /// It is not UTF-8. Send it as UTF-8.
    #[error("the document is not UTF-8 from byte {offset} on")]
    NotUtf8 {
        /// The first byte that is not.
        offset: usize,
    },
    /// It is not JSON. Correct it.
    #[error("the document is not JSON at byte {offset}")]
    Syntax {
        /// Where it ceases to be.
        offset: usize,
    },
}

impl RawJsonError {
    /// The reason in a word, as the inbox writes it down.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "too_large",
            Self::TooDeep { .. } => "too_deep",
            Self::TooManyTokens { .. } => "too_many_tokens",
            Self::DuplicateName => "duplicate_name",
            Self::NotUtf8 { .. } => "not_utf8",
            Self::Syntax { .. } => "syntax",
        }
    }
}

impl Fault for RawJsonError {
    fn code(&self) -> Code {
        match self {
            Self::TooLarge { .. } => Code::new("body.too_large"),
            Self::TooDeep { .. } => Code::new("json.too_deep"),
            Self::TooManyTokens { .. } => Code::new("json.too_many_tokens"),
            Self::DuplicateName => Code::new("json.duplicate_name"),
            Self::NotUtf8 { .. } | Self::Syntax { .. } => Code::new("json.syntax"),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        None
    }
}

/// Why a document was not what the program expected. Its text says where and nothing of what:
/// that of `serde_json` may quote the document.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("the document is not what was expected: {category} at line {line}, column {column}")]
pub struct DecodeError {
    category: &'static str,
    line: usize,
    column: usize,
    details: Box<str>,
}

impl DecodeError {
    fn new(error: &serde_json::Error) -> Self {
        let category = match error.classify() {
            serde_json::error::Category::Io => "unreadable",
            serde_json::error::Category::Syntax => "syntax",
            serde_json::error::Category::Data => "another type",
            serde_json::error::Category::Eof => "its end",
        };
        let details = error.to_string().into();
        Self { category, line: error.line(), column: error.column(), details }
    }

    /// The line, from 1; 0 if it is not known.
    #[must_use]
    pub const fn line(&self) -> usize {
        self.line
    }

    /// The column, from 1; 0 if it is not known.
    #[must_use]
    pub const fn column(&self) -> usize {
        self.column
    }

    /// What `serde_json` says. It may quote the document: not for logs.
    #[must_use]
    pub fn details(&self) -> &str {
        &self.details
    }
}

impl fmt::Debug for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecodeError")
            .field("category", &self.category)
            .field("line", &self.line)
            .field("column", &self.column)
            .finish_non_exhaustive()
    }
}

impl RawJson {
    /// Checks a document and keeps it. One pass over the bytes, without recursion.
    ///
    /// # Errors
    ///
    /// [`RawJsonError`] says which limit was passed, or where it ceases to be JSON.
    pub fn parse(bytes: Bytes, limits: &JsonLimits) -> Result<Self, RawJsonError> {
        scan(&bytes, limits)?;
        Ok(Self(bytes))
    }

    /// What was checked before, when it was stored.
    pub(super) const fn trusted(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// Reads it as a `T`, which may borrow from it.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] says where it is not a `T`.
    pub fn decode<'a, T: Deserialize<'a>>(&'a self) -> Result<T, DecodeError> {
        serde_json::from_slice(&self.0).map_err(|error| DecodeError::new(&error))
    }

    /// The bytes of a part of it, shared with the whole. Of a value that is not a part of this
    /// document, a copy.
    #[must_use]
    pub fn slice_of(&self, part: &RawValue) -> Bytes {
        let part = part.get().as_bytes();
        let whole = self.0.as_ptr_range();
        let within = part.as_ptr_range();
        if whole.start <= within.start && within.end <= whole.end {
            self.0.slice_ref(part)
        } else {
            Bytes::copy_from_slice(part)
        }
    }

    /// SHA-256 of the bytes.
    #[must_use]
    pub fn sha256(&self) -> [u8; 32] {
        sha256(&self.0)
    }

    /// The bytes as they came.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// The bytes as they came.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

impl Deref for RawJson {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for RawJson {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Only its size: what is in it is nobody's business but the handler's.
impl fmt::Debug for RawJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawJson").field("bytes", &self.0.len()).finish_non_exhaustive()
    }
}

//! Names and values of headers that cannot end a line: the proof against header injection.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::kernel::{Code, Fault};

/// Why a text cannot stand in a header. Whoever gave it must correct it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// Nothing is there but white space.
    #[error("a header's name or text must not be empty")]
    Empty,
    /// It is too long.
    #[error("a header's name or text has {bytes} bytes; {limit} are allowed")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// A control character or a line separator is in it: a carriage return or line feed there
    /// would begin another header.
    #[error("a header's text must not have control characters or line separators")]
    ControlCharacter,
    /// A header's name has a character other than letters, digits, `-` and `_`.
    #[error("a header's name has only letters, digits, `-` and `_`")]
    InvalidName,
    /// The mailer or the provider writes this header: use the field of the mail that is for it.
    #[error("this header is written from the mail's own fields")]
    Reserved,
}

impl Fault for HeaderError {
    fn code(&self) -> Code {
        match self {
            Self::Empty => Code::new("mailer.header_empty"),
            Self::TooLong { .. } => Code::new("mailer.header_too_long"),
            Self::ControlCharacter => Code::new("mailer.header_control_character"),
            Self::InvalidName => Code::new("mailer.header_invalid_name"),
            Self::Reserved => Code::new("mailer.header_reserved"),
        }
    }
}

/// Whether a character could end a line or hide in one: control characters of both sets, and the
/// separators of lines and paragraphs, which some libraries also break lines at.
pub(super) fn breaks_lines(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}' | '\u{2029}')
}

/// A text that stands in one header: a subject, a display name, a value.
///
/// 1 to [`HeaderText::LIMIT`] bytes of UTF-8 without control characters; white space at either
/// end is taken off. What a client posts or the store holds is checked when it is read.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HeaderText(Arc<str>);

impl HeaderText {
    /// LIMIT: the longest line of a mail in bytes (RFC 5322, 2.1.1).
    pub const LIMIT: usize = 998;

    /// Takes a text.
    ///
    /// # Errors
    ///
    /// [`HeaderError`], when it is empty, too long, or has a control character.
    pub fn new(text: impl AsRef<str>) -> Result<Self, HeaderError> {
        let text = text.as_ref();
        // ORDER: before the trim, which would take a line feed at the end away unseen.
        if text.chars().any(breaks_lines) {
            return Err(HeaderError::ControlCharacter);
        }
        let text = text.trim();
        if text.is_empty() {
            return Err(HeaderError::Empty);
        }
        if text.len() > Self::LIMIT {
            return Err(HeaderError::TooLong { bytes: text.len(), limit: Self::LIMIT });
        }
        Ok(Self(text.into()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Shows the length only: a subject or a name says too much in a log.
impl fmt::Debug for HeaderText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HeaderText({} bytes)", self.0.len())
    }
}

impl FromStr for HeaderText {
    type Err = HeaderError;

    fn from_str(text: &str) -> Result<Self, HeaderError> {
        Self::new(text)
    }
}

impl TryFrom<&str> for HeaderText {
    type Error = HeaderError;

    fn try_from(text: &str) -> Result<Self, HeaderError> {
        Self::new(text)
    }
}

impl TryFrom<String> for HeaderText {
    type Error = HeaderError;

    fn try_from(text: String) -> Result<Self, HeaderError> {
        Self::new(text)
    }
}

impl From<HeaderText> for String {
    fn from(text: HeaderText) -> Self {
        text.as_str().to_owned()
    }
}

impl Deref for HeaderText {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// Headers that are written from the mail's fields, or by who sends it. Lower case.
const RESERVED: [&str; 13] = [
    "bcc",
    "cc",
    "date",
    "dkim-signature",
    "from",
    "message-id",
    "mime-version",
    "received",
    "reply-to",
    "return-path",
    "sender",
    "subject",
    "to",
];

/// The name of a header of one's own, such as `List-Unsubscribe` or `X-Order`.
///
/// 1 to [`HeaderName::LIMIT`] letters, digits, `-` and `_`. Names that differ in case only are
/// equal. `From`, `To`, `Bcc`, `Subject` and others that a mail has fields for, or that whoever
/// sends it writes (`Date`, `Message-ID`, `Content-…`), are refused: a second one contradicts.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HeaderName(Arc<str>);

impl HeaderName {
    /// LIMIT: with `: ` it must leave room on a line of 78 characters (RFC 5322, 2.1.1).
    pub const LIMIT: usize = 76;

    /// Takes a name.
    ///
    /// # Errors
    ///
    /// [`HeaderError`], when it is empty, too long, has another character, or is reserved.
    pub fn new(name: impl AsRef<str>) -> Result<Self, HeaderError> {
        let name = name.as_ref();
        if name.is_empty() {
            return Err(HeaderError::Empty);
        }
        if name.len() > Self::LIMIT {
            return Err(HeaderError::TooLong { bytes: name.len(), limit: Self::LIMIT });
        }
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
            return Err(HeaderError::InvalidName);
        }
        let lower = name.to_ascii_lowercase();
        if RESERVED.contains(&lower.as_str()) || lower.starts_with("content-") {
            return Err(HeaderError::Reserved);
        }
        Ok(Self(name.into()))
    }

    /// The name, in the case it was given in.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HeaderName({})", self.0)
    }
}

impl PartialEq for HeaderName {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for HeaderName {}

impl FromStr for HeaderName {
    type Err = HeaderError;

    fn from_str(name: &str) -> Result<Self, HeaderError> {
        Self::new(name)
    }
}

impl TryFrom<&str> for HeaderName {
    type Error = HeaderError;

    fn try_from(name: &str) -> Result<Self, HeaderError> {
        Self::new(name)
    }
}

impl TryFrom<String> for HeaderName {
    type Error = HeaderError;

    fn try_from(name: String) -> Result<Self, HeaderError> {
        Self::new(name)
    }
}

impl From<HeaderName> for String {
    fn from(name: HeaderName) -> Self {
        name.as_str().to_owned()
    }
}

//! Files that go with a mail.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::header::breaks_lines;
use crate::kernel::{Code, Fault};

/// Why a file cannot go with a mail. Whoever gave it must correct it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttachmentError {
    /// The name is empty, longer than [`Attachment::NAME_LIMIT`] bytes, or has a control
    /// character or a slash or backslash.
    #[error("a file's name has 1 to {limit} bytes without control characters and slashes",
        limit = Attachment::NAME_LIMIT)]
    Name,
    /// The type is not `type/subtype`, with parameters or without, in at most
    /// [`Attachment::TYPE_LIMIT`] characters of ASCII.
    #[error("a file's content type has the form type/subtype")]
    ContentType,
    /// The content id is empty, longer than [`Attachment::CONTENT_ID_LIMIT`], or has a character
    /// other than letters, digits, `.`, `-`, `_`, `+` and `@`.
    #[error("a content id has 1 to {limit} letters, digits, `.`, `-`, `_`, `+` and `@`",
        limit = Attachment::CONTENT_ID_LIMIT)]
    ContentId,
    /// Nothing is in it: providers refuse or drop such a file.
    #[error("a file that is attached must not be empty")]
    Empty,
    /// It is too large: send a link to it.
    #[error("a file of {bytes} bytes is attached; {limit} are allowed")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
}

impl Fault for AttachmentError {
    fn code(&self) -> Code {
        match self {
            Self::Name => Code::new("mailer.attachment_name"),
            Self::ContentType => Code::new("mailer.attachment_content_type"),
            Self::ContentId => Code::new("mailer.attachment_content_id"),
            Self::Empty => Code::new("mailer.attachment_empty"),
            Self::TooLarge { .. } => Code::new("mailer.attachment_too_large"),
        }
    }
}

/// A file that goes with a mail; or one that its HTML shows, as `<img src="cid:…">`.
///
/// Cheap to clone: clones share the content.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Draft", into = "Draft")]
pub struct Attachment {
    name: Arc<str>,
    content_type: Arc<str>,
    content: Arc<[u8]>,
    content_id: Option<Arc<str>>,
}

impl Attachment {
    /// LIMIT: the longest file name of common file systems, and of SES, in bytes.
    pub const NAME_LIMIT: usize = 255;
    /// LIMIT: what SES takes. The longest type of the office programs has 73 characters.
    pub const TYPE_LIMIT: usize = 78;
    /// LIMIT: what SES takes.
    pub const CONTENT_ID_LIMIT: usize = 78;
    /// LIMIT: what all files of a mail may have together. In base64 this is 28 MB, which is more
    /// than most providers take; each has a limit of its own besides.
    pub const CONTENT_LIMIT: usize = 20 * 1024 * 1024;

    /// A file.
    ///
    /// The name's ending should fit the type: mail programs go by the one or the other.
    ///
    /// # Errors
    ///
    /// [`AttachmentError`] says which of them is wrong.
    pub fn new(
        name: impl AsRef<str>,
        content_type: impl AsRef<str>,
        content: impl Into<Arc<[u8]>>,
    ) -> Result<Self, AttachmentError> {
        let (name, content_type) = (name.as_ref(), content_type.as_ref());
        let content = content.into();
        if !is_file_name(name) {
            return Err(AttachmentError::Name);
        }
        if !is_content_type(content_type) {
            return Err(AttachmentError::ContentType);
        }
        if content.is_empty() {
            return Err(AttachmentError::Empty);
        }
        if content.len() > Self::CONTENT_LIMIT {
            let limit = Self::CONTENT_LIMIT;
            return Err(AttachmentError::TooLarge { bytes: content.len(), limit });
        }
        Ok(Self { name: name.into(), content_type: content_type.into(), content, content_id: None })
    }

    /// The same file, shown by the HTML where it names `cid:` and this id.
    ///
    /// # Errors
    ///
    /// [`AttachmentError::ContentId`].
    pub fn inline(mut self, content_id: impl AsRef<str>) -> Result<Self, AttachmentError> {
        let content_id = content_id.as_ref();
        let fits = (1..=Self::CONTENT_ID_LIMIT).contains(&content_id.len());
        let known = |byte: u8| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'+' | b'@')
        };
        if !fits || !content_id.bytes().all(known) {
            return Err(AttachmentError::ContentId);
        }
        self.content_id = Some(content_id.into());
        Ok(self)
    }

    /// The file's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `type/subtype`, with parameters if some were given.
    #[must_use]
    pub fn content_type(&self) -> &str {
        &self.content_type
    }

    /// What is in it.
    #[must_use]
    pub fn content(&self) -> &[u8] {
        &self.content
    }

    /// What the HTML names it by, if it shows it.
    #[must_use]
    pub fn content_id(&self) -> Option<&str> {
        self.content_id.as_deref()
    }

    /// The content as JSON APIs take it.
    pub(super) fn base64(&self) -> String {
        BASE64.encode(&self.content)
    }
}

fn is_file_name(name: &str) -> bool {
    let known = |c: char| !breaks_lines(c) && !matches!(c, '/' | '\\');
    (1..=Attachment::NAME_LIMIT).contains(&name.len())
        && name.chars().all(known)
        && !name.trim().is_empty()
}

fn is_content_type(content_type: &str) -> bool {
    let token = |text: &str| {
        let known = |byte: u8| {
            byte.is_ascii_alphanumeric()
                || matches!(byte, b'!' | b'#' | b'$' | b'&' | b'-' | b'^' | b'_' | b'.' | b'+')
        };
        !text.is_empty() && text.bytes().all(known)
    };
    let essence = content_type.split(';').next().unwrap_or_default();
    let printable = content_type.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    content_type.len() <= Attachment::TYPE_LIMIT
        && printable
        && essence.split_once('/').is_some_and(|(kind, sub)| token(kind) && token(sub.trim_end()))
}

/// Shows type and size only.
impl fmt::Debug for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inline = if self.content_id.is_some() { ", inline" } else { "" };
        let essence = self.content_type.split(';').next().unwrap_or_default();
        write!(f, "Attachment({essence}, {} bytes{inline})", self.content.len())
    }
}

/// What is stored.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Draft {
    name: Arc<str>,
    content_type: Arc<str>,
    #[serde(serialize_with = "to_base64", deserialize_with = "from_base64")]
    content: Arc<[u8]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content_id: Option<Arc<str>>,
}

impl From<Attachment> for Draft {
    fn from(attachment: Attachment) -> Self {
        let Attachment { name, content_type, content, content_id } = attachment;
        Self { name, content_type, content, content_id }
    }
}

impl TryFrom<Draft> for Attachment {
    type Error = AttachmentError;

    fn try_from(draft: Draft) -> Result<Self, AttachmentError> {
        let attachment = Self::new(draft.name, draft.content_type, draft.content)?;
        match draft.content_id {
            Some(content_id) => attachment.inline(content_id),
            None => Ok(attachment),
        }
    }
}

fn to_base64<S: Serializer>(content: &Arc<[u8]>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&BASE64.encode(content))
}

fn from_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<[u8]>, D::Error> {
    // Owned or borrowed: a reader of a stream has nothing to borrow from.
    let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
    BASE64.decode(text.as_bytes()).map(Arc::from).map_err(serde::de::Error::custom)
}

//! Why a mail cannot be sent as it is.

use super::attachment::AttachmentError;
use super::header::HeaderError;
use super::mail::Mail;
use crate::kernel::{Code, Fault};

/// Why a mail cannot be sent as it is. Whoever wrote it must correct it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MailError {
    /// Nobody is in `to`.
    #[error("a mail needs a recipient in `to`")]
    NoRecipient,
    /// Two recipients are the same mailbox; some providers refuse that.
    #[error("a recipient is named twice")]
    DuplicateRecipient,
    /// There is no subject.
    #[error("a mail needs a subject")]
    NoSubject,
    /// There is neither a text nor HTML.
    #[error("a mail needs a text or HTML")]
    NoBody,
    /// The text or the HTML has a NUL, which databases and mail programs refuse.
    #[error("a mail's text must not have a NUL")]
    NulInBody,
    /// Two headers of one's own have one name; most providers keep one of them.
    #[error("a header is named twice")]
    DuplicateHeader,
    /// Two files have one content id.
    #[error("a content id is given twice")]
    DuplicateContentId,
    /// The tag is not 1 to [`Mail::TAG_LIMIT`] letters, digits, `-` and `_`.
    #[error("a tag has 1 to {limit} letters, digits, `-` and `_`", limit = Mail::TAG_LIMIT)]
    Tag,
    /// A key of the metadata is not 1 to [`Mail::METADATA_KEY_LIMIT`] letters, digits, `-` and
    /// `_`, or is `mail_id`, which the mailer writes.
    #[error("a key of the metadata has 1 to {limit} letters, digits, `-` and `_`, not `mail_id`",
        limit = Mail::METADATA_KEY_LIMIT)]
    MetadataKey,
    /// A value of the metadata is not 1 to [`Mail::METADATA_VALUE_LIMIT`] visible characters of
    /// ASCII and spaces without `"` and `\`.
    #[error("a value of the metadata has 1 to {limit} characters of ASCII, no quote or backslash",
        limit = Mail::METADATA_VALUE_LIMIT)]
    MetadataValue,
    /// There is too much of something.
    #[error("`{field}` has {found}; {limit} are allowed")]
    TooMuch {
        /// Of what: recipients, files and headers are counted, all else is in bytes.
        field: &'static str,
        /// How much there is.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// A text cannot stand in a header.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// A file cannot go with a mail.
    #[error(transparent)]
    Attachment(#[from] AttachmentError),
}

impl Fault for MailError {
    fn code(&self) -> Code {
        match self {
            Self::NoRecipient => Code::new("mailer.no_recipient"),
            Self::DuplicateRecipient => Code::new("mailer.duplicate_recipient"),
            Self::NoSubject => Code::new("mailer.no_subject"),
            Self::NoBody => Code::new("mailer.no_body"),
            Self::NulInBody => Code::new("mailer.nul_in_body"),
            Self::DuplicateHeader => Code::new("mailer.duplicate_header"),
            Self::DuplicateContentId => Code::new("mailer.duplicate_content_id"),
            Self::Tag => Code::new("mailer.tag"),
            Self::MetadataKey => Code::new("mailer.metadata_key"),
            Self::MetadataValue => Code::new("mailer.metadata_value"),
            Self::TooMuch { .. } => Code::new("mailer.too_much"),
            Self::Header(error) => error.code(),
            Self::Attachment(error) => error.code(),
        }
    }
}

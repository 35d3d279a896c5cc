//! Why a provider cannot be set up, or cannot send a mail.

use crate::kernel::{Code, Fault};

/// Why a provider or the transport cannot be set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProviderError {
    /// A setting is out of its range: correct it.
    #[error("`{setting}` must be {expected}")]
    InvalidSetting {
        /// Which one.
        setting: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// The HTTP client cannot be made: a defect, or a process without resources.
    #[error("the HTTP client cannot be made")]
    Client,
}

impl Fault for ProviderError {
    fn code(&self) -> Code {
        match self {
            Self::InvalidSetting { .. } => Code::new("mailer.invalid_setting"),
            Self::Client => Code::new("mailer.http_client"),
        }
    }
}

/// Why a provider cannot send a mail, found before anything was sent. Another provider may be
/// able to; a retry does not help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The request is larger than the provider takes: leave out files.
    #[error("the request would have {bytes} bytes; {limit} are allowed")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The provider's limit.
        limit: usize,
    },
    /// There are more recipients than the provider takes: send several mails.
    #[error("the mail has {count} recipients; {limit} are allowed")]
    TooManyRecipients {
        /// How many.
        count: usize,
        /// The provider's limit.
        limit: usize,
    },
    /// The provider has no way to say this. It is not left out in silence.
    #[error("the provider cannot send {what}")]
    Unsupported {
        /// What.
        what: &'static str,
    },
}

impl Fault for EncodeError {
    fn code(&self) -> Code {
        match self {
            Self::TooLarge { .. } => Code::new("mailer.request_too_large"),
            Self::TooManyRecipients { .. } => Code::new("mailer.too_many_recipients"),
            Self::Unsupported { .. } => Code::new("mailer.unsupported"),
        }
    }
}

//! What became of a request.

use std::sync::Arc;
use std::time::Duration;

use crate::kernel::{Code, Fault};
use crate::mailer::EmailAddress;

/// What became of a request, and what the provider says of its rate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What it means.
    pub outcome: Outcome,
    /// The status, where there is HTTP.
    pub http_status: Option<u16>,
    /// The provider's own code after its kind: `postmark.406`. At most 64 letters, digits and
    /// `._-`; never what it said in words, which may name an address.
    pub code: Option<Arc<str>>,
    /// How much more the provider takes, where it says so.
    pub rate: Option<RateHint>,
}

/// What an answer means. Each is another reaction.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The provider has the mail and will deliver it.
    Accepted {
        /// What it calls the mail.
        provider_id: Option<Arc<str>>,
        /// Recipients that it will not deliver to, where it says so.
        recipients: Vec<RecipientOutcome>,
    },
    /// A recipient cannot get mail. Permanent: no other provider and no retry helps, and the
    /// provider is not at fault.
    RecipientRejected {
        /// Which, as far as the answer says; empty when it does not.
        recipients: Vec<RecipientOutcome>,
        /// Whether mail to them should be given up from now on.
        suppress: bool,
    },
    /// The provider will not have this mail: its size or form. Permanent; the provider is not at
    /// fault.
    RequestRejected,
    /// The provider refuses this sender, key or address of the API: somebody must mend it.
    /// Nothing was accepted; another provider may.
    Misconfigured,
    /// The provider takes no more for now. Nothing was accepted.
    Throttled {
        /// When it will, where it says so.
        retry_after: Option<Duration>,
        /// Too fast, or too much for the day or month.
        scope: ThrottleScope,
    },
    /// The provider cannot work now. Nothing was accepted.
    Unavailable {
        /// When it can, where it says so.
        retry_after: Option<Duration>,
    },
    /// Nobody knows whether the mail was accepted.
    Ambiguous(AmbiguousCause),
    /// A mail was accepted under this key before; what it is called is not known.
    DuplicateKey,
    /// A request with the same key is under way: ask the same provider again, later.
    KeyBusy,
}

impl Outcome {
    /// Whether it is certain that the provider did not take the mail.
    #[must_use]
    pub const fn is_not_accepted(&self) -> bool {
        match self {
            Self::RecipientRejected { .. }
            | Self::RequestRejected
            | Self::Misconfigured
            | Self::Throttled { .. }
            | Self::Unavailable { .. } => true,
            Self::Accepted { .. } | Self::Ambiguous(_) | Self::DuplicateKey | Self::KeyBusy => {
                false
            }
        }
    }
}

/// What a provider says of one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecipientOutcome {
    /// Which.
    pub address: EmailAddress,
    /// What.
    pub status: RecipientStatus,
}

/// Why a recipient gets no mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecipientStatus {
    /// On the provider's own list of those that bounced, complained or left.
    Inactive,
    /// No address that mail can go to.
    Invalid,
}

/// What a limit of a provider counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ThrottleScope {
    /// Requests in a short time: over in seconds.
    Rate,
    /// Mails or credits in a day or month: over in hours, or when somebody pays.
    Quota,
}

/// How much more a provider takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateHint {
    /// Requests that one window takes.
    pub limit: Option<u32>,
    /// Requests that this window still takes.
    pub remaining: Option<u32>,
    /// When the next window begins, from now.
    pub reset_after: Option<Duration>,
}

/// Why it is open whether a mail was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AmbiguousCause {
    /// No answer in time.
    Timeout,
    /// The connection was reset after the request began to leave.
    Reset,
    /// The connection ended before the answer did.
    Incomplete,
    /// An answer that cannot be read, or says success in a way the API does not.
    BadAnswer,
    /// A status that says the provider failed somewhere on the way: 500, 502, 504 and the like.
    ServerError,
    /// Whoever waited for the answer was stopped.
    Cancelled,
}

impl AmbiguousCause {
    /// The name for metrics, logs and rows.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::Incomplete => "incomplete",
            Self::BadAnswer => "bad_answer",
            Self::ServerError => "server_error",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Why nothing was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotSentCause {
    /// Nobody took the connection.
    Connect,
    /// The name of the host is not known.
    Dns,
    /// No trusted connection could be agreed on.
    Tls,
    /// The connection was not there in time.
    ConnectTimeout,
    /// The stored request has an address or a header that HTTP does not allow.
    Request,
}

impl NotSentCause {
    /// The name for metrics, logs and rows.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Dns => "dns",
            Self::Tls => "tls",
            Self::ConnectTimeout => "connect_timeout",
            Self::Request => "request",
        }
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// Not one byte of the request left: it can be sent again, here or elsewhere.
    #[error("nothing was sent to the mail provider ({cause})", cause = .0.as_str())]
    NotSent(NotSentCause),
    /// Some of the request may have left: the mail may have been accepted.
    #[error("the mail provider may have accepted the mail ({cause})", cause = .0.as_str())]
    Ambiguous(AmbiguousCause),
}

impl Fault for TransportError {
    fn code(&self) -> Code {
        match self {
            Self::NotSent(_) => Code::new("mailer.not_sent"),
            Self::Ambiguous(_) => Code::new("mailer.outcome_unknown"),
        }
    }
}

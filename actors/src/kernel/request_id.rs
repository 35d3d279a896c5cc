//! The id of one request.

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// The id of one request: 1 to 128 characters of `A-Z a-z 0-9 . _ -`.
///
/// The narrow alphabet keeps it safe in headers, log lines and file names.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// The longest id that is accepted from a client.
    pub const MAX_LENGTH: usize = 128;

    /// A new id: a version 7 UUID, which sorts by time.
    #[must_use]
    pub fn generate() -> Self {
        // An id has to be unique, not secret: the system's random source costs more than all the
        // rest of a request's context.
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let millis = u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX);
        let mut chance = [0; 10];
        fastrand::fill(&mut chance);
        let uuid = uuid::Builder::from_unix_timestamp_millis(millis, &chance).into_uuid();
        let mut buffer = uuid::Uuid::encode_buffer();
        Self(Arc::from(&*uuid.as_hyphenated().encode_lower(&mut buffer)))
    }

    /// Accepts an id from outside.
    ///
    /// # Errors
    ///
    /// [`InvalidRequestId`] when it is empty, longer than 128 characters, or has a
    /// character outside `A-Z a-z 0-9 . _ -`. Generate one instead.
    pub fn parse(id: &str) -> Result<Self, InvalidRequestId> {
        let safe = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if id.is_empty() || id.len() > Self::MAX_LENGTH || !id.bytes().all(safe) {
            return Err(InvalidRequestId);
        }
        Ok(Self(Arc::from(id)))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A request id from outside that is empty, too long or has an unsafe character.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a request id is 1 to 128 characters of A-Z a-z 0-9 . _ -")]
pub struct InvalidRequestId;

//! The name of a guarded dependency.

use std::fmt;

/// The name of a dependency: 1 to 63 characters of `A-Z a-z 0-9 . _ -`.
///
/// Stored in place, so that a rejection can carry it without allocating and without
/// touching a shared reference count.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct DependencyId {
    length: u8,
    bytes: [u8; Self::MAX_LENGTH],
}

impl DependencyId {
    /// The longest name, in bytes.
    pub const MAX_LENGTH: usize = 63;

    /// Reads a name; `None` if it is empty, too long or has a character outside the alphabet.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let safe = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if name.is_empty() || !name.bytes().all(safe) {
            return None;
        }
        let mut bytes = [0; Self::MAX_LENGTH];
        bytes.get_mut(..name.len())?.copy_from_slice(name.as_bytes());
        Some(Self { length: u8::try_from(name.len()).ok()?, bytes })
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let used = self.bytes.get(..usize::from(self.length)).unwrap_or_default();
        // INVARIANT: `parse` admits ASCII only, so this is always text.
        std::str::from_utf8(used).unwrap_or_default()
    }
}

impl fmt::Display for DependencyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for DependencyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

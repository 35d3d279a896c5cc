//! What every error of this project can say about itself to a machine.

use std::fmt;
use std::time::Duration;

/// A stable, machine-readable name of one kind of failure: `concern.reason`.
///
/// Codes are public API: once released, a code is never reused, renamed or given
/// another meaning. The root crate lists all of them in one catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Code(&'static str);

impl Code {
    /// Names a kind of failure. Use `concern.reason`, lower case, with `_` inside words.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self(name)
    }

    /// The code as it is written in a problem document.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// An error that a caller can react to without knowing its type.
///
/// Each concern's error enum implements it; the HTTP crate turns any `Fault` into
/// a problem document in exactly one place.
pub trait Fault: std::error::Error {
    /// The stable code of this failure.
    fn code(&self) -> Code;

    /// How long the caller should wait before it tries again, when that is known.
    fn retry_after(&self) -> Option<Duration> {
        None
    }
}

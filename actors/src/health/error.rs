//! What can be wrong with how health is set up.

use std::sync::Arc;

use crate::kernel::{Code, Fault};

/// Why a set of checks was refused. Found at start: correct the program or its settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HealthError {
    /// A setting of a check is out of range.
    #[error("check `{check}`: `{setting}` must be {expected}")]
    OutOfRange {
        /// The check.
        check: Arc<str>,
        /// Its setting.
        setting: &'static str,
        /// The range it must be in.
        expected: &'static str,
    },
    /// Two checks or start-up tasks have the same name.
    #[error("the name `{0}` is used twice")]
    NameTaken(Arc<str>),
    /// A name is empty, too long, or has a character that does not belong on a line.
    #[error("`{0}` is not a name: use 1 to 80 characters of A-Z a-z 0-9 . _ : -")]
    InvalidName(Arc<str>),
    /// There are more checks or start-up tasks than the limit.
    #[error("there are more than {limit} {what}")]
    TooMany {
        /// Checks or start-up tasks.
        what: &'static str,
        /// How many are allowed.
        limit: usize,
    },
}

impl Fault for HealthError {
    fn code(&self) -> Code {
        match self {
            Self::OutOfRange { .. } => Code::new("health.out_of_range"),
            Self::NameTaken(_) => Code::new("health.name_taken"),
            Self::InvalidName(_) => Code::new("health.invalid_name"),
            Self::TooMany { .. } => Code::new("health.too_many"),
        }
    }
}

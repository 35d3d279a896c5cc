//! How dear a job is when there is more work than can be done.

use serde::{Deserialize, Serialize};

/// How dear a job is when there is more work than can be done, dearest first.
///
/// Free workers are shared out 8 : 4 : 2 : 1, so that no class starves; the guard gives up the
/// cheap ones first.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::exhaustive_enums, reason = "the tables have exactly these four")]
pub enum Class {
    /// The service fails its users without it. Accepted until the hard limit.
    Critical,
    /// The default. Put off under overload.
    #[default]
    Normal,
    /// Nice to have: left out under overload.
    Sheddable,
    /// Big and patient: the first to wait.
    Bulk,
}

impl Class {
    /// All of them, dearest first.
    pub const ALL: [Self; 4] = [Self::Critical, Self::Normal, Self::Sheddable, Self::Bulk];

    /// Its place among [`Class::ALL`], which is also its number in the tables.
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Critical => 0,
            Self::Normal => 1,
            Self::Sheddable => 2,
            Self::Bulk => 3,
        }
    }

    /// The name for metrics, logs and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Normal => "normal",
            Self::Sheddable => "sheddable",
            Self::Bulk => "bulk",
        }
    }

    /// The class with this number in the tables.
    pub(crate) fn from_number(number: i64) -> Option<Self> {
        Self::ALL.get(usize::try_from(number).ok()?).copied()
    }

    /// Its number in the tables.
    pub(crate) const fn number(self) -> i16 {
        match self {
            Self::Critical => 0,
            Self::Normal => 1,
            Self::Sheddable => 2,
            Self::Bulk => 3,
        }
    }
}

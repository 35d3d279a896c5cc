//! What a database was found to do with a column. Filled in by a probe, or by the lock file.

use std::collections::BTreeSet;

use crate::store::is_of_enum;

/// What there is where a column should be.
#[derive(Debug, Clone)]
pub(in crate::schema_enum) enum Facts {
    MissingTable,
    MissingColumn,
    Column(ColumnFacts),
}

/// What a column lets in.
#[derive(Debug, Clone, Default)]
pub(in crate::schema_enum) struct ColumnFacts {
    /// The type it has instead of one that can hold the enum.
    pub(in crate::schema_enum) wrong_type: Option<String>,
    /// The labels of the enum type that the spec names, in order; `None`: there is none, or the
    /// spec names none.
    pub(in crate::schema_enum) labels: Option<Vec<String>>,
    pub(in crate::schema_enum) not_null: bool,
    pub(in crate::schema_enum) checks: Vec<Check>,
    /// What was tried: what the code writes, what it reads, and what the checks speak of.
    pub(in crate::schema_enum) tried: BTreeSet<String>,
    /// What nobody would list, and was tried too.
    pub(in crate::schema_enum) sentinels: BTreeSet<String>,
    /// What `default` says, as SQL.
    pub(in crate::schema_enum) default: Option<String>,
}

/// One thing that refuses values.
#[derive(Debug, Clone)]
pub(in crate::schema_enum) struct Check {
    pub(in crate::schema_enum) name: Option<String>,
    pub(in crate::schema_enum) kind: CheckKind,
    /// Whether the rows that are there were checked.
    pub(in crate::schema_enum) validated: bool,
    /// What of all that was tried it refuses.
    pub(in crate::schema_enum) refused: BTreeSet<String>,
    pub(in crate::schema_enum) refuses_null: bool,
}

/// What can be done about a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::schema_enum) enum CheckKind {
    /// A constraint of the table.
    Constraint,
    /// The triggers that stand for a constraint on an older SQLite.
    Trigger,
    /// A constraint of the column's domain, which other columns may have too.
    Domain,
    /// What does not fit into the type.
    Length,
}

impl Check {
    /// Whether it is one of this library's.
    pub(in crate::schema_enum) fn is_ours(&self) -> bool {
        matches!(self.kind, CheckKind::Constraint | CheckKind::Trigger)
            && self.name.as_deref().is_some_and(is_of_enum)
    }

    pub(in crate::schema_enum) fn shown(&self) -> String {
        self.name.clone().unwrap_or_else(|| "a constraint without a name".to_owned())
    }
}

impl ColumnFacts {
    /// Whether nothing refuses it. What is no label of the type is refused by that.
    pub(in crate::schema_enum) fn allows(&self, value: &str) -> bool {
        let is_label = |labels: &Vec<String>| labels.iter().any(|label| label == value);
        self.labels.as_ref().is_none_or(is_label)
            && !self.checks.iter().any(|check| check.refused.contains(value))
    }

    /// What it lets in, of all that was tried.
    pub(in crate::schema_enum) fn allowed(&self) -> impl Iterator<Item = &str> {
        self.tried.iter().map(String::as_str).filter(|value| self.allows(value))
    }

    pub(in crate::schema_enum) fn allows_null(&self) -> bool {
        !self.not_null && !self.checks.iter().any(|check| check.refuses_null)
    }

    /// Whether it refuses what nobody would list.
    pub(in crate::schema_enum) fn is_enforced(&self) -> bool {
        !self.sentinels.iter().any(|sentinel| self.allows(sentinel))
    }

    /// The lists that the rows which were there have not been held to.
    pub(in crate::schema_enum) fn unvalidated(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| !check.validated && self.is_list(check))
    }

    /// Whether a check lists what it allows, rather than saying how long it may be.
    pub(in crate::schema_enum) fn is_list(&self, check: &Check) -> bool {
        self.sentinels.is_subset(&check.refused)
    }
}

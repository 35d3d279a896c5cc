//! Why counters were not repaired.

use std::sync::Arc;
use std::time::Duration;

use crate::jobs::{JobId, JobsError};
use crate::kernel::{CallError, Code, Fault};
use crate::store::{Source, StoreError};

/// Why counters were not repaired. Variants are different reactions.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum CounterError {
    /// There is no counter of this name. Correct the call, or declare the counter.
    #[error("there is no such counter")]
    Unknown,
    /// There is no such run, or it was forgotten.
    #[error("there is no run of job {0}")]
    UnknownRun(JobId),
    /// The declaration does not fit the tables. Nothing was written: do what it says.
    #[error("counter `{counter}`: {fault}")]
    InvalidSpec {
        /// Which counter.
        counter: Arc<str>,
        /// What is wrong, and what to do.
        fault: SpecFault,
    },
    /// A setting is out of its range: correct it.
    #[error("`{setting}` must be {expected}")]
    InvalidSetting {
        /// Which one.
        setting: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// Two counters have one name, or one column: remove one.
    #[error("`{0}` is declared twice")]
    Taken(Arc<str>),
    /// Another run repairs this very column, from another service maybe. Come back later.
    #[error("the counter is being repaired by somebody else")]
    Busy,
    /// Another run of the same job has taken over. This one has written nothing since.
    #[error("another run has taken over")]
    Superseded,
    /// The job could not be stored.
    #[error(transparent)]
    Jobs(#[from] JobsError),
    /// The store failed. A run goes on where its last batch ended.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The actor did not answer. Asking again is safe.
    #[error(transparent)]
    Call(#[from] CallError),
}

/// What is wrong with a declaration, and what to do.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SpecFault {
    /// The counter's own name.
    #[error("its name must be 1 to 40 lower-case letters, digits and `_`, no digit first")]
    Name,
    /// Something that must name a table or a column does not.
    #[error("`{0}` cannot be the name of a table or a column; correct it")]
    NotAName(Arc<str>),
    /// Keys without columns, with too many, or that do not fit what they refer to.
    #[error("each key must have 1 to 4 columns, and a foreign key as many as what it refers to")]
    Key,
    /// Too many levels.
    #[error("it may go through 4 levels at most")]
    Levels,
    /// The condition cannot be one.
    #[error("its filter must be {0}")]
    Filter(&'static str),
    /// The database does not understand the condition, or types do not fit.
    #[error("the database refuses its filter or its types; correct them")]
    Refused(#[source] Source),
    /// Largest and smallest values have no difference.
    #[error("only counts and sums can be put right by a difference; leave the strategy to Auto")]
    NoDelta,
    /// Triggers can keep counts and sums of direct children only.
    #[error("triggers can keep counts and sums of direct children only; use Maintain::App")]
    NotGenerated,
    /// Deltas know keys of one column only.
    #[error("Maintain::Deferred needs a key of one column; use Maintain::Trigger")]
    NotDeferred,
    /// There is no such table.
    #[error("there is no table {0}; correct the name, or make it")]
    UnknownTable(Arc<str>),
    /// There is no such column.
    #[error("table {table} has no column {column}; correct the name, or add it")]
    UnknownColumn {
        /// The table.
        table: Arc<str>,
        /// The column.
        column: Arc<str>,
    },
    /// The key is not one: parents could be passed over.
    #[error("{columns} of {table} have no unique index over all rows; make one, or name the key")]
    NotUnique {
        /// The table.
        table: Arc<str>,
        /// The columns.
        columns: Arc<str>,
    },
    /// Each batch would read the whole table.
    #[error("no index of {table} begins with {columns}; make it first: {make}")]
    MissingIndex {
        /// The table.
        table: Arc<str>,
        /// The columns.
        columns: Arc<str>,
        /// The statement that makes one.
        make: Arc<str>,
    },
    /// A column has a type that cannot be used so.
    #[error("column {column} is {found}; it must be {expected}")]
    Type {
        /// The column.
        column: Arc<str>,
        /// Its type.
        found: Arc<str>,
        /// What it must be.
        expected: &'static str,
    },
}

impl Fault for CounterError {
    fn code(&self) -> Code {
        match self {
            Self::Unknown => Code::new("counters.unknown"),
            Self::UnknownRun(_) => Code::new("counters.unknown_run"),
            Self::InvalidSpec { .. } => Code::new("counters.invalid_spec"),
            Self::InvalidSetting { .. } => Code::new("counters.invalid_setting"),
            Self::Taken(_) => Code::new("counters.taken"),
            Self::Busy => Code::new("counters.busy"),
            Self::Superseded => Code::new("counters.superseded"),
            Self::Jobs(error) => error.code(),
            Self::Store(error) => error.code(),
            Self::Call(error) => error.code(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy => Some(Duration::from_secs(5)),
            Self::Jobs(error) => error.retry_after(),
            Self::Store(error) => error.retry_after(),
            Self::Call(error) => error.retry_after(),
            Self::Unknown
            | Self::UnknownRun(_)
            | Self::InvalidSpec { .. }
            | Self::InvalidSetting { .. }
            | Self::Taken(_)
            | Self::Superseded => None,
        }
    }
}

//! Why a value, a change or a check is refused.

use std::time::Duration;

use super::EnumSpec;
use super::ddl::Refusal;
use crate::kernel::{Code, Fault};
use crate::store::{InvalidIdentifier, StoreError};

/// LIMIT: bytes of a text that is shown in an error. Labels are shorter.
const SHOWN_MAX: usize = 80;

/// Why a text or a number is no value of an enum, or a value cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LabelError {
    /// It is no label, alias or number of the enum. From a client: refuse it. From the
    /// database: the code is older than the data; deploy the code that knows it, or give the enum
    /// a catch-all.
    #[error("`{name}` has no value {label:?}")]
    Unknown {
        /// The enum.
        name: &'static str,
        /// What it is, cut at 80 bytes.
        label: Box<str>,
    },
    /// The catch-all stands for what this code does not know, so it is not written. Write one of
    /// the values, or leave the column as it is.
    #[error("the catch-all of `{name}` cannot be written")]
    NotWritable {
        /// The enum.
        name: &'static str,
    },
}

impl LabelError {
    pub(super) fn unknown(spec: &EnumSpec, label: &str) -> Self {
        let mut end = label.len().min(SHOWN_MAX);
        while !label.is_char_boundary(end) {
            end -= 1;
        }
        Self::Unknown { name: spec.name, label: label.get(..end).unwrap_or_default().into() }
    }
}

impl Fault for LabelError {
    fn code(&self) -> Code {
        match self {
            Self::Unknown { .. } => Code::new("schema_enum.unknown_value"),
            Self::NotWritable { .. } => Code::new("schema_enum.not_writable"),
        }
    }
}

/// Why a check or a change of the columns was not carried out.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaEnumError {
    /// A binding names a table, a column or a type that no database can have. Correct it.
    #[error("a schema-backed enum is bound to something that cannot be")]
    InvalidName(#[from] InvalidIdentifier),
    /// The change cannot be made as things are. Nothing was written; the refusals say what to do.
    #[error("{}", summary(.0))]
    Refused(Vec<Refusal>),
    /// The table's lock was not free in any of the tries. What was done before stays, and calling
    /// again goes on from there: try when the transactions that hold the table are over.
    #[error("the lock of `{table}` was not free in {tries} tries")]
    LockBusy {
        /// The table.
        table: String,
        /// How often it was tried.
        tries: u32,
    },
    /// The constraint is in force for new rows, but rows that were written meanwhile do not fit.
    /// Correct them and call again.
    #[error("rows of `{table}` that are there already do not fit")]
    RowsDoNotFit {
        /// The table.
        table: String,
    },
    /// Rows get the old label as fast as they lose it: old code is still running. End it, and call
    /// again.
    #[error("rows of `{table}` are still written with {value:?}")]
    StillWritten {
        /// The table.
        table: String,
        /// The old label.
        value: String,
    },
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn summary(refusals: &[Refusal]) -> String {
    let mut lines = refusals.iter().map(ToString::to_string);
    let first = lines.next().unwrap_or_default();
    lines.fold(first, |all, line| all + "; " + &line)
}

impl From<rusqlite::Error> for SchemaEnumError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}

impl From<tokio_postgres::Error> for SchemaEnumError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Store(error.into())
    }
}

impl Fault for SchemaEnumError {
    fn code(&self) -> Code {
        match self {
            Self::InvalidName(_) => Code::new("schema_enum.invalid_name"),
            Self::Refused(_) => Code::new("schema_enum.refused"),
            Self::LockBusy { .. } => Code::new("schema_enum.lock_busy"),
            Self::RowsDoNotFit { .. } => Code::new("schema_enum.rows_do_not_fit"),
            Self::StillWritten { .. } => Code::new("schema_enum.still_written"),
            Self::Store(error) => error.code(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::LockBusy { .. } => Some(Duration::from_secs(5)),
            Self::Store(error) => error.retry_after(),
            Self::InvalidName(_)
            | Self::Refused(_)
            | Self::RowsDoNotFit { .. }
            | Self::StillWritten { .. } => None,
        }
    }
}

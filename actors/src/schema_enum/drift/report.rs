//! What a check says.

use std::fmt;

use serde::Serialize;

/// How a column differs from what the code asks of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Verdict {
    /// There is no such table. Run the migrations, or correct the binding.
    MissingTable,
    /// The table has no such column. Run the migrations, or correct the binding.
    MissingColumn,
    /// The column's type cannot hold the enum. Change it, or the enum's `repr`.
    TypeMismatch {
        /// The type it has.
        found: String,
    },
    /// The code writes what the database refuses: such writes would fail. Apply the first phase of
    /// the [plan](super::super::Plan) before the code that needs it.
    CodeNotAllowed {
        /// What would be refused.
        values: Vec<String>,
    },
    /// The code writes `NULL`, and the database refuses it. Drop the `NOT NULL`, or the code's
    /// `nullable`.
    NullNotAllowed,
    /// The database lets in what the code does not write. Normal during a roll-out; after it, apply
    /// the last phase of the plan.
    DatabaseAllows {
        /// What more it allows, of all that was tried.
        values: Vec<String>,
    },
    /// The database lets in `NULL`, and the code has no value for it.
    DatabaseAllowsNull,
    /// Nothing in the database refuses what is none of the values. Apply the first phase of the
    /// plan.
    Unenforced,
    /// A constraint holds for new rows, but those that were there have not been checked. Correct
    /// them if there are bad ones, and validate it: the first phase of the plan.
    NotValidated {
        /// The constraint.
        constraint: String,
    },
}

/// How bad the findings about a column are, from best to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Severity {
    /// The database holds the column to just what the code says.
    Clean,
    /// It differs in a way that harms nobody.
    Note,
    /// The database is weaker than the code: bad values can get in, or are there.
    Weaker,
    /// The code cannot write or read as it will: the service is not ready.
    Broken,
}

/// Rows with a value that the code does not write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Sample {
    /// The value, as text; `None`: `NULL`.
    pub value: Option<String>,
    /// How many rows have it.
    pub rows: i64,
    /// Whether the code can read it: an alias, or anything if there is a catch-all.
    pub readable: bool,
}

/// The rows that are there, where the database did not vouch for them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Rows {
    /// There was no need to look: the database vouches for all of them.
    Vouched,
    /// Looking took longer than it may.
    NotCounted,
    /// Those with other values than the code writes, the most frequent first, and at most 20.
    Counted(Vec<Sample>),
}

/// The findings about one column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ColumnReport {
    /// The table.
    pub table: String,
    /// The column.
    pub column: String,
    /// How it differs; empty if it does not.
    pub verdicts: Vec<Verdict>,
    /// Rows with other values.
    pub rows: Rows,
    /// How bad it is.
    pub severity: Severity,
}

/// The findings about all columns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DriftReport {
    /// One for each column, in the order of the enums.
    pub columns: Vec<ColumnReport>,
}

impl DriftReport {
    /// That of the worst column.
    #[must_use]
    pub fn severity(&self) -> Severity {
        self.columns.iter().map(|column| column.severity).max().unwrap_or(Severity::Clean)
    }

    /// The findings about one column.
    #[must_use]
    pub fn column(&self, table: &str, column: &str) -> Option<&ColumnReport> {
        self.columns.iter().find(|one| one.table == table && one.column == column)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingTable => f.write_str("there is no such table"),
            Self::MissingColumn => f.write_str("there is no such column"),
            Self::TypeMismatch { found } => write!(f, "its type {found} cannot hold the enum"),
            Self::CodeNotAllowed { values } => {
                write!(f, "the database refuses {}", values.join(", "))
            }
            Self::NullNotAllowed => f.write_str("the database refuses NULL"),
            Self::DatabaseAllows { values } => {
                write!(f, "the database also allows {}", values.join(", "))
            }
            Self::DatabaseAllowsNull => f.write_str("the database also allows NULL"),
            Self::Unenforced => f.write_str("the database allows anything"),
            Self::NotValidated { constraint } => write!(f, "{constraint} is not validated"),
        }
    }
}

impl fmt::Display for ColumnReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}: ", self.table, self.column)?;
        let mut findings: Vec<String> = self.verdicts.iter().map(ToString::to_string).collect();
        match &self.rows {
            Rows::Vouched => {}
            Rows::NotCounted => findings.push("its rows could not be counted in time".to_owned()),
            Rows::Counted(samples) => findings.extend(samples.iter().map(|sample| {
                let value = sample.value.as_deref().unwrap_or("NULL");
                format!("{} rows have {value}", sample.rows)
            })),
        }
        f.write_str(if findings.is_empty() { "as the code says" } else { "" })?;
        f.write_str(&findings.join("; "))
    }
}

/// The columns that differ, the worst first, in one line.
impl fmt::Display for DriftReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_wrong = |column: &&ColumnReport| column.severity > Severity::Clean;
        let mut wrong: Vec<_> = self.columns.iter().filter(is_wrong).collect();
        wrong.sort_by_key(|column| std::cmp::Reverse(column.severity));
        let lines: Vec<_> = wrong.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join(" | "))
    }
}

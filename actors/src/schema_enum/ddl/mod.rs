//! The statements that make a database allow what the code writes, and no more.
//!
//! [`decide`] says what is to be done, [`postgres`] and [`sqlite`] say it in SQL. Nothing here
//! touches a database.

pub(super) mod decide;
pub(super) mod guard;
pub(super) mod postgres;
pub(super) mod sqlite;

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::Renamed;
use super::drift::Sample;

/// Which database statements are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Dialect {
    /// PostgreSQL, from version 12 on.
    Postgres,
    /// SQLite.
    Sqlite(SqliteStrategy),
}

/// How SQLite is made to refuse a value. A table is never rebuilt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SqliteStrategy {
    /// A constraint of the table, added and dropped in place: from SQLite 3.53 on.
    Constraint,
    /// Two triggers that refuse what a constraint would: for older libraries, and for files that
    /// programs with older ones change too.
    Trigger,
}

impl SqliteStrategy {
    /// What the SQLite library in this process can do.
    #[must_use]
    pub fn of_library() -> Self {
        Self::of_version(rusqlite::version_number())
    }

    pub(super) const fn of_version(version: i32) -> Self {
        if version >= 3_053_000 { Self::Constraint } else { Self::Trigger }
    }
}

/// When a step is to be taken. A value is added before the code that writes it, and removed after
/// the code that did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Phase {
    /// Before the new code runs: the database comes to allow all that old and new code writes.
    Expand,
    /// When no old code runs any more: rows with an old label get the new one.
    Backfill,
    /// After that: the database comes to allow what the new code writes, and no more.
    Contract,
}

/// What a step does to those who use the table meanwhile, and how it is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Impact {
    /// In a transaction of its own that gives up soon if the table is in use, and tries again.
    /// Blocks the table for milliseconds.
    ShortLock,
    /// Reads the whole table, beside readers and writers.
    Scan,
    /// Must be outside of a transaction, and alone in its migration. Blocks nobody.
    Alone,
    /// Changes rows in small transactions.
    Batches,
    /// In one transaction of SQLite, in which nobody else writes. A constraint reads the whole
    /// table: half a second for a million rows.
    BlocksWriters,
    /// Writes the whole table anew while nobody can read or write it. Only done when
    /// [allowed](super::SchemaEnums::allow_rewrites).
    Rewrite,
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Step {
    /// The table.
    pub table: String,
    /// The column.
    pub column: String,
    /// When.
    pub phase: Phase,
    /// How.
    pub impact: Impact,
    /// What it is for.
    pub note: String,
    /// Its statements, in order, without what opens and ends their transaction.
    pub statements: Vec<String>,
    /// What a backfill changes.
    #[serde(skip)]
    pub(super) renamed: Option<Renamed>,
}

impl Step {
    /// Whether both change one type, which several columns have. The first statement of such a step
    /// names the type, and what becomes of it.
    fn is_for_the_same_type(&self, other: &Self) -> bool {
        self.statements.first() == other.statements.first()
            && self.impact == other.impact
            && self.statements.first().is_some_and(|first| {
                first.starts_with("ALTER TYPE") || first.starts_with("CREATE TYPE")
            })
    }

    /// Takes over the columns of a step that replaces the same type: they must all be changed
    /// before the old type is dropped.
    fn join(&mut self, other: Self) {
        for statement in other.statements {
            if !self.statements.contains(&statement) {
                let last = self.statements.len().saturating_sub(1);
                self.statements.insert(last, statement);
            }
        }
    }
}

/// Why a phase cannot be applied as things are, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Refusal {
    /// The table.
    pub table: String,
    /// The column.
    pub column: String,
    /// The phase that it keeps from being applied.
    pub phase: Phase,
    /// What is in the way.
    pub obstacle: Obstacle,
}

/// What is in the way of a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Obstacle {
    /// There is no such table.
    MissingTable,
    /// The table has no such column.
    MissingColumn,
    /// The column's type cannot hold the enum.
    TypeMismatch {
        /// The type it has.
        found: String,
    },
    /// Rows have values that would not be allowed any more.
    RowsHold(Vec<Sample>),
    /// Rows have an old label; the phase before gives them the new one.
    NotBackfilled(Vec<Sample>),
    /// The rows could not be looked at in time.
    NotCounted,
    /// Something that only its owner may change refuses what the code writes.
    RefusedBy {
        /// What refuses.
        what: String,
        /// What it refuses.
        values: Vec<String>,
        /// What to do.
        remedy: &'static str,
    },
    /// The table would be written anew, which was not allowed.
    NeedsRewrite,
    /// SQLite has no columns of lists.
    NoLists,
    /// The enum is kept in another way than before, which no statement here can change.
    OtherRepr,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingTable => f.write_str("there is no such table: create it first"),
            Self::MissingColumn => f.write_str("there is no such column: add it first"),
            Self::TypeMismatch { found } => {
                write!(f, "its type {found} cannot hold the enum: change it, or the enum's repr")
            }
            Self::RowsHold(samples) => {
                write!(f, "{}: give them another value first", counted(samples))
            }
            Self::NotBackfilled(samples) => {
                write!(f, "{}: apply the phase `backfill` first", counted(samples))
            }
            Self::NotCounted => {
                f.write_str("its rows could not be counted in time: allow more with `count_within`")
            }
            Self::RefusedBy { what, values, remedy } => {
                write!(f, "{what} refuses {}: {remedy}", values.join(", "))
            }
            Self::NeedsRewrite => f.write_str(
                "a value of an enum type goes only with the type, and the table is written anew: \
                 allow it with `allow_rewrites`, or leave the value there",
            ),
            Self::NoLists => f.write_str("SQLite has no columns of lists: use a table of its own"),
            Self::OtherRepr => f.write_str(
                "the enum is kept in another way than the lock file says: add a column, copy, and \
                 bind the enum to that",
            ),
        }
    }
}

fn counted(samples: &[Sample]) -> String {
    let one = |sample: &Sample| {
        format!("{} rows have {}", sample.rows, sample.value.as_deref().unwrap_or("NULL"))
    };
    samples.iter().map(one).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}: {}", self.table, self.column, self.obstacle)
    }
}

/// What is to be done. Shown, it is a script with comments, for a folder of migrations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Plan {
    #[serde(skip)]
    dialect: Dialect,
    #[serde(skip)]
    lock_timeout: Duration,
    /// The steps, phase by phase.
    pub steps: Vec<Step>,
    /// What is in the way of which phase.
    pub refusals: Vec<Refusal>,
}

impl Plan {
    pub(super) const fn new(dialect: Dialect, lock_timeout: Duration) -> Self {
        Self { dialect, lock_timeout, steps: Vec::new(), refusals: Vec::new() }
    }

    pub(super) fn add(&mut self, steps: Vec<Step>, refusals: Vec<Refusal>) {
        for step in steps {
            let same = self.steps.iter_mut().find(|known| known.is_for_the_same_type(&step));
            match same {
                Some(known) => known.join(step),
                None => self.steps.push(step),
            }
        }
        self.steps.sort_by_key(|step| step.phase);
        self.refusals.extend(refusals);
    }

    /// Whether the database is as the code wants it, and nothing is in the way.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.refusals.is_empty()
    }

    /// The steps of one phase.
    pub fn steps_of(&self, phase: Phase) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(move |step| step.phase == phase)
    }

    /// What is in the way of one phase.
    pub fn refusals_of(&self, phase: Phase) -> impl Iterator<Item = &Refusal> {
        self.refusals.iter().filter(move |refusal| refusal.phase == phase)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phases = [
            (Phase::Expand, "Before the new code runs."),
            (Phase::Backfill, "When no old code runs any more."),
            (Phase::Contract, "After that."),
        ];
        for (phase, when) in phases {
            if self.steps_of(phase).next().is_none() && self.refusals_of(phase).next().is_none() {
                continue;
            }
            writeln!(f, "-- {when}\n")?;
            for refusal in self.refusals_of(phase) {
                writeln!(f, "-- IN THE WAY: {}\n", one_line(&refusal.to_string()))?;
            }
            for step in self.steps_of(phase) {
                self.show(step, f)?;
            }
        }
        Ok(())
    }
}

impl Plan {
    fn show(&self, step: &Step, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match step.impact {
            Impact::ShortLock => "blocks the table for milliseconds; repeat it if it times out",
            Impact::Scan => "reads the table beside readers and writers",
            Impact::Alone => "not in a transaction, and alone in its migration",
            Impact::Batches => "repeat it until it changes no row",
            Impact::BlocksWriters => "nobody else writes meanwhile",
            Impact::Rewrite => "WRITES THE TABLE ANEW, and blocks it for as long as that takes",
        };
        let column = format!("{}.{}", step.table, step.column);
        writeln!(f, "-- {}: {}; {how}.", one_line(&column), one_line(&step.note))?;
        let (open, end) = self.transaction(step.impact);
        f.write_str(&open)?;
        for statement in &step.statements {
            writeln!(f, "{statement};")?;
        }
        writeln!(f, "{end}")
    }

    fn transaction(&self, impact: Impact) -> (String, &'static str) {
        match (self.dialect, impact) {
            (_, Impact::Alone | Impact::Batches) => (String::new(), ""),
            (Dialect::Postgres, _) => {
                let millis = self.lock_timeout.as_millis();
                (format!("BEGIN;\nSET LOCAL lock_timeout = '{millis}ms';\n"), "COMMIT;\n")
            }
            (Dialect::Sqlite(_), _) => ("BEGIN IMMEDIATE;\n".to_owned(), "COMMIT;\n"),
        }
    }
}

/// A label may have a line break, and a comment ends with one.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

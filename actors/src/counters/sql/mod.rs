//! Pure: the statements for a counter, as each database wants them.
//!
//! All parameters are texts, which the statements cast: so keys of every kind and number go
//! through the same code, and a cursor is a list of texts. Names are quoted; filters are the
//! developer's own SQL and were checked to be one condition.

pub(super) mod flush;
pub(super) mod repair;
pub(super) mod triggers;

#[cfg(test)]
mod golden;

use std::sync::Arc;

use super::spec::{Agg, Maintain};
use crate::store::Store;

/// Which database the statements are for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Dialect {
    Sqlite,
    Postgres {
        /// The library's own.
        schema: Arc<str>,
    },
}

impl Dialect {
    pub(super) fn of(store: &Store) -> Self {
        store.schema().map_or(Self::Sqlite, |schema| Self::Postgres { schema: schema.into() })
    }

    pub(super) const fn is_postgres(&self) -> bool {
        matches!(self, Self::Postgres { .. })
    }

    /// The table of deltas that are not folded yet.
    fn deltas(&self) -> String {
        match self {
            Self::Sqlite => "sf_counter_deltas".to_owned(),
            Self::Postgres { schema } => format!("{schema}.counter_deltas"),
        }
    }
}

/// What a column of a key holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Integer,
    Text,
    Uuid,
    Bytes,
}

/// A counter that fits its tables. All names are quoted.
#[derive(Debug, Clone)]
pub(super) struct Subject {
    pub(super) name: Arc<str>,
    pub(super) parent: String,
    pub(super) key: Vec<(String, Kind)>,
    pub(super) column: String,
    /// Whether the counter may be null.
    pub(super) nullable: bool,
    pub(super) agg: Agg,
    /// What is added up or compared.
    pub(super) of: Option<String>,
    /// Below the parent, the child last; there is always one.
    pub(super) levels: Vec<Level>,
    pub(super) child_columns: Vec<String>,
    /// The column that is set to the time, and the time.
    pub(super) touch: Option<(String, String)>,
    pub(super) maintain: Maintain,
    /// Whether it is put right by adding the difference.
    pub(super) adds: bool,
    pub(super) dialect: Dialect,
}

/// A table below the parent.
#[derive(Debug, Clone)]
pub(super) struct Level {
    pub(super) table: String,
    /// What its filter may call it.
    pub(super) alias: String,
    pub(super) key: Vec<String>,
    pub(super) foreign_key: Vec<String>,
    pub(super) filter: Option<String>,
}

impl Level {
    /// Those of its rows that count, or those of what stands for it.
    fn rows(&self, table: &str) -> String {
        let Self { alias, filter, .. } = self;
        match filter {
            Some(filter) => format!("(select * from {table} as {alias} where {filter})"),
            None => table.to_owned(),
        }
    }
}

impl Subject {
    /// What serialises repairs of this very column, of whatever service.
    pub(super) fn lock_name(&self) -> String {
        format!("{}.{}", self.parent, self.column)
    }

    pub(super) fn child(&self) -> &Level {
        match self.levels.last() {
            Some(child) => child,
            // `judge` has made one for each table, and a declaration has a child.
            None => unreachable!("a counter has a child"),
        }
    }

    fn keys(&self) -> usize {
        self.key.len()
    }

    /// The aggregate over rows that are called `c`.
    fn aggregate(&self) -> String {
        let of = self.of.as_deref().unwrap_or_default();
        match self.agg {
            Agg::Count => "count(*)".to_owned(),
            Agg::Sum(_) => format!("coalesce(sum(c.{of}), 0)"),
            Agg::Max(_) => format!("max(c.{of})"),
            Agg::Min(_) => format!("min(c.{of})"),
        }
    }

    /// A value as a text, for a cursor or a delta.
    fn shown(&self, value: &str, kind: Kind) -> String {
        match (self.dialect.is_postgres(), kind) {
            (true, Kind::Bytes) => format!("encode({value}, 'hex')"),
            (true, Kind::Integer | Kind::Text | Kind::Uuid) => format!("{value}::text"),
            (false, Kind::Bytes) => format!("hex({value})"),
            (false, Kind::Integer | Kind::Text | Kind::Uuid) => format!("cast({value} as text)"),
        }
    }

    /// A text as a value of a key.
    fn read(&self, text: &str, kind: Kind) -> String {
        match (self.dialect.is_postgres(), kind) {
            (true, Kind::Integer) => format!("{text}::bigint"),
            (true, Kind::Text) => text.to_owned(),
            (true, Kind::Uuid) => format!("{text}::uuid"),
            (true, Kind::Bytes) => format!("decode({text}, 'hex')"),
            (false, Kind::Integer) => format!("cast({text} as integer)"),
            (false, Kind::Text | Kind::Uuid) => text.to_owned(),
            (false, Kind::Bytes) => format!("unhex({text})"),
        }
    }

    fn parameter(&self, number: usize) -> String {
        match self.dialect {
            Dialect::Sqlite => format!("cast(?{number} as text)"),
            Dialect::Postgres { .. } => format!("${number}::text"),
        }
    }

    /// The key of a row that is called so.
    fn key_of(&self, row: &str) -> String {
        tuple(self.key.iter().map(|(name, _)| format!("{row}.{name}")))
    }

    /// The key that parameters from this number on say.
    fn key_at(&self, first: usize) -> String {
        let read = |(place, (_, kind)): (usize, &(String, Kind))| {
            self.read(&self.parameter(first + place), *kind)
        };
        tuple(self.key.iter().enumerate().map(read))
    }

    /// Columns `k1`, `k2`… of a row, and for each its name in the parent.
    fn numbered(&self) -> impl Iterator<Item = (String, &str, Kind)> {
        self.key
            .iter()
            .enumerate()
            .map(|(place, (name, kind))| (format!("k{}", place + 1), name.as_str(), *kind))
    }

    /// `k1, k2` of a row.
    fn numbers(&self, row: &str) -> Vec<String> {
        self.numbered().map(|(number, _, _)| format!("{row}{number}")).collect()
    }

    fn touched(&self) -> String {
        let touch = self.touch.as_ref();
        touch.map(|(column, now)| format!(", {column} = {now}")).unwrap_or_default()
    }
}

fn tuple(parts: impl IntoIterator<Item = String>) -> String {
    let parts: Vec<String> = parts.into_iter().collect();
    match parts.as_slice() {
        [one] => one.clone(),
        all => format!("({})", all.join(", ")),
    }
}

//! The constraint that holds a column to its values.

use std::fmt::Write as _;

use crate::schema_enum::ColumnSpec;
use crate::schema_enum::drift::Sample;
use crate::store::{Identifier, Literal};

use super::Dialect;

/// What a constraint allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::schema_enum) struct Guard {
    pub(super) values: Vec<String>,
    pub(super) nullable: bool,
    array: bool,
    number: bool,
}

impl Guard {
    /// Just what the code writes.
    pub(in crate::schema_enum) fn exact(spec: &ColumnSpec) -> Self {
        Self {
            values: spec.values.clone(),
            nullable: spec.nullable,
            array: spec.array,
            number: spec.repr.is_number(),
        }
    }

    /// The same with more values.
    pub(super) fn with(mut self, more: impl IntoIterator<Item = String>, nullable: bool) -> Self {
        for value in more {
            if !self.values.contains(&value) {
                self.values.push(value);
            }
        }
        self.nullable |= nullable;
        self
    }

    /// Whether rows with this value are allowed.
    pub(super) fn fits(&self, sample: &Sample) -> bool {
        sample.value.as_ref().map_or(self.nullable, |value| self.values.contains(value))
    }

    /// The same for the same meaning, whatever the order.
    pub(in crate::schema_enum) fn name(&self, spec: &ColumnSpec) -> Identifier {
        let mut sorted: Vec<_> = self.values.iter().map(String::as_str).collect();
        sorted.sort_unstable();
        let mut meaning = sorted.join("\0");
        for (is_set, mark) in [(self.nullable, "\0\0null"), (self.array, "\0\0array")] {
            meaning.push_str(if is_set { mark } else { "" });
        }
        let table = crate::store::QualifiedName::parse(&spec.table);
        let table = table.as_ref().map_or(&*spec.table, |table| table.name().as_str());
        Identifier::of_enum(table, &spec.column, &meaning)
    }

    /// The condition, for a column that is named so.
    pub(in crate::schema_enum) fn predicate(&self, column: &str, dialect: Dialect) -> String {
        let list = self.list(dialect);
        let null = if self.nullable { "IS NULL OR" } else { "IS NOT NULL AND" };
        match (dialect, self.array) {
            (Dialect::Postgres, true) => {
                let element = if self.number { "int" } else { "text" };
                format!("{column} {null} {column}::{element}[] <@ ARRAY[{list}]::{element}[]")
            }
            (Dialect::Postgres, false) => format!("{column} {null} {column} IN ({list})"),
            // The collation of the column would let in what the code does not know.
            (Dialect::Sqlite(_), _) if self.number => {
                format!("{column} {null} {column} IN ({list})")
            }
            (Dialect::Sqlite(_), _) => {
                format!("{column} {null} {column} COLLATE BINARY IN ({list})")
            }
        }
    }

    fn list(&self, dialect: Dialect) -> String {
        let mut list = String::new();
        for (at, value) in self.values.iter().enumerate() {
            list.push_str(if at == 0 { "" } else { ", " });
            let written = match self.number {
                true => write!(list, "{value}"),
                false => write!(list, "{}", dialect.literal(value)),
            };
            debug_assert!(written.is_ok(), "a String takes everything");
        }
        list
    }
}

impl Dialect {
    pub(in crate::schema_enum) const fn literal(self, text: &str) -> Literal<'_> {
        match self {
            Self::Postgres => Literal::Postgres(text),
            Self::Sqlite(_) => Literal::Sqlite(text),
        }
    }
}

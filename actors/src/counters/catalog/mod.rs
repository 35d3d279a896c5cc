//! What the database says of a counter's tables, and whether the declaration fits it.

mod postgres;
mod sqlite;

use std::sync::Arc;

use super::error::{CounterError, SpecFault};
use super::filter::Filter;
use super::spec::{Agg, CounterSpec, Maintain, Parsed, ParsedLevel};
use super::sql::{Dialect, Kind, Level, Subject};
use crate::store::{Identifier, QualifiedName, Store};

/// What a table is like.
#[derive(Debug, Clone, Default)]
struct Table {
    /// Where it is, fully.
    name: String,
    columns: Vec<Column>,
    indexes: Vec<Index>,
}

#[derive(Debug, Clone)]
struct Column {
    name: String,
    /// As the database shows it.
    shown: String,
    class: Class,
    not_null: bool,
}

/// What matters of a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Integer,
    /// Exact; with digits after the point, where that is declared.
    Numeric(Option<u16>),
    Float,
    Text,
    Uuid,
    Bytes,
    /// With a time zone.
    Instant,
    /// Without.
    DateTime,
    Other,
}

impl Class {
    const fn key(self) -> Option<Kind> {
        match self {
            Self::Integer => Some(Kind::Integer),
            Self::Text => Some(Kind::Text),
            Self::Uuid => Some(Kind::Uuid),
            Self::Bytes => Some(Kind::Bytes),
            Self::Numeric(_) | Self::Float | Self::Instant | Self::DateTime | Self::Other => None,
        }
    }
}

/// An index that the planner may use.
#[derive(Debug, Clone)]
struct Index {
    /// In its order; `None`: an expression.
    columns: Vec<Option<String>>,
    unique: bool,
    predicate: Option<String>,
}

/// Checks a declaration against the tables; nothing is written.
pub(super) async fn check(store: &Store, spec: &CounterSpec) -> Result<Subject, CounterError> {
    let parsed = spec.parse()?;
    let names = std::iter::once(&parsed.parent).chain(parsed.levels.iter().map(|one| &one.table));
    let names: Vec<QualifiedName> = names.cloned().collect();
    let found = match store {
        Store::Sqlite(store) => sqlite::tables(store, names.clone()).await?,
        Store::Postgres(store) => postgres::tables(store, names.clone()).await?,
    };
    let missing =
        || names.iter().zip(&found).find_map(|(name, table)| table.is_none().then_some(name));
    if let Some(name) = missing() {
        return Err(spec.fault(SpecFault::UnknownTable(name.to_string().into())));
    }
    let found: Vec<Table> = found.into_iter().flatten().collect();
    let dialect = Dialect::of(store);
    let subject = judge(spec, &parsed, &found, dialect)?;
    let refused = match store {
        Store::Sqlite(store) => sqlite::refuses(store, &subject).await?,
        Store::Postgres(store) => postgres::refuses(store, &subject).await?,
    };
    refused.map_or(Ok(subject), |source| Err(spec.fault(SpecFault::Refused(source))))
}

/// Whether tables and declaration fit. Pure.
fn judge(
    spec: &CounterSpec,
    parsed: &Parsed,
    found: &[Table],
    dialect: Dialect,
) -> Result<Subject, CounterError> {
    let judge = Judge { spec, dialect: dialect.clone() };
    let [parent, below @ ..] = found else { return Err(spec.fault(SpecFault::Key)) };
    let kinds = judge.key(parent, &parsed.key)?;
    judge.is_unique(parent, &parsed.key)?;
    let mut above = (parent, &parsed.key);
    for (table, level) in below.iter().zip(&parsed.levels) {
        judge.foreign_key(table, level, above)?;
        if let Some(key) = &level.key {
            above = (table, key);
        }
    }
    let counter = judge.column(parent, &parsed.column)?;
    let child = below.last().unwrap_or(parent);
    judge.value(counter, child, parsed.of.as_ref())?;
    let touch = parsed.touch.as_ref().map(|name| judge.touch(parent, name)).transpose()?;
    let level = |(table, level): (&Table, &ParsedLevel)| Level {
        table: table.name.clone(),
        alias: level.table.name().to_string(),
        key: level.key.iter().flatten().map(Identifier::to_string).collect(),
        foreign_key: level.foreign_key.iter().map(Identifier::to_string).collect(),
        filter: level.filter.as_ref().map(Filter::to_string),
    };
    let key = parsed.key.iter().map(Identifier::to_string).zip(kinds).collect();
    Ok(Subject {
        name: Arc::clone(&spec.name),
        parent: parent.name.clone(),
        key,
        column: parsed.column.to_string(),
        nullable: !counter.not_null,
        agg: spec.agg.clone(),
        of: parsed.of.as_ref().map(Identifier::to_string),
        levels: below.iter().zip(&parsed.levels).map(level).collect(),
        child_columns: child.columns.iter().map(|column| quoted(&column.name)).collect(),
        touch,
        maintain: spec.maintain,
        adds: spec.adds(),
        dialect,
    })
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

struct Judge<'a> {
    spec: &'a CounterSpec,
    dialect: Dialect,
}

impl Judge<'_> {
    fn column<'t>(&self, table: &'t Table, name: &Identifier) -> Result<&'t Column, CounterError> {
        let found = table.columns.iter().find(|column| column.name == name.as_str());
        found.ok_or_else(|| {
            let (table, column) = (table.name.as_str().into(), name.to_string().into());
            self.spec.fault(SpecFault::UnknownColumn { table, column })
        })
    }

    fn mistyped(&self, column: &Column, expected: &'static str) -> CounterError {
        let (name, found) = (quoted(&column.name).into(), column.shown.as_str().into());
        self.spec.fault(SpecFault::Type { column: name, found, expected })
    }

    fn key(&self, table: &Table, key: &[Identifier]) -> Result<Vec<Kind>, CounterError> {
        let kind = |name| {
            let column = self.column(table, name)?;
            let expected = "a whole number, a text, a uuid or bytes";
            column.class.key().ok_or_else(|| self.mistyped(column, expected))
        };
        key.iter().map(kind).collect()
    }

    fn is_unique(&self, table: &Table, key: &[Identifier]) -> Result<(), CounterError> {
        let is_key = |index: &Index| {
            index.unique
                && index.predicate.is_none()
                && index.columns.len() == key.len()
                && begins_with(index, key)
        };
        if table.indexes.iter().any(is_key) {
            return Ok(());
        }
        let (table, columns) = (table.name.as_str().into(), list(key).into());
        Err(self.spec.fault(SpecFault::NotUnique { table, columns }))
    }

    /// A foreign key fits what it refers to, and an index begins with it that has all rows that
    /// count.
    fn foreign_key(
        &self,
        table: &Table,
        level: &ParsedLevel,
        (above, key): (&Table, &Vec<Identifier>),
    ) -> Result<(), CounterError> {
        for (own, theirs) in level.foreign_key.iter().zip(key) {
            let (own, theirs) = (self.column(table, own)?, self.column(above, theirs)?);
            if own.class != theirs.class {
                return Err(self.mistyped(own, "of the type of the key it refers to"));
            }
        }
        let has_all = |index: &Index| match (&index.predicate, &level.filter) {
            (None, _) => true,
            (Some(predicate), Some(filter)) => filter.implies(predicate),
            (Some(_), None) => false,
        };
        let indexed = |index: &Index| begins_with(index, &level.foreign_key) && has_all(index);
        if table.indexes.iter().any(indexed) {
            return Ok(());
        }
        let columns = list(&level.foreign_key);
        let concurrently = if self.dialect.is_postgres() { " concurrently" } else { "" };
        let where_ = level.filter.as_ref().map(|filter| format!(" where {filter}"));
        let name = quoted(&format!("{}_by_parent", self.spec.name));
        let make = format!(
            "create index{concurrently} {name} on {} ({columns}){}",
            table.name,
            where_.unwrap_or_default()
        );
        let (table, columns, make) = (table.name.as_str().into(), columns.into(), make.into());
        Err(self.spec.fault(SpecFault::MissingIndex { table, columns, make }))
    }

    /// The counter's column can have every value that comes of the children.
    fn value(
        &self,
        counter: &Column,
        child: &Table,
        of: Option<&Identifier>,
    ) -> Result<(), CounterError> {
        let of = of.map(|name| self.column(child, name)).transpose()?;
        let is_postgres = self.dialect.is_postgres();
        match (&self.spec.agg, of) {
            (Agg::Sum(_), Some(of)) => match (of.class, counter.class) {
                (Class::Integer, Class::Integer) => Ok(()),
                (Class::Integer, Class::Numeric(_)) if is_postgres => Ok(()),
                (Class::Numeric(of), Class::Numeric(own)) if is_postgres && fits(of, own) => Ok(()),
                (Class::Integer | Class::Numeric(_), _) if is_postgres => {
                    Err(self.mistyped(counter, "exact, and with as many digits as what is added"))
                }
                (Class::Integer, _) => Err(self.mistyped(counter, "an integer")),
                _ if is_postgres => {
                    Err(self
                        .mistyped(of, "a whole or exact number: sums of others depend on order"))
                }
                _ => Err(self.mistyped(of, "an integer: sums of others depend on order")),
            },
            (Agg::Max(_) | Agg::Min(_), Some(of)) => {
                if counter.not_null {
                    return Err(
                        self.mistyped(counter, "nullable: parents without children have none")
                    );
                }
                if counter.shown != of.shown {
                    return Err(self.mistyped(counter, "of the type of what is compared"));
                }
                Ok(())
            }
            (Agg::Count | Agg::Sum(_) | Agg::Max(_) | Agg::Min(_), _) => {
                let is_exact = is_postgres && matches!(counter.class, Class::Numeric(_));
                if counter.class == Class::Integer || is_exact {
                    return Ok(());
                }
                Err(self.mistyped(counter, "a whole number"))
            }
        }
    }

    /// What sets the column to the time.
    fn touch(&self, parent: &Table, name: &Identifier) -> Result<(String, String), CounterError> {
        let column = self.column(parent, name)?;
        let now = match (self.dialect.is_postgres(), column.class) {
            (true, Class::Instant) => "clock_timestamp()",
            (true, Class::DateTime) => "(clock_timestamp() at time zone 'utc')",
            (true, Class::Integer) => "(extract(epoch from clock_timestamp()) * 1000)::bigint",
            (false, Class::Integer) => "cast(unixepoch('subsec') * 1000 as integer)",
            (false, Class::Text | Class::DateTime) => "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')",
            _ => return Err(self.mistyped(column, "a time, or a whole number of milliseconds")),
        };
        Ok((name.to_string(), now.to_owned()))
    }
}

/// Whether sums of numbers with so many digits after the point are the same in the counter.
const fn fits(of: Option<u16>, own: Option<u16>) -> bool {
    match (of, own) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(of), Some(own)) => of <= own,
    }
}

/// Whether the first columns of an index are these, in any order.
fn begins_with(index: &Index, columns: &[Identifier]) -> bool {
    let first = index.columns.get(..columns.len()).unwrap_or_default();
    let is_among =
        |column: &Identifier| first.iter().any(|one| one.as_deref() == Some(column.as_str()));
    first.len() == columns.len() && columns.iter().all(is_among)
}

fn list(columns: &[Identifier]) -> String {
    columns.iter().map(Identifier::to_string).collect::<Vec<_>>().join(", ")
}

/// Whether the triggers of a counter are there.
pub(super) async fn is_installed(store: &Store, subject: &Subject) -> Result<bool, CounterError> {
    if subject.maintain == Maintain::App {
        return Ok(false);
    }
    let names = super::sql::triggers::names(subject);
    let found = match store {
        Store::Sqlite(store) => sqlite::triggers(store, names.to_vec()).await?,
        Store::Postgres(store) => {
            postgres::triggers(store, subject.child().table.clone(), names.to_vec()).await?
        }
    };
    Ok(found == names.len())
}

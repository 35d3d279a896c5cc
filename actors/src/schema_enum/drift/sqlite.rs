//! Asking SQLite: the table is made again in memory with one check at a time, and tried.
//!
//! So its affinities and collations hold, and no lock of the file is held while it is tried.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params};

use super::facts::{Check, CheckKind, ColumnFacts, Facts};
use super::tokens::{self, TableCheck};
use super::verdict::{must_look, sample};
use super::{Finding, Rows, SAMPLES_MAX, sentinels, tried};
use crate::schema_enum::ddl::sqlite::triggers;
use crate::schema_enum::spec::Target;
use crate::schema_enum::{ColumnSpec, SchemaEnumError};
use crate::store::{QualifiedName, SqliteStore, StoreError, is_of_enum};

/// LIMIT: rows that are looked at before the clock is.
const CHUNK: i64 = 20_000;
/// LIMIT: other values that are told apart while counting.
const VALUES_MAX: usize = 1000;

pub(super) async fn find(
    store: &SqliteStore,
    spec: &ColumnSpec,
    target: &Target,
    count_within: Duration,
) -> Result<Finding, SchemaEnumError> {
    let (own, place) = (spec.clone(), target.clone());
    let read =
        store.read(move |connection| Layout::read(connection, &place).map_err(StoreError::from));
    let facts = match read.await? {
        Found::NoTable => Facts::MissingTable,
        Found::NoColumn => Facts::MissingColumn,
        Found::Layout(layout) => Facts::Column(layout.facts(spec)?),
    };
    if !must_look(spec, &facts) {
        return Ok(Finding { facts, rows: Rows::Vouched });
    }
    let place = target.clone();
    let counted = store.read(move |connection| count(connection, &own, &place, count_within));
    Ok(Finding { facts, rows: counted.await? })
}

enum Found {
    NoTable,
    NoColumn,
    Layout(Layout),
}

/// A table as its file has it.
struct Layout {
    table: String,
    column: String,
    create: String,
    declared: String,
    not_null: bool,
    is_strict: bool,
    others: Vec<String>,
    /// Ours, by the constraint that they stand for.
    triggers: BTreeMap<String, Vec<String>>,
}

impl Layout {
    fn read(connection: &Connection, target: &Target) -> rusqlite::Result<Found> {
        let schema = target.table.schema().map_or("main", |schema| schema.as_str());
        let quoted_schema = schema.replace('"', "\"\"");
        let name = target.table.name().as_str();
        let sql = format!(
            "select name, sql from \"{quoted_schema}\".sqlite_schema \
             where type = 'table' and name = ?1 collate nocase"
        );
        let found = connection.query_row(&sql, [name], |row| Ok((row.get(0)?, row.get(1)?)));
        let Some((table, create)) = found.optional()? else { return Ok(Found::NoTable) };
        let mut layout = Self {
            table,
            column: String::new(),
            create,
            declared: String::new(),
            not_null: false,
            is_strict: false,
            others: Vec::new(),
            triggers: BTreeMap::new(),
        };
        if !layout.read_columns(connection, schema, target)? {
            return Ok(Found::NoColumn);
        }
        let sql = "select strict from pragma_table_list(?1) where schema = ?2";
        layout.is_strict = connection
            .query_row(sql, params![layout.table, schema], |row| row.get(0))
            .optional()?
            .unwrap_or(false);
        layout.read_triggers(connection, &quoted_schema)?;
        Ok(Found::Layout(layout))
    }

    /// Whether the column is there.
    fn read_columns(
        &mut self,
        connection: &Connection,
        schema: &str,
        target: &Target,
    ) -> rusqlite::Result<bool> {
        let sql = "select name, type, \"notnull\" from pragma_table_xinfo(?1, ?2)";
        let mut statement = connection.prepare(sql)?;
        let mut rows = statement.query(params![self.table, schema])?;
        while let Some(row) = rows.next()? {
            let name: String = row.get(0)?;
            if name.eq_ignore_ascii_case(target.column.as_str()) {
                self.column = name;
                self.declared = row.get(1)?;
                self.not_null = row.get(2)?;
            } else {
                self.others.push(name);
            }
        }
        Ok(!self.column.is_empty())
    }

    fn read_triggers(&mut self, connection: &Connection, schema: &str) -> rusqlite::Result<()> {
        let sql = format!(
            "select name, sql from \"{schema}\".sqlite_schema \
             where type = 'trigger' and tbl_name = ?1 collate nocase"
        );
        let mut statement = connection.prepare(&sql)?;
        let mut rows = statement.query([&self.table])?;
        while let Some(row) = rows.next()? {
            let (name, sql): (String, String) = (row.get(0)?, row.get(1)?);
            let constraint = name.rsplit_once('_').map(|(constraint, _)| constraint);
            if let Some(constraint) = constraint.filter(|constraint| is_of_enum(constraint))
                && triggers(constraint).contains(&name)
            {
                self.triggers.entry(constraint.to_owned()).or_default().push(sql);
            }
        }
        Ok(())
    }

    fn facts(&self, spec: &ColumnSpec) -> Result<ColumnFacts, SchemaEnumError> {
        let (checks, collation) = tokens::checks(&self.create, &self.column);
        let of_others = |check: &TableCheck<'_>| {
            let is_other = |name: &String| {
                !name.eq_ignore_ascii_case(&self.column)
                    && self.others.iter().any(|other| other.eq_ignore_ascii_case(name))
            };
            check.names.iter().any(is_other)
        };
        let checks: Vec<_> = checks.into_iter().filter(|check| !of_others(check)).collect();
        let expressions = checks.iter().map(|check| check.expression);
        let tried =
            tried(spec, expressions.chain(self.triggers.values().flatten().map(|sql| &**sql)));
        let sentinels = sentinels(spec, &tried);
        let mut facts = ColumnFacts {
            wrong_type: self.wrong_type(spec),
            not_null: self.not_null,
            tried,
            sentinels,
            ..ColumnFacts::default()
        };
        let replica = Replica { layout: self, collation: collation.as_deref(), spec };
        for check in &checks {
            facts.checks.extend(replica.constraint(check, &facts)?);
        }
        for (name, sqls) in &self.triggers {
            let check = replica.triggers(name, sqls, &facts)?;
            facts.checks.push(check);
        }
        Ok(facts)
    }

    /// The type, if values would not come out as they went in.
    fn wrong_type(&self, spec: &ColumnSpec) -> Option<String> {
        let declared = self.declared.to_uppercase();
        let has = |parts: &[&str]| parts.iter().any(|part| declared.contains(part));
        let is_integer = has(&["INT"]);
        let is_text = !is_integer && has(&["CHAR", "CLOB", "TEXT"]);
        let is_real = !is_integer && !is_text && has(&["REAL", "FLOA", "DOUB"]);
        let is_wrong = match spec.repr.is_number() {
            _ if spec.array => true,
            true => is_text || is_real,
            false => is_integer || is_real,
        };
        is_wrong.then(|| self.declared.clone())
    }
}

/// The table in memory, with one check.
struct Replica<'a> {
    layout: &'a Layout,
    collation: Option<&'a str>,
    spec: &'a ColumnSpec,
}

impl Replica<'_> {
    /// `None`: it cannot be made here, for want of a function that the program has.
    fn constraint(
        &self,
        check: &TableCheck<'_>,
        facts: &ColumnFacts,
    ) -> Result<Option<Check>, SchemaEnumError> {
        let memory = Connection::open_in_memory()?;
        let constraint = format!(", check ({})", check.expression);
        if let Err(error) = memory.execute_batch(&self.create(&constraint)) {
            tracing::debug!(%error, check = check.expression, "schema_enum.check_not_tried");
            return Ok(None);
        }
        let mut insert = memory.prepare(&self.insert())?;
        let refuses = |value: Value| insert.execute([value]).is_err();
        Ok(Some(self.ask(check.name.clone(), CheckKind::Constraint, facts, refuses)))
    }

    /// What gets in by either way is not refused.
    fn triggers(
        &self,
        name: &str,
        sqls: &[String],
        facts: &ColumnFacts,
    ) -> Result<Check, SchemaEnumError> {
        let memory = Connection::open_in_memory()?;
        memory.execute_batch(&self.create(""))?;
        memory.execute(&self.insert(), [Value::Null])?;
        for sql in sqls {
            memory.execute_batch(sql)?;
        }
        let mut insert = memory.prepare(&self.insert())?;
        let (table, column) = (quoted(&self.layout.table), quoted(&self.layout.column));
        let sql = format!("update {table} set {column} = ?1 where rowid = 1");
        let mut update = memory.prepare(&sql)?;
        let refuses = |value: Value| {
            insert.execute([value.clone()]).is_err() && update.execute([value]).is_err()
        };
        Ok(self.ask(Some(name.to_owned()), CheckKind::Trigger, facts, refuses))
    }

    fn ask(
        &self,
        name: Option<String>,
        kind: CheckKind,
        facts: &ColumnFacts,
        mut refuses: impl FnMut(Value) -> bool,
    ) -> Check {
        let all = facts.tried.union(&facts.sentinels);
        let refused: BTreeSet<_> =
            all.filter(|value| refuses(self.value(value))).cloned().collect();
        Check { name, kind, validated: true, refused, refuses_null: refuses(Value::Null) }
    }

    fn value(&self, value: &str) -> Value {
        let number = self.spec.repr.is_number().then(|| value.parse().ok()).flatten();
        number.map_or_else(|| Value::Text(value.to_owned()), Value::Integer)
    }

    fn create(&self, constraint: &str) -> String {
        let Layout { table, column, declared, others, is_strict, .. } = self.layout;
        let others: String =
            others.iter().map(|other| format!(", {} any", quoted(other))).collect();
        let collation =
            self.collation.map_or_else(String::new, |name| format!(" collate {}", quoted(name)));
        let strict = if *is_strict { " strict" } else { "" };
        format!(
            "create table {} ({} {declared}{collation}{others}{constraint}){strict}",
            quoted(table),
            quoted(column)
        )
    }

    fn insert(&self) -> String {
        format!(
            "insert into {} ({}) values (?1)",
            quoted(&self.layout.table),
            quoted(&self.layout.column)
        )
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The rows with other values than the code writes, for as long as may be.
fn count(
    connection: &Connection,
    spec: &ColumnSpec,
    target: &Target,
    within: Duration,
) -> Result<Rows, StoreError> {
    let until = Instant::now() + within;
    let mut counts: BTreeMap<Option<String>, i64> = BTreeMap::new();
    let mut after = i64::MIN;
    let has_rowid = has_rowid(connection, &target.table)?;
    let sql = count_sql(spec, target, has_rowid);
    loop {
        let upper = match has_rowid {
            true => end_of_chunk(connection, &target.table, after)?,
            false => Some(i64::MAX),
        };
        let Some(upper) = upper else { break };
        let mut statement = connection.prepare_cached(&sql)?;
        let mut rows = statement.query([after, upper])?;
        while let Some(row) = rows.next()? {
            let value: Option<String> = row.get(0)?;
            if counts.len() < VALUES_MAX || counts.contains_key(&value) {
                *counts.entry(value).or_default() += row.get::<_, i64>(1)?;
            }
        }
        if !has_rowid {
            break;
        }
        after = upper;
        if Instant::now() > until {
            return Ok(Rows::NotCounted);
        }
    }
    let mut samples: Vec<_> =
        counts.into_iter().map(|(value, rows)| sample(spec, value, rows)).collect();
    samples.sort_by_key(|sample| std::cmp::Reverse(sample.rows));
    samples.truncate(SAMPLES_MAX);
    Ok(Rows::Counted(samples))
}

fn count_sql(spec: &ColumnSpec, target: &Target, has_rowid: bool) -> String {
    let Target { table, column, .. } = target;
    let list = spec.values.iter().map(|value| crate::store::Literal::Sqlite(value).to_string());
    let list = list.collect::<Vec<_>>().join(", ");
    let null = if spec.nullable { "false" } else { "v is null" };
    let range = if has_rowid { "rowid > ?1 and rowid <= ?2" } else { "?1 < ?2" };
    format!(
        "select v, count(*) from (select cast({column} as text) as v from {table} where {range}) \
         where {null} or v not in ({list}) group by v"
    )
}

fn end_of_chunk(
    connection: &Connection,
    table: &QualifiedName,
    after: i64,
) -> rusqlite::Result<Option<i64>> {
    let sql = format!(
        "select max(rowid) from (select rowid from {table} where rowid > ?1 order by rowid limit ?2)"
    );
    connection.prepare_cached(&sql)?.query_row([after, CHUNK], |row| row.get(0))
}

/// Whether the table has a key of its own to go along.
pub(in crate::schema_enum) fn has_rowid(
    connection: &Connection,
    table: &QualifiedName,
) -> rusqlite::Result<bool> {
    match connection.prepare(&format!("select rowid from {table} limit 0")) {
        Ok(_) => Ok(true),
        Err(rusqlite::Error::SqlInputError { .. }) => Ok(false),
        Err(rusqlite::Error::SqliteFailure(_, _)) => Ok(false),
        Err(error) => Err(error),
    }
}

//! The statements for SQLite. A table is never rebuilt.

use super::decide::{Change, Decision, Existing};
use super::guard::Guard;
use super::{Dialect, Impact, Phase, SqliteStrategy, Step};
use crate::schema_enum::drift::facts::CheckKind;
use crate::schema_enum::spec::Target;
use crate::schema_enum::{ColumnSpec, Renamed};
use crate::store::Literal;

/// The steps of a decision.
pub(in crate::schema_enum) fn steps(
    spec: &ColumnSpec,
    target: &Target,
    decision: &Decision,
    strategy: SqliteStrategy,
) -> Vec<Step> {
    let writer = Writer { spec, target, strategy };
    let expand = decision.expand.as_ref().and_then(|change| writer.change(Phase::Expand, change));
    let backfill = decision.backfill.iter().map(|renamed| writer.backfill(renamed));
    let contract =
        decision.contract.as_ref().and_then(|change| writer.change(Phase::Contract, change));
    expand.into_iter().chain(backfill).chain(contract).collect()
}

/// The constraint as it stands in `create table`.
pub(in crate::schema_enum) fn constraint(
    spec: &ColumnSpec,
    target: &Target,
    guard: &Guard,
) -> String {
    let dialect = Dialect::Sqlite(SqliteStrategy::Constraint);
    let condition = guard.predicate(&target.column.to_string(), dialect);
    format!("CONSTRAINT {} CHECK ({condition})", guard.name(spec))
}

/// The names of the triggers that stand for a constraint.
pub(in crate::schema_enum) fn triggers(constraint: &str) -> [String; 2] {
    [format!("{constraint}_insert"), format!("{constraint}_update")]
}

struct Writer<'a> {
    spec: &'a ColumnSpec,
    target: &'a Target,
    strategy: SqliteStrategy,
}

impl Writer<'_> {
    fn change(&self, phase: Phase, change: &Change) -> Option<Step> {
        let Change::Swap { add, drop } = change else { return None };
        let mut statements: Vec<_> = drop.iter().flat_map(|one| self.drop(one)).collect();
        match self.strategy {
            SqliteStrategy::Constraint => {
                let constraint = constraint(self.spec, self.target, add);
                statements.push(format!("ALTER TABLE {} ADD {constraint}", self.target.table));
            }
            SqliteStrategy::Trigger => statements.extend(self.add_triggers(add)),
        }
        let note = format!("allows {}", add.values.join(", "));
        Some(self.step(phase, Impact::BlocksWriters, note, statements))
    }

    fn drop(&self, existing: &Existing) -> Vec<String> {
        let Existing { name, kind } = existing;
        match kind {
            CheckKind::Trigger => {
                let drop = |name: &String| format!("DROP TRIGGER IF EXISTS {}", self.beside(name));
                triggers(name).iter().map(drop).collect()
            }
            CheckKind::Constraint | CheckKind::Domain | CheckKind::Length => {
                vec![format!("ALTER TABLE {} DROP CONSTRAINT {}", self.target.table, quoted(name))]
            }
        }
    }

    fn add_triggers(&self, guard: &Guard) -> [String; 2] {
        let (table, column) = (self.target.table.name(), &self.target.column);
        let name = guard.name(self.spec);
        let condition = guard.predicate(&format!("NEW.{column}"), Dialect::Sqlite(self.strategy));
        let [insert, update] = triggers(name.as_str()).map(|name| self.beside(&name));
        let message = Literal::Sqlite(name.as_str());
        let body = format!(
            "ON {table} FOR EACH ROW WHEN NOT ({condition}) BEGIN SELECT RAISE(ABORT, {message}); END"
        );
        [
            format!("CREATE TRIGGER {insert} BEFORE INSERT {body}"),
            format!("CREATE TRIGGER {update} BEFORE UPDATE OF {column} {body}"),
        ]
    }

    /// A trigger is in the same schema as its table.
    fn beside(&self, name: &str) -> String {
        let name = quoted(name);
        self.target
            .table
            .schema()
            .map_or_else(|| name.to_string(), |schema| format!("{schema}.{name}"))
    }

    /// One batch, by `rowid`; whoever applies it by itself goes through the table in order.
    fn backfill(&self, renamed: &Renamed) -> Step {
        let Target { table, column, .. } = self.target;
        let (from, to) = (Literal::Sqlite(&renamed.from), Literal::Sqlite(&renamed.to));
        let batch = format!(
            "UPDATE {table} SET {column} = {to} WHERE rowid IN (SELECT rowid FROM {table} WHERE \
             {column} = {from} LIMIT 1000)"
        );
        let note = format!("{} becomes {}", renamed.from, renamed.to);
        let step = self.step(Phase::Backfill, Impact::Batches, note, vec![batch]);
        Step { renamed: Some(renamed.clone()), ..step }
    }

    fn step(&self, phase: Phase, impact: Impact, note: String, statements: Vec<String>) -> Step {
        let (table, column) = (self.spec.table.clone(), self.spec.column.clone());
        Step { table, column, phase, impact, note, statements, renamed: None }
    }
}

/// A name of any length: SQLite has no limit.
struct AnyName<'a>(&'a str);

impl std::fmt::Display for AnyName<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\"{}\"", self.0.replace('"', "\"\""))
    }
}

const fn quoted(name: &str) -> AnyName<'_> {
    AnyName(name)
}

/// The statement that gives rows the new label: `?1` the `rowid` before the first, `?2` how many
/// rows are looked at. It returns the last `rowid` it looked at.
pub(in crate::schema_enum) fn backfill_rows(target: &Target, renamed: &Renamed) -> [String; 2] {
    let Target { table, column, .. } = target;
    let (from, to) = (Literal::Sqlite(&renamed.from), Literal::Sqlite(&renamed.to));
    [
        format!(
            "SELECT max(rowid) FROM (SELECT rowid FROM {table} WHERE rowid > ?1 ORDER BY rowid \
             LIMIT ?2)"
        ),
        format!(
            "UPDATE {table} SET {column} = {to} WHERE rowid > ?1 AND rowid <= ?2 AND {column} = \
             {from}"
        ),
    ]
}

/// The same for a table without a `rowid`, in one go.
pub(in crate::schema_enum) fn backfill_all(target: &Target, renamed: &Renamed) -> String {
    let Target { table, column, .. } = target;
    let (from, to) = (Literal::Sqlite(&renamed.from), Literal::Sqlite(&renamed.to));
    format!("UPDATE {table} SET {column} = {to} WHERE {column} = {from}")
}

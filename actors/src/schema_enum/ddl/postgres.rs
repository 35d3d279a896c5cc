//! The statements for PostgreSQL.
//!
//! A constraint is swapped in one `alter table`: the new one `not valid`, which checks no row, and
//! the old one gone, under a lock of milliseconds. Rows that are there are checked after that, in
//! a transaction of its own, beside readers and writers.

use super::decide::{Change, Decision, Existing};
use super::guard::Guard;
use super::{Dialect, Impact, Phase, Step};
use crate::schema_enum::spec::Target;
use crate::schema_enum::{ColumnSpec, Renamed};
use crate::store::{Identifier, Literal};

/// The steps of a decision.
pub(in crate::schema_enum) fn steps(
    spec: &ColumnSpec,
    target: &Target,
    decision: &Decision,
) -> Vec<Step> {
    let writer = Writer { spec, target };
    let mut steps = Vec::new();
    if let Some(change) = &decision.expand {
        writer.change(Phase::Expand, change, &mut steps);
    }
    for constraint in &decision.validate {
        steps.push(writer.validate(Phase::Expand, &quoted(constraint)));
    }
    steps.extend(decision.backfill.iter().map(|renamed| writer.backfill(renamed)));
    if let Some(change) = &decision.contract {
        writer.change(Phase::Contract, change, &mut steps);
    }
    steps
}

/// The constraint as it stands in `create table`.
pub(in crate::schema_enum) fn constraint(
    spec: &ColumnSpec,
    target: &Target,
    guard: &Guard,
) -> String {
    let condition = guard.predicate(&target.column.to_string(), Dialect::Postgres);
    format!("CONSTRAINT {} CHECK ({condition})", guard.name(spec))
}

struct Writer<'a> {
    spec: &'a ColumnSpec,
    target: &'a Target,
}

impl Writer<'_> {
    fn change(&self, phase: Phase, change: &Change, steps: &mut Vec<Step>) {
        match change {
            Change::Swap { add, drop } => self.swap(phase, add, drop, steps),
            Change::CreateType => {
                let values = self.labels();
                let create = format!("CREATE TYPE {} AS ENUM ({values})", self.type_name());
                steps.push(self.step(phase, Impact::ShortLock, "the enum's type", vec![create]));
            }
            Change::AddValues(values) => {
                steps.extend(
                    values.iter().map(|(value, before)| self.add_value(phase, value, before)),
                );
            }
            Change::ReplaceType { default } => {
                steps.push(self.replace_type(phase, default.as_deref()));
            }
        }
    }

    fn swap(&self, phase: Phase, add: &Guard, drop: &[Existing], steps: &mut Vec<Step>) {
        let constraint = constraint(self.spec, self.target, add);
        let dropped: String =
            drop.iter().map(|one| format!(", DROP CONSTRAINT {}", quoted(&one.name))).collect();
        let alter =
            format!("ALTER TABLE {} ADD {constraint} NOT VALID{dropped}", self.target.table);
        let note = format!("allows {}", add.values.join(", "));
        steps.push(self.step(phase, Impact::ShortLock, note, vec![alter]));
        steps.push(self.validate(phase, &add.name(self.spec)));
    }

    fn validate(&self, phase: Phase, name: &Identifier) -> Step {
        let validate = format!("ALTER TABLE {} VALIDATE CONSTRAINT {name}", self.target.table);
        self.step(phase, Impact::Scan, "checks the rows that are there", vec![validate])
    }

    fn add_value(&self, phase: Phase, value: &str, before: &Option<String>) -> Step {
        let before = before
            .as_deref()
            .map_or_else(String::new, |before| format!(" BEFORE {}", Literal::Postgres(before)));
        let value_sql = Literal::Postgres(value);
        let add =
            format!("ALTER TYPE {} ADD VALUE IF NOT EXISTS {value_sql}{before}", self.type_name());
        self.step(phase, Impact::Alone, format!("adds {value}"), vec![add])
    }

    /// One batch; whoever applies it by itself goes through the table block by block instead.
    fn backfill(&self, renamed: &Renamed) -> Step {
        let (table, set, condition) = (&self.target.table, self.set(renamed), self.has(renamed));
        let batch = format!(
            "UPDATE {table} SET {set} WHERE ctid = ANY (ARRAY(SELECT ctid FROM {table} WHERE \
             {condition} LIMIT 1000)) AND {condition}"
        );
        let note = format!("{} becomes {}", renamed.from, renamed.to);
        let step = self.step(Phase::Backfill, Impact::Batches, note, vec![batch]);
        Step { renamed: Some(renamed.clone()), ..step }
    }

    fn set(&self, renamed: &Renamed) -> String {
        let column = &self.target.column;
        let (from, to) = (Literal::Postgres(&renamed.from), Literal::Postgres(&renamed.to));
        match self.spec.array {
            true => format!("{column} = array_replace({column}, {from}, {to})"),
            false => format!("{column} = {to}"),
        }
    }

    fn has(&self, renamed: &Renamed) -> String {
        let (column, from) = (&self.target.column, Literal::Postgres(&renamed.from));
        match self.spec.array {
            true => format!("{from} = ANY ({column})"),
            false => format!("{column} = {from}"),
        }
    }

    fn replace_type(&self, phase: Phase, default: Option<&str>) -> Step {
        let Target { table, column, .. } = self.target;
        let name = self.type_name();
        let kept = self.kept_type();
        let list = if self.spec.array { "[]" } else { "" };
        let mut alter = format!(
            "ALTER TABLE {table} ALTER COLUMN {column} TYPE {name}{list} USING \
             {column}::text{list}::{name}{list}"
        );
        if let Some(default) = default {
            alter = format!(
                "ALTER TABLE {table} ALTER COLUMN {column} DROP DEFAULT, ALTER COLUMN {column} TYPE \
                 {name}{list} USING {column}::text{list}::{name}{list}, ALTER COLUMN {column} SET \
                 DEFAULT {default}"
            );
        }
        let statements = vec![
            format!("ALTER TYPE {name} RENAME TO {}", kept.1),
            format!("CREATE TYPE {name} AS ENUM ({})", self.labels()),
            alter,
            format!("DROP TYPE {}", kept.0),
        ];
        let note = format!("the type comes to allow {} alone", self.spec.values.join(", "));
        self.step(phase, Impact::Rewrite, note, statements)
    }

    /// The name of the old type until it is dropped: with its schema, and without.
    fn kept_type(&self) -> (String, Identifier) {
        let name = self.target.type_name.as_ref();
        let stem = name.map_or("", |name| name.name().as_str());
        let kept = Identifier::with_suffix(stem, "_sf_old");
        (name.map_or_else(String::new, |name| name.sibling(kept.clone()).to_string()), kept)
    }

    fn type_name(&self) -> String {
        self.target.type_name.as_ref().map_or_else(String::new, ToString::to_string)
    }

    fn labels(&self) -> String {
        let labels = self.spec.values.iter().map(|value| Literal::Postgres(value).to_string());
        labels.collect::<Vec<_>>().join(", ")
    }

    fn step(
        &self,
        phase: Phase,
        impact: Impact,
        note: impl Into<String>,
        statements: Vec<String>,
    ) -> Step {
        let (table, column) = (self.spec.table.clone(), self.spec.column.clone());
        Step { table, column, phase, impact, note: note.into(), statements, renamed: None }
    }
}

/// The statement that gives the rows of some blocks the new label: `$1` the first, `$2` the one
/// after the last.
pub(in crate::schema_enum) fn backfill_blocks(
    spec: &ColumnSpec,
    target: &Target,
    renamed: &Renamed,
) -> String {
    let writer = Writer { spec, target };
    format!(
        "UPDATE {} SET {} WHERE ctid >= $1::text::tid AND ctid < $2::text::tid AND {}",
        target.table,
        writer.set(renamed),
        writer.has(renamed)
    )
}

/// A name that came from the catalogue: it is one, however long.
fn quoted(name: &str) -> Identifier {
    Identifier::with_suffix(name, "")
}

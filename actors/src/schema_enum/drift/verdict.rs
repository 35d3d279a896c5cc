//! From what a database does to what is to be said about it. Pure.
//!
//! | found | verdict | severity |
//! |---|---|---|
//! | no table, no column, a type that cannot hold it | `MissingTable`, `MissingColumn`, `TypeMismatch` | broken |
//! | refuses what the code writes | `CodeNotAllowed`, `NullNotAllowed` | broken |
//! | allows more | `DatabaseAllows`, `DatabaseAllowsNull` | weaker; a note if the code reads anything |
//! | allows anything | `Unenforced` | weaker |
//! | has not checked the rows | `NotValidated` | weaker if there are bad rows or nobody knows, else a note |
//! | has rows that the code cannot read | | weaker |
//!
//! Under a strict policy, what is weaker is broken.

use super::facts::{ColumnFacts, Facts};
use super::report::{ColumnReport, Rows, Sample, Severity, Verdict};
use crate::schema_enum::ColumnSpec;

/// What differs.
pub(in crate::schema_enum) fn verdicts(spec: &ColumnSpec, facts: &Facts) -> Vec<Verdict> {
    match facts {
        Facts::MissingTable => vec![Verdict::MissingTable],
        Facts::MissingColumn => vec![Verdict::MissingColumn],
        Facts::Column(column) => of_column(spec, column),
    }
}

fn of_column(spec: &ColumnSpec, facts: &ColumnFacts) -> Vec<Verdict> {
    if let Some(found) = &facts.wrong_type {
        return vec![Verdict::TypeMismatch { found: found.clone() }];
    }
    let mut verdicts = Vec::new();
    let refused: Vec<_> =
        spec.values.iter().filter(|value| !facts.allows(value)).cloned().collect();
    if !refused.is_empty() {
        verdicts.push(Verdict::CodeNotAllowed { values: refused });
    }
    match (spec.nullable, facts.allows_null()) {
        (true, false) => verdicts.push(Verdict::NullNotAllowed),
        (false, true) => verdicts.push(Verdict::DatabaseAllowsNull),
        (true, true) | (false, false) => {}
    }
    if !facts.is_enforced() {
        verdicts.push(Verdict::Unenforced);
    } else if let more @ [_, ..] = &*more(spec, facts) {
        verdicts.push(Verdict::DatabaseAllows { values: more.to_vec() });
    }
    verdicts.extend(
        facts.unvalidated().map(|check| Verdict::NotValidated { constraint: check.shown() }),
    );
    verdicts
}

/// What the column lets in and the code does not write.
pub(in crate::schema_enum) fn more(spec: &ColumnSpec, facts: &ColumnFacts) -> Vec<String> {
    let is_more = |value: &&str| !spec.values.iter().any(|own| own == value);
    let labels = facts.labels.iter().flatten().map(String::as_str);
    let mut more: Vec<_> = facts.allowed().chain(labels.filter(|one| facts.allows(one))).collect();
    more.retain(is_more);
    more.sort_unstable();
    more.dedup();
    more.into_iter().map(str::to_owned).collect()
}

/// Whether the rows must be looked at: the database does not vouch for them.
pub(in crate::schema_enum) fn must_look(spec: &ColumnSpec, facts: &Facts) -> bool {
    let Facts::Column(column) = facts else { return false };
    column.wrong_type.is_none()
        && (!column.is_enforced()
            || column.unvalidated().next().is_some()
            || !more(spec, column).is_empty()
            || (column.allows_null() && !spec.nullable))
}

/// Puts it all together.
pub(in crate::schema_enum) fn report(
    spec: &ColumnSpec,
    facts: &Facts,
    rows: Rows,
    strict: bool,
) -> ColumnReport {
    let verdicts = verdicts(spec, facts);
    let of_verdicts = verdicts.iter().map(|verdict| severity(spec, verdict, &rows)).max();
    let mut severity = of_verdicts.unwrap_or(Severity::Clean).max(of_rows(&rows));
    if strict && severity == Severity::Weaker {
        severity = Severity::Broken;
    }
    let (table, column) = (spec.table.clone(), spec.column.clone());
    ColumnReport { table, column, verdicts, rows, severity }
}

fn severity(spec: &ColumnSpec, verdict: &Verdict, rows: &Rows) -> Severity {
    match verdict {
        Verdict::MissingTable
        | Verdict::MissingColumn
        | Verdict::TypeMismatch { .. }
        | Verdict::CodeNotAllowed { .. }
        | Verdict::NullNotAllowed => Severity::Broken,
        Verdict::DatabaseAllows { .. } if spec.open => Severity::Note,
        Verdict::DatabaseAllows { .. } | Verdict::DatabaseAllowsNull | Verdict::Unenforced => {
            Severity::Weaker
        }
        Verdict::NotValidated { .. } if *rows == Rows::NotCounted => Severity::Weaker,
        Verdict::NotValidated { .. } => Severity::Note,
    }
}

fn of_rows(rows: &Rows) -> Severity {
    match rows {
        Rows::Counted(samples) if samples.iter().any(|sample| !sample.readable) => Severity::Weaker,
        Rows::Counted(_) | Rows::Vouched | Rows::NotCounted => Severity::Clean,
    }
}

/// What a value of a row is to the code.
pub(in crate::schema_enum) fn sample(
    spec: &ColumnSpec,
    value: Option<String>,
    rows: i64,
) -> Sample {
    let readable =
        value.as_deref().map_or(spec.nullable, |value| spec.open || spec.becomes(value).is_some());
    Sample { value, rows, readable }
}

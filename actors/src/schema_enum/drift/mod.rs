//! Whether a database allows what the code writes, and no more.
//!
//! Constraints are never compared as text: PostgreSQL and SQLite each write them down in their own
//! words, and people in others. They are asked about values instead: those of the code, those the
//! constraint itself speaks of, and some that nobody would list.
//!
//! What a constraint over several columns refuses is not seen. No more than reading is needed.

pub(super) mod facts;
mod postgres;
mod report;
mod sqlite;
mod tokens;
mod verdict;

use std::collections::BTreeSet;
use std::time::Duration;

pub use report::{ColumnReport, DriftReport, Rows, Sample, Severity, Verdict};
pub(super) use sqlite::has_rowid;
pub(super) use verdict::more;

use super::spec::Target;
use super::{ColumnSpec, SchemaEnumError};
use crate::store::Store;
use facts::Facts;

/// LIMIT: samples of other values that are kept; more are told apart by nobody.
const SAMPLES_MAX: usize = 20;

/// What was found out about a column.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) facts: Facts,
    pub(super) rows: Rows,
}

/// Asks about a column, and looks at its rows where the database does not vouch for them.
pub(super) async fn find(
    store: &Store,
    spec: &ColumnSpec,
    target: &Target,
    count_within: Duration,
) -> Result<Finding, SchemaEnumError> {
    match store {
        Store::Sqlite(store) => sqlite::find(store, spec, target, count_within).await,
        Store::Postgres(store) => postgres::find(store, spec, target, count_within).await,
    }
}

/// What there is to say about it.
pub(super) fn report(spec: &ColumnSpec, finding: &Finding, strict: bool) -> ColumnReport {
    verdict::report(spec, &finding.facts, finding.rows.clone(), strict)
}

/// What is tried: what the code writes and reads, what the checks speak of, and what is near.
fn tried<'a>(spec: &ColumnSpec, expressions: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    let spoken = expressions.flat_map(tokens::literals).filter(|text| !text.contains('\0'));
    let aliases = spec.renamed.iter().map(|renamed| renamed.from.clone());
    let all: BTreeSet<_> = spec.values.iter().cloned().chain(aliases).chain(spoken).collect();
    if spec.repr.is_number() {
        let numbers = all.iter().filter_map(|text| text.parse::<i32>().ok());
        return numbers
            .flat_map(|number| [number.checked_sub(1), Some(number), number.checked_add(1)])
            .flatten()
            .map(|number| number.to_string())
            .collect();
    }
    // A case-insensitive collation lets in what the code does not know.
    let cased = all.iter().flat_map(|text| [text.to_lowercase(), text.to_uppercase()]);
    cased.chain(all.iter().cloned()).collect()
}

/// What nobody would list: long and short, so that a limit of the length is no list.
fn sentinels(spec: &ColumnSpec, tried: &BTreeSet<String>) -> BTreeSet<String> {
    let random: u64 = fastrand::u64(..);
    let all = if spec.repr.is_number() {
        let near = 20_000 + i64::try_from(random % 12_000).unwrap_or(0);
        vec![near.to_string(), (-near).to_string()]
    } else {
        vec![format!("__sf_probe_{random:016x}"), format!("z{:03x}", random & 0xfff), "~".into()]
    };
    all.into_iter().filter(|sentinel| !tried.contains(sentinel)).collect()
}

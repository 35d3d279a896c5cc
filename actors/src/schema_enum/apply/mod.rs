//! Carrying out one phase of a plan.

mod postgres;
mod sqlite;

use std::time::Duration;

use super::ddl::{Impact, Phase, Step};
use super::handle::{Columns, Settings};
use super::{ColumnSpec, SchemaEnumError};
use crate::store::Store;

/// How steps are carried out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    pub(super) lock_timeout: Duration,
    pub(super) tries: u32,
}

/// Carries out the steps in their order. What is done stays done when a later one fails.
pub(super) async fn apply(
    store: &Store,
    columns: &Columns,
    steps: Vec<Step>,
    settings: &Settings,
) -> Result<(), SchemaEnumError> {
    let manner = Manner { lock_timeout: settings.lock_timeout, tries: settings.tries };
    for step in steps {
        let Some(column) = columns.find(&step) else { continue };
        match store {
            Store::Sqlite(store) => sqlite::run(store, column, &step).await?,
            Store::Postgres(store) => postgres::run(store, column, &step, manner).await?,
        }
        let (table, column, phase) = (&step.table, &step.column, step.phase);
        tracing::info!(%table, %column, ?phase, note = %step.note, "schema_enum.applied");
    }
    Ok(())
}

/// The renames that a backfill carries out.
fn renames<'a>(spec: &'a ColumnSpec, step: &'a Step) -> impl Iterator<Item = &'a super::Renamed> {
    debug_assert!(step.phase == Phase::Backfill && step.impact == Impact::Batches);
    let is_it = |renamed: &&super::Renamed| step.renamed.as_ref() == Some(*renamed);
    spec.renamed.iter().filter(is_it)
}

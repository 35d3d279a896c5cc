//! On SQLite: on the thread that writes, between what others write.

use rusqlite::params;

use super::renames;
use crate::schema_enum::ddl::sqlite::{backfill_all, backfill_rows};
use crate::schema_enum::ddl::{Impact, Step};
use crate::schema_enum::drift::has_rowid;
use crate::schema_enum::handle::BoundColumn;
use crate::schema_enum::{Renamed, SchemaEnumError};
use crate::store::{SqliteStore, StoreError};

/// LIMIT: rows that are looked at in one piece of work. 5,000 take some milliseconds.
const ROWS: i64 = 5_000;

pub(super) async fn run(
    store: &SqliteStore,
    column: &BoundColumn,
    step: &Step,
) -> Result<(), SchemaEnumError> {
    if step.impact == Impact::Batches {
        for renamed in renames(&column.spec, step) {
            backfill(store, column, renamed).await?;
        }
        return Ok(());
    }
    let statements = step.statements.clone();
    let change = store.write(move |tx| {
        statements.iter().try_for_each(|statement| Ok(tx.execute_batch(statement)?))
    });
    match change.await {
        Ok(()) => Ok(()),
        // A row was written between the look and the change.
        Err(StoreError::Constraint { .. } | StoreError::EnumRejected { .. }) => {
            Err(SchemaEnumError::RowsDoNotFit { table: step.table.clone() })
        }
        Err(error) => Err(error.into()),
    }
}

async fn backfill(
    store: &SqliteStore,
    column: &BoundColumn,
    renamed: &Renamed,
) -> Result<(), SchemaEnumError> {
    let table = column.target.table.clone();
    let has_rowid =
        store.read(move |connection| Ok::<_, StoreError>(has_rowid(connection, &table)?));
    if !has_rowid.await? {
        let sql = backfill_all(&column.target, renamed);
        store.write(move |tx| Ok::<_, StoreError>(tx.execute(&sql, [])?)).await?;
        return Ok(());
    }
    let mut after = Some(i64::MIN);
    while let Some(from) = after {
        let [end, update] = backfill_rows(&column.target, renamed);
        let batch = store.write(move |tx| {
            let upper: Option<i64> =
                tx.prepare_cached(&end)?.query_row(params![from, ROWS], |row| row.get(0))?;
            if let Some(upper) = upper {
                tx.prepare_cached(&update)?.execute(params![from, upper])?;
            }
            Ok::<_, StoreError>(upper)
        });
        after = batch.await?;
    }
    Ok(())
}

//! On PostgreSQL: short locks that are given up and tried again, small batches.

use std::time::Duration;

use tokio::time::sleep;

use super::{Manner, renames};
use crate::schema_enum::ddl::postgres::backfill_blocks;
use crate::schema_enum::ddl::{Impact, Step};
use crate::schema_enum::handle::BoundColumn;
use crate::schema_enum::spec::Target;
use crate::schema_enum::{Renamed, SchemaEnumError};
use crate::store::{PgClient, PgStore, StoreError, commit};

/// The longest first pause after a lock that was not free; it doubles up to [`PAUSE_MAX`].
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// LIMIT: 64 blocks of 8 KiB hold some thousands of rows, which are updated in milliseconds.
const BLOCKS: usize = 64;

/// LIMIT: passes of a backfill. Old code that still writes the old label would keep it going.
const PASSES: usize = 10;

pub(super) async fn run(
    store: &PgStore,
    column: &BoundColumn,
    step: &Step,
    manner: Manner,
) -> Result<(), SchemaEnumError> {
    match step.impact {
        Impact::ShortLock | Impact::Scan | Impact::Rewrite | Impact::BlocksWriters => {
            patiently(store, step, manner, async |client| {
                in_transaction(client, step, manner).await
            })
            .await
        }
        Impact::Alone => {
            patiently(store, step, manner, async |client| alone(client, step).await).await
        }
        Impact::Batches => {
            for renamed in renames(&column.spec, step) {
                backfill(store, column, renamed, step, manner).await?;
            }
            Ok(())
        }
    }
}

/// Tries again while a lock is not free, or somebody else is in the way.
async fn patiently<T>(
    store: &PgStore,
    step: &Step,
    manner: Manner,
    work: impl AsyncFn(&mut PgClient) -> Result<T, StoreError>,
) -> Result<T, SchemaEnumError> {
    let mut pause = PAUSE_FIRST;
    for tries in 1..=manner.tries {
        let mut client = store.client().await?;
        match work(&mut client).await {
            Ok(done) => return Ok(done),
            Err(StoreError::Timeout) => {
                tracing::debug!(table = %step.table, tries, "schema_enum.lock_busy");
            }
            Err(StoreError::Constraint { .. } | StoreError::EnumRejected { .. }) => {
                return Err(SchemaEnumError::RowsDoNotFit { table: step.table.clone() });
            }
            Err(error) => return Err(error.into()),
        }
        // ORDER: the connection is given back before the pause.
        drop(client);
        if tries < manner.tries {
            sleep(pause.mul_f64(fastrand::f64().mul_add(0.5, 0.5))).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
    Err(SchemaEnumError::LockBusy { table: step.table.clone(), tries: manner.tries })
}

async fn in_transaction(
    client: &mut PgClient,
    step: &Step,
    manner: Manner,
) -> Result<(), StoreError> {
    let tx = client.transaction().await?;
    limit(&tx, manner, step.impact == Impact::ShortLock).await?;
    for statement in &step.statements {
        tx.batch_execute(statement).await?;
    }
    commit(tx).await
}

/// A lock is waited for briefly; what reads or writes the whole table may take its time after that.
async fn limit(
    tx: &deadpool_postgres::Transaction<'_>,
    manner: Manner,
    is_short: bool,
) -> Result<(), StoreError> {
    let millis = manner.lock_timeout.as_millis();
    let statement = if is_short { "" } else { "; set local statement_timeout = 0" };
    Ok(tx.batch_execute(&format!("set local lock_timeout = {millis}{statement}")).await?)
}

/// Nothing else may be sent with it, or the server makes a transaction of both.
async fn alone(client: &mut PgClient, step: &Step) -> Result<(), StoreError> {
    for statement in &step.statements {
        client.batch_execute(statement).await?;
    }
    Ok(())
}

/// Goes through the table block by block, until a pass finds nothing.
async fn backfill(
    store: &PgStore,
    column: &BoundColumn,
    renamed: &Renamed,
    step: &Step,
    manner: Manner,
) -> Result<(), SchemaEnumError> {
    let sql = backfill_blocks(&column.spec, &column.target, renamed);
    for _ in 0..PASSES {
        let blocks =
            patiently(store, step, manner, async |client| blocks(client, &column.target).await);
        let (blocks, mut changed) = (blocks.await?, 0);
        // What is added meanwhile lies behind the last block, or in one that has room again.
        for first in (0..=blocks).step_by(BLOCKS) {
            changed += patiently(store, step, manner, async |client| {
                batch(client, &sql, first, manner).await
            })
            .await?;
        }
        if changed == 0 {
            return Ok(());
        }
        let (table, from) = (&step.table, &renamed.from);
        tracing::info!(%table, %from, changed, "schema_enum.backfilled");
    }
    Err(SchemaEnumError::LockBusy { table: step.table.clone(), tries: manner.tries })
}

async fn batch(
    client: &mut PgClient,
    sql: &str,
    first: i64,
    manner: Manner,
) -> Result<u64, StoreError> {
    let tx = client.transaction().await?;
    limit(&tx, manner, true).await?;
    let end = first.saturating_add(64);
    let changed = tx.execute(sql, &[&format!("({first},0)"), &format!("({end},0)")]).await?;
    commit(tx).await?;
    Ok(changed)
}

/// The blocks of the table; of the largest of its partitions.
async fn blocks(client: &mut PgClient, target: &Target) -> Result<i64, StoreError> {
    let sql = "select coalesce(max(pg_relation_size(relid)), 0) / \
               current_setting('block_size')::bigint from pg_partition_tree(to_regclass($1)) \
               where isleaf";
    Ok(client.query_one(sql, &[&target.table.to_string()]).await?.get(0))
}

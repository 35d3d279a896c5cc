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
const BLOCKS: u64 = 64;

/// LIMIT: passes of a backfill. Old code that still writes the old label would keep it going.
const PASSES: usize = 10;

pub(super) async fn run(
    store: &PgStore,
    column: &BoundColumn,
    step: &Step,
    manner: Manner,
) -> Result<(), SchemaEnumError> {
    let patience = Patience { store, table: &step.table, manner };
    match step.impact {
        Impact::ShortLock | Impact::Scan | Impact::Rewrite | Impact::BlocksWriters => {
            patience.run(&Work::InTransaction(step)).await.map(drop)
        }
        Impact::Alone => patience.run(&Work::Alone(step)).await.map(drop),
        Impact::Batches => {
            for renamed in renames(&column.spec, step) {
                backfill(&patience, column, renamed).await?;
            }
            Ok(())
        }
    }
}

/// What is tried until no lock is in its way.
enum Work<'a> {
    /// All statements of a step, or none.
    InTransaction(&'a Step),
    /// Each statement by itself: sent together, the server would make a transaction of them.
    Alone(&'a Step),
    /// How many blocks the table has.
    CountBlocks(&'a Target),
    /// Changes the rows of some blocks, from this one on.
    Batch { sql: &'a str, first: u64 },
}

impl Work<'_> {
    /// How many blocks there are, or how many rows were changed.
    async fn run(&self, client: &mut PgClient, manner: Manner) -> Result<u64, StoreError> {
        match self {
            Self::InTransaction(step) => {
                let tx = client.transaction().await?;
                limit(&tx, manner, step.impact == Impact::ShortLock).await?;
                for statement in &step.statements {
                    tx.batch_execute(statement).await?;
                }
                commit(tx).await.map(|()| 0)
            }
            Self::Alone(step) => {
                for statement in &step.statements {
                    client.batch_execute(statement).await?;
                }
                Ok(0)
            }
            Self::CountBlocks(target) => blocks(client, target).await,
            Self::Batch { sql, first } => {
                let tx = client.transaction().await?;
                limit(&tx, manner, true).await?;
                let end = first.saturating_add(BLOCKS);
                let (first, end) = (format!("({first},0)"), format!("({end},0)"));
                let changed = tx.execute(*sql, &[&first, &end]).await?;
                commit(tx).await.map(|()| changed)
            }
        }
    }
}

/// Tries again while a lock is not free, or somebody else is in the way.
struct Patience<'a> {
    store: &'a PgStore,
    table: &'a str,
    manner: Manner,
}

impl Patience<'_> {
    async fn run(&self, work: &Work<'_>) -> Result<u64, SchemaEnumError> {
        let mut pause = PAUSE_FIRST;
        for tries in 1..=self.manner.tries {
            let mut client = self.store.client().await?;
            match work.run(&mut client, self.manner).await {
                Ok(done) => return Ok(done),
                Err(StoreError::Timeout) => {
                    tracing::debug!(table = self.table, tries, "schema_enum.lock_busy");
                }
                Err(StoreError::Constraint { .. } | StoreError::EnumRejected { .. }) => {
                    return Err(SchemaEnumError::RowsDoNotFit { table: self.table.to_owned() });
                }
                Err(error) => return Err(error.into()),
            }
            // ORDER: the connection is given back before the pause.
            drop(client);
            if tries < self.manner.tries {
                sleep(pause.mul_f64(fastrand::f64().mul_add(0.5, 0.5))).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
        Err(SchemaEnumError::LockBusy { table: self.table.to_owned(), tries: self.manner.tries })
    }
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

/// Goes through the table block by block, until a pass finds nothing.
async fn backfill(
    patience: &Patience<'_>,
    column: &BoundColumn,
    renamed: &Renamed,
) -> Result<(), SchemaEnumError> {
    let sql = backfill_blocks(&column.spec, &column.target, renamed);
    for _ in 0..PASSES {
        let blocks = patience.run(&Work::CountBlocks(&column.target)).await?;
        let (mut first, mut changed) = (0, 0);
        while first <= blocks {
            changed += patience.run(&Work::Batch { sql: &sql, first }).await?;
            first += BLOCKS;
        }
        // What was written meanwhile lies behind the last block, or in one that had room again.
        if changed == 0 {
            return Ok(());
        }
        let (table, from) = (patience.table, &renamed.from);
        tracing::info!(%table, %from, changed, "schema_enum.backfilled");
    }
    let (table, value) = (patience.table.to_owned(), renamed.from.clone());
    Err(SchemaEnumError::StillWritten { table, value })
}

/// The blocks of the table; of the largest of its partitions.
async fn blocks(client: &mut PgClient, target: &Target) -> Result<u64, StoreError> {
    let sql = "select greatest(pg_relation_size(to_regclass($1)), \
               (select max(pg_relation_size(relid)) from pg_partition_tree(to_regclass($1)))) \
               / current_setting('block_size')::bigint";
    let blocks: i64 = client.query_one(sql, &[&target.table.to_string()]).await?.get(0);
    Ok(blocks.unsigned_abs())
}

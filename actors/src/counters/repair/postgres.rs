//! A batch on PostgreSQL.

use deadpool_postgres::Transaction;
use futures_util::TryFutureExt;
use futures_util::future::try_join3;
use tokio::time::Instant;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{IsolationLevel, Row};

use super::{Committed, Order, Repair, Statements, Window};
use crate::counters::error::CounterError;
use crate::counters::report::{Key, Sample};
use crate::counters::spec::Mode;
use crate::counters::store::advance;
use crate::jobs::store::postgres::defect;
use crate::jobs::tx::PostgresTx;
use crate::store::{PgStore, StoreError, commit};

/// Held until the transaction ends. ORDER: a statement of its own, before the one that looks for
/// drift: that one's snapshot must be taken when nobody else repairs any more.
const LOCK: &str = "select pg_try_advisory_xact_lock(hashtextextended($1, 7363))";

pub(super) async fn batch(
    store: &PgStore,
    repair: Repair,
    order: Order,
) -> Result<Committed, CounterError> {
    // Five statements at most, and a moment for the rest of it.
    let longest = order.statement_timeout.saturating_mul(5) + order.lock_timeout;
    let schema = store.schema().to_owned();
    let done = store.run_for(longest, async move |mut client| {
        let begun = Instant::now();
        // At a stricter level the snapshot would be older than the locks.
        let tx = client.build_transaction().isolation_level(IsolationLevel::ReadCommitted);
        let tx = tx.start().await.map_err(StoreError::from)?;
        let batch = Batch { tx: &tx, repair: &repair, order: &order };
        let (window, wrong) = batch.work().await?;
        let next = order.after(window.as_ref(), &wrong, begun.elapsed());
        advance(&PostgresTx::within(&tx, &schema), &next, repair.clock.now()).await?;
        commit(tx).await?;
        let took = begun.elapsed();
        Ok::<_, CounterError>(Committed { run: next.of(order.run, &repair.clock), took })
    });
    done.await
}

struct Batch<'a> {
    tx: &'a Transaction<'a>,
    repair: &'a Repair,
    order: &'a Order,
}

impl Batch<'_> {
    async fn work(&self) -> Result<(Option<Window>, Vec<Sample>), CounterError> {
        // In this order, without waiting for answers in between.
        let ((), (), window) = try_join3(
            self.bound().err_into::<CounterError>(),
            self.exclude(),
            self.window().err_into(),
        )
        .await?;
        let Some(window) = window else { return Ok((None, Vec::new())) };
        let wrong = match (self.order.run.mode, self.repair.subject.adds) {
            (Mode::Report, _) => self.wrong(&self.repair.statements.detect, &window).await?,
            (Mode::Repair, true) => self.add(&window).await?,
            (Mode::Repair, false) => {
                let suspects = self.wrong(&self.repair.statements.detect, &window).await?;
                self.recount(suspects.into_iter().map(|suspect| suspect.key).collect()).await?
            }
        };
        Ok((Some(window), wrong))
    }

    /// A crash of the server may take back the last batches, each whole and with its cursor: they are
    /// done again. The end of the job waits for the disk, and with it for all of them.
    async fn bound(&self) -> Result<(), StoreError> {
        let Order { lock_timeout, statement_timeout, .. } = self.order;
        let set = format!(
            "set local lock_timeout = {}; set local statement_timeout = {}; \
             set local synchronous_commit = off",
            lock_timeout.as_millis(),
            statement_timeout.as_millis()
        );
        Ok(self.tx.batch_execute(&set).await?)
    }

    /// Who only looks excludes nobody.
    async fn exclude(&self) -> Result<(), CounterError> {
        if self.order.run.mode == Mode::Report {
            return Ok(());
        }
        let name = self.repair.subject.lock_name();
        let row = self.tx.query_typed(LOCK, &[(&name, Type::TEXT)]).await;
        let row = row.map_err(StoreError::from)?.into_iter().next();
        let free = row.map(|row| row.try_get(0)).transpose().map_err(StoreError::from)?;
        if free == Some(true) { Ok(()) } else { Err(CounterError::Busy) }
    }

    async fn window(&self) -> Result<Option<Window>, StoreError> {
        let (keys, size) = (self.repair.subject.key.len(), self.order.size);
        let full = self.after(&self.repair.statements.window, size.saturating_sub(1)).await?;
        if let Some(row) = full.first() {
            return Ok(Some(Window { last: key(row, keys)?, count: size.into() }));
        }
        let rest = self.after(&self.repair.statements.rest, size).await?;
        let Some(row) = rest.first() else { return Ok(None) };
        let count: String = row.try_get(keys)?;
        let count = count.parse().or(Err(defect("a number of parents is none")))?;
        Ok(Some(Window { last: key(row, keys)?, count }))
    }

    /// Runs one of the statements about what comes after the cursor.
    async fn after(&self, both: &[String; 2], number: u32) -> Result<Vec<Row>, StoreError> {
        let run = &self.order.run;
        let mut params = vec![number.to_string()];
        params.extend(run.cursor.iter().flatten().cloned());
        self.rows(&Statements::of(both, run), &params).await
    }

    /// Runs one of the statements over a window.
    async fn over(&self, both: &[String; 2], window: &Window) -> Result<Vec<Row>, StoreError> {
        let run = &self.order.run;
        let mut params = window.last.clone();
        params.extend(run.cursor.iter().flatten().cloned());
        self.rows(&Statements::of(both, run), &params).await
    }

    async fn wrong(&self, both: &[String; 2], window: &Window) -> Result<Vec<Sample>, StoreError> {
        let rows = self.over(both, window).await?;
        rows.iter().map(|row| sample(row, self.repair.subject.key.len())).collect()
    }

    async fn add(&self, window: &Window) -> Result<Vec<Sample>, StoreError> {
        let Repair { subject, statements, .. } = self.repair;
        let mut wrong = self.wrong(&statements.add, window).await?;
        if subject.nullable {
            let nulls = self.over(&statements.nulls, window).await?;
            let nulls = nulls.iter().map(|row| key(row, subject.key.len()));
            wrong.extend(self.recount(nulls.collect::<Result<_, _>>()?).await?);
        }
        Ok(wrong)
    }

    /// Locks, and then counts, in two statements: the second sees what those did that had the
    /// lock before.
    async fn recount(&self, suspects: Vec<Key>) -> Result<Vec<Sample>, StoreError> {
        let Repair { subject, statements, .. } = self.repair;
        if suspects.is_empty() {
            return Ok(Vec::new());
        }
        let mut columns = vec![Vec::with_capacity(suspects.len()); subject.key.len()];
        for suspect in suspects {
            columns.iter_mut().zip(suspect).for_each(|(column, part)| column.push(part));
        }
        let params = columns.iter().map(|column| (column as &(dyn ToSql + Sync), Type::TEXT_ARRAY));
        let params: Vec<_> = params.collect();
        drop(self.tx.query_typed(&statements.lock, &params).await?);
        let rows = self.tx.query_typed(&statements.recount, &params).await?;
        rows.iter().map(|row| sample(row, subject.key.len())).collect()
    }

    /// Sent with its values, so that it is planned for them: a plan for any window would be one
    /// for the whole table.
    async fn rows(&self, sql: &str, params: &[String]) -> Result<Vec<Row>, StoreError> {
        let params = params.iter().map(|param| (param as &(dyn ToSql + Sync), Type::TEXT));
        Ok(self.tx.query_typed(sql, &params.collect::<Vec<_>>()).await?)
    }
}

fn key(row: &Row, keys: usize) -> Result<Key, StoreError> {
    (0..keys).map(|column| Ok(row.try_get(column)?)).collect()
}

fn sample(row: &Row, keys: usize) -> Result<Sample, StoreError> {
    let difference: Option<String> = row.try_get(keys + 2)?;
    // `NaN` is a number to PostgreSQL.
    let difference = difference.and_then(|text| text.parse().ok());
    Ok(Sample {
        key: key(row, keys)?,
        was: row.try_get(keys)?,
        should_be: row.try_get(keys + 1)?,
        drift: difference,
    })
}

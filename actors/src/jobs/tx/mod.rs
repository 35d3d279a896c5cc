//! Transactions on either database, for operations that are written once.
//!
//! An operation is an `async fn` over [`JobTx`], or over [`Rows`] if it only reads. Its statements
//! name tables as `{mail}` and parameters as `?1`; the transaction fills in what its database calls
//! them. On SQLite nothing in it ever waits, so there it is polled once, on the thread that writes.
//!
//! The job tables themselves have statements of their own for each database: every job pays for
//! them. What each mail pays for shares transactions instead, see the mailer's ledger.

mod postgres;
mod sqlite;
mod value;

use futures_util::FutureExt;

use super::job::Job;
pub(crate) use super::store::postgres::Told;
use super::{Enqueue, Enqueued, JobCx, JobsError};
use crate::store::StoreError;

pub(crate) use postgres::{PostgresRows, PostgresTx};
pub(crate) use sqlite::{SqliteJobTx, SqliteRows};
pub(crate) use value::{Row, Value};

/// What statements run on.
pub(crate) trait Rows {
    /// Runs a statement, and returns its rows: those of a query or of `returning`.
    fn rows(
        &self,
        sql: &str,
        params: &[Value],
    ) -> impl Future<Output = Result<Vec<Row>, StoreError>>;

    /// Runs a statement that returns one row or none.
    fn row(
        &self,
        sql: &str,
        params: &[Value],
    ) -> impl Future<Output = Result<Option<Row>, StoreError>> {
        self.rows(sql, params).map(|rows| Ok(rows?.into_iter().next()))
    }
}

/// A transaction that is under way, with the job tables in it.
pub(crate) trait JobTx: Rows {
    /// Holds a name until the transaction ends; waits for whoever else does.
    fn lock(&self, name: &str) -> impl Future<Output = Result<(), StoreError>>;

    /// Stores a job.
    fn enqueue<J: Job>(
        &self,
        job: Enqueue<'_, J>,
    ) -> impl Future<Output = Result<Enqueued, JobsError>>;

    /// Ends a run.
    fn complete(&self, cx: &JobCx) -> impl Future<Output = Result<(), JobsError>>;
}

/// Runs an operation in a transaction of its own.
macro_rules! transact {
    ($store:expr, $tx:ident => $operation:expr) => {
        match $store {
            $crate::store::Store::Sqlite(store) => {
                let work = move |tx: &$crate::store::SqliteTx<'_>| {
                    let $tx = $crate::jobs::tx::SqliteJobTx::new(tx);
                    $crate::jobs::tx::at_once($operation)
                };
                store.write(work).await
            }
            $crate::store::Store::Postgres(store) => {
                let schema: std::sync::Arc<str> = store.schema().into();
                let owner = store.clone();
                let work = async move |mut client: $crate::store::PgClient| {
                    let told = $crate::jobs::tx::Told::default();
                    let transaction =
                        client.transaction().await.map_err($crate::store::StoreError::from)?;
                    let done = {
                        let $tx = $crate::jobs::tx::PostgresTx::within(&transaction, &schema);
                        let $tx = $tx.told_by(&told);
                        $operation.await?
                    };
                    $crate::store::postgres::commit(transaction).await?;
                    told.tell(&owner);
                    Ok(done)
                };
                store.run(work).await
            }
        }
    };
}

pub(crate) use transact;

/// Runs an operation that only reads, beside whoever writes. Each of its statements sees what was
/// committed before it.
macro_rules! look {
    ($store:expr, $rows:ident => $operation:expr) => {
        match $store {
            $crate::store::Store::Sqlite(store) => {
                let work = move |connection: &rusqlite::Connection| {
                    let $rows = $crate::jobs::tx::SqliteRows::new(connection);
                    $crate::jobs::tx::at_once($operation)
                };
                store.read(work).await
            }
            $crate::store::Store::Postgres(store) => {
                let schema: std::sync::Arc<str> = store.schema().into();
                let work = async move |client: $crate::store::PgClient| {
                    let $rows = $crate::jobs::tx::PostgresRows::reading(&client, &schema);
                    $operation.await
                };
                store.run(work).await
            }
        }
    };
}

pub(crate) use look;

/// What an operation comes to that never waits.
pub(crate) fn at_once<T, E: From<StoreError>>(
    operation: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    operation.now_or_never().unwrap_or_else(|| {
        let waits = std::io::Error::other("an operation on SQLite waits for something");
        Err(StoreError::Failed(StoreError::source(waits)).into())
    })
}

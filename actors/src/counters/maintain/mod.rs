//! Keeping counters from drifting: triggers, and the flusher that folds deltas.

mod flusher;

use std::time::Duration;

use super::error::CounterError;
use super::sql::{self, Subject};
use crate::store::{PgStore, SqliteStore, Store, StoreError, commit};

pub use flusher::CounterFlush;

/// LIMIT: deltas that one transaction folds.
pub(super) const FOLD: u32 = 2_000;
/// How long making triggers waits for the tables; everybody who writes waits behind it.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);

/// The statements that make the triggers of a counter, for a migration of the service's own.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Plan {
    /// Make the triggers, or make them anew. Run them in one transaction. None where the
    /// service's own statements keep the counter.
    pub make: Vec<String>,
    /// Take them away again.
    pub remove: Vec<String>,
    /// Whether triggers of these names are there already.
    pub installed: bool,
}

impl Plan {
    pub(super) fn new(subject: &Subject, installed: bool) -> Self {
        let make = sql::triggers::make(subject);
        let remove = if make.is_empty() { Vec::new() } else { sql::triggers::drop(subject) };
        Self { make, remove, installed }
    }
}

/// As a script: a statement ends with `;` at the end of its line.
impl std::fmt::Display for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.make.iter().try_for_each(|statement| writeln!(f, "{statement};"))
    }
}

/// Runs statements in one transaction.
pub(super) async fn apply(store: &Store, statements: Vec<String>) -> Result<(), StoreError> {
    match store {
        Store::Sqlite(store) => {
            let work = store.write(move |tx| {
                statements
                    .iter()
                    .try_for_each(|one| tx.execute_batch(one))
                    .map_err(StoreError::from)
            });
            work.await
        }
        Store::Postgres(store) => {
            let work = store.run(async move |mut client| {
                let tx = client.transaction().await?;
                let limit = LOCK_TIMEOUT.as_millis();
                tx.batch_execute(&format!("set local lock_timeout = {limit}")).await?;
                for one in &statements {
                    tx.batch_execute(one).await?;
                }
                commit(tx).await
            });
            work.await
        }
    }
}

/// Folds up to [`FOLD`] deltas of a counter, in one transaction. How many there were.
pub(super) async fn fold(store: &Store, subject: &Subject) -> Result<u32, CounterError> {
    let folded = match store {
        Store::Sqlite(store) => fold_in_sqlite(store, subject).await?,
        Store::Postgres(store) => fold_in_postgres(store, subject).await?,
    };
    Ok(folded.parse().unwrap_or(0))
}

async fn fold_in_sqlite(store: &SqliteStore, subject: &Subject) -> Result<String, StoreError> {
    let [look, add, take] = sql::flush::sqlite(subject);
    let work = store.write(move |tx| {
        let found = tx.prepare_cached(&look)?.query_row([FOLD.to_string()], |row| {
            Ok((row.get::<_, Option<String>>(0)?, row.get::<_, String>(1)?))
        })?;
        let (Some(last), count) = found else { return Ok("0".to_owned()) };
        tx.prepare_cached(&add)?.execute([&last])?;
        tx.prepare_cached(&take)?.execute([&last])?;
        Ok::<_, StoreError>(count)
    });
    work.await
}

async fn fold_in_postgres(store: &PgStore, subject: &Subject) -> Result<String, StoreError> {
    let sql = sql::flush::postgres(subject);
    let work = store.run(async move |mut client| {
        let tx = client.transaction().await?;
        let statement = tx.prepare_cached(&sql).await?;
        let row = tx.query_one(&statement, &[&FOLD.to_string()]).await?;
        let count = row.try_get(0)?;
        commit(tx).await?;
        Ok::<_, StoreError>(count)
    });
    work.await
}

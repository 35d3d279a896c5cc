//! On PostgreSQL.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use deadpool_postgres::Transaction;
use tokio_postgres::types::Type;

use super::rows::{self, StateCount};
use super::sql::Sql;
use super::{Again, Enqueuer, Inserted, Settle};
use crate::inbox::error::InboxError;
use crate::inbox::event::{EventState, InboxId, NewEvent, Row, Turn};
use crate::inbox::filter::EventFilter;
use crate::inbox::run::EventJob;
use crate::jobs::JobId;
use crate::jobs::store::postgres::{Param, Session};
use crate::store::{PgStore, StoreError, Timestamp, commit};

/// Orders those that join a line: within a transaction, the place behind the last is only known
/// when nobody else can take it. The text is a line's source and subject.
const LOCK_LINE: &str = "select pg_advisory_xact_lock(hashtextextended($1, 7362))";

/// The table on PostgreSQL.
#[derive(Debug, Clone)]
pub(in crate::inbox) struct PgTables {
    store: PgStore,
    sql: Arc<Sql>,
}

impl PgTables {
    pub(super) fn new(store: PgStore) -> Self {
        let sql = Arc::new(Sql::postgres(store.schema()));
        Self { store, sql }
    }

    pub(super) async fn insert(
        &self,
        enqueuer: Enqueuer,
        events: Vec<NewEvent>,
        now: Timestamp,
    ) -> Result<Vec<Inserted>, InboxError> {
        let sql = Arc::clone(&self.sql);
        let inserting = self.store.run(move |mut client| async move {
            let tx = client.transaction().await.map_err(StoreError::from)?;
            let line = |event: &NewEvent| Some((Arc::clone(&event.source), event.line.clone()?));
            lock_lines(&tx, events.iter().filter_map(line)).await?;
            let mut all = Vec::with_capacity(events.len());
            for event in &events {
                all.push(insert_one(&tx, &sql, &enqueuer, event, now).await?);
            }
            commit(tx).await?;
            Ok::<_, InboxError>(all)
        });
        inserting.await
    }

    pub(super) async fn load(&self, id: InboxId) -> Result<Option<(Row, Bytes)>, StoreError> {
        let sql = Arc::clone(&self.sql);
        let loading = self.store.run(move |client| async move {
            let statement = client.prepare_cached(&sql.load).await?;
            let found = client.query_opt(&statement, &[&id.0]).await?;
            found.map(|row| Ok((rows::event(&row)?, rows::body(&row)?))).transpose()
        });
        loading.await
    }

    pub(super) async fn find(
        &self,
        source: Arc<str>,
        event_id: Arc<str>,
    ) -> Result<Option<InboxId>, StoreError> {
        let sql = Arc::clone(&self.sql);
        let finding = self.store.run(move |client| async move {
            let statement = client.prepare_cached(&sql.find).await?;
            let found = client.query_opt(&statement, &[&&*source, &&*event_id]).await?;
            Ok::<_, StoreError>(found.map(|row| row.try_get(0)).transpose()?.map(InboxId))
        });
        finding.await
    }

    pub(super) async fn ahead(&self, source: Arc<str>, turn: Turn) -> Result<i64, StoreError> {
        let sql = Arc::clone(&self.sql);
        let asking = self.store.run(move |client| async move {
            let statement = client.prepare_cached(&sql.ahead).await?;
            let row = client.query_one(&statement, &[&&*source, &&*turn.line, &turn.turn]).await?;
            Ok::<_, StoreError>(row.try_get(0)?)
        });
        asking.await
    }

    pub(super) async fn next(
        &self,
        source: Arc<str>,
        turn: Turn,
    ) -> Result<Option<JobId>, StoreError> {
        let sql = Arc::clone(&self.sql);
        let asking = self.store.run(move |client| async move {
            let statement = client.prepare_cached(&sql.next).await?;
            let found =
                client.query_opt(&statement, &[&&*source, &&*turn.line, &turn.turn]).await?;
            Ok::<_, StoreError>(found.map(|row| row.try_get(0)).transpose()?.map(JobId))
        });
        asking.await
    }

    pub(super) async fn list(
        &self,
        filter: EventFilter,
        limit: u32,
    ) -> Result<Vec<Row>, StoreError> {
        let sql = Arc::clone(&self.sql);
        let listing = self.store.run(move |client| async move {
            let statement = client.prepare_cached(&sql.list).await?;
            let is_live = i64::from(filter.state == EventState::Received);
            let limit = i64::from(limit);
            let (source, event_type) = (filter.source.as_deref(), filter.event_type.as_deref());
            let found = client
                .query(
                    &statement,
                    &[
                        &filter.state.stored(),
                        &filter.after.0,
                        &source,
                        &event_type,
                        &filter.from.0,
                        &filter.until.0,
                        &is_live,
                        &limit,
                    ],
                )
                .await?;
            found.iter().map(rows::event).collect()
        });
        listing.await
    }

    pub(super) async fn counts(&self) -> Result<Vec<StateCount>, StoreError> {
        let sql = Arc::clone(&self.sql);
        let counting = self.store.run(move |client| async move {
            let statement = client.prepare_cached(&sql.counts).await?;
            client.query(&statement, &[]).await?.iter().map(rows::state_count).collect()
        });
        counting.await
    }

    /// `false`: another run has the say over the event.
    pub(super) async fn settle(
        &self,
        session: Session<'_>,
        settle: &Settle,
    ) -> Result<bool, StoreError> {
        let Settle { id, job, state, now } = *settle;
        let state = state.stored();
        let row: [Param<'_>; 4] =
            [(&id.0, Type::INT8), (&job.0, Type::INT8), (&state, Type::TEXT), (&now.0, Type::INT8)];
        Ok(!session.rows(&self.sql.settle, &row).await?.is_empty())
    }

    pub(super) async fn again(
        &self,
        enqueuer: Enqueuer,
        events: Vec<Again>,
    ) -> Result<u64, InboxError> {
        let sql = Arc::clone(&self.sql);
        let replaying = self.store.run(move |mut client| async move {
            let tx = client.transaction().await.map_err(StoreError::from)?;
            let line = |event: &Again| Some((Arc::clone(&event.source), event.line.clone()?));
            lock_lines(&tx, events.iter().filter_map(line)).await?;
            let mut count = 0;
            for event in &events {
                count += u64::from(again_one(&tx, &sql, &enqueuer, event).await?);
            }
            commit(tx).await?;
            Ok::<_, InboxError>(count)
        });
        replaying.await
    }

    pub(super) async fn prune(
        &self,
        settled: Timestamp,
        dead: Timestamp,
        limit: u32,
    ) -> Result<u64, StoreError> {
        let sql = Arc::clone(&self.sql);
        let pruning = self.store.run(move |client| async move {
            let limit = i64::from(limit);
            Ok::<_, StoreError>(client.execute(&sql.prune, &[&settled.0, &dead.0, &limit]).await?)
        });
        pruning.await
    }

    pub(in crate::inbox) const fn store(&self) -> &PgStore {
        &self.store
    }
}

/// ORDER: sorted, so that no two transactions wait for each other.
async fn lock_lines(
    tx: &Transaction<'_>,
    lines: impl Iterator<Item = (Arc<str>, String)>,
) -> Result<(), StoreError> {
    let names = lines.map(|(source, line)| format!("{source}/{line}"));
    let names: BTreeSet<String> = names.collect();
    for name in names {
        tx.execute(LOCK_LINE, &[&name]).await?;
    }
    Ok(())
}

async fn insert_one(
    tx: &Transaction<'_>,
    sql: &Sql,
    enqueuer: &Enqueuer,
    event: &NewEvent,
    now: Timestamp,
) -> Result<Inserted, InboxError> {
    let row = insert_row(tx, sql, event, now).await?;
    let cell = |place| row.try_get::<_, i64>(place).map_err(StoreError::from);
    let inserted =
        Inserted { id: InboxId(cell(0)?), is_duplicate: cell(1)? > 0, is_conflict: cell(2)? != 0 };
    if event.state == EventState::Received && !inserted.is_duplicate {
        attach(tx, sql, enqueuer, inserted.id).await?;
    }
    Ok(inserted)
}

async fn insert_row(
    tx: &Transaction<'_>,
    sql: &Sql,
    event: &NewEvent,
    now: Timestamp,
) -> Result<tokio_postgres::Row, StoreError> {
    let statement = tx.prepare_cached(&sql.insert).await?;
    let inserted = tx
        .query_one(
            &statement,
            &[
                &&*event.source,
                &event.event_id,
                &event.event_type,
                &event.version,
                &event.subject,
                &event.line,
                &event.occurred_at.map(|at| at.0),
                &now.0,
                &event.state.stored(),
                &event.reason,
                &event.key.map(i64::from),
                &&*event.headers,
                &&event.body[..],
                &&event.sha256[..],
            ],
        )
        .await?;
    Ok(inserted)
}

/// Stores the job that handles an event.
async fn attach(
    tx: &Transaction<'_>,
    sql: &Sql,
    enqueuer: &Enqueuer,
    event: InboxId,
) -> Result<(), InboxError> {
    let enqueue = enqueuer.jobs.enqueue(EventJob { event }).class(enqueuer.class);
    let job = enqueue.in_postgres(tx).await?.id().ok_or_else(super::left_out)?;
    let statement = tx.prepare_cached(&sql.attach).await.map_err(StoreError::from)?;
    tx.execute(&statement, &[&event.0, &job.0]).await.map_err(StoreError::from)?;
    Ok(())
}

/// `false`: somebody else has changed it meanwhile.
async fn again_one(
    tx: &Transaction<'_>,
    sql: &Sql,
    enqueuer: &Enqueuer,
    event: &Again,
) -> Result<bool, InboxError> {
    let changed = tx
        .execute(
            &sql.again,
            &[
                &event.id.0,
                &event.state.stored(),
                &event.replays,
                &event.event_type,
                &event.version,
                &event.subject,
                &event.line,
                &event.occurred_at.map(|at| at.0),
                &&*event.source,
            ],
        )
        .await;
    if changed.map_err(StoreError::from)? == 0 {
        return Ok(false);
    }
    attach(tx, sql, enqueuer, event.id).await?;
    Ok(true)
}

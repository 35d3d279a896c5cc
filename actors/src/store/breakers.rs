//! What breakers remember, in the tables of the durable store.
//!
//! The breaker counts times from now, the tables in wall-clock time; here one becomes the other.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rusqlite::OptionalExtension;

use super::{PgStore, SqliteStore, Store, StoreError, Timestamp, WallClock};
use crate::breaker::{BreakerState, DependencyId, Memory, MemoryError, Remembered};

/// Keeps the state of breakers in the durable store, for
/// [`BreakerBuilder::memory`](crate::breaker::BreakerBuilder::memory).
///
/// Processes that share a database share what is kept: for each dependency the last change that
/// any of them made. A running one never reads it, so replicas still do not talk.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
///
/// use steadfast_actors::breaker::{Breaker, BreakerBuilder};
/// use steadfast_actors::store::{BreakerMemory, Store};
///
/// fn rates(store: &Store) -> BreakerBuilder {
///     Breaker::builder("rates").memory(Arc::new(BreakerMemory::new(store)))
/// }
/// ```
#[derive(Debug, Clone)]
pub struct BreakerMemory {
    store: Store,
    clock: WallClock,
}

impl BreakerMemory {
    /// Keeps it in this store.
    #[must_use]
    pub fn new(store: &Store) -> Self {
        Self { store: store.clone(), clock: WallClock::system() }
    }

    /// Where the wall-clock time comes from. Default [`WallClock::system`].
    #[must_use]
    pub fn clock(mut self, clock: WallClock) -> Self {
        self.clock = clock;
        self
    }
}

impl Memory for BreakerMemory {
    fn save(&self, remembered: Remembered) -> BoxFuture<'static, Result<(), MemoryError>> {
        let row = Row::of(&remembered, self.clock.now());
        let dependency = remembered.dependency;
        match &self.store {
            Store::Sqlite(store) => in_sqlite::save(store, dependency, row).boxed(),
            Store::Postgres(store) => in_postgres::save(store, dependency, row).boxed(),
        }
    }

    fn recall(
        &self,
        dependency: DependencyId,
    ) -> BoxFuture<'static, Result<Option<Remembered>, MemoryError>> {
        let clock = self.clock.clone();
        let found = match &self.store {
            Store::Sqlite(store) => in_sqlite::find(store, dependency).boxed(),
            Store::Postgres(store) => in_postgres::find(store, dependency).boxed(),
        };
        async move {
            let row = found.await?;
            Ok(row.and_then(|row| row.remembered(dependency, clock.now())))
        }
        .boxed()
    }
}

/// A row of the table, but for its key.
#[derive(Debug)]
struct Row {
    state: String,
    until: Option<i64>,
    openings: i16,
    cause: Arc<str>,
    changed_at: i64,
}

impl Row {
    fn of(remembered: &Remembered, now: Timestamp) -> Self {
        Self {
            state: remembered.state.as_str().to_owned(),
            until: remembered.lasts.map(|lasts| now.after(lasts).0),
            openings: i16::try_from(remembered.openings).unwrap_or(i16::MAX),
            cause: Arc::clone(&remembered.cause),
            changed_at: now.before(remembered.age).0,
        }
    }

    /// `None` for a state of another version of this library: it is as if nothing were kept.
    fn remembered(self, dependency: DependencyId, now: Timestamp) -> Option<Remembered> {
        let Some(state) = BreakerState::parse(&self.state) else {
            tracing::warn!(%dependency, state = self.state, "breaker.unknown_state_ignored");
            return None;
        };
        Some(Remembered {
            dependency,
            state,
            lasts: self.until.map(|until| Timestamp(until).since(now)),
            openings: u16::try_from(self.openings).unwrap_or(0),
            cause: self.cause,
            age: now.since(Timestamp(self.changed_at)),
        })
    }
}

mod in_sqlite {
    use super::*;

    const SAVE: &str = "\
insert into sf_breaker (dependency, state, until, openings, cause, changed_at)
values (?1, ?2, ?3, ?4, ?5, ?6)
on conflict (dependency) do update set state = excluded.state, until = excluded.until,
  openings = excluded.openings, cause = excluded.cause, changed_at = excluded.changed_at";

    const FIND: &str = "\
select state, until, openings, cause, changed_at from sf_breaker where dependency = ?1";

    pub(super) fn save(
        store: &SqliteStore,
        dependency: DependencyId,
        row: Row,
    ) -> impl Future<Output = Result<(), MemoryError>> + Send + 'static {
        let written = store.write(move |tx| {
            let Row { state, until, openings, cause, changed_at } = row;
            let values = (dependency.as_str(), state, until, openings, &*cause, changed_at);
            tx.prepare_cached(SAVE)?.execute(values)?;
            Ok::<_, StoreError>(())
        });
        async { Ok(written.await?) }
    }

    pub(super) fn find(
        store: &SqliteStore,
        dependency: DependencyId,
    ) -> impl Future<Output = Result<Option<Row>, MemoryError>> + Send + 'static {
        let found = store.read(move |connection| {
            let mut find = connection.prepare_cached(FIND)?;
            Ok::<_, StoreError>(find.query_row((dependency.as_str(),), read).optional()?)
        });
        async { Ok(found.await?) }
    }

    fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
        Ok(Row {
            state: row.get(0)?,
            until: row.get(1)?,
            openings: row.get(2)?,
            cause: row.get(3)?,
            changed_at: row.get(4)?,
        })
    }
}

mod in_postgres {
    use super::*;

    const SAVE: &str = "\
insert into {schema}.breaker (dependency, state, until, openings, cause, changed_at)
values ($1, $2, $3, $4, $5, $6)
on conflict (dependency) do update set state = excluded.state, until = excluded.until,
  openings = excluded.openings, cause = excluded.cause, changed_at = excluded.changed_at";

    const FIND: &str = "\
select state, until, openings, cause, changed_at from {schema}.breaker where dependency = $1";

    pub(super) fn save(
        store: &PgStore,
        dependency: DependencyId,
        row: Row,
    ) -> impl Future<Output = Result<(), MemoryError>> + Send + 'static {
        let sql = store.sql(SAVE);
        let written = store.run(move |client| async move {
            let Row { state, until, openings, cause, changed_at } = row;
            let save = client.prepare_cached(&sql).await?;
            let (dependency, cause) = (dependency.as_str(), &*cause);
            client
                .execute(&save, &[&dependency, &state, &until, &openings, &cause, &changed_at])
                .await?;
            Ok::<_, StoreError>(())
        });
        async { Ok(written.await?) }
    }

    pub(super) fn find(
        store: &PgStore,
        dependency: DependencyId,
    ) -> impl Future<Output = Result<Option<Row>, MemoryError>> + Send + 'static {
        let sql = store.sql(FIND);
        let found = store.run(move |client| async move {
            let find = client.prepare_cached(&sql).await?;
            let row = client.query_opt(&find, &[&dependency.as_str()]).await?;
            Ok::<_, StoreError>(row.as_ref().map(read).transpose()?)
        });
        async { Ok(found.await?) }
    }

    fn read(row: &tokio_postgres::Row) -> Result<Row, tokio_postgres::Error> {
        Ok(Row {
            state: row.try_get(0)?,
            until: row.try_get(1)?,
            openings: row.try_get(2)?,
            cause: Arc::from(row.try_get::<_, &str>(3)?),
            changed_at: row.try_get(4)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::task::LocalSet;

    use super::*;
    use crate::breaker::Breaker;
    use crate::kernel::Tree;
    use crate::store::postgres::testing::TestSchema;
    use crate::store::{ManualWallClock, SqliteOptions};

    const SECOND: Duration = Duration::from_secs(1);

    fn rates(state: BreakerState, lasts: Option<Duration>) -> Remembered {
        Remembered {
            dependency: DependencyId::parse("rates").unwrap(),
            state,
            lasts,
            openings: 3,
            cause: "4 of 4 calls failed".into(),
            age: SECOND,
        }
    }

    fn clock() -> (WallClock, ManualWallClock) {
        WallClock::manual(Timestamp(1_800_000_000_000))
    }

    /// What a memory promises, whatever it is made of.
    async fn keeps_its_promises(memory: &BreakerMemory, hand: &ManualWallClock) {
        let rates_id = DependencyId::parse("rates").unwrap();
        assert_eq!(memory.recall(rates_id).await.unwrap(), None);
        for state in ["closed", "open", "forced_open", "disabled", "metrics_only"] {
            for lasts in [None, Some(60 * SECOND)] {
                let saved = rates(BreakerState::parse(state).unwrap(), lasts);
                memory.save(saved.clone()).await.unwrap();
                hand.advance(20 * SECOND);
                let later = lasts.map(|lasts| lasts - 20 * SECOND);
                let expect = Remembered { lasts: later, age: 21 * SECOND, ..saved };
                assert_eq!(memory.recall(rates_id).await.unwrap(), Some(expect));
            }
        }
        hand.advance(3_600 * SECOND);
        let over = memory.recall(rates_id).await.unwrap().unwrap();
        assert_eq!(over.lasts, Some(Duration::ZERO));
        let other = DependencyId::parse("mail").unwrap();
        assert_eq!(memory.recall(other).await.unwrap(), None);
        let most = Remembered { openings: u16::MAX, ..rates(BreakerState::Open, None) };
        memory.save(most).await.unwrap();
        assert_eq!(memory.recall(rates_id).await.unwrap().unwrap().openings, 32_767);
    }

    #[tokio::test]
    async fn sqlite_keeps_the_time_that_is_left() {
        let store = SqliteStore::open(SqliteOptions::memory()).await.unwrap();
        let (clock, hand) = clock();
        keeps_its_promises(&BreakerMemory::new(&store.clone().into()).clock(clock), &hand).await;
    }

    #[tokio::test]
    async fn postgres_keeps_the_time_that_is_left() {
        let Some(schema) = TestSchema::find().await else { return };
        let (store, (clock, hand)) = (schema.store().await, clock());
        keeps_its_promises(&BreakerMemory::new(&store.clone().into()).clock(clock), &hand).await;
        store.close().await;
    }

    #[tokio::test]
    async fn a_state_of_another_version_is_as_if_nothing_were_kept() {
        let store = SqliteStore::open(SqliteOptions::memory()).await.unwrap();
        let memory = BreakerMemory::new(&store.clone().into());
        memory.save(rates(BreakerState::Open, None)).await.unwrap();
        let rename = "update sf_breaker set state = 'ajar'";
        let changed = store.write(move |tx| Ok::<_, StoreError>(tx.execute(rename, ())?));
        assert_eq!(changed.await.unwrap(), 1);
        let recalled = memory.recall(DependencyId::parse("rates").unwrap()).await;
        assert_eq!(recalled.unwrap(), None);
    }

    #[tokio::test]
    async fn a_store_that_is_closed_says_so() {
        let store = SqliteStore::open(SqliteOptions::memory()).await.unwrap();
        let memory = BreakerMemory::new(&store.clone().into());
        store.close().await;
        assert!(memory.save(rates(BreakerState::Open, None)).await.is_err());
    }

    /// Waits until it is so, at most 10 s.
    async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
        for _ in 0..2_000 {
            if so().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("never: {what}");
    }

    /// One process forces a breaker open; another one begins with it.
    async fn survives(first: BreakerMemory, second: BreakerMemory) {
        let rates_id = DependencyId::parse("rates").unwrap();
        let start = |tree: &Tree, memory: &BreakerMemory| {
            Breaker::builder("rates").memory(Arc::new(memory.clone())).start(tree).unwrap()
        };
        let tree = Tree::new();
        let end = tokio::time::Instant::now() + 600 * SECOND;
        start(&tree, &first).force_open(Some(end), "maintenance").await.unwrap();
        until("saved", async || first.recall(rates_id).await.unwrap().is_some()).await;
        tree.stop(SECOND).await;
        drop(first);
        let tree = Tree::new();
        let breaker = start(&tree, &second);
        let state = async || breaker.snapshot().state == BreakerState::ForcedOpen;
        until("forced open again", state).await;
        let left = breaker.snapshot().remaining.unwrap();
        assert!((500 * SECOND..=600 * SECOND).contains(&left), "{left:?}");
        tree.stop(SECOND).await;
    }

    #[tokio::test]
    async fn an_operators_command_survives_a_restart_on_sqlite() {
        let folder = tempfile::tempdir().unwrap();
        let open = || SqliteStore::open(SqliteOptions::file(folder.path().join("store.db")));
        LocalSet::new()
            .run_until(async {
                let first = open().await.unwrap();
                let second = open().await.unwrap();
                survives(
                    BreakerMemory::new(&first.clone().into()),
                    BreakerMemory::new(&second.clone().into()),
                )
                .await;
            })
            .await;
    }

    #[tokio::test]
    async fn an_operators_command_survives_a_restart_on_postgres() {
        let Some(schema) = TestSchema::find().await else { return };
        LocalSet::new()
            .run_until(async {
                let (first, second) = (schema.store().await, schema.store().await);
                survives(
                    BreakerMemory::new(&first.clone().into()),
                    BreakerMemory::new(&second.clone().into()),
                )
                .await;
                first.close().await;
                second.close().await;
            })
            .await;
    }
}

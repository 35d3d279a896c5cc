//! The inbox: what it refuses, keeps and hands on.

mod corpus;
mod declaring;
mod handling;
mod lines;
mod notices;
mod processes;
mod raw_json;
mod receiving;
mod replaying;
mod silence;
pub(crate) mod sns;
mod verifying;
#[cfg(feature = "sqlx")]
mod with_sqlx;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use super::*;
use crate::jobs::{Backoff, JobResult, Jobs, JobsBuilder};
use crate::kernel::Tree;
use crate::store::postgres::testing::TestSchema;
use crate::store::{Durability, SqliteOptions, SqliteStore, Store, StoreError};

/// LIMIT: longer than anything here takes on a machine that is busy.
const WITHIN: Duration = Duration::from_secs(60);
/// A source that believes everybody.
const SHOP: &str = "shop";

/// A database of its own, with a table for what handlers do.
enum Base {
    Sqlite(tempfile::TempDir),
    Postgres(TestSchema),
}

impl Base {
    fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().unwrap())
    }

    async fn postgres() -> Option<Self> {
        Some(Self::Postgres(TestSchema::find().await?))
    }

    async fn open(&self) -> Store {
        match self {
            Self::Sqlite(folder) => {
                let options = SqliteOptions::file(folder.path().join("inbox.db"));
                let options = options.durability(Durability::Normal);
                let store = SqliteStore::open(options).await.unwrap();
                let make = "create table if not exists effect (event text not null)";
                store.write(move |tx| Ok::<_, StoreError>(tx.execute_batch(make)?)).await.unwrap();
                store.into()
            }
            Self::Postgres(schema) => {
                let store = schema.store().await;
                let make =
                    format!("create table if not exists {}.effect (event text)", schema.name());
                schema.observer().await.batch_execute(&make).await.unwrap();
                store.into()
            }
        }
    }

    /// An inbox of its own in this database, as another process would have it.
    async fn bench(&self, change: impl FnOnce(InboxBuilder) -> InboxBuilder) -> Bench {
        self.bench_with(|jobs| jobs, change).await
    }

    async fn bench_with(
        &self,
        jobs: impl FnOnce(JobsBuilder) -> JobsBuilder,
        change: impl FnOnce(InboxBuilder) -> InboxBuilder,
    ) -> Bench {
        Bench::in_store(self.open().await, jobs, change).await
    }
}

/// Makes a test of each claim for each database.
macro_rules! on_each_database {
    ($($claim:ident,)*) => {
        mod sqlite {
            $(
                #[actix::test]
                async fn $claim() {
                    super::$claim(super::Base::sqlite()).await;
                }
            )*
        }

        mod postgres {
            $(
                #[actix::test]
                async fn $claim() {
                    if let Some(base) = super::Base::postgres().await {
                        super::$claim(base).await;
                    }
                }
            )*
        }
    };
}
use on_each_database;

/// An inbox that runs.
struct Bench {
    tree: Tree,
    store: Store,
    jobs: Jobs,
    inbox: Inbox,
}

fn shop() -> Source {
    let subject = Place::Pointer("/subject".into());
    Source::unverified(SHOP, Envelope::common().subject(subject))
}

impl Bench {
    async fn in_store(
        store: Store,
        jobs: impl FnOnce(JobsBuilder) -> JobsBuilder,
        change: impl FnOnce(InboxBuilder) -> InboxBuilder,
    ) -> Self {
        let tree = Tree::new();
        let builder = Inbox::builder(&store)
            .backoff(Backoff::fixed(Duration::from_millis(5)).unwrap())
            .source(shop());
        let queue = Jobs::builder(&store).beat_every(Duration::from_millis(50)).threads(2);
        let (registered, queue) = change(builder).register(jobs(queue)).unwrap();
        let jobs = queue.start(&tree).await.unwrap();
        let inbox = registered.start(&tree, &jobs);
        Self { tree, store, jobs, inbox }
    }

    /// What the shop sends; the body is what the words say it is.
    async fn send(&self, body: impl Into<Bytes>) -> Accepted {
        let receipt = self.inbox.receive(SHOP, &Headers::default(), body.into()).await.unwrap();
        let [event] = receipt.events.try_into().unwrap();
        event
    }

    async fn info(&self, id: InboxId) -> EventInfo {
        self.inbox.find(id).await.unwrap().expect("the event is known")
    }

    async fn reaches(&self, id: InboxId, state: EventState) -> EventInfo {
        let info = async || Some(self.info(id).await).filter(|info| info.state == state);
        eventually(info, &format!("event {id} is {state:?}")).await
    }

    fn counts(&self) -> SourceCounts {
        self.inbox.counts().sources[SHOP]
    }

    /// What handlers left in the table.
    async fn effects(&self) -> Vec<String> {
        match &self.store {
            Store::Sqlite(store) => {
                let read = |connection: &rusqlite::Connection| {
                    let mut all = connection.prepare("select event from effect order by rowid")?;
                    all.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()
                };
                store.read(move |connection| Ok::<_, StoreError>(read(connection)?)).await.unwrap()
            }
            Store::Postgres(store) => {
                let client = store.client().await.unwrap();
                let select = format!("select event from {}.effect", store.schema());
                let found = client.query(&select, &[]).await.unwrap();
                found.iter().map(|row| row.get(0)).collect()
            }
        }
    }

    async fn stop(self) {
        self.jobs.drain(Duration::from_secs(5)).await;
        self.tree.stop(Duration::from_secs(5)).await;
        self.store.close().await;
    }
}

/// Has every event of the shop leave its id in the table, in the transaction that ends it.
fn leaves_effects(builder: InboxBuilder, store: &Store) -> InboxBuilder {
    leaves_effects_if(builder, store, |_| Ok(()))
}

/// The same where `judge` lets it; else the transaction is rolled back after the effect.
fn leaves_effects_if(
    builder: InboxBuilder,
    store: &Store,
    judge: impl Fn(&StoredEvent) -> JobResult + Clone + Send + Sync + 'static,
) -> InboxBuilder {
    match store {
        Store::Sqlite(_) => builder.on_sqlite(SHOP, "*", move |event, tx| {
            tx.execute("insert into effect values (?1)", [&*event.info.event_id])?;
            judge(event)
        }),
        Store::Postgres(store) => {
            let insert = format!("insert into {}.effect values ($1)", store.schema());
            builder.on_postgres(SHOP, "*", move |event, tx| {
                let (insert, judge) = (insert.clone(), judge.clone());
                Box::pin(async move {
                    tx.execute(&insert, &[&&*event.info.event_id]).await?;
                    judge(event)
                })
            })
        }
    }
}

/// What handlers have seen, in order.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn add(&self, line: impl Into<String>) {
        self.0.lock().push(line.into());
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().clone()
    }
}

/// Asks until there is an answer, and panics when there is none in time.
async fn eventually<T, F>(mut ask: impl FnMut() -> F, what: &str) -> T
where
    F: Future<Output = Option<T>>,
{
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(begun.elapsed() < WITHIN, "{what}: not within {WITHIN:?}");
        sleep(Duration::from_millis(2)).await;
    }
}

/// What a sender signs, as the verifiers check it.
pub(crate) mod sign {
    pub(crate) use crate::hex::hex;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use hmac::{Hmac, KeyInit, Mac};
    use sha2::Sha256;

    pub(crate) fn hmac(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
        parts.iter().for_each(|part| mac.update(part));
        mac.finalize().into_bytes().to_vec()
    }

    pub(crate) fn base64(bytes: &[u8]) -> String {
        STANDARD.encode(bytes)
    }

    pub(crate) fn unbase64(text: &str) -> Vec<u8> {
        STANDARD.decode(text).unwrap()
    }
}

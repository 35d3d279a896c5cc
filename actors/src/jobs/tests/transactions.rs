//! Jobs in the transactions of their users.

use super::*;
use crate::store::StoreError;

/// Has its end in its own transaction.
#[derive(Serialize, Deserialize)]
pub(super) struct Pay;

impl Job for Pay {
    const KIND: &'static str = "pay";

    fn policy() -> JobPolicy {
        JobPolicy::default().backoff(Backoff::fixed(Duration::from_millis(1)).unwrap())
    }
}

fn sqlite(bench: &Bench) -> SqliteStore {
    match &bench.store {
        Store::Sqlite(store) => store.clone(),
        Store::Postgres(_) => panic!("this is a test of SQLite"),
    }
}

async fn payments(store: &SqliteStore) -> i64 {
    let count = |connection: &rusqlite::Connection| {
        connection.query_row("select count(*) from payment", [], |row| row.get(0))
    };
    store.read(move |connection| Ok::<_, StoreError>(count(connection)?)).await.unwrap()
}

async fn make_table(store: &SqliteStore) {
    let make = "create table payment (job integer)";
    store.write(move |tx| Ok::<_, StoreError>(tx.execute_batch(make)?)).await.unwrap();
}

/// Pays in one transaction with the end of the run. `breaks`: and rolls it back.
async fn pay(store: SqliteStore, cx: JobCx, breaks: bool) -> JobResult {
    let work = move |tx: &crate::store::SqliteTx<'_>| -> Result<(), JobsError> {
        let insert = "insert into payment values (?1)";
        tx.execute(insert, [cx.id().0]).map_err(StoreError::from)?;
        cx.complete_in(tx)?;
        if breaks { Err(JobsError::Unencodable("changed its mind".into())) } else { Ok(()) }
    };
    store.write(work).await?;
    Ok(())
}

/// Begins with the tables, which a handler needs before there is a queue.
async fn with_store<F>(change: impl FnOnce(SqliteStore, JobsBuilder) -> F) -> Bench
where
    F: Into<JobsBuilder>,
{
    let store = SqliteStore::open(SqliteOptions::memory()).await.unwrap();
    make_table(&store).await;
    let own = store.clone();
    Bench::in_store(Store::from(store), Log::default(), |builder| change(own, builder).into()).await
}

#[actix::test]
async fn an_effect_and_the_end_of_its_run_are_one_transaction() {
    let bench = with_store(|store, builder| {
        builder.handle(move |_: Pay, cx| pay(store.clone(), cx, false))
    })
    .await;
    let mut events = bench.jobs.events();
    let id = bench.jobs.enqueue(Pay).await.unwrap().id().unwrap();
    bench.reaches(id, JobState::Done).await;
    assert!(matches!(events.recv().await, Ok(JobEvent::Done { .. })));
    assert_eq!(payments(&sqlite(&bench)).await, 1);
    // The feeder tells the end a second time; that is no stale completion.
    let after = bench.add("after").await;
    bench.reaches(after, JobState::Done).await;
    bench.jobs.drain(Duration::from_secs(5)).await;
    while let Ok(event) = events.try_recv() {
        assert!(!matches!(event, JobEvent::StaleCompletion { .. }), "{event:?}");
    }
    bench.stop().await;
}

#[actix::test]
async fn a_transaction_that_is_rolled_back_is_run_again() {
    let bench = with_store(|store, builder| {
        builder.handle(move |_: Pay, cx: JobCx| {
            let breaks = cx.attempt() == 1;
            pay(store.clone(), cx, breaks)
        })
    })
    .await;
    let id = bench.jobs.enqueue(Pay).await.unwrap().id().unwrap();
    assert_eq!(bench.reaches(id, JobState::Done).await.attempt, 2);
    assert_eq!(payments(&sqlite(&bench)).await, 1);
    bench.stop().await;
}

#[actix::test]
async fn a_run_that_was_overtaken_cannot_commit() {
    let (open, gate) = tokio::sync::watch::channel(false);
    let log = Log::default();
    let seen = log.clone();
    let bench = with_store(|store, builder| {
        builder.handle(move |_: Pay, cx: JobCx| {
            let (store, mut gate, seen) = (store.clone(), gate.clone(), seen.clone());
            async move {
                let first = cx.attempt() == 1;
                seen.add(format!("begun {}", cx.attempt()));
                if first {
                    let _open = gate.wait_for(|open| *open).await;
                }
                let paid = pay(store, cx, false).await;
                if first {
                    seen.add(format!("{}", paid.as_ref().unwrap_err()));
                }
                paid
            }
        })
    })
    .await;
    let id = bench.jobs.enqueue(Pay).await.unwrap().id().unwrap();
    let begun = async || (!log.lines().is_empty()).then_some(());
    eventually(begun, "it runs").await;
    // Somebody takes this process for dead.
    let now = bench.jobs.clock().now();
    let rescued = bench.jobs.store().rescue(vec![bench.jobs.node()], 3, now).await.unwrap();
    assert_eq!(rescued.requeued, 1);
    bench.reaches(id, JobState::Done).await;
    open.send(true).unwrap();
    let refused = async || (log.lines().len() == 3).then_some(());
    eventually(refused, "the first run is refused").await;
    assert_eq!(log.lines(), ["begun 1", "begun 2", "this run of the job is over"]);
    assert_eq!(payments(&sqlite(&bench)).await, 1);
    bench.stop().await;
}

#[actix::test]
async fn a_job_enqueued_in_a_transaction_is_there_if_that_is() {
    let bench = with_store(|_, builder| builder).await;
    let store = sqlite(&bench);
    for commits in [false, true] {
        let jobs = bench.jobs.clone();
        let work = move |tx: &crate::store::SqliteTx<'_>| -> Result<Enqueued, JobsError> {
            tx.execute("insert into payment values (1)", []).map_err(StoreError::from)?;
            let enqueued = jobs.enqueue(task("paid")).in_sqlite(tx)?;
            if commits { Ok(enqueued) } else { Err(JobsError::Unencodable("no".into())) }
        };
        match store.write(work).await {
            Ok(enqueued) => {
                bench.reaches(enqueued.id().unwrap(), JobState::Done).await;
            }
            Err(_) => assert_eq!(bench.jobs.counts().await.unwrap(), Counts::default()),
        }
    }
    assert_eq!(payments(&store).await, 1);
    assert_eq!(bench.log.lines(), ["paid#1"]);
    bench.stop().await;
}

#[actix::test]
async fn on_postgres_too_a_run_ends_with_its_effect_or_not_at_all() {
    let Some(base) = Base::postgres().await else { return };
    let Base::Postgres(schema) = &base else { return };
    let (store, table) = (schema.store().await, format!("{}.payment", schema.name()));
    let observer = schema.observer().await;
    observer.batch_execute(&format!("create table {table} (job bigint)")).await.unwrap();
    let (own, insert) = (store.clone(), format!("insert into {table} values ($1)"));
    let handler = move |_: Pay, cx: JobCx| {
        let (store, insert) = (own.clone(), insert.clone());
        async move {
            let mut client = store.client().await?;
            let transaction = client.transaction().await?;
            transaction.execute(&insert, &[&cx.id().0]).await?;
            cx.complete_in_postgres(&transaction).await?;
            if cx.attempt() == 1 {
                transaction.rollback().await?;
                return Err(JobError::retry("it changed its mind"));
            }
            Ok(transaction.commit().await?)
        }
    };
    let declare = |builder: JobsBuilder| builder.handle(handler);
    let bench = Bench::in_store(Store::from(store), Log::default(), declare).await;
    let id = bench.jobs.enqueue(Pay).await.unwrap().id().unwrap();
    assert_eq!(bench.reaches(id, JobState::Done).await.attempt, 2);
    let count = observer.query_one(&format!("select count(*) from {table}"), &[]).await.unwrap();
    assert_eq!(count.get::<_, i64>(0), 1);
    bench.stop().await;
}

#[actix::test]
async fn on_postgres_too_a_job_is_there_if_its_transaction_is() {
    let Some(base) = Base::postgres().await else { return };
    let Base::Postgres(schema) = &base else { return };
    let bench = base.bench(|builder| builder).await;
    let mut user = schema.observer().await;
    let transaction = user.transaction().await.unwrap();
    bench.jobs.enqueue(task("unpaid")).in_postgres(&transaction).await.unwrap();
    transaction.rollback().await.unwrap();
    let transaction = user.transaction().await.unwrap();
    let enqueued = bench.jobs.enqueue(task("paid")).in_postgres(&transaction).await.unwrap();
    transaction.commit().await.unwrap();
    bench.reaches(enqueued.id().unwrap(), JobState::Done).await;
    assert_eq!(bench.log.lines(), ["paid#1"]);
    bench.stop().await;
}

//! Jobs in the transactions of those who use sqlx.

use sqlx::{Connection, PgConnection};

use super::transactions::Pay;
use super::*;
use crate::store::StoreError;
use crate::store::postgres::testing::TestSchema;

async fn connect(schema: &TestSchema) -> PgConnection {
    PgConnection::connect(&schema.address()).await.unwrap()
}

async fn execute(connection: &mut PgConnection, sql: String) {
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(connection).await.unwrap();
}

#[actix::test]
async fn a_job_is_there_if_its_transaction_is() {
    let Some(base) = Base::postgres().await else { return };
    let Base::Postgres(schema) = &base else { return };
    let bench = base.bench(|builder| builder).await;
    let mut user = connect(schema).await;
    let mut transaction = user.begin().await.unwrap();
    bench.jobs.enqueue(task("unpaid")).in_sqlx(&mut transaction).await.unwrap();
    transaction.rollback().await.unwrap();
    let mut transaction = user.begin().await.unwrap();
    let enqueued = bench.jobs.enqueue(task("paid")).in_sqlx(&mut transaction).await.unwrap();
    transaction.commit().await.unwrap();
    bench.reaches(enqueued.id().unwrap(), JobState::Done).await;
    assert_eq!(bench.log.lines(), ["paid#1"]);
    bench.stop().await;
}

fn keyed(jobs: &Jobs) -> Enqueue<'_, Task> {
    let delay = Duration::from_secs(3_600);
    jobs.enqueue(task("once")).delay(delay).unique("ä").unique_for(delay)
}

#[actix::test]
async fn keys_hold_across_both_drivers() {
    let Some(base) = Base::postgres().await else { return };
    let Base::Postgres(schema) = &base else { return };
    let bench = base.bench(|builder| builder).await;
    let mut user = connect(schema).await;
    let mut transaction = user.begin().await.unwrap();
    let first = keyed(&bench.jobs).in_sqlx(&mut transaction).await.unwrap();
    assert!(matches!(first, Enqueued::Accepted(_)), "{first:?}");
    let id = first.id().unwrap();
    let again = keyed(&bench.jobs).in_sqlx(&mut transaction).await.unwrap();
    assert_eq!(again, Enqueued::Duplicate(id));
    transaction.commit().await.unwrap();
    assert_eq!(keyed(&bench.jobs).await.unwrap(), Enqueued::Duplicate(id));
    let mut transaction = user.begin().await.unwrap();
    let other = keyed(&bench.jobs).on_conflict(OnConflict::Replace);
    assert_eq!(other.in_sqlx(&mut transaction).await.unwrap(), Enqueued::Replaced(id));
    transaction.commit().await.unwrap();
    bench.stop().await;
}

#[actix::test]
async fn a_run_ends_with_its_effect_or_not_at_all() {
    let Some(base) = Base::postgres().await else { return };
    let Base::Postgres(schema) = &base else { return };
    // The tables first: the schema comes with them.
    let store = Store::from(schema.store().await);
    let (address, table) = (schema.address(), format!("{}.payment", schema.name()));
    let mut observer = connect(schema).await;
    execute(&mut observer, format!("create table {table} (job bigint)")).await;
    let insert = format!("insert into {table} values ($1)");
    let handler = move |_: Pay, cx: JobCx| {
        let (address, insert) = (address.clone(), sqlx::AssertSqlSafe(insert.clone()));
        async move {
            let failed = |error: sqlx::Error| JobError::retry(error.to_string());
            let mut connection = PgConnection::connect(&address).await.map_err(failed)?;
            let mut transaction = connection.begin().await.map_err(failed)?;
            let paid = sqlx::query(insert).bind(cx.id().0).execute(&mut *transaction).await;
            assert_eq!(paid.map_err(failed)?.rows_affected(), 1);
            cx.complete_in_sqlx(&mut transaction).await?;
            if cx.attempt() == 1 {
                transaction.rollback().await.map_err(failed)?;
                return Err(JobError::retry("it changed its mind"));
            }
            transaction.commit().await.map_err(failed)
        }
    };
    let bench = Bench::in_store(store, Log::default(), |builder| builder.handle(handler)).await;
    let id = bench.jobs.enqueue(Pay).await.unwrap().id().unwrap();
    assert_eq!(bench.reaches(id, JobState::Done).await.attempt, 2);
    let count = sqlx::AssertSqlSafe(format!("select count(*) from {table}"));
    let count: i64 = sqlx::query_scalar(count).fetch_one(&mut observer).await.unwrap();
    assert_eq!(count, 1);
    bench.stop().await;
}

#[actix::test]
async fn errors_say_what_they_say_through_the_other_driver() {
    let Some(base) = Base::postgres().await else { return };
    let Base::Postgres(schema) = &base else { return };
    let bench = base.bench(|builder| builder).await;
    let mut user = connect(schema).await;
    let mut transaction = user.begin().await.unwrap();
    let refused = "alter table {schema}.job add constraint no_tasks check (kind <> 'task')";
    execute(&mut transaction, refused.replace("{schema}", schema.name())).await;
    let error = bench.jobs.enqueue(task("x")).in_sqlx(&mut transaction).await.unwrap_err();
    let JobsError::Store(StoreError::Constraint { name, .. }) = error else { panic!("{error:?}") };
    assert_eq!(name.as_deref(), Some("no_tasks"));
    transaction.rollback().await.unwrap();
    bench.stop().await;
}

#[actix::test]
async fn a_queue_on_sqlite_takes_no_part_in_a_transaction_of_sqlx() {
    let Some(base) = Base::postgres().await else { return };
    let Base::Postgres(schema) = &base else { return };
    let bench = Bench::start().await;
    let mut user = connect(schema).await;
    let mut transaction = user.begin().await.unwrap();
    let error = bench.jobs.enqueue(task("x")).in_sqlx(&mut transaction).await.unwrap_err();
    assert!(matches!(error, JobsError::ForeignTransaction), "{error:?}");
    bench.stop().await;
}

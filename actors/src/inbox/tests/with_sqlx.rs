//! Events that end in the transactions of those who use sqlx.

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::*;
use crate::jobs::JobError;

#[actix::test]
async fn an_event_ends_with_its_effect_or_not_at_all() {
    let Some(base) = Base::postgres().await else { return };
    let Base::Postgres(schema) = &base else { return };
    let address = schema.address();
    let insert = format!("insert into {}.effect values ($1)", schema.name());
    let handler = move |event: StoredEvent, cx: EventCx| {
        let (address, insert) = (address.clone(), AssertSqlSafe(insert.clone()));
        async move {
            let failed = |error: sqlx::Error| JobError::retry(error.to_string());
            let mut connection = PgConnection::connect(&address).await.map_err(failed)?;
            let mut transaction = connection.begin().await.map_err(failed)?;
            let effect = sqlx::query(insert).bind(event.info.event_id.to_string());
            effect.execute(&mut *transaction).await.map_err(failed)?;
            cx.complete_in_sqlx(&mut transaction).await?;
            if cx.job().attempt() == 1 {
                transaction.rollback().await.map_err(failed)?;
                return Err(JobError::retry("it changed its mind"));
            }
            transaction.commit().await.map_err(failed)
        }
    };
    let bench = base.bench(|inbox| inbox.on(SHOP, "paid", handler)).await;
    let id = bench.send(r#"{"id":"e1","type":"paid"}"#).await.id;
    let info = bench.reaches(id, EventState::Done).await;
    assert_eq!(bench.effects().await, ["e1"], "that of the first run was rolled back");
    let job = bench.jobs.find(info.job.unwrap()).await.unwrap().unwrap();
    assert_eq!((job.state, job.attempt), (crate::jobs::JobState::Done, 2));
    bench.stop().await;
}

#[actix::test]
async fn an_inbox_on_sqlite_takes_no_part_in_a_transaction_of_sqlx() {
    let Some(base) = Base::postgres().await else { return };
    let Base::Postgres(schema) = &base else { return };
    let address = schema.address();
    let log = Log::default();
    let seen = log.clone();
    let handler = move |_, cx: EventCx| {
        let (address, seen) = (address.clone(), seen.clone());
        async move {
            let mut connection = PgConnection::connect(&address).await.unwrap();
            let mut transaction = connection.begin().await.unwrap();
            let error = cx.complete_in_sqlx(&mut transaction).await.unwrap_err();
            assert!(matches!(error, InboxError::ForeignTransaction), "{error:?}");
            seen.add("refused");
            Ok(())
        }
    };
    let bench = Base::sqlite().bench(|inbox| inbox.on(SHOP, "paid", handler)).await;
    let id = bench.send(r#"{"id":"e1","type":"paid"}"#).await.id;
    bench.reaches(id, EventState::Done).await;
    assert_eq!(log.lines(), ["refused"]);
    bench.stop().await;
}

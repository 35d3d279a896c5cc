//! Claims about the PostgreSQL engine, checked against a real server.

mod connecting;
mod grouping;
mod listening;
mod lost;
mod migrating;
mod proxy;
mod stopping;

use std::time::Duration;

use super::testing::TestSchema;
use super::{PgStore, StoreError};

/// What came of work that only can be told by its error.
type Ended = Result<(), StoreError>;

/// Waits until `holds`; fails after ten seconds.
async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(10), waiting).await;
    assert!(waited.is_ok(), "in ten seconds it did not come true that {what}");
}

/// Work that takes the server `seconds`.
fn sleeping(store: &PgStore, seconds: f64) -> impl Future<Output = Ended> + Send + 'static {
    store.run(async move |client| {
        client.execute("select pg_sleep($1)", &[&seconds]).await?;
        Ok(())
    })
}

/// Connections of `schema` that are asleep on the server.
async fn asleep(observer: &tokio_postgres::Client, schema: &TestSchema) -> i64 {
    let counted = "select count(*) from pg_stat_activity
        where application_name = $1 and state = 'active' and query like '%pg_sleep%'";
    observer.query_one(counted, &[&schema.name()]).await.unwrap().get(0)
}

/// Ends all connections of `schema` from the server's side, as a restart does.
async fn terminate(observer: &tokio_postgres::Client, schema: &TestSchema) {
    let all = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1";
    observer.execute(all, &[&schema.name()]).await.unwrap();
}

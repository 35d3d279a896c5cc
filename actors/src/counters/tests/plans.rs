//! No batch reads a whole table, whatever the size of the tables.

use super::*;

#[actix::test]
async fn on_postgres_a_batch_reads_its_window_only() {
    let Some(base) = Base::postgres().await else { return };
    let shop = base.shop().await;
    shop.fill(20_000, 3).await;
    shop.execute("drop index {}posts_topic").await;
    shop.execute("create index live on {}posts (topic_id) where deleted_at is null").await;
    let Store::Postgres(store) = &shop.store else { return };
    let client = store.client().await.unwrap();
    for table in ["topics", "posts"] {
        client.batch_execute(&shop.sql(&format!("vacuum analyze {{}}{table}"))).await.unwrap();
    }
    let subject = shop.subject(&shop.posts()).await.unwrap();
    let recounted = shop.subject(&shop.posts().strategy(Strategy::Recount)).await.unwrap();
    for sql in [
        sql::repair::window(&subject, false),
        sql::repair::window(&subject, true),
        sql::repair::rest(&subject, true),
        sql::repair::detect(&subject, true),
        sql::repair::add(&subject, true),
        sql::repair::nulls(&subject, true),
        sql::repair::lock(&recounted).replace("$1::text[]", "array['7', '8']"),
        sql::repair::recount(&recounted).replace("$1::text[]", "array['7', '8']"),
    ] {
        let literal = sql.replace("$1", "'1500'").replace("$2", "'500'");
        let rows = client.query(&format!("explain {literal}"), &[]).await.unwrap();
        let plan: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        let plan = plan.join("\n");
        assert!(!plan.contains("Seq Scan on"), "{plan}");
    }
    drop(client);
    shop.close().await;
}

#[actix::test]
async fn on_sqlite_a_batch_reads_its_window_only() {
    let base = Base::sqlite();
    let shop = base.shop().await;
    let subject = shop.subject(&shop.posts()).await.unwrap();
    let Store::Sqlite(store) = &shop.store else { return };
    for sql in [
        sql::repair::window(&subject, true),
        sql::repair::rest(&subject, true),
        sql::repair::detect(&subject, true),
        sql::repair::suspects(&subject, true),
        sql::repair::set(&subject),
    ] {
        let explain = format!("explain query plan {sql}");
        let read = move |connection: &rusqlite::Connection| {
            let mut explain = connection.prepare(&explain)?;
            for number in 1..=explain.parameter_count() {
                explain.raw_bind_parameter(number, "5")?;
            }
            let mut rows = explain.raw_query();
            let mut plan = Vec::new();
            while let Some(row) = rows.next()? {
                plan.push(row.get::<_, String>(3)?);
            }
            Ok::<_, StoreError>(plan)
        };
        let plan = store.read(read).await.unwrap();
        let scans = |line: &String| {
            ["SCAN k", "SCAN p", "SCAN posts"].iter().any(|table| line.starts_with(table))
        };
        assert!(!plan.iter().any(scans), "{plan:#?}");
    }
    shop.close().await;
}

/// What the planner guesses of tables that nobody has looked at must do as well.
#[actix::test]
async fn on_postgres_a_batch_of_tables_without_statistics_reads_its_window_only() {
    let Some(base) = Base::postgres().await else { return };
    let shop = base.shop().await;
    for table in ["topics", "posts"] {
        shop.execute(&format!("alter table {{}}{table} set (autovacuum_enabled = off)")).await;
    }
    shop.fill(20_000, 3).await;
    let subject = shop.subject(&shop.posts()).await.unwrap();
    let Store::Postgres(store) = &shop.store else { return };
    let client = store.client().await.unwrap();
    for sql in [sql::repair::detect(&subject, true), sql::repair::add(&subject, true)] {
        let literal = sql.replace("$1", "'1500'").replace("$2", "'500'");
        let rows = client.query(&format!("explain {literal}"), &[]).await.unwrap();
        let plan: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        let plan = plan.join("\n");
        assert!(!plan.contains("Seq Scan on"), "{plan}");
    }
    drop(client);
    shop.close().await;
}

//! underway. It always uses the schema `underway`, which is dropped before and after.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sqlx08 as sqlx;
use sqlx08::postgres::PgPoolOptions;
use steadfast_bench_peers::{Call, callers, ran};
use underway::{Job, To};

#[derive(Clone, Serialize, Deserialize)]
struct Noop {
    number: u64,
}

#[tokio::main]
async fn main() {
    let call = Call::read();
    let pool = PgPoolOptions::new().max_connections(30).connect(&call.address).await.unwrap();
    let drop = "drop schema if exists underway cascade";
    sqlx::query(drop).execute(&pool).await.unwrap();
    // Its migrations remember what they did in a table of the default schema.
    let _ = sqlx::query("drop table if exists public._sqlx_migrations").execute(&pool).await;
    underway::run_migrations(&pool).await.unwrap();
    let job = Job::builder()
        .step(|_, _: Noop| async move {
            ran();
            To::done()
        })
        .name("noop")
        .pool(pool.clone())
        .build()
        .await
        .unwrap();
    let began = Instant::now();
    let enqueue = job.clone();
    callers(call.at_a_time, call.jobs, move |number| {
        let job = enqueue.clone();
        async move {
            job.enqueue(&Noop { number }).await.unwrap();
        }
    })
    .await;
    if call.mode == "single" {
        call.tell(began);
    } else {
        let began = Instant::now();
        let mut worker = job.worker();
        worker.set_concurrency_limit(call.at_a_time);
        let worker = tokio::spawn(async move { worker.run().await.map_err(|error| error.to_string()) });
        call.all_ran().await;
        let left = "select count(*) from underway.task where state <> 'succeeded'";
        while sqlx::query_scalar::<_, i64>(left).fetch_one(&pool).await.unwrap() > 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        call.tell(began);
        worker.abort();
    }
    sqlx::query(drop).execute(&pool).await.unwrap();
    std::process::exit(0);
}

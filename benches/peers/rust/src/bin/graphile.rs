//! graphile_worker, the port to Rust.

use std::time::{Duration, Instant};

use graphile_worker::{
    IntoTaskHandlerResult, JobSpec, LocalQueueConfig, RawJobSpec, TaskHandler, WorkerContext,
    WorkerOptions,
};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgPoolOptions;
use steadfast_bench_peers::{Call, callers, ran};

#[derive(Serialize, Deserialize)]
struct Noop {
    number: u64,
}

impl TaskHandler for Noop {
    const IDENTIFIER: &'static str = "noop";

    async fn run(self, _: WorkerContext) -> impl IntoTaskHandlerResult {
        ran();
        Ok::<(), String>(())
    }
}

#[tokio::main]
async fn main() {
    let call = Call::read();
    let schema = format!("bench_graphile_rs_{}", std::process::id());
    let pool = PgPoolOptions::new().max_connections(30).connect(&call.address).await.unwrap();
    let mut options = WorkerOptions::default()
        .pg_pool(pool.clone())
        .schema(schema.as_str())
        .concurrency(call.at_a_time)
        .define_job::<Noop>();
    if call.mode == "batched" {
        options = options
            .local_queue(LocalQueueConfig::builder().size(500).build())
            .complete_job_batch_delay(Duration::from_millis(1))
            .fail_job_batch_delay(Duration::from_millis(1));
    }
    let worker = options.init().await.unwrap();
    let utils = worker.create_utils();
    if call.mode == "single" {
        let began = Instant::now();
        callers(call.at_a_time, call.jobs, move |number| {
            let utils = utils.clone();
            async move {
                utils.add_job(Noop { number }, JobSpec::default()).await.unwrap();
            }
        })
        .await;
        call.tell(began);
    } else {
        let all: Vec<_> = (0..call.jobs)
            .map(|number| RawJobSpec {
                identifier: "noop".to_owned(),
                payload: serde_json::json!({ "number": number }),
                spec: JobSpec::default(),
            })
            .collect();
        for some in all.chunks(1000) {
            utils.add_raw_jobs(some).await.unwrap();
        }
        let began = Instant::now();
        let worker = tokio::spawn(async move { worker.run().await.map_err(|error| error.to_string()) });
        call.all_ran().await;
        let left = format!("select count(*) from {schema}._private_jobs");
        let left = || sqlx::query_scalar::<_, i64>(sqlx::AssertSqlSafe(left.clone()));
        while left().fetch_one(&pool).await.unwrap() > 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        call.tell(began);
        worker.abort();
    }
    let drop = sqlx::AssertSqlSafe(format!("drop schema if exists {schema} cascade"));
    sqlx::query(drop).execute(&pool).await.unwrap();
    std::process::exit(0);
}

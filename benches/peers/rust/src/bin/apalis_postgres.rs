//! apalis-postgres. It always uses the schema `apalis`, which is dropped before and after.

use std::time::{Duration, Instant};

use apalis::prelude::*;
use apalis_postgres::{Config, PostgresStorage};
use sqlx::postgres::PgPoolOptions;
use steadfast_bench_peers::{Call, callers, ran};

async fn noop(_: u64) -> Result<(), BoxDynError> {
    ran();
    Ok(())
}

#[tokio::main]
async fn main() {
    let call = Call::read();
    let pool = PgPoolOptions::new().max_connections(30).connect(&call.address).await.unwrap();
    let drop = "drop schema if exists apalis cascade";
    sqlx::query(drop).execute(&pool).await.unwrap();
    PostgresStorage::setup(&pool).await.unwrap();
    // A batch as large as there are jobs at a time, and looked for often: its default of ten
    // every 100 ms would measure its timer.
    let config = Config::default().queue("noop").batch_size(100);
    let storage = PostgresStorage::<u64>::new(&pool).with_config(config);
    if call.mode == "single" {
        let began = Instant::now();
        let one = storage.clone();
        callers(call.at_a_time, call.jobs, move |number| {
            let mut storage = one.clone();
            async move { storage.push(number).await.unwrap() }
        })
        .await;
        call.tell(began);
    } else {
        let numbers: Vec<u64> = (0..call.jobs).collect();
        for some in numbers.chunks(1000) {
            storage.clone().push_bulk(some.to_vec()).await.unwrap();
        }
        let began = Instant::now();
        let worker = WorkerBuilder::new("bench")
            .backend(storage)
            .concurrency(call.at_a_time)
            .parallelize(tokio::spawn)
            .build(noop);
        let all_done = async {
            call.all_ran().await;
            let left = "select count(*) from apalis.jobs where status <> 'Done'";
            while sqlx::query_scalar::<_, i64>(left).fetch_one(&pool).await.unwrap() > 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        // Not spawned: the future is not `Send` for any lifetime, says the compiler.
        tokio::select! {
            ended = worker.run() => panic!("the worker ended: {ended:?}"),
            () = all_done => call.tell(began),
        }
    }
    sqlx::query(drop).execute(&pool).await.unwrap();
    std::process::exit(0);
}

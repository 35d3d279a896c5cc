//! apalis-sqlite, with `synchronous=FULL` as ours.

use std::time::{Duration, Instant};

use apalis::prelude::*;
use apalis_sqlite::{Config, SqliteStorage};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use steadfast_bench_peers::{Call, callers, ran};

async fn noop(_: u64) -> Result<(), BoxDynError> {
    ran();
    Ok(())
}

#[tokio::main]
async fn main() {
    let call = Call::read();
    let forget = || {
        for end in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{end}", call.address));
        }
    };
    forget();
    let options = SqliteConnectOptions::new()
        .filename(&call.address)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_secs(30));
    let pool = SqlitePoolOptions::new().max_connections(4).connect_with(options).await.unwrap();
    SqliteStorage::setup(&pool).await.unwrap();
    let config = Config::default().queue("noop").batch_size(100);
    let storage = SqliteStorage::<u64>::new(&pool).with_config(config);
    let began = Instant::now();
    if call.mode == "single" {
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
            let left = "select count(*) from Jobs where status <> 'Done'";
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
    pool.close().await;
    forget();
    std::process::exit(0);
}

//! One more value for an enum whose column has many rows: the `enums` command.
//!
//! A writer goes on meanwhile. The longest that it waited is what the change cost the service, and
//! the time that the table was locked for everybody.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use steadfast_actors::schema_enum::{Phase, SchemaEnums, Severity};
use steadfast_actors::store::Store;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_postgres::{Client, NoTls};

use crate::jobs::{Place, Site};
use crate::measure::{median, median_ratio};

/// Why there is no result.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What the column let in so far, and what it shall.
mod before {
    use steadfast_actors::schema_enum::SchemaEnum;

    /// Of four values.
    #[derive(Debug, Clone, Copy, SchemaEnum)]
    #[schema_enum(crate = "steadfast_actors", rename_all = "snake_case")]
    #[schema_enum(table = "bench_orders", column = "status")]
    pub(super) enum OrderStatus {
        Pending,
        Paid,
        Shipped,
        Cancelled,
    }
}

mod after {
    use steadfast_actors::schema_enum::SchemaEnum;

    /// Of one more.
    #[derive(Debug, Clone, Copy, SchemaEnum)]
    #[schema_enum(crate = "steadfast_actors", rename_all = "snake_case")]
    #[schema_enum(table = "bench_orders", column = "status")]
    pub(super) enum OrderStatus {
        Pending,
        Paid,
        Shipped,
        Cancelled,
        Refunded,
    }
}

/// How the `enums` command is run.
#[derive(Debug, Clone, Args)]
pub struct Settings {
    /// Rounds; each way is gone once in each.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=50))]
    rounds: u16,
    /// Rows of the table.
    #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(u32).range(1_000..=50_000_000))]
    rows: u32,
    /// The server.
    #[arg(
        long,
        env = "STEADFAST_TEST_POSTGRES",
        default_value = "postgres://postgres@127.0.0.1:5432/test"
    )]
    postgres: String,
}

/// A way to let the value in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Drops the constraint and adds another, in one statement.
    Plain,
    Ours,
}

/// What it took.
#[derive(Debug, Clone, Copy)]
struct Taken {
    time: Duration,
    /// The longest that the writer waited.
    wait: Duration,
}

/// Measures, and prints the table.
///
/// # Errors
///
/// The database failed.
pub async fn run(settings: &Settings) -> io::Result<bool> {
    let site = Site::new(&Place::Postgres(settings.postgres.clone()));
    let measured = measure(&site, settings).await;
    let cleared = site.clear().await;
    measured.map_err(io::Error::other)?;
    cleared.map_err(io::Error::other)?;
    Ok(true)
}

async fn measure(site: &Site, settings: &Settings) -> Result<(), Failure> {
    let store = site.open().await?;
    let bed = Bed::make(site.name(), settings).await?;
    let mut taken: [Vec<Taken>; 2] = Default::default();
    // The first round warms up.
    for round in 0..=settings.rounds {
        for (way, column) in [Way::Plain, Way::Ours].into_iter().zip(&mut taken) {
            bed.set_back().await?;
            let one = bed.change(way, &store).await?;
            if round > 0 {
                column.push(one);
            }
        }
    }
    store.close().await;
    println!("### One more value for {} rows, beside a writer\n", settings.rows);
    println!("| way | the writer waited at most ms | ratio | whole change ms |");
    println!("|---|---:|---:|---:|");
    let millis = |column: &[Taken], of: fn(&Taken) -> Duration| -> Vec<f64> {
        column.iter().map(|one| of(one).as_secs_f64() * 1e3).collect()
    };
    let [plain, ours] = &taken;
    let base = millis(plain, |one| one.wait);
    for (name, column) in [("drop and add the constraint", plain), ("steadfast", ours)] {
        let wait = millis(column, |one| one.wait);
        let time = median(&millis(column, |one| one.time));
        println!(
            "| {name} | {:.1} | {:.3} | {time:.0} |",
            median(&wait),
            median_ratio(&wait, &base)
        );
    }
    println!();
    Ok(())
}

/// The table, and who writes to it.
struct Bed {
    client: Client,
    url: String,
    schema: String,
    rows: u32,
}

impl Bed {
    async fn make(schema: &str, settings: &Settings) -> Result<Self, Failure> {
        let client = connect(&settings.postgres).await?;
        let rows = settings.rows;
        let make = format!(
            "create table {schema}.bench_orders (id bigint primary key, status text not null,
               note text not null);
             insert into {schema}.bench_orders
               select i, (array['pending', 'paid', 'shipped', 'cancelled'])[1 + i % 4],
                      'a note of some length'
                 from generate_series(1, {rows}) i"
        );
        client.batch_execute(&make).await?;
        client.batch_execute(&format!("vacuum analyze {schema}.bench_orders")).await?;
        Ok(Self { client, url: settings.postgres.clone(), schema: schema.to_owned(), rows })
    }

    /// The constraint as it was before, and no other.
    async fn set_back(&self) -> Result<(), Failure> {
        let enums = SchemaEnums::of::<before::OrderStatus>();
        let add = format!("add {}", constraint(&enums)?);
        self.replace_by(&add).await
    }

    /// Every check of the table goes, and another comes, in one statement.
    async fn replace_by(&self, add: &str) -> Result<(), Failure> {
        let Self { client, schema, .. } = self;
        let sql = "select conname from pg_constraint where contype = 'c' and conrelid = $1::text::regclass";
        let table = format!("{schema}.bench_orders");
        let mut alter = format!("alter table {table} ");
        for row in client.query(sql, &[&table]).await? {
            let name: String = row.try_get(0)?;
            alter += &format!("drop constraint \"{name}\", ");
        }
        client.batch_execute(&(alter + add)).await?;
        Ok(())
    }

    async fn change(&self, way: Way, store: &Store) -> Result<Taken, Failure> {
        let enums = SchemaEnums::of::<after::OrderStatus>();
        let writer = Writer::start(self).await?;
        let begun = Instant::now();
        match way {
            Way::Plain => self.replace_by(&format!("add {}", constraint(&enums)?)).await?,
            Way::Ours => {
                let enums = enums.in_schema(&self.schema);
                enums.apply(store, Phase::Expand).await?;
                let severity = enums.check(store).await?.severity();
                assert_eq!(severity, Severity::Clean, "the value is let in");
            }
        }
        let time = begun.elapsed();
        Ok(Taken { time, wait: writer.stop().await? })
    }
}

fn constraint(enums: &SchemaEnums) -> Result<String, Failure> {
    use steadfast_actors::schema_enum::Dialect;
    Ok(enums.constraints(Dialect::Postgres)?.concat())
}

async fn connect(url: &str) -> Result<Client, Failure> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    drop(tokio::spawn(connection));
    Ok(client)
}

/// Writes a row each millisecond.
struct Writer {
    over: Arc<AtomicBool>,
    task: JoinHandle<Result<Duration, tokio_postgres::Error>>,
}

impl Writer {
    async fn start(bed: &Bed) -> Result<Self, Failure> {
        let client = connect(&bed.url).await?;
        let sql = format!("update {}.bench_orders set status = 'paid' where id = $1", bed.schema);
        let update = client.prepare(&sql).await?;
        let (over, rows) = (Arc::new(AtomicBool::new(false)), i64::from(bed.rows));
        let stops = Arc::clone(&over);
        let task = tokio::spawn(async move {
            let mut longest = Duration::ZERO;
            while !stops.load(Ordering::Relaxed) {
                let begun = Instant::now();
                client.execute(&update, &[&fastrand::i64(1..=rows)]).await?;
                longest = longest.max(begun.elapsed());
                sleep(Duration::from_millis(1)).await;
            }
            Ok(longest)
        });
        // Past the first writes, which warm its connection up.
        sleep(Duration::from_millis(50)).await;
        Ok(Self { over, task })
    }

    async fn stop(self) -> Result<Duration, Failure> {
        self.over.store(true, Ordering::Relaxed);
        Ok(self.task.await??)
    }
}

//! How fast jobs are stored and worked off, and how soon one begins.

use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use steadfast_actors::store::Durability;
use tokio::time::sleep;

use super::Settings;
use super::rig::{Forgotten, Nap, Noop, Numbered, Ping, Place, Rig, words};
use super::sheet::{Bar, Failure, Sample, Scenario, processor_time};
use crate::measure::to_float;

/// Enqueueing on SQLite; also what peers that are embedded are listed under.
pub(super) const SQLITE_ENQUEUE: &str = "SQLite, enqueue, jobs/s";
/// Working on SQLite.
pub(super) const SQLITE_WORK: &str = "SQLite, no-op jobs, jobs/s";
/// Enqueueing on PostgreSQL.
pub(super) const POSTGRES_ENQUEUE: &str = "PostgreSQL, enqueue, jobs/s";
/// Working on PostgreSQL.
pub(super) const POSTGRES_WORK: &str = "PostgreSQL, no-op jobs, jobs/s";
const NAPS: &str = "Jobs of 2 ms, jobs/s";
const PICKUP: &str = "From the enqueue's answer to the handler";

/// The scenarios on SQLite.
pub(super) fn sqlite(settings: &Settings) -> Vec<Scenario> {
    let full = Place::Sqlite(settings.folder.clone(), Durability::Full);
    let normal = Place::Sqlite(settings.folder.clone(), Durability::Normal);
    let jobs = settings.jobs();
    let folder = Rc::new(settings.folder.clone());
    vec![
        Scenario::new(SQLITE_ENQUEUE, "rusqlite alone, FULL, a commit each", move || {
            let folder = Rc::clone(&folder);
            async move { naive(&folder) }
        })
        .baseline(),
        enqueue(SQLITE_ENQUEUE, "FULL, 1 caller", &full, 1, jobs / 40),
        enqueue(SQLITE_ENQUEUE, "FULL, 64 callers", &full, 64, jobs)
            .bar(Bar::AtLeast(12_000.0))
            .bar(Bar::TailWithin(20.0)),
        enqueue(SQLITE_ENQUEUE, "FULL, 512 callers", &full, 512, jobs)
            .bar(Bar::AtLeast(40_000.0))
            .bar(Bar::TailWithin(20.0)),
        enqueue(SQLITE_ENQUEUE, "NORMAL, 64 callers", &normal, 64, jobs),
        many(SQLITE_ENQUEUE, "FULL, enqueue_many", &full, jobs),
        off::<Noop>(SQLITE_WORK, "FULL, work off, default settings", &full, 10, jobs)
            .bar(Bar::AtLeast(20_000.0)),
        off::<Forgotten>(SQLITE_WORK, "FULL, work off, not remembered", &full, 10, jobs),
        off::<Forgotten>(SQLITE_WORK, "FULL, work off, 256 workers", &full, 256, jobs),
        both::<Noop>(SQLITE_WORK, "FULL, enqueue_many and work at once", &full, 10, jobs),
        off::<Noop>(SQLITE_WORK, "NORMAL, work off, default settings", &normal, 10, jobs)
            .bar(Bar::AtLeast(60_000.0)),
        off::<Nap>(NAPS, "SQLite FULL, 24 workers", &full, 24, jobs / 2),
        off::<Nap>(NAPS, "SQLite FULL, 100 workers", &full, 100, jobs),
        pickup("SQLite FULL, in the process", &full, false).bar(Bar::MedianWithin(1.0)),
        pickup("SQLite NORMAL, in the process", &normal, false),
        pickup("SQLite FULL, another instance", &full, true),
    ]
}

/// The scenarios on PostgreSQL.
pub(super) fn postgres(settings: &Settings) -> Vec<Scenario> {
    let server = Place::Postgres(settings.postgres.clone());
    let jobs = settings.jobs();
    vec![
        enqueue(POSTGRES_ENQUEUE, "steadfast, 1 caller", &server, 1, jobs / 40),
        enqueue(POSTGRES_ENQUEUE, "steadfast, 64 callers", &server, 64, jobs)
            .bar(Bar::AtLeast(20_000.0))
            .bar(Bar::TailWithin(25.0)),
        many(POSTGRES_ENQUEUE, "steadfast, enqueue_many", &server, jobs),
        off::<Noop>(POSTGRES_WORK, "steadfast, default settings", &server, 10, jobs)
            .bar(Bar::AtLeast(10_000.0)),
        off::<Noop>(POSTGRES_WORK, "steadfast, 256 workers", &server, 256, jobs)
            .bar(Bar::AtLeast(20_000.0))
            .bar(Bar::Times(3.0)),
        off::<Forgotten>(POSTGRES_WORK, "steadfast, 256 workers, forgotten", &server, 256, jobs)
            .bar(Bar::AtLeast(20_000.0))
            .bar(Bar::Times(3.0)),
        both::<Noop>(POSTGRES_WORK, "steadfast, enqueue_many and work at once", &server, 10, jobs),
        off::<Nap>(NAPS, "PostgreSQL, 24 workers", &server, 24, jobs / 2),
        off::<Nap>(NAPS, "PostgreSQL, 100 workers", &server, 100, jobs),
        pickup("PostgreSQL, in the process", &server, false).bar(Bar::MedianWithin(1.0)),
        pickup("PostgreSQL, another instance", &server, true).bar(Bar::MedianWithin(5.0)),
    ]
}

fn per_second(count: u64, took: Duration) -> f64 {
    to_float(count) / took.as_secs_f64()
}

/// What the disk gives whoever commits each row: one hundred rows of about a job's size.
fn naive(folder: &std::path::Path) -> Result<Sample, Failure> {
    let path = folder.join("naive.db");
    let database = rusqlite::Connection::open(&path).map_err(words)?;
    let set_up = "pragma journal_mode = wal; pragma synchronous = full;
        create table if not exists job (id integer primary key, kind text, args text) strict;";
    database.execute_batch(set_up).map_err(words)?;
    let mut milliseconds = Vec::new();
    let began = Instant::now();
    for _ in 0..100 {
        let one = Instant::now();
        let add = "insert into job (kind, args) values ('noop', '{\"number\":1}')";
        database.execute(add, []).map_err(words)?;
        milliseconds.push(one.elapsed().as_secs_f64() * 1e3);
    }
    let rate = per_second(100, began.elapsed());
    drop(database);
    for end in ["", "-wal", "-shm"] {
        let _gone = std::fs::remove_file(folder.join(format!("naive.db{end}")));
    }
    Ok(Sample::of(rate).with(&milliseconds))
}

/// Enqueues from many callers, each of which waits for its answer.
fn enqueue(sheet: &'static str, name: &str, place: &Place, callers: u64, count: u64) -> Scenario {
    let place = place.clone();
    Scenario::new(sheet, name, move || {
        let place = place.clone();
        async move {
            let rig = Rig::start(&place, 0).await?;
            let each = (count / callers).max(1);
            // Warms the connections and the statements up.
            call(&rig, 0, 8).await?;
            let (began, busy) = (Instant::now(), processor_time());
            let all = join_all((0..callers).map(|caller| call(&rig, caller, each))).await;
            let sample = Sample::of(per_second(each * callers, began.elapsed()));
            let sample = sample.busy(busy, each * callers);
            let mut milliseconds = Vec::new();
            for one in all {
                milliseconds.extend(one?);
            }
            rig.end().await?;
            Ok(sample.with(&milliseconds))
        }
    })
}

async fn call(rig: &Rig, caller: u64, count: u64) -> Result<Vec<f64>, Failure> {
    let mut milliseconds = Vec::new();
    for number in 0..count {
        let began = Instant::now();
        rig.jobs.enqueue(Noop { number: caller * count + number }).await.map_err(words)?;
        milliseconds.push(began.elapsed().as_secs_f64() * 1e3);
    }
    Ok(milliseconds)
}

/// Enqueues with one call.
fn many(sheet: &'static str, name: &str, place: &Place, count: u64) -> Scenario {
    let place = place.clone();
    Scenario::new(sheet, name, move || {
        let place = place.clone();
        async move {
            let rig = Rig::start(&place, 0).await?;
            let (began, busy) = (Instant::now(), processor_time());
            rig.fill::<Noop>(count).await?;
            let sample = Sample::of(per_second(count, began.elapsed())).busy(busy, count);
            rig.end().await?;
            Ok(sample)
        }
    })
}

/// Works off what was stored before.
fn off<J: Numbered>(
    sheet: &'static str,
    name: &str,
    place: &Place,
    workers: u16,
    count: u64,
) -> Scenario {
    let place = place.clone();
    Scenario::new(sheet, name, move || {
        let place = place.clone();
        async move {
            let rig = Rig::start(&place, workers).await?;
            rig.fill::<J>(count).await?;
            let busy = processor_time();
            let took = rig.work_off(count).await?;
            let sample = Sample::of(per_second(count, took)).busy(busy, count);
            rig.end().await?;
            Ok(sample)
        }
    })
}

/// Works off what is stored meanwhile.
fn both<J: Numbered>(
    sheet: &'static str,
    name: &str,
    place: &Place,
    workers: u16,
    count: u64,
) -> Scenario {
    let place = place.clone();
    Scenario::new(sheet, name, move || {
        let place = place.clone();
        async move {
            let rig = Rig::start(&place, workers).await?;
            let (began, busy) = (Instant::now(), processor_time());
            let jobs = (0..count).map(J::numbered);
            rig.jobs.enqueue_many(jobs).await.map(drop).map_err(words)?;
            rig.finish(count).await?;
            let sample = Sample::of(per_second(count, began.elapsed())).busy(busy, count);
            rig.end().await?;
            Ok(sample)
        }
    })
}

/// One job at a time: how long after its enqueue was answered its handler begins. `other`: in
/// another instance on the same database than the one that enqueues.
fn pickup(name: &str, place: &Place, other: bool) -> Scenario {
    let place = place.clone();
    Scenario::new(PICKUP, name, move || {
        let place = place.clone();
        async move {
            let works = Rig::start(&place, 10).await?;
            if !other {
                let milliseconds = pings(&works, &works).await?;
                works.end().await?;
                return Ok(Sample::default().with(&milliseconds));
            }
            let asks = Rig::at(works.site.clone(), 0).await?;
            let milliseconds = pings(&asks, &works).await?;
            asks.stop().await;
            works.end().await?;
            Ok(Sample::default().with(&milliseconds))
        }
    })
}

async fn pings(asks: &Rig, works: &Rig) -> Result<Vec<f64>, Failure> {
    const COUNT: u64 = 200;
    let mut milliseconds = Vec::new();
    for number in 0..COUNT + 20 {
        // Not in step with anything that ticks.
        sleep(Duration::from_micros(3_000 + fastrand::u64(..4_000))).await;
        asks.jobs.enqueue(Ping { number }).await.map_err(words)?;
        let answered = Instant::now();
        let began = works.pings.began(number).await;
        // The first ones wait for the first beat and warm up.
        if number >= 20 {
            let waited = began.saturating_duration_since(answered);
            milliseconds.push(waited.as_secs_f64() * 1e3);
        }
    }
    Ok(milliseconds)
}

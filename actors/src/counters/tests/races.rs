//! Repair while others write: ours leaves nothing wrong, and the ways that look right do.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;
use crate::store::{PgStore, SqliteTx};

/// LIMIT: how long a race is run at most until every wrong way has gone wrong.
const RACE: Duration = Duration::from_secs(12);
/// How long it is run at least.
const RACE_MIN: Duration = Duration::from_secs(2);
const TOPICS: i64 = 40;
const WRITERS: u64 = 12;
const REPAIRERS: u64 = 4;

/// Columns that say the same, each repaired in another way: ours first.
const COLUMNS: [&str; 5] = ["by_delta", "by_recount", "nullable", "read_then_write", "one_update"];
const CONTROLS: [&str; 2] = ["read_then_write", "one_update"];

fn raced(shop: &Shop, column: &str) -> CounterSpec {
    CounterSpec::new(column)
        .parent(&shop.sql("{}hot"), "id")
        .column(column)
        .child(&shop.sql("{}posts"), "topic_id")
        .filter("deleted_at is null")
}

async fn prepare(shop: &Shop) {
    let columns = COLUMNS.map(|column| {
        let not_null = if column == "nullable" { "" } else { "not null" };
        format!("{column} integer {not_null} default 0")
    });
    shop.execute(&format!("create table {{}}hot (id {{key}} primary key, {})", columns.join(", ")))
        .await;
    for id in 1..=TOPICS {
        shop.execute(&format!("insert into {{}}hot (id) values ({id})")).await;
    }
    // Two thirds of ours have drifted, some to null. The others begin right.
    let drifted = ["by_delta", "by_recount", "nullable"].map(|column| {
        let other = if column == "nullable" { "null" } else { "9" };
        format!("{column} = case when id % 6 = 0 then {other} else 7 end")
    });
    shop.execute(&format!("update {{}}hot set {} where id % 3 < 2", drifted.join(", "))).await;
}

async fn wrong(shop: &Shop, column: &str) -> i64 {
    shop.number(&format!(
        "select count(*) as v from {{}}hot t where t.{column} is distinct from
           (select count(*) from {{}}posts p where p.topic_id = t.id and p.deleted_at is null)"
    ))
    .await
}

/// One of the writers of a service: children come, go, move and are put away, and their parents'
/// counters change by as much in the same transaction.
async fn writes_on_postgres(
    store: PgStore,
    writer: u64,
    isolation: &str,
    stop: &AtomicBool,
) -> u64 {
    let client = store.client().await.unwrap();
    let schema = store.schema();
    let add = |by: &str, topic: i64| {
        let set = COLUMNS.map(|column| format!("{column} = {column} {by}")).join(", ");
        format!("update {schema}.hot set {set} where id = {topic}")
    };
    let (mut own, mut done, mut next) = (Vec::<(i64, i64)>::new(), 0, 0_i64);
    while !stop.load(Ordering::Relaxed) {
        let topic = fastrand::i64(1..=TOPICS);
        let known = own.len();
        let choice = if known < 5 { 0 } else { fastrand::u8(0..5) };
        let statements = if choice < 2 {
            let id = i64::try_from(writer).unwrap() * 1_000_000 + next;
            next += 1;
            own.push((id, topic));
            vec![
                format!("insert into {schema}.posts (id, topic_id) values ({id}, {topic})"),
                add("+ 1", topic),
            ]
        } else {
            let (id, from) = own.swap_remove(fastrand::usize(..known));
            match choice {
                2 => vec![format!("delete from {schema}.posts where id = {id}"), add("- 1", from)],
                3 => vec![
                    format!("update {schema}.posts set deleted_at = 'now' where id = {id}"),
                    add("- 1", from),
                ],
                _ => {
                    own.push((id, topic));
                    vec![
                        format!("update {schema}.posts set topic_id = {topic} where id = {id}"),
                        add("- 1", from),
                        add("+ 1", topic),
                    ]
                }
            }
        };
        let transaction =
            format!("begin isolation level {isolation}; {}; commit", statements.join("; "));
        // A deadlock or a conflict: again, until it is done.
        while client.batch_execute(&transaction).await.is_err() {
            client.batch_execute("rollback").await.unwrap();
        }
        done += 1;
    }
    done
}

/// Repairs again and again, as one of several.
async fn repairs(
    shop: Shop,
    column: &'static str,
    strategy: Strategy,
    stop: Arc<AtomicBool>,
) -> u64 {
    let spec = raced(&shop, column).strategy(strategy);
    let mut runs = 0;
    while !stop.load(Ordering::Relaxed) {
        shop.run(&spec, Mode::Repair, 1..=16).await;
        runs += 1;
    }
    runs
}

/// What not to do, on connections of their own.
async fn wrong_way(store: PgStore, way: &'static str, stop: Arc<AtomicBool>) {
    let client = store.client().await.unwrap();
    let schema = store.schema();
    let count = format!(
        "(select count(*) from {schema}.posts p where p.topic_id = t.id and p.deleted_at is null)"
    );
    while !stop.load(Ordering::Relaxed) {
        match way {
            "read_then_write" => {
                let select = format!("select t.id, {count} from {schema}.hot t order by t.id");
                for row in client.query(&select, &[]).await.unwrap() {
                    let (id, count): (i64, i64) = (row.get(0), row.get(1));
                    let update = format!(
                        "update {schema}.hot set read_then_write = {count} where id = {id}"
                    );
                    let _deadlock = client.batch_execute(&update).await;
                }
            }
            _ => {
                let update = format!(
                    "update {schema}.hot h set one_update = x.n
                       from (select t.id, {count} as n from {schema}.hot t) x
                      where x.id = h.id"
                );
                let _deadlock = client.batch_execute(&update).await;
            }
        }
        // What it made wrong can be seen for so long, before it makes it right again.
        sleep(Duration::from_millis(20)).await;
    }
}

/// How many of ours are wrong after the race, and how many of the others were at any moment of it.
async fn race(shop: &Shop, store: &PgStore) -> ([i64; 3], [i64; 2]) {
    prepare(shop).await;
    let stop = Arc::new(AtomicBool::new(false));
    let written = Arc::new(AtomicU64::new(0));
    let mut tasks = Vec::new();
    for writer in 0..WRITERS {
        let (store, stop, written) = (store.clone(), Arc::clone(&stop), Arc::clone(&written));
        tasks.push(tokio::task::spawn_local(async move {
            let done = writes_on_postgres(store, writer, "read committed", &stop).await;
            written.fetch_add(done, Ordering::Relaxed);
        }));
    }
    let runs = Arc::new(AtomicU64::new(0));
    let ours = [
        ("by_delta", Strategy::Delta),
        ("by_recount", Strategy::Recount),
        ("nullable", Strategy::Delta),
    ];
    for repairer in 0..REPAIRERS {
        for (column, strategy) in ours {
            // Four of the first; one each is enough of the others.
            if repairer == 0 || column == "by_delta" {
                let (shop, stop, runs) = (shop.clone(), Arc::clone(&stop), Arc::clone(&runs));
                tasks.push(tokio::task::spawn_local(async move {
                    runs.fetch_add(repairs(shop, column, strategy, stop).await, Ordering::Relaxed);
                }));
            }
        }
    }
    for way in CONTROLS {
        let (store, stop) = (store.clone(), Arc::clone(&stop));
        tasks.push(tokio::task::spawn_local(wrong_way(store, way, stop)));
    }
    let begun = Instant::now();
    let mut worst = [0; 2];
    while begun.elapsed() < RACE_MIN || (worst.contains(&0) && begun.elapsed() < RACE) {
        for (column, worst) in CONTROLS.iter().zip(&mut worst) {
            *worst = wrong(shop, column).await.max(*worst);
        }
        sleep(Duration::from_millis(10)).await;
    }
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.unwrap();
    }
    assert!(
        written.load(Ordering::Relaxed) > 50 && runs.load(Ordering::Relaxed) > 3,
        "there was a race"
    );
    let mut found = [0; 3];
    for (column, found) in COLUMNS.iter().zip(&mut found) {
        *found = wrong(shop, column).await;
    }
    (found, worst)
}

#[actix::test]
async fn nothing_is_wrong_after_a_race_but_what_the_wrong_ways_did() {
    let Some(base) = Base::postgres().await else { return };
    let Base::Postgres(schema) = &base else { return };
    let store = PgStore::connect(schema.options().connections(40)).await.unwrap();
    let shop = Shop { store: store.clone().into() };
    shop.execute(TABLES).await;
    let (ours, controls) = race(&shop, &store).await;
    assert_eq!(ours, [0; 3]);
    assert!(controls.iter().all(|wrong| *wrong > 0), "the race is none: {controls:?}");
    shop.close().await;
}

#[actix::test]
async fn writers_at_repeatable_read_change_nothing_of_that() {
    let Some(base) = Base::postgres().await else { return };
    let Base::Postgres(schema) = &base else { return };
    let store = PgStore::connect(schema.options().connections(40)).await.unwrap();
    let shop = Shop { store: store.clone().into() };
    shop.execute(TABLES).await;
    prepare(&shop).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = Vec::new();
    for writer in 0..WRITERS {
        let (store, stop) = (store.clone(), Arc::clone(&stop));
        tasks.push(tokio::task::spawn_local(async move {
            writes_on_postgres(store, writer, "repeatable read", &stop).await
        }));
    }
    let ours = [("by_delta", Strategy::Delta), ("by_recount", Strategy::Recount)];
    for (column, strategy) in ours {
        let (shop, stop) = (shop.clone(), Arc::clone(&stop));
        tasks.push(tokio::task::spawn_local(repairs(shop, column, strategy, stop)));
    }
    sleep(RACE_MIN).await;
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        assert!(task.await.unwrap() > 0);
    }
    for (column, _) in ours {
        assert_eq!(wrong(&shop, column).await, 0, "{column}");
    }
    shop.close().await;
}

fn writes_in_sqlite(tx: &SqliteTx<'_>, id: i64) -> Result<(), StoreError> {
    let topic = fastrand::i64(1..=TOPICS);
    let victim = id - fastrand::i64(1..50);
    let from =
        tx.query_row("delete from posts where id = ?1 returning topic_id", [victim], |row| {
            row.get::<_, Option<i64>>(0)
        });
    if let Ok(Some(from)) = from {
        tx.execute("update hot set by_delta = by_delta - 1 where id = ?1", [from])?;
    }
    tx.execute("insert into posts (id, topic_id) values (?1, ?2)", [id, topic])?;
    tx.execute("update hot set by_delta = by_delta + 1 where id = ?1", [topic])?;
    Ok(())
}

#[actix::test]
async fn nothing_is_wrong_after_a_race_on_sqlite() {
    let base = Base::sqlite();
    let shop = base.shop().await;
    prepare(&shop).await;
    let Store::Sqlite(store) = &shop.store else { return };
    let stop = Arc::new(AtomicBool::new(false));
    let ids = Arc::new(AtomicU64::new(100));
    let mut tasks = Vec::new();
    for _ in 0..WRITERS {
        let (store, stop, ids) = (store.clone(), Arc::clone(&stop), Arc::clone(&ids));
        tasks.push(tokio::task::spawn_local(async move {
            let mut done = 0;
            while !stop.load(Ordering::Relaxed) {
                let id = i64::try_from(ids.fetch_add(1, Ordering::Relaxed)).unwrap();
                store.write(move |tx| writes_in_sqlite(tx, id)).await.unwrap();
                done += 1;
            }
            done
        }));
    }
    for _ in 0..REPAIRERS {
        let (shop, stop) = (shop.clone(), Arc::clone(&stop));
        tasks.push(tokio::task::spawn_local(repairs(shop, "by_delta", Strategy::Auto, stop)));
    }
    sleep(RACE_MIN).await;
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        assert!(task.await.unwrap() > 0);
    }
    assert_eq!(wrong(&shop, "by_delta").await, 0);
    shop.close().await;
}

/// While much is added through triggers, and folded and repaired at the same time.
#[actix::test]
async fn deltas_are_folded_once_while_others_write_fold_and_repair() {
    let Some(base) = Base::postgres().await else { return };
    let Base::Postgres(schema) = &base else { return };
    let store = PgStore::connect(schema.options().connections(40)).await.unwrap();
    let shop = Shop { store: store.clone().into() };
    shop.execute(TABLES).await;
    prepare(&shop).await;
    let spec = raced(&shop, "by_delta").maintain(Maintain::Deferred);
    let subject = shop.subject(&spec).await.unwrap();
    maintain::apply(&shop.store, sql::triggers::make(&subject)).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = Vec::new();
    for writer in 0..6_i64 {
        let (store, stop) = (store.clone(), Arc::clone(&stop));
        tasks.push(tokio::task::spawn_local(async move {
            let client = store.client().await.unwrap();
            let schema = store.schema();
            let mut done = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                let topic = fastrand::i64(1..=TOPICS);
                let id = writer * 1_000_000 + i64::try_from(done).unwrap();
                let insert =
                    format!("insert into {schema}.posts (id, topic_id) values ({id}, {topic})");
                client.batch_execute(&insert).await.unwrap();
                let move_one =
                    format!("update {schema}.posts set topic_id = {topic} where id = {}", id - 7);
                client.batch_execute(&move_one).await.unwrap();
                done += 1;
            }
            done
        }));
    }
    for _ in 0..3 {
        let (own, over, subject) = (shop.clone(), Arc::clone(&stop), subject.clone());
        tasks.push(tokio::task::spawn_local(async move {
            let mut folded = 0;
            while !over.load(Ordering::Relaxed) {
                // A deadlock with another flusher or a repair: again.
                folded += maintain::fold(&own.store, &subject).await.map_or(0, u64::from);
            }
            folded
        }));
        let (own, stop, spec) = (shop.clone(), Arc::clone(&stop), spec.clone());
        tasks.push(tokio::task::spawn_local(async move {
            let mut runs = 0;
            while !stop.load(Ordering::Relaxed) {
                own.run(&spec, Mode::Repair, 1..=16).await;
                runs += 1;
            }
            runs
        }));
    }
    sleep(RACE_MIN).await;
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        assert!(task.await.unwrap() > 0);
    }
    while maintain::fold(&shop.store, &subject).await.unwrap() > 0 {}
    assert_eq!(wrong(&shop, "by_delta").await, 0);
    shop.close().await;
}

/// One whose children take longer to count than a statement may: it is given more time.
#[actix::test]
async fn a_parent_of_very_many_children_is_repaired_by_itself() {
    let Some(base) = Base::postgres().await else { return };
    let shop = base.shop().await;
    shop.fill(50, 2).await;
    shop.execute(
        "insert into {}posts (id, topic_id) select i, 25 from generate_series(10000000, 10400000) i;
         update {}topics set posts_count = 9",
    )
    .await;
    let subject = shop.subject(&shop.posts()).await.unwrap();
    let settings = Settings {
        batch: 1..=5_000,
        target: Duration::from_millis(50),
        lock_timeout: Duration::from_secs(1),
        statement_timeout: Duration::from_millis(10),
        turn: WITHIN,
    };
    let repair = Repair::new(shop.store.clone(), subject, settings, WallClock::system());
    let run = shop.begin(&shop.posts(), Mode::Repair, 1).await;
    // The queue's job does this again while it has attempts left.
    let mut end = repair.run(run, &control()).await;
    for _ in 0..5 {
        if end.is_ok() {
            break;
        }
        let run = shop.begin(&shop.posts(), Mode::Repair, 1).await;
        end = repair.run(run, &control()).await;
    }
    assert_eq!(end.unwrap(), End::Done);
    let totals = shop.found(1).await.totals;
    assert!(totals.retries > 0, "it was too much at first");
    assert_eq!((totals.scanned, totals.repaired), (50, 50));
    assert_eq!(shop.wrong().await, 0);
    shop.close().await;
}

#[actix::test]
async fn a_column_that_somebody_else_repairs_is_busy() {
    let Some(base) = Base::postgres().await else { return };
    let shop = base.shop().await;
    shop.fill(5, 1).await;
    let Store::Postgres(store) = &shop.store else { return };
    let mut other = store.client().await.unwrap();
    let tx = other.transaction().await.unwrap();
    let name = shop.subject(&shop.posts()).await.unwrap().lock_name();
    let lock = "select pg_advisory_xact_lock(hashtextextended($1, 7363))";
    tx.query(lock, &[&name]).await.unwrap();
    let repair = shop.repairer(&shop.posts(), 1..=5_000).await;
    let run = shop.begin(&shop.posts(), Mode::Repair, 1).await;
    let refused = repair.one_batch(run.clone(), 10).await;
    assert!(matches!(refused, Err(CounterError::Busy)), "{refused:?}");
    // To look does no harm.
    shop.survey(&shop.posts()).await;
    tx.rollback().await.unwrap();
    assert_eq!(repair.run(run, &control()).await.unwrap(), End::Done);
    shop.close().await;
}

/// A writer that holds a row for long makes a batch give up its wait, and not its run.
#[actix::test]
async fn a_lock_that_is_held_for_long_only_delays_a_run() {
    let Some(base) = Base::postgres().await else { return };
    let shop = base.shop().await;
    shop.fill(5, 1).await;
    shop.execute("update {}topics set posts_count = 9").await;
    let Store::Postgres(store) = &shop.store else { return };
    let mut other = store.client().await.unwrap();
    let tx = other.transaction().await.unwrap();
    tx.batch_execute(&shop.sql("update {}topics set cents = 1 where id = 3")).await.unwrap();
    let run = shop.begin(&shop.posts(), Mode::Repair, 1).await;
    let subject = shop.subject(&shop.posts()).await.unwrap();
    let settings = Settings {
        batch: 1..=5_000,
        target: Duration::from_millis(50),
        lock_timeout: Duration::from_millis(20),
        statement_timeout: Duration::from_secs(5),
        turn: WITHIN,
    };
    let repair = Repair::new(shop.store.clone(), subject, settings, WallClock::system());
    let releases = async {
        sleep(Duration::from_millis(150)).await;
        tx.commit().await.unwrap();
    };
    let control = control();
    let (end, ()) = tokio::join!(repair.run(run, &control), releases);
    assert_eq!(end.unwrap(), End::Done);
    let totals = shop.found(1).await.totals;
    assert!(totals.retries > 0);
    assert_eq!((totals.scanned, totals.repaired, shop.wrong().await), (5, 5, 0));
    shop.close().await;
}

//! What SQLite alone has: two ways to refuse, files that older programs use, odd tables.

use std::process::Command;

use super::lives::{Tag, Three, Two};
use super::*;

/// The ways that the library has: triggers always, constraints from 3.53 on.
fn ways() -> Vec<SqliteStrategy> {
    let mut ways = vec![SqliteStrategy::Trigger, SqliteStrategy::of_library()];
    ways.dedup();
    ways
}

#[tokio::test]
async fn a_console_is_refused_too() {
    for strategy in ways() {
        let shop = Shop::sqlite(strategy).await;
        let enums = shop.orders(Two::SPEC).await;
        shop.insert(1, "'paid'").await.unwrap();
        let Store::Sqlite(store) = &shop.store else { panic!() };
        let path = store.path().unwrap().to_owned();
        for bad in ["insert into orders values (2, 'bogus')", "update orders set status = 'x'"] {
            refused_by_console(&path, bad);
            let outsider = rusqlite::Connection::open(&path).unwrap();
            let error = StoreError::from(outsider.execute(bad, []).unwrap_err());
            assert_eq!(error.code().as_str(), "schema_enum.rejected", "{error:?}");
        }
        assert!(shop.is_clean(&enums).await);
    }
}

/// Through the program of the host, which may be older than ours; nothing where there is none.
fn refused_by_console(path: &std::path::Path, sql: &str) {
    let Ok(ended) = Command::new("sqlite3").arg(path).arg(sql).output() else {
        eprintln!("skipped: no sqlite3");
        return;
    };
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(!ended.status.success() && said.contains("sf_orders_status_"), "{said}");
}

#[tokio::test]
async fn half_of_the_triggers_is_no_constraint() {
    let shop = Shop::sqlite(SqliteStrategy::Trigger).await;
    let enums = shop.orders(Two::SPEC).await;
    let constraint = SchemaEnums::of::<Two>().constraints(Dialect::Postgres).unwrap();
    let name = constraint[0].split('"').nth(1).unwrap().to_owned();
    shop.sql(&format!("drop trigger {name}_update")).await.unwrap();
    assert!(shop.verdicts(&enums).await.contains(&Verdict::Unenforced));
    shop.apply(&enums, Phase::Expand).await;
    assert!(shop.is_clean(&enums).await);
}

#[tokio::test]
async fn triggers_become_a_constraint_where_the_library_can() {
    if SqliteStrategy::of_library() == SqliteStrategy::Trigger {
        eprintln!("skipped: this SQLite adds no constraints to tables");
        return;
    }
    let shop = Shop::sqlite(SqliteStrategy::Trigger).await;
    shop.orders(Two::SPEC).await;
    let triggers = "select count(*) from sqlite_schema where type = 'trigger'";
    assert_eq!(shop.number(triggers).await, 2);
    let enums = shop.enums(Three::SPEC).sqlite_strategy(SqliteStrategy::Constraint);
    shop.apply(&enums, Phase::Expand).await;
    assert_eq!(shop.number(triggers).await, 0);
    assert!(shop.is_clean(&enums).await);
    assert_rejected(shop.insert(1, "'bogus'").await);
}

#[tokio::test]
async fn a_check_without_a_name_is_left_to_its_owner() {
    for strategy in ways() {
        let shop = Shop::sqlite(strategy).await;
        let create = "create table orders (id integer primary key, status text not null default 'paid' \
                      check (status in ('pending', 'paid')))";
        shop.sql(create).await.unwrap();
        assert!(shop.is_clean(&shop.enums(Two::SPEC)).await, "it does all that is needed");
        let before = shop.catalogue().await;
        let refused = shop.refused(&shop.enums(Three::SPEC), Phase::Expand).await;
        assert!(matches!(&*refused, [Obstacle::RefusedBy { .. }]), "{refused:?}");
        assert_eq!(shop.catalogue().await, before);
    }
}

#[tokio::test]
async fn what_speaks_of_other_columns_is_not_taken_for_a_list() {
    let shop = Shop::sqlite(SqliteStrategy::of_library()).await;
    let create = "create table orders (status text not null, Total int, \
                  check (status = 'pending' or total > 0))";
    shop.sql(create).await.unwrap();
    assert_eq!(shop.verdicts(&shop.enums(Two::SPEC)).await, [Verdict::Unenforced]);
}

#[tokio::test]
async fn affinity_collation_and_strictness_are_those_of_the_column() {
    for strategy in ways() {
        let shop = Shop::sqlite(strategy).await;
        let create = "create table orders (status text collate nocase not null \
                      check (status in ('pending', 'paid')))";
        shop.sql(create).await.unwrap();
        let enums = shop.enums(Two::SPEC);
        let more = vec!["PAID".to_owned(), "PENDING".to_owned()];
        assert_eq!(shop.verdicts(&enums).await, [Verdict::DatabaseAllows { values: more }]);
        shop.apply(&enums, Phase::Contract).await;
        assert!(shop.is_clean(&enums).await);
        assert_rejected(shop.sql("insert into orders values ('PAID')").await);

        shop.sql("drop table orders").await.unwrap();
        let create = "create table orders (id integer primary key, status text, note any) strict";
        shop.sql(create).await.unwrap();
        shop.apply(&enums, Phase::Expand).await;
        assert!(shop.is_clean(&enums).await);
    }
}

#[tokio::test]
async fn a_table_without_a_rowid_is_looked_after_too() {
    for strategy in ways() {
        let shop = Shop::sqlite(strategy).await;
        let create = "create table orders (id text primary key, status text) without rowid";
        shop.sql(create).await.unwrap();
        shop.sql("insert into orders values ('a', 'paid'), ('b', 'bad')").await.unwrap();
        let enums = shop.enums(lives::Renamed::SPEC);
        let rows = shop.report(&enums).await.rows;
        assert_eq!(samples(&rows).len(), 2);
        shop.sql("delete from orders where id = 'b'").await.unwrap();
        for phase in [Phase::Expand, Phase::Backfill, Phase::Contract] {
            shop.apply(&enums, phase).await;
        }
        assert!(shop.is_clean(&enums).await);
    }
}

#[tokio::test]
async fn a_list_of_values_is_not_supported_and_says_so() {
    let shop = Shop::sqlite(SqliteStrategy::of_library()).await;
    shop.sql("create table orders (tags text)").await.unwrap();
    let enums = shop.enums(Tag::SPEC);
    assert_eq!(shop.refused(&enums, Phase::Expand).await, [Obstacle::NoLists]);
    assert!(matches!(&*shop.verdicts(&enums).await, [Verdict::TypeMismatch { .. }]));
}

#[tokio::test]
async fn a_database_in_memory_is_looked_after_too() {
    use crate::store::{SqliteOptions, SqliteStore};

    let store = Store::from(SqliteStore::open(SqliteOptions::memory()).await.unwrap());
    let shop = Shop { store, ..Shop::sqlite(SqliteStrategy::of_library()).await };
    let enums = shop.orders(Two::SPEC).await;
    assert!(shop.is_clean(&enums).await);
}

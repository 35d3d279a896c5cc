//! What PostgreSQL alone has: domains, enum types, lists, locks, and rows that were not checked.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::lives::{Native, Tag, Three, Two};
use super::*;
use crate::schema_enum::drift::Rows;

#[tokio::test]
async fn a_console_is_refused_too() {
    let Some(shop) = Shop::postgres().await else { return };
    shop.orders(Two::SPEC).await;
    shop.insert(1, "'paid'").await.unwrap();
    let Base::Postgres(schema) = &shop.base else { panic!() };
    let table = shop.table("orders");
    for bad in [
        format!("insert into {table} values (2, 'bogus')"),
        format!("update {table} set status = 'bogus'"),
        format!("copy {table} from program 'echo 3,bogus' with (format csv)"),
    ] {
        let ended = Command::new("psql").args([&schema.address(), "-c", &bad]).output();
        let Ok(ended) = ended else { return eprintln!("skipped: no psql") };
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(!ended.status.success() && said.contains("\"sf_orders_status_"), "{bad}: {said}");
    }
}

#[tokio::test]
async fn types_and_domains_over_text_hold_it_and_are_asked_in_their_own_words() {
    let Some(shop) = Shop::postgres().await else { return };
    let enums = shop.enums(Two::SPEC);
    shop.sql("create domain {state} as text check (value in ('pending', 'paid'))").await.unwrap();
    shop.sql("create domain {inner} as varchar(9) not null").await.unwrap();
    shop.sql("create domain {outer} as {inner} constraint x check (value ~ '^(pending|paid)$')")
        .await
        .unwrap();
    for (kind, condition) in [
        ("text", "check (status in ('pending', 'paid'))"),
        ("varchar", "check (status in ('pending', 'paid'))"),
        ("varchar(9)", "check (status = any (array['pending', 'paid']::varchar[]))"),
        ("char(9)", "check (status in ('pending', 'paid'))"),
        ("{state}", ""),
        ("{outer}", ""),
        ("text collate \"C\"", "check (status ~ '^(pending|paid)$')"),
    ] {
        let create = format!("create table {{orders}} (status {kind} not null {condition})");
        shop.sql(&create).await.unwrap();
        assert!(shop.is_clean(&enums).await, "{kind}");
        shop.sql("drop table {orders}").await.unwrap();
    }
    shop.sql("create table {orders} (status {state} not null)").await.unwrap();
    let refused = shop.refused(&shop.enums(Three::SPEC), Phase::Expand).await;
    let [Obstacle::RefusedBy { what, remedy, .. }] = &*refused else { panic!("{refused:?}") };
    assert!(what == "state_check" && remedy.contains("domain"), "{what}: {remedy}");
}

#[tokio::test]
async fn a_label_that_does_not_fit_is_not_allowed_and_a_limit_is_no_list() {
    let Some(shop) = Shop::postgres().await else { return };
    shop.sql("create table {orders} (status varchar(6) not null)").await.unwrap();
    let enums = shop.enums(Three::SPEC);
    let refused = vec!["pending".into(), "on_hold".into()];
    let expected = [Verdict::CodeNotAllowed { values: refused }, Verdict::Unenforced];
    assert_eq!(shop.verdicts(&enums).await, expected);
    let refused = shop.refused(&enums, Phase::Expand).await;
    assert!(matches!(&*refused, [Obstacle::RefusedBy { remedy: "make the column wider", .. }]));
}

#[tokio::test]
async fn rows_that_were_not_checked_are_counted_and_then_checked() {
    let Some(shop) = Shop::postgres().await else { return };
    let enums = shop.bare_orders(Two::SPEC).await;
    shop.insert(1, "'legacy'").await.unwrap();
    let add = "alter table {orders} add constraint mine \
               check (status is not null and status in ('pending', 'paid')) not valid";
    shop.sql(add).await.unwrap();
    let report = shop.report(&enums).await;
    assert_eq!(report.verdicts, [Verdict::NotValidated { constraint: "mine".into() }]);
    assert_eq!(samples(&report.rows), [(Some("legacy"), 1)]);
    assert_eq!(report.severity, Severity::Weaker);

    let refused = shop.refused(&enums, Phase::Expand).await;
    assert!(matches!(&*refused, [Obstacle::RowsHold(held)] if held[0].rows == 1), "{refused:?}");
    let refused = shop.refused(&shop.enums(Three::SPEC), Phase::Expand).await;
    assert!(matches!(&*refused, [Obstacle::RowsHold(_)]), "nor is it swapped: {refused:?}");

    shop.sql("update {orders} set status = 'paid'").await.unwrap();
    let report = shop.report(&enums).await;
    assert_eq!((report.severity, samples(&report.rows).len()), (Severity::Note, 0));
    shop.apply(&enums, Phase::Expand).await;
    assert!(shop.is_clean(&enums).await);
    let other = "alter table {orders} add constraint other check (status <> 'x') not valid";
    shop.sql(other).await.unwrap();
    assert!(shop.is_clean(&enums).await, "what is no list is its owner's to validate");
}

#[tokio::test]
async fn a_row_that_comes_between_the_look_and_the_check_is_told_and_the_rest_is_kept() {
    let Some(shop) = Shop::postgres().await else { return };
    let enums = shop.bare_orders(Two::SPEC).await;
    let plan = enums.plan(&shop.store).await.unwrap();
    shop.insert(1, "'late'").await.unwrap();
    let error = enums.take_steps(&shop.store, plan.steps).await.unwrap_err();
    assert_eq!(error.code().as_str(), "schema_enum.rows_do_not_fit");
    assert_rejected(shop.insert(2, "'late'").await);
    assert_eq!(shop.report(&enums).await.severity, Severity::Weaker);
    shop.sql("delete from {orders}").await.unwrap();
    let taken = shop.apply(&enums, Phase::Expand).await;
    assert_eq!(taken.len(), 1, "only the check of the rows is left: {taken:?}");
    assert!(shop.is_clean(&enums).await);
}

#[tokio::test]
async fn rows_that_take_too_long_are_not_counted() {
    let Some(shop) = Shop::postgres().await else { return };
    let enums = shop.enums(Two::SPEC).count_within(Duration::from_millis(10));
    let slow = "create view {orders} as select g as id, case when pg_sleep(0.05) is null \
                then 'paid' else 'bad' end as status from generate_series(1, 1000) g";
    shop.sql(slow).await.unwrap();
    let started = Instant::now();
    let report = shop.report(&enums).await;
    assert_eq!(report.rows, Rows::NotCounted);
    assert!(started.elapsed() < Duration::from_secs(5));
    let refused = shop.refused(&enums, Phase::Expand).await;
    assert!(refused.contains(&Obstacle::NotCounted), "{refused:?}");
}

#[tokio::test]
async fn an_enum_type_is_made_grows_and_is_replaced_only_when_allowed() {
    let Some(shop) = Shop::postgres().await else { return };
    shop.sql("create table {orders} (status text)").await.unwrap();
    let enums = shop.enums(Native::SPEC);
    let plan = enums.plan(&shop.store).await.unwrap().to_string();
    assert!(plan.contains("AS ENUM ('pending', 'on_hold', 'paid')"), "{plan}");
    shop.sql("drop table {orders}; create type {order_status} as enum ('pending', 'paid', 'lost')")
        .await
        .unwrap();
    shop.sql(
        "create table {orders} (status {order_status} not null default 'pending');
         create table {order_events} (to_status {order_status})",
    )
    .await
    .unwrap();
    assert_eq!(
        shop.verdicts(&enums).await,
        [
            Verdict::CodeNotAllowed { values: vec!["on_hold".into()] },
            Verdict::DatabaseAllows { values: vec!["lost".into()] },
        ]
    );
    let taken = shop.apply(&enums, Phase::Expand).await;
    assert_eq!(taken.len(), 1, "one type, one step: {taken:?}");
    let order = "select count(*) from pg_enum a join pg_enum b using (enumtypid) \
                 where enumtypid = '{order_status}'::regtype and a.enumlabel = 'on_hold' \
                 and b.enumlabel = 'paid' and a.enumsortorder < b.enumsortorder";
    assert_eq!(shop.number(order).await, 1, "in the order of the code");
    assert_rejected(shop.sql("insert into {orders} values ('bogus')").await);

    shop.sql("insert into {order_events} values ('lost'), ('paid'), (null)").await.unwrap();
    let refused = shop.refused(&enums, Phase::Contract).await;
    assert!(refused.iter().any(|one| matches!(one, Obstacle::RowsHold(_))), "{refused:?}");
    assert!(refused.contains(&Obstacle::NeedsRewrite));
    shop.sql("delete from {order_events} where to_status = 'lost'").await.unwrap();
    assert_eq!(shop.refused(&enums, Phase::Contract).await, [Obstacle::NeedsRewrite]);
    let enums = enums.allow_rewrites(true);
    shop.apply(&enums, Phase::Contract).await;
    assert!(shop.is_clean(&enums).await);
    shop.sql("insert into {orders} default values").await.unwrap();
    assert_eq!(shop.number("select count(*) from {orders} where status = 'pending'").await, 1);
    assert_rejected(shop.sql("insert into {orders} values ('lost')").await);
    assert_eq!(shop.number("select count(*) from {order_events}").await, 2);
}

#[tokio::test]
async fn a_list_holds_values_and_nothing_else() {
    let Some(shop) = Shop::postgres().await else { return };
    for kind in ["text[]", "varchar(9)[]"] {
        shop.sql(&format!("create table {{orders}} (tags {kind})")).await.unwrap();
        shop.sql(
            "insert into {orders} values ('{}'), (array['gift', 'fast', 'fast'])"
                .replace("'{}'", "array[]::text[]")
                .as_str(),
        )
        .await
        .unwrap();
        let enums = shop.enums(Tag::SPEC);
        let report = shop.report(&enums).await;
        assert_eq!(samples(&report.rows), [(Some("fast"), 2)], "{report}");
        for phase in [Phase::Expand, Phase::Backfill, Phase::Contract] {
            shop.apply(&enums, phase).await;
        }
        assert!(shop.is_clean(&enums).await);
        let express = "select count(*) from {orders} \
                       where tags::text[] = array['gift', 'express', 'express']";
        assert_eq!(shop.number(express).await, 1);
        for bad in ["array['bogus']", "array['gift', 'x']", "null", "array[null, 'gift']"] {
            let insert = format!("insert into {{orders}} values ({bad})");
            assert_rejected(shop.sql(&insert).await);
        }
        shop.sql("drop table {orders}").await.unwrap();
    }
    shop.sql("create table {orders} (tags text)").await.unwrap();
    assert!(matches!(
        &*shop.verdicts(&shop.enums(Tag::SPEC)).await,
        [Verdict::TypeMismatch { .. }]
    ));
}

#[tokio::test]
async fn a_partitioned_table_is_changed_as_a_whole() {
    let Some(shop) = Shop::postgres().await else { return };
    shop.sql(
        "create table {orders} (id int, status text) partition by range (id);
         create table {low} partition of {orders} for values from (0) to (100);
         create table {high} partition of {orders} for values from (100) to (200);
         insert into {orders} select g, 'paid' from generate_series(0, 199) g",
    )
    .await
    .unwrap();
    let enums = shop.enums(lives::Renamed::SPEC);
    for phase in [Phase::Expand, Phase::Backfill, Phase::Contract] {
        shop.apply(&enums, phase).await;
    }
    assert!(shop.is_clean(&enums).await);
    assert_eq!(shop.number("select count(*) from {orders} where status = 'settled'").await, 200);
    assert_rejected(shop.sql("insert into {low} values (1, 'paid')").await);
}

#[tokio::test]
async fn a_long_reader_delays_a_swap_and_no_writer() {
    let Some(shop) = Shop::postgres().await else { return };
    shop.orders(Two::SPEC).await;
    shop.insert(0, "'paid'").await.unwrap();
    let Base::Postgres(schema) = &shop.base else { panic!() };
    let reader = schema.observer().await;
    let table = shop.table("orders");
    let lock_timeout = Duration::from_millis(50);
    let enums = shop.enums(Three::SPEC).lock_timeout(lock_timeout);

    reader.batch_execute(&format!("begin; select * from {table}")).await.unwrap();
    let error = enums.clone().tries(3).apply(&shop.store, Phase::Expand).await.unwrap_err();
    assert_eq!(error.code().as_str(), "schema_enum.lock_busy");
    assert!(error.to_string().ends_with("was not free in 3 tries"), "{error}");
    assert!(matches!(&*shop.verdicts(&enums).await, [Verdict::CodeNotAllowed { .. }]));

    // Writers go on while it is tried, each delayed by one try at most.
    let done = Arc::new(AtomicBool::new(false));
    let writing = {
        let (done, writer) = (Arc::clone(&done), schema.observer().await);
        tokio::spawn(async move {
            let (mut slowest, mut count) = (Duration::ZERO, 0_u32);
            while !done.load(Ordering::Relaxed) {
                let started = Instant::now();
                let update = format!("update {table} set status = 'pending'");
                writer.batch_execute(&update).await.unwrap();
                slowest = slowest.max(started.elapsed());
                count += 1;
            }
            (slowest, count)
        })
    };
    let applying = tokio::spawn({
        let (enums, store) = (enums.clone(), shop.store.clone());
        async move { enums.tries(1000).apply(&store, Phase::Expand).await }
    });
    // LIMIT: long enough for many tries, and for a writer that would wait for the reader to show.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!applying.is_finished(), "the reader is still there");
    reader.batch_execute("commit").await.unwrap();
    applying.await.unwrap().unwrap();
    done.store(true, Ordering::Relaxed);
    let (slowest, count) = writing.await.unwrap();
    assert!(count > 10, "{count} writes");
    // Much longer than a try, and much shorter than the reader, on a machine that is busy.
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    assert!(shop.is_clean(&enums).await);
}

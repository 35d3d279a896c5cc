//! What holds on each database, and for each way in which SQLite refuses.

use super::lives::{Level, Nullable, Odd, Open, Renamed, Three, Two};
use super::*;
use crate::schema_enum::drift::Rows;

on_each_database! {
    what_was_applied_is_clean_and_refuses_other_values,
    a_value_that_only_the_code_has_is_found_and_added,
    a_rename_takes_three_phases_and_leaves_no_old_label,
    a_value_that_rows_have_is_not_removed,
    a_column_without_a_constraint_is_found_and_its_bad_rows_are_counted,
    other_words_and_another_name_are_no_drift,
    a_list_by_somebody_else_is_replaced_and_what_is_no_list_is_not,
    a_wider_list_degrades_and_is_narrowed,
    null_is_a_value_like_others,
    a_catch_all_makes_more_values_a_note,
    numbers_are_values_like_others,
    labels_may_be_anything,
    names_may_be_anything,
    what_is_not_there_is_told,
    readiness_follows_the_verdicts,
}

async fn what_was_applied_is_clean_and_refuses_other_values(shop: Shop) {
    let enums = shop.orders(Two::SPEC).await;
    assert!(shop.is_clean(&enums).await);
    for (id, value) in Two::VALUES.iter().enumerate() {
        shop.insert(id.try_into().unwrap(), &format!("'{value}'")).await.unwrap();
    }
    assert_rejected(shop.insert(7, "'bogus'").await);
    assert_rejected(shop.insert(7, "'PAID'").await);
    assert_rejected(shop.insert(7, "''").await);
    assert_rejected(shop.insert(7, "null").await);
    assert_rejected(shop.sql("update {orders} set status = 'bogus'").await);
    assert_eq!(shop.number("select count(*) from {orders} where status = 'paid'").await, 1);
    assert!(shop.apply(&enums, Phase::Expand).await.is_empty(), "it is done already");
}

async fn a_value_that_only_the_code_has_is_found_and_added(shop: Shop) {
    shop.orders(Two::SPEC).await;
    shop.insert(1, "'paid'").await.unwrap();
    let enums = shop.enums(Three::SPEC);
    let report = shop.report(&enums).await;
    assert_eq!(report.verdicts, [Verdict::CodeNotAllowed { values: vec!["on_hold".into()] }]);
    assert_eq!((report.severity, report.rows), (Severity::Broken, Rows::Vouched));
    assert_rejected(shop.insert(2, "'on_hold'").await);

    shop.apply(&enums, Phase::Expand).await;
    assert!(shop.is_clean(&enums).await);
    shop.insert(2, "'on_hold'").await.unwrap();
    assert_rejected(shop.insert(3, "'bogus'").await);
}

async fn a_rename_takes_three_phases_and_leaves_no_old_label(shop: Shop) {
    let old = shop.orders(Two::SPEC).await;
    let many = "insert into {orders} (id, status) \
                with recursive n (i) as (select 1 union all select i + 1 from n where i < 12000) \
                select i, case when i % 3 = 0 then 'paid' else 'pending' end from n";
    shop.sql(many).await.unwrap();
    let new = shop.enums(Renamed::SPEC);

    shop.apply(&new, Phase::Expand).await;
    assert_eq!(shop.report(&old).await.severity, Severity::Weaker, "the old code can write on");
    let more = Verdict::DatabaseAllows { values: vec!["paid".into()] };
    assert_eq!(shop.verdicts(&new).await, [more]);
    shop.insert(20_000, "'settled'").await.unwrap();
    shop.insert(20_001, "'paid'").await.unwrap();

    let before = shop.catalogue().await;
    let refused = shop.refused(&new, Phase::Contract).await;
    assert!(matches!(&*refused, [Obstacle::NotBackfilled(_)]), "{refused:?}");
    assert_eq!(shop.catalogue().await, before, "nothing was written");

    shop.apply(&new, Phase::Backfill).await;
    assert_eq!(shop.number("select count(*) from {orders} where status = 'settled'").await, 4002);
    assert_eq!(shop.number("select count(*) from {orders} where status = 'paid'").await, 0);
    shop.apply(&new, Phase::Contract).await;
    assert!(shop.is_clean(&new).await);
    assert_rejected(shop.insert(20_002, "'paid'").await);
    assert!(matches!(&*shop.verdicts(&old).await, [Verdict::CodeNotAllowed { .. }, ..]));
}

async fn a_value_that_rows_have_is_not_removed(shop: Shop) {
    shop.orders(Three::SPEC).await;
    shop.insert(1, "'on_hold'").await.unwrap();
    let enums = shop.enums(Two::SPEC);
    let report = shop.report(&enums).await;
    assert_eq!(report.verdicts, [Verdict::DatabaseAllows { values: vec!["on_hold".into()] }]);
    assert_eq!(report.severity, Severity::Weaker);
    assert_eq!(samples(&report.rows), [(Some("on_hold"), 1)]);

    let before = shop.catalogue().await;
    let refused = shop.refused(&enums, Phase::Contract).await;
    let [Obstacle::RowsHold(held)] = &*refused else { panic!("{refused:?}") };
    assert_eq!((held[0].value.as_deref(), held[0].rows), (Some("on_hold"), 1));
    assert_eq!(shop.catalogue().await, before, "nothing was written");

    shop.sql("update {orders} set status = 'paid'").await.unwrap();
    shop.apply(&enums, Phase::Contract).await;
    assert!(shop.is_clean(&enums).await);
    assert_rejected(shop.insert(2, "'on_hold'").await);
}

async fn a_column_without_a_constraint_is_found_and_its_bad_rows_are_counted(shop: Shop) {
    let enums = shop.bare_orders(Renamed::SPEC).await;
    for (id, value) in
        ["'bad'", "'bad'", "'worse'", "null", "'paid'", "'settled'"].iter().enumerate()
    {
        shop.insert(id.try_into().unwrap(), value).await.unwrap();
    }
    let report = shop.report(&enums).await;
    assert_eq!(report.verdicts, [Verdict::DatabaseAllowsNull, Verdict::Unenforced]);
    assert_eq!(report.severity, Severity::Weaker);
    let mut found = samples(&report.rows);
    found.sort_unstable();
    assert_eq!(found, [(None, 1), (Some("bad"), 2), (Some("paid"), 1), (Some("worse"), 1)]);
    let strict = enums.clone().strict(true);
    assert_eq!(shop.report(&strict).await.severity, Severity::Broken);

    let refused = shop.refused(&enums, Phase::Expand).await;
    let [Obstacle::RowsHold(held)] = &*refused else { panic!("{refused:?}") };
    assert_eq!(held.len(), 3, "an alias is not bad: {held:?}");
    shop.sql("update {orders} set status = 'pending' where id in (0, 1, 2, 3)").await.unwrap();
    for phase in [Phase::Expand, Phase::Backfill, Phase::Contract] {
        shop.apply(&enums, phase).await;
    }
    assert!(shop.is_clean(&enums).await);
    assert_eq!(shop.number("select count(*) from {orders} where status = 'settled'").await, 2);
}

async fn other_words_and_another_name_are_no_drift(shop: Shop) {
    let enums = shop.enums(Two::SPEC);
    for words in [
        "constraint mine check (status in ('paid', 'pending'))",
        "check (status = 'pending' or (status) = 'paid')",
        "check (not (status <> 'pending' and status <> 'paid'))",
        "check (case status when 'paid' then 1 = 1 when 'pending' then 2 > 1 else 1 = 2 end)",
        "check (length(status) < 20) check (status in ('paid', 'pending', 'x')) check (status <> 'x')",
    ] {
        let create = format!("create table {{orders}} (status text not null {words})");
        shop.sql(&create).await.unwrap();
        assert!(shop.is_clean(&enums).await, "{words}");
        shop.sql("drop table {orders}").await.unwrap();
    }
}

async fn a_list_by_somebody_else_is_replaced_and_what_is_no_list_is_not(shop: Shop) {
    let enums = shop.enums(Three::SPEC);
    let create = "create table {orders} (id integer, status text not null \
                  constraint theirs check (status in ('pending', 'paid')))";
    shop.sql(create).await.unwrap();
    match (shop.is_sqlite(), shop.strategy) {
        (true, SqliteStrategy::Trigger) => {
            let refused = shop.refused(&enums, Phase::Expand).await;
            assert!(matches!(&*refused, [Obstacle::RefusedBy { .. }]), "{refused:?}");
        }
        _ => {
            shop.apply(&enums, Phase::Expand).await;
            assert!(shop.is_clean(&enums).await);
            shop.insert(1, "'on_hold'").await.unwrap();
        }
    }
    shop.sql("drop table {orders}").await.unwrap();

    let create = "create table {orders} (id integer, status text not null \
                  constraint short check (length(status) < 7))";
    shop.sql(create).await.unwrap();
    let refused = shop.refused(&enums, Phase::Expand).await;
    let [Obstacle::RefusedBy { what, values, .. }] = &*refused else { panic!("{refused:?}") };
    assert_eq!((&**what, values.len()), ("short", 2), "`pending` and `on_hold`");
}

async fn a_wider_list_degrades_and_is_narrowed(shop: Shop) {
    let create = "create table {orders} (id integer, status text not null \
                  constraint theirs check (status in ('pending', 'paid', 'lost', 'found')))";
    shop.sql(create).await.unwrap();
    let enums = shop.enums(Two::SPEC);
    let report = shop.report(&enums).await;
    let more = vec!["found".to_owned(), "lost".to_owned()];
    assert_eq!(report.verdicts, [Verdict::DatabaseAllows { values: more }]);
    assert_eq!(report.severity, Severity::Weaker);
    assert!(shop.apply(&enums, Phase::Expand).await.is_empty());
    shop.apply(&enums, Phase::Contract).await;
    assert!(shop.is_clean(&enums).await);
    assert_rejected(shop.insert(1, "'lost'").await);
}

async fn null_is_a_value_like_others(shop: Shop) {
    shop.orders(Two::SPEC).await;
    let nullable = shop.enums(Nullable::SPEC);
    let report = shop.report(&nullable).await;
    assert_eq!(report.verdicts, [Verdict::NullNotAllowed]);
    assert_eq!(report.severity, Severity::Broken);
    shop.apply(&nullable, Phase::Expand).await;
    assert!(shop.is_clean(&nullable).await);
    shop.insert(1, "null").await.unwrap();
    assert_rejected(shop.insert(2, "'bogus'").await);

    let enums = shop.enums(Two::SPEC);
    assert_eq!(shop.verdicts(&enums).await, [Verdict::DatabaseAllowsNull]);
    let refused = shop.refused(&enums, Phase::Contract).await;
    assert!(matches!(&*refused, [Obstacle::RowsHold(held)] if held[0].value.is_none()));
    shop.sql("delete from {orders}").await.unwrap();
    shop.apply(&enums, Phase::Contract).await;
    assert!(shop.is_clean(&enums).await);

    shop.sql("drop table {orders}").await.unwrap();
    shop.sql("create table {orders} (status text not null)").await.unwrap();
    let refused = shop.refused(&nullable, Phase::Expand).await;
    assert!(
        refused.iter().any(
            |one| matches!(one, Obstacle::RefusedBy { what, .. } if what.contains("NOT NULL"))
        )
    );
}

async fn a_catch_all_makes_more_values_a_note(shop: Shop) {
    shop.orders(Three::SPEC).await;
    shop.insert(1, "'on_hold'").await.unwrap();
    let enums = shop.enums(Open::SPEC);
    let report = shop.report(&enums).await;
    assert_eq!(report.severity, Severity::Note, "{report}");
    assert!(enums.plan(&shop.store).await.unwrap().is_empty(), "others may write it");
}

async fn numbers_are_values_like_others(shop: Shop) {
    shop.sql("create table {orders} (id integer, level smallint)").await.unwrap();
    let enums = shop.enums(Level::SPEC);
    assert_eq!(shop.verdicts(&enums).await, [Verdict::DatabaseAllowsNull, Verdict::Unenforced]);
    shop.apply(&enums, Phase::Expand).await;
    assert!(shop.is_clean(&enums).await);
    shop.sql("insert into {orders} (level) values (-1), (0), (10)").await.unwrap();
    for bad in ["1", "-2", "9", "null"] {
        let insert = format!("insert into {{orders}} (level) values ({bad})");
        assert_rejected(shop.sql(&insert).await);
    }
    shop.sql("drop table {orders}").await.unwrap();

    let create = "create table {orders} (level smallint not null check (level between -1 and 3))";
    shop.sql(create).await.unwrap();
    let verdicts = shop.verdicts(&enums).await;
    assert_eq!(verdicts[0], Verdict::CodeNotAllowed { values: vec!["10".into()] });
    let Verdict::DatabaseAllows { values } = &verdicts[1] else { panic!("{verdicts:?}") };
    assert!(["1", "2", "3"].iter().all(|more| values.iter().any(|value| value == more)));
}

async fn labels_may_be_anything(shop: Shop) {
    let enums = shop.bare_orders(Odd::SPEC).await;
    shop.apply(&enums, Phase::Expand).await;
    assert!(shop.is_clean(&enums).await);
    for (id, value) in Odd::VALUES.iter().enumerate() {
        let text = value.as_str().replace('\'', "''");
        shop.insert(id.try_into().unwrap(), &format!("'{text}'")).await.unwrap();
    }
    assert_rejected(shop.insert(100, "'its'").await);
    shop.sql("drop table {orders}").await.unwrap();

    shop.bare_orders(Odd::SPEC).await;
    shop.insert(1, "'x''; drop table y; --'").await.unwrap();
    let held = shop.report(&enums).await.rows;
    assert_eq!(samples(&held), [(Some("x'; drop table y; --"), 1)]);
}

async fn names_may_be_anything(shop: Shop) {
    let name = "\"Or\"\"ders. größe\"";
    shop.sql(&format!("create table {{{name}}} (\"Sta tus'\" text)")).await.unwrap();
    let mut spec = shop.enums(Two::SPEC).columns()[0].clone();
    spec.table = shop.table(name);
    spec.column = "Sta tus'".to_owned();
    let of = |spec: &ColumnSpec| {
        SchemaEnums::of_columns([spec.clone()].into()).sqlite_strategy(shop.strategy)
    };
    shop.apply(&of(&spec), Phase::Expand).await;
    assert!(shop.is_clean(&of(&spec)).await);
    let insert = |value: &str| format!("insert into {{{name}}} values ('{value}')");
    shop.sql(&insert("paid")).await.unwrap();
    assert_rejected(shop.sql(&insert("bogus")).await);

    spec.renamed.push(super::super::Renamed { from: "paid".into(), to: "settled".into() });
    spec.values = vec!["pending".into(), "settled".into()];
    for phase in [Phase::Expand, Phase::Backfill, Phase::Contract] {
        shop.apply(&of(&spec), phase).await;
    }
    assert!(shop.is_clean(&of(&spec)).await);

    spec.table = "a.b.c".to_owned();
    let error = of(&spec).check(&shop.store).await.unwrap_err();
    assert_eq!(error.code().as_str(), "schema_enum.invalid_name");
}

async fn what_is_not_there_is_told(shop: Shop) {
    let enums = shop.enums(Two::SPEC);
    let told = async |verdict: Verdict, obstacle: Obstacle| {
        let report = shop.report(&enums).await;
        assert_eq!((report.verdicts, report.severity), (vec![verdict], Severity::Broken));
        assert_eq!(shop.refused(&enums, Phase::Expand).await, [obstacle]);
    };
    told(Verdict::MissingTable, Obstacle::MissingTable).await;
    shop.sql("create table {orders} (id integer)").await.unwrap();
    told(Verdict::MissingColumn, Obstacle::MissingColumn).await;
    shop.sql("drop table {orders}").await.unwrap();
    shop.sql("create table {orders} (status integer)").await.unwrap();
    let found = if shop.is_sqlite() { "INTEGER" } else { "integer" }.to_owned();
    let mismatch = Verdict::TypeMismatch { found: found.clone() };
    told(mismatch, Obstacle::TypeMismatch { found }).await;
}

async fn readiness_follows_the_verdicts(shop: Shop) {
    use crate::health::{Health, HealthRegistry, Status};

    let enums = shop.orders(Two::SPEC).await;
    let status = async |enums: &SchemaEnums| {
        let tree = crate::kernel::Tree::new();
        let registry = HealthRegistry::new().check(enums.health_check(&shop.store));
        let (health, _) = Health::prepare(registry, &tree).unwrap();
        health.run_checks_once().await;
        let report = health.readiness();
        let item = report.items.iter().find(|item| &*item.name == "schema_enums").unwrap();
        (item.status, item.reason.as_deref().unwrap_or_default().to_owned())
    };
    assert_eq!(status(&enums).await.0, Status::Up);
    let (broken, why) = status(&shop.enums(Three::SPEC)).await;
    assert_eq!(broken, Status::Down);
    assert!(why.ends_with("orders.status: the database refuses on_hold"), "{why}");
    let (weaker, why) = status(&shop.enums(Nullable::SPEC)).await;
    assert_eq!(weaker, Status::Down, "{why}");
    shop.apply(&shop.enums(Nullable::SPEC), Phase::Expand).await;
    let (weaker, why) = status(&enums).await;
    assert_eq!(weaker, Status::Degraded);
    assert!(why.ends_with("orders.status: the database also allows NULL"), "{why}");
    assert_eq!(status(&enums.clone().strict(true)).await.0, Status::Down);
    assert!(enums.last_report().is_some());

    shop.store.close().await;
    assert_eq!(status(&enums).await.0, Status::Unknown, "nobody knows, which is not drift");
}

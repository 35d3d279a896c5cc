//! The statements, word for word: they are what a DBA is shown.

use std::time::Duration;

use super::lives::{Level, Nullable, Odd, Renamed, Three, Two};
use super::*;
use crate::schema_enum::lock::compare;

const NOTHING: &str = "{\"columns\": []}";

/// The statements that lead from one enum to another, without comments.
fn statements(before: Option<&'static EnumSpec>, after: &'static EnumSpec) -> (String, String) {
    let before = before.map_or_else(
        || NOTHING.to_owned(),
        |spec| format!("{{\"columns\": {}}}", columns_json(spec)),
    );
    let enums = SchemaEnums::new([after]).sqlite_strategy(SqliteStrategy::Constraint);
    let difference = compare(&before, &enums).unwrap_err();
    let (postgres, sqlite) = difference.split_once("=== SQLite ===").unwrap();
    let plain = |script: &str| {
        let is_statement =
            |line: &&str| !line.is_empty() && !line.starts_with("--") && !line.starts_with("===");
        script.lines().filter(is_statement).collect::<Vec<_>>().join("\n")
    };
    (plain(postgres), plain(sqlite))
}

fn columns_json(spec: &'static EnumSpec) -> String {
    serde_json::to_string(&spec.columns().collect::<Vec<_>>()).unwrap()
}

#[test]
fn a_value_is_added_by_swapping_the_constraint() {
    let (postgres, sqlite) = statements(Some(Two::SPEC), Three::SPEC);
    assert_eq!(
        postgres,
        "BEGIN;
SET LOCAL lock_timeout = '1000ms';
ALTER TABLE \"orders\" ADD CONSTRAINT \"sf_orders_status_36bd41ce\" CHECK (\"status\" IS NOT NULL AND \"status\" IN ('pending', 'paid', 'on_hold')) NOT VALID, DROP CONSTRAINT \"sf_orders_status_fac7117e\";
COMMIT;
BEGIN;
SET LOCAL lock_timeout = '1000ms';
ALTER TABLE \"orders\" VALIDATE CONSTRAINT \"sf_orders_status_36bd41ce\";
COMMIT;"
    );
    assert_eq!(
        sqlite,
        "BEGIN IMMEDIATE;
ALTER TABLE \"orders\" DROP CONSTRAINT \"sf_orders_status_fac7117e\";
ALTER TABLE \"orders\" ADD CONSTRAINT \"sf_orders_status_36bd41ce\" CHECK (\"status\" IS NOT NULL AND \"status\" COLLATE BINARY IN ('pending', 'paid', 'on_hold'));
COMMIT;"
    );
}

#[test]
fn a_rename_has_all_three_phases() {
    let (postgres, sqlite) = statements(Some(Two::SPEC), Renamed::SPEC);
    let kinds: Vec<_> = postgres.lines().map(|line| line.split('"').next().unwrap()).collect();
    assert_eq!(
        kinds,
        [
            "BEGIN;",
            "SET LOCAL lock_timeout = '1000ms';",
            "ALTER TABLE ",
            "COMMIT;",
            "BEGIN;",
            "SET LOCAL lock_timeout = '1000ms';",
            "ALTER TABLE ",
            "COMMIT;",
            "UPDATE ",
            "BEGIN;",
            "SET LOCAL lock_timeout = '1000ms';",
            "ALTER TABLE ",
            "COMMIT;",
            "BEGIN;",
            "SET LOCAL lock_timeout = '1000ms';",
            "ALTER TABLE ",
            "COMMIT;",
        ]
    );
    assert!(postgres.contains("IN ('pending', 'settled', 'paid')"), "both: {postgres}");
    assert!(sqlite.contains("SET \"status\" = 'settled' WHERE rowid IN"), "{sqlite}");
    let (first, second) = sqlite.split_once("UPDATE").unwrap();
    let added = |script: &str| script.split('"').nth(7).unwrap().to_owned();
    assert!(second.contains(&format!("DROP CONSTRAINT \"{}\"", added(first))), "{sqlite}");
}

#[test]
fn nothing_is_dropped_that_was_not_there() {
    let (postgres, sqlite) = statements(None, Level::SPEC);
    assert!(postgres.contains("\"level\" IN (-1, 0, 10)) NOT VALID;"), "{postgres}");
    assert!(!postgres.contains("DROP") && !sqlite.contains("DROP"));
}

#[test]
fn labels_end_where_they_should() {
    let (postgres, sqlite) = statements(None, Odd::SPEC);
    assert!(postgres.contains(r#"'it''s', E'a\\b"c"', 'größe 日本 🦀', '', '-- x"#), "{postgres}");
    assert!(sqlite.contains(r#"'it''s', 'a\b"c"', 'größe"#), "{sqlite}");
}

#[test]
fn a_comment_of_a_script_never_ends_early() {
    let difference = compare(NOTHING, &SchemaEnums::of::<Odd>()).unwrap_err();
    let comments = difference.lines().filter(|line| line.starts_with("-- orders.status: allows"));
    assert_eq!(comments.count(), 2, "{difference}");
    assert!(!difference.contains("\n; drop table orders;"), "{difference}");
}

#[test]
fn the_constraint_for_create_table_is_the_one_that_is_added() {
    let enums = SchemaEnums::of::<Two>();
    let constraint = "CONSTRAINT \"sf_orders_status_fac7117e\" CHECK (\"status\" IS NOT NULL AND \
                      \"status\" IN ('pending', 'paid'))";
    assert_eq!(enums.constraints(Dialect::Postgres).unwrap(), [constraint]);
    let nullable = SchemaEnums::of::<Nullable>().constraints(Dialect::Postgres).unwrap();
    assert!(nullable[0].contains("\"status\" IS NULL OR \"status\" IN"), "{nullable:?}");
    assert!(!nullable[0].contains("fac7117e"), "it means something else");
}

#[test]
fn the_library_decides_how_sqlite_refuses() {
    let of = SqliteStrategy::of_version;
    assert_eq!(of(3_052_000), SqliteStrategy::Trigger);
    assert_eq!(of(3_053_000), SqliteStrategy::Constraint);
    assert_eq!(of(4_000_000), SqliteStrategy::Constraint);
}

#[test]
fn settings_out_of_range_become_the_nearest() {
    let debug = |enums: SchemaEnums| format!("{:?}", enums.settings());
    let low = debug(SchemaEnums::of::<Two>().tries(0).lock_timeout(Duration::ZERO));
    assert!(low.contains("tries: 1,") && low.contains("lock_timeout: 10ms"), "{low}");
    let high = debug(SchemaEnums::of::<Two>().tries(1001).count_within(Duration::MAX));
    assert!(high.contains("tries: 1000,") && high.contains("count_within: 3600s"), "{high}");
}

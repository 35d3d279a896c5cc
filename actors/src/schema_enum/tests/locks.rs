//! The lock file: what changed is told, and only that.

use super::lives::{Native, Nullable, Renamed, Tag, Three, Two};
use super::*;
use crate::schema_enum::lock::compare;

fn lock_of(specs: &[&'static EnumSpec]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lock");
    // What the environment variable asks for, without changing that of the other tests.
    lock::update(&path, &SchemaEnums::new(specs.iter().copied())).unwrap();
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn what_was_written_is_what_is_expected() {
    let lock = lock_of(&[Native::SPEC, Tag::SPEC]);
    compare(&lock, &SchemaEnums::new([Tag::SPEC, Native::SPEC])).unwrap();
}

#[test]
fn each_change_is_told_with_its_statements() {
    #[track_caller]
    fn told(before: &[&'static EnumSpec], after: &'static EnumSpec, parts: &[&str]) {
        let told = compare(&lock_of(before), &SchemaEnums::new([after])).unwrap_err();
        for part in parts {
            assert!(told.contains(part), "no `{part}` in\n{told}");
        }
    }
    told(&[], Two::SPEC, &["IN ('pending', 'paid')) NOT VALID;"]);
    told(&[Two::SPEC], Three::SPEC, &["'on_hold')) NOT VALID, DROP CONSTRAINT", "=== SQLite ==="]);
    told(&[Three::SPEC], Two::SPEC, &["-- After that.", "IN ('pending', 'paid')) NOT VALID, DROP"]);
    told(&[Two::SPEC], Renamed::SPEC, &["UPDATE \"orders\" SET \"status\" = 'settled'"]);
    told(&[Two::SPEC], Nullable::SPEC, &["IS NULL OR"]);
    told(&[Two::SPEC], Native::SPEC, &["kept in another way", "to_status"]);
    told(&[Two::SPEC], Tag::SPEC, &["orders.status is bound to no enum any more", "SQLite has no"]);
}

#[test]
fn a_value_of_a_type_is_added_alone_before_the_one_that_follows() {
    let mut before: Vec<_> = Native::SPEC.columns().collect();
    for column in &mut before {
        column.values.retain(|value| value != "on_hold");
    }
    let before = format!("{{\"columns\": {}}}", serde_json::to_string(&before).unwrap());
    let told = compare(&before, &SchemaEnums::of::<Native>()).unwrap_err();
    let (postgres, _) = told.split_once("=== SQLite").unwrap();
    let add = "\nALTER TYPE \"order_status\" ADD VALUE IF NOT EXISTS 'on_hold' BEFORE 'paid';\n";
    assert_eq!(postgres.matches("ADD VALUE").count(), 1, "once for both columns: {postgres}");
    assert!(postgres.contains(add) && !postgres.contains("BEGIN"), "{postgres}");
}

#[test]
fn a_file_that_is_not_one_is_told() {
    let told = compare("{", &SchemaEnums::of::<Two>()).unwrap_err();
    assert!(told.contains("cannot be understood"), "{told}");
    let folder = tempfile::tempdir().unwrap();
    let told = check_lock(&folder.path().join("none"), &SchemaEnums::of::<Two>()).unwrap_err();
    assert!(told.contains("STEADFAST_UPDATE=1") && told.contains("ADD CONSTRAINT"), "{told}");
    let told = check_lock(folder.path(), &SchemaEnums::of::<Two>()).unwrap_err();
    assert!(told.contains("cannot be read"), "{told}");
}

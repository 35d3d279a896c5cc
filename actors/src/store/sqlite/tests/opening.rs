//! Files that are not what they should be, and migrations.

use crate::kernel::Fault as _;

use super::*;

async fn refused(path: &Path) -> StoreError {
    SqliteStore::open(SqliteOptions::file(path)).await.unwrap_err()
}

#[tokio::test]
async fn a_place_that_cannot_be_says_what_it_must_be() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing").join("test.db");
    assert_eq!(refused(&missing).await.to_string(), "`path` must be in a folder that exists");
    assert_eq!(refused(folder.path()).await.to_string(), "`path` must be a file, not a folder");
    let file = folder.path().join("file");
    std::fs::write(&file, "text").unwrap();
    let beneath = refused(&file.join("test.db")).await;
    assert_eq!(beneath.to_string(), "`path` must be in a folder, not in a file");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("letter.txt");
    let text = "dear reader, ".repeat(1_000);
    std::fs::write(&path, &text).unwrap();
    assert_eq!(refused(&path).await.code().as_str(), "store.corrupt");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    assert!(SqliteStore::applied_migrations(&path).is_err());
}

#[test]
fn a_file_that_may_only_be_read_is_refused_as_such() {
    let code = |code| rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
    let cannot_open = code(rusqlite::ffi::SQLITE_CANTOPEN);
    let folder = tempfile::tempdir().unwrap();
    let mut permissions = folder.path().metadata().unwrap().permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(folder.path(), permissions).unwrap();
    // The mapping alone: whoever runs the tests as root may write everywhere.
    let error = connect::diagnose(&folder.path().join("test.db"), cannot_open);
    assert_eq!(error.code().as_str(), "store.read_only");
}

#[tokio::test]
async fn a_fresh_file_gets_the_tables_and_an_old_one_keeps_them() {
    let fixture = Fixture::new().await;
    put(&fixture.store, 1).await.unwrap();
    fixture.store.close().await;
    let applied = SqliteStore::applied_migrations(&fixture.path()).unwrap();
    assert_eq!(applied.len(), migrations::ALL.len());
    assert_eq!((applied[0].version, &*applied[0].name), (1, "spine"));
    let store = SqliteStore::open(SqliteOptions::file(fixture.path())).await.unwrap();
    assert_eq!(rows(&store).await, [1]);
    assert_eq!(SqliteStore::applied_migrations(&fixture.path()).unwrap(), applied);
}

#[tokio::test]
async fn the_printed_script_is_all_that_is_needed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.db");
    let connection = Connection::open(&path).unwrap();
    assert_eq!(SqliteStore::applied_migrations(&path).unwrap(), []);
    connection.execute_batch(&SqliteStore::print_migrations()).unwrap();
    let applied = SqliteStore::applied_migrations(&path).unwrap();
    let _store = SqliteStore::open(SqliteOptions::file(&path)).await.unwrap();
    assert_eq!(SqliteStore::applied_migrations(&path).unwrap(), applied);
    assert_eq!(applied.len(), migrations::ALL.len());
}

#[tokio::test]
async fn many_that_open_at_once_take_turns() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.db");
    let opening = (0..8).map(|_| tokio::spawn(SqliteStore::open(SqliteOptions::file(&path))));
    for store in futures_util::future::join_all(opening).await {
        store.unwrap().unwrap();
    }
    assert_eq!(SqliteStore::applied_migrations(&path).unwrap().len(), migrations::ALL.len());
}

/// Opens a database whose table of versions somebody changed.
async fn reopened_after(sql: &str) -> StoreError {
    let fixture = Fixture::new().await;
    fixture.store.close().await;
    fixture.outsider().execute_batch(sql).unwrap();
    refused(&fixture.path()).await
}

#[tokio::test]
async fn a_newer_database_and_an_edited_migration_are_refused() {
    let newer = reopened_after(
        "insert into sf_schema_version values ('steadfast', 9999, 'future', 'x', 0)",
    );
    assert!(matches!(newer.await, StoreError::NewerSchema { found: 9999, .. }));
    let edited = reopened_after("update sf_schema_version set checksum = 'x'");
    assert!(matches!(edited.await, StoreError::MigrationChanged { version: 1 }));
}

#[tokio::test]
async fn a_migration_that_fails_leaves_nothing_behind() {
    const BROKEN: &[Migration] = &[
        Migration { version: 1, name: "good", sqlite: "create table good (a)", postgres: "" },
        Migration { version: 2, name: "bad", sqlite: "create table; nonsense", postgres: "" },
    ];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.db");
    let opened = SqliteStore::open_with(SqliteOptions::file(&path), BROKEN).await;
    assert_eq!(opened.unwrap_err().code().as_str(), "store.failed");
    assert_eq!(SqliteStore::applied_migrations(&path).unwrap(), []);
    let sql = "select count(*) from sqlite_schema";
    let connection = Connection::open(&path).unwrap();
    let tables: i64 = connection.query_row(sql, [], |row| row.get(0)).unwrap();
    assert_eq!(tables, 0);
    drop(connection);
    let _store = SqliteStore::open(SqliteOptions::file(&path)).await.unwrap();
}

#[tokio::test]
async fn every_spelling_of_a_file_has_the_same_presence_folder() {
    let fixture = Fixture::new().await;
    let link = fixture.folder.path().join("link.db");
    #[cfg(unix)]
    std::os::unix::fs::symlink(fixture.path(), &link).unwrap();
    let other = SqliteStore::open(SqliteOptions::file(&link)).await.unwrap();
    assert_eq!(other.path(), fixture.store.path());
    let folder = other.presence_folder().unwrap();
    assert!(folder.ends_with("test.db.nodes"), "{folder:?}");
}

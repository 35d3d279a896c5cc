//! The command line of the example server.

use std::net::TcpListener;

use crate::support::database::{TestDatabase, postgres_address};
use crate::support::server::{Server, run_to_end};

#[track_caller]
fn check_refused(arguments: &[&str], reason: &str) {
    let output = run_to_end(arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{arguments:?} was accepted");
    assert!(said.contains(reason), "{arguments:?} was refused with {said}");
    assert!(output.stdout.is_empty(), "standard output is for the ready line");
}

#[test]
fn options_that_cannot_be_honoured_are_refused_with_the_reason() {
    check_refused(&["--database", "shop.db"], "expected sqlite:PATH");
    check_refused(&["--database", "sqlite:"], "expected sqlite:PATH");
    check_refused(&["--listen", "localhost"], "--listen");
    check_refused(&["--upstream", "ftp://127.0.0.1"], "expected http://HOST[:PORT]");
    check_refused(&["--upstream", "http://127.0.0.1/rates"], "expected http://HOST[:PORT]");
    check_refused(&["--no-such-flag"], "--no-such-flag");
}

#[test]
fn what_cannot_be_opened_ends_the_server_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let away = folder.path().join("no-such-folder").join("shop.db");
    let database = format!("sqlite:{}", away.display());
    let local = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    check_refused(&[&local[..], &["--database", &database]].concat(), "database");
    check_refused(&[&local[..], &["--config", "no-such-file.toml"]].concat(), "no-such-file.toml");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    check_refused(&["--admin", "127.0.0.1:0", "--listen", &address], &address);
    check_refused(&["--listen", "127.0.0.1:0", "--admin", &address], &address);
}

/// The last line tells why, whole; nothing secret is in any.
#[track_caller]
fn check_unusable(database: &[String], reason: &str) {
    let local = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"].map(str::to_owned);
    let arguments = [&local[..], database].concat();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let output = run_to_end(&arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().last().unwrap_or_default();
    assert!(!output.status.success(), "{database:?} was accepted");
    assert!(last.starts_with("the server cannot run: "), "{database:?}: {said}");
    assert!(last.contains(reason), "{database:?}: {said}");
    assert!(!said.contains("secret"), "{database:?}: {said}");
    assert!(output.stdout.is_empty(), "standard output is for the ready line");
}

fn at(url: impl Into<String>) -> [String; 2] {
    ["--database".to_owned(), url.into()]
}

#[tokio::test]
async fn a_database_that_cannot_be_used_ends_the_server_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("notes.txt");
    std::fs::write(&other, "this is not a database, but a text of some length".repeat(20)).unwrap();
    check_unusable(&at(format!("sqlite:{}", other.display())), "damaged or is not one");
    check_unusable(&at(format!("sqlite:{}", folder.path().display())), "not a folder");
    check_unusable(&at("postgres://user:secret@127.0.0.1:1/shop"), "cannot be reached");
    check_unusable(&at("postgres://user:secret@127.0.0.1:none/shop"), "`database address`");
    check_unusable(&at("postgres://user:secret@127.0.0.1/shop?no_such=1"), "`database address`");
}

#[tokio::test]
async fn a_database_on_postgresql_that_cannot_be_used_ends_the_server_with_the_reason() {
    let Some(database) = TestDatabase::postgres().await else { return };
    let address = postgres_address();
    let separator = if address.contains('?') { '&' } else { '?' };
    let with = |option: &str| format!("{address}{separator}{option}");
    let read_only = with("options=-c%20default_transaction_read_only%3Don");
    let [_, _, flag, schema] = &*database.arguments() else { panic!("a schema is named") };
    let named = [flag.clone(), schema.clone()];
    check_unusable(&[&at(read_only)[..], &named].concat(), "read-only");
    let bad_schema = [flag.clone(), "No-Schema".to_owned()];
    check_unusable(&[&at(address)[..], &bad_schema].concat(), "`schema`");
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_left_alone() {
    for database in TestDatabase::each().await {
        drop(database.server());
        let newer = "insert into {library}schema_version \
                     select component, 1 + version, name, checksum, applied_at \
                     from {library}schema_version order by version desc limit 1";
        database.execute(newer).await;
        check_unusable(&database.arguments(), "this process knows");
    }
}

#[test]
fn an_unknown_setting_is_refused_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("server.toml");
    std::fs::write(&file, "[drain]\ndelya = \"1s\"\n").unwrap();
    let arguments = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--config"];
    check_refused(&[&arguments[..], &[file.to_str().unwrap()]].concat(), "drain.delya");
}

#[test]
fn help_lists_flags_variables_and_routes() {
    let output = run_to_end(&["--help"]);
    let help = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    for expected in [
        "--listen",
        "STEADFAST_LISTEN",
        "--admin",
        "STEADFAST_ADMIN",
        "--database",
        "STEADFAST_DATABASE",
        "--schema",
        "STEADFAST_SCHEMA",
        "--upstream",
        "STEADFAST_UPSTREAM",
        "--config",
        "STEADFAST_CONFIG",
        "/products/{id}",
        "/rates/{currency}",
        "/orders",
        "/orders/{id}",
        "/reports",
        "/jobs/{id}",
        "/livez",
        "/readyz",
        "/startupz",
        "/demo/upstream",
        "/demo/panic",
        "/demo/slow",
        "/demo/actors/flaky/count",
        "/demo/actors/flaky/poison",
        "/demo/stats",
    ] {
        assert!(help.contains(expected), "{expected} is missing in:\n{help}");
    }
}

#[tokio::test]
async fn a_flag_wins_over_its_variable() {
    let server = Server::start_with(|command| {
        command.env("STEADFAST_LISTEN", "not an address");
        command.env("STEADFAST_ADMIN", "127.0.0.1:0");
    });
    assert_eq!(server.get("/livez").send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn the_default_database_is_a_temporary_folder_that_the_log_names() {
    let mut server = Server::start();
    let folder = std::fs::read_dir(server.temporary.path()).unwrap().next().unwrap().unwrap();
    let database = folder.path().join("server.db");
    assert!(database.exists(), "{}", database.display());
    server.logged(&[database.to_str().unwrap()]).await;
    server.terminate();
    assert!(server.exit_status().success());
    assert!(!folder.path().exists(), "the folder goes away with the server");
}

//! The command line of the example server.

use std::net::TcpListener;

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
    check_refused(&["--database", "postgres://localhost/shop"], "comes with the durable store");
    check_refused(&["--database", "postgresql://localhost/shop"], "comes with the durable store");
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
        "--upstream",
        "STEADFAST_UPSTREAM",
        "--config",
        "STEADFAST_CONFIG",
        "/products/{id}",
        "/rates/{currency}",
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

//! The log of the example server: what it tells, and what it must never cost.

use crate::support::server::{LogReader, Server};

/// Serves many times what a pipe holds of log lines, and leaves in order.
async fn check_serves(reader: LogReader) {
    let mut server = Server::start_read_by(reader, |_| {});
    for _ in 0..1_000 {
        assert_eq!(server.get("/products/1").send().await.unwrap().status(), 200);
    }
    assert_eq!(server.get("/demo/panic").send().await.unwrap().status(), 500);
    server.terminate();
    assert_eq!(server.exit_status().code(), Some(0));
}

#[tokio::test]
async fn a_log_that_nobody_reads_stops_nothing() {
    check_serves(LogReader::Asleep).await;
}

#[tokio::test]
async fn a_log_whose_reader_is_gone_stops_nothing() {
    check_serves(LogReader::Gone).await;
}

#[tokio::test]
async fn the_log_is_complete_when_the_server_has_left() {
    let mut server = Server::start();
    assert_eq!(server.get("/products/1").send().await.unwrap().status(), 200);
    server.terminate();
    assert_eq!(server.exit_status().code(), Some(0));
    server.logged(&["shutdown.done"]).await;
}

#[tokio::test]
async fn a_storm_of_panics_does_not_fill_the_log_with_backtraces() {
    let server = Server::start();
    assert_eq!(server.get("/demo/panic").send().await.unwrap().status(), 500);
    server.logged(&["http.panic", "panics=1 ", "backtrace="]).await;
    for _ in 1..20 {
        assert_eq!(server.get("/demo/panic").send().await.unwrap().status(), 500);
    }
    let log = server.logged(&["http.panic", "panics=20 "]).await;
    for panics in 17..=20 {
        let count = format!("panics={panics} ");
        let line = log.lines().find(|line| line.contains(&count)).unwrap();
        assert!(line.contains("location=") && !line.contains("backtrace="), "{line}");
    }
}

//! Clients that mean no good, against the example server and its settings.

use std::net::SocketAddr;
use std::time::Duration;

use crate::support::attackers::{Attacker, Honest};
use crate::support::eventually;
use crate::support::server::{Server, run_to_end};

const LIMIT: Duration = Duration::from_millis(800);

/// Clients that do nothing wrong.
const HONEST: usize = 50;

fn p99(mut waits: Vec<Duration>) -> Duration {
    waits.sort();
    waits[waits.len() * 99 / 100]
}

/// A server with short limits, from its environment as a deployment would set them.
fn server() -> Server {
    Server::start_with(|command| {
        command
            .env("STEADFAST_EDGE__HEAD__TIMEOUT", "800ms")
            .env("STEADFAST_EDGE__BODY__GRACE", "800ms")
            .env("STEADFAST_EDGE__BODY__IDLE", "800ms");
    })
}

fn address(server: &Server) -> SocketAddr {
    server.address().parse().unwrap()
}

const POST: &str = "POST /mails HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n";

#[tokio::test]
async fn slow_heads_and_bodies_are_cut_while_others_are_served() {
    let server = server();
    let address = address(&server);
    let calm = Honest::start(address, "/livez", HONEST);
    tokio::time::sleep(LIMIT).await;
    let calm = p99(calm.stop().await);
    let honest = Honest::start(address, "/livez", HONEST);

    let first = Attacker::connect(address).await.drip(b"GET /livez HTTP/1.1\r\nhost: a", LIMIT / 4);
    let later = async {
        let mut attacker = Attacker::connect(address).await;
        attacker.send("GET /livez HTTP/1.1\r\nhost: a\r\n\r\n").await;
        attacker.hear("200 OK").await;
        attacker.begin();
        attacker.drip(b"GET /livez HTTP/1.1\r\nhost: a", LIMIT / 4).await
    };
    let body = async {
        let mut attacker = Attacker::connect(address).await;
        attacker.send(format!("{POST}content-length: 1000\r\n\r\n")).await;
        attacker.begin();
        attacker.drip(&[b' '; 1000], LIMIT / 4).await
    };
    let (first, later, body) = tokio::join!(first, later, body);
    first.expect_within(LIMIT);
    later.expect_within(LIMIT);
    assert_eq!(body.statuses(), [408], "{body:?}");
    assert!(body.heard.contains("body.timeout"), "{body:?}");

    // Each of them was answered, and none was cut. As to their time, a busy machine knows no better.
    let attacked = p99(honest.stop().await);
    assert!(attacked < 10 * calm.max(Duration::from_millis(50)), "{calm:?}, then {attacked:?}");
    let gone = async || {
        let stats = server.stats().await;
        // Whoever asks is connected.
        (stats["connections"] == 1 && stats["inflight"] == 1, stats)
    };
    eventually(Duration::from_secs(10), gone, "nobody is connected any more").await;
}

#[test]
fn limits_that_contradict_each_other_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("server.toml");
    std::fs::write(&file, "[edge.body]\ngrace = \"30s\"\nidle = \"1s\"\n").unwrap();
    let output = run_to_end(&["--config", file.to_str().unwrap()]);
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("edge.body"), "{said}");
}

//! Leaving: what SIGTERM costs the clients of the example server.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::support::attackers::Attacker;
use crate::support::server::Server;
use crate::support::wire::{self, RawAnswer, Wire};

fn with_drain_delay(delay: &str) -> Server {
    Server::start_with(|command| {
        command.env("STEADFAST_DRAIN__DELAY", delay);
    })
}

/// What a client of a leaving server has seen.
#[derive(Debug, Default)]
struct Seen {
    answered: AtomicU64,
    /// Told, instead of an answer, that the server is leaving: never accepted.
    sent_away: AtomicU64,
    /// Accepted, that is sent on a connection the server had answered on before, and lost.
    lost: AtomicU64,
    over: AtomicBool,
}

impl Seen {
    fn note(&self, answer: &RawAnswer) {
        if answer.status == 503 {
            assert_eq!(answer.json()["code"], "request.shutdown");
            assert!(answer.headers.contains_key("retry-after"), "{answer:?}");
            self.sent_away.fetch_add(1, Ordering::AcqRel);
        } else {
            assert_eq!(answer.status, 200, "{answer:?}");
            self.answered.fetch_add(1, Ordering::AcqRel);
        }
    }
}

/// Asks on fresh connections and on kept ones until the server is gone.
async fn client(address: String, seen: Arc<Seen>) {
    while !seen.over.load(Ordering::Acquire) {
        let Ok(mut wire) = Wire::try_connect(&address).await else { return };
        loop {
            match wire.get("/demo/slow?ms=20").await {
                Ok(answer) => {
                    seen.note(&answer);
                    let closing = answer.headers.get("connection");
                    if closing.is_some_and(|value| value.eq_ignore_ascii_case("close")) {
                        break;
                    }
                }
                Err(error) => {
                    // A connection that was never served was not accepted.
                    if wire.bytes_read() > 0 && error.kind() != io::ErrorKind::ConnectionRefused {
                        seen.lost.fetch_add(1, Ordering::AcqRel);
                    }
                    break;
                }
            }
        }
    }
}

/// Asks whether the server is ready, on fresh connections, until nobody listens. How often it was
/// told so, and how often not.
async fn balancer(address: String) -> (u32, u32) {
    let (mut ready, mut leaving) = (0, 0);
    while let Ok(mut wire) = Wire::try_connect(&address).await {
        match wire.get("/readyz").await {
            Ok(answer) if answer.status == 200 => {
                assert_eq!(leaving, 0, "it is not ready again");
                ready += 1;
            }
            Ok(answer) => {
                assert_eq!(answer.status, 503, "{answer:?}");
                leaving += 1;
            }
            // It stood in the queue when the server ended.
            Err(_) => break,
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    (ready, leaving)
}

async fn drain_under_load() {
    let mut server = with_drain_delay("500ms");
    let seen = Arc::new(Seen::default());
    let address = server.address().to_owned();
    let clients: Vec<_> =
        (0..16).map(|_| tokio::spawn(client(address.clone(), Arc::clone(&seen)))).collect();
    let balancer = tokio::spawn(balancer(address));
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.terminate();
    let (server, status) = tokio::task::spawn_blocking(move || {
        let status = server.exit_status();
        (server, status)
    })
    .await
    .unwrap();
    seen.over.store(true, Ordering::Release);
    for client in clients {
        client.await.unwrap();
    }
    let log = server.log();
    assert_eq!(status.code(), Some(0), "{log}");
    assert_eq!(seen.lost.load(Ordering::Acquire), 0, "{seen:?}\n{log}");
    assert!(seen.answered.load(Ordering::Acquire) > 100, "{seen:?}");
    let (ready, leaving) = balancer.await.unwrap();
    // In half a second there is time for many.
    assert!(ready > 0 && leaving > 5, "{ready} {leaving}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_under_load_loses_no_accepted_request() {
    for _ in 0..20 {
        drain_under_load().await;
    }
}

#[tokio::test]
async fn a_second_signal_skips_the_delay_and_a_third_cuts() {
    let mut server = with_drain_delay("5m");
    server.terminate();
    server.logged(&["shutdown.announced"]).await;
    server.terminate();
    let (server, status) = tokio::task::spawn_blocking(move || {
        let status = server.exit_status();
        (server, status)
    })
    .await
    .unwrap();
    assert_eq!(status.code(), Some(0), "{}", server.log());

    let mut server = with_drain_delay("5m");
    let mut wire = Wire::connect(server.address()).await;
    wire.send(wire::get("/demo/slow?ms=60000")).await.unwrap();
    crate::support::eventually(
        Duration::from_secs(5),
        async || {
            let stats = server.stats().await;
            (stats["slow"]["started"] == 1, stats)
        },
        "the work starts",
    )
    .await;
    for step in ["shutdown.announced", "shutdown.finishing", "shutdown.cut"] {
        server.terminate();
        server.logged(&[step]).await;
    }
    server.logged(&["shutdown.cut", "in_flight=1"]).await;
    assert_eq!(wire.answer().await.unwrap().json()["code"], "request.shutdown");
    let status = tokio::task::spawn_blocking(move || server.exit_status()).await.unwrap();
    assert_eq!(status.code(), Some(75));
}

#[tokio::test]
async fn a_shutdown_longer_than_what_is_granted_is_warned_of_at_start() {
    let server = Server::start_with(|command| {
        command.env("STEADFAST_DRAIN__GRACE_PERIOD", "10s");
    });
    server.logged(&["WARN", "shutdown.longer_than_granted", "granted=10s"]).await;
    let server = Server::start();
    server.terminate();
    let log = server.logged(&["shutdown.announced"]).await;
    assert!(!log.contains("shutdown.longer_than_granted"), "{log}");
}

#[tokio::test]
async fn a_request_in_flight_is_finished_before_the_server_leaves() {
    let mut server = with_drain_delay("0ms");
    let mut wire = Wire::connect(server.address()).await;
    wire.send(wire::get("/demo/slow?ms=1000")).await.unwrap();
    crate::support::eventually(
        Duration::from_secs(5),
        async || {
            let stats = server.stats().await;
            (stats["slow"]["started"] == 1, stats)
        },
        "the work starts",
    )
    .await;
    server.terminate();
    assert_eq!(wire.answer().await.unwrap().status, 200);
    let status = tokio::task::spawn_blocking(move || server.exit_status()).await.unwrap();
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn a_leaving_server_says_that_it_is_not_ready_while_it_still_serves() {
    let server = with_drain_delay("2s");
    assert_eq!(server.get("/readyz").send().await.unwrap().status(), 200);
    server.terminate();
    let begun = Instant::now();
    while server.get("/readyz").send().await.unwrap().status() != 503 {
        assert!(begun.elapsed() < Duration::from_secs(2), "still ready");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(server.get("/livez").send().await.unwrap().status(), 200, "leaving is not illness");
    assert_eq!(server.get("/products/1").send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn work_that_had_to_be_cut_shows_in_the_exit_code() {
    let mut server = Server::start_with(|command| {
        command.env("STEADFAST_DRAIN__DELAY", "0ms");
        command.env("STEADFAST_DRAIN__REQUESTS", "200ms");
    });
    let mut wire = Wire::connect(server.address()).await;
    wire.send(wire::get("/demo/slow?ms=20000")).await.unwrap();
    crate::support::eventually(
        Duration::from_secs(5),
        async || {
            let stats = server.stats().await;
            (stats["slow"]["started"] == 1, stats)
        },
        "the work starts",
    )
    .await;
    server.terminate();
    let status = tokio::task::spawn_blocking(move || server.exit_status()).await.unwrap();
    assert_ne!(status.code(), Some(0));
    assert!(status.code().is_some(), "ended by itself: {status:?}");
}

#[tokio::test]
async fn who_does_not_take_its_answers_is_no_work_that_was_cut() {
    let mut server = Server::start_with(|command| {
        command.env("STEADFAST_DRAIN__DELAY", "0ms");
        command.env("STEADFAST_DRAIN__REQUESTS", "500ms");
    });
    let request = wire::get("/products/1");
    let mut stuck = Vec::new();
    for _ in 0..200 {
        let mut client = Attacker::connect(server.address().parse().unwrap()).await;
        client.push(request.repeat(2000).as_bytes());
        stuck.push(client);
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    server.terminate();
    let (server, status) = tokio::task::spawn_blocking(move || {
        let status = server.exit_status();
        (server, status)
    })
    .await
    .unwrap();
    assert_eq!(status.code(), Some(0), "{}", server.log());
}

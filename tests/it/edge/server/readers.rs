//! Clients that do not take their answer, or hardly.

use std::time::Duration;

use tokio::time::sleep;

use super::support::{BIG, Guarded, limits, ms};
use crate::support::attackers::{Attacker, Honest};

const BIG_GET: &str = "GET /big HTTP/1.1\r\nhost: test\r\n\r\n";

#[tokio::test]
async fn a_reader_that_stalls_is_reset_while_others_are_served() {
    let server = Guarded::start();
    let honest = Honest::start(server.address, "/", 5);
    for close in ["", "connection: close\r\n"] {
        let mut attacker = Attacker::connect(server.address).await;
        attacker.begin();
        attacker.send(format!("GET /big HTTP/1.1\r\nhost: test\r\n{close}\r\n")).await;
        let ended = attacker.stall().await;
        assert!(ended.reset);
        ended.expect_within(limits().write.grace);
    }
    let waits = honest.stop().await;
    assert!(waits.iter().max().unwrap() < &ms(1000), "{waits:?}");
    server.empty().await;
    assert_eq!(server.counts().write_too_slow, 2);
}

#[tokio::test]
async fn a_reader_that_trickles_is_reset() {
    let server = Guarded::start();
    let mut attacker = Attacker::connect(server.address).await;
    attacker.begin();
    attacker.send(BIG_GET).await;
    let ended = attacker.trickle(512, ms(50)).await;
    assert!(ended.reset);
    // What the kernels took at first earned the whole pause.
    ended.expect_within(limits().write.idle);
    server.empty().await;
    assert_eq!(server.counts().write_too_slow, 1);
}

#[tokio::test]
async fn who_pipelines_without_reading_is_reset() {
    let server = Guarded::start();
    let mut attacker = Attacker::connect(server.address).await;
    attacker.begin();
    attacker.send(BIG_GET.repeat(16)).await;
    let ended = attacker.stall().await;
    ended.expect_within(limits().write.grace);
    server.empty().await;
    assert_eq!(server.counts().write_too_slow, 1);
}

#[tokio::test]
async fn an_honest_reader_takes_all_of_it_and_goes_on() {
    // Idle is the connection for the server when the kernel has all; the client may still read.
    let mut limits = limits();
    limits.connections.idle = Duration::from_secs(10);
    let server = Guarded::with(limits);
    let mut client = Attacker::connect(server.address).await;
    client.send(BIG_GET).await;
    client.hear("\r\n\r\n").await;
    let mut rest = client.take_rest(b"\r\n0\r\n\r\n").await;
    rest.retain(|byte| *byte == b'#');
    assert_eq!(rest.len(), BIG);
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await;
    client.hear("hello").await;
    assert_eq!(server.counts().write_too_slow, 0);
}

#[tokio::test]
async fn a_route_may_wait_for_its_readers() {
    let server = Guarded::start();
    let mut client = Attacker::connect(server.address).await;
    client.send("GET /patient/big HTTP/1.1\r\nhost: test\r\n\r\n").await;
    sleep(limits().write.idle * 3).await;
    let mut rest = client.take_rest(b"\r\n0\r\n\r\n").await;
    rest.retain(|byte| *byte == b'#');
    assert_eq!(rest.len(), BIG);
    client.reset();
    server.empty().await;
    assert_eq!(server.counts().write_too_slow, 0);
}

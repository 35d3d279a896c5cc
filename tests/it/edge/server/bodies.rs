//! Bodies that are slow, unread, announced or echoed.

use std::time::Duration;

use tokio::time::sleep;

use super::support::{Guarded, limits, ms};
use crate::support::attackers::{Attacker, Honest};

fn post(path: &str, header: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: test\r\n{header}\r\n\r\n")
}

#[tokio::test]
async fn a_drip_is_answered_408_and_closed_while_others_are_served() {
    let server = Guarded::start();
    let honest = Honest::start(server.address, "/", 5);
    let length = "content-length: 100000";
    let shapes =
        [("/upload", length), ("/upload", "transfer-encoding: chunked"), ("/elsewhere", length)];
    for (path, header) in shapes {
        let mut attacker = Attacker::connect(server.address).await;
        attacker.send(post(path, header)).await;
        attacker.begin();
        // Chunks of one byte, or bytes of a body with a length.
        let ended = attacker.drip(b"1\r\na\r\n", ms(50)).await;
        assert_eq!(ended.statuses(), [408], "{path}: {ended:?}");
        assert!(ended.heard.contains("body.timeout"), "{path}: {ended:?}");
        assert!(ended.heard.contains("connection: close"), "{path}: {ended:?}");
        // After the answer actix-web listens for a second, so that it is not lost.
        assert!(ended.after < limits().body.grace + ms(2500), "{path}: {ended:?}");
    }
    let waits = honest.stop().await;
    assert!(waits.iter().max().unwrap() < &ms(1000), "{waits:?}");
    server.empty().await;
    assert_eq!((server.counts().body_too_slow, server.counts().open), (3, 0));
}

#[tokio::test]
async fn the_answer_to_a_drip_comes_in_its_limit() {
    let server = Guarded::start();
    let mut attacker = Attacker::connect(server.address).await;
    attacker.send(post("/upload", "content-length: 100000")).await;
    attacker.begin();
    attacker.hear("408").await;
    let heard = attacker.since_begun();
    let grace = limits().body.grace;
    assert!(heard >= grace - ms(30) && heard < grace + ms(1000), "{heard:?}");
    // Nothing more is sent: the client is not waited for longer than it takes.
    attacker.half_close().await;
    attacker.ended().await;
    server.empty().await;
}

#[tokio::test]
async fn a_body_that_is_read_beyond_its_length_is_timed_too() {
    let server = Guarded::start();
    let mut attacker = Attacker::connect(server.address).await;
    attacker.send(post("/upload", "content-length: 1\r\nupgrade: websocket")).await;
    attacker.send("a").await;
    attacker.begin();
    attacker.hear(" 408 ").await;
    assert!(attacker.since_begun() < limits().body.grace + ms(1000));
}

#[tokio::test]
async fn a_trailer_with_bare_line_feeds_ends_where_its_decoder_says() {
    let server = Guarded::start();
    let mut client = Attacker::connect(server.address).await;
    client.send(post("/elsewhere", "transfer-encoding: chunked")).await;
    client.send("1\r\na\r\n").await;
    // Its reader waits by now, and in a task of its own is not asked again by accident.
    sleep(ms(100)).await;
    client.send("0\r\na\n\nGET /smuggled HTTP/1.1\nhost: test\r\n\r\n").await;
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await;
    assert!(client.take_answer().await.ends_with("\r\n\r\n1"));
    assert!(client.take_answer().await.ends_with("\r\n\r\nhello"));
}

#[tokio::test]
async fn an_honest_uploader_above_the_rate_is_never_cut() {
    let server = Guarded::start();
    let mut client = Attacker::connect(server.address).await;
    client.send(post("/upload", "content-length: 5000")).await;
    // 2 kB/s where 1 is asked for, for eight times as long as the grace.
    for _ in 0..50 {
        client.send([b'b'; 100]).await;
        sleep(ms(50)).await;
    }
    client.hear("5000").await;
    assert_eq!(server.counts().body_too_slow, 0);
}

#[tokio::test]
async fn a_route_may_be_more_patient() {
    let server = Guarded::start();
    let mut client = Attacker::connect(server.address).await;
    client.send(post("/patient/upload", "content-length: 3")).await;
    for _ in 0..3 {
        sleep(ms(700)).await;
        client.send("b").await;
    }
    client.hear("\r\n\r\n3").await;
    // The next request of the connection has the server's rate again.
    client.forget();
    client.send(post("/upload", "content-length: 3")).await;
    client.hear("408").await;
}

#[tokio::test]
async fn a_body_that_nobody_reads_ends_its_connection() {
    let server = Guarded::start();
    for header in ["content-length: 100000", "transfer-encoding: chunked"] {
        let mut attacker = Attacker::connect(server.address).await;
        attacker.begin();
        attacker.send(post("/ignore", header)).await;
        let ended = attacker.drip(b"1\r\na\r\n", ms(50)).await;
        assert_eq!(ended.statuses(), [200]);
        assert!(ended.heard.contains("connection: close"), "{ended:?}");
        assert!(ended.after < ms(3500), "{ended:?}");
    }
    server.empty().await;
}

#[tokio::test]
async fn a_chunked_body_that_came_whole_costs_no_connection() {
    let server = Guarded::start();
    let mut client = Attacker::connect(server.address).await;
    let body = "5\r\nhello\r\n0\r\n\r\n";
    for (path, heard) in [("/upload", "\r\n\r\n5"), ("/slow", "slow"), ("/upload", "\r\n\r\n5")] {
        // `/slow` reads nothing of it, and answers when it is all there.
        client.send(format!("{}{body}", post(path, "transfer-encoding: chunked"))).await;
        client.hear(heard).await;
        client.forget();
    }
    assert_eq!(server.counts().accepted, 1);
}

#[tokio::test]
async fn who_expects_100_continue_gets_it_and_has_to_continue() {
    let server = Guarded::start();
    let expect = "content-length: 5\r\nexpect: 100-continue";
    let mut client = Attacker::connect(server.address).await;
    client.send(post("/upload", expect)).await;
    client.hear("100 Continue").await;
    client.send("12345").await;
    client.hear("\r\n\r\n5").await;

    let mut attacker = Attacker::connect(server.address).await;
    attacker.begin();
    attacker.send(post("/upload", expect)).await;
    attacker.hear("100 Continue").await;
    let ended = attacker.ended().await;
    assert_eq!(ended.statuses(), [100, 408]);
    server.empty().await;
}

#[tokio::test]
async fn chunks_are_no_way_around_the_rate() {
    let server = Guarded::start();
    let mut attacker = Attacker::connect(server.address).await;
    attacker.send(post("/upload", "transfer-encoding: chunked")).await;
    attacker.begin();
    // Any number of bytes that are no body: extensions of a chunk.
    let ended =
        attacker.drip(b"1;extension=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", ms(2)).await;
    assert!(matches!(ended.statuses()[..], [400 | 408, ..]), "{ended:?}");
    assert!(ended.after < limits().body.grace + ms(2500), "{ended:?}");
    server.empty().await;
}

#[tokio::test]
async fn an_echo_is_timed_in_both_directions_at_once() {
    let server = Guarded::start();
    let mut client = Attacker::connect(server.address).await;
    client.send(post("/echo", "transfer-encoding: chunked")).await;
    for _ in 0..20 {
        client.send(format!("64\r\n{}\r\n", "b".repeat(100))).await;
        sleep(ms(50)).await;
    }
    client.send("0\r\n\r\n").await;
    // actix-web closes a connection whose answer began before the request had ended.
    let ended = client.ended().await;
    let (_, body) = ended.heard.split_once("\r\n\r\n").unwrap();
    assert_eq!(body.matches('b').count(), 2000);
    assert!(ended.heard.ends_with("\r\n0\r\n\r\n"), "{ended:?}");

    let mut attacker = Attacker::connect(server.address).await;
    attacker.send(post("/echo", "transfer-encoding: chunked")).await;
    attacker.hear("200 OK").await;
    attacker.begin();
    let ended = attacker.ended().await;
    assert!(ended.after < limits().body.grace + ms(2500), "{ended:?}");
    server.empty().await;
}

/// A client whose connection speaks another protocol from now on.
async fn upgraded(server: &Guarded) -> Attacker {
    let mut client = Attacker::connect(server.address).await;
    let upgrade =
        "GET /upgrade HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    client.send(upgrade).await;
    client.hear("101 Switching Protocols").await;
    client
}

#[tokio::test]
async fn an_upgraded_connection_may_be_silent() {
    let server = Guarded::start();
    let mut client = upgraded(&server).await;
    sleep(Duration::from_secs(2)).await;
    client.forget();
    client.send("still here").await;
    client.hear("still here").await;
    client.reset();
    server.empty().await;
}

#[tokio::test]
async fn what_goes_through_an_upgraded_connection_may_look_like_a_refusal_of_the_server() {
    let server = Guarded::start();
    let mut client = upgraded(&server).await;
    for _ in 0..2 {
        client.forget();
        client.send("HTTP/1.1 400 Bad Request\r\n\r\nfrom the other end").await;
        client.hear("from the other end").await;
    }
}

#[tokio::test]
async fn a_refusal_that_the_head_is_enough_for_comes_instead_of_100_continue() {
    let server = Guarded::start();
    let expect = "content-length: 10000000\r\nexpect: 100-continue";
    for (path, status) in [("/upload", 413), ("/nowhere", 404), ("/ignore", 200)] {
        let mut client = Attacker::connect(server.address).await;
        client.send(post(path, expect)).await;
        let ended = client.ended().await;
        assert_eq!(ended.statuses(), [status], "{path}");
        assert!(ended.heard.contains("x-request-id: "), "{ended:?}");
        assert!(ended.heard.contains("connection: close"), "{ended:?}");
    }
    server.empty().await;
}

#[tokio::test]
async fn who_does_not_wait_for_100_continue_is_served_too() {
    let server = Guarded::start();
    let mut client = Attacker::connect(server.address).await;
    let body = vec![b'b'; 3_000_000];
    for length in [1, 5000, body.len(), 7] {
        let head = format!("content-length: {length}\r\nexpect: 100-continue");
        client.send(post("/elsewhere", &head)).await;
        client.send(&body[..length]).await;
        client.hear(&format!("\r\n\r\n{length}")).await;
        client.forget();
    }
    assert_eq!(server.counts().accepted, 1, "its connection goes on");
}

//! Requests side by side; what becomes of them, and of their connection in the end.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use actix_web::http::Method;
use actix_web::web::Bytes;
use tokio::time::sleep;

use super::support::{
    BIG, Client, DATA, HEADERS, PING, RESET, Raw, expect_within, frame, post, read, start,
};
use crate::edge::server::support::{limits, ms};
use crate::edge::support::eventually;

#[tokio::test]
async fn requests_are_answered_side_by_side() {
    let (server, seen) = start(limits());
    let mut client = Client::connect(&server).await;
    assert_eq!(client.get("/").await, (200, "https".to_owned()));
    let slow = client.ask(Method::GET, "/work/300").await;
    assert_eq!(client.get("/").await.0, 200);
    assert_eq!(seen.finished(), 0);
    assert_eq!(read(slow).await, (200, "done".to_owned()));
    let (response, mut body) = client.begin(Method::POST, "/upload", false).await;
    body.send_data(Bytes::from_static(b"12345"), false).unwrap();
    body.send_data(Bytes::from_static(b"678"), true).unwrap();
    assert_eq!(read(response).await, (200, "8".to_owned()));
    assert_eq!(client.get("/big").await.1.len(), BIG);
    assert_eq!(server.counts().accepted, 1);
}

#[tokio::test]
async fn large_windows_are_used_and_nothing_gets_stuck() {
    let (server, seen) = start(limits());
    let stream = server.connect().await;
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(1 << 30).initial_connection_window_size(1 << 30);
    let (send, connection) = builder.handshake(stream).await.unwrap();
    let mut client = Client { send, connection: tokio::spawn(connection) };
    let mut responses = Vec::new();
    for _ in 0..3 {
        responses.push(client.ask(Method::GET, "/big").await);
    }
    let read = responses.into_iter().map(read);
    for (status, body) in futures_util::future::join_all(read).await {
        assert_eq!((status, body.len()), (200, BIG));
    }
    eventually("all of it is over", || seen.dropped() == 3).await;
    assert_eq!(server.counts().write_too_slow, 0);
}

#[tokio::test]
async fn an_idle_connection_is_closed_in_good_order_whatever_it_pings() {
    let (server, _) = start(limits());
    let mut client = Client::connect(&server).await;
    let begun = Instant::now();
    client.get("/").await;
    assert!(client.ended().await);
    expect_within(begun.elapsed(), limits().connections.idle);
    let mut pinging = Raw::connect(&server).await;
    pinging.get(1, "/").await;
    pinging.begun = Instant::now();
    for _ in 0..200 {
        pinging.send(frame(PING, 0, 0, b"12345678")).await;
        sleep(ms(20)).await;
        if server.counts().open == 0 {
            break;
        }
    }
    // It is closed, and has a second to close too, which it does not take.
    assert!(pinging.begun.elapsed() < limits().connections.idle + ms(2500));
    server.empty().await;
    assert_eq!(server.counts().idle, 2);
}

#[tokio::test]
async fn work_of_a_stream_that_is_reset_is_dropped_and_of_others_it_is_not() {
    let (server, seen) = start(limits());
    let mut client = Client::connect(&server).await;
    let stays = client.ask(Method::GET, "/work/700").await;
    let leaves = client.ask(Method::GET, "/work/60000").await;
    let silent = client.ask(Method::GET, "/silent").await;
    eventually("they begin", || seen.begun() == 3).await;
    drop(leaves);
    eventually("one is dropped", || seen.dropped() == 1).await;
    drop(silent);
    eventually("the other too", || seen.dropped() == 2).await;
    assert_eq!(read(stays).await, (200, "done".to_owned()));
}

#[tokio::test]
async fn work_for_a_client_that_is_gone_is_dropped_or_goes_on_without_it() {
    let (server, seen) = start(limits());
    let mut client = Client::connect(&server).await;
    let read = client.ask(Method::GET, "/work/60000").await;
    let silent = client.ask(Method::GET, "/silent").await;
    let write = client.ask(Method::POST, "/work/600").await;
    eventually("they begin", || seen.begun() == 3).await;
    client.connection.abort();
    eventually("what only read is dropped", || seen.dropped() == 2).await;
    assert_eq!(server.counts().open, 1, "it counts until its work is done");
    eventually("what wrote has finished", || seen.finished() == 1).await;
    server.empty().await;
    drop((read, silent, write));
}

#[tokio::test]
async fn a_body_that_drips_is_refused_and_the_connection_stays() {
    let (server, _) = start(limits());
    let mut client = Client::connect(&server).await;
    let (response, mut body) = client.begin(Method::POST, "/upload", false).await;
    body.send_data(Bytes::from_static(b"1"), false).unwrap();
    let (status, problem) = read(response).await;
    assert_eq!(status, 408);
    assert!(problem.contains("body.timeout"), "{problem}");
    assert_eq!(client.get("/").await.0, 200);
}

#[tokio::test]
async fn a_body_that_nobody_reads_ends_with_the_answer_and_keeps_no_connection_open() {
    let (server, _) = start(limits());
    for (path, status) in [("/upload", 408), ("/work/1", 200), ("/nowhere", 404)] {
        let mut client = Raw::connect(&server).await;
        client.send(frame(HEADERS, 0x4, 1, &post(path))).await;
        client.send(frame(DATA, 0, 1, &[0; 100])).await;
        assert_eq!(client.answer(1).await.0, status);
        client.hear(&frame(RESET, 0, 1, &[0; 4])).await;
        let (_, after, _) = client.ended().await;
        expect_within(after, limits().connections.idle);
    }
    server.empty().await;
    assert_eq!((server.counts().body_too_slow, server.counts().idle), (1, 3));
}

#[tokio::test]
async fn after_its_last_request_the_client_is_asked_to_leave() {
    let mut limits = limits();
    limits.connections.requests = 3;
    limits.http2.streams = 4;
    let (server, _) = start(limits);
    let mut client = Client::connect(&server).await;
    let slow = client.ask(Method::GET, "/work/400").await;
    client.get("/").await;
    client.get("/").await;
    assert_eq!(read(slow).await.0, 200);
    assert!(client.ended().await);
    let mut attacker = Raw::connect(&server).await;
    for n in 0..3 {
        attacker.get(2 * n + 1, "/work/60000").await;
    }
    let farewell = frame(7, 0, 0, &[0x7F, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0]);
    attacker.hear(&farewell).await;
    for n in 3..8 {
        let id = 2 * n + 1;
        attacker.get(id, "/work/1").await;
        attacker.send(frame(RESET, 0, id, &8_u32.to_be_bytes())).await;
    }
    let (_, _, in_good_order) = attacker.ended().await;
    assert!(!in_good_order);
    server.empty().await;
    assert_eq!(server.counts().outstayed, 1);
}

#[tokio::test]
async fn an_old_connection_is_closed_when_it_is_idle() {
    let mut limits = limits();
    limits.connections.idle = ms(400);
    limits.connections.age = ms(600);
    limits.connections.age_jitter = 0;
    let (server, _) = start(limits);
    let mut client = Client::connect(&server).await;
    let begun = Instant::now();
    let slow = client.ask(Method::GET, "/work/900").await;
    assert_eq!(read(slow).await.0, 200, "what was begun is answered");
    assert!(client.ended().await);
    assert!(begun.elapsed() < ms(2500));
    server.empty().await;
    assert_eq!(server.counts().age, 1);
}

#[tokio::test]
async fn a_graceful_stop_closes_idle_connections_at_once_and_finishes_requests() {
    let (server, _) = start(limits());
    let mut idle = Client::connect(&server).await;
    idle.get("/").await;
    let fresh = Client::connect(&server).await;
    let mut busy = Client::connect(&server).await;
    let slow = busy.ask(Method::GET, "/work/500").await;
    sleep(ms(100)).await;
    let begun = Instant::now();
    let (idle, fresh, slow, busy, ()) =
        tokio::join!(idle.ended(), fresh.ended(), read(slow), busy.ended(), server.stop());
    assert!(idle && fresh && busy);
    assert_eq!(slow, (200, "done".to_owned()));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(server.counts().open, 0);
    assert_eq!(server.counts().idle, 0);
}

#[tokio::test]
async fn one_address_has_its_share_of_connections() {
    let mut limits = limits();
    limits.connections.per_address = 3;
    let (server, _) = start(limits);
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = Client::connect(&server).await;
        client.get("/").await;
        clients.push(client);
    }
    assert!(server.connect_from(Ipv4Addr::LOCALHOST).await.is_err());
    assert!(server.connect_from(Ipv4Addr::new(127, 0, 0, 2)).await.is_ok());
    assert_eq!(server.counts().refused_address, 1);
}

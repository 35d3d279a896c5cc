//! Clients that have too much of something are cut, and counted.

use std::time::Instant;

use actix_web::web;
use http_02::Request;
use tokio::io::AsyncReadExt;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::support::{
    CONTINUATION, Client, HEADERS, PING, RESET, Raw, SETTINGS, WINDOW, expect_within, frame, head,
    read, start,
};
use crate::edge::server::encrypted::{Encrypted, PATIENCE};
use crate::edge::server::support::{Guarded, limits, ms};
use crate::edge::support::eventually;
use crate::support::attackers::Attacker;

#[tokio::test]
async fn it_is_neither_offered_nor_spoken_without_the_switch() {
    let server = Encrypted::start(limits(), |app| {
        app.route("/", web::get().to(|| async { "hello" }));
    });
    let stream = server.connect().await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let raw = Raw::connect(&server).await;
    let (heard, ..) = raw.ended().await;
    assert!(heard.starts_with(b"HTTP/1.1 400"), "{}", String::from_utf8_lossy(&heard));
}

#[tokio::test]
async fn it_is_not_spoken_without_tls() {
    let server = Guarded::start();
    let mut client = Attacker::connect(server.address).await;
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    assert_eq!(client.ended().await.statuses(), [400]);
}

#[tokio::test]
async fn the_client_is_told_its_limits() {
    let mut limits = limits();
    limits.http2.streams = 7;
    let (server, _) = start(limits);
    let (heard, ..) = Raw::connect(&server).await.ended().await;
    let told = [0, 3, 0, 0, 0, 7, 0, 6, 0, 0, 8, 0];
    let length = usize::from(heard[2]);
    assert_eq!((heard[3], &heard[9 + length - told.len()..9 + length]), (SETTINGS, &told[..]));
}

#[tokio::test]
async fn a_first_head_that_does_not_come_is_not_waited_for() {
    let (server, _) = start(limits());
    let mut mute = server.connect().await;
    let begun = Instant::now();
    let mut heard = Vec::new();
    let _reset = timeout(PATIENCE, mute.read_to_end(&mut heard)).await.unwrap();
    expect_within(begun.elapsed(), limits().head.timeout);
    let greeting = Raw::connect(&server).await;
    let (_, after, in_good_order) = greeting.ended().await;
    expect_within(after, limits().head.timeout);
    assert!(in_good_order, "it had begun nothing");
    server.empty().await;
    assert_eq!(server.counts().head_timeout, 2);
}

#[tokio::test]
async fn a_head_that_never_ends_is_cut() {
    let (server, _) = start(limits());
    let mut attacker = Raw::connect(&server).await;
    attacker.get(1, "/").await;
    attacker.begun = Instant::now();
    attacker.send(frame(HEADERS, 0x1, 3, &head("/"))).await;
    let (_, after, in_good_order) = attacker.ended().await;
    expect_within(after, limits().head.timeout);
    assert!(!in_good_order);
    let mut attacker = Raw::connect(&server).await;
    attacker.send(&frame(HEADERS, 0x5, 1, &head("/"))[..11]).await;
    let (_, after, _) = attacker.ended().await;
    expect_within(after, limits().head.timeout);
    server.empty().await;
    assert_eq!(server.counts().head_timeout, 2);
}

#[tokio::test]
async fn a_head_without_end_is_cut_and_one_that_unpacks_to_more_is_refused() {
    let (server, seen) = start(limits());
    let mut attacker = Raw::connect(&server).await;
    attacker.send(frame(HEADERS, 0x1, 1, &head("/work/1"))).await;
    for _ in 0..300 {
        attacker.send(frame(CONTINUATION, 0, 1, &[0; 0])).await;
    }
    let (_, after, in_good_order) = attacker.ended().await;
    assert!(!in_good_order && after < limits().head.timeout, "{after:?}");
    server.empty().await;
    assert_eq!(server.counts().head_too_large, 1);

    let mut client = Client::connect(&server).await;
    let request = |count| {
        let mut request = Request::builder().uri("https://localhost/work/1").body(()).unwrap();
        for _ in 0..count {
            request.headers_mut().append("x-same", "v".repeat(200).parse().unwrap());
        }
        request
    };
    client.get("/").await;
    for (count, status) in [(5, 200), (12, 431)] {
        let (response, _) = client.send.send_request(request(count), true).unwrap();
        assert_eq!(read(response).await.0, status, "{count}");
    }
    assert_eq!(seen.begun(), 1);
    assert_eq!(server.counts().head_too_large, 1, "only its stream ended");
}

#[tokio::test]
async fn there_may_be_as_many_streams_as_the_client_was_told_and_not_one_more() {
    let mut limits = limits();
    limits.http2.streams = 10;
    let (server, seen) = start(limits);
    let mut attacker = Raw::connect(&server).await;
    for n in 0..10 {
        attacker.get(2 * n + 1, "/work/60000").await;
    }
    eventually("all are served", || seen.begun() == 10).await;
    assert_eq!(server.counts().too_many_streams, 0);
    attacker.get(21, "/work/60000").await;
    let (_, _, in_good_order) = attacker.ended().await;
    assert!(!in_good_order);
    eventually("their work is dropped", || seen.dropped() == 10).await;
    server.empty().await;
    assert_eq!((server.counts().too_many_streams, seen.begun()), (1, 10));
}

#[tokio::test]
async fn a_client_that_opens_and_resets_at_once_is_cut_and_its_work_is_bounded() {
    let mut limits = limits();
    limits.http2.streams = 10;
    limits.http2.resets = 50;
    let (server, seen) = start(limits);
    let mut attacker = Raw::connect(&server).await;
    let flood: Vec<u8> = (0..500_u32)
        .flat_map(|n| {
            let id = 2 * n + 1;
            let request = frame(HEADERS, 0x5, id, &head("/work/60000"));
            [request, frame(RESET, 0, id, &8_u32.to_be_bytes())].concat()
        })
        .collect();
    attacker.send(flood).await;
    let (_, _, in_good_order) = attacker.ended().await;
    assert!(!in_good_order);
    server.empty().await;
    assert_eq!(server.counts().reset_flood, 1);
    assert!(seen.begun() <= 50, "{}", seen.begun());
    eventually("nothing goes on", || seen.dropped() == seen.begun()).await;
}

#[tokio::test]
async fn who_grants_no_window_is_reset() {
    let (server, seen) = start(limits());
    let mut attacker = Raw::connect(&server).await;
    attacker.get(1, "/big").await;
    eventually("it begins", || seen.begun() == 1).await;
    let begun = Instant::now();
    // It reads what comes, so the connection itself is never blocked.
    let (heard, ..) = attacker.ended().await;
    assert!(heard.len() > 60_000, "{}", heard.len());
    expect_within(begun.elapsed(), limits().write.grace);
    server.empty().await;
    assert_eq!((server.counts().write_too_slow, seen.dropped()), (1, 1));
}

#[tokio::test]
async fn who_reads_nothing_is_reset() {
    let (server, seen) = start(limits());
    let mut attacker = Raw::connect(&server).await;
    // Windows as large as they can be.
    let settings = frame(SETTINGS, 0, 0, &[0, 4, 0x7F, 0xFF, 0xFF, 0xFF]);
    attacker.send(settings).await;
    attacker.send(frame(8, 0, 0, &0x7FFF_0000_u32.to_be_bytes())).await;
    for n in 0..8 {
        attacker.get(2 * n + 1, "/big").await;
    }
    eventually("they begin", || seen.begun() == 8).await;
    eventually("it is reset", || server.counts().write_too_slow == 1).await;
    eventually("all are dropped", || seen.dropped() == 8).await;
    server.empty().await;
    drop(attacker);
}

#[tokio::test]
async fn many_streams_that_stall_are_ended_together() {
    let (server, seen) = start(limits());
    let mut attacker = Raw::connect(&server).await;
    attacker.send(frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0])).await;
    attacker.begun = Instant::now();
    for n in 0..50 {
        attacker.get(2 * n + 1, "/big").await;
    }
    eventually("they begin", || seen.begun() == 50).await;
    let (_, after, in_good_order) = attacker.ended().await;
    assert!(!in_good_order);
    expect_within(after, limits().write.grace);
    server.empty().await;
    assert_eq!((server.counts().write_too_slow, seen.dropped()), (1, 50));
}

#[tokio::test]
async fn who_grants_room_for_a_byte_at_a_time_is_reset() {
    let (server, seen) = start(limits());
    let mut attacker = Raw::connect(&server).await;
    attacker.send(frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0])).await;
    attacker.begun = Instant::now();
    attacker.get(1, "/big").await;
    eventually("it begins", || seen.begun() == 1).await;
    while server.counts().open > 0 {
        attacker.send(frame(WINDOW, 0, 1, &[0, 0, 0, 1])).await;
        sleep(ms(20)).await;
        assert!(attacker.begun.elapsed() < PATIENCE, "it never was");
    }
    expect_within(attacker.begun.elapsed(), limits().write.grace);
    assert_eq!((server.counts().write_too_slow, seen.dropped()), (1, 1));
}

#[tokio::test]
async fn heads_that_unpack_to_many_times_their_size_are_refused_one_by_one() {
    let (server, seen) = start(limits());
    let mut attacker = Raw::connect(&server).await;
    // The first defines a header of 100 bytes; each has it so many times, in a byte.
    let define = [&[0x40, 1, b'x', 99][..], &[b'v'; 99]].concat();
    let bomb = |definition: &[u8], times: usize| {
        [&head("/work/1")[..], definition, &vec![0xBE; times]].concat()
    };
    let mut bombs = frame(HEADERS, 0x5, 1, &bomb(&define, 400));
    for n in 1..100 {
        bombs.extend(frame(HEADERS, 0x5, 2 * n + 1, &bomb(&[], 400)));
    }
    attacker.send(frame(WINDOW, 0, 0, &[0, 0x10, 0, 0])).await;
    attacker.send(bombs).await;
    assert_eq!(attacker.statuses(100).await, [431; 100]);
    attacker.get(301, "/").await;
    assert_eq!(attacker.answer(301).await.0, 200);
    assert_eq!((server.counts().head_too_large, seen.begun()), (0, 0));
    // actix-http would need a time for them that grows with the square of their number.
    attacker.send(frame(HEADERS, 0x5, 303, &bomb(&[], 600))).await;
    let (_, _, in_good_order) = attacker.ended().await;
    assert!(!in_good_order);
    server.empty().await;
    assert_eq!((server.counts().head_too_large, seen.begun()), (1, 0));
}

#[tokio::test]
async fn honest_clients_are_served_through_all_attacks_at_once() {
    let mut limits = limits();
    limits.connections.requests = 100_000;
    let (server, _) = start(limits);
    let mut honest = JoinSet::new();
    let (stop, stopped) = watch::channel(false);
    for _ in 0..25 {
        let (mut client, stopped) = (Client::connect(&server).await, stopped.clone());
        honest.spawn(async move {
            let mut answered = 0;
            while !*stopped.borrow() {
                assert_eq!(client.get("/").await.0, 200);
                answered += 1;
                sleep(ms(10)).await;
            }
            answered
        });
    }
    let reset = |id: u32| {
        let request = frame(HEADERS, 0x5, id, &head("/work/60000"));
        [request, frame(RESET, 0, id, &8_u32.to_be_bytes())].concat()
    };
    let attacks: [Vec<u8>; 6] = [
        frame(PING, 0, 0, b"12345678").repeat(5000),
        frame(SETTINGS, 0, 0, &[]).repeat(5000),
        (0..500).flat_map(|n| reset(2 * n + 1)).collect(),
        (0..200).flat_map(|n| frame(HEADERS, 0x5, 2 * n + 1, &head("/work/60000"))).collect(),
        (0..20).flat_map(|n| frame(HEADERS, 0x5, 2 * n + 1, &head("/big"))).collect(),
        [frame(HEADERS, 0x1, 1, &head("/")), frame(CONTINUATION, 0, 1, &[]).repeat(500)].concat(),
    ];
    for _ in 0..4 {
        for attack in &attacks {
            let mut attacker = Raw::connect(&server).await;
            attacker.send(attack).await;
            attacker.ended().await;
        }
    }
    stop.send(true).unwrap();
    for answered in honest.join_all().await {
        assert!(answered > 0);
    }
    server.empty().await;
    let counts = server.counts();
    assert_eq!((counts.frame_flood, counts.reset_flood), (8, 4), "{counts:?}");
    assert_eq!((counts.too_many_streams, counts.write_too_slow), (4, 4), "{counts:?}");
    assert_eq!((counts.head_too_large, counts.malformed), (4, 0), "{counts:?}");
}

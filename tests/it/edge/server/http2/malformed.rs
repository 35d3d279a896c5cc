//! What is no HTTP/2, and what is but comes in odd pieces.

use std::time::{Duration, Instant};

use super::support::{
    CONTINUATION, Client, DATA, GOAWAY, HEADERS, PING, PREFACE, RESET, RESET_STATUS, Raw, SETTINGS,
    WINDOW, expect_within, frame, head, post, start,
};
use crate::edge::server::support::limits;
use crate::edge::support::eventually;
use crate::support::attackers::Attacker;

#[tokio::test]
async fn who_breaks_the_protocol_is_cut_and_counted_and_others_are_served() {
    let (server, seen) = start(limits());
    let mut honest = Client::connect(&server).await;
    let huge = [0, 0x40, 0x0A, DATA, 0, 0, 0, 0, 1].to_vec();
    let breaches: Vec<(&str, Vec<u8>)> = vec![
        ("a stream of ours", frame(HEADERS, 0x5, 2, &head("/"))),
        ("no stream", frame(HEADERS, 0x5, 0, &head("/"))),
        (
            "an old stream",
            [frame(HEADERS, 0x5, 9, &head("/")), frame(HEADERS, 0x5, 7, &head("/"))].concat(),
        ),
        ("data for none", frame(DATA, 0, 0, b"data")),
        ("data before the head", frame(DATA, 0, 5, b"data")),
        ("a reset before the head", frame(RESET, 0, 5, &[0; 4])),
        ("room before the head", frame(WINDOW, 0, 5, &[0, 0, 0, 1])),
        ("no room", frame(WINDOW, 0, 0, &[0; 4])),
        (
            "no room for a stream",
            [frame(HEADERS, 0x4, 1, &head("/")), frame(WINDOW, 0, 1, &[0; 4])].concat(),
        ),
        ("too much room", frame(WINDOW, 0, 0, &[0x7F, 0xFF, 0xFF, 0xFF])),
        ("a window too large", frame(SETTINGS, 0, 0, &[0, 4, 0x80, 0, 0, 0])),
        ("half a setting", frame(SETTINGS, 0, 0, &[0, 4, 0])),
        ("an answer with settings", frame(SETTINGS, 1, 0, &[0, 4, 0, 0, 0, 1])),
        ("settings for a stream", frame(SETTINGS, 0, 1, &[])),
        ("half a ping", frame(PING, 0, 0, b"1234")),
        ("half a reset", frame(RESET, 0, 1, &[0; 3])),
        ("a promise", frame(5, 0x4, 1, &[0, 0, 0, 2, 0x82])),
        ("a tail without a head", frame(CONTINUATION, 0x4, 1, &head("/"))),
        (
            "something between",
            [frame(HEADERS, 0x1, 1, &head("/")), frame(PING, 0, 0, b"12345678")].concat(),
        ),
        (
            "a tail of another",
            [frame(HEADERS, 0x1, 1, b""), frame(CONTINUATION, 0x4, 3, &head("/"))].concat(),
        ),
        ("a frame too large", huge),
        ("padding that is larger", frame(DATA, 0x8, 1, &[9, 1])),
        ("a header of no number", frame(HEADERS, 0x5, 1, &[0x80])),
        ("a header nobody knows", frame(HEADERS, 0x5, 1, &[0xFE])),
        ("a name in capitals", frame(HEADERS, 0x5, 1, &[&head("/")[..], b"\0\x01A\x01b"].concat())),
        ("half a header", frame(HEADERS, 0x5, 1, &[0x82, 0x04, 0x7F])),
        (
            "a table too large",
            frame(HEADERS, 0x5, 1, &[&[0x3F, 0xE1, 0xFF, 0x03], &head("/")[..]].concat()),
        ),
    ];
    for (count, (what, bytes)) in (1..).zip(&breaches) {
        let mut attacker = Raw::connect(&server).await;
        attacker.send(bytes).await;
        let (_, after, _) = attacker.ended().await;
        // It is told why, and has a second to leave by itself.
        assert!(after < Duration::from_millis(1800), "{what}: {after:?}");
        eventually(what, || server.counts().malformed == count).await;
        assert_eq!(honest.get("/").await.0, 200, "{what}");
    }
    let mut garbage = Raw::mute(&server).await;
    garbage.send("GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    garbage.ended().await;
    eventually("it is counted", || server.counts().malformed == breaches.len() as u64 + 1).await;
    drop(honest);
    server.empty().await;
    assert_eq!(seen.begun(), 0);
}

#[tokio::test]
async fn a_stream_that_breaks_the_protocol_is_reset_and_the_connection_stays() {
    let (server, seen) = start(limits());
    let hop = [head("/work/60000"), b"\0\x0aconnection\x05close".to_vec()].concat();
    let length = [post("/upload"), b"\x0f\x0d\x013".to_vec()].concat();
    let request =
        |id, more: &[u8]| [frame(HEADERS, 0x4, id, &head("/work/60000")), more.to_vec()].concat();
    let breaches: Vec<(&str, Vec<u8>)> = vec![
        ("too much room", request(1, &frame(WINDOW, 0, 1, &[0x7F, 0xFF, 0xFF, 0xFF]))),
        ("a tail that does not end it", request(1, &frame(HEADERS, 0x4, 1, &[]))),
        ("a header of another protocol", frame(HEADERS, 0x5, 1, &hop)),
        (
            "more than its length",
            [frame(HEADERS, 0x4, 1, &length), frame(DATA, 1, 1, b"1234")].concat(),
        ),
        (
            "less than its length",
            [frame(HEADERS, 0x4, 1, &length), frame(DATA, 1, 1, b"12")].concat(),
        ),
    ];
    for (what, bytes) in &breaches {
        let mut client = Raw::connect(&server).await;
        client.send(bytes).await;
        assert_eq!(client.answer(1).await.0, RESET_STATUS, "{what}");
        client.get(3, "/").await;
        assert_eq!(client.answer(3).await.0, 200, "{what}");
    }
    eventually("nothing goes on", || seen.dropped() == seen.begun()).await;
    assert_eq!(server.counts().malformed, 0);
}

/// A request with all there can be: a head in pieces, padding, a body, an empty frame, a tail.
fn conversation() -> Vec<u8> {
    let head = post("/upload");
    let (first, rest) = head.split_at(5);
    [
        PREFACE,
        &frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0]),
        &frame(HEADERS, 0x8, 1, &[&[3], first, &[0, 0, 0]].concat()),
        &frame(CONTINUATION, 0, 1, &[]),
        &frame(CONTINUATION, 0x4, 1, rest),
        &frame(PING, 0, 0, b"12345678"),
        &frame(DATA, 0, 1, b"12345"),
        &frame(DATA, 0x8, 1, &[2, b'6', b'7', 0, 0]),
        &frame(DATA, 0, 1, &[]),
        &frame(0xFA, 0xFF, 1, b"unknown"),
        &frame(HEADERS, 0x5, 1, b"\0\x01a\x01b"),
    ]
    .concat()
}

#[tokio::test]
async fn a_request_is_the_same_wherever_it_is_cut() {
    let mut limits = limits();
    limits.head.timeout = Duration::from_secs(5);
    let (server, _) = start(limits);
    let whole = conversation();
    let upload = async |pieces: Vec<&[u8]>| {
        let mut client = Raw::mute(&server).await;
        for piece in pieces {
            client.send(piece).await;
            tokio::task::yield_now().await;
        }
        assert_eq!(client.answer(1).await, (200, b"7".to_vec()));
        client.get(3, "/").await;
        assert_eq!(client.answer(3).await.0, 200);
    };
    for cut in 0..whole.len() {
        let (first, rest) = whole.split_at(cut);
        upload(vec![first, rest]).await;
    }
    upload(whole.chunks(1).collect()).await;
    assert_eq!(server.counts().malformed, 0);
}

#[tokio::test]
async fn half_a_frame_keeps_no_connection_open() {
    let (server, _) = start(limits());
    let halves = [&frame(PING, 0, 0, b"12345678")[..12], &frame(SETTINGS, 0, 0, &[])[..5]];
    for half in halves {
        let mut client = Raw::connect(&server).await;
        client.begun = Instant::now();
        client.get(1, "/").await;
        client.send(half).await;
        let (_, after, _) = client.ended().await;
        expect_within(after, limits().connections.idle);
    }
    let mut client = Raw::connect(&server).await;
    client.send(frame(HEADERS, 0x4, 1, &post("/upload"))).await;
    client.send(&frame(DATA, 0, 1, &[0; 500])[..100]).await;
    assert_eq!(client.answer(1).await.0, 408);
    let (_, after, _) = client.ended().await;
    expect_within(after, limits().body.grace + limits().connections.idle);
    server.empty().await;
    assert_eq!((server.counts().idle, server.counts().body_too_slow), (3, 1));
}

#[tokio::test]
async fn a_client_that_takes_its_leave_is_answered_first_unless_it_gave_its_streams_up() {
    let (server, seen) = start(limits());
    let mut client = Raw::connect(&server).await;
    client.get(1, "/work/300").await;
    client.send(frame(GOAWAY, 0, 0, &[0x7F, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0])).await;
    assert_eq!(client.answer(1).await, (200, b"done".to_vec()));
    client.begun = Instant::now();
    let (_, after, _) = client.ended().await;
    // It has a second to leave by itself.
    assert!(after < Duration::from_millis(1800), "{after:?}");
    let mut client = Raw::connect(&server).await;
    client.get(1, "/work/60000").await;
    eventually("it begins", || seen.begun() == 2).await;
    client.send(frame(GOAWAY, 0, 0, &[0; 8])).await;
    client.ended().await;
    eventually("its work is dropped", || seen.dropped() == 1).await;
    server.empty().await;
    assert_eq!((server.counts().malformed, server.counts().idle), (0, 0));
}

#[tokio::test]
async fn who_does_not_speak_tls_or_only_what_we_do_not_is_refused() {
    let (server, _) = start(limits());
    let mut clear = Attacker::connect(server.address).await;
    clear.send([PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await;
    clear.ended().await;
    assert!(server.connect_with(&[b"h2c"]).await.is_err());
    server.empty().await;
    assert_eq!(server.counts().handshake_failed, 2);
    let older = server.connect_with(&[]).await.unwrap();
    assert_eq!(older.get_ref().1.alpn_protocol(), None);
    drop(older);
}

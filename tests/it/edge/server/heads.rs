//! Heads that are slow, large, or two in one.

use std::sync::atomic::Ordering;

use super::support::{Guarded, limits, ms};
use crate::support::attackers::{Attacker, Honest};

const GET: &str = "GET / HTTP/1.1\r\nhost: test\r\n\r\n";

#[tokio::test]
async fn a_first_head_that_never_ends_is_cut_while_others_are_served() {
    let server = Guarded::start();
    let honest = Honest::start(server.address, "/", 5);
    let mut idle = Attacker::connect(server.address).await;
    idle.begin();
    let mut slow = Attacker::connect(server.address).await;
    slow.begin();
    let (idle, slow) = tokio::join!(idle.ended(), slow.drip(b"GET / HTTP/1.1\r\na: b\r\n", ms(50)));
    for ended in [idle, slow] {
        ended.expect_within(limits().head.timeout);
        assert_eq!(ended.statuses(), [408]);
    }
    let waits = honest.stop().await;
    assert!(waits.iter().max().unwrap() < &ms(1000), "{waits:?}");
    server.empty().await;
    assert_eq!(server.counts().head_timeout, 2);
}

#[tokio::test]
async fn a_later_head_that_never_ends_is_cut() {
    let server = Guarded::start();
    let mut attacker = Attacker::connect(server.address).await;
    for _ in 0..3 {
        attacker.send(GET).await;
        attacker.hear("hello").await;
        attacker.forget();
        // Longer than a head may take: what is between two requests is no head.
        tokio::time::sleep(ms(600)).await;
    }
    attacker.begin();
    let ended = attacker.drip(b"GET / HTTP/1.1\r\na: b\r\n", ms(50)).await;
    ended.expect_within(limits().head.timeout);
    assert_eq!(ended.statuses(), [408]);
    server.empty().await;
    assert_eq!((server.counts().head_timeout, server.requests()), (1, 3));
}

#[tokio::test]
async fn a_head_that_begins_in_the_packet_of_the_request_before_it_is_cut() {
    let server = Guarded::start();
    for before in [GET, "POST /upload HTTP/1.1\r\nhost: test\r\ncontent-length: 5\r\n\r\n12345"] {
        let mut attacker = Attacker::connect(server.address).await;
        attacker.begin();
        attacker.send(format!("{before}GET / HTTP/1.1\r\nho")).await;
        let ended = attacker.ended().await;
        ended.expect_within(limits().head.timeout);
        assert_eq!(ended.statuses(), [200, 408]);
    }
    server.empty().await;
    assert_eq!(server.counts().head_timeout, 2);
}

#[tokio::test]
async fn a_head_without_end_is_refused_at_its_limit() {
    let server = Guarded::start();
    let mut attacker = Attacker::connect(server.address).await;
    attacker.begin();
    attacker.send(format!("GET / HTTP/1.1\r\nhost: test\r\na: {}", "b".repeat(2048))).await;
    let ended = attacker.ended().await;
    assert!(ended.after < limits().head.timeout, "{ended:?}");
    assert_eq!(ended.statuses(), [431]);
    server.empty().await;
    assert_eq!(server.counts().head_too_large, 1);
}

#[tokio::test]
async fn a_whole_head_is_refused_one_byte_past_its_limit() {
    let server = Guarded::start();
    let head = |length: usize| {
        let (start, end) = ("GET / HTTP/1.1\r\nhost: test\r\na: ", "\r\n\r\n");
        format!("{start}{}{end}", "b".repeat(length - start.len() - end.len()))
    };
    let mut fits = Attacker::connect(server.address).await;
    fits.send(head(2048)).await;
    fits.hear("hello").await;
    // Two in one packet: the second has to be measured.
    for before in ["", GET] {
        let mut larger = Attacker::connect(server.address).await;
        larger.send(format!("{before}{}", head(2049))).await;
        let ended = larger.ended().await;
        assert_eq!(ended.statuses().last(), Some(&431), "{ended:?}");
        assert!(ended.heard.contains("http.header_fields_too_large"), "{ended:?}");
        assert!(ended.heard.contains("connection: close"), "{ended:?}");
    }
}

#[tokio::test]
async fn a_flood_of_headers_is_refused_and_counted() {
    let mut limits = limits();
    limits.head.max_bytes = 128 * 1024;
    let server = Guarded::with(limits);
    let mut attacker = Attacker::connect(server.address).await;
    attacker.send(format!("GET / HTTP/1.1\r\nhost: test\r\n{}\r\n", "a: b\r\n".repeat(200))).await;
    let ended = attacker.ended().await;
    assert!(matches!(ended.statuses()[..], [400 | 431]), "{ended:?}");
    server.empty().await;
    assert_eq!((server.counts().malformed, server.requests()), (1, 0));
}

#[tokio::test]
async fn a_large_body_that_comes_with_its_head_is_no_large_head() {
    let server = Guarded::start();
    let mut client = Attacker::connect(server.address).await;
    let body = "b".repeat(60_000);
    let head = "POST /upload HTTP/1.1\r\nhost: test\r\ncontent-length: 60000\r\n\r\n";
    client.send(format!("{head}{body}{GET}")).await;
    client.hear("60000").await;
    client.hear("hello").await;
}

#[tokio::test]
async fn what_may_hide_a_second_request_never_yields_one() {
    let server = Guarded::start();
    let hidden = "GET /smuggled HTTP/1.1\r\nhost: test\r\n\r\n";
    let post = "POST /upload HTTP/1.1\r\nhost: test\r\n";
    let length = hidden.len();
    let shapes = [
        format!(
            "{post}content-length: {length}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"
        ),
        format!("{post}transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n{hidden}"),
        format!("{post}content-length: 0\r\ncontent-length: {length}\r\n\r\n{hidden}"),
        format!("{post}content-length: +0\r\n\r\n{hidden}"),
        format!("{post}content-length: 0x0\r\n\r\n{hidden}"),
        format!("{post}content-length: 0,{length}\r\n\r\n{hidden}"),
        format!(
            "{post}transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n{hidden}"
        ),
        format!("{post}transfer-encoding: xchunked\r\n\r\n0\r\n\r\n{hidden}"),
        format!("{post}transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n{hidden}"),
        format!("{post}transfer-encoding : chunked\r\n\r\n0\r\n\r\n{hidden}"),
        format!("{post}transfer-encoding: chunked\r\n\r\n-1\r\n\r\n{hidden}"),
        format!("{post}transfer-encoding: chunked\r\n\r\nx\r\n\r\n{hidden}"),
        format!("{post}transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n\r\n{hidden}"),
        format!("{post}transfer-encoding: chunked\r\n\r\n1\r\naX0\r\n\r\n{hidden}"),
        format!("POST /upload HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"),
    ];
    for shape in &shapes {
        let mut attacker = Attacker::connect(server.address).await;
        attacker.send(shape).await;
        let ended = attacker.ended().await;
        assert!(ended.statuses().iter().all(|status| *status == 400), "{shape:?}: {ended:?}");
        assert_eq!(server.seen.smuggled.load(Ordering::Relaxed), 0, "{shape:?}");
    }
    server.empty().await;
    let malformed = server.counts().malformed;
    assert_eq!(usize::try_from(malformed).unwrap(), shapes.len());
}

#[tokio::test]
async fn sixteen_requests_in_one_packet_are_answered_in_order() {
    let server = Guarded::start();
    let mut client = Attacker::connect(server.address).await;
    let requests: String = (0..16)
        .map(|n| {
            let body = "b".repeat(n);
            format!("POST /upload HTTP/1.1\r\nhost: test\r\ncontent-length: {n}\r\n\r\n{body}")
        })
        .collect();
    client.begin();
    client.send(requests).await;
    let ended = client.ended().await;
    assert_eq!(ended.statuses(), [200; 16]);
    let bodies = ended.heard.split("\r\n\r\n").skip(1);
    let bodies: Vec<_> = bodies.map(|rest| rest.split("HTTP").next().unwrap().to_owned()).collect();
    assert_eq!(bodies, (0..16).map(|n| n.to_string()).collect::<Vec<_>>());
    ended.expect_within(limits().connections.idle);
    assert_eq!(server.counts().idle, 1);
}

#[tokio::test]
async fn what_is_said_without_the_app_has_an_id_of_its_own() {
    let server = Guarded::start();
    let large = format!("GET / HTTP/1.1\r\nhost: test\r\nlarge: {}", "#".repeat(3000));
    let mut ids = Vec::new();
    for (head, status) in [
        ("GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: te", 408),
        (&*large, 431),
    ] {
        // Also after one that was answered.
        for before in [None, Some(GET)] {
            let mut client = Attacker::connect(server.address).await;
            if let Some(before) = before {
                client.send(before).await;
                client.take_answer().await;
            }
            client.push(head.as_bytes());
            let ended = client.ended().await;
            assert_eq!(ended.statuses().last(), Some(&status), "{ended:?}");
            let farewell = ended.heard.rsplit("HTTP/1.1 ").next().unwrap();
            let id = farewell.split("x-request-id: ").nth(1).unwrap_or_else(|| panic!("{ended:?}"));
            ids.push(id.split("\r\n").next().unwrap().to_owned());
            assert!(farewell.contains("connection: close\r\n"), "{ended:?}");
        }
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 8, "{ids:?}");
}

#[tokio::test]
async fn an_app_that_says_400_says_it_itself() {
    let server = Guarded::start();
    let mut client = Attacker::connect(server.address).await;
    client.send("GET /bad HTTP/1.1\r\nhost: test\r\nx-request-id: mine\r\n\r\n").await;
    let answer = client.take_answer().await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(
        answer.contains("x-request-id: mine\r\n") && answer.contains("\"status\":400"),
        "{answer}"
    );
    assert!(!answer.contains("connection: close"), "{answer}");
}

#[tokio::test]
async fn who_wants_another_protocol_and_does_not_get_it_is_told_that_the_connection_ends() {
    let server = Guarded::start();
    for protocol in ["h2c", "websocket"] {
        let mut client = Attacker::connect(server.address).await;
        let head = format!(
            "GET / HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade: {protocol}\r\n\r\n"
        );
        client.send(head).await;
        let ended = client.ended().await;
        assert_eq!(ended.statuses(), [200]);
        assert!(ended.heard.contains("connection: close\r\n"), "{ended:?}");
        assert!(!ended.heard.to_lowercase().contains("upgrade"), "{ended:?}");
    }
    server.empty().await;
}

#[tokio::test]
async fn a_head_that_came_with_a_body_and_ends_like_it_is_timed_all_the_same() {
    let server = Guarded::start();
    let mut client = Attacker::connect(server.address).await;
    client.begin();
    let post = "POST /upload HTTP/1.1\r\nhost: test\r\ncontent-length: 4\r\n\r\nsame";
    client.send(format!("{post}GET / HTTP/1.1\r\nsame")).await;
    let ended = client.ended().await;
    ended.expect_within(limits().head.timeout);
    assert_eq!(ended.statuses(), [200, 408]);
    server.empty().await;
    assert_eq!((server.counts().head_timeout, server.counts().idle), (1, 0));
}

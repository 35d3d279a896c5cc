//! Requests that come before their predecessors are answered.

use std::fmt::Write as _;

use super::support::{Guarded, limits, ms};
use crate::support::attackers::Attacker;

/// Uploads of these lengths, in this order, each followed by the next at once.
fn uploads(lengths: impl IntoIterator<Item = usize>) -> String {
    lengths.into_iter().fold(String::new(), |mut wire, length| {
        let _infallible = write!(
            wire,
            "POST /upload HTTP/1.1\r\nhost: test\r\ncontent-length: {length}\r\n\r\n{}",
            "b".repeat(length)
        );
        wire
    })
}

/// Hears answers with these bodies, in this order, and nothing else.
async fn hear_in_order(client: &mut Attacker, bodies: impl IntoIterator<Item = String>) {
    for body in bodies {
        let heard = client.take_answer().await;
        assert!(heard.starts_with("HTTP/1.1 200 OK\r\n"), "{heard}");
        assert!(heard.ends_with(&format!("\r\n\r\n{body}")), "{body}: {heard}");
    }
}

#[tokio::test]
async fn requests_that_come_at_once_are_answered_in_order_however_many_they_are() {
    let server = Guarded::start();
    for count in [1, 2, 15, 16, 17, 18, 200] {
        let mut client = Attacker::connect(server.address).await;
        client.send(uploads(1..=count)).await;
        hear_in_order(&mut client, (1..=count).map(|length| length.to_string())).await;
        // The connection goes on as if nothing had been.
        client.send(uploads([7])).await;
        hear_in_order(&mut client, ["7".to_owned()]).await;
    }
}

#[tokio::test]
async fn a_request_behind_a_slow_one_waits_for_it() {
    let server = Guarded::start();
    let mut client = Attacker::connect(server.address).await;
    client.send("GET /slow HTTP/1.1\r\nhost: test\r\n\r\n").await;
    tokio::time::sleep(ms(100)).await;
    client.send(uploads([1, 2, 3])).await;
    hear_in_order(&mut client, ["slow", "1", "2", "3"].map(str::to_owned)).await;
}

#[tokio::test]
async fn what_comes_behind_a_request_changes_nothing_of_its_answer() {
    let server = Guarded::start();
    for behind in [
        "HEAD /soon HTTP/1.1\r\nhost: test\r\n\r\n",
        "GET /soon HTTP/1.0\r\n\r\n",
        "GET /soon HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n",
        "GET /soon HTTP/1.1\r\nhost: test\r\ncontent-length: 9\r\n\r\n",
    ] {
        let mut client = Attacker::connect(server.address).await;
        client.send(format!("GET /soon HTTP/1.1\r\nhost: test\r\n\r\n{behind}")).await;
        let heard = client.take_answer().await;
        assert!(heard.starts_with("HTTP/1.1 200 OK\r\n"), "{behind}{heard}");
        assert!(heard.ends_with("\r\n\r\nsoon"), "{behind}{heard}");
        assert!(!heard.contains("connection: close"), "{behind}{heard}");
        client.hear(" 200 OK\r\n").await;
    }
}

#[tokio::test]
async fn a_large_body_that_looks_like_heads_is_a_body() {
    let server = Guarded::start();
    let body = "GET / HTTP/1.0\n\n\r\n\r\n\n\n\n".repeat(10_000);
    let length = body.len();
    let chunks = body.as_bytes().chunks(1000).fold(String::new(), |mut wire, chunk| {
        let chunk = std::str::from_utf8(chunk).unwrap();
        let _infallible = write!(wire, "{:x}\r\n{chunk}\r\n", chunk.len());
        wire
    });
    for path in ["/upload", "/elsewhere"] {
        let post = format!("POST {path} HTTP/1.1\r\nhost: test\r\n");
        let wire = [
            format!("{post}transfer-encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"),
            uploads([3]),
            format!("{post}content-length: {length}\r\n\r\n{body}"),
            uploads([4]),
        ];
        let mut client = Attacker::connect(server.address).await;
        client.send(wire.concat()).await;
        let length = length.to_string();
        hear_in_order(&mut client, [&*length, "3", &*length, "4"].map(str::to_owned)).await;
    }
}

#[tokio::test]
async fn a_body_that_comes_byte_by_byte_is_read_to_its_end() {
    let server = Guarded::with({
        let mut limits = limits();
        limits.body = steadfast::edge::Rate::none();
        limits
    });
    let mut client = Attacker::connect(server.address).await;
    let chunks = "0000000000000000000001\r\n\n\r\n1\r\n\n\r\n".repeat(4);
    let wire = format!(
        "POST /upload HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"
    );
    for byte in wire.bytes() {
        client.send([byte]).await;
        tokio::task::yield_now().await;
    }
    hear_in_order(&mut client, ["8".to_owned()]).await;
}

#[tokio::test]
async fn who_leaves_while_others_wait_behind_the_request_is_noticed() {
    let server = Guarded::start();
    for behind in [0, 1, 40] {
        let mut client = Attacker::connect(server.address).await;
        client
            .send(format!("GET /slow HTTP/1.1\r\nhost: test\r\n\r\n{}", uploads(0..behind)))
            .await;
        tokio::time::sleep(ms(100)).await;
        client.begin();
        client.reset();
        server.empty().await;
    }
    assert_eq!(server.requests(), 0, "nobody waits for those behind it");
}

/// One request of any kind, and the body of its answer.
fn any_request(random: &mut fastrand::Rng) -> (Vec<u8>, String) {
    let length = match random.u8(..4) {
        0 => random.usize(..4),
        1 => random.usize(..200),
        2 => random.usize(..5_000),
        _ => random.usize(..60_000),
    };
    // Many of its lines are empty.
    let body: String =
        (0..length).map(|_| *random.choice(&['\n', '\r', 'b', '\n']).unwrap()).collect();
    let path = *random.choice(&["/upload", "/elsewhere"]).unwrap();
    let wire = match random.u8(..3) {
        0 => return (b"GET / HTTP/1.1\r\nhost: test\r\n\r\n".to_vec(), "hello".to_owned()),
        1 => {
            format!("POST {path} HTTP/1.1\r\nhost: test\r\ncontent-length: {length}\r\n\r\n{body}")
        }
        _ => {
            let head =
                format!("POST {path} HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n");
            let pieces = body.as_bytes().chunks(random.usize(1..2_000));
            let chunks = pieces.fold(head, |mut wire, piece| {
                let piece = std::str::from_utf8(piece).unwrap();
                let _infallible = write!(wire, "{:x}\r\n{piece}\r\n", piece.len());
                wire
            });
            format!("{chunks}0\r\n\r\n")
        }
    };
    (wire.into_bytes(), length.to_string())
}

#[tokio::test]
async fn whatever_comes_in_whatever_pieces_is_answered_in_order() {
    let server = Guarded::start();
    for seed in 0..60 {
        let mut random = fastrand::Rng::with_seed(seed);
        let requests: Vec<_> = (0..random.usize(1..40)).map(|_| any_request(&mut random)).collect();
        let wire: Vec<u8> = requests.iter().flat_map(|(wire, _)| wire.clone()).collect();
        let mut client = Attacker::connect(server.address).await;
        let largest = *random.choice(&[20, 1_000, 100_000]).unwrap();
        let mut rest = &wire[..];
        while !rest.is_empty() {
            let piece = rest.len().min(random.usize(1..=largest).max(rest.len() / 500));
            // The answers are short: the kernels take them all while nobody reads.
            client.send(&rest[..piece]).await;
            rest = &rest[piece..];
            if random.u8(..4) == 0 {
                tokio::task::yield_now().await;
            }
        }
        for (place, (_, body)) in requests.iter().enumerate() {
            let heard = client.take_answer().await;
            assert!(heard.ends_with(&format!("\r\n\r\n{body}")), "{seed} {place} {body}: {heard}");
            assert!(!heard.contains("connection: close"), "{seed} {place}: {heard}");
        }
    }
    assert_eq!(server.counts().accepted, 60);
}

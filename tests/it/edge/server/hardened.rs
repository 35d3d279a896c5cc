//! What actix-web's own server can have of it.

use std::sync::atomic::Ordering;

use super::support::{Guarded, limits, ms};
use crate::edge::support::eventually;
use crate::support::attackers::Attacker;

fn post(path: &str, header: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: test\r\n{header}\r\n\r\n")
}

#[tokio::test]
async fn a_drip_is_answered_408_and_closed() {
    let server = Guarded::hardened(limits());
    let length = "content-length: 100000";
    let shapes =
        [("/upload", length), ("/upload", "transfer-encoding: chunked"), ("/elsewhere", length)];
    for (path, header) in shapes {
        let mut attacker = Attacker::connect(server.address).await;
        attacker.send(post(path, header)).await;
        attacker.begin();
        let ended = attacker.drip(b"1\r\na\r\n", ms(50)).await;
        assert_eq!(ended.statuses(), [408], "{path} {header}: {ended:?}");
        assert!(ended.heard.contains("body.timeout"), "{path}: {ended:?}");
        assert!(ended.after < limits().body.grace + ms(2500), "{path} {header}: {ended:?}");
    }
}

#[tokio::test]
async fn a_body_that_nobody_reads_ends_its_connection() {
    let server = Guarded::hardened(limits());
    for header in ["content-length: 100000", "transfer-encoding: chunked"] {
        let mut attacker = Attacker::connect(server.address).await;
        attacker.begin();
        attacker.send(post("/ignore", header)).await;
        let ended = attacker.drip(b"1\r\na\r\n", ms(50)).await;
        assert_eq!(ended.statuses(), [200]);
        assert!(ended.after < ms(3500), "{header}: {ended:?}");
    }
}

#[tokio::test]
async fn an_honest_uploader_and_one_on_a_patient_route_are_never_cut() {
    let server = Guarded::hardened(limits());
    let mut client = Attacker::connect(server.address).await;
    client.send(post("/upload", "content-length: 2000")).await;
    for _ in 0..20 {
        client.send([b'b'; 100]).await;
        tokio::time::sleep(ms(50)).await;
    }
    client.hear("2000").await;
    client.send(post("/patient/upload", "content-length: 1")).await;
    tokio::time::sleep(ms(900)).await;
    client.send("b").await;
    client.hear("\r\n\r\n1").await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_reader_that_acknowledges_nothing_is_reset_by_the_kernel() {
    let server = Guarded::hardened(limits());
    let mut attacker = Attacker::connect(server.address).await;
    attacker.begin();
    attacker.send("GET /big HTTP/1.1\r\nhost: test\r\n\r\n").await;
    attacker.hear("200 OK").await;
    // It is given up without a word: only the server knows.
    let streams = || server.seen.streams.load(Ordering::Relaxed);
    eventually("the stream is dropped", || streams() == 0).await;
    let after = attacker.since_begun();
    // The kernel looks when it probes, which it does less and less often.
    let limit = limits().write.idle;
    assert!(after > limit - ms(30) && after < limit + ms(3000), "{after:?}");
}

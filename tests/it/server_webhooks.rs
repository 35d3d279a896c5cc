//! Webhooks of the example server: verified, kept byte for byte, handled once.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use reqwest::Response;
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::time::timeout;

use crate::support::database::TestDatabase;
use crate::support::eventually;
use crate::support::problem::expect_problem;
use crate::support::server::Server;
use crate::support::wire::Wire;

/// How long nothing of what is sent is taken until it is given up.
const STALLS: Duration = Duration::from_secs(5);
/// As `--help` prints it.
const SECRET: &str = "c3RlYWRmYXN0LWRlbW8tc2VjcmV0LW5vdC1hLXNlY3JldA==";
const GITHUB_SECRET: &[u8] = b"steadfast-demo-secret";

fn sign(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

async fn deliver(server: &Server, id: &str, at: u64, body: &[u8]) -> Response {
    let signed = [format!("{id}.{at}.").as_bytes(), body].concat();
    let signature = STANDARD.encode(sign(&STANDARD.decode(SECRET).unwrap(), &signed));
    let request = server.post("/webhooks/standard").header("webhook-id", id);
    let request = request.header("webhook-timestamp", at.to_string());
    let request = request.header("webhook-signature", format!("v1,{signature}"));
    request.body(body.to_vec()).send().await.unwrap()
}

#[tokio::test]
async fn an_event_is_kept_as_it_came_and_handled_once() {
    // A parser would sort, trim, round or refuse most of this.
    let body = br#" {"type":"order.paid", "n": 1E400, "a":{"b":1,"b":2},"id":12345678901234567890123,"u":"\ud800"}"#;
    for database in TestDatabase::each().await {
        let server = database.server();
        let answer = deliver(&server, "msg_1", now(), body).await;
        assert_eq!(answer.status(), 202);
        let first: Value = answer.json().await.unwrap();
        assert_eq!((&first["event_id"], &first["duplicate"]), (&json!("msg_1"), &json!(false)));
        let again: Value = deliver(&server, "msg_1", now(), body).await.json().await.unwrap();
        assert_eq!((&again["id"], &again["duplicate"]), (&first["id"], &json!(true)));
        let path = format!("/events/{}", first["id"]);
        let raw = server.get(&format!("{path}/raw")).send().await.unwrap().bytes().await.unwrap();
        assert_eq!(raw, body.as_slice());
        let handled = async || {
            let event: Value = server.get(&path).send().await.unwrap().json().await.unwrap();
            (event["state"] == "done", event)
        };
        let event = eventually(Duration::from_secs(20), handled, "it is handled").await;
        let expected = json!({
            "id": first["id"], "source": "standard", "event_id": "msg_1", "type": "order.paid",
            "version": null, "state": "done",
        });
        assert_eq!(event, expected);
    }
}

#[tokio::test]
async fn what_is_not_proved_is_refused_and_not_kept() {
    let server = Server::start();
    let body = br#"{"type":"order.paid"}"#;
    for at in [now() - 400, now() + 400] {
        expect_problem(deliver(&server, "late", at, body).await, 401, "inbox.unverified").await;
    }
    let unsigned = server.post("/webhooks/standard").body(body.to_vec()).send().await.unwrap();
    expect_problem(unsigned, 401, "inbox.unverified").await;
    let nobody = server.post("/webhooks/nobody").body(body.to_vec()).send().await.unwrap();
    expect_problem(nobody, 404, "inbox.unknown_source").await;
    let huge = server.post("/webhooks/standard").body(vec![b' '; 256 * 1024 + 1]).send().await;
    expect_problem(huge.unwrap(), 413, "inbox.too_large").await;
    for path in ["/events/1", "/events/1/raw"] {
        expect_problem(server.get(path).send().await.unwrap(), 404, "event.unknown").await;
    }
}

#[tokio::test]
async fn github_is_verified_by_the_bytes_of_the_body() {
    let server = Server::start();
    let body = br#"{"after":"6dcb09b"}"#;
    let hex: String = sign(GITHUB_SECRET, body).iter().map(|byte| format!("{byte:02x}")).collect();
    for (signature, status) in [(hex.clone(), 202), (hex.replace(&hex[..1], "g"), 401)] {
        let request = server.post("/webhooks/github").header("x-github-event", "push");
        let request = request.header("x-github-delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958");
        let request = request.header("x-hub-signature-256", format!("sha256={signature}"));
        let answer = request.body(body.to_vec()).send().await.unwrap();
        assert_eq!(answer.status(), status);
    }
}

/// As many bytes as nobody has memory for, in chunks, and no length said beforehand.
#[tokio::test]
async fn ten_gigabytes_in_chunks_are_refused_and_not_kept_in_memory() {
    const BODY: u64 = 10 * 1024 * 1024 * 1024;
    const MEBIBYTE: u64 = 1024 * 1024;
    let server = Server::start();
    let before = server.process().peak_memory();
    let mut wire = Wire::connect(server.address()).await;
    let head =
        "POST /webhooks/standard HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n";
    wire.send(head).await.unwrap();
    let chunk = [format!("{MEBIBYTE:x}\r\n").as_bytes(), &vec![b' '; 1 << 20], b"\r\n"].concat();
    // The answer comes long before the end: only what lies in buffers was sent by then.
    for _ in 0..32 {
        wire.send(&chunk).await.unwrap();
    }
    let answer = wire.answer().await.unwrap();
    assert_eq!((answer.status, &answer.json()["code"]), (413, &json!("inbox.too_large")));
    // Whoever goes on all the same may be cut off, or read and forgotten.
    let mut sent = 32 * MEBIBYTE;
    while sent < BODY && timeout(STALLS, wire.send(&chunk)).await.is_ok_and(|sent| sent.is_ok()) {
        sent += MEBIBYTE;
    }
    let grown = server.process().peak_memory() - before;
    assert!(grown < 32 * MEBIBYTE, "{grown} bytes of memory for a body that was refused");
    let answer = deliver(&server, "after", now(), br#"{"type":"order.paid"}"#).await;
    assert_eq!(answer.status(), 202, "and it serves");
}

//! Each fault of the simulator, seen from the other end of the wire.

use std::io;
use std::time::{Duration, Instant};

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::server::Server;
use crate::support::wire::{self, Wire};

/// Long enough to tell silence from slowness.
const SILENCE: Duration = Duration::from_millis(300);

pub(crate) async fn control(server: &Server, order: Value) -> StatusCode {
    let url = format!("{}/control", server.upstream);
    Client::new().put(url).json(&order).send().await.unwrap().status()
}

pub(crate) async fn report(server: &Server) -> Value {
    let url = format!("{}/control", server.upstream);
    Client::new().get(url).send().await.unwrap().json().await.unwrap()
}

/// Switches `rates` to `mode` and asks for a rate; the bytes of the answer and its end.
async fn ask_in_mode(server: &Server, mode: &str) -> (String, Option<io::Result<()>>) {
    assert_eq!(control(server, json!({ "service": "rates", "mode": mode })).await, 200);
    let mut wire = Wire::connect(&server.upstream).await;
    wire.send(wire::get("/rates/USD")).await.unwrap();
    let (bytes, ended) = wire.watch(SILENCE).await;
    (String::from_utf8_lossy(&bytes).into_owned(), ended)
}

#[track_caller]
fn assert_reset(ended: Option<io::Result<()>>) {
    let kind = ended.map(|end| end.map_err(|error| error.kind()));
    assert_eq!(kind, Some(Err(io::ErrorKind::ConnectionReset)));
}

#[tokio::test]
async fn ok_answers_and_keeps_the_connection() {
    let server = Server::start();
    let mut wire = Wire::connect(&server.upstream).await;
    for (currency, rate) in [("EUR", 1.0), ("USD", 0.8617)] {
        let answer = wire.get(&format!("/rates/{currency}")).await.unwrap();
        assert_eq!(answer.status, 200);
        assert_eq!(answer.json(), json!({ "currency": currency, "rate": rate }));
    }
    assert_eq!(wire.get("/rates/XXX").await.unwrap().status, 404);
    assert_eq!(report(&server).await["rates"], json!({ "mode": "ok", "calls": 3 }));
}

#[tokio::test]
async fn slow_answers_after_its_latency() {
    let server = Server::start();
    control(&server, json!({ "mode": "slow", "latency_ms": 250 })).await;
    let mut wire = Wire::connect(&server.upstream).await;
    let begun = Instant::now();
    let answer = wire.get("/rates/USD").await.unwrap();
    assert_eq!(answer.status, 200);
    assert!(begun.elapsed() >= Duration::from_millis(250), "after {:?}", begun.elapsed());
}

#[tokio::test]
async fn error_answers_500_and_throttle_429_with_a_wait() {
    let server = Server::start();
    let (answer, ended) = ask_in_mode(&server, "error").await;
    assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
    assert!(ended.is_none(), "the connection stays");
    let (answer, ended) = ask_in_mode(&server, "throttle").await;
    assert!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
    assert!(answer.contains("\r\nretry-after: 1\r\n"), "{answer}");
    assert!(ended.is_none(), "the connection stays");
}

#[tokio::test]
async fn garbage_claims_success_with_a_body_that_is_not_json() {
    let server = Server::start();
    let (answer, _) = ask_in_mode(&server, "garbage").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains("content-type: application/json"), "{answer}");
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(serde_json::from_str::<Value>(body).is_err(), "{body}");
}

#[tokio::test]
async fn hang_takes_the_request_and_lets_go_when_the_mode_changes() {
    let server = Server::start();
    control(&server, json!({ "mode": "hang" })).await;
    let mut wire = Wire::connect(&server.upstream).await;
    wire.send(wire::get("/rates/USD")).await.unwrap();
    let (bytes, ended) = wire.watch(SILENCE).await;
    assert!(bytes.is_empty() && ended.is_none(), "no byte, and still open");
    assert_eq!(report(&server).await["rates"]["calls"], 1);
    control(&server, json!({ "mode": "ok" })).await;
    let (bytes, ended) = wire.watch(Duration::from_secs(5)).await;
    assert!(bytes.is_empty() && ended.is_some(), "closed without an answer");
}

#[tokio::test]
async fn stall_sends_half_an_answer_and_falls_silent() {
    let server = Server::start();
    let (answer, ended) = ask_in_mode(&server, "stall").await;
    assert!(answer.contains("content-length: 32\r\n"), "{answer}");
    assert!(answer.ends_with(r#"{"currency":"USD"#), "{answer}");
    assert!(ended.is_none(), "still open");
}

#[tokio::test]
async fn reset_cuts_the_answer_in_half() {
    let server = Server::start();
    let (answer, ended) = ask_in_mode(&server, "reset").await;
    assert!(answer.ends_with(r#"{"currency":"USD"#), "{answer}");
    assert_reset(ended);
}

#[tokio::test]
async fn refuse_resets_without_an_answer_and_leaves_the_rest_reachable() {
    let server = Server::start();
    let (answer, ended) = ask_in_mode(&server, "refuse").await;
    assert_eq!(answer, "");
    assert_reset(ended);
    let report = report(&server).await;
    assert_eq!(report["rates"], json!({ "mode": "refuse", "calls": 0 }));
    assert_eq!(report["mail"]["mode"], "ok");
}

#[tokio::test]
async fn a_switch_without_a_service_switches_both() {
    let server = Server::start();
    control(&server, json!({ "mode": "error" })).await;
    let report = report(&server).await;
    assert_eq!(
        (&report["rates"]["mode"], &report["mail"]["mode"]),
        (&json!("error"), &json!("error"))
    );
}

#[tokio::test]
async fn a_switch_it_does_not_understand_changes_nothing() {
    let server = Server::start();
    for order in [
        json!({ "mode": "explode" }),
        json!({ "service": "post", "mode": "ok" }),
        json!({ "mode": "slow", "latency_ms": 60_001 }),
        json!({ "mode": "slow", "latency_ms": -1 }),
        json!({ "mode": "slow", "latency": 1 }),
        json!({}),
    ] {
        assert_eq!(control(&server, order.clone()).await, 422, "{order}");
    }
    assert_eq!(control(&server, json!({ "mode": "ok", "latency_ms": 60_000 })).await, 200);
    assert_eq!(report(&server).await["rates"]["mode"], "ok");
}

#[tokio::test]
async fn hangs_on_224_callers_and_lets_one_more_go() {
    const HELD_MAX: usize = 224;
    let server = Server::start();
    control(&server, json!({ "mode": "hang" })).await;
    let mut held = Vec::new();
    for _ in 0..HELD_MAX {
        let mut wire = Wire::connect(&server.upstream).await;
        wire.send(wire::get("/rates/USD")).await.unwrap();
        held.push(wire);
    }
    let all_in = async || {
        let report = report(&server).await;
        (report["rates"]["calls"] == HELD_MAX, report)
    };
    eventually(Duration::from_secs(5), all_in, "all calls arrive").await;
    let mut one_more = Wire::connect(&server.upstream).await;
    one_more.send(wire::get("/rates/USD")).await.unwrap();
    let (bytes, ended) = one_more.watch(Duration::from_secs(5)).await;
    assert!(bytes.is_empty() && ended.is_some(), "let go at once");
    let (bytes, ended) = held[0].watch(SILENCE).await;
    assert!(bytes.is_empty() && ended.is_none(), "still held");
}

#[tokio::test]
async fn idle_callers_do_not_keep_the_control_route_from_being_asked() {
    let server = Server::start();
    let mut idle = Vec::new();
    let mut closing = 0;
    for _ in 0..300 {
        let mut wire = Wire::connect(server.upstream.trim_start_matches("http://")).await;
        let answer = wire.get("/rates/USD").await.unwrap();
        assert_eq!(answer.status, 200);
        closing += u32::from(answer.headers.get("connection").is_some_and(|it| it == "close"));
        idle.push(wire);
    }
    assert!((200..300).contains(&closing), "told {closing} of 300 that it closes");
    assert_eq!(control(&server, json!({ "mode": "ok" })).await, StatusCode::OK);
}

/// A request to `mail` whose body is padded to `length` bytes.
fn mail_of_length(length: usize) -> String {
    let body = json!({ "to": "ann@example.org", "subject": "hello" }).to_string();
    let padding = " ".repeat(length - body.len());
    format!(
        "POST /mail/emails HTTP/1.1\r\nauthorization: Bearer token\r\n\
         content-length: {length}\r\n\r\n{body}{padding}"
    )
}

/// A GET whose head, up to its empty line, is `length` bytes long.
fn head_of_length(length: usize) -> String {
    let shortest = "GET /rates/USD HTTP/1.1\r\nx: \r\n\r\n".len();
    let padding = "x".repeat(length - shortest);
    format!("GET /rates/USD HTTP/1.1\r\nx: {padding}\r\n\r\n")
}

fn headers(count: usize) -> String {
    let headers: String = (0..count).map(|number| format!("x-{number}: 1\r\n")).collect();
    format!("GET /rates/USD HTTP/1.1\r\n{headers}\r\n")
}

#[tokio::test]
async fn requests_are_served_up_to_the_limit_and_refused_past_it() {
    const BODY_MAX: usize = 1024 * 1024;
    const HEAD_MAX: usize = 16 * 1024;
    let server = Server::start();
    let length_only =
        |length: usize| format!("POST /mail/emails HTTP/1.1\r\ncontent-length: {length}\r\n\r\n");
    for (request, status) in [
        (mail_of_length(BODY_MAX), 200),
        (length_only(BODY_MAX + 1), 413),
        (length_only(usize::MAX), 413),
        (head_of_length(HEAD_MAX), 200),
        (head_of_length(HEAD_MAX + 1), 431),
        (headers(64), 200),
        (headers(65), 431),
        ("GET /rates/USD HTTP/1.1\r\ncontent-length: -1\r\n\r\n".to_owned(), 400),
        ("PUT /control HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n".to_owned(), 411),
        ("nonsense\r\n\r\n".to_owned(), 400),
    ] {
        let mut wire = Wire::connect(&server.upstream).await;
        wire.send(&request).await.unwrap();
        let answer = wire.answer().await.unwrap();
        assert_eq!(answer.status, status, "for {:.60?}", request);
    }
}

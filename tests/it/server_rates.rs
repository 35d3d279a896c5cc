//! A third party behind a breaker: what its faults look like to a client of the example server.

use std::time::{Duration, Instant};

use reqwest::Response;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::problem::{expect_problem, retry_after};
use crate::support::server::Server;

/// More asks than the breaker needs failures.
const ASKS_MAX: usize = 40;
/// A breaker of the demo closes again this soon after its dependency is well.
const CLOSES_WITHIN: Duration = Duration::from_secs(15);

async fn ask(server: &Server, currency: &str) -> Response {
    server.get(&format!("/rates/{currency}")).send().await.unwrap()
}

async fn calls(server: &Server) -> Value {
    let report: Value = server.get("/demo/upstream").send().await.unwrap().json().await.unwrap();
    report["rates"]["calls"].clone()
}

/// Asks until the breaker refuses; the codes that clients saw before it did.
async fn open_breaker(server: &Server) -> Vec<String> {
    let mut codes = Vec::new();
    for _ in 0..ASKS_MAX {
        let answer = ask(server, "USD").await;
        assert!(!answer.status().is_success(), "a fault was served as success");
        let problem: Value = answer.json().await.unwrap();
        let code = problem["code"].as_str().unwrap().to_owned();
        if code == "breaker.open" {
            return codes;
        }
        codes.push(code);
    }
    panic!("{ASKS_MAX} failures did not open the breaker: {codes:?}");
}

async fn assert_closes(server: &Server) {
    let begun = Instant::now();
    while ask(server, "USD").await.status() != 200 {
        assert!(begun.elapsed() < CLOSES_WITHIN, "still open after {CLOSES_WITHIN:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_rate_is_what_the_upstream_says() {
    let server = Server::start();
    let answer = ask(&server, "USD").await;
    assert_eq!(answer.status(), 200);
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body, json!({ "currency": "USD", "rate": 0.8617 }));
    assert_eq!(calls(&server).await, 1);
}

#[tokio::test]
async fn an_unknown_currency_is_no_fault_of_the_upstream() {
    let server = Server::start();
    for _ in 0..ASKS_MAX {
        expect_problem(ask(&server, "XXX").await, 404, "rates.unknown_currency").await;
    }
    assert_eq!(ask(&server, "EUR").await.status(), 200, "the breaker is still closed");
}

#[tokio::test]
async fn what_is_no_currency_never_reaches_the_upstream() {
    let server = Server::start();
    for currency in ["usd", "US", "USDX", "..%2Fcontrol", "U%20D", "%C3%9CSD"] {
        expect_problem(ask(&server, currency).await, 404, "rates.unknown_currency").await;
    }
    assert_eq!(calls(&server).await, 0);
}

#[tokio::test]
async fn an_open_breaker_refuses_in_five_milliseconds_and_spares_the_upstream() {
    let server = Server::start();
    server.switch_upstream(json!({ "service": "rates", "mode": "error" })).await;
    open_breaker(&server).await;
    let before = calls(&server).await;
    let mut fastest = Duration::MAX;
    for _ in 0..20 {
        let begun = Instant::now();
        let answer = ask(&server, "USD").await;
        fastest = fastest.min(begun.elapsed());
        assert!((1..=30).contains(&retry_after(&answer)), "{answer:?}");
        let _problem = expect_problem(answer, 503, "breaker.open").await;
    }
    // The fastest of twenty: this machine may be busy with other tests.
    assert!(fastest < Duration::from_millis(5), "the fastest took {fastest:?}");
    assert_eq!(calls(&server).await, before);
}

#[track_caller]
fn assert_codes(codes: &[String], expected: &str, mode: &str) {
    assert!(codes.iter().all(|code| code == expected), "`{mode}`: {codes:?}");
}

async fn check_fault(mode: &str, code: &str) {
    let server = Server::start();
    assert_eq!(ask(&server, "USD").await.status(), 200);
    server.switch_upstream(json!({ "service": "rates", "mode": mode })).await;
    let codes = open_breaker(&server).await;
    assert_codes(&codes, code, mode);
    server.switch_upstream(json!({ "service": "rates", "mode": "ok" })).await;
    assert_closes(&server).await;
}

#[tokio::test]
async fn an_upstream_that_answers_500_opens_the_breaker_until_it_is_well() {
    check_fault("error", "upstream.failed").await;
}

#[tokio::test]
async fn an_upstream_that_hangs_opens_the_breaker_until_it_is_well() {
    check_fault("hang", "upstream.timeout").await;
}

#[tokio::test]
async fn an_upstream_that_stalls_opens_the_breaker_until_it_is_well() {
    check_fault("stall", "upstream.timeout").await;
}

#[tokio::test]
async fn an_upstream_that_refuses_opens_the_breaker_until_it_is_well() {
    check_fault("refuse", "upstream.unreachable").await;
}

#[tokio::test]
async fn an_upstream_that_resets_opens_the_breaker_until_it_is_well() {
    check_fault("reset", "upstream.unreachable").await;
}

#[tokio::test]
async fn an_upstream_that_talks_garbage_opens_the_breaker_until_it_is_well() {
    check_fault("garbage", "upstream.invalid_answer").await;
}

#[tokio::test]
async fn a_throttling_upstream_is_passed_on_with_its_wait() {
    let server = Server::start();
    server.switch_upstream(json!({ "service": "rates", "mode": "throttle" })).await;
    let answer = ask(&server, "USD").await;
    assert!(retry_after(&answer) >= 1);
    expect_problem(answer, 503, "upstream.throttled").await;
    server.switch_upstream(json!({ "service": "rates", "mode": "ok" })).await;
    assert_closes(&server).await;
}

#[tokio::test]
async fn a_server_starts_and_answers_while_its_upstream_is_away() {
    let server = Server::start_with(|command| {
        // Port 1 of loopback: nobody listens there.
        command.args(["--upstream", "http://127.0.0.1:1"]);
    });
    assert_eq!(server.upstream, "http://127.0.0.1:1");
    let answer = ask(&server, "USD").await;
    expect_problem(answer, 502, "upstream.unreachable").await;
    let answer = server.get("/demo/upstream").send().await.unwrap();
    expect_problem(answer, 502, "upstream.unreachable").await;
    assert_eq!(server.get("/products/1").send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn the_simulator_of_one_server_serves_another_and_outlives_it() {
    let one = Server::start();
    let other = Server::start_with(|command| {
        command.args(["--upstream", &one.upstream]);
    });
    assert_eq!(other.upstream, one.upstream);
    other.switch_upstream(json!({ "mode": "slow", "latency_ms": 1 })).await;
    assert_eq!(ask(&other, "USD").await.status(), 200);
    drop(other);
    let report: Value = one.get("/demo/upstream").send().await.unwrap().json().await.unwrap();
    assert_eq!(report["rates"], json!({ "mode": "slow", "calls": 1 }));
}

/// A server whose upstream is this test: it gives `answer` to the one request it gets, and hands
/// back that request's head.
async fn with_upstream(answer: String) -> (Server, tokio::task::JoinHandle<String>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            assert_ne!(stream.read_buf(&mut head).await.unwrap(), 0, "no whole request");
        }
        // A client that has seen enough may have left.
        let _unread = stream.write_all(answer.as_bytes()).await;
        String::from_utf8(head).unwrap()
    });
    let server = Server::start_with(|command| {
        command.args(["--upstream", &url]);
    });
    (server, served)
}

fn answer_200(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn the_request_id_the_trace_and_the_time_left_travel_upstream() {
    let (server, upstream) = with_upstream(answer_200(r#"{"currency":"USD","rate":2.5}"#)).await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let request = server.get("/rates/USD").header("x-request-id", "abc-1");
    let request = request.header("traceparent", trace).header("x-request-timeout-ms", "800");
    assert_eq!(request.send().await.unwrap().status(), 200);
    let head = upstream.await.unwrap();
    assert!(head.contains("\r\nx-request-id: abc-1\r\n"), "{head}");
    assert!(head.contains("\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-"), "{head}");
    let (_, left) = head.split_once("\r\nx-request-timeout-ms: ").unwrap();
    let left: u64 = left.split_once("\r\n").unwrap().0.parse().unwrap();
    assert!((1..=795).contains(&left), "{left} ms are left of 800");
}

async fn check_answer(answer: String, status: u16, code: &str) {
    let (server, upstream) = with_upstream(answer).await;
    expect_problem(ask(&server, "USD").await, status, code).await;
    upstream.await.unwrap();
}

#[tokio::test]
async fn an_answer_that_is_not_the_rate_that_was_asked_for_is_invalid() {
    let other = answer_200(r#"{"currency":"EUR","rate":2.5}"#);
    check_answer(other, 502, "upstream.invalid_answer").await;
    let padding = " ".repeat(4 * 1024);
    let long = answer_200(&format!(r#"{{"currency":"USD","rate":2.5}}{padding}"#));
    check_answer(long, 502, "upstream.invalid_answer").await;
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let away = "HTTP/1.1 302 Found\r\nlocation: /rates/EUR\r\ncontent-length: 0\r\n\r\n";
    check_answer(away.to_owned(), 502, "upstream.failed").await;
}

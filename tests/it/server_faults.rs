//! Panics, poison and deadlines in the example server: what one of them costs, and what not.

use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::problem::expect_problem;
use crate::support::server::Server;
use crate::support::wire::Wire;

const SOON: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_panic_costs_one_answer_and_not_the_connection() {
    let server = Server::start();
    let mut wire = Wire::connect(server.address()).await;
    for round in 0..3 {
        let request = format!(
            "GET /demo/panic HTTP/1.1\r\nhost: test\r\nx-request-id: round-{round}\r\n\r\n"
        );
        wire.send(request).await.unwrap();
        let answer = wire.answer().await.unwrap();
        assert_eq!(answer.status, 500);
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        assert_eq!(answer.headers["x-request-id"], format!("round-{round}"));
        let problem = answer.json();
        assert_eq!(problem["code"], "internal.panic");
        assert!(problem.to_string().contains(&format!("round-{round}")), "{problem}");
        assert_eq!(wire.get("/products/1").await.unwrap().status, 200, "the same connection");
    }
    assert_eq!(server.stats().await["connections"].as_u64().unwrap(), 2, "this client and that");
}

#[tokio::test]
async fn a_panic_is_logged_with_its_request_and_hidden_from_the_client() {
    let server = Server::start();
    let answer = server.get("/demo/panic").header("x-request-id", "find-me").send().await.unwrap();
    expect_problem(answer, 500, "internal.panic").await;
    server.logged(&["find-me", "http.panic"]).await;
}

async fn count(server: &Server) -> (u64, u64) {
    let answer = server.post("/demo/actors/flaky/count").send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let counted: Value = answer.json().await.unwrap();
    (counted["count"].as_u64().unwrap(), counted["generation"].as_u64().unwrap())
}

#[tokio::test]
async fn a_poisoned_actor_restarts_with_fresh_state() {
    let server = Server::start();
    assert_eq!(count(&server).await, (1, 1));
    assert_eq!(count(&server).await, (2, 1));
    let answer = server.post("/demo/actors/flaky/poison").send().await.unwrap();
    expect_problem(answer, 500, "actor.panicked").await;
    assert_eq!(count(&server).await, (1, 2), "rebuilt: a new generation that begins at zero");
    assert_eq!(server.stats().await["restarts"]["flaky"], 1);
}

#[tokio::test]
async fn callers_of_a_poisoned_actor_get_a_count_or_a_typed_refusal() {
    let server = Server::start();
    let mut callers = tokio::task::JoinSet::new();
    for number in 0..40 {
        let poison = number % 20 == 10;
        let path = if poison { "/demo/actors/flaky/poison" } else { "/demo/actors/flaky/count" };
        let request = server.post(path);
        callers.spawn(async move { (poison, request.send().await.unwrap()) });
    }
    while let Some(caller) = callers.join_next().await {
        let (poison, answer) = caller.unwrap();
        let status = answer.status();
        let body: Value = answer.json().await.unwrap();
        match status {
            StatusCode::OK => assert!(!poison && body["count"].is_u64(), "{body}"),
            StatusCode::INTERNAL_SERVER_ERROR | StatusCode::SERVICE_UNAVAILABLE => {
                assert!(body["code"].as_str().unwrap().starts_with("actor."), "{body}");
            }
            other => panic!("{other}: {body}"),
        }
    }
    assert_eq!(count(&server).await.1, 3, "two poisons, two restarts");
}

#[tokio::test]
async fn an_actor_that_fails_too_often_rests_and_recovers() {
    let server = Server::start();
    let mut refused = None;
    for _ in 0..20 {
        let answer = server.post("/demo/actors/flaky/poison").send().await.unwrap();
        if answer.status() == 503 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("twenty poisons must be too many");
    assert!(crate::support::problem::retry_after(&refused) >= 1);
    expect_problem(refused, 503, "actor.quarantined").await;
    let probe = server.get("/products/1").send().await.unwrap();
    assert_eq!(probe.status(), 200, "the rest of the service does not care");
    let back = async || {
        let answer = server.post("/demo/actors/flaky/count").send().await.unwrap();
        (answer.status() == 200, json!(answer.status().as_u16()))
    };
    eventually(Duration::from_secs(20), back, "back from quarantine").await;
}

async fn slow(server: &Server) -> Value {
    server.stats().await["slow"].clone()
}

#[tokio::test]
async fn a_deadline_answers_in_time_and_stops_the_work() {
    let server = Server::start();
    let mut fastest = Duration::MAX;
    for round in 1..=3 {
        let begun = Instant::now();
        let request = server.get("/demo/slow?ms=5000").header("x-request-timeout-ms", "100");
        let answer = request.send().await.unwrap();
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(100), "too early, after {took:?}");
        fastest = fastest.min(took);
        expect_problem(answer, 504, "request.deadline_exceeded").await;
        let expected = json!({ "started": round, "completed": 0, "dropped": round });
        assert_eq!(slow(&server).await, expected, "the work stopped with the answer");
    }
    assert!(fastest < Duration::from_millis(150), "the fastest of three took {fastest:?}");
}

#[tokio::test]
async fn work_within_its_deadline_completes() {
    let server = Server::start();
    let begun = Instant::now();
    let request = server.get("/demo/slow?ms=50").header("x-request-timeout-ms", "5000");
    assert_eq!(request.send().await.unwrap().status(), 200);
    assert!(begun.elapsed() >= Duration::from_millis(50));
    assert_eq!(slow(&server).await, json!({ "started": 1, "completed": 1, "dropped": 0 }));
}

/// Starts slow work, lets its client `leave`, and expects the work to be dropped.
async fn check_leaving(leave: impl FnOnce(Wire)) {
    let server = Server::start();
    let mut wire = Wire::connect(server.address()).await;
    wire.send(crate::support::wire::get("/demo/slow?ms=30000")).await.unwrap();
    let started = async || {
        let slow = slow(&server).await;
        (slow["started"] == 1, slow)
    };
    eventually(SOON, started, "the work starts").await;
    leave(wire);
    let dropped = async || {
        let slow = slow(&server).await;
        (slow["dropped"] == 1, slow)
    };
    eventually(SOON, dropped, "the work stops").await;
    let recorded = async || (server.log().contains("status=499"), json!(server.log()));
    eventually(SOON, recorded, "the request is recorded as 499").await;
}

#[tokio::test]
async fn work_of_a_client_that_reset_its_connection_stops() {
    check_leaving(Wire::reset).await;
}

#[tokio::test]
async fn work_of_a_client_that_closed_its_connection_stops() {
    check_leaving(drop).await;
}

#[tokio::test]
async fn statistics_count_connections_and_requests_in_flight() {
    let server = Server::start();
    let mut wire = Wire::connect(server.address()).await;
    wire.send(crate::support::wire::get("/demo/slow?ms=30000")).await.unwrap();
    // The asker is in flight too, on a connection of its own.
    let both = async || {
        let stats = server.stats().await;
        (stats["connections"] == 2 && stats["inflight"] == 2, stats)
    };
    eventually(SOON, both, "two connections, two requests").await;
    wire.reset();
    let one = async || {
        let stats = server.stats().await;
        (stats["connections"] == 1 && stats["inflight"] == 1, stats)
    };
    eventually(SOON, one, "one connection, one request").await;
}

#[tokio::test]
async fn a_json_log_has_the_request_id_on_every_line_of_a_request() {
    let server = Server::start_with(|command| {
        command.env("STEADFAST_LOG__FORMAT", "json").env("STEADFAST_LOG__FILTER", "debug");
    });
    let request = server.get("/demo/panic").header("x-request-id", "log-7");
    assert_eq!(request.send().await.unwrap().status(), 500);
    let recorded = async || {
        let log = server.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let of_request = lines.filter(|line| line["request_id"] == "log-7");
        let messages: Vec<_> = of_request.map(|line| line["message"].clone()).collect();
        let finished = messages.iter().any(|message| message == "http.finished");
        (finished && messages.len() >= 2, json!(messages))
    };
    eventually(SOON, recorded, "the panic and the access line carry the id").await;
}

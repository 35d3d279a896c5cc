//! What clients do wrong, and what the example server answers.

use std::time::Duration;

use reqwest::header::{ALLOW, CONTENT_TYPE};
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::support::attackers::Attacker;
use crate::support::problem::{expect_problem, header};
use crate::support::server::Server;
use crate::support::wire::Wire;

async fn put_upstream(server: &Server, content_type: &str, body: impl Into<Vec<u8>>) -> Response {
    let request = server.request(Method::PUT, "/demo/upstream");
    request.header(CONTENT_TYPE, content_type).body(body.into()).send().await.unwrap()
}

async fn put_json(server: &Server, body: impl Into<Vec<u8>>) -> Response {
    put_upstream(server, "application/json", body).await
}

#[tokio::test]
async fn json_that_is_not_json_is_a_bad_request() {
    let server = Server::start();
    for body in ["", "{", "{\"mode\":\"ok\"", "mode=ok", "{\"mode\":\"ok\"} x", "\u{feff}{}"] {
        expect_problem(put_json(&server, body).await, 400, "json.syntax").await;
    }
    expect_problem(put_json(&server, b"{\"mode\":\"\xff\"}").await, 400, "json.syntax").await;
}

#[tokio::test]
async fn json_of_the_wrong_type_is_named_by_its_pointer() {
    let server = Server::start();
    for (body, pointer) in [
        (json!({ "mode": 7 }), "/mode"),
        (json!({ "mode": "explode" }), "/mode"),
        (json!({ "mode": "slow", "latency_ms": "soon" }), "/latency_ms"),
        (json!({ "mode": "slow", "latency_ms": 60_001 }), "/latency_ms"),
        (json!({ "mode": "ok", "service": "post" }), "/service"),
    ] {
        let answer = put_json(&server, body.to_string()).await;
        let problem = expect_problem(answer, 422, "json.invalid").await;
        assert_eq!(problem["errors"][0]["pointer"], pointer, "for {body}: {problem}");
    }
    for body in ["{}", "[]", "7", "null"] {
        expect_problem(put_json(&server, body).await, 422, "json.invalid").await;
    }
}

#[tokio::test]
async fn a_body_of_another_content_type_is_unsupported() {
    let server = Server::start();
    for content_type in ["text/plain", "application/x-www-form-urlencoded", "nonsense"] {
        let answer = put_upstream(&server, content_type, r#"{"mode":"ok"}"#).await;
        expect_problem(answer, 415, "body.unsupported_type").await;
    }
}

#[tokio::test]
async fn a_wrong_method_is_told_which_are_right() {
    let server = Server::start();
    for (method, path, allowed) in [
        (Method::DELETE, "/products/1", "GET"),
        (Method::POST, "/rates/USD", "GET"),
        (Method::GET, "/demo/actors/flaky/poison", "POST"),
        (Method::POST, "/demo/upstream", "GET, PUT"),
        (Method::PUT, "/demo/stats", "GET"),
    ] {
        let answer = server.request(method.clone(), path).send().await.unwrap();
        let allow = header(&answer, ALLOW.as_str()).unwrap_or_default();
        for one in allowed.split(", ") {
            assert!(allow.contains(one), "{method} {path}: allow is {allow:?}");
        }
        expect_problem(answer, 405, "route.method_not_allowed").await;
    }
}

#[tokio::test]
async fn a_route_that_is_not_there_is_not_found() {
    let server = Server::start();
    for path in [
        "/",
        "/nowhere",
        "/products",
        "/products/1/2",
        "/rates",
        "/demo",
        "/demo/actors/other/count",
        "/demo/counters",
    ] {
        expect_problem(server.get(path).send().await.unwrap(), 404, "route.not_found").await;
    }
}

#[tokio::test]
async fn a_query_that_cannot_be_read_is_a_bad_request() {
    let server = Server::start();
    for query in ["", "?ms", "?ms=soon", "?ms=-1", "?milliseconds=1"] {
        let answer = server.get(&format!("/demo/slow{query}")).send().await.unwrap();
        expect_problem(answer, 400, "query.invalid").await;
    }
    let answer = server.get("/demo/slow?ms=60001").send().await.unwrap();
    expect_problem(answer, 400, "query.invalid").await;
}

#[tokio::test]
async fn an_oversized_body_is_refused() {
    let server = Server::start();
    let padding = " ".repeat(4 * 1024 * 1024);
    let answer = put_json(&server, format!("{padding}{{\"mode\":\"ok\"}}")).await;
    expect_problem(answer, 413, "body.too_large").await;
}

#[tokio::test]
async fn an_oversized_body_without_a_length_is_refused_too() {
    let server = Server::start();
    let mut wire = Wire::connect(server.address()).await;
    let head = "PUT /demo/upstream HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n\
                transfer-encoding: chunked\r\n\r\n";
    wire.send(head).await.unwrap();
    let piece = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    for _ in 0..64 {
        // The server may have answered and closed before everything was sent.
        if wire.send(&piece).await.is_err() {
            break;
        }
    }
    let answer = wire.answer().await.unwrap();
    assert_eq!((answer.status, &answer.json()["code"]), (413, &json!("body.too_large")));
}

#[tokio::test]
async fn a_good_request_id_comes_back_on_every_answer() {
    let server = Server::start();
    for path in ["/products/1", "/products/101", "/nowhere", "/demo/panic", "/livez"] {
        let answer = server.get(path).header("x-request-id", "Order_7.a-b").send().await.unwrap();
        assert_eq!(header(&answer, "x-request-id").as_deref(), Some("Order_7.a-b"), "{path}");
    }
    let longest = "x".repeat(128);
    let answer = server.get("/livez").header("x-request-id", &longest).send().await.unwrap();
    assert_eq!(header(&answer, "x-request-id"), Some(longest));
}

#[tokio::test]
async fn a_hostile_request_id_is_replaced() {
    let server = Server::start();
    let too_long = "x".repeat(129);
    for hostile in ["", " ", "a b", "<script>", "a;b", "a/../b", "\u{e9}", "a\tb", &too_long] {
        let request = server.get("/products/101").header("x-request-id", hostile.as_bytes());
        let answer = request.send().await.unwrap();
        let given = header(&answer, "x-request-id").unwrap();
        assert!(given.len() == 36 && given != hostile, "{hostile:?} became {given:?}");
        expect_problem(answer, 404, "product.unknown").await;
    }
    let one = server.get("/livez").send().await.unwrap();
    let other = server.get("/livez").send().await.unwrap();
    assert_ne!(header(&one, "x-request-id"), header(&other, "x-request-id"));
}

#[tokio::test]
async fn a_timeout_that_is_no_number_is_ignored() {
    let server = Server::start();
    for nonsense in ["", "soon", "-1", "1.5", "99999999999999999999"] {
        let request = server.get("/demo/slow?ms=1").header("x-request-timeout-ms", nonsense);
        assert_eq!(request.send().await.unwrap().status(), 200, "{nonsense:?}");
    }
}

#[tokio::test]
async fn probes_answer_on_both_listeners() {
    let server = Server::start();
    let client = reqwest::Client::new();
    for base in [&server.app, &server.admin] {
        for probe in ["livez", "readyz", "startupz"] {
            let answer = client.get(format!("{base}/{probe}?verbose")).send().await.unwrap();
            assert_eq!(answer.status(), 200, "{base}/{probe}");
            assert_eq!(header(&answer, "cache-control").as_deref(), Some("no-store"));
        }
    }
    let public: Value = {
        let request = client.get(format!("{}/readyz", server.app));
        request.header("accept", "application/json").send().await.unwrap().json().await.unwrap()
    };
    assert!(public["checks"]["store"].is_array(), "{public}");
}

#[tokio::test]
async fn who_pipelines_and_never_reads_costs_little_memory() {
    const CLIENTS: usize = 100;
    // Each of these was once some 4.6 MB for the server.
    const EACH_MAX: u64 = 512 * 1024;
    let server = Server::start();
    let address = server.address().parse().unwrap();
    let requests = [
        "GET /products/1 HTTP/1.1\r\nhost: test\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /orders HTTP/1.1\r\nhost: test\r\ncontent-length: 2\r\n\r\n{}",
    ];
    for request in requests {
        let before = server.process().peak_memory();
        let wire = request.repeat(4000).into_bytes();
        let mut attackers = Vec::new();
        for _ in 0..CLIENTS {
            attackers.push((Attacker::connect(address).await, &wire[..]));
        }
        let mut idle_rounds = 0;
        while idle_rounds < 20 {
            let mut pushed = 0;
            for (attacker, rest) in &mut attackers {
                let count = attacker.push(rest);
                *rest = &rest[count..];
                pushed += count;
            }
            idle_rounds = if pushed == 0 { idle_rounds + 1 } else { 0 };
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // The kernel gathers what threads have from time to time: the peak may seem to fall.
        let cost = server.process().peak_memory().saturating_sub(before) / CLIENTS as u64;
        assert!(cost <= EACH_MAX, "{request:?}: {cost} bytes for each connection");
        assert_eq!(server.get("/products/1").send().await.unwrap().status(), 200);
    }
}

//! Mails of the example server: stored, sent through the upstream's providers, and told of.

use std::time::Duration;

use reqwest::Response;
use serde_json::{Value, json};

use crate::support::database::TestDatabase;
use crate::support::eventually;
use crate::support::problem::expect_problem;
use crate::support::server::Server;

const WITHIN: Duration = Duration::from_secs(60);

async fn post(server: &Server, key: Option<&str>, body: &Value) -> Response {
    let request = server.post("/mails").json(body);
    let request = match key {
        Some(key) => request.header("idempotency-key", key),
        None => request,
    };
    request.send().await.unwrap()
}

fn mail(subject: &str) -> Value {
    json!({"to": "ada@example.com", "subject": subject, "text": "Hello", "html": "<p>Hello</p>"})
}

async fn accepted(server: &Server, key: &str, subject: &str) -> String {
    let answer = post(server, Some(key), &mail(subject)).await;
    assert_eq!(answer.status(), 202);
    let body: Value = answer.json().await.unwrap();
    body["id"].as_str().unwrap().to_owned()
}

async fn reaches(server: &Server, id: &str, state: &str) -> Value {
    let path = format!("/mails/{id}");
    let reached = async || {
        let found: Value = server.get(&path).send().await.unwrap().json().await.unwrap();
        (found["state"] == state, found)
    };
    eventually(WITHIN, reached, &format!("the mail is {state}")).await
}

/// What has arrived at the upstream's providers.
async fn arrived(server: &Server) -> Vec<Value> {
    let told = server.get("/demo/upstream").send().await.unwrap();
    let told: Value = told.json().await.unwrap();
    told["mail"]["messages"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_mail_is_sent_once_and_its_ledger_tells_how() {
    for database in TestDatabase::each().await {
        let server = database.server();
        let id = accepted(&server, "k1", "Hi").await;
        assert_eq!(accepted(&server, "k1", "Hi").await, id);
        let other = post(&server, Some("k1"), &mail("Other")).await;
        expect_problem(other, 409, "mailer.key_conflict").await;
        let found = reaches(&server, &id, "accepted").await;
        assert_eq!(found["delivery"], "sent");
        let [attempt] = &found["attempts"].as_array().unwrap()[..] else { panic!("{found}") };
        assert_eq!((&attempt["n"], &attempt["provider"]), (&json!(1), &json!("resend")));
        assert_eq!(attempt["outcome"], "accepted");
        assert!(attempt["started_at"].is_i64() && attempt["finished_at"].is_i64(), "{attempt}");
        let expected = json!({"key": id, "to": "ada@example.com", "subject": "Hi", "times": 1});
        assert_eq!(arrived(&server).await, [expected]);
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_mail_is_said() {
    let server = Server::start();
    for (member, value) in [
        ("to", json!("nobody")),
        ("to", json!("a@example.com\r\nBcc: b@example.com")),
        ("subject", json!("Hi\r\nBcc: b@example.com")),
        ("subject", json!("")),
        ("text", json!("")),
        ("html", json!(7)),
    ] {
        let mut body = mail("Hi");
        body[member] = value;
        let problem = expect_problem(post(&server, None, &body).await, 422, "json.invalid").await;
        assert_eq!(problem["errors"][0]["pointer"], format!("/{member}"));
    }
    for key in ["", &"x".repeat(201)] {
        let answer = post(&server, Some(key), &mail("Hi")).await;
        expect_problem(answer, 422, "mailer.invalid_setting").await;
    }
    for id in ["1", "nothing", "0192f0c1a2b37c4d8e5f60718293a4b5"] {
        let answer = server.get(&format!("/mails/{id}")).send().await.unwrap();
        expect_problem(answer, 404, "mail.unknown").await;
    }
    assert!(arrived(&server).await.is_empty());
}

#[tokio::test]
async fn a_mail_whose_answer_never_came_is_not_sent_twice() {
    let server = Server::start();
    // The provider takes the mail and does not answer.
    server.switch_upstream(json!({"service": "mail", "mode": "hang"})).await;
    let id = accepted(&server, "k", "Hi").await;
    let path = format!("/mails/{id}");
    let asked = async || {
        let found: Value = server.get(&path).send().await.unwrap().json().await.unwrap();
        (found["attempts"][0]["outcome"] == "ambiguous", found)
    };
    eventually(WITHIN, asked, "the first attempt is out of time").await;
    server.switch_upstream(json!({"service": "mail", "mode": "ok"})).await;
    let found = reaches(&server, &id, "accepted").await;
    let attempts = found["attempts"].as_array().unwrap();
    assert!(attempts.iter().all(|attempt| attempt["provider"] == "resend"), "{found}");
    let [message] = &arrived(&server).await[..] else { panic!("sent more than once") };
    assert_eq!((&message["key"], &message["times"]), (&json!(id), &json!(1)));
}

#[tokio::test]
async fn mails_wait_out_whatever_the_upstream_does() {
    let server = Server::start();
    let mut ids = Vec::new();
    for mode in ["error", "refuse", "garbage", "reset", "throttle", "stall"] {
        server.switch_upstream(json!({"service": "mail", "mode": mode})).await;
        ids.push(accepted(&server, mode, mode).await);
        let path = format!("/mails/{}", ids.last().unwrap());
        let tried = async || {
            let found: Value = server.get(&path).send().await.unwrap().json().await.unwrap();
            let attempts = found["attempts"].as_array().unwrap();
            let over = attempts.iter().any(|attempt| attempt["finished_at"].is_i64());
            (over, found["attempts"].clone())
        };
        // While providers rest, a mail may wait without an attempt: the next mode comes anyway.
        let _seen =
            tokio::time::timeout(Duration::from_secs(5), eventually(WITHIN, tried, "")).await;
    }
    server.switch_upstream(json!({"service": "mail", "mode": "ok"})).await;
    for id in &ids {
        let settled = async || {
            let path = format!("/mails/{id}");
            let found: Value = server.get(&path).send().await.unwrap().json().await.unwrap();
            // A provider without keys may have been asked: then nobody knows, and it says so.
            let state = found["state"].as_str().unwrap().to_owned();
            (state == "accepted" || state == "unknown", found)
        };
        eventually(WITHIN, settled, "the mail is settled").await;
    }
    for message in arrived(&server).await {
        assert_eq!(message["times"], 1, "{message}");
    }
}

#[tokio::test]
async fn no_mail_is_lost_or_doubled_in_a_loop_of_kill_nine() {
    const KILLS: usize = 5;
    const MAILS: usize = 12;
    let upstream = Server::start();
    for database in TestDatabase::each().await {
        let start = || {
            database.server_with(|command| {
                command.env("STEADFAST_UPSTREAM", &upstream.upstream);
            })
        };
        let mut ids = Vec::new();
        let mut server = start();
        for kill in 0..KILLS {
            upstream
                .switch_upstream(json!({"service": "mail", "mode": "slow", "latency_ms": 100}))
                .await;
            for mail in 0..MAILS {
                let key = format!("{kill}-{mail}");
                ids.push(accepted(&server, &key, &key).await);
            }
            server.kill();
            server = start();
        }
        upstream.switch_upstream(json!({"service": "mail", "mode": "ok"})).await;
        for id in &ids {
            reaches(&server, id, "accepted").await;
        }
        let arrived = arrived(&upstream).await;
        for id in &ids {
            let of = arrived.iter().filter(|message| message["key"] == *id.as_str());
            let times: Vec<_> = of.map(|message| message["times"].clone()).collect();
            assert_eq!(times, [json!(1)], "{id}");
        }
    }
}

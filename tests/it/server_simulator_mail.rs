//! The mail service of the simulator: as two real providers speak, and with each fault.

use std::time::{Duration, SystemTime};

use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use steadfast_actors::mailer::provider::{
    AmbiguousCause, Answer, HttpProvider, MailProvider, Outcome, Postmark, Resend, ThrottleScope,
    TransportError,
};
use steadfast_actors::mailer::{HeaderText, HttpTransport, Mail, MailId, Mailbox};

use crate::server_simulator::{control, report};
use crate::support::eventually;
use crate::support::server::Server;
use crate::support::wire::Wire;

const SILENCE: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(20);

fn resend(server: &Server, key: Option<&str>, body: &Value) -> RequestBuilder {
    let post = Client::new().post(format!("{}/mail/emails", server.upstream));
    let post = post.header("authorization", "Bearer token").json(body);
    if let Some(key) = key { post.header("idempotency-key", key) } else { post }
}

fn postmark(server: &Server, body: &Value) -> RequestBuilder {
    let post = Client::new().post(format!("{}/mail/email", server.upstream));
    post.header("x-postmark-server-token", "token").json(body)
}

async fn answer(request: RequestBuilder) -> (StatusCode, Value) {
    let answer = request.send().await.unwrap();
    (answer.status(), answer.json().await.unwrap())
}

/// The id that an accepted message got.
async fn accepted(request: RequestBuilder, id: &str) -> String {
    let (status, body) = answer(request).await;
    assert_eq!(status, 200, "{body}");
    let id = body[id].as_str().unwrap();
    assert!(uuid::Uuid::try_parse(id).is_ok(), "{id}");
    id.to_owned()
}

async fn check_resend_refuses(request: RequestBuilder, status: u16, name: &str) {
    let (found, body) = answer(request).await;
    assert_eq!((found.as_u16(), &body["name"]), (status, &json!(name)), "{body}");
    assert_eq!(body["statusCode"], status);
    assert!(body["message"].is_string(), "{body}");
}

async fn check_postmark_refuses(request: RequestBuilder, status: u16, code: u16) {
    let (found, body) = answer(request).await;
    assert_eq!((found.as_u16(), &body["ErrorCode"]), (status, &json!(code)), "{body}");
    assert!(body["Message"].is_string(), "{body}");
}

async fn recorded(server: &Server) -> (Value, Value) {
    let mail = &report(server).await["mail"];
    (mail["accepted"].clone(), mail["messages"].clone())
}

fn entry(key: Option<&str>, times: u64) -> Value {
    json!({ "key": key, "to": "ann@example.org", "subject": "hello", "times": times })
}

fn resend_body() -> Value {
    json!({ "from": "shop@example.org", "to": ["ann@example.org"], "subject": "hello", "text": "…" })
}

fn postmark_body(mail_id: &str) -> Value {
    let metadata = json!({ "mail_id": mail_id });
    json!({ "From": "shop@example.org", "To": "ann@example.org", "Subject": "hello", "TextBody": "…", "Metadata": metadata })
}

#[tokio::test]
async fn resend_gives_the_first_answer_again_for_the_same_key_and_body() {
    let server = Server::start();
    let first = accepted(resend(&server, Some("a"), &resend_body()), "id").await;
    let other = accepted(resend(&server, Some("b"), &resend_body()), "id").await;
    let again = accepted(resend(&server, Some("a"), &resend_body()), "id").await;
    assert_eq!(first, again);
    assert_ne!(first, other);
    let messages = json!([entry(Some("a"), 1), entry(Some("b"), 1)]);
    assert_eq!(recorded(&server).await, (json!(2), messages));
    assert_eq!(report(&server).await["mail"]["calls"], 3);
}

#[tokio::test]
async fn resend_refuses_a_key_with_another_body() {
    let server = Server::start();
    accepted(resend(&server, Some("a"), &resend_body()), "id").await;
    let other = json!({ "to": ["ann@example.org"], "subject": "other" });
    let request = resend(&server, Some("a"), &other);
    check_resend_refuses(request, 409, "invalid_idempotent_request").await;
    assert_eq!(recorded(&server).await, (json!(1), json!([entry(Some("a"), 1)])));
}

#[tokio::test]
async fn resend_without_a_key_accepts_each_time() {
    let server = Server::start();
    let first = accepted(resend(&server, None, &resend_body()), "id").await;
    let second = accepted(resend(&server, None, &resend_body()), "id").await;
    assert_ne!(first, second);
    assert_eq!(recorded(&server).await, (json!(2), json!([entry(None, 1), entry(None, 1)])));
}

#[tokio::test]
async fn resend_says_what_is_wrong_and_records_nothing() {
    let server = Server::start();
    let invalid_key = "invalid_idempotency_key";
    check_resend_refuses(resend(&server, Some(&"k".repeat(257)), &resend_body()), 400, invalid_key)
        .await;
    check_resend_refuses(resend(&server, Some(""), &resend_body()), 400, invalid_key).await;
    for body in [
        json!({ "subject": "hello" }),
        json!({ "to": [], "subject": "hello" }),
        json!({ "to": "", "subject": "hello" }),
        json!({ "to": ["ann@example.org"] }),
    ] {
        check_resend_refuses(resend(&server, Some("a"), &body), 422, "missing_required_field")
            .await;
    }
    let wrong = json!({ "to": 1, "subject": "hello" });
    check_resend_refuses(resend(&server, Some("a"), &wrong), 422, "validation_error").await;
    let no_json = resend(&server, Some("a"), &json!({})).body("{");
    check_resend_refuses(no_json, 400, "validation_error").await;
    let unknown = Client::new().post(format!("{}/mail/emails", server.upstream));
    check_resend_refuses(unknown.json(&resend_body()), 401, "missing_api_key").await;
    assert_eq!(recorded(&server).await, (json!(0), json!([])));
    let longest = "k".repeat(256);
    accepted(resend(&server, Some(&longest), &resend_body()), "id").await;
    assert_eq!(recorded(&server).await, (json!(1), json!([entry(Some(&longest), 1)])));
}

#[tokio::test]
async fn postmark_delivers_again_for_every_request() {
    let server = Server::start();
    let (status, body) = answer(postmark(&server, &postmark_body("a"))).await;
    assert_eq!(status, 200);
    assert_eq!((&body["ErrorCode"], &body["Message"]), (&json!(0), &json!("OK")));
    assert_eq!(body["To"], "ann@example.org");
    assert!(body["SubmittedAt"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{body}");
    let again = accepted(postmark(&server, &postmark_body("a")), "MessageID").await;
    assert_ne!(body["MessageID"], again);
    assert_eq!(recorded(&server).await, (json!(2), json!([entry(Some("a"), 2)])));
}

#[tokio::test]
async fn postmark_says_what_is_wrong_and_records_nothing() {
    let server = Server::start();
    check_postmark_refuses(postmark(&server, &json!({ "Subject": "hello" })), 422, 300).await;
    check_postmark_refuses(postmark(&server, &json!({ "To": "" })), 422, 300).await;
    check_postmark_refuses(postmark(&server, &json!({ "To": 1 })), 422, 403).await;
    check_postmark_refuses(postmark(&server, &json!({})).body("{"), 422, 402).await;
    let unknown = Client::new().post(format!("{}/mail/email", server.upstream));
    check_postmark_refuses(unknown.json(&postmark_body("a")), 401, 10).await;
    assert_eq!(recorded(&server).await, (json!(0), json!([])));
}

#[tokio::test]
async fn all_recipients_are_reported_and_long_texts_are_clipped() {
    let server = Server::start();
    let longest = "ä".repeat(2_000);
    for subject in [longest.clone(), format!("{longest}ä")] {
        let body = json!({ "to": ["a@example.org", "b@example.org"], "subject": subject });
        accepted(resend(&server, None, &body), "id").await;
    }
    let entry = json!({ "key": null, "to": "a@example.org, b@example.org", "subject": longest, "times": 1 });
    assert_eq!(recorded(&server).await.1, json!([entry, entry]));
}

#[tokio::test]
async fn what_no_provider_has_is_not_found() {
    let server = Server::start();
    for path in ["/mail", "/mail/messages", "/mail/emails/batch"] {
        let post = Client::new().post(format!("{}{path}", server.upstream)).json(&resend_body());
        assert_eq!(post.send().await.unwrap().status(), 404, "{path}");
    }
    for path in ["/mail/email", "/mail/emails"] {
        let get = Client::new().get(format!("{}{path}", server.upstream));
        assert_eq!(get.send().await.unwrap().status(), 405, "{path}");
    }
    assert_eq!(recorded(&server).await, (json!(0), json!([])));
}

fn raw(path: &str, key: &str) -> String {
    let body = if path == "/mail/email" { postmark_body(key) } else { resend_body() }.to_string();
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: test\r\nauthorization: Bearer token\r\n\
         x-postmark-server-token: token\r\nidempotency-key: {key}\r\n\
         content-length: {length}\r\n\r\n{body}"
    )
}

#[tokio::test]
async fn mail_is_recorded_by_the_modes_that_lose_only_the_answer() {
    for path in ["/mail/emails", "/mail/email"] {
        let server = Server::start();
        for (mode, accepted) in [
            ("error", 0),
            ("throttle", 0),
            ("reset", 0),
            ("refuse", 0),
            ("hang", 1),
            ("stall", 2),
            ("garbage", 3),
            ("ok", 4),
        ] {
            control(&server, json!({ "service": "mail", "mode": mode })).await;
            let mut wire = Wire::connect(&server.upstream).await;
            wire.send(raw(path, mode)).await.unwrap();
            let (_, ended) = wire.watch(SILENCE).await;
            assert_eq!(ended.is_some(), ["reset", "refuse"].contains(&mode), "after `{mode}`");
            assert_eq!(recorded(&server).await.0, accepted, "after `{mode}` at {path}");
        }
    }
}

#[tokio::test]
async fn reset_does_not_wait_for_the_body() {
    let server = Server::start();
    control(&server, json!({ "service": "mail", "mode": "reset" })).await;
    let mut wire = Wire::connect(&server.upstream).await;
    wire.send("POST /mail/emails HTTP/1.1\r\ncontent-length: 9\r\n\r\n").await.unwrap();
    let (bytes, ended) = wire.watch(PATIENCE).await;
    let kind = ended.map(|end| end.map_err(|error| error.kind()));
    assert_eq!(kind, Some(Err(std::io::ErrorKind::ConnectionReset)));
    assert!(bytes.is_empty());
    assert_eq!(report(&server).await["mail"]["calls"], 1);
}

#[tokio::test]
async fn stall_sends_half_of_a_providers_answer() {
    let server = Server::start();
    control(&server, json!({ "service": "mail", "mode": "stall" })).await;
    let mut wire = Wire::connect(&server.upstream).await;
    wire.send(raw("/mail/emails", "a")).await.unwrap();
    let (bytes, ended) = wire.watch(SILENCE).await;
    let answer = String::from_utf8(bytes).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("content-length: 45"), "{head}");
    assert!(body.starts_with(r#"{"id":""#) && body.len() == 22, "{body}");
    assert!(ended.is_none(), "still open");
}

#[tokio::test]
async fn error_is_an_empty_502_and_the_connection_stays() {
    let server = Server::start();
    control(&server, json!({ "service": "mail", "mode": "error" })).await;
    let mut wire = Wire::connect(&server.upstream).await;
    for path in ["/mail/emails", "/mail/email"] {
        wire.send(raw(path, "a")).await.unwrap();
        let answer = wire.answer().await.unwrap();
        assert_eq!((answer.status, answer.body.len()), (502, 0));
        assert!(!answer.headers.contains_key("content-type"), "{answer:?}");
    }
}

#[tokio::test]
async fn throttle_names_its_wait_in_seconds_and_as_a_date_by_turns() {
    let server = Server::start();
    control(&server, json!({ "service": "mail", "mode": "throttle" })).await;
    let mut wire = Wire::connect(&server.upstream).await;
    for turn in 0..4 {
        for path in ["/mail/emails", "/mail/email"] {
            wire.send(raw(path, "a")).await.unwrap();
            let answer = wire.answer().await.unwrap();
            assert_eq!(answer.status, 429);
            let wait = &answer.headers["retry-after"];
            assert_eq!(wait == "1", turn % 2 == 0, "turn {turn} of {path}: {wait}");
            let date = jiff::fmt::rfc2822::parse(wait);
            assert_eq!(date.is_ok(), turn % 2 == 1, "turn {turn} of {path}: {wait}");
            assert!(turn % 2 == 0 || wait.ends_with(" GMT"), "{wait}");
            let limited = answer.json()["name"] == "rate_limit_exceeded";
            assert_eq!(limited, path == "/mail/emails", "{:?}", answer.json());
        }
    }
}

#[tokio::test]
async fn mail_remembers_the_last_twenty_thousand_and_their_keys() {
    const REMEMBERED: usize = 20_000;
    let server = Server::start();
    let mut wire = Wire::connect(&server.upstream).await;
    let ask = async |wire: &mut Wire, number: usize| {
        wire.send(raw("/mail/emails", &number.to_string())).await.unwrap();
        assert_eq!(wire.answer().await.unwrap().status, 200);
    };
    for number in 0..REMEMBERED {
        ask(&mut wire, number).await;
    }
    ask(&mut wire, 0).await;
    let (accepted, messages) = recorded(&server).await;
    assert_eq!(accepted, REMEMBERED);
    assert_eq!(messages[0], entry(Some("0"), 1));
    ask(&mut wire, REMEMBERED).await;
    ask(&mut wire, REMEMBERED - 1).await;
    let (accepted, messages) = recorded(&server).await;
    assert_eq!(accepted, REMEMBERED + 1);
    assert_eq!(messages.as_array().unwrap().len(), REMEMBERED);
    assert_eq!(messages[0], entry(Some("1"), 1));
    assert_eq!(messages[REMEMBERED - 2], entry(Some("19999"), 1));
    // The key went with its message: this is another.
    ask(&mut wire, 0).await;
    assert_eq!(recorded(&server).await.0, REMEMBERED + 2);
}

/// The mailer's own way to a provider, at the simulator.
fn providers(server: &Server) -> [HttpProvider; 2] {
    let base = format!("{}/mail", server.upstream);
    let transport = HttpTransport::new().unwrap();
    let resend = Resend::new("token").unwrap().base_url(&base).unwrap();
    let postmark = Postmark::new("token").unwrap().base_url(&base).unwrap();
    [HttpProvider::new(resend, transport.clone()), HttpProvider::new(postmark, transport)]
}

async fn send(
    provider: &HttpProvider,
    id: MailId,
    timeout: Duration,
) -> Result<Answer, TransportError> {
    let mailbox = |address| Mailbox::parse(address).unwrap();
    let mail = Mail::builder(mailbox("shop@example.org"), [mailbox("ann@example.org")]);
    let mail = mail.subject(HeaderText::new("hello").unwrap()).text("…").build().unwrap();
    let request = provider.encode(id, &mail).unwrap();
    provider.send(&request, timeout).await
}

#[tokio::test]
async fn the_mailers_providers_are_understood_and_understand() {
    let server = Server::start();
    let (id, key) = {
        let id = MailId::fresh();
        (id, id.to_string())
    };
    let [resend, postmark] = providers(&server);
    let mut ids = Vec::new();
    for provider in [&resend, &resend, &postmark, &postmark] {
        let answer = send(provider, id, PATIENCE).await.unwrap();
        let Outcome::Accepted { provider_id: Some(id), recipients } = answer.outcome else {
            panic!("{answer:?}");
        };
        assert!(recipients.is_empty());
        ids.push(id);
    }
    assert_eq!(ids[0], ids[1], "Resend replays");
    assert_ne!(ids[2], ids[3], "Postmark sends again");
    let (accepted, messages) = recorded(&server).await;
    assert_eq!((accepted, messages), (json!(3), json!([entry(Some(&key), 3)])));
}

#[tokio::test]
async fn the_mailers_providers_read_each_answering_fault() {
    let server = Server::start();
    for provider in providers(&server) {
        let outcome = async |mode: &str| {
            control(&server, json!({ "service": "mail", "mode": mode })).await;
            send(&provider, MailId::fresh(), PATIENCE).await.unwrap().outcome
        };
        let server_error = Outcome::Ambiguous(AmbiguousCause::ServerError);
        assert_eq!(outcome("error").await, server_error);
        assert_eq!(outcome("garbage").await, Outcome::Ambiguous(AmbiguousCause::BadAnswer));
        for _ in 0..2 {
            let Outcome::Throttled { retry_after: Some(wait), scope } = outcome("throttle").await
            else {
                panic!("no wait from {}", provider.name());
            };
            assert_eq!(scope, ThrottleScope::Rate);
            assert!(wait <= Duration::from_secs(2), "{wait:?} at {:?}", SystemTime::now());
        }
    }
}

#[tokio::test]
async fn a_hang_leaves_the_mailer_in_doubt_about_a_mail_that_was_accepted() {
    let server = Server::start();
    for (before, provider) in providers(&server).iter().enumerate() {
        control(&server, json!({ "service": "mail", "mode": "hang" })).await;
        let doubt = TransportError::Ambiguous(AmbiguousCause::Timeout);
        assert_eq!(send(provider, MailId::fresh(), SILENCE).await, Err(doubt));
        let is_recorded = async || {
            let report = report(&server).await;
            (report["mail"]["accepted"] == before + 1, report)
        };
        eventually(PATIENCE, is_recorded, "the mail was accepted").await;
    }
}

#[tokio::test]
async fn a_broken_connection_leaves_the_mailer_in_doubt_about_a_mail_that_was_not() {
    let server = Server::start();
    for provider in providers(&server) {
        for mode in ["reset", "refuse"] {
            control(&server, json!({ "service": "mail", "mode": mode })).await;
            let result = send(&provider, MailId::fresh(), PATIENCE).await;
            assert!(matches!(result, Err(TransportError::Ambiguous(_))), "{mode}: {result:?}");
        }
    }
    assert_eq!(recorded(&server).await, (json!(0), json!([])));
}

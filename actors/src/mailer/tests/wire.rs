//! What the wire says of each way to fail, and that it never says a mail was not sent that may
//! have been.

use std::time::Duration;

use super::fault_server::{Fault, FaultServer};
use super::golden::TOKEN;
use super::*;
use crate::mailer::provider::{
    AmbiguousCause, Answer, Capabilities, EncodeError, HttpApi, HttpProvider, HttpResponse,
    MailProvider, NotSentCause, Outcome, Postmark, Resend, Secret, ThrottleScope, TransportError,
    WireRequest,
};
use crate::store::{Timestamp, WallClock};

/// Longer than any of these tests takes; where the end of it is wanted, the clock is moved.
const PATIENCE: Duration = Duration::from_secs(300);

fn transport() -> HttpTransport {
    HttpTransport::builder().connect_timeout(Duration::from_secs(60)).build().unwrap()
}

fn request(url: String) -> WireRequest {
    WireRequest { url, headers: Vec::new(), body: b"body".to_vec(), idempotency_key: None }
}

async fn post(url: String) -> Result<HttpResponse, TransportError> {
    transport().post(&request(url), &[], PATIENCE).await
}

async fn post_to(fault: Fault) -> Result<HttpResponse, TransportError> {
    let server = FaultServer::start(fault).await;
    post(server.url()).await
}

fn answer(text: &str) -> Fault {
    Fault::Answer(text.as_bytes().to_vec())
}

#[track_caller]
fn check<T: std::fmt::Debug>(result: Result<T, TransportError>, error: TransportError) {
    match result {
        Err(found) => assert_eq!(found, error),
        Ok(answer) => panic!("{answer:?}"),
    }
}

#[tokio::test]
async fn a_refused_connection_is_not_sent() {
    // A port that is held and that nobody listens on.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}/", socket.local_addr().unwrap());
    check(post(url).await, TransportError::NotSent(NotSentCause::Connect));
}

#[tokio::test]
async fn a_host_without_an_address_is_not_sent() {
    // No label of a name is longer than 63: it is refused without asking anybody.
    let url = format!("http://{}.invalid/", "x".repeat(64));
    check(post(url).await, TransportError::NotSent(NotSentCause::Dns));
}

#[tokio::test]
async fn a_server_without_tls_is_not_sent() {
    let server = FaultServer::start(Fault::Greet(b"220 mail.example.com ESMTP\r\n".to_vec())).await;
    let result = post(format!("https://{}/", server.address)).await;
    check(result, TransportError::NotSent(NotSentCause::Tls));
    // One that leaves before it shook hands.
    let server = FaultServer::start(Fault::Close).await;
    let result = post(format!("https://{}/", server.address)).await;
    assert!(matches!(result, Err(TransportError::NotSent(_))), "{result:?}");
}

#[tokio::test]
async fn a_connection_that_is_slow_to_come_is_not_sent() {
    // It is accepted, and then nobody shakes hands.
    let server = FaultServer::start(Fault::Silent).await;
    let transport =
        HttpTransport::builder().connect_timeout(Duration::from_millis(100)).build().unwrap();
    let request = request(format!("https://{}/", server.address));
    let result = transport.post(&request, &[], PATIENCE).await;
    check(result, TransportError::NotSent(NotSentCause::ConnectTimeout));
}

#[tokio::test]
async fn a_request_that_http_does_not_allow_is_not_sent() {
    let invalid = TransportError::NotSent(NotSentCause::Request);
    check(post("no url".to_owned()).await, invalid);
    check(post("ftp://127.0.0.1/".to_owned()).await, invalid);
    let server = FaultServer::start(answer("")).await;
    let mut broken = request(server.url());
    broken.headers.push(("x-a".to_owned(), "a\r\nb".to_owned()));
    check(transport().post(&broken, &[], PATIENCE).await, invalid);
    let secret = [("x-a".to_owned(), Secret::from("a\nb"))];
    check(transport().post(&request(server.url()), &secret, PATIENCE).await, invalid);
}

#[tokio::test]
async fn a_connection_that_ends_before_an_answer_leaves_it_open() {
    for fault in [Fault::Reset, Fault::Close, answer("")] {
        let result = post_to(fault).await;
        assert!(
            matches!(
                result,
                Err(TransportError::Ambiguous(AmbiguousCause::Reset | AmbiguousCause::Incomplete))
            ),
            "{result:?}"
        );
    }
}

#[tokio::test]
async fn no_answer_in_time_leaves_it_open() {
    let mut server = FaultServer::start(Fault::Stall).await;
    let url = server.url();
    let asks = tokio::spawn(async move { post(url).await });
    assert!(server.request().await.ends_with("body"), "all of it was read");
    tokio::time::pause();
    tokio::time::advance(PATIENCE).await;
    check(asks.await.unwrap(), TransportError::Ambiguous(AmbiguousCause::Timeout));
}

#[tokio::test]
async fn an_answer_that_breaks_off_leaves_it_open() {
    let incomplete = TransportError::Ambiguous(AmbiguousCause::Incomplete);
    let half = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"Message";
    check(post_to(answer(half)).await, incomplete);
    let head = "HTTP/1.1 200 OK\r\ncontent-le";
    check(post_to(answer(head)).await, incomplete);
    let chunk = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n";
    check(post_to(answer(chunk)).await, incomplete);
    let result = post_to(Fault::AnswerAndReset(half.as_bytes().to_vec())).await;
    assert!(matches!(result, Err(TransportError::Ambiguous(_))), "{result:?}");
}

#[tokio::test]
async fn an_answer_that_is_no_http_leaves_it_open() {
    let bad = TransportError::Ambiguous(AmbiguousCause::BadAnswer);
    check(post_to(answer("SSH-2.0-OpenSSH_9.9\r\n\r\n")).await, bad);
}

#[tokio::test]
async fn no_redirect_is_followed() {
    let mut other = FaultServer::start(answer("HTTP/1.1 200 OK\r\n\r\n")).await;
    for status in [301, 302, 303, 307, 308] {
        let moved = format!(
            "HTTP/1.1 {status} Moved\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n",
            other.url()
        );
        let response = post_to(answer(&moved)).await.unwrap();
        assert_eq!(response.status, status);
    }
    assert_eq!(other.unasked(), 0);
}

#[tokio::test]
async fn no_more_of_an_answer_is_read_than_the_limit() {
    let limit = HttpTransport::ANSWER_LIMIT;
    for (bytes, read) in [(limit - 1, limit - 1), (limit, limit), (limit + 1, limit)] {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {bytes}\r\n\r\n");
        let response = post_to(answer(&(head + &"x".repeat(bytes)))).await.unwrap();
        assert_eq!(response.body.len(), read);
    }
    // One that never ends.
    let endless =
        format!("HTTP/1.1 200 OK\r\ncontent-length: 999999999999\r\n\r\n{}", "x".repeat(2 * limit));
    assert_eq!(post_to(answer(&endless)).await.unwrap().body.len(), limit);
}

#[tokio::test]
async fn no_more_headers_are_kept_than_the_limit() {
    let own = |count: usize| (0..count).map(|at| format!("x-{at}: {at}\r\n")).collect::<String>();
    let with = |count| format!("HTTP/1.1 200 OK\r\n{}\r\n", own(count));
    let limit = HttpTransport::HEADERS_LIMIT;
    assert_eq!(post_to(answer(&with(limit))).await.unwrap().headers.len(), limit);
    // More are no answer at all: the HTTP client itself has that limit.
    let bad = TransportError::Ambiguous(AmbiguousCause::BadAnswer);
    check(post_to(answer(&with(limit + 1))).await, bad);
}

#[tokio::test]
async fn a_request_goes_out_as_it_was_frozen_and_once() {
    let ok = "HTTP/1.1 200 OK\r\nX-Thing: a\r\ncontent-length: 2\r\n\r\nhi";
    let mut server = FaultServer::start(answer(ok)).await;
    let mut request = request(server.url());
    request.headers.push(("content-type".to_owned(), "application/json".to_owned()));
    let secrets = [("authorization".to_owned(), Secret::from("Bearer x"))];
    let response = transport().post(&request, &secrets, PATIENCE).await.unwrap();
    assert_eq!((response.status, response.body.as_slice()), (200, &b"hi"[..]));
    assert_eq!(response.header("x-thing"), Some("a"));
    assert_eq!(format!("{response:?}"), "HttpResponse { status: 200, body_bytes: 2, .. }");
    let sent = server.request().await;
    assert!(sent.starts_with("POST /path HTTP/1.1\r\n"), "{sent}");
    for part in
        ["content-type: application/json\r\n", "authorization: Bearer x\r\n", "\r\n\r\nbody"]
    {
        assert!(sent.contains(part), "{part} in {sent}");
    }
    assert_eq!(server.unasked(), 0);
}

async fn ask(fault: Fault) -> Result<Answer, TransportError> {
    let server = FaultServer::start(fault).await;
    let api =
        Postmark::new(TOKEN).unwrap().base_url(&format!("http://{}", server.address)).unwrap();
    // Sun, 06 Nov 1994 08:49:37 GMT.
    let (clock, _hand) = WallClock::manual(Timestamp(784_111_777_000));
    let provider = HttpProvider::new(api, transport()).clock(clock);
    let request = provider.encode(id(), &awkward()).unwrap();
    provider.send(&request, PATIENCE).await
}

#[tokio::test]
async fn a_provider_says_what_an_answer_over_the_wire_means() {
    let head = |status: &str, more: &str, body: &str| {
        answer(&format!("HTTP/1.1 {status}\r\n{more}content-length: {}\r\n\r\n{body}", body.len()))
    };
    let bad = Outcome::Ambiguous(AmbiguousCause::BadAnswer);
    let failed = Outcome::Ambiguous(AmbiguousCause::ServerError);
    let rate = |seconds| Outcome::Throttled {
        retry_after: Some(Duration::from_secs(seconds)),
        scope: ThrottleScope::Rate,
    };
    let date = |time: &str| format!("Retry-After: Sun, 06 Nov 1994 {time} GMT\r\n");
    let accepted = Outcome::Accepted { provider_id: Some("m".into()), recipients: Vec::new() };
    for (fault, outcome) in [
        (head("200 OK", "", r#"{"ErrorCode":0,"MessageID":"m","Message":"OK"}"#), accepted),
        (head("200 OK", "", "<html>junk</html>"), bad.clone()),
        (head("200 OK", "", &"x".repeat(100_000)), bad),
        (head("502 Bad Gateway", "", ""), failed),
        (head("307 Temporary", "location: http://127.0.0.1/\r\n", ""), Outcome::Misconfigured),
        (head("429 Too Many", "Retry-After: 7\r\n", ""), rate(7)),
        (head("429 Too Many", &date("08:50:37"), ""), rate(60)),
        (head("429 Too Many", &date("08:49:00"), ""), rate(0)),
    ] {
        assert_eq!(ask(fault).await.unwrap().outcome, outcome);
    }
    check(
        ask(Fault::Answer(Vec::new())).await,
        TransportError::Ambiguous(AmbiguousCause::Incomplete),
    );
}

#[tokio::test]
async fn a_repeated_request_has_the_same_key_and_bytes() {
    let ok = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{\"id\":\"r\"}";
    let mut server = FaultServer::start(answer(ok)).await;
    let api = Resend::new(TOKEN).unwrap().base_url(&format!("http://{}", server.address)).unwrap();
    let provider = HttpProvider::new(api, transport());
    let request = provider.encode(id(), &awkward()).unwrap();
    let stored = serde_json::to_vec(&request).unwrap();
    let request: WireRequest = serde_json::from_slice(&stored).unwrap();
    for _ in 0..2 {
        provider.send(&request, PATIENCE).await.unwrap();
    }
    let (first, second) = (server.request().await, server.request().await);
    assert_eq!(first, second);
    assert!(first.contains(&format!("idempotency-key: {ID}\r\n")));
}

#[derive(Debug)]
pub(super) struct Panics(pub(super) Postmark);

impl HttpApi for Panics {
    fn name(&self) -> &str {
        "panics"
    }

    fn url(&self) -> String {
        self.0.url()
    }

    fn capabilities(&self) -> &Capabilities {
        self.0.capabilities()
    }

    fn encode(&self, id: MailId, mail: &Mail) -> Result<WireRequest, EncodeError> {
        self.0.encode(id, mail)
    }

    fn authorize(&self, request: &WireRequest, now: Timestamp) -> Vec<(String, Secret)> {
        self.0.authorize(request, now)
    }

    fn decode(&self, _response: &HttpResponse, _now: Timestamp) -> Answer {
        panic!("jane@example.com")
    }
}

#[tokio::test]
async fn a_decoder_that_panics_leaves_it_open() {
    let server = FaultServer::start(answer("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")).await;
    let api =
        Postmark::new(TOKEN).unwrap().base_url(&format!("http://{}", server.address)).unwrap();
    let provider = HttpProvider::new(Panics(api), transport());
    let request = provider.encode(id(), &plain().build().unwrap()).unwrap();
    let answer = provider.send(&request, PATIENCE).await.unwrap();
    assert_eq!(answer.outcome, Outcome::Ambiguous(AmbiguousCause::BadAnswer));
    assert_eq!(answer.http_status, Some(200));
}

//! A panic costs one request: never its connection, never the next request, never a word to the
//! client.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use actix_web::dev::Payload;
use actix_web::guard::fn_guard;
use actix_web::web::{self, Bytes, ServiceConfig};
use actix_web::{Error, FromRequest, HttpRequest, HttpResponse};
use futures_util::Stream;
use futures_util::future::LocalBoxFuture;
use steadfast::edge::{AbortResponse, Edge, Phase, Recover};
use steadfast::kernel::RequestContext;

use super::support::{Request, Served, eventually};

struct Explosive;

impl FromRequest for Explosive {
    type Error = Error;
    type Future = LocalBoxFuture<'static, Result<Self, Error>>;

    fn from_request(_: &HttpRequest, _: &mut Payload) -> Self::Future {
        panic!("boom in an extractor")
    }
}

/// Sends one chunk, waits until it is on its way, and then does what it is told.
struct Chunks(u8, fn());

impl Stream for Chunks {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0 += 1;
        match self.0 {
            1 => Poll::Ready(Some(Ok(Bytes::from_static(b"first")))),
            2 => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            _ => {
                (self.1)();
                Poll::Ready(None)
            }
        }
    }
}

struct PanicsInDrop;

impl Drop for PanicsInDrop {
    fn drop(&mut self) {
        panic!("boom in a drop")
    }
}

async fn panics() -> HttpResponse {
    panic!("boom in a handler")
}

async fn panics_later() -> HttpResponse {
    tokio::task::yield_now().await;
    std::panic::panic_any(7_u8)
}

async fn extracts(_: Explosive) -> HttpResponse {
    HttpResponse::Ok().finish()
}

async fn streams(end: fn()) -> HttpResponse {
    HttpResponse::Ok().streaming(Chunks(0, end))
}

async fn hangs_and_panics() -> HttpResponse {
    let _held = PanicsInDrop;
    std::future::pending().await
}

fn routes(app: &mut ServiceConfig) {
    let guard = web::get().guard(fn_guard(|_| panic!("boom in a guard"))).to(HttpResponse::Ok);
    app.route("/ok", web::get().to(|| async { "fine" }))
        .route("/handler", web::get().to(panics))
        .route("/later", web::get().to(panics_later))
        .route("/extractor", web::get().to(extracts))
        .route("/guard", guard)
        .route("/body", web::get().to(|| streams(|| panic!("boom in a body"))))
        .route("/abort", web::get().to(|| async { AbortResponse::raise() as HttpResponse }))
        .route("/abort-body", web::get().to(|| streams(|| AbortResponse::raise())))
        .route("/whole", web::get().to(|| streams(|| ())))
        .route("/hang", web::get().to(hangs_and_panics));
}

#[tokio::test]
async fn the_same_connection_serves_the_next_request() {
    let server = Served::start(routes);
    let mut wire = server.connect().await;
    for path in ["/handler", "/later", "/extractor", "/guard"] {
        let id = format!("p{}", path.replace('/', "-"));
        let request = Request::get(path).header("x-request-id", &id);
        let answer = wire.ask(request).await.unwrap();
        let problem = answer.expect(500, "internal.panic");
        assert_eq!(problem["instance"], format!("urn:request:{id}"));
        let next = wire.ask(Request::get("/ok")).await.unwrap();
        assert_eq!((next.status, &next.body[..]), (200, &b"fine"[..]), "after {path}");
    }
    assert_eq!(server.edge.counts().panics, 4);
}

#[tokio::test]
async fn the_log_has_what_the_client_has_not() {
    let server = Served::start(routes);
    let request = Request::get("/handler").header("x-request-id", "find-me");
    server.ask(request).await.expect(500, "internal.panic");
    let log = server.log();
    let report = log.iter().find(|line| line["message"] == "http.panic").unwrap();
    assert_eq!(report["request_id"], "find-me");
    let fields = &report["fields"];
    assert_eq!(
        (&fields["panic"], &fields["route"]),
        (&"boom in a handler".into(), &"/handler".into())
    );
    assert!(fields["location"].as_str().unwrap().contains("panics.rs:"), "{report}");
    let backtrace = fields["backtrace"].as_str().unwrap();
    assert!(backtrace.contains("panics") && backtrace.len() <= 16 * 1024, "{report}");
    assert_eq!(server.record("find-me").await["fields"]["status"], 500);
}

#[tokio::test]
async fn a_panic_in_a_body_aborts_the_stream() {
    let server = Served::start(routes);
    let mut wire = server.connect().await;
    wire.send(&Request::get("/body").header("x-request-id", "body")).await;
    let all = wire.rest().await;
    assert!(all.starts_with("HTTP/1.1 200") && all.contains("x-request-id: body"), "{all}");
    assert!(!all.contains("\r\n0\r\n") && !all.contains("boom"), "not a whole stream: {all}");
    let record = server.record("body").await;
    assert_eq!(
        (&record["fields"]["status"], &record["fields"]["outcome"]),
        (&200.into(), &"aborted".into())
    );
    let mut whole = server.connect().await;
    whole.send(&Request::get("/whole").header("connection", "close")).await;
    assert!(whole.rest().await.contains("\r\n0\r\n"), "a stream that ends is whole");
    assert_eq!(server.edge.counts().panics, 1);
}

#[tokio::test]
async fn an_abort_is_silent_and_counted() {
    let server = Served::start(routes);
    for (path, begins) in [("/abort", ""), ("/abort-body", "HTTP/1.1 200")] {
        let mut wire = server.connect().await;
        wire.send(&Request::get(path).header("x-request-id", "gone")).await;
        let all = wire.rest().await;
        assert!(all.is_empty() || (!begins.is_empty() && all.starts_with(begins)), "{path}: {all}");
        assert!(!all.contains("\r\n0\r\n") && !all.contains("500"), "{path}: {all}");
    }
    let counts = server.edge.counts();
    assert_eq!((counts.aborts, counts.panics), (2, 0));
    let loud = server.log().into_iter().find(|line| line["message"] == "http.panic");
    assert_eq!(loud, None);
    eventually("nothing is in flight", || server.in_flight.count() == 0).await;
    assert_eq!(server.ask(Request::get("/ok")).await.status, 200, "the worker lives on");
}

#[tokio::test]
async fn a_drop_that_panics_at_the_deadline_costs_nothing_more() {
    let server = Served::start(routes);
    let mut wire = server.connect().await;
    let request = Request::get("/hang").header("x-request-timeout-ms", "20");
    wire.ask(request).await.unwrap().expect(504, "request.deadline_exceeded");
    assert_eq!(wire.ask(Request::get("/ok")).await.unwrap().status, 200);
    assert_eq!(server.edge.counts().panics, 1);
}

#[tokio::test]
async fn an_observer_sees_each_panic_and_may_itself_panic() {
    static SEEN: AtomicUsize = AtomicUsize::new(0);
    let ids = Arc::new(std::sync::Mutex::new(Vec::new()));
    let noted = Arc::clone(&ids);
    let recover = Recover::new().on_panic(move |report| {
        SEEN.fetch_add(1, Ordering::Relaxed);
        assert_eq!(report.phase, Phase::Handler);
        assert!(RequestContext::current().is_some());
        noted.lock().unwrap().push((report.request_id.cloned(), report.route.map(str::to_owned)));
        panic!("boom in the observer")
    });
    let server = Served::with(Edge::new().recover(recover), routes);
    let mut wire = server.connect().await;
    for _ in 0..2 {
        wire.ask(Request::get("/handler")).await.unwrap().expect(500, "internal.panic");
    }
    assert_eq!(SEEN.load(Ordering::Relaxed), 2);
    eventually("nothing is in flight", || server.in_flight.count() == 0).await;
    let ids = ids.lock().unwrap();
    assert!(ids.iter().all(|(id, route)| id.is_some() && route.as_deref() == Some("/handler")));
}

//! Ids, deadlines and cancellation.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use actix_web::HttpResponse;
use actix_web::web::{self, Bytes, ServiceConfig};
use futures_util::{StreamExt, stream};
use steadfast::edge::{Ctx, Deadline, Edge, RequestGuard, TrustPolicy};
use steadfast::kernel::{RequestContext, Stopped, TraceParent};

use super::support::{Request, Served, eventually};

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

async fn context(ctx: Ctx) -> String {
    let ambient = RequestContext::current().unwrap();
    assert_eq!(ambient.id(), ctx.id());
    let left_ms = ctx.remaining().map_or(0, |left| left.as_millis());
    let trace = ctx.trace().map(TraceParent::trace_id).unwrap_or_default();
    format!("{} {left_ms} {trace}", ctx.id())
}

/// Answers with the milliseconds left while its body streams.
async fn context_in_body() -> HttpResponse {
    let lines = stream::iter(0..2).then(|_| async {
        tokio::task::yield_now().await;
        let ctx = Ctx::current().unwrap();
        Ok::<_, actix_web::Error>(Bytes::from(format!("{};", ctx.id())))
    });
    HttpResponse::Ok().streaming(lines)
}

/// Counts futures that were dropped at their await.
struct Held(&'static AtomicUsize);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

static DROPPED_AT_DEADLINE: AtomicUsize = AtomicUsize::new(0);
static DROPPED_BY_CLIENT: AtomicUsize = AtomicUsize::new(0);
static DROPPED_BY_SHUTDOWN: AtomicUsize = AtomicUsize::new(0);
static TOLD_CLIENT_GONE: AtomicUsize = AtomicUsize::new(0);
static TOLD_DEADLINE: AtomicUsize = AtomicUsize::new(0);

async fn hang(dropped: &'static AtomicUsize) -> HttpResponse {
    let _held = Held(dropped);
    std::future::pending().await
}

/// Leaves a task behind that is told why the request stopped.
async fn hang_with_task() -> HttpResponse {
    let context = RequestContext::current().unwrap();
    actix_web::rt::spawn(async move {
        context.cancelled().await;
        match context.stopped() {
            Some(Stopped::ClientGone) => TOLD_CLIENT_GONE.fetch_add(1, Ordering::SeqCst),
            Some(Stopped::Deadline) => TOLD_DEADLINE.fetch_add(1, Ordering::SeqCst),
            other => panic!("told {other:?}"),
        }
    });
    std::future::pending().await
}

fn routes(app: &mut ServiceConfig) {
    let long = Deadline::after(Duration::from_secs(120));
    let short = Deadline::after(Duration::from_millis(30));
    app.route("/context", web::get().to(context))
        .route("/body", web::get().to(context_in_body))
        .route("/hang/deadline", web::get().to(|| hang(&DROPPED_AT_DEADLINE)))
        .route("/hang/client", web::get().to(|| hang(&DROPPED_BY_CLIENT)))
        .route("/hang/shutdown", web::get().to(|| hang(&DROPPED_BY_SHUTDOWN)))
        .route("/hang/task", web::get().to(hang_with_task))
        .route("/endless", web::get().to(endless))
        .route("/large", web::get().to(large))
        .service(web::resource("/long").wrap(long).get(context))
        .service(web::resource("/short").wrap(short).get(|| hang(&DROPPED_AT_DEADLINE)))
        .service(web::scope("/unlimited").wrap(Deadline::none()).route("", web::get().to(context)));
}

async fn endless() -> HttpResponse {
    let first = stream::iter([Ok::<_, actix_web::Error>(Bytes::from_static(b"first"))]);
    HttpResponse::Ok().streaming(first.chain(stream::pending()))
}

static LARGE: AtomicUsize = AtomicUsize::new(0);

/// An answer whose head alone is more than the kernels take for a client that does not read.
async fn large() -> HttpResponse {
    LARGE.fetch_add(1, Ordering::SeqCst);
    HttpResponse::Ok().insert_header(("x-large", "#".repeat(16 << 20))).body("body")
}

#[tokio::test]
async fn a_client_that_does_not_take_its_answer_is_not_in_flight() {
    let server = Served::start(routes);
    let mut wire = server.connect().await;
    wire.send(&Request::get("/large")).await;
    eventually("it is answered", || LARGE.load(Ordering::SeqCst) == 1).await;
    eventually("nothing is in flight", || server.in_flight.count() == 0).await;
    wire.reset();
}

#[tokio::test]
async fn a_safe_id_comes_back_everywhere_and_a_hostile_one_is_replaced() {
    let server = Served::start(routes);
    for path in ["/context", "/nowhere", "/hang/deadline"] {
        let request = Request::get(path).header("x-request-timeout-ms", "100");
        let answer = server.ask(request.header("x-request-id", "Order_7.a-b")).await;
        assert_eq!(answer.header("x-request-id"), "Order_7.a-b", "{path}");
    }
    let longest = "x".repeat(128);
    let too_long = "x".repeat(129);
    let keeps = server.ask(Request::get("/context").header("x-request-id", &longest)).await;
    assert_eq!(keeps.header("x-request-id"), longest);
    for hostile in ["", "a b", "<script>", "a;b", "a/../b", "\u{e9}", "a\tb", "%0d%0a", &too_long] {
        let answer = server.ask(Request::get("/context").header("x-request-id", hostile)).await;
        let id = answer.header("x-request-id");
        assert_eq!(id.len(), 36, "{hostile:?} became {id:?}");
        assert!(String::from_utf8_lossy(&answer.body).starts_with(id), "the same inside");
    }
    let twice = Request::get("/context").header("x-request-id", "a").header("x-request-id", "b");
    assert_eq!(server.ask(twice).await.header("x-request-id").len(), 36);
}

/// The id, milliseconds left and trace that a handler saw.
async fn seen(server: &Served, request: Request) -> (String, u64, String) {
    let answer = server.ask(request).await;
    let text = String::from_utf8(answer.body).unwrap();
    let mut words = text.split(' ').map(str::to_owned);
    let (id, left) = (words.next().unwrap(), words.next().unwrap());
    (id, left.parse().unwrap(), words.next().unwrap())
}

#[tokio::test]
async fn the_deadline_is_the_earliest_of_route_server_and_client() {
    let requests =
        RequestGuard::new().deadline(Duration::from_secs(10)).deadline_max(Duration::from_secs(60));
    let server = Served::with(Edge::new().requests(requests), routes);
    let ask = |path: &str| Request::get(path);
    let timeout = |path: &str, ms: &str| ask(path).header("x-request-timeout-ms", ms);
    for (request, at_most_ms) in [
        (ask("/context"), 10_000),
        (timeout("/context", "5000"), 5_000),
        (timeout("/context", "50000"), 10_000),
        (timeout("/context", "soon"), 10_000),
        (timeout("/context", "0"), 10_000),
        (timeout("/context", "99999999999999999999"), 10_000),
        (ask("/long"), 60_000),
        (timeout("/long", "5000"), 5_000),
        (ask("/unlimited"), 0),
        (timeout("/unlimited", "5000"), 5_000),
    ] {
        let (_, left_ms, _) = seen(&server, request.clone()).await;
        let at_least_ms = at_most_ms.max(4_000_u64) - 4_000;
        assert!((at_least_ms..=at_most_ms).contains(&left_ms), "{request:?}: {left_ms}");
    }
}

#[tokio::test]
async fn a_peer_that_is_not_trusted_cannot_set_a_deadline() {
    let requests = RequestGuard::new().trust(TrustPolicy::Nobody);
    let server = Served::with(Edge::new().requests(requests), routes);
    let request = Request::get("/context").header("x-request-timeout-ms", "5000");
    assert!(seen(&server, request).await.1 > 20_000);
}

#[tokio::test]
async fn a_trace_is_continued_when_it_is_valid() {
    let server = Served::start(routes);
    let (.., trace) = seen(&server, Request::get("/context").header("traceparent", TRACE)).await;
    assert_eq!(trace, "0af7651916cd43dd8448eb211c80319c");
    let (.., trace) = seen(&server, Request::get("/context").header("traceparent", "00-0-0")).await;
    assert_eq!(trace, "");
}

#[tokio::test]
async fn the_context_is_there_while_the_body_streams() {
    let server = Served::start(routes);
    let mut wire = server.connect().await;
    let request = Request::get("/body").header("x-request-id", "stream");
    wire.send(&request.header("connection", "close")).await;
    let all = wire.rest().await;
    assert_eq!(all.matches("stream;").count(), 2, "{all}");
}

#[tokio::test]
async fn at_the_deadline_the_work_is_dropped_and_the_client_told() {
    let server = Served::start(routes);
    let mut wire = server.connect().await;
    for path in ["/hang/deadline", "/short"] {
        let before = DROPPED_AT_DEADLINE.load(Ordering::SeqCst);
        let begun = Instant::now();
        let request = Request::get(path).header("x-request-timeout-ms", "100");
        let answer = wire.ask(request).await.unwrap();
        let took = begun.elapsed();
        answer.expect(504, "request.deadline_exceeded");
        let least = if path == "/short" { 30 } else { 100 };
        assert!(took >= Duration::from_millis(least), "{path}: too early, after {took:?}");
        assert!(DROPPED_AT_DEADLINE.load(Ordering::SeqCst) > before, "{path}: dropped first");
    }
    let told = TOLD_DEADLINE.load(Ordering::SeqCst);
    let request = Request::get("/hang/task").header("x-request-timeout-ms", "20");
    wire.ask(request).await.unwrap().expect(504, "request.deadline_exceeded");
    eventually("the task is told", || TOLD_DEADLINE.load(Ordering::SeqCst) > told).await;
    assert_eq!(server.edge.counts().deadlines, 3);
    assert_eq!(server.in_flight.count(), 0);
}

#[tokio::test]
async fn a_client_that_leaves_stops_its_work_and_is_recorded_as_499() {
    let server = Served::start(routes);
    for (path, id, counter) in [
        ("/hang/client", "left-1", &DROPPED_BY_CLIENT),
        ("/hang/task", "left-2", &TOLD_CLIENT_GONE),
    ] {
        let before = counter.load(Ordering::SeqCst);
        let mut wire = server.connect().await;
        wire.send(&Request::get(path).header("x-request-id", id)).await;
        eventually("the request began", || server.in_flight.count() == 1).await;
        wire.reset();
        eventually("the work stopped", || counter.load(Ordering::SeqCst) > before).await;
        let fields = server.record(id).await["fields"].clone();
        assert_eq!(fields["status"], 499);
        assert_eq!(fields["outcome"], "cancelled");
        assert_eq!(fields["route"], path);
    }
    eventually("nothing is in flight", || server.in_flight.count() == 0).await;
    assert_eq!(server.edge.counts().clients_gone, 2);
}

#[tokio::test]
async fn a_request_is_in_flight_until_its_body_ends() {
    let server = Served::start(routes);
    let mut wire = server.connect().await;
    wire.send(&Request::get("/endless").header("x-request-id", "endless")).await;
    eventually("the body streams", || server.in_flight.count() == 1).await;
    wire.reset();
    eventually("the body is gone", || server.in_flight.count() == 0).await;
    let fields = server.record("endless").await["fields"].clone();
    assert_eq!((&fields["status"], &fields["outcome"]), (&200.into(), &"aborted".into()));
    assert_eq!(server.edge.counts().clients_gone, 0, "it was answered");
    server.ask(Request::get("/context")).await;
    assert_eq!(server.in_flight.count(), 0);
}

#[tokio::test]
async fn a_cut_gives_up_handlers_and_bodies_and_closes_connections() {
    let server = Served::start(routes);
    let mut waiting = server.connect().await;
    let mut streaming = server.connect().await;
    streaming.send(&Request::get("/endless")).await;
    waiting.send(&Request::get("/hang/shutdown")).await;
    eventually("both are in flight", || server.in_flight.count() == 2).await;
    server.in_flight.cut();
    let answer = waiting.rest().await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("request.shutdown"), "{answer}");
    assert!(answer.to_lowercase().contains("connection: close"), "{answer}");
    assert!(answer.to_lowercase().contains("retry-after: "), "{answer}");
    assert!(!streaming.rest().await.contains("\r\n0\r\n"), "not a whole stream");
    assert_eq!(DROPPED_BY_SHUTDOWN.load(Ordering::SeqCst), 1);
    eventually("nothing is in flight", || server.in_flight.count() == 0).await;
}

#[tokio::test]
async fn a_closing_server_asks_its_clients_to_leave() {
    let server = Served::start(routes);
    let mut wire = server.connect().await;
    let open = wire.ask(Request::get("/context")).await.unwrap();
    assert_eq!(open.header("connection"), "");
    server.in_flight.close();
    let last = wire.ask(Request::get("/context")).await.unwrap();
    assert_eq!((last.status, last.header("connection")), (200, "close"));
}

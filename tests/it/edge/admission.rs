//! Who is served, who waits, and who is refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix_web::middleware::{Next, from_fn};
use actix_web::web::{self, Bytes, Data, ServiceConfig};
use actix_web::{App, HttpResponse};
use futures_util::{FutureExt, StreamExt};
use steadfast::Steadfast;
use steadfast::config::Settings;
use steadfast::edge::{
    Admission, AdmissionCounts, AdmissionLimits, Admit, ConnectionLimits, Ctx, Edge, RequestGuard,
    TrustPolicy,
};
use steadfast::health::Status;
use steadfast::kernel::Priority;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::support::{Answer, Request, Served, Wire, eventually};

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Two places, one that waits, and patience enough for a busy machine.
fn limits() -> AdmissionLimits {
    let mut limits = AdmissionLimits::default();
    limits.limit = 2;
    limits.queue.max = 1;
    limits.queue.target = ms(5_000);
    limits.queue.interval = ms(5_000);
    limits
}

/// Holds requests inside until they are let go.
struct Valve {
    inside: AtomicUsize,
    open: Semaphore,
}

thread_local! {
    /// One per server: it has one worker.
    static VALVE: Data<Valve> = Data::new(Valve {
        inside: AtomicUsize::new(0),
        open: Semaphore::new(0),
    });
}

async fn hold(valve: Data<Valve>, ctx: Ctx) -> String {
    valve.inside.fetch_add(1, Ordering::SeqCst);
    valve.open.acquire().await.unwrap().forget();
    format!("{:?}", ctx.priority())
}

/// Lets as many go as the path says; in the time before that it is asked, at once.
async fn open(valve: Data<Valve>, count: web::Path<usize>) -> String {
    valve.open.add_permits(*count);
    valve.inside.load(Ordering::SeqCst).to_string()
}

/// One chunk now, the other when it is let go.
async fn stream(valve: Data<Valve>) -> HttpResponse {
    let held = futures_util::stream::once(async move {
        valve.open.acquire().await.unwrap().forget();
        Ok::<_, actix_web::Error>(Bytes::from("second"))
    });
    let first = futures_util::stream::iter([Ok(Bytes::from("first"))]);
    HttpResponse::Ok().streaming(first.chain(held))
}

fn routes(app: &mut ServiceConfig) {
    let class = |priority| Admit::with(priority);
    app.app_data(VALVE.with(Data::clone))
        .route("/hold", web::route().to(hold))
        .route("/stream", web::get().to(stream))
        .route("/quick", web::get().to(|| async { "quick" }))
        .service(web::resource("/open/{count}").wrap(Admit::always()).get(open))
        .service(web::resource("/critical").wrap(class(Priority::Critical)).get(hold))
        .service(web::resource("/sheddable").wrap(class(Priority::Sheddable)).get(hold));
}

struct Bench(Arc<Served>);

impl Bench {
    fn new(limits: &AdmissionLimits) -> Self {
        Self::with(limits, RequestGuard::new())
    }

    fn with(limits: &AdmissionLimits, requests: RequestGuard) -> Self {
        let admission = Admission::new(limits, &ConnectionLimits::default()).unwrap();
        let edge = Edge::new().requests(requests).admission(admission);
        Self(Arc::new(Served::with(edge, routes)))
    }

    fn around(admission: Admission) -> Self {
        Self(Arc::new(Served::with(Edge::new().admission(admission), routes)))
    }

    fn counts(&self) -> AdmissionCounts {
        self.0.edge.counts().admission
    }

    /// Asks, and leaves the answer for later.
    fn begin(&self, request: Request) -> JoinHandle<Answer> {
        let server = Arc::clone(&self.0);
        tokio::spawn(async move { server.ask(request).await })
    }

    async fn begin_all(&self, paths: &[&str]) -> Vec<JoinHandle<Answer>> {
        let before = self.counts();
        let begun = paths.iter().map(|path| self.begin(Request::get(path))).collect();
        self.settled(before.serving + before.waiting + paths.len()).await;
        begun
    }

    /// Waits until this many are served or wait.
    async fn settled(&self, count: usize) {
        let here = || self.counts().serving + self.counts().waiting;
        eventually("all have arrived", || here() == count).await;
    }

    async fn open(&self, count: usize) -> usize {
        let answer = self.0.ask(Request::get(&format!("/open/{count}"))).await;
        String::from_utf8(answer.body).unwrap().parse().unwrap()
    }
}

#[tokio::test]
async fn one_past_the_limit_waits_and_one_past_the_queue_is_refused_and_told_when_to_come_back() {
    let bench = Bench::new(&limits());
    let inside = bench.begin_all(&["/hold", "/hold", "/hold"]).await;
    assert_eq!((bench.counts().serving, bench.counts().waiting), (2, 1));
    assert_eq!(bench.open(0).await, 2, "the third has not reached its handler");

    let mut wire = bench.0.connect().await;
    let body = Request::new("POST", "/hold").header("content-length", "5");
    let refused = wire.ask(body).await.unwrap();
    let problem = refused.expect(503, "admission.overloaded");
    assert_eq!(problem["retryable"], true);
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1..=3).contains(&wait), "{wait}");

    bench.open(3).await;
    for answer in inside {
        assert_eq!(answer.await.unwrap().status, 200);
    }
    eventually("all places are free", || bench.counts().serving == 0).await;
    let normal = bench.counts().normal;
    assert_eq!((normal.admitted, normal.queued, normal.shed_full), (3, 1, 1));
    assert!(!bench.0.log().iter().any(|line| line["message"] == "http.failed"));
    let told = |line: &&serde_json::Value| line["message"] == "admission.shedding";
    assert_eq!(bench.0.log().iter().filter(told).count(), 1);
}

#[tokio::test]
async fn the_lowest_class_is_shed_first_and_critical_goes_before_all() {
    let mut limits = limits();
    limits.queue.max = 2;
    let bench = Bench::new(&limits);
    let mut inside = bench.begin_all(&["/hold", "/hold"]).await;
    let mut waiting = bench.begin_all(&["/sheddable", "/hold"]).await.into_iter();
    let critical = bench.begin(Request::get("/critical"));
    let shed = waiting.next().unwrap().await.unwrap();
    shed.expect(503, "admission.overloaded");
    let no_room = bench.0.ask(Request::get("/sheddable")).await;
    no_room.expect(503, "admission.overloaded");

    bench.open(1).await;
    let first = inside.remove(0);
    tokio::select! {
        answer = first => assert_eq!(answer.unwrap().status, 200),
        answer = &mut inside[0] => assert_eq!(answer.unwrap().status, 200),
    }
    eventually("a place was given on", || bench.counts().waiting == 1).await;
    let counts = bench.counts();
    assert_eq!((counts.critical.admitted, counts.normal.admitted), (1, 2));
    assert_eq!((counts.sheddable.shed_full, counts.sheddable.admitted), (2, 0));
    bench.open(3).await;
    let critical = critical.await.unwrap();
    assert_eq!(critical.body, b"Critical", "the class is part of the context");
    assert_eq!(waiting.next().unwrap().await.unwrap().status, 200);
}

#[tokio::test]
async fn one_whose_deadline_comes_in_the_queue_is_told_503_and_not_504() {
    let bench = Bench::new(&limits());
    let inside = bench.begin_all(&["/hold", "/hold"]).await;
    let hasty = Request::get("/hold").header("x-request-timeout-ms", "80");
    let expired = bench.0.ask(hasty).await;
    expired.expect(503, "admission.expired");
    assert_eq!(bench.counts().normal.shed_expired, 1);
    assert_eq!(bench.0.edge.counts().deadlines, 0);
    assert_eq!(bench.open(2).await, 2, "its handler never ran");
    for answer in inside {
        assert_eq!(answer.await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn in_a_queue_that_stands_requests_are_refused_after_the_target_and_the_interval() {
    let mut limits = limits();
    (limits.queue.target, limits.queue.interval) = (ms(5), ms(100));
    let bench = Bench::new(&limits);
    let inside = bench.begin_all(&["/hold", "/hold"]).await;
    let late = bench.0.ask(Request::get("/hold")).await;
    late.expect(503, "admission.overloaded");
    assert_eq!(bench.counts().normal.shed_late, 1);
    bench.open(2).await;
    for answer in inside {
        assert_eq!(answer.await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn a_class_is_believed_only_from_trusted_peers() {
    let asks = || Request::get("/hold").header("x-request-priority", "critical");
    let class = async |bench: &Bench, request: Request| {
        bench.open(1).await;
        let answer = bench.0.ask(request).await;
        String::from_utf8(answer.body).unwrap()
    };
    let bench = Bench::new(&limits());
    assert_eq!(class(&bench, asks()).await, "Normal", "by default nobody is trusted");
    let trusting = RequestGuard::new().trust_priority(TrustPolicy::Loopback);
    let bench = Bench::with(&limits(), trusting);
    assert_eq!(class(&bench, asks()).await, "Critical");
    let lower = Request::get("/critical").header("x-request-priority", "Sheddable");
    assert_eq!(class(&bench, lower).await, "Sheddable", "it holds instead of the route's");
    let twice = asks().header("x-request-priority", "high");
    assert_eq!(class(&bench, twice).await, "Normal");
    let nonsense = Request::get("/critical").header("x-request-priority", "urgent");
    assert_eq!(class(&bench, nonsense).await, "Critical");
    eventually("all are done", || bench.counts().serving == 0).await;
    let counts = bench.counts();
    assert_eq!((counts.critical.admitted, counts.sheddable.admitted), (2, 1));
}

#[tokio::test]
async fn a_place_is_held_until_the_end_of_a_streamed_body() {
    let bench = Bench::new(&limits());
    let mut wires = Vec::new();
    for _ in 0..2 {
        let mut wire: Wire = bench.0.connect().await;
        let close = Request::get("/stream").header("connection", "close");
        assert_eq!(wire.ask(close).await.unwrap().status, 200);
        wires.push(wire);
    }
    assert_eq!(bench.counts().serving, 2, "their heads are here, their bodies are not");
    let third = bench.begin_all(&["/quick"]).await;
    bench.open(1).await;
    assert_eq!(third.into_iter().next().unwrap().await.unwrap().status, 200);
    bench.open(1).await;
    for wire in wires {
        assert!(wire.rest().await.contains("second"));
    }
    eventually("all places are free", || bench.counts().serving == 0).await;
}

#[tokio::test]
async fn a_client_that_leaves_gives_back_its_place_or_its_turn() {
    let bench = Bench::new(&limits());
    let mut wires = Vec::new();
    for count in 1..=3 {
        let mut wire = bench.0.connect().await;
        wire.send(&Request::get("/hold")).await;
        bench.settled(count).await;
        wires.push(wire);
    }
    wires.pop().unwrap().reset();
    eventually("the turn is given up", || bench.counts().waiting == 0).await;
    assert_eq!(bench.counts().normal.gone, 1);
    let next = bench.begin_all(&["/hold"]).await;
    wires.pop().unwrap().reset();
    eventually("the place is given on", || bench.counts().waiting == 0).await;
    assert_eq!(bench.counts().serving, 2);
    bench.open(2).await;
    assert_eq!(next.into_iter().next().unwrap().await.unwrap().status, 200);
    eventually("all places are free", || bench.counts().serving == 0).await;
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_of_a_streamed_body_gives_back_its_place() {
    let bench = Bench::new(&limits());
    let mut wires = Vec::new();
    for _ in 0..2 {
        let mut wire = bench.0.connect().await;
        let close = Request::get("/stream").header("connection", "close");
        assert_eq!(wire.ask(close).await.unwrap().status, 200);
        wires.push(wire);
    }
    assert_eq!(bench.counts().serving, 2);
    let waiting = bench.begin_all(&["/quick"]).await;
    wires.pop().unwrap().reset();
    for answer in waiting {
        assert_eq!(answer.await.unwrap().status, 200, "the place is given on");
    }
    wires.pop().unwrap().reset();
    eventually("all places are free", || bench.counts().serving == 0).await;
}

#[tokio::test]
async fn the_lowest_class_never_waits_for_ever_behind_others() {
    let mut limits = limits();
    limits.queue.max = 8;
    (limits.queue.target, limits.queue.interval) = (ms(20), ms(100));
    let bench = Arc::new(Bench::new(&limits));
    bench.open(100_000).await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let others = (0..6).map(|_| {
        let (bench, stopped) = (Arc::clone(&bench), stopped.clone());
        tokio::spawn(async move {
            while !*stopped.borrow() {
                bench.0.ask(Request::get("/critical")).await;
            }
        })
    });
    let others: Vec<_> = others.collect();
    for _ in 0..20 {
        // Whoever asks has patience for ten seconds.
        let status = bench.0.ask(Request::get("/sheddable")).await.status;
        assert!(matches!(status, 200 | 503), "{status}");
    }
    stop.send_replace(true);
    for other in others {
        other.await.unwrap();
    }
    assert_eq!(bench.0.ask(Request::get("/sheddable")).await.status, 200);
    eventually("nobody is left", || bench.counts().serving + bench.counts().waiting == 0).await;
}

/// One request per second and client, three at once.
fn three_at_once() -> AdmissionLimits {
    let mut limits = AdmissionLimits::default();
    (limits.rate.per_second, limits.rate.burst) = (1, 3);
    limits
}

#[tokio::test]
async fn one_client_may_send_so_much_and_is_told_how_long_to_wait() {
    let bench = Bench::new(&three_at_once());
    let mut wire = bench.0.connect().await;
    let mut refused = 0;
    for number in 0..20 {
        // Nobody trusts it to name another client.
        let other = format!("198.51.100.{number}");
        let request = Request::get("/quick").header("x-forwarded-for", &other);
        let answer = wire.ask(request).await.unwrap();
        if answer.status == 429 {
            let problem = answer.expect(429, "admission.rate_limited");
            assert_eq!(problem["retryable"], true);
            assert!((1..=2).contains(&answer.header("retry-after").parse().unwrap()));
            refused += 1;
        } else {
            assert_eq!(answer.body, b"quick");
        }
    }
    assert!(refused >= 10, "{refused}");
    let counts = bench.counts();
    assert_eq!((counts.rate_limited, counts.normal.admitted), (refused, 0), "no class is counted");
    for _ in 0..20 {
        assert_eq!(bench.0.ask(Request::get("/open/0")).await.status, 200, "it is always admitted");
    }
}

#[tokio::test]
async fn behind_a_trusted_proxy_each_client_has_its_own_quota() {
    let mut connections = ConnectionLimits::default();
    connections.trusted = vec!["127.0.0.0/8".parse().unwrap()];
    let bench = Bench::around(Admission::new(&three_at_once(), &connections).unwrap());
    let ask = async |client: &str| {
        let request = Request::get("/quick").header("x-forwarded-for", client);
        bench.0.ask(request).await.status
    };
    for _ in 0..20 {
        ask("198.51.100.1").await;
    }
    let refused = bench.counts().rate_limited;
    assert!(refused >= 10, "{refused}");
    for _ in 0..3 {
        assert_eq!(ask("198.51.100.2").await, 200);
        assert_eq!(ask("198.51.100.1, 2001:db8::1").await, 200, "what a client wrote itself");
    }
    for _ in 0..20 {
        assert_eq!(bench.0.ask(Request::get("/quick")).await.status, 200, "the proxy itself");
    }
}

#[tokio::test]
async fn each_of_many_clients_is_told_429_for_itself_alone() {
    let mut connections = ConnectionLimits::default();
    connections.trusted = vec!["127.0.0.0/8".parse().unwrap()];
    let bench = Bench::around(Admission::new(&three_at_once(), &connections).unwrap());
    let mut proxy = bench.0.connect().await;
    let mut refused = 0;
    for number in 0..20 {
        let client = format!("198.51.100.{number}");
        for count in 0..20 {
            let request = Request::get("/quick").header("x-forwarded-for", &client);
            let answer = proxy.ask(request).await.unwrap();
            assert!(count >= 3 || answer.status == 200, "{client} {count}: {}", answer.status);
            refused += u64::from(answer.status == 429);
        }
    }
    assert!(refused >= 200, "{refused}");
    assert_eq!(bench.counts().rate_limited, refused);
}

#[actix_web::test]
async fn probes_are_exempt_and_readiness_tells_of_shedding() {
    let mut settings = Settings::default();
    settings.admission.limit = 1;
    settings.admission.queue.max = 0;
    let runtime = Steadfast::builder().config(settings).start().unwrap();
    let app = App::new()
        .configure(|app| runtime.configure(app))
        .route("/pending", web::get().to(std::future::pending::<HttpResponse>))
        .wrap(from_fn(async |request, next: Next<_>| {
            tokio::task::yield_now().await;
            next.call(request).await
        }))
        .wrap(runtime.edge());
    let app = actix_web::test::init_service(app).await;
    let ask = |path: &str| {
        actix_web::test::try_call_service(
            &app,
            actix_web::test::TestRequest::get().uri(path).to_request(),
        )
    };
    let held = ask("/pending");
    tokio::pin!(held);
    assert!(held.as_mut().now_or_never().is_none());
    let refused = ask("/pending").await.unwrap_err();
    assert_eq!(refused.as_response_error().status_code(), 503);
    assert_eq!(ask("/livez").await.unwrap().status(), 200, "though its route is not known yet");
    assert!(ask("/livez/").await.is_err(), "nothing else is exempt");
    eventually("readiness is degraded", || {
        let report = runtime.health().readiness();
        let line = report.items.iter().find(|item| &*item.name == "admission");
        line.is_some_and(|line| line.status == Status::Degraded)
    })
    .await;
    assert_eq!(runtime.edge().counts().admission.normal.shed_full, 2);
    runtime.stop().await;
}

//! A route that panics too often rests, and is tried again.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use actix_web::test::{TestRequest, init_service, try_call_service};
use actix_web::web::{self, ServiceConfig};
use actix_web::{App, HttpResponse};
use steadfast::Steadfast;
use steadfast::config::Settings;
use steadfast::edge::{Edge, PanicGuard, PanicLimits, Recover};
use steadfast::health::Status;

use super::support::{Request, Served, eventually};

fn limits() -> PanicLimits {
    let mut limits = PanicLimits::default();
    (limits.percent, limits.requests, limits.rest) = (50, 4, Duration::from_millis(100));
    limits
}

static HEALED: AtomicBool = AtomicBool::new(false);
static CALLS: AtomicUsize = AtomicUsize::new(0);

async fn poisoned() -> HttpResponse {
    CALLS.fetch_add(1, Ordering::SeqCst);
    assert!(HEALED.load(Ordering::SeqCst), "boom");
    HttpResponse::Ok().finish()
}

/// Panics at every third.
async fn shaky(number: web::Path<u32>) -> HttpResponse {
    assert!(!number.into_inner().is_multiple_of(3), "boom");
    HttpResponse::Ok().finish()
}

fn routes(app: &mut ServiceConfig) {
    app.route("/poisoned/{id}", web::get().to(poisoned))
        .route("/shaky/{number}", web::get().to(shaky))
        .route("/ok", web::get().to(|| async { "fine" }));
}

fn serve(guard: &PanicGuard) -> Served {
    Served::with(Edge::new().recover(Recover::new().guard(guard.clone())), routes)
}

#[tokio::test]
async fn a_route_that_panics_too_often_rests_and_others_do_not() {
    let guard = PanicGuard::new(&limits()).unwrap();
    let server = serve(&guard);
    for id in 0..4 {
        let answer = server.ask(Request::get(&format!("/poisoned/{id}"))).await;
        answer.expect(500, "internal.panic");
    }
    assert_eq!(
        guard.resting().iter().map(|route| &**route).collect::<Vec<_>>(),
        ["/poisoned/{id}"]
    );
    assert_eq!(server.ask(Request::get("/ok")).await.status, 200);

    // A trial that fails lengthens the rest, so that it is refused for long enough to be seen.
    let refused = loop {
        let answer = server.ask(Request::get("/poisoned/4")).await;
        if answer.status == 503 {
            break answer;
        }
    };
    let calls = CALLS.load(Ordering::SeqCst);
    assert_eq!(refused.expect(503, "route.resting")["retryable"], true);
    let counts = server.edge.counts();
    assert_eq!(counts.panics, u64::try_from(calls).unwrap(), "its handler did not run");
    assert!(counts.resting >= 1);

    HEALED.store(true, Ordering::SeqCst);
    for _ in 0..1000 {
        server.ask(Request::get("/poisoned/5")).await;
        if guard.resting().is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(guard.resting().is_empty(), "the trials went well");
    assert_eq!(server.ask(Request::get("/poisoned/6")).await.status, 200);
}

#[tokio::test]
async fn a_route_that_panics_less_than_the_share_does_not_rest() {
    let mut limits = limits();
    limits.requests = 10;
    let guard = PanicGuard::new(&limits).unwrap();
    let server = serve(&guard);
    for number in 1..40 {
        let answer = server.ask(Request::get(&format!("/shaky/{number}"))).await;
        assert_eq!(answer.status, if number % 3 == 0 { 500 } else { 200 }, "{number}");
    }
    assert!(guard.resting().is_empty());
    assert_eq!(server.edge.counts().resting, 0);
}

#[tokio::test]
async fn without_a_guard_a_route_never_rests() {
    let off = PanicGuard::new(&PanicLimits::default()).unwrap();
    let server = serve(&off);
    for _ in 0..50 {
        server.ask(Request::get("/shaky/3")).await.expect(500, "internal.panic");
    }
}

#[actix_web::test]
async fn readiness_names_the_routes_that_rest() {
    let mut settings = Settings::default();
    (settings.panics, settings.panics.rest) = (limits(), Duration::from_secs(60));
    let runtime = Steadfast::builder().config(settings).start().unwrap();
    let app = App::new().configure(|app| runtime.configure(app)).configure(routes);
    // Another observer does not take the guard of the settings away.
    let edge = runtime.edge().recover(Recover::new().on_panic(|_| {}));
    let app = init_service(app.wrap(edge)).await;
    for _ in 0..4 {
        let request = TestRequest::get().uri("/shaky/3").to_request();
        let error = try_call_service(&app, request).await.unwrap_err();
        assert_eq!(error.as_response_error().status_code(), 500);
    }
    eventually("readiness is degraded", || {
        let report = runtime.health().readiness();
        let line = report.items.iter().find(|item| &*item.name == "panics");
        line.is_some_and(|line| {
            line.status == Status::Degraded
                && line.reason.as_deref() == Some("resting: /shaky/{number}")
        })
    })
    .await;
    runtime.stop().await;
}

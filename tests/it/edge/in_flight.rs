//! What operators see of the requests being served.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::Method;
use actix_web::web::{self, Bytes, ServiceConfig};
use futures_util::{StreamExt, stream};
use steadfast::edge::{
    Admission, AdmissionLimits, ConnectionLimits, Deadline, Edge, FlightPhase, InFlightRequest,
};

use super::support::{Request, Served, eventually};

async fn hang() -> HttpResponse {
    std::future::pending().await
}

async fn stream() -> HttpResponse {
    let first = stream::iter([Ok::<_, actix_web::Error>(Bytes::from("first"))]);
    HttpResponse::Ok().streaming(first.chain(stream::pending()))
}

fn routes(app: &mut ServiceConfig) {
    let long = Deadline::after(Duration::from_secs(100));
    app.route("/quick", web::get().to(|| async { "quick" }))
        .service(web::resource("/hang/{id}").wrap(long).post(hang))
        .service(web::scope("/a").route("/stream", web::get().to(stream)));
}

fn find(server: &Served, id: &str) -> Option<InFlightRequest> {
    let all = server.in_flight.requests();
    assert_eq!(all.unlisted, 0);
    all.requests.into_iter().find(|request| request.id.as_str() == id)
}

async fn sees(server: &Served, id: &str, phase: FlightPhase) -> InFlightRequest {
    let found = || find(server, id).filter(|request| request.phase == phase);
    eventually("it is seen", || found().is_some_and(|request| request.route.is_some())).await;
    found().unwrap()
}

#[tokio::test]
async fn a_request_is_listed_with_its_phase_from_its_head_to_its_end() {
    let mut limits = AdmissionLimits::default();
    (limits.limit, limits.queue.target) = (2, Duration::from_secs(10));
    limits.queue.interval = Duration::from_secs(10);
    let admission = Admission::new(&limits, &ConnectionLimits::default()).unwrap();
    let server = Served::with(Edge::new().admission(admission), routes);

    let mut handled = server.connect().await;
    let ask = Request::new("POST", "/hang/7?secret=1").header("x-request-id", "handled");
    handled.send(&ask).await;
    let seen = sees(&server, "handled", FlightPhase::Handling).await;
    assert_eq!((seen.method, seen.route.as_deref()), (Method::POST, Some("/hang/{id}")));
    let (left, age) = (seen.remaining.unwrap(), seen.age);
    assert!(left + age > Duration::from_secs(99), "the route's deadline: {left:?} {age:?}");

    let mut written = server.connect().await;
    let ask = Request::get("/a/stream").header("x-request-id", "written");
    written.send(&ask).await;
    let seen = sees(&server, "written", FlightPhase::Writing).await;
    assert_eq!(seen.route.as_deref(), Some("/a/stream"));

    let mut queued = server.connect().await;
    queued.send(&Request::get("/quick").header("x-request-id", "queued")).await;
    let seen = sees(&server, "queued", FlightPhase::Queued).await;
    assert_eq!(seen.route.as_deref(), Some("/quick"));
    let ids: Vec<_> = server.in_flight.requests().requests;
    let ids: Vec<_> = ids.iter().map(|request| request.id.as_str()).collect();
    assert_eq!(ids, ["handled", "written", "queued"], "the oldest first");

    handled.reset();
    eventually("it is gone, and the queued one was served", || {
        find(&server, "handled").is_none() && find(&server, "queued").is_none()
    })
    .await;
    written.reset();
    eventually("nobody is left", || server.in_flight.requests().requests.is_empty()).await;
}

//! What is recorded of a request.

use std::sync::{Arc, Mutex};

use actix_web::test::TestRequest;
use actix_web::web::{self, ServiceConfig};
use actix_web::{App, HttpResponse};
use steadfast::edge::{Edge, RequestGuard};
use steadfast::kernel::{RequestContext, Spec, Tree};
use steadfast::problem::Problem;
use tracing::Subscriber;
use tracing::span::Id;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer};

use super::support::{Request, Served};

async fn logs() -> HttpResponse {
    tracing::info!("inside");
    let inner = async {
        tracing::info!("deeper");
    };
    inner.await;
    HttpResponse::Created().finish()
}

fn routes(app: &mut ServiceConfig) {
    app.service(web::scope("/orders").route("/{id}/logs", web::post().to(logs)));
}

#[tokio::test]
async fn one_event_per_request_names_the_route_and_never_the_path() {
    let server = Served::start(routes);
    let request = Request::new("POST", "/orders/secret-7/logs?token=secret");
    server.ask(request.header("x-request-id", "log-1")).await;
    let record = server.record("log-1").await;
    let fields = &record["fields"];
    assert_eq!((&fields["method"], &fields["status"]), (&"POST".into(), &201.into()));
    assert_eq!(fields["route"], "/orders/{id}/logs");
    assert_eq!(fields["outcome"], "complete");
    assert!(fields["elapsed_us"].is_u64());
    server.ask(Request::get("/nowhere").header("x-request-id", "log-2")).await;
    assert_eq!(server.record("log-2").await["fields"]["route"], "unmatched");
    let log = server.log();
    let records = log.iter().filter(|line| line["message"] == "http.finished");
    assert_eq!(records.count(), 2);
    assert!(!format!("{log:?}").contains("secret"), "{log:?}");
}

#[tokio::test]
async fn every_line_of_a_request_carries_its_id() {
    let server = Served::start(routes);
    server.ask(Request::new("POST", "/orders/7/logs").header("x-request-id", "log-3")).await;
    server.record("log-3").await;
    let log = server.log();
    for message in ["inside", "deeper", "http.finished"] {
        let line = log.iter().find(|line| line["message"] == message).unwrap();
        assert_eq!(line["request_id"], "log-3", "{line}");
    }
}

#[tokio::test]
async fn a_guard_inside_a_guard_inherits_the_request() {
    fn routes(app: &mut ServiceConfig) {
        let twice = web::scope("/twice").wrap(RequestGuard::new()).wrap(Edge::new());
        app.service(twice.route("/logs", web::get().to(logs)));
    }
    let server = Served::start(routes);
    let answer = server.ask(Request::get("/twice/logs")).await;
    let id = answer.header("x-request-id").to_owned();
    server.record(&id).await;
    let log = server.log();
    let records = log.iter().filter(|line| line["message"] == "http.finished");
    assert_eq!(records.count(), 1);
    let inside = log.iter().find(|line| line["message"] == "inside").unwrap();
    assert_eq!(inside["request_id"], id.as_str());
}

#[tokio::test]
async fn the_parts_can_be_had_one_by_one() {
    fn routes(app: &mut ServiceConfig) {
        app.route("/panic", web::get().to(|| async { panic!("boom") as HttpResponse }))
            .route("/hang", web::get().to(std::future::pending::<HttpResponse>))
            .route("/logs", web::post().to(logs));
    }
    let server = Served::in_parts(routes);
    let mut wire = server.connect().await;
    wire.ask(Request::get("/panic")).await.unwrap().expect(500, "internal.panic");
    wire.ask(Request::get("/nowhere")).await.unwrap().expect(404, "route.not_found");
    wire.ask(Request::get("/logs")).await.unwrap().expect(405, "route.method_not_allowed");
    let late = Request::get("/hang").header("x-request-timeout-ms", "10");
    let late = wire.ask(late.header("x-request-id", "late")).await.unwrap();
    assert_eq!((late.status, late.header("x-request-id")), (504, "late"));
    assert_eq!(server.record("late").await["fields"]["status"], 504);
    assert_eq!(server.in_flight.count(), 0);
}

/// Remembers which span follows from which, by name.
#[derive(Clone, Default)]
struct Links(Arc<Mutex<Vec<(String, String)>>>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Links {
    fn on_follows_from(&self, span: &Id, follows: &Id, cx: Context<'_, S>) {
        let name = |id: &Id| cx.span(id).map_or("gone", |span| span.name()).to_owned();
        self.0.lock().unwrap().push((name(span), name(follows)));
    }
}

struct Echo;

impl actix::Actor for Echo {
    type Context = steadfast::kernel::Context<Self>;
}

#[derive(actix::Message)]
#[rtype(result = "String")]
struct WhoAsks;

impl actix::Handler<WhoAsks> for Echo {
    type Result = String;

    fn handle(&mut self, _: WhoAsks, _: &mut Self::Context) -> String {
        RequestContext::current().map_or_else(String::new, |context| context.id().to_string())
    }
}

#[actix_web::test]
async fn a_message_carries_the_request_and_its_span_follows_from_the_requests() {
    let links = Links::default();
    let subscriber = tracing_subscriber::registry().with(links.clone());
    let _default = tracing::subscriber::set_default(subscriber);
    let tree = Tree::new();
    let echo = tree.start(Spec::new("echo", || Echo));
    let ask = move || {
        let echo = echo.clone();
        async move { echo.call(WhoAsks).await.map_err(Problem::from) }
    };
    let app = App::new().route("/", web::get().to(ask)).wrap(Edge::new());
    let app = actix_web::test::init_service(app).await;
    let request = TestRequest::get().uri("/").insert_header(("x-request-id", "asks-7"));
    let answer = actix_web::test::call_service(&app, request.to_request()).await;
    assert_eq!(actix_web::test::read_body(answer).await, "asks-7");
    let links = links.0.lock().unwrap().clone();
    assert_eq!(links, [("message".to_owned(), "http.request".to_owned())]);
}

/// Remembers from where events came.
#[derive(Clone, Default)]
struct Sources(Arc<Mutex<Vec<&'static str>>>);

impl<S: Subscriber> Layer<S> for Sources {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        self.0.lock().unwrap().push(event.metadata().target());
    }
}

#[actix_web::test]
async fn a_filter_may_ask_for_what_happens_in_a_request_by_the_name_of_its_span() {
    let sources = Sources::default();
    let filter = EnvFilter::new("warn,[http.request]=info");
    let subscriber = tracing_subscriber::registry().with(filter).with(sources.clone());
    let _default = tracing::subscriber::set_default(subscriber);
    let app = actix_web::test::init_service(App::new().configure(routes).wrap(Edge::new())).await;
    let request = TestRequest::post().uri("/orders/7/logs").to_request();
    actix_web::test::call_and_read_body(&app, request).await;
    let sources = sources.0.lock().unwrap().clone();
    assert_eq!(sources, [module_path!(), module_path!(), "steadfast::access"]);
}

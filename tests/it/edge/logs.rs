//! What is recorded of a request.

use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpResponse, middleware};
use steadfast::edge::{Edge, Normalise, Recover, RequestGuard};

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
async fn the_parts_can_be_had_one_by_one() {
    fn routes(app: &mut ServiceConfig) {
        let panics = || async { panic!("boom") as HttpResponse };
        let scope = web::scope("/parts")
            .route("/panic", web::get().to(panics))
            .wrap(Recover::new())
            .wrap(Normalise::new())
            .wrap(RequestGuard::new())
            .wrap(middleware::DefaultHeaders::new().add(("x-outer", "yes")));
        let recover = web::scope("/recover").route("", web::get().to(panics)).wrap(Recover::new());
        app.service(scope).service(recover);
    }
    let server = Served::with(Edge::new(), routes);
    for path in ["/parts/panic", "/recover"] {
        let mut wire = server.connect().await;
        wire.ask(Request::get(path)).await.unwrap().expect(500, "internal.panic");
        assert_eq!(wire.ask(Request::get("/nowhere")).await.unwrap().status, 404, "after {path}");
    }
}

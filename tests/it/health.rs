//! The probes over HTTP, and liveness against a worker that is really stuck.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use actix_web::http::{Method, StatusCode, header};
use actix_web::test::{TestRequest, call_service, init_service, read_body};
use actix_web::{App, HttpServer, web};
use serde_json::{Value, json};
use steadfast::Steadfast;
use steadfast::config::Settings;
use steadfast::health::{CheckCx, CheckError, CheckSpec, Detail, Status};

use crate::wire::{eventually, get, listener};

/// A runtime with a check `db` that holds while the flag is set.
fn runtime() -> (Steadfast, Arc<AtomicBool>) {
    let holds = Arc::new(AtomicBool::new(true));
    let read = Arc::clone(&holds);
    let check = move |_: CheckCx| {
        let holds = read.load(Ordering::SeqCst);
        let refused = || CheckError::new("refused by 10.0.0.7");
        std::future::ready(holds.then(Detail::ok).ok_or_else(refused))
    };
    let mut runtime = Steadfast::builder();
    let spec = CheckSpec::new("db", check).every(Duration::from_millis(20));
    runtime.check(spec.fail_after(1).recover_after(1));
    let steadfast = runtime.start().unwrap();
    eventually("all is up", || steadfast.health().readiness().status == Status::Up);
    (steadfast, holds)
}

struct Probe {
    status: StatusCode,
    headers: header::HeaderMap,
    body: String,
}

async fn probe(steadfast: &Steadfast, private: bool, request: TestRequest) -> Probe {
    let probes = if private { steadfast.probes().with_reasons() } else { steadfast.probes() };
    let app = init_service(App::new().configure(|app| probes.configure(app))).await;
    let response = call_service(&app, request.to_request()).await;
    let (status, headers) = (response.status(), response.headers().clone());
    let body = String::from_utf8(read_body(response).await.to_vec()).unwrap();
    Probe { status, headers, body }
}

#[actix_web::test]
async fn a_ready_process_says_ok_and_is_never_cached() {
    let (steadfast, _) = runtime();
    for path in ["/livez", "/readyz", "/startupz"] {
        let answer = probe(&steadfast, false, TestRequest::get().uri(path)).await;
        assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, "ok"), "{path}");
        assert_eq!(answer.headers.get(header::CACHE_CONTROL).unwrap(), "no-store", "{path}");
        assert!(!answer.headers.contains_key(header::RETRY_AFTER), "{path}");
    }
    let head = probe(&steadfast, false, TestRequest::default().method(Method::HEAD).uri("/readyz"));
    assert_eq!(head.await.status, StatusCode::OK);
    let post = probe(&steadfast, false, TestRequest::post().uri("/readyz")).await;
    assert_eq!(post.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[actix_web::test]
async fn verbose_names_every_check_and_a_failure_always_does() {
    let (steadfast, holds) = runtime();
    let verbose = probe(&steadfast, false, TestRequest::get().uri("/readyz?verbose")).await;
    let expected = "[+]shutdown ok\n[+]startup ok\n[+]db ok\n[+]actor:actors ok\n\
                    [+]actor:health ok\n[+]supervision ok\nreadyz check passed\n";
    assert_eq!(verbose.body, expected);
    holds.store(false, Ordering::SeqCst);
    eventually("it is not ready", || !steadfast.health().readiness().is_ready());
    let failed = probe(&steadfast, false, TestRequest::get().uri("/readyz")).await;
    assert_eq!(failed.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(failed.headers.get(header::RETRY_AFTER).unwrap(), "5");
    assert!(failed.body.contains("[-]db failed: reason withheld\n"), "{}", failed.body);
    assert!(failed.body.ends_with("readyz check failed\n"), "{}", failed.body);
    let live = probe(&steadfast, false, TestRequest::get().uri("/livez")).await;
    assert_eq!(live.status, StatusCode::OK, "a dependency is no reason to restart");
    let private = probe(&steadfast, true, TestRequest::get().uri("/readyz")).await;
    assert!(private.body.contains("[-]db failed: refused by 10.0.0.7\n"), "{}", private.body);
    let without = TestRequest::get().uri("/readyz?exclude=db");
    assert_eq!(probe(&steadfast, false, without).await.status, StatusCode::OK);
    holds.store(true, Ordering::SeqCst);
    eventually("it is ready again", || steadfast.health().readiness().is_ready());
}

#[actix_web::test]
async fn whoever_accepts_json_gets_the_health_document() {
    let (steadfast, holds) = runtime();
    holds.store(false, Ordering::SeqCst);
    eventually("it is not ready", || !steadfast.health().readiness().is_ready());
    for accept in ["application/health+json", "application/json"] {
        let request = || TestRequest::get().uri("/readyz").insert_header(("accept", accept));
        let answer = probe(&steadfast, false, request()).await;
        assert_eq!(answer.headers.get(header::CONTENT_TYPE).unwrap(), "application/health+json");
        let document: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(document["status"], "fail");
        assert_eq!(document["checks"]["db"], json!([{ "status": "fail", "critical": true }]));
        let private = probe(&steadfast, true, request()).await;
        let document: Value = serde_json::from_str(&private.body).unwrap();
        assert_eq!(document["checks"]["db"][0]["output"], "refused by 10.0.0.7");
    }
}

#[actix_web::test]
async fn a_group_that_does_not_exist_is_not_found() {
    let (steadfast, _) = runtime();
    let known = probe(&steadfast, false, TestRequest::get().uri("/readyz?group=ready&verbose"));
    assert_eq!(known.await.body, "[+]db ok\nreadyz check passed\n");
    let unknown = probe(&steadfast, false, TestRequest::get().uri("/readyz?group=nobody"));
    assert_eq!(unknown.await.status, StatusCode::NOT_FOUND);
}

#[actix_web::test]
async fn a_wedged_worker_is_named_by_a_probe_on_another_listener() {
    let mut settings = Settings::default();
    settings.health.wedged_after = Duration::from_secs(1);
    let steadfast = Steadfast::builder().config(settings).start().unwrap();
    let (release, wedged) = mpsc::channel::<()>();
    let wedged = Arc::new(Mutex::new(wedged));
    let (app, app_address) = listener();
    let wired = steadfast.clone();
    let server = HttpServer::new(move || {
        let wedged = Arc::clone(&wedged);
        let wedge = move || {
            // Blocks its event loop, as no handler should.
            let _closed = wedged.lock().unwrap().recv();
            async { "free" }
        };
        let wired = wired.clone();
        App::new().configure(move |app| wired.configure(app)).route("/wedge", web::get().to(wedge))
    });
    let server = server.workers(1).listen(app).unwrap().disable_signals().run();
    let (admin, admin_address) = listener();
    let probes = steadfast.probes().with_reasons();
    let watcher = HttpServer::new(move || {
        let probes = probes.clone();
        App::new().configure(move |app| probes.configure(app))
    });
    let watcher = watcher.workers(1).listen(admin).unwrap().disable_signals().run();
    let handles = [server.handle(), watcher.handle()];
    actix_web::rt::spawn(server);
    actix_web::rt::spawn(watcher);
    let observed = web::block(move || {
        assert_eq!(get(app_address, "/livez").status(), 200);
        let stuck = std::thread::spawn(move || get(app_address, "/wedge").status());
        let mut last = get(admin_address, "/livez?verbose");
        eventually("the wedge is reported", || {
            last = get(admin_address, "/livez?verbose");
            last.status() == 503
        });
        drop(release);
        eventually("it recovers", || get(admin_address, "/livez").status() == 200);
        (format!("{last:?}"), stuck.join().unwrap())
    });
    let (report, stuck) = observed.await.unwrap();
    assert!(report.contains("[-]web-1 failed: its event loop has not turned for"), "{report}");
    assert!(report.contains("[+]actors-1 ok"), "{report}");
    assert_eq!(stuck, 200);
    for handle in handles {
        handle.stop(false).await;
    }
}

//! The way out of a whole runtime, with what may be under way.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use actix_web::web::{self, Bytes};
use actix_web::{App, HttpResponse};
use futures_util::{StreamExt, stream};
use steadfast::Steadfast;
use steadfast::config::Settings;
use steadfast::edge::{Drained, EdgeServer, ShutdownTrigger};

use super::support::ms;
use crate::edge::support::eventually;
use crate::support::attackers::Attacker;

#[derive(Debug, Default)]
struct Seen {
    begun: AtomicUsize,
    finished: AtomicUsize,
}

async fn work(seen: web::Data<Seen>, path: web::Path<u64>) -> &'static str {
    seen.begun.fetch_add(1, Ordering::SeqCst);
    tokio::time::sleep(ms(*path)).await;
    seen.finished.fetch_add(1, Ordering::SeqCst);
    "done"
}

async fn endless(seen: web::Data<Seen>) -> HttpResponse {
    seen.begun.fetch_add(1, Ordering::SeqCst);
    let first = stream::iter([Ok::<_, actix_web::Error>(Bytes::from_static(b"first"))]);
    HttpResponse::Ok().streaming(first.chain(stream::pending()))
}

/// Serves these clients, until one of them begins a drain with 2 s for requests.
fn drain<C>(
    clients: impl FnOnce(SocketAddr, Arc<Seen>, ShutdownTrigger) -> C,
) -> (Drained, Arc<Seen>)
where
    C: Future<Output = ()>,
{
    actix_web::rt::System::new().block_on(async {
        let mut settings = Settings::default();
        settings.drain.delay = ms(50);
        settings.drain.requests = ms(2000);
        let steadfast = Steadfast::builder().config(settings).start().unwrap();
        let seen = Arc::new(Seen::default());
        let (wired, data) = (steadfast.clone(), Arc::clone(&seen));
        let app = move || {
            App::new()
                .app_data(web::Data::from(Arc::clone(&data)))
                .route("/work/{ms}", web::route().to(work))
                .route("/endless", web::get().to(endless))
                .wrap(wired.edge())
        };
        let listener = steadfast.listen("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = EdgeServer::new(app).workers(1).listen(listener).unwrap();
        let clients = clients(address, Arc::clone(&seen), steadfast.shutdown());
        let (drained, ()) = tokio::join!(steadfast.serve(server), clients);
        (drained.unwrap(), seen)
    })
}

fn request(method: &str, path: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nhost: test\r\n\r\n")
}

#[test]
fn work_whose_client_has_left_is_waited_for() {
    let (drained, seen) = drain(async |address, seen, stop| {
        for leave in [Attacker::reset, Attacker::close] {
            let begun = seen.begun.load(Ordering::SeqCst);
            let mut client = Attacker::connect(address).await;
            client.send(request("POST", "/work/400")).await;
            eventually("it begins", || seen.begun.load(Ordering::SeqCst) > begun).await;
            leave(client);
        }
        stop.pull();
    });
    assert!(drained.is_clean(), "{drained:?}");
    assert_eq!(seen.finished.load(Ordering::SeqCst), 2);
}

#[test]
fn work_whose_client_has_left_is_cut_and_counted_when_its_time_is_over() {
    let begun = Instant::now();
    let (drained, seen) = drain(async |address, seen, stop| {
        let mut client = Attacker::connect(address).await;
        client.send(request("POST", "/work/60000")).await;
        eventually("it begins", || seen.begun.load(Ordering::SeqCst) == 1).await;
        client.reset();
        stop.pull();
    });
    assert_eq!(drained.requests_cut, 1);
    assert_eq!(seen.finished.load(Ordering::SeqCst), 0);
    assert!(begun.elapsed() < ms(20_000));
}

#[test]
fn a_stream_that_does_not_end_is_cut_and_counted() {
    let (drained, _) = drain(async |address, _, stop| {
        let mut client = Attacker::connect(address).await;
        client.send(request("GET", "/endless")).await;
        client.hear("first").await;
        let mut idle = Attacker::connect(address).await;
        idle.send(request("GET", "/work/0")).await;
        idle.hear("done").await;
        idle.begin();
        stop.pull();
        let (streaming, idle) = tokio::join!(client.ended(), idle.ended());
        assert!(!streaming.heard.ends_with("0\r\n\r\n"), "it shows that it was cut");
        assert!(!idle.reset && idle.after < ms(1500), "closed with the listeners: {idle:?}");
    });
    assert_eq!(drained.requests_cut, 1, "only the stream");
}

//! Who is served, who waits, and what becomes of it when a client or the server leaves.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Instant;

use actix_web::App;
use actix_web::http::Method;
use actix_web::web::Bytes;
use steadfast::Steadfast;
use steadfast::config::Settings;
use steadfast::edge::{
    Admission, AdmissionCounts, AdmissionLimits, ConnectionLimits, Edge, EdgeServer,
};

use super::support::{Client, Seen, read, routes, start, start_around};
use crate::edge::server::encrypted::{identity, shake};
use crate::edge::server::support::{limits, ms};
use crate::edge::support::eventually;

#[tokio::test]
async fn work_without_a_stream_has_as_many_places_as_streams_and_one_more_is_told_503() {
    let mut limits = limits();
    limits.http2.streams = 3;
    let (server, seen) = start(limits);
    let mut client = Client::connect(&server).await;
    for count in 1..=3 {
        let left = client.ask(Method::POST, "/detach/1500").await;
        eventually("it begins", || seen.begun() == count).await;
        drop(left);
    }
    let refused = client.ask(Method::GET, "/").await.await.unwrap();
    assert_eq!(refused.status().as_u16(), 503);
    let wait: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=3).contains(&wait), "{wait}");
    let mut body = refused.into_body();
    let problem = body.data().await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&problem).contains("admission.overloaded"), "{problem:?}");
    eventually("they finish", || seen.finished() == 3).await;
    assert_eq!(client.get("/").await.0, 200);
    assert_eq!(server.counts().too_many_streams, 0);
}

#[tokio::test]
async fn the_server_has_its_places_for_connections_and_not_one_more() {
    let mut limits = limits();
    limits.connections.total = 2;
    limits.connections.per_address = 2;
    let (server, _) = start(limits);
    let mut first = Client::connect(&server).await;
    let second = Client::connect(&server).await;
    let other = Ipv4Addr::new(127, 0, 0, 2);
    assert!(server.connect_from(other).await.is_err());
    assert_eq!(server.counts().refused_total, 1);
    assert_eq!(first.get("/").await.0, 200);
    second.connection.abort();
    eventually("there is a place again", || server.counts().open == 1).await;
    assert!(server.connect_from(other).await.is_ok());
}

#[tokio::test]
async fn what_becomes_of_work_whose_stream_is_reset_is_what_the_route_says() {
    let (server, seen) = start(limits());
    let mut client = Client::connect(&server).await;
    let cases = [
        (Method::GET, "/work/400", false),
        (Method::POST, "/work/400", true),
        (Method::POST, "/cancel/400", false),
        (Method::GET, "/finish/400", true),
        (Method::GET, "/detach/400", true),
    ];
    for (count, (method, path, goes_on)) in (1..).zip(cases) {
        let (dropped, finished) = (seen.dropped(), seen.finished());
        let leaves = client.ask(method, path).await;
        eventually("it begins", || seen.begun() == count).await;
        drop(leaves);
        eventually("it ends", || seen.dropped() + seen.finished() == count).await;
        assert_eq!(seen.finished() - finished, usize::from(goes_on), "{path}");
        assert_eq!(seen.dropped() - dropped, usize::from(!goes_on), "{path}");
    }
    assert_eq!(client.get("/").await.0, 200, "the connection has seen all of it");
    assert_eq!(server.counts().accepted, 1);
}

/// One place, and one that waits.
fn admitting() -> (Edge, impl Fn() -> AdmissionCounts) {
    let mut limits = AdmissionLimits::default();
    limits.limit = 1;
    limits.queue.max = 1;
    (limits.queue.target, limits.queue.interval) = (ms(5_000), ms(5_000));
    let edge =
        Edge::new().admission(Admission::new(&limits, &ConnectionLimits::default()).unwrap());
    let counted = edge.clone();
    (edge, move || counted.counts().admission)
}

#[tokio::test]
async fn a_place_is_held_to_the_end_of_a_body_and_given_back_by_a_reset() {
    let (edge, counts) = admitting();
    let (server, seen) = start_around(edge, limits());
    let mut client = Client::connect(&server).await;
    let silent = client.ask(Method::GET, "/silent").await.await.unwrap();
    assert_eq!((silent.status().as_u16(), counts().serving), (200, 1), "its body is still to come");
    let waiting = client.ask(Method::GET, "/").await;
    eventually("it waits", || counts().waiting == 1).await;
    let refused = read(client.ask(Method::GET, "/").await).await;
    assert_eq!(refused.0, 503);
    assert!(refused.1.contains("admission.overloaded"), "{refused:?}");
    drop(silent);
    assert_eq!(read(waiting).await.0, 200, "the place is given on");
    eventually("all places are free", || counts().serving == 0).await;

    let (response, mut body) = client.begin(Method::POST, "/upload", false).await;
    body.send_data(Bytes::from_static(b"half"), false).unwrap();
    eventually("it is served", || counts().serving == 1).await;
    let waiting = client.ask(Method::GET, "/work/60000").await;
    eventually("another waits", || counts().waiting == 1).await;
    drop(waiting);
    eventually("it gives up its turn", || counts().waiting == 0).await;
    assert_eq!(counts().normal.gone, 1);
    body.send_reset(h2::Reason::CANCEL);
    drop(response);
    eventually("all places are free", || counts().serving == 0).await;
    assert_eq!(seen.begun(), 1, "only the silent one: who waited never began");
    assert_eq!(client.get("/").await.0, 200);
}

#[test]
fn streams_that_outlive_the_drain_are_cut_and_counted_and_what_ends_before_is_answered() {
    let seen = Arc::new(Seen::default());
    let begun = Instant::now();
    let drained = actix_web::rt::System::new().block_on(async {
        let mut settings = Settings::default();
        settings.drain.delay = ms(50);
        settings.drain.requests = ms(1000);
        let steadfast = Steadfast::builder().config(settings).start().unwrap();
        let (config, client) = identity();
        let (wired, routes) = (steadfast.clone(), routes(&seen));
        let app = move || App::new().configure(routes.clone()).wrap(wired.edge());
        let listener = steadfast.listen("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = EdgeServer::new(app).workers(1).listen_tls(listener, config).unwrap();
        let clients = async {
            let stream = shake(address, Ipv4Addr::LOCALHOST, client).await.unwrap();
            let mut client = Client::over(stream).await;
            let ends = client.ask(Method::GET, "/work/500").await;
            let works = client.ask(Method::GET, "/work/60000").await;
            let streams = client.ask(Method::GET, "/silent").await;
            let detached = client.ask(Method::POST, "/work/60000").await;
            eventually("all begin", || seen.begun() == 4).await;
            drop(detached);
            steadfast.shutdown().pull();
            assert_eq!(read(ends).await, (200, "done".to_owned()));
            let (status, problem) = read(works).await;
            assert_eq!(status, 503, "{problem}");
            let mut body = streams.await.unwrap().into_body();
            assert!(body.data().await.unwrap().is_err(), "it shows that it was cut");
            client.ended().await;
        };
        let (drained, ()) = tokio::join!(steadfast.serve(server.http2(true)), clients);
        drained.unwrap()
    });
    assert_eq!(drained.requests_cut, 3, "{drained:?}");
    assert!(!drained.is_clean());
    assert!(begun.elapsed() < ms(15_000), "{:?}", begun.elapsed());
    assert_eq!((seen.finished(), seen.dropped()), (1, 3));
}

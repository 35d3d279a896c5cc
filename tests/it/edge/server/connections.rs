//! How many connections there may be, how long they live, and how they leave.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use steadfast::Steadfast;
use steadfast::config::Settings;
use steadfast::edge::{EdgeLimits, EdgeServer};
use tokio::time::sleep;

use super::support::{Guarded, limits, ms};
use crate::edge::support::eventually;
use crate::support::attackers::{Attacker, Honest};

const GET: &str = "GET / HTTP/1.1\r\nhost: test\r\n\r\n";

#[tokio::test]
async fn a_flood_of_idle_connections_is_closed_while_others_are_served() {
    let server = Guarded::start();
    let honest = Honest::start(server.address, "/", 5);
    let mut silent = Vec::new();
    let mut idle = Vec::new();
    for n in 0..50 {
        let source = Ipv4Addr::new(127, 0, 1, n);
        let mut attacker = Attacker::connect_from(server.address, source).await.unwrap();
        attacker.begin();
        silent.push(attacker);
        let mut attacker = Attacker::connect_from(server.address, source).await.unwrap();
        attacker.send(GET).await;
        attacker.begin();
        idle.push(attacker);
    }
    for attacker in silent {
        let ended = attacker.ended().await;
        ended.expect_within(limits().head.timeout);
    }
    for attacker in idle {
        let ended = attacker.ended().await;
        ended.expect_within(limits().connections.idle);
        assert!(!ended.reset, "in good order");
        assert_eq!(ended.statuses(), [200]);
    }
    let waits = honest.stop().await;
    assert!(waits.iter().max().unwrap() < &ms(1000), "{waits:?}");
    server.empty().await;
    assert_eq!((server.counts().head_timeout, server.counts().idle), (50, 50));
}

/// As many connections from this address as are let in, of one more than that.
async fn flood(server: &Guarded, source: Ipv4Addr, count: usize) -> Vec<Attacker> {
    let refused = server.counts().refused_address + server.counts().refused_total;
    let mut inside = Vec::new();
    for _ in 0..count {
        inside.push(Attacker::connect_from(server.address, source).await.unwrap());
    }
    assert!(Attacker::is_refused(server.address, source).await);
    let now = server.counts().refused_address + server.counts().refused_total;
    assert_eq!(now, refused + 1);
    inside
}

#[tokio::test]
async fn one_address_has_its_share_and_no_more() {
    let mut limits = limits();
    limits.connections.per_address = 8;
    let server = Guarded::with(limits);
    let inside = flood(&server, Ipv4Addr::new(127, 0, 0, 2), 8).await;
    let mut neighbour =
        Attacker::connect_from(server.address, Ipv4Addr::new(127, 0, 0, 3)).await.unwrap();
    neighbour.send(GET).await;
    neighbour.hear("hello").await;
    drop(inside);
    eventually("its places are free again", || server.counts().open == 1).await;
    drop(flood(&server, Ipv4Addr::new(127, 0, 0, 2), 8).await);
    assert_eq!(server.counts().refused_address, 2);
    drop(neighbour);
    server.empty().await;
}

#[tokio::test]
async fn a_trusted_proxy_has_all_places_there_are_and_no_more() {
    let mut limits = limits();
    limits.connections.total = 12;
    limits.connections.per_address = 4;
    limits.connections.trusted = vec!["127.0.0.4/32".parse().unwrap()];
    let server = Guarded::with(limits);
    drop(flood(&server, Ipv4Addr::new(127, 0, 0, 4), 12).await);
    server.empty().await;
    assert_eq!((server.counts().refused_address, server.counts().refused_total), (0, 1));
}

#[tokio::test]
async fn the_last_request_of_a_connection_is_told_so() {
    let mut limits = limits();
    limits.connections.requests = 3;
    let server = Guarded::with(limits);
    let mut client = Attacker::connect(server.address).await;
    client.begin();
    client.send(GET.repeat(5)).await;
    let ended = client.ended().await;
    assert_eq!(ended.statuses(), [200; 3]);
    assert_eq!(ended.heard.matches("connection: close").count(), 1);
    assert!(ended.after < ms(800), "it does not wait for anything: {ended:?}");
    assert_eq!(server.requests(), 3);
}

#[tokio::test]
async fn what_follows_a_request_that_says_it_is_the_last_is_not_served() {
    let server = Guarded::start();
    for last in
        ["GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n", "GET / HTTP/1.0\r\n\r\n"]
    {
        let before = server.requests();
        let mut client = Attacker::connect(server.address).await;
        client.send(format!("{last}{GET}")).await;
        let ended = client.ended().await;
        assert_eq!(ended.heard.matches("200 OK").count(), 1, "{ended:?}");
        assert_eq!(server.requests(), before + 1);
    }
    server.empty().await;
}

#[tokio::test]
async fn an_old_connection_is_closed() {
    let mut limits = limits();
    limits.connections.idle = ms(400);
    limits.connections.age = ms(600);
    limits.connections.age_jitter = 0;
    let server = Guarded::with(limits);
    let mut client = Attacker::connect(server.address).await;
    client.begin();
    client.send(GET).await;
    sleep(ms(300)).await;
    client.send(GET).await;
    let ended = client.ended().await;
    ended.expect_within(ms(600));
    assert_eq!((server.counts().age, server.counts().idle), (1, 0));

    let mut busy = Attacker::connect(server.address).await;
    busy.send("GET /slow HTTP/1.1\r\nhost: test\r\n\r\n").await;
    busy.hear("slow").await;
    let ended = busy.ended().await;
    assert!(ended.heard.contains("connection: close"), "{ended:?}");
}

#[tokio::test]
async fn a_client_may_close_its_half_and_still_gets_its_answer() {
    let server = Guarded::start();
    let mut client = Attacker::connect(server.address).await;
    client.send("GET /slow HTTP/1.1\r\nhost: test\r\n\r\n").await;
    client.half_close().await;
    let ended = client.ended().await;
    // After a while it is asked whether it is still there.
    assert_eq!(ended.statuses(), [100, 200]);
    server.empty().await;
}

#[tokio::test]
async fn a_client_that_is_answered_soon_is_not_asked_whether_it_is_there() {
    let server = Guarded::start();
    let mut client = Attacker::connect(server.address).await;
    client.send("GET /soon HTTP/1.1\r\nhost: test\r\n\r\n").await;
    client.half_close().await;
    assert_eq!(client.ended().await.statuses(), [200]);
    server.empty().await;
}

#[tokio::test]
async fn whoever_resets_at_any_point_leaves_nothing_behind() {
    let server = Guarded::start();
    let points = [
        "",
        "GET / HT",
        "GET /slow HTTP/1.1\r\nhost: test\r\n\r\n",
        "GET /big HTTP/1.1\r\nhost: test\r\n\r\n",
        "POST /upload HTTP/1.1\r\nhost: test\r\ncontent-length: 50\r\n\r\nhalf",
        "POST /elsewhere HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n5\r\nha",
    ];
    for point in points {
        let mut client = Attacker::connect(server.address).await;
        client.send(point).await;
        sleep(ms(50)).await;
        client.reset();
    }
    server.empty().await;
    assert_eq!(server.counts().accepted, 6);
}

#[tokio::test]
async fn a_graceful_stop_closes_idle_connections_and_finishes_requests() {
    let server = Guarded::start();
    let mut idle = Attacker::connect(server.address).await;
    idle.send(GET).await;
    idle.hear("hello").await;
    let mut busy = Attacker::connect(server.address).await;
    busy.send("GET /slow HTTP/1.1\r\nhost: test\r\n\r\n").await;
    sleep(ms(100)).await;
    let begun = Instant::now();
    let (idle, busy, ()) = tokio::join!(idle.ended(), busy.ended(), server.stop());
    assert_eq!((idle.statuses(), busy.statuses()), (vec![200], vec![200]));
    assert!(begun.elapsed() < Duration::from_secs(5));
    server.empty().await;
}

#[test]
fn the_runtime_conducts_it_as_any_server() {
    actix_web::rt::System::new().block_on(async {
        let mut settings = Settings::default();
        settings.drain.delay = ms(100);
        let steadfast = Steadfast::builder().config(settings).start().unwrap();
        let wired = steadfast.clone();
        let app =
            move || actix_web::App::new().configure(|app| wired.configure(app)).wrap(wired.edge());
        let listeners = [(); 2].map(|()| steadfast.listen("127.0.0.1:0").unwrap());
        let addresses = listeners.each_ref().map(|listener| listener.local_addr().unwrap());
        let mut server = EdgeServer::new(app).limits(EdgeLimits::default()).unwrap().workers(1);
        for listener in listeners {
            server = server.listen(listener).unwrap();
        }
        let connections = server.connections();
        let stop = steadfast.shutdown();
        let clients = async {
            for address in addresses {
                let mut client = Attacker::connect(address).await;
                client.send("GET /livez HTTP/1.1\r\nhost: test\r\n\r\n").await;
                client.hear("200 OK").await;
            }
            stop.pull();
        };
        let (drained, ()) = tokio::join!(steadfast.serve(server), clients);
        assert!(drained.unwrap().is_clean());
        assert_eq!((connections.counts().accepted, connections.counts().open), (2, 0));
    });
}

#[test]
fn a_server_without_a_listener_is_refused() {
    actix_web::rt::System::new().block_on(async {
        let error = EdgeServer::new(actix_web::App::new).run().err().unwrap();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    });
}

#[test]
fn limits_that_contradict_each_other_are_refused_at_start_by_name() {
    let mut limits = limits();
    limits.connections.age = ms(899);
    let error = EdgeServer::new(actix_web::App::new).limits(limits).unwrap_err();
    assert_eq!(error.limit, "connections.age");
}

#[tokio::test]
async fn a_client_that_closes_costs_no_other_its_connection() {
    let server = Guarded::start();
    for last in ["GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"]
    {
        let mut first = Attacker::connect(server.address).await;
        first.send(last).await;
        first.hear("hello").await;
        let mut other = Attacker::connect(server.address).await;
        for _ in 0..2 {
            other.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
            let heard = other.take_answer().await;
            assert!(!heard.contains("connection: close"), "{last}{heard}");
        }
    }
}

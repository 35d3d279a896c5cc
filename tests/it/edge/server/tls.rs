//! The same limits below a handshake.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use actix_web::{HttpRequest, web};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::encrypted::{Encrypted, PATIENCE};
use super::support::{limits, ms};
use crate::edge::support::eventually;
use crate::support::attackers::Attacker;

static BEGUN: AtomicUsize = AtomicUsize::new(0);
static DROPPED: AtomicUsize = AtomicUsize::new(0);

struct Work;

impl Drop for Work {
    fn drop(&mut self) {
        DROPPED.fetch_add(1, Ordering::SeqCst);
    }
}

async fn work() -> String {
    let _work = Work;
    BEGUN.fetch_add(1, Ordering::SeqCst);
    std::future::pending().await
}

fn start() -> Encrypted {
    let scheme = async |request: HttpRequest| request.connection_info().scheme().to_owned();
    Encrypted::start(limits(), move |app| {
        app.route("/", web::get().to(scheme)).route("/work", web::get().to(work));
    })
}

/// Everything until the server ends it, and how it did.
async fn rest(client: &mut TlsStream<TcpStream>) -> (String, std::io::Result<usize>) {
    let mut heard = Vec::new();
    let ended = timeout(PATIENCE, client.read_to_end(&mut heard)).await.unwrap();
    (String::from_utf8_lossy(&heard).into_owned(), ended)
}

#[tokio::test]
async fn a_request_is_answered_and_the_idle_connection_closed_in_good_order() {
    let server = start();
    let mut client = server.connect().await;
    assert_eq!(client.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    client.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let begun = Instant::now();
    let (heard, ended) = rest(&mut client).await;
    assert!(heard.ends_with("\r\n\r\nhttps"), "{heard}");
    assert!(ended.is_ok(), "with a farewell: {ended:?}");
    let idle = limits().connections.idle;
    assert!(begun.elapsed() >= idle - ms(30) && begun.elapsed() < idle + ms(1000));
    server.empty().await;
    assert_eq!(server.counts().idle, 1);
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_cut() {
    let server = start();
    let mut attacker = Attacker::connect(server.address).await;
    attacker.begin();
    attacker.send([0x16, 0x03, 0x01]).await;
    attacker.ended().await.expect_within(limits().handshake);
    let mut attacker = Attacker::connect(server.address).await;
    attacker.send("GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    attacker.ended().await;
    server.empty().await;
    let counts = server.counts();
    assert_eq!((counts.handshake_timeout, counts.handshake_failed), (1, 1));
}

#[tokio::test]
async fn a_head_that_never_ends_is_cut() {
    let server = start();
    let mut client = server.connect().await;
    let begun = Instant::now();
    client.write_all(b"GET / HT").await.unwrap();
    let (heard, _) = rest(&mut client).await;
    assert!(heard.starts_with("HTTP/1.1 408"), "{heard}");
    let timeout = limits().head.timeout;
    assert!(begun.elapsed() >= timeout - ms(30) && begun.elapsed() < timeout + ms(1000));
    server.empty().await;
}

#[derive(Debug, Clone, Copy)]
enum Leaving {
    /// With a farewell of TLS.
    InGoodOrder,
    /// The socket alone is closed.
    Without,
    ByReset,
}

#[tokio::test]
async fn who_closes_in_good_order_or_without_or_resets_is_noticed() {
    let server = start();
    let ways = [Leaving::InGoodOrder, Leaving::Without, Leaving::ByReset];
    for (round, way) in ways.into_iter().enumerate() {
        let mut client = server.connect().await;
        client.write_all(b"GET /work HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        eventually("it begins", || BEGUN.load(Ordering::SeqCst) > round).await;
        match way {
            Leaving::InGoodOrder => client.shutdown().await.unwrap(),
            Leaving::Without => {}
            Leaving::ByReset => client.get_ref().0.set_zero_linger().unwrap(),
        }
        drop(client);
        eventually("its work is dropped", || DROPPED.load(Ordering::SeqCst) > round).await;
    }
    server.empty().await;
}

//! The same limits below a handshake.

use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpRequest, web};
use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use steadfast::edge::{Connections, EdgeServer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::support::{limits, ms};
use crate::edge::support::eventually;
use crate::support::attackers::Attacker;

const PATIENCE: Duration = Duration::from_secs(10);

struct Encrypted {
    address: std::net::SocketAddr,
    connections: Connections,
    handle: ServerHandle,
    client: Arc<ClientConfig>,
}

impl Drop for Encrypted {
    fn drop(&mut self) {
        drop(self.handle.stop(false));
    }
}

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
    steadfast::tls::install_default_provider();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let config = ServerConfig::builder().with_no_client_auth();
    let config = config.with_single_cert(vec![certificate.clone()], key.into()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let mut client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (started, starting) = mpsc::channel();
    std::thread::spawn(move || {
        actix_web::rt::System::new().block_on(async move {
            let scheme = async |request: HttpRequest| request.connection_info().scheme().to_owned();
            let app = move || {
                App::new().route("/", web::get().to(scheme)).route("/work", web::get().to(work))
            };
            let server = EdgeServer::new(app).limits(limits()).unwrap().workers(1);
            let connections = server.connections();
            let listening = server.disable_signals().listen_tls(listener, config).unwrap();
            let server = listening.run().unwrap();
            started.send((server.handle(), connections)).unwrap();
            server.await.unwrap();
        });
    });
    let (handle, connections) = starting.recv_timeout(PATIENCE).unwrap();
    Encrypted { address, connections, handle, client: Arc::new(client) }
}

impl Encrypted {
    async fn connect(&self) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let connector = TlsConnector::from(Arc::clone(&self.client));
        timeout(PATIENCE, connector.connect(name, stream)).await.unwrap().unwrap()
    }

    async fn empty(&self) {
        eventually("the gauge returns to zero", || self.connections.counts().open == 0).await;
    }
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
    assert_eq!(server.connections.counts().idle, 1);
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
    let counts = server.connections.counts();
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

#[tokio::test]
async fn who_closes_in_good_order_or_without_is_noticed() {
    let server = start();
    for (round, good_order) in [true, false].into_iter().enumerate() {
        let mut client = server.connect().await;
        client.write_all(b"GET /work HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        eventually("it begins", || BEGUN.load(Ordering::SeqCst) > round).await;
        if good_order {
            client.shutdown().await.unwrap();
        }
        drop(client);
        eventually("its work is dropped", || DROPPED.load(Ordering::SeqCst) > round).await;
    }
    server.empty().await;
}

//! An `EdgeServer` that is reached over TLS only, and the way to it.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use actix_web::App;
use actix_web::dev::ServerHandle;
use actix_web::web::ServiceConfig;
use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use steadfast::edge::{ConnectionCounts, Connections, Edge, EdgeLimits, EdgeServer};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::edge::support::eventually;

pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// A server with one worker; it stops when dropped.
pub(super) struct Encrypted {
    pub(super) address: SocketAddr,
    connections: Connections,
    handle: ServerHandle,
    client: Arc<ClientConfig>,
}

/// What a server needs to prove that it is this host, and a client to believe it.
pub(super) fn identity() -> (ServerConfig, Arc<ClientConfig>) {
    steadfast::tls::install_default_provider();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let server = ServerConfig::builder().with_no_client_auth();
    let server = server.with_single_cert(vec![certificate.clone()], key.into()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client = ClientConfig::builder().with_root_certificates(roots);
    let mut client = client.with_no_client_auth();
    client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    (server, Arc::new(client))
}

/// From an address of this host.
pub(super) async fn shake(
    server: SocketAddr,
    source: Ipv4Addr,
    client: Arc<ClientConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((source, 0).into())?;
    let stream = socket.connect(server).await?;
    let name = ServerName::try_from("localhost").unwrap();
    timeout(PATIENCE, TlsConnector::from(client).connect(name, stream)).await.unwrap()
}

impl Drop for Encrypted {
    fn drop(&mut self) {
        drop(self.handle.stop(false));
    }
}

impl Encrypted {
    /// Without HTTP/2.
    pub(super) fn start(
        limits: EdgeLimits,
        routes: impl Fn(&mut ServiceConfig) + Clone + Send + 'static,
    ) -> Self {
        Self::serve(limits, false, routes)
    }

    pub(super) fn serve(
        limits: EdgeLimits,
        http2: bool,
        routes: impl Fn(&mut ServiceConfig) + Clone + Send + 'static,
    ) -> Self {
        Self::around(Edge::new(), limits, http2, routes)
    }

    pub(super) fn around(
        edge: Edge,
        limits: EdgeLimits,
        http2: bool,
        routes: impl Fn(&mut ServiceConfig) + Clone + Send + 'static,
    ) -> Self {
        let (config, client) = identity();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (started, starting) = mpsc::channel();
        std::thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let app = move || App::new().configure(routes.clone()).wrap(edge.clone());
                let server = EdgeServer::new(app).limits(limits).unwrap().workers(1);
                let connections = server.connections();
                let listening = server.disable_signals().listen_tls(listener, config).unwrap();
                #[cfg(feature = "http2")]
                let listening = listening.http2(http2);
                #[cfg(not(feature = "http2"))]
                assert!(!http2, "without the feature");
                let server = listening.run().unwrap();
                started.send((server.handle(), connections)).unwrap();
                server.await.unwrap();
            });
        });
        let (handle, connections) = starting.recv_timeout(PATIENCE).unwrap();
        Self { address, connections, handle, client }
    }

    pub(super) async fn connect(&self) -> TlsStream<TcpStream> {
        self.connect_from(Ipv4Addr::LOCALHOST).await.unwrap()
    }

    /// From another address of this host.
    pub(super) async fn connect_from(
        &self,
        source: Ipv4Addr,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        shake(self.address, source, Arc::clone(&self.client)).await
    }

    /// By one that speaks only these protocols.
    #[cfg(feature = "http2")]
    pub(super) async fn connect_with(
        &self,
        protocols: &[&[u8]],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut client = ClientConfig::clone(&self.client);
        client.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        shake(self.address, Ipv4Addr::LOCALHOST, Arc::new(client)).await
    }

    pub(super) fn counts(&self) -> ConnectionCounts {
        self.connections.counts()
    }

    /// Begins a graceful stop, and waits for its end.
    pub(super) async fn stop(&self) {
        self.handle.stop(true).await;
    }

    pub(super) async fn empty(&self) {
        eventually("the gauge returns to zero", || self.counts().open == 0).await;
    }
}

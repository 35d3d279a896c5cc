//! A way to the server that can fall silent with all its connections open.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Forwards to the server of the environment until it is told to fall silent.
pub(super) struct Proxy {
    address: String,
    silent: watch::Sender<bool>,
}

impl Proxy {
    /// A way to the server at `address`, which is a database address.
    pub(super) async fn start(address: &str) -> Self {
        let target = address.rsplit('@').next().unwrap().split('/').next().unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap();
        let (silent, hears) = watch::channel(false);
        tokio::spawn(accept(listener, target.clone(), hears));
        Self { address: address.replace(&target, &own.to_string()), silent }
    }

    /// The database address by this way.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Takes everything and passes nothing on, also on new connections.
    pub(super) fn fall_silent(&self) {
        self.silent.send_replace(true);
    }

    pub(super) fn speak(&self) {
        self.silent.send_replace(false);
    }
}

async fn accept(listener: TcpListener, target: String, silent: watch::Receiver<bool>) {
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let Ok(server) = TcpStream::connect(&target).await else { continue };
        let ((client_in, client_out), (server_in, server_out)) = (split(client), split(server));
        tokio::spawn(forward(client_in, server_out, silent.clone()));
        tokio::spawn(forward(server_in, client_out, silent.clone()));
    }
}

async fn forward(
    mut from: ReadHalf<TcpStream>,
    mut to: WriteHalf<TcpStream>,
    mut silent: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let spoken = silent.wait_for(|silent| !silent).await.is_ok();
        if !spoken || to.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
    // The other side may be gone already.
    drop(to.shutdown().await);
}

/// A server that answers what it is told to whatever is asked, and then says nothing.
pub(super) async fn answering(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut buffer = vec![0; 1024];
        while let Ok(1..) = client.read(&mut buffer).await {
            client.write_all(answer).await.unwrap();
        }
    });
    address
}

/// The certificate of a [`tls_server`].
pub(super) const LOCALHOST: &[u8] = include_bytes!("localhost.pem");

/// A server that speaks TLS as `localhost` and refuses whatever password it is told: who is
/// refused has trusted it.
pub(super) fn tls_server() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let certificate = CertificateDer::from_pem_slice(LOCALHOST).unwrap();
    let key = PrivateKeyDer::from_pem_slice(LOCALHOST).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        client.read_exact(&mut [0; 8]).unwrap();
        client.write_all(b"S").unwrap();
        let mut tls = ServerConnection::new(Arc::new(config)).unwrap();
        let mut stream = rustls::Stream::new(&mut tls, &mut client);
        // A client that does not trust this hangs up here.
        if let Ok(1..) = stream.read(&mut [0; 1024]) {
            stream.write_all(b"E\0\0\0\x17SFATAL\0C28P01\0Mno\0\0").unwrap();
        }
    });
    port
}

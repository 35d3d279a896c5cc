//! TLS below the limits: they count what the client says, not how it is wrapped.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use actix_http::error::DispatchError;
use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::accept::Greeting;
use super::counts::Event;
use super::io::Transport;

/// As peers name it to each other.
#[cfg(feature = "http2")]
const HTTP2: &[u8] = b"h2";

/// Speaks these protocols, and no others.
pub(super) fn acceptor(
    mut config: ServerConfig,
    #[cfg(feature = "http2")] http2: bool,
) -> TlsAcceptor {
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    #[cfg(feature = "http2")]
    if http2 {
        config.alpn_protocols.insert(0, HTTP2.to_vec());
    }
    Arc::new(config).into()
}

impl Transport for TlsStream<TcpStream> {
    fn socket(&self) -> &TcpStream {
        self.get_ref().0
    }

    #[cfg(feature = "http2")]
    fn speaks_http2(&self) -> bool {
        self.get_ref().1.alpn_protocol() == Some(HTTP2)
    }
}

/// The transport of a connection that is encrypted.
pub(super) fn handshake(
    acceptor: TlsAcceptor,
) -> impl Fn(TcpStream, Greeting) -> HandshakeFuture + Clone + 'static {
    move |stream, greeting| Box::pin(shake(acceptor.clone(), stream, greeting))
}

type HandshakeFuture = Pin<Box<dyn Future<Output = Result<TlsStream<TcpStream>, DispatchError>>>>;

async fn shake(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    greeting: Greeting,
) -> Result<TlsStream<TcpStream>, DispatchError> {
    let (event, error) = match timeout(greeting.within, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => return Ok(stream),
        Ok(Err(error)) => (Event::HandshakeFailed, error),
        Err(_elapsed) => (Event::HandshakeTimeout, io::ErrorKind::TimedOut.into()),
    };
    greeting.tally.count(event);
    tracing::debug!(?event, %error, "edge.connection_refused");
    Err(DispatchError::Io(error))
}

//! From a socket that was accepted to a connection that is served.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_http::body::MessageBody;
use actix_http::error::DispatchError;
use actix_http::{Extensions, HttpService, KeepAlive, Protocol, Request, Response};
use actix_server::GracefulShutdownSignal;
use actix_service::{
    IntoServiceFactory, Service, ServiceFactory, ServiceFactoryExt, apply_fn_factory, fn_service,
    map_config,
};
use actix_web::Error;
use actix_web::dev::AppConfig;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::OnConnect;
use super::census::{Census, Entry};
use super::conn::Conn;
use super::counts::{Connections, Event, Tally};
use super::either::EitherIo;
use super::expect::ExpectingFactory;
#[cfg(feature = "http2")]
use super::h2;
use super::io::{GuardedIo, Transport};
use super::service::GuardedFactory;
#[cfg(feature = "http2")]
use super::state::Reason;
use super::state::{Limits, State};
use crate::edge::limits::EdgeLimits;

/// For a client to take the end of an answer and to leave; actix-web's default.
pub(super) const DISCONNECT: Duration = Duration::from_secs(1);
/// What the kernel may hold that it has not sent. It wakes a writer at half of it, so this is
/// the step in which a slow reader is seen to make progress.
const UNSENT_MAX: u32 = 32 * 1024;

/// What a client may send of a body that nobody reads, with HTTP/2: of one, and of all.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// What `h2` says to who resets too many streams, or makes it reset too many.
#[cfg(feature = "http2")]
const ENHANCE_YOUR_CALM: u32 = 11;

/// What all workers and listeners of a server share.
#[derive(Clone)]
pub(super) struct Setup(Arc<Shared>);

struct Shared {
    limits: Limits,
    #[cfg(feature = "http2")]
    http2: h2::Limits,
    age: Duration,
    age_jitter: u8,
    handshake: Duration,
    tcp_user_timeout: Duration,
    census: Arc<Census>,
    tally: Arc<Tally>,
    on_connect: Option<Arc<OnConnect>>,
    h1_allow_half_closed: bool,
    stop: GracefulShutdownSignal,
}

impl Setup {
    pub(super) fn new(
        limits: &EdgeLimits,
        connections: &Connections,
        on_connect: Option<Arc<OnConnect>>,
        h1_allow_half_closed: bool,
        stop: GracefulShutdownSignal,
    ) -> Self {
        Self(Arc::new(Shared {
            limits: Limits::from(limits),
            #[cfg(feature = "http2")]
            http2: h2::Limits::from(limits),
            age: limits.connections.age,
            age_jitter: limits.connections.age_jitter,
            handshake: limits.handshake,
            tcp_user_timeout: limits.tcp_user_timeout,
            census: Census::new(&limits.connections, connections),
            tally: Arc::clone(connections.tally()),
            on_connect,
            h1_allow_half_closed,
            stop,
        }))
    }

    /// Lets a socket in, or resets it.
    fn admit(&self, stream: &TcpStream, peer: Option<SocketAddr>) -> Result<Entry, DispatchError> {
        let entry = self.0.census.enter(peer.map(|peer| peer.ip()));
        entry.ok_or_else(|| {
            reset(stream);
            tracing::debug!(peer = peer.map(tracing::field::display), "edge.connection_refused");
            DispatchError::Io(io::ErrorKind::QuotaExceeded.into())
        })
    }

    fn guard<T: Transport>(&self, inner: T, peer: Option<SocketAddr>, entry: Entry) -> EitherIo<T> {
        let (dies, tally) =
            (Instant::now() + self.lifetime(fastrand::f64()), Arc::clone(&self.0.tally));
        #[cfg(feature = "http2")]
        if inner.speaks_http2() {
            let streams = h2::Streams::new(self.0.http2, dies, tally, peer);
            return EitherIo::Http2(h2::StreamsIo::new(inner, streams, &self.0.stop, entry));
        }
        let state = State::new(self.0.limits, dies);
        EitherIo::Http1(GuardedIo::new(inner, state, &tally, peer, entry))
    }

    /// The age that a connection may reach, by a number from 0 to 1.
    fn lifetime(&self, random: f64) -> Duration {
        let jitter = f64::from(self.0.age_jitter) / 100.0;
        self.0.age.mul_f64(1.0 - jitter + 2.0 * jitter * random)
    }

    fn greeting(&self) -> Greeting {
        Greeting { within: self.0.handshake, tally: Arc::clone(&self.0.tally) }
    }
}

/// What a transport needs to know for its handshake.
pub(super) struct Greeting {
    #[cfg_attr(not(feature = "tls"), allow(dead_code, reason = "plain TCP has no handshake"))]
    pub(super) within: Duration,
    #[cfg_attr(not(feature = "tls"), allow(dead_code, reason = "plain TCP has no handshake"))]
    pub(super) tally: Arc<Tally>,
}

/// The transport of a connection that is not encrypted.
pub(super) async fn plain(stream: TcpStream, _: Greeting) -> Result<TcpStream, DispatchError> {
    Ok(stream)
}

/// Closes with a reset when it is dropped.
pub(super) fn reset(stream: &TcpStream) {
    let _closed_all_the_same = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// What the kernel watches for us. A socket that knows no such option works without.
#[cfg(target_os = "linux")]
fn tune(stream: &TcpStream, user_timeout: Duration) {
    let socket = SockRef::from(stream);
    let _not_every_kernel_has_it = socket.set_tcp_notsent_lowat(UNSENT_MAX);
    if !user_timeout.is_zero() {
        let _not_every_kernel_has_it = socket.set_tcp_user_timeout(Some(user_timeout));
    }
}

#[cfg(not(target_os = "linux"))]
fn tune(_: &TcpStream, _: Duration) {}

/// Serves the sockets of one listener.
pub(super) fn service<I, S, B, T, Fut>(
    app: I,
    setup: Setup,
    address: SocketAddr,
    secure: bool,
    transport: impl Fn(TcpStream, Greeting) -> Fut + Clone + 'static,
) -> impl ServiceFactory<TcpStream, Config = (), Response = (), Error = DispatchError, InitError = ()>
where
    I: IntoServiceFactory<S, Request>,
    S: ServiceFactory<Request, Config = AppConfig> + 'static,
    S::Error: Into<Error> + 'static,
    S::InitError: std::fmt::Debug,
    S::Response: Into<Response<B>> + 'static,
    <S::Service as Service<Request>>::Future: 'static,
    S::Service: 'static,
    B: MessageBody + 'static,
    T: Transport,
    Fut: Future<Output = Result<T, DispatchError>> + 'static,
{
    let app = app.into_factory().map_err(|error: S::Error| error.into().error_response().into());
    // actix-web has no other public way to say that a listener is secure.
    let app =
        map_config(app, move |()| AppConfig::__priv_test_new(secure, address.to_string(), address));
    let (served, tally) =
        (http::<_, _, T>(app, setup.clone(), address), Arc::clone(&setup.0.tally));
    let accept = move |stream: TcpStream| {
        let (setup, transport) = (setup.clone(), transport.clone());
        async move {
            let peer = stream.peer_addr().ok();
            let entry = setup.admit(&stream, peer)?;
            tune(&stream, setup.0.tcp_user_timeout);
            // Each answer is written at once and by itself: one that follows another, to a client
            // that pipelines, must not wait until the client has acknowledged that.
            let _slower_without = stream.set_nodelay(true);
            let inner = transport(stream, setup.greeting()).await?;
            let io = setup.guard(inner, peer, entry);
            let protocol = io.protocol();
            Ok::<_, DispatchError>((io, protocol, peer))
        }
    };
    let served =
        apply_fn_factory(served, |(mut io, protocol, peer): (EitherIo<T>, _, _), served| {
            let life = io.life();
            let served = served.call((io, protocol, peer));
            async move {
                let ended = served.await;
                life.finish().await;
                ended
            }
        });
    fn_service(accept).and_then(served).map_err(move |error: DispatchError| {
        cause(&error).into_iter().for_each(|event| tally.count(event));
        error
    })
}

/// What the client did, if the protocol itself ended the connection for it.
fn cause(error: &DispatchError) -> Option<Event> {
    match error {
        DispatchError::Parse(_) => Some(Event::Malformed),
        #[cfg(feature = "http2")]
        DispatchError::H2(error) if error.is_go_away() && error.is_library() => {
            let calm = error.reason().is_some_and(|reason| u32::from(reason) == ENHANCE_YOUR_CALM);
            Some(if calm { Event::Ended(Reason::ResetFlood) } else { Event::Malformed })
        }
        _ => None,
    }
}

/// A connection with the work that it may leave behind.
pub(super) struct Life {
    heir: Heir,
    /// It counts until that is done, so that nobody can leave behind more than so many.
    _entry: Option<Entry>,
}

/// Whose work it is.
enum Heir {
    Conn(Rc<Conn>),
    #[cfg(feature = "http2")]
    Streams(Rc<h2::Streams>),
}

impl Life {
    pub(super) fn of_conn<T: Transport>(io: &mut GuardedIo<T>) -> Self {
        Self { heir: Heir::Conn(Rc::clone(io.conn())), _entry: io.take_entry() }
    }

    #[cfg(feature = "http2")]
    pub(super) fn of_streams<T: Transport>(io: &mut h2::StreamsIo<T>) -> Self {
        Self { heir: Heir::Streams(Rc::clone(io.streams())), _entry: io.take_entry() }
    }

    async fn finish(self) {
        match &self.heir {
            Heir::Conn(conn) => {
                if let Some(work) = conn.inherit() {
                    work.await;
                }
            }
            #[cfg(feature = "http2")]
            Heir::Streams(streams) => std::future::poll_fn(|cx| streams.poll_empty(cx)).await,
        }
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        match &self.heir {
            Heir::Conn(conn) => drop(conn.inherit()),
            #[cfg(feature = "http2")]
            Heir::Streams(streams) => streams.forsake(),
        }
    }
}

/// The protocol. Its own timers are off where the wrapped stream has better ones.
fn http<S, B, T>(
    app: S,
    setup: Setup,
    address: SocketAddr,
) -> impl ServiceFactory<
    (EitherIo<T>, Protocol, Option<SocketAddr>),
    Config = (),
    Response = (),
    Error = DispatchError,
    InitError = (),
>
where
    S: ServiceFactory<Request, Config = (), Error = Response<actix_http::body::BoxBody>> + 'static,
    S::InitError: std::fmt::Debug,
    S::Response: Into<Response<B>> + 'static,
    <S::Service as Service<Request>>::Future: 'static,
    S::Service: 'static,
    B: MessageBody + 'static,
    T: Transport,
{
    let (stop, made) = (setup.0.stop.clone(), Rc::default());
    let app = GuardedFactory::new(app, Rc::clone(&made));
    #[cfg(feature = "http2")]
    let app = h2::StreamsFactory::new(app);
    HttpService::build()
        .keep_alive(KeepAlive::Os)
        .client_request_timeout(Duration::ZERO)
        .client_disconnect_timeout(DISCONNECT)
        .h1_allow_half_closed(setup.0.h1_allow_half_closed)
        .local_addr(address)
        .graceful_shutdown_signal(move || {
            let stop = stop.clone();
            async move { stop.notified().await }
        })
        .h2_initial_window_size(STREAM_WINDOW)
        .h2_initial_connection_window_size(CONNECTION_WINDOW)
        .on_connect_ext(move |io: &EitherIo<T>, data: &mut Extensions| {
            if let Some(callback) = &setup.0.on_connect {
                callback(io.socket(), data);
            }
            io.introduce(data);
        })
        .expect(ExpectingFactory::new(made))
        .finish(app)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_is_spread_evenly_around_what_was_set() {
        let mut limits = EdgeLimits::default();
        limits.connections.age = Duration::from_secs(100);
        let stop = actix_server::Server::build().graceful_shutdown_signal();
        let setup = Setup::new(&limits, &Connections::default(), None, true, stop);
        let near = |random: f64, expected: u64| {
            let found = setup.lifetime(random).abs_diff(Duration::from_secs(expected));
            assert!(found < Duration::from_millis(1), "{random}: {:?}", setup.lifetime(random));
        };
        near(0.0, 90);
        near(0.5, 100);
        near(1.0, 110);
    }
}

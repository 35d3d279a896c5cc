//! A server whose every connection has limits.
//!
//! | file | what it knows |
//! |---|---|
//! | `state`, `credit` | pure: where a connection stands, and how long it may stay there |
//! | `ahead`, `chunks` | pure: how much of what the client sends is handed out |
//! | `io` | bytes, and the one timer |
//! | `service`, `expect`, `payload` | requests, answers and bodies |
//! | `presence`, `farewell` | whether the client is still there, and what it is told without the app |
//! | `conn` | what these share |
//! | `client` | who waits for a request, for what is around the app |
//! | `either`, `h2` | the choice between this and HTTP/2, and that |
//! | `census`, `counts` | how many connections there are, and what became of the others |

mod accept;
mod ahead;
mod census;
mod chunks;
mod client;
mod conn;
mod counts;
pub(super) mod credit;
mod either;
mod expect;
mod farewell;
#[cfg(feature = "http2")]
mod h2;
mod io;
mod payload;
mod presence;
mod service;
mod state;
#[cfg(feature = "tls")]
mod tls;

use std::fmt;
use std::io as std_io;
use std::marker::PhantomData;
use std::net::{TcpListener, ToSocketAddrs};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use actix_http::body::MessageBody;
use actix_http::{Extensions, Request, Response};
use actix_service::{IntoServiceFactory, Service, ServiceFactory};
use actix_web::Error;
use actix_web::dev::{AppConfig, Server};
use tokio::net::TcpStream;

use super::backlog;
use super::limits::{EdgeLimits, InvalidLimit};
use accept::Setup;

pub(crate) use client::Client;
pub use counts::{ConnectionCounts, Connections};

/// LIMIT: threads that serve; actix-server takes no more.
const WORKERS_MAX: usize = 512;

/// Called once for each connection, with what its requests will find as `conn_data`.
type OnConnect = dyn Fn(&TcpStream, &mut Extensions) + Send + Sync;

/// Serves an app over HTTP/1.1 as actix-web's `HttpServer` does, with limits on every connection.
///
/// ```no_run
/// # async fn serve(steadfast: steadfast::Steadfast) -> Result<(), Box<dyn std::error::Error>> {
/// use actix_web::{App, web};
/// use steadfast::edge::{EdgeLimits, EdgeServer};
///
/// let wired = steadfast.clone();
/// let app = move || {
///     App::new()
///         .configure(|app| wired.configure(app))
///         .route("/", web::get().to(|| async { "hello" }))
///         .wrap(wired.edge())
/// };
/// let server = EdgeServer::new(app)
///     .limits(EdgeLimits::default())?
///     .listen(steadfast.listen("127.0.0.1:8080")?)?;
/// let drained = steadfast.serve(server).await?;
/// # drop(drained);
/// # Ok(())
/// # }
/// ```
///
/// What actix-web leaves open is closed here:
///
/// | who | is cut after |
/// |---|---|
/// | sends a head slowly, also a later one | [`head.timeout`](super::HeadLimits::timeout), with 408 |
/// | sends a head without end | [`head.max_bytes`](super::HeadLimits::max_bytes), with 431 |
/// | sends a body slowly | [`body`](EdgeLimits::body); the handler reads a timeout, which [`Normalise`](super::Normalise) answers with 408 `body.timeout` |
/// | reads slowly, or not at all | [`write`](EdgeLimits::write), by a reset |
/// | does nothing | [`connections.idle`](super::ConnectionLimits::idle) |
/// | comes too often at once | [`connections.per_address`](super::ConnectionLimits::per_address), by a reset |
///
/// A body that nobody reads ends its connection: the answer says so, and the client has two
/// seconds to stop. An upgraded connection has only the limit of the write. What the handler takes is
/// the business of [`Deadline`](super::Deadline). [`Pace`](super::Pace) gives a route other rates, and
/// [`Disconnect`](super::Disconnect) says what becomes of the work for a client that leaves.
///
/// **Pipelined requests** are answered in order. Of those that came before their predecessors were
/// answered, 8 KiB and one buffer wait in front of actix-web, which is given one request at a time; the
/// rest stays with the kernel. There, so does the news that the client has left.
///
/// **Answers without the app**, 400, 408 and 431 to what is no request, have an id in `X-Request-Id` that
/// the log has too, at the level of debug. Only one to what came in one packet with the
/// request before it has none.
///
/// **`Expect: 100-continue`** is answered by `100 Continue` when the handler reads the body, so that
/// a refusal comes instead of it.
///
/// **`Upgrade`** that the app does not follow ends the connection after an ordinary answer, which says
/// so; actix-web's own says `connection: upgrade`, and ends it too.
///
/// # HTTP/2
///
/// Off by default; let it end at a proxy. With the feature `http2`, `EdgeServer::http2` offers it to
/// clients that come over TLS; without TLS it is never spoken. actix-web has no limits on its streams,
/// headers and idle connections, never cancels its requests, and does not drain it. So the frames that
/// pass are read here, which gives each connection these limits:
///
/// | who | is cut after |
/// |---|---|
/// | sends the first head slowly, or another | [`head.timeout`](super::HeadLimits::timeout), by a reset; in good order if nothing of it came |
/// | sends a head without end | [`head.max_bytes`](super::HeadLimits::max_bytes) as compressed, or 500 fields, by a reset; one that is larger only when it is read is answered 431 |
/// | sends a body slowly | [`body`](EdgeLimits::body), as above; the connection stays |
/// | takes nothing of what is written, or grants no window for it | [`write`](EdgeLimits::write), by a reset |
/// | has no stream open | [`connections.idle`](super::ConnectionLimits::idle), whatever pings it sends |
/// | opens too many streams at a time, of which it was told | `http2.streams`, by a reset |
/// | resets streams again and again | `http2.resets`, by a reset |
/// | makes us reset streams again and again | 1024 in all, in good order |
/// | sends small frames that bring nothing | 1000 in a second, and ten for each frame of data that it takes, by a reset |
///
/// Of requests that are still worked on although their streams were reset, there are `http2.streams`
/// too; one more is answered 503 `admission.overloaded`. When a connection has its age, or its number of
/// requests, or the server stops, the client is asked to open no more streams, and the connection is
/// closed when none is open. Until then it may open `http2.streams` late ones. When
/// the connection ends, or a stream without a body to come is reset, [`Disconnect`](super::Disconnect)
/// says what becomes of the work.
///
/// **What stays open:** the rate of writing is one for the connection, so a client that takes a little of
/// one response can hold others, up to `http2.streams`; [`Pace`](super::Pace) makes all of them
/// wait. A limit that is exceeded by one stream can only end all of them. A body that nobody reads
/// is noticed by `h2` alone, which resets its stream. One that resets more than 20 streams in the
/// packets that opened them is cut by it, too; and one that says goodbye gives up the streams above the
/// number in its farewell. `Expect: 100-continue` is not answered before the response. A stream
/// that is reset while its body is still to come is noticed when the body is read.
pub struct EdgeServer<F, I, S, B> {
    factory: F,
    limits: EdgeLimits,
    connections: Connections,
    on_connect: Option<Arc<OnConnect>>,
    h1_allow_half_closed: bool,
    #[cfg(feature = "http2")]
    http2: bool,
    workers: usize,
    backlog: i32,
    shutdown_timeout: Duration,
    signals: bool,
    listeners: Vec<Listener>,
    types: Types<I, S, B>,
}

/// What the factory makes, without any of it.
type Types<I, S, B> = PhantomData<fn() -> (I, S, B)>;

struct Listener {
    socket: TcpListener,
    #[cfg(feature = "tls")]
    tls: Option<rustls::ServerConfig>,
}

impl<F, I, S, B> EdgeServer<F, I, S, B>
where
    F: Fn() -> I + Send + Clone + 'static,
    I: IntoServiceFactory<S, Request>,
    S: ServiceFactory<Request, Config = AppConfig> + 'static,
    S::Error: Into<Error> + 'static,
    S::InitError: fmt::Debug,
    S::Response: Into<Response<B>> + 'static,
    <S::Service as Service<Request>>::Future: 'static,
    S::Service: 'static,
    B: MessageBody + 'static,
{
    /// A server of this app with the default limits. The factory runs once per worker and
    /// listener.
    pub fn new(factory: F) -> Self {
        let workers = std::thread::available_parallelism().map_or(2, NonZeroUsize::get);
        Self {
            factory,
            limits: EdgeLimits::default(),
            connections: Connections::default(),
            on_connect: None,
            h1_allow_half_closed: true,
            #[cfg(feature = "http2")]
            http2: false,
            workers: workers.min(WORKERS_MAX),
            backlog: backlog::QUEUE_MAX,
            shutdown_timeout: Duration::from_secs(30),
            signals: true,
            listeners: Vec::new(),
            types: PhantomData,
        }
    }

    /// Other limits.
    ///
    /// # Errors
    ///
    /// [`InvalidLimit`] names the first that is out of its range or contradicts another.
    pub fn limits(mut self, limits: EdgeLimits) -> Result<Self, InvalidLimit> {
        limits.check()?;
        self.limits = limits;
        Ok(self)
    }

    /// Threads that serve. Default: one for each processor; 1 to 512, and clamped to that.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers.clamp(1, WORKERS_MAX);
        self
    }

    /// How many clients may stand in the queue of each address that is [bound](Self::bind) later.
    /// Default 4096, enough for a burst; at least 1, and the system may allow fewer.
    #[must_use]
    pub fn backlog(mut self, clients: u32) -> Self {
        self.backlog = i32::try_from(clients).unwrap_or(i32::MAX).max(1);
        self
    }

    /// Whether a client may close its half of the connection and still get its answer, the
    /// default; or has left then, without being [asked](super::Disconnect).
    #[must_use]
    pub const fn h1_allow_half_closed(mut self, allow: bool) -> Self {
        self.h1_allow_half_closed = allow;
        self
    }

    /// Whether clients may speak HTTP/2, where they come over [TLS](Self::listen_tls). Default
    /// `false`: read [what stays open](Self#http2) first.
    #[cfg(feature = "http2")]
    #[must_use]
    pub const fn http2(mut self, on: bool) -> Self {
        self.http2 = on;
        self
    }

    /// Called once for each connection that was let in, after the handshake where there is one.
    /// What it puts into the extensions, requests find as `conn_data`.
    #[must_use]
    pub fn on_connect(
        mut self,
        callback: impl Fn(&TcpStream, &mut Extensions) + Send + Sync + 'static,
    ) -> Self {
        self.on_connect = Some(Arc::new(callback));
        self
    }

    /// How long a graceful stop waits for requests, in whole seconds, rounded up. Default 30 s.
    /// [`Steadfast::serve`](crate::Steadfast::serve) sets it by the drain's plan.
    #[must_use]
    pub const fn shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.shutdown_timeout = timeout;
        self
    }

    /// Leaves SIGINT and SIGTERM to others. [`Steadfast::serve`](crate::Steadfast::serve) does so
    /// by itself.
    #[must_use]
    pub const fn disable_signals(mut self) -> Self {
        self.signals = false;
        self
    }

    /// What becomes of the connections, now and later.
    #[must_use]
    pub fn connections(&self) -> Connections {
        self.connections.clone()
    }

    /// Serves this listener too; see [`Steadfast::listen`](crate::Steadfast::listen).
    ///
    /// # Errors
    ///
    /// The socket cannot be used without blocking.
    pub fn listen(self, listener: TcpListener) -> std_io::Result<Self> {
        self.add(Listener {
            socket: listener,
            #[cfg(feature = "tls")]
            tls: None,
        })
    }

    /// Serves each address that this resolves to.
    ///
    /// # Errors
    ///
    /// One of them cannot be bound.
    pub fn bind(mut self, addresses: impl ToSocketAddrs) -> std_io::Result<Self> {
        for address in addresses.to_socket_addrs()? {
            let listener = backlog::bind(address, self.backlog)?;
            self = self.listen(listener)?;
        }
        Ok(self)
    }

    /// Serves this listener over TLS. The configuration's protocols are replaced: HTTP/1.1 is the
    /// only one, unless HTTP/2 was turned on.
    ///
    /// # Errors
    ///
    /// The socket cannot be used without blocking.
    #[cfg(feature = "tls")]
    pub fn listen_tls(
        self,
        listener: TcpListener,
        config: rustls::ServerConfig,
    ) -> std_io::Result<Self> {
        self.add(Listener { socket: listener, tls: Some(config) })
    }

    fn add(mut self, listener: Listener) -> std_io::Result<Self> {
        listener.socket.set_nonblocking(true)?;
        self.listeners.push(listener);
        Ok(self)
    }

    /// The server, not yet polled. Without a listener it would serve nobody, and is refused.
    ///
    /// # Errors
    ///
    /// No listener was given, or the operating system refused one.
    pub fn run(self) -> std_io::Result<Server> {
        if self.listeners.is_empty() {
            let kind = std_io::ErrorKind::InvalidInput;
            return Err(std_io::Error::new(kind, "a server needs a listener"));
        }
        // Rounded up: actix counts seconds.
        let timeout = (self.shutdown_timeout + Duration::from_millis(999)).as_secs();
        let mut builder = Server::build()
            .workers(self.workers)
            .shutdown_timeout(timeout)
            // Ours is smaller; actix's would leave clients in the queue instead of refusing them.
            .max_concurrent_connections(usize::MAX - 1);
        if !self.signals {
            builder = builder.disable_signals();
        }
        let setup = Setup::new(
            &self.limits,
            &self.connections,
            self.on_connect,
            self.h1_allow_half_closed,
            builder.graceful_shutdown_signal(),
        );
        for listener in self.listeners {
            let address = listener.socket.local_addr()?;
            let (factory, setup) = (self.factory.clone(), setup.clone());
            let name = format!("edge-{address}");
            #[cfg(feature = "tls")]
            if let Some(config) = listener.tls {
                #[cfg(feature = "http2")]
                let acceptor = tls::acceptor(config, self.http2);
                #[cfg(not(feature = "http2"))]
                let acceptor = tls::acceptor(config);
                let serve = move || {
                    let acceptor = acceptor.clone();
                    accept::service(
                        factory(),
                        setup.clone(),
                        address,
                        true,
                        tls::handshake(acceptor),
                    )
                };
                builder = builder.listen(name, listener.socket, serve)?;
                continue;
            }
            let serve =
                move || accept::service(factory(), setup.clone(), address, false, accept::plain);
            builder = builder.listen(name, listener.socket, serve)?;
        }
        Ok(builder.run())
    }
}

impl<F, I, S, B> fmt::Debug for EdgeServer<F, I, S, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EdgeServer")
            .field("limits", &self.limits)
            .field("connections", &self.connections)
            .field("workers", &self.workers)
            .finish_non_exhaustive()
    }
}

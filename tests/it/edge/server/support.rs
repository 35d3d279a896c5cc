//! An `EdgeServer` with short limits, and what its app has seen.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::error::PayloadError;
use actix_web::web::{self, Bytes, ServiceConfig};
use actix_web::{App, HttpResponse, HttpServer};
use futures_util::{StreamExt, stream};
use steadfast::edge::{
    BodyGuard, ConnectionCounts, Connections, Edge, EdgeLimits, EdgeServer, Pace, Rate, harden,
};

use crate::edge::support::eventually;

pub(super) const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Short, and all different.
pub(super) fn limits() -> EdgeLimits {
    let mut limits = EdgeLimits::default();
    limits.head.timeout = ms(500);
    limits.head.max_bytes = 2048;
    limits.body = Rate::at_least(1000).idle(ms(600)).grace(ms(300));
    limits.write = Rate::at_least(200_000).idle(ms(700)).grace(ms(700));
    limits.connections.idle = ms(900);
    limits.handshake = ms(400);
    limits
}

/// What the handlers have seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) requests: AtomicUsize,
    pub(super) smuggled: AtomicUsize,
    /// Streams under way.
    pub(super) streams: AtomicUsize,
}

/// A server with one worker; it stops when dropped.
pub(super) struct Guarded {
    pub(super) address: SocketAddr,
    pub(super) seen: Arc<Seen>,
    connections: Connections,
    handle: ServerHandle,
}

impl Guarded {
    pub(super) fn start() -> Self {
        Self::with(limits())
    }

    pub(super) fn with(limits: EdgeLimits) -> Self {
        Self::serve(move |routes, listener| {
            let edge = Edge::new();
            let app = move || App::new().configure(|app| routes.add(app)).wrap(edge.clone());
            let server = EdgeServer::new(app).limits(limits).unwrap().workers(1).disable_signals();
            let connections = server.connections();
            (server.listen(listener).unwrap().run().unwrap(), connections)
        })
    }

    /// actix-web's own server, with what it can have.
    pub(super) fn hardened(limits: EdgeLimits) -> Self {
        Self::serve(move |routes, listener| {
            let (edge, guard) = (Edge::new(), BodyGuard::new(limits.body));
            let app =
                move || App::new().configure(|app| routes.add(app)).wrap(edge.clone()).wrap(guard);
            let server = harden(HttpServer::new(app), &limits).unwrap();
            let server = server.workers(1).disable_signals().listen(listener).unwrap();
            (server.run(), Connections::default())
        })
    }

    fn serve<F>(start: F) -> Self
    where
        F: FnOnce(Routes, TcpListener) -> (actix_web::dev::Server, Connections) + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Seen::default());
        let routes = Routes(Arc::clone(&seen));
        let (started, starting) = mpsc::channel();
        thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let (server, connections) = start(routes, listener);
                started.send((server.handle(), connections)).unwrap();
                server.await.unwrap();
            });
        });
        let (handle, connections) = starting.recv_timeout(Duration::from_secs(10)).unwrap();
        Self { address, seen, connections, handle }
    }

    pub(super) fn counts(&self) -> ConnectionCounts {
        self.connections.counts()
    }

    /// Waits until nobody is connected.
    pub(super) async fn empty(&self) {
        eventually("the gauge returns to zero", || self.counts().open == 0).await;
    }

    /// Begins a graceful stop, and waits for its end.
    pub(super) async fn stop(&self) {
        self.handle.stop(true).await;
    }

    pub(super) fn requests(&self) -> usize {
        self.seen.requests.load(Ordering::Relaxed)
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // The command is sent at once; nobody needs to wait for its end.
        drop(self.handle.stop(false));
    }
}

/// The app under attack.
#[derive(Clone)]
struct Routes(Arc<Seen>);

impl Routes {
    fn add(&self, app: &mut ServiceConfig) {
        let patient = Rate::none();
        app.app_data(web::Data::from(Arc::clone(&self.0)))
            .route("/", web::get().to(hello))
            .route("/upload", web::post().to(upload))
            .route("/patient/upload", web::post().to(upload).wrap(Pace::new().upload(patient)))
            .route("/elsewhere", web::post().to(elsewhere))
            .route("/ignore", web::post().to(hello))
            .route("/echo", web::post().to(echo))
            .route("/big", web::get().to(big))
            .route("/patient/big", web::get().to(big).wrap(Pace::new().stream(patient)))
            .route("/upgrade", web::get().to(upgrade))
            .route("/bad", web::get().to(bad))
            .route("/slow", web::route().to(slow))
            .route("/soon", web::route().to(soon))
            .route("/smuggled", web::get().to(smuggled));
    }
}

async fn hello(seen: web::Data<Seen>) -> &'static str {
    seen.requests.fetch_add(1, Ordering::Relaxed);
    "hello"
}

async fn upload(seen: web::Data<Seen>, body: Bytes) -> String {
    seen.requests.fetch_add(1, Ordering::Relaxed);
    body.len().to_string()
}

/// Reads the body in a task of its own.
async fn elsewhere(mut body: web::Payload) -> Result<String, actix_web::Error> {
    let read = actix_web::rt::spawn(async move {
        let mut length = 0;
        while let Some(chunk) = body.next().await {
            length += chunk?.len();
        }
        Ok::<_, PayloadError>(length)
    });
    Ok(read.await.unwrap()?.to_string())
}

async fn echo(body: web::Payload) -> HttpResponse {
    HttpResponse::Ok().streaming(body)
}

/// More than the kernels on both sides take for a client that does not read.
pub(super) const BIG: usize = 32 << 20;

/// A stream under way.
struct Streaming(web::Data<Seen>);

impl Drop for Streaming {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn big(seen: web::Data<Seen>) -> HttpResponse {
    seen.streams.fetch_add(1, Ordering::Relaxed);
    let streaming = Streaming(seen);
    let chunk = Bytes::from(vec![b'#'; 64 << 10]);
    let chunks = (0..BIG / chunk.len()).map(move |_| {
        let _dropped_with_the_stream = &streaming;
        Ok::<_, io::Error>(chunk.clone())
    });
    let chunks = stream::iter(chunks);
    HttpResponse::Ok().streaming(chunks)
}

async fn upgrade(body: web::Payload) -> HttpResponse {
    HttpResponse::SwitchingProtocols().upgrade("echo").streaming(body)
}

async fn bad() -> Result<&'static str, actix_web::Error> {
    Err(actix_web::error::ErrorBadRequest("bad"))
}

async fn soon() -> &'static str {
    tokio::time::sleep(ms(20)).await;
    "soon"
}

async fn slow() -> &'static str {
    tokio::time::sleep(ms(1500)).await;
    "slow"
}

async fn smuggled(seen: web::Data<Seen>) -> &'static str {
    seen.smuggled.fetch_add(1, Ordering::Relaxed);
    "smuggled"
}

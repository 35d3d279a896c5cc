//! The same app twice: bare, and inside the whole edge with limits on every connection.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpServer, web};
use steadfast::edge::{
    Admission, AdmissionLimits, ConnectionLimits, Edge, EdgeLimits, EdgeServer, PanicGuard,
    PanicLimits, Recover,
};

/// A server on a thread of its own, with one worker.
pub(super) struct Server {
    address: SocketAddr,
    handle: ServerHandle,
    thread: JoinHandle<io::Result<()>>,
}

impl Server {
    pub(super) fn start(with_edge: bool) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let (started, start) = mpsc::channel();
        let thread = thread::spawn(move || {
            actix_rt::System::new().block_on(async move {
                let server = if with_edge { whole(listener)? } else { bare(listener)? };
                let _starter_waits = started.send(server.handle());
                server.await
            })
        });
        let handle = start.recv().map_err(|_ended| io::Error::other("the server did not start"))?;
        Ok(Self { address, handle, thread })
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) async fn stop(self) {
        self.handle.stop(false).await;
        let ended = self.thread.join();
        drop(ended.expect("the server's thread does not panic"));
    }
}

fn bare(listener: TcpListener) -> io::Result<actix_web::dev::Server> {
    let server = HttpServer::new(|| App::new().configure(routes));
    Ok(server.listen(listener)?.workers(1).disable_signals().run())
}

fn whole(listener: TcpListener) -> io::Result<actix_web::dev::Server> {
    let edge = everything()?;
    let server = EdgeServer::new(move || App::new().configure(routes).wrap(edge.clone()));
    // The load comes from one address, on connections that live as long as it lasts.
    let mut limits = EdgeLimits::default();
    limits.connections.per_address = limits.connections.total;
    limits.connections.requests = u32::MAX;
    limits.connections.age = Duration::from_secs(24 * 60 * 60);
    let server = server.limits(limits).map_err(io::Error::other)?;
    server.listen(listener)?.workers(1).disable_signals().run()
}

/// The edge with all that can be turned on, and limits that are not reached.
fn everything() -> io::Result<Edge> {
    let mut limits = AdmissionLimits::default();
    (limits.limit, limits.target_p95) = (1024, Duration::from_secs(1));
    (limits.rate.per_second, limits.rate.burst) = (1_000_000, 1_000_000);
    let admission = Admission::new(&limits, &ConnectionLimits::default());
    let mut panics = PanicLimits::default();
    panics.percent = 50;
    let guard = PanicGuard::new(&panics).map_err(io::Error::other)?;
    let edge = Edge::new().recover(Recover::new().guard(guard));
    Ok(edge.admission(admission.map_err(io::Error::other)?))
}

fn routes(app: &mut web::ServiceConfig) {
    app.route("/", web::get().to(async || "Hello, world!"));
    app.route("/json", web::post().to(async |body: web::Json<Message>| body));
}

/// What the JSON route reads and answers.
#[derive(serde::Deserialize, serde::Serialize)]
struct Message {
    text: String,
}

//! The server under load: handlers that need a slot, with and without admission.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpServer, web};
use steadfast::edge::{
    Admission, AdmissionLimits, ConnectionLimits, Edge, RequestGuard, TrustPolicy,
};
use tokio::sync::Semaphore;
use tokio::time::sleep;

use super::{SLOTS, WORK_US};

/// Who is admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Everybody.
    Off,
    /// As many as there are slots, and two on their way.
    Fixed,
    /// As many as are served in half more than the time that one takes alone.
    Adaptive,
}

impl Mode {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Fixed => "on, fixed limit",
            Self::Adaptive => "on, by p95",
        }
    }

    fn limits(self) -> AdmissionLimits {
        let mut limits = AdmissionLimits::default();
        limits.min = SLOTS / 2;
        limits.max = SLOTS * 4;
        match self {
            Self::Off => {}
            Self::Fixed => limits.limit = SLOTS + 2,
            Self::Adaptive => {
                limits.limit = SLOTS * 2;
                let [_, longest] = WORK_US;
                limits.target_p95 = Duration::from_millis(longest * 3 / 2 / 1000);
            }
        }
        limits
    }
}

/// A server on a thread of its own, with one worker.
pub(super) struct Server {
    address: SocketAddr,
    edge: Edge,
    handle: ServerHandle,
    thread: JoinHandle<io::Result<()>>,
}

impl Server {
    pub(super) fn start(mode: Mode) -> io::Result<Self> {
        let admission = Admission::new(&mode.limits(), &ConnectionLimits::default());
        let requests = RequestGuard::new().trust_priority(TrustPolicy::Loopback);
        let edge = Edge::new().requests(requests).admission(admission.map_err(io::Error::other)?);
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let (started, start) = mpsc::channel();
        let wrapper = edge.clone();
        let thread = thread::spawn(move || {
            actix_rt::System::new().block_on(async move {
                let server = server(wrapper, listener)?;
                let _starter_waits = started.send(server.handle());
                server.await
            })
        });
        let handle = start.recv().map_err(|_ended| io::Error::other("the server did not start"))?;
        Ok(Self { address, edge, handle, thread })
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The limit now; 0 without one.
    pub(super) fn limit(&self) -> usize {
        self.edge.counts().admission.limit
    }

    pub(super) async fn stop(self) {
        self.handle.stop(false).await;
        let ended = self.thread.join();
        drop(ended.expect("the server's thread does not panic"));
    }
}

fn server(edge: Edge, listener: TcpListener) -> io::Result<actix_web::dev::Server> {
    let slots = Arc::new(Semaphore::new(SLOTS));
    let server = HttpServer::new(move || {
        let slots = Arc::clone(&slots);
        let work = move || {
            let slots = Arc::clone(&slots);
            async move {
                let slot = slots.acquire().await;
                let [least, most] = WORK_US;
                sleep(Duration::from_micros(fastrand::u64(least..=most))).await;
                drop(slot);
                "done"
            }
        };
        App::new().route("/", web::get().to(work)).wrap(edge.clone())
    });
    Ok(server.listen(listener)?.workers(1).disable_signals().run())
}

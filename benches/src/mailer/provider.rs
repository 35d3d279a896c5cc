//! A provider on a thread of its own: Resend's `POST /emails`, as late as it is told to be.

use std::collections::HashSet;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};

/// How it answers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    /// How late.
    pub(super) latency: Duration,
    /// Whether one request in a hundred fails, every other of them after the mail was taken.
    pub(super) fails: bool,
}

/// What it has taken.
#[derive(Debug, Default)]
struct Taken {
    keys: Mutex<HashSet<String>>,
    requests: AtomicU64,
}

/// The provider; [`Provider::stop`] ends it.
pub(super) struct Provider {
    address: SocketAddr,
    taken: Arc<Taken>,
    handle: ServerHandle,
    thread: JoinHandle<io::Result<()>>,
}

impl Provider {
    pub(super) fn start(manner: Manner) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let (taken, (started, start)) = (Arc::<Taken>::default(), mpsc::channel());
        let kept = Arc::clone(&taken);
        let thread = thread::spawn(move || {
            actix_rt::System::new().block_on(async move {
                let app = move || {
                    let kept = Arc::clone(&kept);
                    let answer = move |request: HttpRequest, _body: web::Bytes| {
                        answer(request, Arc::clone(&kept), manner)
                    };
                    App::new().route("/emails", web::post().to(answer))
                };
                let server =
                    HttpServer::new(app).listen(listener)?.workers(1).disable_signals().run();
                let _starter_waits = started.send(server.handle());
                server.await
            })
        });
        let handle = start.recv().map_err(|_ended| io::Error::other("the server did not start"))?;
        Ok(Self { address, taken, handle, thread })
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many mails it has, each counted once.
    pub(super) fn mails(&self) -> u64 {
        self.taken.keys.lock().unwrap_or_else(PoisonError::into_inner).len() as u64
    }

    pub(super) async fn stop(self) {
        self.handle.stop(false).await;
        let ended = self.thread.join();
        drop(ended.expect("the server's thread does not panic"));
    }
}

async fn answer(request: HttpRequest, taken: Arc<Taken>, manner: Manner) -> HttpResponse {
    if !manner.latency.is_zero() {
        tokio::time::sleep(manner.latency).await;
    }
    let number = taken.requests.fetch_add(1, Ordering::Relaxed);
    let is_fault = manner.fails && number % 100 == 99;
    let is_lost = is_fault && number % 200 == 99;
    if !is_lost {
        let key = request.headers().get("idempotency-key").and_then(|key| key.to_str().ok());
        let mut keys = taken.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.insert(key.unwrap_or_default().to_owned());
    }
    if is_fault {
        return HttpResponse::BadGateway().finish();
    }
    // Each mail has a name of its own, as with any provider.
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    HttpResponse::Ok().content_type("application/json").body(format!(r#"{{"id":"e-{id}"}}"#))
}

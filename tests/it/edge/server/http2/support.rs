//! A server of many streams, an honest client, and one that writes frames as it likes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use actix_web::http::{Method, Version};
use actix_web::web::{self, Bytes};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::stream;
use h2::client::{ResponseFuture, SendRequest};
use http_02::Request;
use steadfast::edge::EdgeLimits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_rustls::client::TlsStream;

use crate::edge::server::encrypted::{Encrypted, PATIENCE};
use crate::edge::server::support::ms;

/// What the handlers have seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    begun: AtomicUsize,
    finished: AtomicUsize,
    dropped: AtomicUsize,
}

impl Seen {
    pub(super) fn begun(&self) -> usize {
        self.begun.load(Ordering::SeqCst)
    }

    pub(super) fn finished(&self) -> usize {
        self.finished.load(Ordering::SeqCst)
    }

    pub(super) fn dropped(&self) -> usize {
        self.dropped.load(Ordering::SeqCst)
    }
}

struct Work(web::Data<Seen>, bool);

impl Work {
    fn begin(seen: web::Data<Seen>) -> Self {
        seen.begun.fetch_add(1, Ordering::SeqCst);
        Self(seen, false)
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let count = if self.1 { &self.0.finished } else { &self.0.dropped };
        count.fetch_add(1, Ordering::SeqCst);
    }
}

async fn work(seen: web::Data<Seen>, milliseconds: web::Path<u64>) -> &'static str {
    let mut work = Work::begin(seen);
    sleep(ms(*milliseconds)).await;
    work.1 = true;
    "done"
}

async fn hello(request: HttpRequest) -> String {
    assert_eq!(request.version(), Version::HTTP_2);
    request.connection_info().scheme().to_owned()
}

async fn upload(body: Bytes) -> String {
    body.len().to_string()
}

pub(super) const BIG: usize = 32 << 20;

async fn big(seen: web::Data<Seen>) -> HttpResponse {
    let work = Work::begin(seen);
    let chunk = Bytes::from(vec![b'#'; 64 << 10]);
    let chunks = (0..BIG / chunk.len()).map(move |_| {
        let _dropped_with_the_stream = &work;
        Ok::<_, std::io::Error>(chunk.clone())
    });
    HttpResponse::Ok().streaming(stream::iter(chunks))
}

/// A stream that never says anything.
async fn silent(seen: web::Data<Seen>) -> HttpResponse {
    let work = Work::begin(seen);
    let never = stream::poll_fn(move |_| {
        let _dropped_with_the_stream = &work;
        std::task::Poll::<Option<Result<Bytes, std::io::Error>>>::Pending
    });
    HttpResponse::Ok().streaming(never)
}

pub(super) fn start(limits: EdgeLimits) -> (Encrypted, Arc<Seen>) {
    let seen = Arc::new(Seen::default());
    let data = Arc::clone(&seen);
    let server = Encrypted::serve(limits, true, move |app| {
        app.app_data(web::Data::from(Arc::clone(&data)))
            .route("/", web::get().to(hello))
            .route("/upload", web::post().to(upload))
            .route("/big", web::get().to(big))
            .route("/silent", web::get().to(silent))
            .route("/work/{ms}", web::route().to(work));
    });
    (server, seen)
}

/// An honest client.
pub(super) struct Client {
    pub(super) send: SendRequest<Bytes>,
    pub(super) connection: JoinHandle<Result<(), h2::Error>>,
}

impl Client {
    pub(super) async fn connect(server: &Encrypted) -> Self {
        let stream = server.connect().await;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (send, connection) = h2::client::handshake(stream).await.unwrap();
        let connection = tokio::spawn(connection);
        Self { send, connection }
    }

    pub(super) async fn ask(&mut self, method: Method, path: &str) -> ResponseFuture {
        self.begin(method, path, true).await.0
    }

    pub(super) async fn begin(
        &mut self,
        method: Method,
        path: &str,
        whole: bool,
    ) -> (ResponseFuture, h2::SendStream<Bytes>) {
        let uri = format!("https://localhost{path}");
        let request = Request::builder().method(method).uri(uri).body(()).unwrap();
        self.send = timeout(PATIENCE, self.send.clone().ready()).await.unwrap().unwrap();
        self.send.send_request(request, whole).unwrap()
    }

    pub(super) async fn get(&mut self, path: &str) -> (u16, String) {
        read(self.ask(Method::GET, path).await).await
    }

    /// Waits until the server has ended it. Whether in good order.
    pub(super) async fn ended(self) -> bool {
        timeout(PATIENCE, self.connection).await.unwrap().unwrap().is_ok()
    }
}

pub(super) async fn read(response: ResponseFuture) -> (u16, String) {
    let response = timeout(PATIENCE, response).await.unwrap().unwrap();
    let status = response.status().as_u16();
    let mut body = response.into_body();
    let mut heard = Vec::new();
    while let Some(chunk) = timeout(PATIENCE, body.data()).await.unwrap() {
        let chunk = chunk.unwrap();
        body.flow_control().release_capacity(chunk.len()).unwrap();
        heard.extend_from_slice(&chunk);
    }
    (status, String::from_utf8(heard).unwrap())
}

/// A client that knows no rules.
pub(super) struct Raw {
    stream: TlsStream<TcpStream>,
    pub(super) begun: Instant,
}

pub(super) const HEADERS: u8 = 1;
pub(super) const RESET: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const CONTINUATION: u8 = 9;

/// The head of a GET.
pub(super) fn head(path: &str) -> Vec<u8> {
    let mut head = vec![0x82, 0x87, 0x04, u8::try_from(path.len()).unwrap()];
    head.extend(path.as_bytes());
    head.extend([0x01, 9]);
    head.extend(b"localhost");
    head
}

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![a, b, c, kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

impl Raw {
    pub(super) async fn connect(server: &Encrypted) -> Self {
        let mut stream = server.connect().await;
        stream.get_ref().0.set_nodelay(true).unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
        Self { stream, begun: Instant::now() }
    }

    /// The server may have had enough before the end of it.
    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _cut = self.stream.write_all(bytes.as_ref()).await;
        let _cut = self.stream.flush().await;
    }

    pub(super) async fn get(&mut self, stream: u32, path: &str) {
        self.send(frame(HEADERS, 0x5, stream, &head(path))).await;
    }

    /// Waits until the server says this.
    pub(super) async fn hear(&mut self, what: &[u8]) {
        let mut heard = Vec::new();
        while !heard.windows(what.len()).any(|window| window == what) {
            let read = self.stream.read_buf(&mut heard);
            assert_ne!(timeout(PATIENCE, read).await.unwrap().unwrap(), 0, "{heard:?}");
        }
    }

    /// Everything until the server ends it, when, and whether in good order.
    pub(super) async fn ended(mut self) -> (Vec<u8>, Duration, bool) {
        let mut heard = Vec::new();
        let ended = timeout(PATIENCE, self.stream.read_to_end(&mut heard)).await.unwrap();
        (heard, self.begun.elapsed(), ended.is_ok())
    }
}

#[track_caller]
pub(super) fn expect_within(after: Duration, limit: Duration) {
    assert!(after >= limit - ms(30) && after < limit + ms(1500), "limit {limit:?}: {after:?}");
}

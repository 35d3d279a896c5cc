//! A server of many streams, an honest client, and one that writes frames as it likes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use actix_web::http::{Method, Version};
use actix_web::web::{self, Bytes, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::stream;
use h2::client::{ResponseFuture, SendRequest};
use http_02::Request;
use steadfast::edge::{Disconnect, Edge, EdgeLimits};
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
    start_around(Edge::new(), limits)
}

pub(super) fn start_around(edge: Edge, limits: EdgeLimits) -> (Encrypted, Arc<Seen>) {
    let seen = Arc::new(Seen::default());
    (Encrypted::around(edge, limits, true, routes(&seen)), seen)
}

pub(super) fn routes(
    seen: &Arc<Seen>,
) -> impl Fn(&mut ServiceConfig) + Clone + Send + use<> + 'static {
    let data = Arc::clone(seen);
    move |app| {
        let leaving = |path: &str, disconnect| web::resource(path).wrap(disconnect).to(work);
        app.app_data(web::Data::from(Arc::clone(&data)))
            .route("/", web::get().to(hello))
            .route("/upload", web::post().to(upload))
            .route("/big", web::get().to(big))
            .route("/silent", web::get().to(silent))
            .route("/work/{ms}", web::route().to(work))
            .service(leaving("/cancel/{ms}", Disconnect::Cancel))
            .service(leaving("/finish/{ms}", Disconnect::Finish))
            .service(leaving("/detach/{ms}", Disconnect::Detach));
    }
}

/// An honest client.
pub(super) struct Client {
    pub(super) send: SendRequest<Bytes>,
    pub(super) connection: JoinHandle<Result<(), h2::Error>>,
}

impl Client {
    pub(super) async fn connect(server: &Encrypted) -> Self {
        Self::over(server.connect().await).await
    }

    pub(super) async fn over(stream: TlsStream<TcpStream>) -> Self {
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
        let chunk = match chunk {
            Ok(chunk) => chunk,
            // It was answered, and told that the rest of its request is not wanted.
            Err(error) if error.reason() == Some(h2::Reason::NO_ERROR) => break,
            Err(error) => panic!("{error}"),
        };
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

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RESET: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The head of a GET.
pub(super) fn head(path: &str) -> Vec<u8> {
    head_of(0x82, path)
}

/// The head of a POST.
pub(super) fn post(path: &str) -> Vec<u8> {
    head_of(0x83, path)
}

fn head_of(method: u8, path: &str) -> Vec<u8> {
    let mut head = vec![method, 0x87, 0x04, u8::try_from(path.len()).unwrap()];
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
        let mut raw = Self::mute(server).await;
        // Without a table, so that each head can be read by itself.
        raw.send([PREFACE, &frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0])].concat()).await;
        raw
    }

    /// It has not said anything yet.
    pub(super) async fn mute(server: &Encrypted) -> Self {
        let stream = server.connect().await;
        stream.get_ref().0.set_nodelay(true).unwrap();
        Self { stream, begun: Instant::now() }
    }

    /// The next frame: its kind, its flags, its stream, and what is in it. `None` at the end.
    pub(super) async fn next(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        let mut head = [0; 9];
        let read = timeout(PATIENCE, self.stream.read_exact(&mut head)).await.unwrap();
        read.ok()?;
        let [l1, l2, l3, kind, flags, s1, s2, s3, s4] = head;
        let length = u32::from_be_bytes([0, l1, l2, l3]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        timeout(PATIENCE, self.stream.read_exact(&mut payload)).await.unwrap().ok()?;
        Some((kind, flags, u32::from_be_bytes([s1, s2, s3, s4]), payload))
    }

    /// Of the next so many answers, whichever they are.
    pub(super) async fn statuses(&mut self, count: usize) -> Vec<u16> {
        let mut statuses = Vec::new();
        while statuses.len() < count {
            let (kind, _, _, payload) = self.next().await.expect("an answer");
            statuses.extend((kind == HEADERS).then(|| status_of(&payload)));
        }
        statuses
    }

    /// Reads on until a stream has ended: with its status, and what was in it, or with a reset.
    pub(super) async fn answer(&mut self, stream: u32) -> (u16, Vec<u8>) {
        let (mut status, mut body) = (0, Vec::new());
        loop {
            let (kind, flags, id, payload) = self.next().await.expect("an answer");
            match kind {
                HEADERS if id == stream => status = status_of(&payload),
                DATA if id == stream => body.extend(payload),
                RESET if id == stream => return (RESET_STATUS, body),
                _ => continue,
            }
            if flags & 1 != 0 {
                return (status, body);
            }
        }
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

/// In place of the status of a stream that was reset.
pub(super) const RESET_STATUS: u16 = 999;

/// The first header is the status: a number of the static table, or three digits, each of which
/// takes five bits up to 2, and six above.
fn status_of(head: &[u8]) -> u16 {
    let (first, digits) = match head {
        [0x88..=0x8E, ..] => (head[0] - 0x88, [0; 3]),
        // The table has no room any more.
        [0x20, rest @ ..] => return status_of(rest),
        [_, 0x83, one, two, three, ..] => (u8::MAX, [*one, *two, *three]),
        _ => panic!("{head:?}"),
    };
    if let Some(status) = [200, 204, 206, 304, 400, 404, 500].get(usize::from(first)) {
        return *status;
    }
    let [one, two, three] = digits;
    let mut bits = u32::from_be_bytes([one, two, three, 0]);
    (0..3).fold(0, |status, _| {
        let (digit, taken) = if bits >> 27 <= 2 { (bits >> 27, 5) } else { ((bits >> 26) - 22, 6) };
        bits <<= taken;
        status * 10 + u16::try_from(digit).unwrap()
    })
}

#[track_caller]
pub(super) fn expect_within(after: Duration, limit: Duration) {
    assert!(after >= limit - ms(30) && after < limit + ms(1500), "limit {limit:?}: {after:?}");
}

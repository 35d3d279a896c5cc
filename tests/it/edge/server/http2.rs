//! The same limits over HTTP/2, and those that only it needs: through an honest client, and
//! through one that writes frames as it likes.

use std::net::Ipv4Addr;
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

use super::encrypted::{Encrypted, PATIENCE};
use super::support::{limits, ms};
use crate::edge::support::eventually;
use crate::support::attackers::Attacker;

/// What the handlers have seen.
#[derive(Debug, Default)]
struct Seen {
    begun: AtomicUsize,
    finished: AtomicUsize,
    dropped: AtomicUsize,
}

impl Seen {
    fn begun(&self) -> usize {
        self.begun.load(Ordering::SeqCst)
    }

    fn finished(&self) -> usize {
        self.finished.load(Ordering::SeqCst)
    }

    fn dropped(&self) -> usize {
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

const BIG: usize = 32 << 20;

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

fn start(limits: EdgeLimits) -> (Encrypted, Arc<Seen>) {
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
struct Client {
    send: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

impl Client {
    async fn connect(server: &Encrypted) -> Self {
        let stream = server.connect().await;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (send, connection) = h2::client::handshake(stream).await.unwrap();
        let connection = tokio::spawn(connection);
        Self { send, connection }
    }

    async fn ask(&mut self, method: Method, path: &str) -> ResponseFuture {
        self.begin(method, path, true).await.0
    }

    async fn begin(
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

    async fn get(&mut self, path: &str) -> (u16, String) {
        read(self.ask(Method::GET, path).await).await
    }

    /// Waits until the server has ended it. Whether in good order.
    async fn ended(self) -> bool {
        timeout(PATIENCE, self.connection).await.unwrap().unwrap().is_ok()
    }
}

async fn read(response: ResponseFuture) -> (u16, String) {
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
struct Raw {
    stream: TlsStream<TcpStream>,
    begun: Instant,
}

const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;

/// `GET /work/60000`, of localhost, in the static table where it can be.
fn head(path: &str) -> Vec<u8> {
    let mut head = vec![0x82, 0x87, 0x04, u8::try_from(path.len()).unwrap()];
    head.extend(path.as_bytes());
    head.extend([0x01, 9]);
    head.extend(b"localhost");
    head
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![a, b, c, kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

impl Raw {
    async fn connect(server: &Encrypted) -> Self {
        let mut stream = server.connect().await;
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
        Self { stream, begun: Instant::now() }
    }

    /// The server may have had enough before the end of it.
    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _cut = self.stream.write_all(bytes.as_ref()).await;
        let _cut = self.stream.flush().await;
    }

    async fn get(&mut self, stream: u32, path: &str) {
        self.send(frame(HEADERS, 0x5, stream, &head(path))).await;
    }

    /// Everything until the server ends it, when, and whether in good order.
    async fn ended(mut self) -> (Vec<u8>, Duration, bool) {
        let mut heard = Vec::new();
        let ended = timeout(PATIENCE, self.stream.read_to_end(&mut heard)).await.unwrap();
        (heard, self.begun.elapsed(), ended.is_ok())
    }
}

#[track_caller]
fn expect_within(after: Duration, limit: Duration) {
    assert!(after >= limit - ms(30) && after < limit + ms(1500), "limit {limit:?}: {after:?}");
}

#[tokio::test]
async fn requests_are_answered_side_by_side() {
    let (server, seen) = start(limits());
    let mut client = Client::connect(&server).await;
    assert_eq!(client.get("/").await, (200, "https".to_owned()));
    let slow = client.ask(Method::GET, "/work/300").await;
    assert_eq!(client.get("/").await.0, 200);
    assert_eq!(seen.finished(), 0);
    assert_eq!(read(slow).await, (200, "done".to_owned()));
    let (response, mut body) = client.begin(Method::POST, "/upload", false).await;
    body.send_data(Bytes::from_static(b"12345"), false).unwrap();
    body.send_data(Bytes::from_static(b"678"), true).unwrap();
    assert_eq!(read(response).await, (200, "8".to_owned()));
    assert_eq!(client.get("/big").await.1.len(), BIG);
    assert_eq!(server.counts().accepted, 1);
}

#[tokio::test]
async fn large_windows_are_used_and_nothing_gets_stuck() {
    let (server, seen) = start(limits());
    let stream = server.connect().await;
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(1 << 30).initial_connection_window_size(1 << 30);
    let (send, connection) = builder.handshake(stream).await.unwrap();
    let mut client = Client { send, connection: tokio::spawn(connection) };
    let mut responses = Vec::new();
    for _ in 0..3 {
        responses.push(client.ask(Method::GET, "/big").await);
    }
    let read = responses.into_iter().map(read);
    for (status, body) in futures_util::future::join_all(read).await {
        assert_eq!((status, body.len()), (200, BIG));
    }
    eventually("all of it is over", || seen.dropped() == 3).await;
    assert_eq!(server.counts().write_too_slow, 0);
}

#[tokio::test]
async fn it_is_neither_offered_nor_spoken_without_the_switch() {
    let server = Encrypted::start(limits(), |app| {
        app.route("/", web::get().to(|| async { "hello" }));
    });
    let stream = server.connect().await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let raw = Raw::connect(&server).await;
    let (heard, ..) = raw.ended().await;
    assert!(heard.starts_with(b"HTTP/1.1 400"), "{}", String::from_utf8_lossy(&heard));
}

#[tokio::test]
async fn it_is_not_spoken_without_tls() {
    let server = super::support::Guarded::start();
    let mut client = Attacker::connect(server.address).await;
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    assert_eq!(client.ended().await.statuses(), [400]);
}

#[tokio::test]
async fn the_client_is_told_its_limits() {
    let mut limits = limits();
    limits.http2.streams = 7;
    let (server, _) = start(limits);
    let (heard, ..) = Raw::connect(&server).await.ended().await;
    let told = [0, 3, 0, 0, 0, 7, 0, 6, 0, 0, 8, 0];
    let length = usize::from(heard[2]);
    assert_eq!((heard[3], &heard[9 + length - told.len()..9 + length]), (SETTINGS, &told[..]));
}

#[tokio::test]
async fn an_idle_connection_is_closed_in_good_order_whatever_it_pings() {
    let (server, _) = start(limits());
    let mut client = Client::connect(&server).await;
    let begun = Instant::now();
    client.get("/").await;
    assert!(client.ended().await);
    expect_within(begun.elapsed(), limits().connections.idle);
    let mut pinging = Raw::connect(&server).await;
    pinging.get(1, "/").await;
    pinging.begun = Instant::now();
    for _ in 0..100 {
        pinging.send(frame(PING, 0, 0, b"12345678")).await;
        sleep(ms(20)).await;
        if server.counts().open == 0 {
            break;
        }
    }
    assert!(pinging.begun.elapsed() < limits().connections.idle + ms(1000));
    server.empty().await;
    assert_eq!(server.counts().idle, 2);
}

#[tokio::test]
async fn a_first_head_that_does_not_come_is_not_waited_for() {
    let (server, _) = start(limits());
    let mut mute = server.connect().await;
    let begun = Instant::now();
    let mut heard = Vec::new();
    let _reset = timeout(PATIENCE, mute.read_to_end(&mut heard)).await.unwrap();
    expect_within(begun.elapsed(), limits().head.timeout);
    let greeting = Raw::connect(&server).await;
    let (_, after, in_good_order) = greeting.ended().await;
    expect_within(after, limits().head.timeout);
    assert!(in_good_order, "it had begun nothing");
    server.empty().await;
    assert_eq!(server.counts().head_timeout, 2);
}

#[tokio::test]
async fn a_head_that_never_ends_is_cut() {
    let (server, _) = start(limits());
    let mut attacker = Raw::connect(&server).await;
    attacker.get(1, "/").await;
    attacker.begun = Instant::now();
    attacker.send(frame(HEADERS, 0x1, 3, &head("/"))).await;
    let (_, after, in_good_order) = attacker.ended().await;
    expect_within(after, limits().head.timeout);
    assert!(!in_good_order);
    let mut attacker = Raw::connect(&server).await;
    attacker.send(&frame(HEADERS, 0x5, 1, &head("/"))[..11]).await;
    let (_, after, _) = attacker.ended().await;
    expect_within(after, limits().head.timeout);
    server.empty().await;
    assert_eq!(server.counts().head_timeout, 2);
}

#[tokio::test]
async fn a_head_without_end_is_cut_and_one_that_unpacks_to_more_is_refused() {
    let (server, seen) = start(limits());
    let mut attacker = Raw::connect(&server).await;
    attacker.send(frame(HEADERS, 0x1, 1, &head("/work/1"))).await;
    for _ in 0..300 {
        attacker.send(frame(CONTINUATION, 0, 1, &[0; 0])).await;
    }
    let (_, after, in_good_order) = attacker.ended().await;
    assert!(!in_good_order && after < limits().head.timeout, "{after:?}");
    server.empty().await;
    assert_eq!(server.counts().head_too_large, 1);

    let mut client = Client::connect(&server).await;
    let request = |count| {
        let mut request = Request::builder().uri("https://localhost/work/1").body(()).unwrap();
        for _ in 0..count {
            request.headers_mut().append("x-same", "v".repeat(200).parse().unwrap());
        }
        request
    };
    client.get("/").await;
    for (count, status) in [(5, 200), (12, 431)] {
        let (response, _) = client.send.send_request(request(count), true).unwrap();
        assert_eq!(read(response).await.0, status, "{count}");
    }
    assert_eq!(seen.begun(), 1);
    assert_eq!(server.counts().head_too_large, 1, "only its stream ended");
}

#[tokio::test]
async fn there_may_be_as_many_streams_as_the_client_was_told_and_not_one_more() {
    let mut limits = limits();
    limits.http2.streams = 10;
    let (server, seen) = start(limits);
    let mut attacker = Raw::connect(&server).await;
    for n in 0..10 {
        attacker.get(2 * n + 1, "/work/60000").await;
    }
    eventually("all are served", || seen.begun() == 10).await;
    assert_eq!(server.counts().too_many_streams, 0);
    attacker.get(21, "/work/60000").await;
    let (_, _, in_good_order) = attacker.ended().await;
    assert!(!in_good_order);
    eventually("their work is dropped", || seen.dropped() == 10).await;
    server.empty().await;
    assert_eq!((server.counts().too_many_streams, seen.begun()), (1, 10));
}

#[tokio::test]
async fn a_client_that_opens_and_resets_at_once_is_cut_and_its_work_is_bounded() {
    let mut limits = limits();
    limits.http2.streams = 10;
    limits.http2.resets = 50;
    let (server, seen) = start(limits);
    let mut attacker = Raw::connect(&server).await;
    let flood: Vec<u8> = (0..500_u32)
        .flat_map(|n| {
            let id = 2 * n + 1;
            let request = frame(HEADERS, 0x5, id, &head("/work/60000"));
            [request, frame(RESET, 0, id, &8_u32.to_be_bytes())].concat()
        })
        .collect();
    attacker.send(flood).await;
    let (_, _, in_good_order) = attacker.ended().await;
    assert!(!in_good_order);
    server.empty().await;
    assert_eq!(server.counts().reset_flood, 1);
    assert!(seen.begun() <= 50, "{}", seen.begun());
    eventually("nothing goes on", || seen.dropped() == seen.begun()).await;
}

#[tokio::test]
async fn work_of_a_stream_that_is_reset_is_dropped_and_of_others_it_is_not() {
    let (server, seen) = start(limits());
    let mut client = Client::connect(&server).await;
    let stays = client.ask(Method::GET, "/work/700").await;
    let leaves = client.ask(Method::GET, "/work/60000").await;
    let silent = client.ask(Method::GET, "/silent").await;
    eventually("they begin", || seen.begun() == 3).await;
    drop(leaves);
    eventually("one is dropped", || seen.dropped() == 1).await;
    drop(silent);
    eventually("the other too", || seen.dropped() == 2).await;
    assert_eq!(read(stays).await, (200, "done".to_owned()));
}

#[tokio::test]
async fn work_for_a_client_that_is_gone_is_dropped_or_goes_on_without_it() {
    let (server, seen) = start(limits());
    let mut client = Client::connect(&server).await;
    let read = client.ask(Method::GET, "/work/60000").await;
    let silent = client.ask(Method::GET, "/silent").await;
    let write = client.ask(Method::POST, "/work/600").await;
    eventually("they begin", || seen.begun() == 3).await;
    client.connection.abort();
    eventually("what only read is dropped", || seen.dropped() == 2).await;
    assert_eq!(server.counts().open, 1, "it counts until its work is done");
    eventually("what wrote has finished", || seen.finished() == 1).await;
    server.empty().await;
    drop((read, silent, write));
}

#[tokio::test]
async fn who_grants_no_window_is_reset() {
    let (server, seen) = start(limits());
    let mut attacker = Raw::connect(&server).await;
    attacker.get(1, "/big").await;
    eventually("it begins", || seen.begun() == 1).await;
    let begun = Instant::now();
    // It reads what comes, so the connection itself is never blocked.
    let (heard, ..) = attacker.ended().await;
    assert!(heard.len() > 60_000, "{}", heard.len());
    expect_within(begun.elapsed(), limits().write.grace);
    server.empty().await;
    assert_eq!((server.counts().write_too_slow, seen.dropped()), (1, 1));
}

#[tokio::test]
async fn who_reads_nothing_is_reset() {
    let (server, seen) = start(limits());
    let mut attacker = Raw::connect(&server).await;
    // Windows as large as they can be.
    let settings = frame(SETTINGS, 0, 0, &[0, 4, 0x7F, 0xFF, 0xFF, 0xFF]);
    attacker.send(settings).await;
    attacker.send(frame(8, 0, 0, &0x7FFF_0000_u32.to_be_bytes())).await;
    for n in 0..8 {
        attacker.get(2 * n + 1, "/big").await;
    }
    eventually("they begin", || seen.begun() == 8).await;
    eventually("it is reset", || server.counts().write_too_slow == 1).await;
    eventually("all are dropped", || seen.dropped() == 8).await;
    server.empty().await;
    drop(attacker);
}

#[tokio::test]
async fn a_body_that_drips_is_refused_and_the_connection_stays() {
    let (server, _) = start(limits());
    let mut client = Client::connect(&server).await;
    let (response, mut body) = client.begin(Method::POST, "/upload", false).await;
    body.send_data(Bytes::from_static(b"1"), false).unwrap();
    let (status, problem) = read(response).await;
    assert_eq!(status, 408);
    assert!(problem.contains("body.timeout"), "{problem}");
    assert_eq!(client.get("/").await.0, 200);
}

#[tokio::test]
async fn after_its_last_request_the_client_is_asked_to_leave() {
    let mut limits = limits();
    limits.connections.requests = 3;
    limits.http2.streams = 4;
    let (server, _) = start(limits);
    let mut client = Client::connect(&server).await;
    let slow = client.ask(Method::GET, "/work/400").await;
    client.get("/").await;
    client.get("/").await;
    assert_eq!(read(slow).await.0, 200);
    assert!(client.ended().await);
    let mut attacker = Raw::connect(&server).await;
    for n in 0..3 {
        attacker.get(2 * n + 1, "/work/60000").await;
        sleep(ms(20)).await;
    }
    for n in 3..8 {
        let id = 2 * n + 1;
        attacker.get(id, "/work/1").await;
        attacker.send(frame(RESET, 0, id, &8_u32.to_be_bytes())).await;
    }
    let (heard, _, in_good_order) = attacker.ended().await;
    let farewell = frame(7, 0, 0, &[0x7F, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0]);
    assert!(heard.windows(farewell.len()).any(|window| window == farewell));
    assert!(!in_good_order);
    server.empty().await;
    assert_eq!(server.counts().outstayed, 1);
}

#[tokio::test]
async fn an_old_connection_is_closed_when_it_is_idle() {
    let mut limits = limits();
    limits.connections.idle = ms(400);
    limits.connections.age = ms(600);
    limits.connections.age_jitter = 0;
    let (server, _) = start(limits);
    let mut client = Client::connect(&server).await;
    let begun = Instant::now();
    let slow = client.ask(Method::GET, "/work/900").await;
    assert_eq!(read(slow).await.0, 200, "what was begun is answered");
    assert!(client.ended().await);
    assert!(begun.elapsed() < ms(2500));
    server.empty().await;
    assert_eq!(server.counts().age, 1);
}

#[tokio::test]
async fn a_graceful_stop_closes_idle_connections_at_once_and_finishes_requests() {
    let (server, _) = start(limits());
    let mut idle = Client::connect(&server).await;
    idle.get("/").await;
    let fresh = Client::connect(&server).await;
    let mut busy = Client::connect(&server).await;
    let slow = busy.ask(Method::GET, "/work/500").await;
    sleep(ms(100)).await;
    let begun = Instant::now();
    let (idle, fresh, slow, busy, ()) =
        tokio::join!(idle.ended(), fresh.ended(), read(slow), busy.ended(), server.stop());
    assert!(idle && fresh && busy);
    assert_eq!(slow, (200, "done".to_owned()));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(server.counts().open, 0);
    assert_eq!(server.counts().idle, 0);
}

#[tokio::test]
async fn one_address_has_its_share_of_connections() {
    let mut limits = limits();
    limits.connections.per_address = 3;
    let (server, _) = start(limits);
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = Client::connect(&server).await;
        client.get("/").await;
        clients.push(client);
    }
    assert!(server.connect_from(Ipv4Addr::LOCALHOST).await.is_err());
    assert!(server.connect_from(Ipv4Addr::new(127, 0, 0, 2)).await.is_ok());
    assert_eq!(server.counts().refused_address, 1);
}

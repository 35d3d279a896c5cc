//! A server per test, and a client that shows every byte.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use actix_web::dev::ServerHandle;
use actix_web::middleware::Condition;
use actix_web::web::ServiceConfig;
use actix_web::{App, HttpServer};
use serde_json::Value;
use steadfast::edge::{Edge, InFlight, Normalise, Recover, RequestGuard};
use steadfast::telemetry::{Format, Telemetry};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tracing::subscriber::DefaultGuard;

const PATIENCE: Duration = Duration::from_secs(10);

/// What a worker logs.
#[derive(Clone, Default)]
pub(super) struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    fn lines(&self) -> Vec<Value> {
        let bytes = self.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The record of the request with this id, once it is written.
    pub(super) async fn record(&self, id: &str) -> Value {
        let found = || {
            let mut lines = self.lines().into_iter();
            lines.find(|line| line["message"] == "http.finished" && line["request_id"] == id)
        };
        eventually("the request is recorded", || found().is_some()).await;
        found().unwrap()
    }
}

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

thread_local! {
    static LOG: RefCell<Option<DefaultGuard>> = const { RefCell::new(None) };
}

pub(super) fn log_to(sink: &Sink) {
    let sink = sink.clone();
    let telemetry = Telemetry::new().format(Format::Json).filter("debug");
    let subscriber = telemetry.subscriber(move || sink.clone()).unwrap();
    LOG.set(Some(tracing::subscriber::set_default(subscriber)));
}

/// A server with one worker; it stops when dropped.
pub(super) struct Served {
    pub(super) edge: Edge,
    pub(super) in_flight: InFlight,
    address: SocketAddr,
    handle: ServerHandle,
    sink: Sink,
}

impl Served {
    /// The default edge around these routes.
    pub(super) fn start(routes: fn(&mut ServiceConfig)) -> Self {
        Self::with(Edge::new(), routes)
    }

    pub(super) fn with(edge: Edge, routes: fn(&mut ServiceConfig)) -> Self {
        Self::serve(edge, routes, false)
    }

    /// The parts of the edge as three middlewares, in the order that `Edge` has them.
    pub(super) fn in_parts(routes: fn(&mut ServiceConfig)) -> Self {
        Self::serve(Edge::new(), routes, true)
    }

    fn serve(edge: Edge, routes: fn(&mut ServiceConfig), in_parts: bool) -> Self {
        let in_flight = InFlight::new();
        let edge = edge.in_flight(in_flight.clone());
        let guard = RequestGuard::new().in_flight(in_flight.clone());
        let (sink, listener) = (Sink::default(), TcpListener::bind("127.0.0.1:0").unwrap());
        let address = listener.local_addr().unwrap();
        let (started, starting) = mpsc::channel();
        let (log, wrapper) = (sink.clone(), edge.clone());
        thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let app = move || {
                    log_to(&log);
                    App::new()
                        .configure(routes)
                        .wrap(Condition::new(in_parts, Recover::new()))
                        .wrap(Condition::new(in_parts, Normalise::new()))
                        .wrap(Condition::new(in_parts, guard.clone()))
                        .wrap(Condition::new(!in_parts, wrapper.clone()))
                };
                let server = HttpServer::new(app).workers(1).disable_signals().shutdown_timeout(1);
                let server = server.listen(listener).unwrap().run();
                started.send(server.handle()).unwrap();
                server.await.unwrap();
            });
        });
        let handle = starting.recv_timeout(PATIENCE).unwrap();
        Self { edge, in_flight, address, handle, sink }
    }

    pub(super) async fn connect(&self) -> Wire {
        Wire { stream: TcpStream::connect(self.address).await.unwrap(), buffer: Vec::new() }
    }

    /// One request on a connection of its own.
    pub(super) async fn ask(&self, request: Request) -> Answer {
        self.connect().await.ask(request).await.unwrap()
    }

    /// The log lines so far.
    pub(super) fn log(&self) -> Vec<Value> {
        self.sink.lines()
    }

    /// The record of the request with this id, once it is written.
    pub(super) async fn record(&self, id: &str) -> Value {
        self.sink.record(id).await
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // The command is sent at once; nobody needs to wait for its end.
        drop(self.handle.stop(false));
    }
}

/// Waits for a claim about a real server.
pub(super) async fn eventually(claim: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {claim}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A request, written by hand.
#[derive(Debug, Clone)]
pub(super) struct Request {
    line: String,
    headers: String,
    body: String,
}

impl Request {
    pub(super) fn new(method: &str, path: &str) -> Self {
        let line = format!("{method} {path} HTTP/1.1\r\nhost: test\r\n");
        Self { line, headers: String::new(), body: String::new() }
    }

    pub(super) fn get(path: &str) -> Self {
        Self::new("GET", path)
    }

    pub(super) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    pub(super) fn body(mut self, content_type: &str, body: &str) -> Self {
        self.body = body.to_owned();
        self.header("content-type", content_type).header("content-length", &body.len().to_string())
    }

    pub(super) fn json(self, body: &str) -> Self {
        self.body("application/json", body)
    }

    fn bytes(&self) -> Vec<u8> {
        format!("{}{}\r\n{}", self.line, self.headers, self.body).into_bytes()
    }
}

/// An answer as it came over the wire.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HashMap<String, String>,
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// Checks that it is a whole problem document, and that nothing of the inside shows in it.
    #[track_caller]
    pub(super) fn expect(&self, status: u16, code: &str) -> Value {
        let text = String::from_utf8_lossy(&self.body).into_owned();
        let problem = self.json();
        assert_eq!(
            (self.status, &problem["code"]),
            (status, &Value::from(code)),
            "{self:?} {text}"
        );
        assert_eq!(problem["status"], status, "{text}");
        assert_eq!(self.header("content-type"), "application/problem+json", "{text}");
        assert_eq!(self.header("cache-control"), "no-store", "{text}");
        assert_eq!(problem["type"], format!("urn:problem-type:{code}"));
        assert!(problem["title"].is_string(), "{text}");
        assert_eq!(problem["request_id"], self.header("x-request-id"), "{text}");
        assert!(problem["instance"].as_str().unwrap().ends_with(self.header("x-request-id")));
        if matches!(status, 429 | 503) {
            assert!(self.header("retry-after").parse::<u64>().unwrap() >= 1, "{self:?}");
        }
        self.expect_no_leak();
        problem
    }

    #[track_caller]
    pub(super) fn expect_no_leak(&self) {
        let all = format!("{}{}", self.head, String::from_utf8_lossy(&self.body)).to_lowercase();
        for secret in ["boom", "select", "panicked at", ".rs", "::", "u32", "secrettype", "/src/"] {
            assert!(!all.contains(secret), "{secret:?} leaks in {all}");
        }
    }
}

/// One TCP connection that speaks HTTP/1.1 by hand.
pub(super) struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Wire {
    pub(super) async fn send(&mut self, request: &Request) {
        self.stream.write_all(&request.bytes()).await.unwrap();
    }

    /// Sends a request and reads its answer.
    pub(super) async fn ask(&mut self, request: Request) -> io::Result<Answer> {
        self.send(&request).await;
        let bodyless = request.line.starts_with("HEAD");
        tokio::time::timeout(PATIENCE, self.answer(bodyless)).await?
    }

    /// Sends a request whose body has no end, until there is an answer. With how many bytes of it
    /// were sent.
    pub(super) async fn ask_without_end(&mut self, request: &Request) -> (Answer, usize) {
        self.send(&request.clone().header("transfer-encoding", "chunked")).await;
        let chunk = [b"10000\r\n".as_slice(), &[b' '; 0x1_0000], b"\r\n"].concat();
        let (mut place, mut sent) = (0, 0);
        let answered = async |wire: &Self| loop {
            tokio::select! {
                biased;
                _ = wire.stream.readable() => return sent,
                _ = wire.stream.writable() => {
                    if let Ok(count) = wire.stream.try_write(&chunk[place..]) {
                        place = (place + count) % chunk.len();
                        sent += count;
                    }
                    // Against a server that reads as fast, nothing else would let the runtime
                    // look whether there is an answer.
                    tokio::task::yield_now().await;
                }
            }
        };
        let mut answered = answered;
        let sent = tokio::time::timeout(PATIENCE, answered(self)).await.unwrap();
        (self.answer(false).await.unwrap(), sent)
    }

    /// Closes without saying goodbye.
    pub(super) fn reset(self) {
        self.stream.set_zero_linger().unwrap();
    }

    /// Everything until the server closes.
    pub(super) async fn rest(mut self) -> String {
        let read = self.stream.read_to_end(&mut self.buffer);
        let _reset_ends_it_too = tokio::time::timeout(PATIENCE, read).await.unwrap();
        String::from_utf8_lossy(&self.buffer).into_owned()
    }

    async fn answer(&mut self, bodyless: bool) -> io::Result<Answer> {
        let head = loop {
            if let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                let rest = self.buffer.split_off(end + 4);
                let head = std::mem::replace(&mut self.buffer, rest);
                break String::from_utf8(head).unwrap();
            }
            self.fill().await?;
        };
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: HashMap<String, String> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let length = headers.get("content-length").filter(|_| !bodyless);
        let length = length.map_or(0, |length| length.parse().unwrap());
        while self.buffer.len() < length {
            self.fill().await?;
        }
        let rest = self.buffer.split_off(length);
        let body = std::mem::replace(&mut self.buffer, rest);
        Ok(Answer { status, headers, head, body })
    }

    async fn fill(&mut self) -> io::Result<()> {
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

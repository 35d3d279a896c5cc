//! Just enough HTTP/1.1 for a caller under test: bounded requests in, exact bytes out.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const HEAD_MAX: usize = 16 * 1024;
const BODY_MAX: usize = 1024 * 1024;
const HEADERS_MAX: usize = 64;
/// LIMIT: how long a caller may take to send the head of its next request, or the body, or to
/// take an answer in.
const PATIENCE: Duration = Duration::from_secs(60);

/// One request.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    /// Empty until [`Connection::read_body`] has read it.
    pub(super) body: Vec<u8>,
    body_length: usize,
    headers: Vec<(String, String)>,
}

impl Request {
    /// The value of a header, by its lower-case name.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// Whether the caller wants the connection to serve another request.
    pub(super) fn keeps_alive(&self) -> bool {
        !self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

/// Why no further request can be read.
#[derive(Debug)]
pub(super) enum ReadError {
    /// The caller left, or was too slow to send.
    Gone,
    /// The request cannot be served; say so with this status, then close.
    Refused(u16, &'static str),
}

const MALFORMED: ReadError = ReadError::Refused(400, "Bad Request");
const HEAD_TOO_LARGE: ReadError = ReadError::Refused(431, "Request Header Fields Too Large");

impl From<io::Error> for ReadError {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

/// One answer, before it is written.
#[derive(Debug)]
pub(super) struct Answer {
    status: u16,
    content_type: &'static str,
    headers: Vec<(&'static str, Cow<'static, str>)>,
    body: Vec<u8>,
}

impl Answer {
    pub(super) fn json(status: u16, body: &Value) -> Self {
        Self::bytes(status, "application/json", body.to_string().into_bytes())
    }

    pub(super) fn problem(status: u16, title: &str) -> Self {
        let body = json!({ "type": "about:blank", "title": title, "status": status });
        Self::bytes(status, "application/problem+json", body.to_string().into_bytes())
    }

    /// An answer that is only a status.
    pub(super) const fn empty(status: u16) -> Self {
        Self::bytes(status, "", Vec::new())
    }

    pub(super) const fn bytes(status: u16, content_type: &'static str, body: Vec<u8>) -> Self {
        Self { status, content_type, headers: Vec::new(), body }
    }

    pub(super) fn with_header(
        mut self,
        name: &'static str,
        value: impl Into<Cow<'static, str>>,
    ) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) const fn length(&self) -> usize {
        self.body.len()
    }

    /// The head and the body as they go over the wire.
    fn encode(&self, closing: bool) -> (String, &[u8]) {
        let mut head = format!("HTTP/1.1 {} \r\n", self.status);
        let mut line = |name: &str, value: &dyn std::fmt::Display| {
            // Writing to a string cannot fail.
            let _infallible = write!(head, "{name}: {value}\r\n");
        };
        if !self.body.is_empty() {
            line("content-type", &self.content_type);
        }
        line("content-length", &self.body.len());
        for (name, value) in &self.headers {
            line(name, value);
        }
        if closing {
            head.push_str("connection: close\r\n");
        }
        head.push_str("\r\n");
        (head, &self.body)
    }
}

/// One accepted connection and what was read ahead on it.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    closing: bool,
}

impl Connection {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, buffer: Vec::new(), closing: false }
    }

    /// Makes the next answer the last, and says so in it.
    pub(super) const fn close_after_answer(&mut self) {
        self.closing = true;
    }

    pub(super) const fn is_closing(&self) -> bool {
        self.closing
    }

    /// The head of the next request. Its body comes with [`Connection::read_body`].
    pub(super) async fn read_head(&mut self) -> Result<Request, ReadError> {
        timeout(PATIENCE, self.fill_head()).await.unwrap_or(Err(ReadError::Gone))
    }

    async fn fill_head(&mut self) -> Result<Request, ReadError> {
        let (mut request, head_length) = loop {
            match parse_head(&self.buffer)? {
                Some((_, length)) if length > HEAD_MAX => return Err(HEAD_TOO_LARGE),
                Some(parsed) => break parsed,
                None if self.buffer.len() >= HEAD_MAX => return Err(HEAD_TOO_LARGE),
                None => self.fill().await?,
            }
        };
        request.body_length = body_length(&request)?;
        self.buffer.drain(..head_length);
        Ok(request)
    }

    /// Reads the body of the request whose head was read last.
    pub(super) async fn read_body(&mut self, request: &mut Request) -> io::Result<()> {
        timeout(PATIENCE, self.fill_body(request)).await?
    }

    async fn fill_body(&mut self, request: &mut Request) -> io::Result<()> {
        while self.buffer.len() < request.body_length {
            self.fill().await?;
        }
        request.body = self.buffer.drain(..request.body_length).collect();
        Ok(())
    }

    async fn fill(&mut self) -> io::Result<()> {
        let read = self.stream.read_buf(&mut self.buffer).await?;
        if read == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    pub(super) async fn write(&mut self, answer: &Answer) -> io::Result<()> {
        let (head, body) = answer.encode(self.closing);
        self.send(&[head.as_bytes(), body].concat()).await
    }

    /// Promises the whole answer and sends the head and the first half of the body.
    pub(super) async fn write_half(&mut self, answer: &Answer) -> io::Result<()> {
        let (head, body) = answer.encode(self.closing);
        let (half, _withheld) = body.split_at(body.len() / 2);
        self.send(&[head.as_bytes(), half].concat()).await
    }

    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        timeout(PATIENCE, self.stream.write_all(bytes)).await?
    }

    /// Completes when the caller has closed its side. What it still sends is thrown away.
    pub(super) async fn closed(&mut self) {
        let mut scrap = [0; 1024];
        while matches!(self.stream.read(&mut scrap).await, Ok(read) if read > 0) {}
    }

    /// Closes with a reset instead of an orderly end.
    pub(super) fn reset(self) -> io::Result<()> {
        self.stream.set_zero_linger()
    }
}

/// The head of a request and its length, once it is complete.
fn parse_head(bytes: &[u8]) -> Result<Option<(Request, usize)>, ReadError> {
    let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Request::new(&mut fields);
    let refused = |error| {
        let too_many = error == httparse::Error::TooManyHeaders;
        if too_many { HEAD_TOO_LARGE } else { MALFORMED }
    };
    let httparse::Status::Complete(length) = head.parse(bytes).map_err(refused)? else {
        return Ok(None);
    };
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let lower = |field: &httparse::Header<'_>| (field.name.to_lowercase(), text(field.value));
    let request = Request {
        method: head.method.unwrap_or_default().to_owned(),
        path: head.path.unwrap_or_default().to_owned(),
        body: Vec::new(),
        body_length: 0,
        headers: head.headers.iter().map(lower).collect(),
    };
    Ok(Some((request, length)))
}

/// How long the body is. A body without a length is refused, not guessed.
fn body_length(request: &Request) -> Result<usize, ReadError> {
    if request.header("transfer-encoding").is_some() {
        return Err(ReadError::Refused(411, "Length Required"));
    }
    let Some(length) = request.header("content-length") else {
        return Ok(0);
    };
    let length: usize = length.parse().map_err(|_not_a_number| MALFORMED)?;
    if length > BODY_MAX {
        return Err(ReadError::Refused(413, "Content Too Large"));
    }
    Ok(length)
}

//! A load generator that costs little: fixed requests over keep-alive connections.
//!
//! It shares two cores with the server it loads, so it does no more than it must: a request
//! is one write of bytes made once, and an answer is read to its known length, which the
//! first answer of a connection tells. Every status line is looked at.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Larger than any answer here.
const ANSWER_MAX: usize = 4096;

/// A request for the text.
pub(super) fn get() -> Vec<u8> {
    b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n".to_vec()
}

/// A request with 1 kB of JSON.
pub(super) fn post() -> Vec<u8> {
    let body = format!("{{\"text\":\"{}\"}}", "x".repeat(1000));
    format!(
        "POST /json HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// What one round took, and each request in it.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) took: Duration,
    pub(super) microseconds: Vec<f64>,
}

/// Open connections to one server.
pub(super) struct Connections(Vec<Connection>);

impl Connections {
    pub(super) async fn open(address: SocketAddr, count: u16) -> io::Result<Self> {
        let open = (0..count).map(|_| Connection::open(address));
        Ok(Self(try_join_all(open).await?))
    }

    /// Sends that many requests, evenly over the connections.
    pub(super) async fn run(&mut self, request: &[u8], requests: u32) -> io::Result<Round> {
        let count = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        let each = requests.div_ceil(count);
        let began = Instant::now();
        let runs = self.0.iter_mut().map(|connection| connection.run(request, each));
        let latencies = try_join_all(runs).await?;
        Ok(Round { took: began.elapsed(), microseconds: latencies.concat() })
    }
}

struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; ANSWER_MAX] })
    }

    /// Sends requests one after the other; returns what each took, in microseconds.
    async fn run(&mut self, request: &[u8], count: u32) -> io::Result<Vec<f64>> {
        let mut latencies = Vec::with_capacity(count as usize);
        let mut length = None;
        for _ in 0..count {
            let began = Instant::now();
            self.stream.write_all(request).await?;
            length = Some(self.read(length).await?);
            latencies.push(began.elapsed().as_secs_f64() * 1e6);
        }
        Ok(latencies)
    }

    /// Reads one answer of `length` bytes, or finds out its length.
    async fn read(&mut self, length: Option<usize>) -> io::Result<usize> {
        let mut filled = 0;
        loop {
            let space = self.buffer.get_mut(filled..).unwrap_or_default();
            let read = self.stream.read(space).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            filled += read;
            let answer = self.buffer.get(..filled).unwrap_or_default();
            match length.or_else(|| length_of(answer)) {
                Some(length) if filled == length => return check(answer).map(|()| length),
                Some(length) if filled > length => {
                    return Err(io::Error::other("an answer longer than the first"));
                }
                Some(_) | None => {}
            }
        }
    }
}

fn check(answer: &[u8]) -> io::Result<()> {
    if answer.starts_with(b"HTTP/1.1 200 ") {
        return Ok(());
    }
    Err(io::Error::other(format!("not a 200: {}", String::from_utf8_lossy(answer))))
}

/// Head and body together, once the head is there.
pub(crate) fn length_of(answer: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(answer).ok()?;
    let (head, _) = text.split_once("\r\n\r\n")?;
    let body = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    })?;
    Some(head.len() + 4 + body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_length(answer: &str, expected: Option<usize>) {
        assert_eq!(length_of(answer.as_bytes()), expected, "of {answer:?}");
    }

    #[test]
    fn an_answer_is_as_long_as_its_head_and_its_declared_body() {
        check_length("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", Some(40));
        check_length("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n", Some(40));
        check_length("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n", None);
        check_length("HTTP/1.1 200 OK\r\n\r\n", None);
    }

    #[test]
    fn only_a_200_counts() {
        assert!(check(b"HTTP/1.1 200 OK\r\n\r\n").is_ok());
        assert!(check(b"HTTP/1.1 500 Internal Server Error\r\n\r\n").is_err());
    }
}

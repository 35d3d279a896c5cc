//! A client that shows what a library would hide: the connection itself.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// One TCP connection that speaks HTTP/1.1 by hand.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
    bytes_read: usize,
}

/// An answer as it came over the wire.
#[derive(Debug)]
pub(crate) struct RawAnswer {
    pub(crate) status: u16,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl RawAnswer {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

impl Wire {
    /// Connects to `host:port`, with or without `http://` before it.
    pub(crate) async fn connect(address: &str) -> Self {
        Self::try_connect(address).await.unwrap()
    }

    /// As [`Wire::connect`], for a server that may be gone.
    pub(crate) async fn try_connect(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address.trim_start_matches("http://")).await?;
        Ok(Self { stream, buffer: Vec::new(), bytes_read: 0 })
    }

    /// How much has arrived on this connection in all.
    pub(crate) const fn bytes_read(&self) -> usize {
        self.bytes_read
    }

    /// Leaves without saying goodbye.
    pub(crate) fn reset(self) {
        self.stream.set_zero_linger().unwrap();
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref()).await
    }

    /// Sends a GET and reads its answer.
    pub(crate) async fn get(&mut self, path: &str) -> io::Result<RawAnswer> {
        self.send(get(path)).await?;
        self.answer().await
    }

    /// The next whole answer.
    pub(crate) async fn answer(&mut self) -> io::Result<RawAnswer> {
        timeout(ANSWER_WITHIN, self.read_answer()).await?
    }

    /// Everything that arrives within `wait`, and how it ended: `None` if still open.
    pub(crate) async fn watch(&mut self, wait: Duration) -> (Vec<u8>, Option<io::Result<()>>) {
        let ended = timeout(wait, async {
            loop {
                match self.fill().await {
                    Ok(0) => return Ok(()),
                    Ok(_) => {}
                    Err(error) => return Err(error),
                }
            }
        });
        let ended = ended.await.ok();
        (std::mem::take(&mut self.buffer), ended)
    }

    async fn read_answer(&mut self) -> io::Result<RawAnswer> {
        loop {
            if let Some(answer) = take_answer(&mut self.buffer) {
                return Ok(answer);
            }
            if self.fill().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    async fn fill(&mut self) -> io::Result<usize> {
        let read = self.stream.read_buf(&mut self.buffer).await?;
        self.bytes_read += read;
        Ok(read)
    }
}

/// The bytes of a GET request.
pub(crate) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n")
}

/// Splits a whole answer off the front of what was read. Understands `content-length` only.
fn take_answer(buffer: &mut Vec<u8>) -> Option<RawAnswer> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(head_length) = head.parse(buffer).unwrap() else {
        return None;
    };
    let status = head.code.unwrap();
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let headers: HashMap<String, String> =
        head.headers.iter().map(|field| (field.name.to_lowercase(), text(field.value))).collect();
    let length: usize = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    if buffer.len() < head_length + length {
        return None;
    }
    let body = buffer.drain(..head_length + length).skip(head_length).collect();
    Some(RawAnswer { status, headers, body })
}

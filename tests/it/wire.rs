//! Real servers and a client that shows every byte.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// A listener on a free loopback port.
pub(crate) fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// What came back for one request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A whole response: status and everything after the request line.
    Response(u16, String),
    /// Nobody listens: the request was never accepted.
    Refused,
    /// The connection was made and ended without a whole response.
    Lost(String),
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        match self {
            Self::Response(status, _) => *status,
            Self::Refused | Self::Lost(_) => 0,
        }
    }
}

/// Sends one GET on a connection of its own and reads to the end.
pub(crate) fn get(address: SocketAddr, path: &str) -> Answer {
    let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(5)) else {
        return Answer::Refused;
    };
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    let mut answer = Vec::new();
    let exchange = stream.write_all(head.as_bytes()).and_then(|()| stream.read_to_end(&mut answer));
    let text = String::from_utf8_lossy(&answer).into_owned();
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
    match (exchange, status) {
        (Ok(_), Some(status)) => Answer::Response(status, text),
        (outcome, _) => Answer::Lost(format!("{outcome:?} after `{text}`")),
    }
}

/// Waits for a claim about real threads; real time, but no longer than it takes.
#[track_caller]
pub(crate) fn eventually(claim: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(15);
    while !holds() {
        assert!(Instant::now() < deadline, "never: {claim}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

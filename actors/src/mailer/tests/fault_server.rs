//! A server on this host that fails in the ways networks do.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// What it does with each connection.
#[derive(Clone)]
pub(super) enum Fault {
    /// Resets it before it reads anything.
    Reset,
    /// Closes it before it reads anything.
    Close,
    /// Says this at once, and stays.
    Greet(Vec<u8>),
    /// Says nothing, and reads nothing.
    Silent,
    /// Reads the whole request, and says nothing.
    Stall,
    /// Reads the whole request, answers with these bytes, and closes.
    Answer(Vec<u8>),
    /// Reads the whole request, answers with these bytes, and resets.
    AnswerAndReset(Vec<u8>),
}

/// It ends when it is dropped.
pub(super) struct FaultServer {
    pub(super) address: SocketAddr,
    requests: mpsc::Receiver<String>,
    serves: JoinHandle<()>,
}

impl FaultServer {
    pub(super) async fn start(fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (read, requests) = mpsc::channel(100);
        let serves = tokio::spawn(async move {
            // Connections that nothing is said on stay open until the server ends.
            let mut silent = Vec::new();
            loop {
                let (connection, _) = listener.accept().await.unwrap();
                silent.extend(serve(connection, &fault, &read).await);
            }
        });
        Self { address, requests, serves }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/path", self.address)
    }

    /// The next request that was read to its end.
    pub(super) async fn request(&mut self) -> String {
        self.requests.recv().await.unwrap()
    }

    /// How many requests were read that nobody asked for yet.
    pub(super) fn unasked(&mut self) -> usize {
        let mut count = 0;
        while self.requests.try_recv().is_ok() {
            count += 1;
        }
        count
    }
}

impl Drop for FaultServer {
    fn drop(&mut self) {
        self.serves.abort();
    }
}

/// The connection, if it is to stay open.
async fn serve(
    mut connection: TcpStream,
    fault: &Fault,
    requests: &mpsc::Sender<String>,
) -> Option<TcpStream> {
    match fault {
        Fault::Reset => {
            connection.set_zero_linger().unwrap();
            return None;
        }
        Fault::Close => return None,
        Fault::Greet(bytes) => {
            connection.write_all(bytes).await.ok()?;
            return Some(connection);
        }
        Fault::Silent => return Some(connection),
        Fault::Stall | Fault::Answer(_) | Fault::AnswerAndReset(_) => {}
    }
    let request = read_request(&mut connection).await?;
    requests.send(request).await.ok()?;
    match fault {
        Fault::Answer(bytes) => {
            // The client may have enough before the end.
            let _gone = connection.write_all(bytes).await;
            let _gone = connection.shutdown().await;
            None
        }
        Fault::AnswerAndReset(bytes) => {
            let _gone = connection.write_all(bytes).await;
            connection.set_zero_linger().unwrap();
            None
        }
        Fault::Stall => Some(connection),
        Fault::Reset | Fault::Close | Fault::Greet(_) | Fault::Silent => None,
    }
}

/// A request with its body; [`None`] when the client leaves before the end of it.
pub(super) async fn read_request(connection: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .filter_map(|line| line.split_once(": "))
                .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
                .map_or(0, |(_, value)| value.parse::<usize>().unwrap());
            if body.len() >= length {
                return Some(text);
            }
        }
        if connection.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

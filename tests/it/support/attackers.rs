//! Clients that mean no good, and those that do. Bounded in number and in time.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// LIMIT: longer than any limit under test; an attack that is not cut by then succeeded.
const PATIENCE: Duration = Duration::from_secs(20);

/// How a connection ended, as its client saw it.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Since the attack began.
    pub(crate) after: Duration,
    /// All that was heard of the server.
    pub(crate) heard: String,
    /// Whether it was reset, rather than closed in good order.
    pub(crate) reset: bool,
}

impl Ended {
    /// Checks that it was cut in its limit, or up to a second later.
    #[track_caller]
    pub(crate) fn expect_within(&self, limit: Duration) {
        // Timers of the kernel and of the client are a little coarse.
        let earliest = limit.saturating_sub(Duration::from_millis(30));
        let latest = limit + Duration::from_secs(1);
        assert!(self.after >= earliest && self.after <= latest, "limit {limit:?}: {self:?}");
    }

    /// The status of each answer, in order. The bodies must not look like answers.
    pub(crate) fn statuses(&self) -> Vec<u16> {
        let answers = self.heard.split("HTTP/1.1 ").skip(1);
        answers.map(|answer| answer[..3].parse().unwrap()).collect()
    }
}

/// One connection of an attacker.
#[derive(Debug)]
pub(crate) struct Attacker {
    stream: TcpStream,
    heard: Vec<u8>,
    begun: Instant,
}

impl Attacker {
    pub(crate) async fn connect(server: SocketAddr) -> Self {
        Self::connect_from(server, Ipv4Addr::LOCALHOST).await.unwrap()
    }

    /// From another address of this host: each of 127.0.0.0/8 is one.
    pub(crate) async fn connect_from(server: SocketAddr, source: Ipv4Addr) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        // What the client's kernel takes for it, nobody has read.
        socket.set_recv_buffer_size(4096)?;
        socket.bind(SocketAddr::new(IpAddr::V4(source), 0))?;
        let stream = timeout(PATIENCE, socket.connect(server)).await??;
        Ok(Self { stream, heard: Vec::new(), begun: Instant::now() })
    }

    /// Whether the server resets a connection from there at once. The kernel may tell that before it
    /// tells that the connection was made.
    pub(crate) async fn is_refused(server: SocketAddr, source: Ipv4Addr) -> bool {
        match Self::connect_from(server, source).await {
            Ok(attacker) => attacker.ended().await.reset,
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }

    /// Sends as much of this as the kernels take without waiting. How much it was.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> usize {
        self.stream.try_write(bytes).unwrap_or(0)
    }

    /// From here on the time counts.
    pub(crate) fn begin(&mut self) {
        self.begun = Instant::now();
    }

    pub(crate) fn since_begun(&self) -> Duration {
        self.begun.elapsed()
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Says that nothing more comes, and goes on to listen.
    pub(crate) async fn half_close(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// Leaves in good order, and hears nothing more.
    pub(crate) fn close(self) {
        drop(self.stream);
    }

    /// Leaves without saying goodbye.
    pub(crate) fn reset(self) {
        self.stream.set_zero_linger().unwrap();
    }

    /// Listens until this was heard.
    pub(crate) async fn hear(&mut self, text: &str) {
        let heard = timeout(PATIENCE, async {
            while !String::from_utf8_lossy(&self.heard).contains(text) {
                let read = self.stream.read_buf(&mut self.heard).await.unwrap();
                assert!(
                    read > 0,
                    "closed before {text:?}: {}",
                    String::from_utf8_lossy(&self.heard)
                );
            }
        });
        heard.await.unwrap_or_else(|_| panic!("never heard {text:?}"));
    }

    /// Listens until this ends it. With all that was heard so far; it is forgotten.
    pub(crate) async fn take_rest(&mut self, end: &[u8]) -> Vec<u8> {
        while !self.heard.ends_with(end) {
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.heard)).await;
            assert!(read.unwrap().unwrap() > 0, "closed before its end");
        }
        std::mem::take(&mut self.heard)
    }

    /// Listens until an answer with a `content-length` is whole, and takes it out of what was heard.
    pub(crate) async fn take_answer(&mut self) -> String {
        loop {
            if let Some(length) = answer_length(&self.heard) {
                let answer = self.heard.drain(..length).collect();
                return String::from_utf8(answer).unwrap();
            }
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.heard)).await;
            assert!(read.expect("an answer").unwrap() > 0, "closed before its end");
        }
    }

    /// What was heard so far is of no interest any more.
    pub(crate) fn forget(&mut self) {
        self.heard.clear();
    }

    /// Does nothing but listen until the server ends it.
    pub(crate) async fn ended(mut self) -> Ended {
        let reset = loop {
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.heard)).await;
            match read.expect("the server never ended it") {
                Ok(0) => break false,
                Ok(_) => {}
                Err(_) => break true,
            }
        };
        self.end(reset)
    }

    /// Sends these bytes over and over, one at a time, until the server ends it.
    pub(crate) async fn drip(mut self, bytes: &[u8], gap: Duration) -> Ended {
        let mut place = 0;
        let mut open = true;
        while self.begun.elapsed() < PATIENCE {
            tokio::select! {
                biased;
                read = self.stream.read_buf(&mut self.heard) => match read {
                    Ok(0) => return self.end(false),
                    Ok(_) => {}
                    Err(_) => return self.end(true),
                },
                () = sleep(gap), if open => {
                    let byte = bytes[place % bytes.len()];
                    // What was closed may still have something to say.
                    open = self.stream.write_all(&[byte]).await.is_ok();
                    place += 1;
                }
            }
        }
        panic!("the server never ended it");
    }

    /// Reads nothing until the server resets it.
    pub(crate) async fn stall(self) -> Ended {
        self.trickle(0, PATIENCE).await
    }

    /// Reads a few bytes now and then, until the server resets it.
    pub(crate) async fn trickle(self, bytes: usize, gap: Duration) -> Ended {
        let mut read_at = Instant::now();
        while self.begun.elapsed() < PATIENCE {
            // What was sent before the reset can still be read; only this tells.
            if self.stream.take_error().unwrap().is_some() {
                return self.end(true);
            }
            if read_at.elapsed() >= gap {
                read_at = Instant::now();
                let mut some = vec![0; bytes];
                if self.stream.try_read(&mut some).is_ok_and(|read| read == 0) {
                    return self.end(false);
                }
            }
            sleep(Duration::from_millis(5)).await;
        }
        panic!("the server never ended it");
    }

    fn end(self, reset: bool) -> Ended {
        let heard = String::from_utf8_lossy(&self.heard).into_owned();
        Ended { after: self.begun.elapsed(), heard, reset }
    }
}

/// The length of the answer that these bytes begin with, if all of it is here.
fn answer_length(heard: &[u8]) -> Option<usize> {
    let head = heard.windows(4).position(|end| end == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&heard[..head]);
    let body: usize = text.split("content-length: ").nth(1)?.split("\r\n").next()?.parse().ok()?;
    (heard.len() >= head + body).then_some(head + body)
}

/// Clients that do nothing wrong, while others do.
#[derive(Debug)]
pub(crate) struct Honest {
    stop: watch::Sender<bool>,
    clients: JoinSet<Vec<Duration>>,
}

impl Honest {
    /// Each asks for `path` on one connection, again and again.
    pub(crate) fn start(server: SocketAddr, path: &'static str, clients: usize) -> Self {
        let (stop, stopping) = watch::channel(false);
        let mut set = JoinSet::new();
        for _ in 0..clients {
            set.spawn(honest(server, path, stopping.clone()));
        }
        Self { stop, clients: set }
    }

    /// Ends them. How long each of their requests took; all were answered 200.
    pub(crate) async fn stop(self) -> Vec<Duration> {
        self.stop.send_replace(true);
        let waits: Vec<_> = self.clients.join_all().await.into_iter().flatten().collect();
        assert!(!waits.is_empty(), "somebody was served");
        waits
    }
}

async fn honest(server: SocketAddr, path: &str, stop: watch::Receiver<bool>) -> Vec<Duration> {
    let mut waits = Vec::new();
    let mut client = Attacker::connect(server).await;
    while !*stop.borrow() {
        client.begin();
        client.send(format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n")).await;
        client.hear("\r\n\r\n").await;
        waits.push(client.begun.elapsed());
        let answer = String::from_utf8_lossy(&client.heard).into_owned();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        client.forget();
        if answer.contains("connection: close") {
            client = Attacker::connect(server).await;
        }
        sleep(Duration::from_millis(20)).await;
    }
    waits
}

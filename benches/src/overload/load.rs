//! Load that does not wait for answers, and load that does.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::server::Mode;
use super::{CLASSES, PATIENCE};

const TICK: Duration = Duration::from_millis(5);
/// LIMIT: requests under way at a time. More than come within everybody's patience.
const UNDER_WAY_MAX: usize = 4096;

/// What became of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// A 200 in time.
    Served,
    /// A 503: it was told to come back.
    Shed,
    /// A 504, a 200 that came too late, or nothing at all.
    Late,
}

/// One request: when it was sent, in seconds since the episode began, and how long it took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer {
    pub(super) at: f64,
    pub(super) took_ms: f64,
    pub(super) fate: Fate,
}

/// What an episode came to.
#[derive(Debug)]
pub(super) struct Episode {
    pub(super) mode: Mode,
    pub(super) warm: f64,
    pub(super) seconds: f64,
    /// The limit at its end.
    pub(super) limit: usize,
    /// By class; those of the warm-up too.
    pub(super) answers: [Vec<Answer>; 4],
}

impl Episode {
    /// What counts: the answers after the warm-up.
    pub(super) fn measured(&self, class: usize) -> impl Iterator<Item = &Answer> {
        let answers = self.answers.get(class).map_or(&[][..], Vec::as_slice);
        answers.iter().filter(|answer| answer.at >= self.warm)
    }
}

/// Sends so many requests of each class in a second, evenly, whatever becomes of them.
pub(super) async fn open(
    address: SocketAddr,
    mode: Mode,
    per_second: [u64; 4],
    warm: Duration,
    measured: Duration,
) -> io::Result<Episode> {
    let pool = Pool { address, idle: Rc::default() };
    let began = Instant::now();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (mut sent, mut under_way) = ([0; 4], JoinSet::new());
    let mut answers: [Vec<Answer>; 4] = Default::default();
    while began.elapsed() < warm + measured {
        ticks.tick().await;
        let elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        for (class, (sent, per_second)) in sent.iter_mut().zip(per_second).enumerate() {
            let due = per_second * elapsed_ms / 1000;
            while *sent < due && under_way.len() < UNDER_WAY_MAX {
                *sent += 1;
                let (pool, at) = (pool.clone(), began.elapsed().as_secs_f64());
                under_way.spawn_local(async move { (class, pool.ask(class, at).await) });
            }
        }
        while let Some(done) = under_way.try_join_next() {
            note(&mut answers, done);
        }
    }
    while let Some(done) = under_way.join_next().await {
        note(&mut answers, done);
    }
    let (warm, seconds) = (warm.as_secs_f64(), measured.as_secs_f64());
    Ok(Episode { mode, warm, seconds, limit: 0, answers })
}

fn note(answers: &mut [Vec<Answer>; 4], done: Result<(usize, Answer), tokio::task::JoinError>) {
    let (class, answer) = done.expect("a client does not panic");
    if let Some(answers) = answers.get_mut(class) {
        answers.push(answer);
    }
}

/// Sends a request on each connection as soon as the one before is answered. Answers a second.
pub(super) async fn closed(
    address: SocketAddr,
    connections: usize,
    measured: Duration,
) -> io::Result<u64> {
    let end = Instant::now() + measured;
    let runs = (0..connections).map(async |_| {
        let mut stream = TcpStream::connect(address).await?;
        let mut count = 0_u64;
        while Instant::now() < end {
            exchange(&mut stream, "normal").await?;
            count += 1;
        }
        Ok::<_, io::Error>(count)
    });
    let total: u64 = try_join_all(runs).await?.into_iter().sum();
    Ok(total * 1000 / u64::try_from(measured.as_millis()).unwrap_or(u64::MAX).max(1))
}

/// Connections that are kept for the next request.
#[derive(Clone)]
struct Pool {
    address: SocketAddr,
    idle: Rc<RefCell<Vec<TcpStream>>>,
}

impl Pool {
    async fn ask(&self, class: usize, at: f64) -> Answer {
        let began = Instant::now();
        let class = CLASSES.get(class).copied().unwrap_or_default();
        let idle = self.idle.borrow_mut().pop();
        let asked = async {
            let mut stream = match idle {
                Some(stream) => stream,
                None => TcpStream::connect(self.address).await?,
            };
            let status = exchange(&mut stream, class).await?;
            Ok::<_, io::Error>((stream, status))
        };
        // Longer than a client waits, so that the server's own 504 is seen.
        let answer = timeout(PATIENCE * 4, asked).await;
        let took = began.elapsed();
        let fate = match answer {
            Ok(Ok((stream, status))) => {
                self.idle.borrow_mut().push(stream);
                match status {
                    200 if took <= PATIENCE => Fate::Served,
                    503 => Fate::Shed,
                    _ => Fate::Late,
                }
            }
            Ok(Err(_)) | Err(_) => Fate::Late,
        };
        Answer { at, took_ms: took.as_secs_f64() * 1e3, fate }
    }
}

/// One request and its answer. The status.
async fn exchange(stream: &mut TcpStream, class: &str) -> io::Result<u16> {
    let patience = PATIENCE.as_millis();
    let request = format!(
        "GET / HTTP/1.1\r\nhost: localhost\r\nx-request-priority: {class}\r\n\
         x-request-timeout-ms: {patience}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::with_capacity(1024);
    loop {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let whole = crate::edge::length_of(&answer).is_some_and(|length| answer.len() >= length);
        if whole {
            let status = answer.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok());
            return status
                .and_then(|text| text.parse().ok())
                .ok_or_else(|| io::ErrorKind::InvalidData.into());
        }
    }
}

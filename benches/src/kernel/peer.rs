//! What every peer is asked to do, so that all run through the same loops.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::oneshot;

/// An actor that adds what it is sent and answers with the sum so far.
pub trait Peer: Clone + Send + 'static {
    /// How the report names it.
    const NAME: &'static str;

    /// Starts one on the current thread.
    fn start() -> impl Future<Output = Self>;
    /// Adds 1 and waits for the sum.
    fn ask(&self) -> impl Future<Output = u64>;
    /// The same, giving up after `within`.
    fn ask_within(&self, within: Duration) -> impl Future<Output = u64>;
    /// Adds 1 without waiting.
    fn tell(&self);
}

/// Messages that are told before the queue is waited for; fits every bounded mailbox here.
const BURST: u64 = 1000;

/// The room each bounded mailbox has: steadfast's default.
pub(super) const CAPACITY: usize = 1024;

/// A deadline that never comes, but has to be watched.
pub const WITHIN: Duration = Duration::from_secs(1);

/// Starts a peer on another thread.
///
/// # Panics
///
/// When the thread is gone.
pub async fn start_on<P: Peer>(arbiter: &actix_rt::ArbiterHandle) -> P {
    let (started, start) = oneshot::channel();
    let spawned = arbiter.spawn_fn(move || {
        let _runs_to_its_end = actix_rt::spawn(async move {
            let _receiver_waits = started.send(P::start().await);
        });
    });
    assert!(spawned, "the arbiter runs");
    start.await.expect("the peer starts")
}

/// Asks one at a time.
pub(super) async fn serial<P: Peer>(peer: P, asks: u64) {
    let before = peer.ask().await;
    let mut sum = 0;
    for _ in 0..asks {
        sum = peer.ask().await;
    }
    assert_eq!(sum, before + asks, "{} lost messages", P::NAME);
}

/// Asks one at a time, each with a deadline.
pub(super) async fn serial_within<P: Peer>(peer: P, asks: u64) {
    let before = peer.ask().await;
    let mut sum = 0;
    for _ in 0..asks {
        sum = peer.ask_within(WITHIN).await;
    }
    assert_eq!(sum, before + asks, "{} lost messages", P::NAME);
}

/// Asks from `callers` tasks at once.
pub(super) async fn in_flight<P: Peer>(peer: P, callers: u64, asks: u64) {
    let before = peer.ask().await;
    let each = asks / callers;
    let tasks = (0..callers).map(|_| {
        let peer = peer.clone();
        actix_rt::spawn(async move {
            for _ in 0..each {
                peer.ask().await;
            }
        })
    });
    for ended in join_all(tasks).await {
        ended.expect("a caller ends");
    }
    assert_eq!(peer.ask().await, before + each * callers + 1, "{} lost messages", P::NAME);
}

/// Tells in bursts, waiting after each until all of it is handled.
pub(super) async fn tell<P: Peer>(peer: P, tells: u64) {
    let before = peer.ask().await;
    let bursts = tells.div_ceil(BURST);
    for _ in 0..bursts {
        for _ in 1..BURST {
            peer.tell();
        }
        peer.ask().await;
    }
    assert_eq!(peer.ask().await, before + bursts * BURST + 1, "{} lost messages", P::NAME);
}

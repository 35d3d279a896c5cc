//! Hears of what other processes wrote: one connection that does nothing but `LISTEN`.

use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::{AsyncMessage, Client, Error, Notification};

use super::connect::{Connector, Wire};
use super::error::unreachable;
use super::notify::EVERYTHING;
use crate::kernel::Fault;
use crate::store::{StoreError, Wakes};

/// A connection that stood for so long was a good one; the next pause is the first again.
const STOOD: Duration = Duration::from_secs(5);

/// Whether news of other processes arrive at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Listening {
    /// It was not asked for: they are found by polling.
    Off,
    /// They do.
    Up {
        /// Since when.
        since: Instant,
    },
    /// The connection is being made again: until then they are found by polling.
    Down {
        /// Since when.
        since: Instant,
    },
}

/// The task that listens, and what it tells of itself.
pub(super) struct Listener {
    pub(super) connector: Connector,
    pub(super) schema: Arc<str>,
    pub(super) wakes: Wakes,
    pub(super) state: Arc<Mutex<Listening>>,
    pub(super) ping_every: Duration,
    pub(super) answer_within: Duration,
}

impl Listener {
    /// Listens until it is aborted.
    pub(super) async fn run(self) {
        let mut failures = 0;
        loop {
            let began = Instant::now();
            let Err(error) = self.session().await;
            *self.state.lock() = Listening::Down { since: Instant::now() };
            failures = if began.elapsed() < STOOD { failures + 1 } else { 1 };
            tracing::warn!(error_code = error.code().as_str(), failures, "store.listen_lost");
            sleep(pause(failures, fastrand::f64())).await;
        }
    }

    /// Listens on one connection until it fails.
    async fn session(&self) -> Result<Infallible, StoreError> {
        let (client, wire) = self.connector.open().await?;
        tokio::select! {
            ended = self.keep(&client) => ended,
            ended = self.read(wire) => ended,
        }
    }

    /// A peer that is gone may leave the connection standing, and nothing would ever arrive on
    /// it: so it is asked now and then.
    async fn keep(&self, client: &Client) -> Result<Infallible, StoreError> {
        self.answered(client.batch_execute(&format!("listen {}", self.schema))).await?;
        *self.state.lock() = Listening::Up { since: Instant::now() };
        tracing::info!("store.listening");
        // ORDER: after LISTEN. What was written before may have been missed; what is written
        // from here on is heard.
        self.wakes.wake_all();
        loop {
            sleep(self.ping_every).await;
            self.answered(client.simple_query("")).await?;
        }
    }

    async fn read(&self, mut wire: Wire) -> Result<Infallible, StoreError> {
        loop {
            match poll_fn(|cx| wire.poll_message(cx)).await {
                Some(Ok(message)) => {
                    if let AsyncMessage::Notification(news) = message {
                        self.hear(&news);
                    }
                }
                Some(Err(error)) => return Err(error.into()),
                None => return Err(unreachable("the server closed the connection")),
            }
        }
    }

    fn hear(&self, news: &Notification) {
        match news.payload() {
            EVERYTHING => self.wakes.wake_all(),
            topic => self.wakes.wake(topic),
        }
    }

    async fn answered<T>(
        &self,
        asked: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, StoreError> {
        match timeout(self.answer_within, asked).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(unreachable("the listening connection does not answer")),
        }
    }
}

/// How long to wait after so many failures in a row: 100 ms, twice as long each time up to 5 s,
/// and of that between half and all, as `chance` (from 0 to 1) will have it.
pub(super) fn pause(failures: u32, chance: f64) -> Duration {
    let doubled = 100_u64 << failures.saturating_sub(1).min(6);
    Duration::from_millis(doubled.min(5_000)).mul_f64(0.5 + chance / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(failures: u32, expected_ms: std::ops::RangeInclusive<u128>) {
        let ends = pause(failures, 0.0).as_millis()..=pause(failures, 1.0).as_millis();
        assert_eq!(ends, expected_ms, "after {failures} failures");
    }

    #[test]
    fn pauses_double_from_100_ms_to_5_s() {
        check(1, 50..=100);
        check(2, 100..=200);
        check(6, 1_600..=3_200);
        check(7, 2_500..=5_000);
        check(u32::MAX, 2_500..=5_000);
    }
}

//! What the black-box tests share: the real example server as a child process, and clients.

pub(crate) mod attackers;
pub(crate) mod database;
pub(crate) mod problem;
pub(crate) mod server;
pub(crate) mod wire;

use std::time::{Duration, Instant};

use serde_json::Value;

/// Asks again until `done` holds, and panics with the last answer when it never does.
///
/// For effects that a server shows a moment later than it answers; `within` is generous,
/// because a machine under test may be busy.
pub(crate) async fn eventually<F>(within: Duration, mut ask: impl FnMut() -> F, what: &str) -> Value
where
    F: Future<Output = (bool, Value)>,
{
    let begun = Instant::now();
    loop {
        let (done, last) = ask().await;
        if done {
            return last;
        }
        assert!(begun.elapsed() < within, "{what}: not within {within:?}, last seen: {last}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

//! What only a connection of many streams may have too much of.

use serde::{Deserialize, Serialize};

use super::{InvalidLimit, count};

/// What a connection of HTTP/2 may take besides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Http2Limits {
    /// Streams at a time. Default 100; 1 to 1000. The client is told; one that opens one more all
    /// the same is cut. Many clients open up to 100 before they have heard it: lower, and those
    /// are cut too when they begin with more.
    pub streams: u32,
    /// Streams that the client may reset, in a second and at once. Default 200; 1 to 10000. One more
    /// cuts it. Lower than `streams`, it cuts people who leave a page while it loads.
    pub resets: u32,
}

impl Default for Http2Limits {
    fn default() -> Self {
        Self { streams: 100, resets: 200 }
    }
}

impl Http2Limits {
    pub(super) fn check(&self) -> Result<(), InvalidLimit> {
        count("http2.streams", self.streams, 1..=1000)?;
        count("http2.resets", self.resets, 1..=10_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(streams: u32, resets: u32, refused: Option<&str>) {
        let outcome = Http2Limits { streams, resets }.check();
        assert_eq!(outcome.err().map(|error| error.limit), refused);
    }

    #[test]
    fn each_range_holds_at_its_ends_and_not_one_past_them() {
        check(1, 1, None);
        check(1000, 10_000, None);
        check(0, 1, Some("http2.streams"));
        check(1001, 1, Some("http2.streams"));
        check(1, 0, Some("http2.resets"));
        check(1, 10_001, Some("http2.resets"));
    }
}

//! How long a connection may take over what, and how many there may be.

#[cfg(feature = "http2")]
mod http2;
mod network;

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use steadfast_actors::kernel::{Code, Fault};

use super::{admission, panic_guard};
use crate::config::duration;

#[cfg(feature = "http2")]
pub use http2::Http2Limits;
use network::masked;
pub use network::{InvalidNetwork, Network};

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// The longest of the times below.
const DAY: Duration = seconds(24 * 60 * 60);

/// What one connection of an [`EdgeServer`](super::EdgeServer) may take, and how many there may be.
///
/// ```
/// use std::time::Duration;
/// use steadfast::edge::EdgeLimits;
///
/// let mut limits = EdgeLimits::default();
/// limits.head.timeout = Duration::from_secs(2);
/// limits.connections.trusted = vec!["10.0.0.0/8".parse()?];
/// limits.check()?;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
///
/// A limit is noticed when its timer fires, so a connection is cut a few milliseconds after it,
/// or later if its worker is busy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct EdgeLimits {
    /// The head of each request: its first line and its headers.
    pub head: HeadLimits,
    /// How fast the body of a request must come, while the handler waits for it. Default 240 B/s,
    /// 5 s of grace, 10 s idle; the rate and the grace are Kestrel's.
    pub body: Rate,
    /// How fast the client must take the response, once the kernel's buffer for it is full.
    /// Default 240 B/s, 30 s of grace, 30 s idle. The kernel shows progress in steps of 16 KiB,
    /// which a client at 546 B/s makes within 30 s: shorter times cut slow clients that are honest.
    pub write: Rate,
    /// How many connections, and how long each may live.
    pub connections: ConnectionLimits,
    /// For the TLS handshake. Default `5s`; `100ms` to `10m`.
    #[serde(with = "duration")]
    pub handshake: Duration,
    /// When the kernel gives up a client that acknowledges nothing (`TCP_USER_TIMEOUT`). Default
    /// `60s`; `0ms`, which turns it off, or `write.idle` to `1h`. Sooner than `write.idle`, the
    /// kernel would cut before the limit, and nobody would count it. Linux only.
    #[serde(with = "duration")]
    pub tcp_user_timeout: Duration,
    /// What a connection of HTTP/2 may take besides. With the feature `http2`.
    #[cfg(feature = "http2")]
    pub http2: Http2Limits,
}

impl Default for EdgeLimits {
    fn default() -> Self {
        Self {
            head: HeadLimits::default(),
            body: Rate { min: 240, grace: seconds(5), idle: seconds(10) },
            write: Rate { min: 240, grace: seconds(30), idle: seconds(30) },
            connections: ConnectionLimits::default(),
            handshake: seconds(5),
            tcp_user_timeout: seconds(60),
            #[cfg(feature = "http2")]
            http2: Http2Limits::default(),
        }
    }
}

/// What the head of a request may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct HeadLimits {
    /// From its first byte, or from the start of the connection, to its end. Default `5s`, as
    /// actix-web has it for the first request; `100ms` to `10m`. Too low cuts off distant clients.
    #[serde(with = "duration")]
    pub timeout: Duration,
    /// Its size in bytes. Default 16384; 1024 to 131072, where actix-web ends. A larger one is
    /// answered 431. Too low refuses clients with many cookies.
    pub max_bytes: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self { timeout: seconds(5), max_bytes: 16 * 1024 }
    }
}

/// How many connections, and how long each may live.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct ConnectionLimits {
    /// In all. Default 20000; 1 to 1000000, and less than the process may open files. One more is
    /// reset.
    pub total: usize,
    /// From one address, or network of addresses. Default 64; 1 to `total`. One more is reset. Too
    /// low shuts out people who share an address.
    pub per_address: usize,
    /// How many bits of an IPv4 address count as one client. Default 32; 8 to 32.
    pub ipv4_prefix: u8,
    /// How many bits of an IPv6 address count as one client. Default 64, which is what one customer
    /// has at least; 16 to 128.
    pub ipv6_prefix: u8,
    /// Networks that `per_address` is not for: proxies and load balancers. Default none. In
    /// settings they are one text, as `10.0.0.0/8, fd00::/8`.
    #[serde(with = "network::list")]
    pub trusted: Vec<Network>,
    /// Between a response and the next request. Default `60s`; `100ms` to `1h`. Set it longer than
    /// a proxy in front keeps its connections, or it sends requests into closed ones.
    #[serde(with = "duration")]
    pub idle: Duration,
    /// Requests on one connection; the last is answered with `Connection: close`. Default 1000; 1
    /// to 4294967295.
    pub requests: u32,
    /// How old a connection may get: then it is closed when idle, or with `Connection: close` on
    /// its next response. Default `5m`; `idle` to `24h`. So that load spreads over new instances.
    #[serde(with = "duration")]
    pub age: Duration,
    /// Per cent by which the age of each connection is longer or shorter, so that those that came
    /// together do not come back together. Default 10; 0 to 50.
    pub age_jitter: u8,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            total: 20_000,
            per_address: 64,
            ipv4_prefix: 32,
            ipv6_prefix: 64,
            trusted: Vec::new(),
            idle: seconds(60),
            requests: 1000,
            age: seconds(300),
            age_jitter: 10,
        }
    }
}

/// How fast bytes must move.
///
/// Whoever we wait for has a credit of time. It begins at `grace`; waiting spends it, each byte
/// earns what it may take at the rate of `min`, and it never exceeds `idle`. Where it is used up,
/// the connection is cut. So a peer that keeps the rate is never cut, one that sends nothing is
/// after `idle` at the latest, and a burst does not pay for a long drip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Rate {
    /// Bytes per second. 0 to 1073741824; 0 is no rate, and any byte gives the whole `idle` again.
    pub min: u32,
    /// Credit at the beginning. `100ms` to `idle`.
    #[serde(with = "duration")]
    pub grace: Duration,
    /// The most credit, so the longest pause. `100ms` to `24h`.
    #[serde(with = "duration")]
    pub idle: Duration,
}

/// LIMIT: a GiB per second is more than any client needs to prove.
const RATE_MAX: u32 = 1 << 30;
const SHORTEST: Duration = Duration::from_millis(100);

impl Rate {
    /// This many bytes per second, clamped to 1 GiB; 5 s of grace and 10 s idle.
    #[must_use]
    pub const fn at_least(bytes_per_second: u32) -> Self {
        let min = if bytes_per_second > RATE_MAX { RATE_MAX } else { bytes_per_second };
        Self { min, grace: seconds(5), idle: seconds(10) }
    }

    /// No limit worth the name: only a pause of a day is one.
    #[must_use]
    pub const fn none() -> Self {
        Self { min: 0, grace: DAY, idle: DAY }
    }

    /// Other credit at the beginning. Clamped to `100ms` and to `24h`; a shorter `idle` becomes as
    /// long.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace.clamp(SHORTEST, DAY);
        self.idle = self.idle.max(self.grace);
        self
    }

    /// Another longest pause. Clamped to `100ms` and to `24h`; a longer `grace` becomes as short.
    #[must_use]
    pub fn idle(mut self, idle: Duration) -> Self {
        self.idle = idle.clamp(SHORTEST, DAY);
        self.grace = self.grace.min(self.idle);
        self
    }

    /// How long this many bytes may take.
    pub(super) fn worth(self, bytes: u64) -> Duration {
        if bytes == 0 {
            return Duration::ZERO;
        }
        match self.min {
            0 => self.idle,
            min => Duration::from_micros(bytes.saturating_mul(1_000_000) / u64::from(min)),
        }
    }
}

/// A limit is out of its range, or contradicts another. Correct it; nothing was started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the limit `{limit}` must be {expected}, not {found}")]
#[non_exhaustive]
pub struct InvalidLimit {
    /// Its name, as in the settings: `head.timeout`.
    pub limit: &'static str,
    /// Its range in words.
    pub expected: &'static str,
    /// What was given.
    pub found: String,
}

impl Fault for InvalidLimit {
    fn code(&self) -> Code {
        Code::new("edge.invalid_limit")
    }
}

impl EdgeLimits {
    /// Checks each limit against its range, and against the others.
    ///
    /// # Errors
    ///
    /// [`InvalidLimit`] names the first that is wrong.
    pub fn check(&self) -> Result<(), InvalidLimit> {
        #[cfg(feature = "http2")]
        self.http2.check()?;
        let Self { head, body, write, connections, handshake, tcp_user_timeout, .. } = self;
        let long = SHORTEST..=seconds(600);
        time("head.timeout", head.timeout, long.clone())?;
        count("head.max_bytes", head.max_bytes, 1024..=128 * 1024)?;
        rate(["body.min", "body.grace", "body.idle"], *body)?;
        rate(["write.min", "write.grace", "write.idle"], *write)?;
        connections.check()?;
        time("handshake", *handshake, long)?;
        if tcp_user_timeout.is_zero() {
            return Ok(());
        }
        time("tcp_user_timeout", *tcp_user_timeout, write.idle..=seconds(3600))
    }
}

impl ConnectionLimits {
    pub(super) fn check(&self) -> Result<(), InvalidLimit> {
        count("connections.total", self.total, 1..=1_000_000)?;
        count("connections.per_address", self.per_address, 1..=self.total)?;
        count("connections.ipv4_prefix", self.ipv4_prefix, 8..=32)?;
        count("connections.ipv6_prefix", self.ipv6_prefix, 16..=128)?;
        time("connections.idle", self.idle, SHORTEST..=seconds(3600))?;
        count("connections.requests", self.requests, 1..=u32::MAX)?;
        time("connections.age", self.age, self.idle..=DAY)?;
        count("connections.age_jitter", self.age_jitter, 0..=50)
    }

    /// The address, or the network, that counts as one client; `None` if it is trusted.
    pub(super) fn client(&self, address: IpAddr) -> Option<IpAddr> {
        let address = address.to_canonical();
        if self.trusted.iter().any(|network| network.contains(address)) {
            return None;
        }
        let prefix = if address.is_ipv4() { self.ipv4_prefix } else { self.ipv6_prefix };
        Some(masked(address, prefix))
    }
}

fn rate([min, grace, idle]: [&'static str; 3], rate: Rate) -> Result<(), InvalidLimit> {
    count(min, rate.min, 0..=RATE_MAX)?;
    time(idle, rate.idle, SHORTEST..=DAY)?;
    time(grace, rate.grace, SHORTEST..=rate.idle)
}

pub(super) fn time(
    limit: &'static str,
    value: Duration,
    range: RangeInclusive<Duration>,
) -> Result<(), InvalidLimit> {
    within(limit, range.contains(&value), || duration::show(value))
}

pub(super) fn count<T: Copy + PartialOrd + ToString>(
    limit: &'static str,
    value: T,
    range: RangeInclusive<T>,
) -> Result<(), InvalidLimit> {
    within(limit, range.contains(&value), || value.to_string())
}

fn within(
    limit: &'static str,
    in_range: bool,
    found: impl FnOnce() -> String,
) -> Result<(), InvalidLimit> {
    if in_range {
        return Ok(());
    }
    Err(InvalidLimit { limit, expected: expected(limit), found: found() })
}

/// The range of each limit in words. A test keeps it complete.
pub(crate) fn expected(limit: &str) -> &'static str {
    match limit {
        "head.timeout" | "handshake" => "a duration from 100ms to 10m",
        "head.max_bytes" => "a whole number from 1024 to 131072",
        "body.min" | "write.min" => "a whole number from 0 to 1073741824",
        "body.grace" => "a duration from 100ms to body.idle",
        "write.grace" => "a duration from 100ms to write.idle",
        "body.idle" | "write.idle" => "a duration from 100ms to 24h",
        "connections.total" => "a whole number from 1 to 1000000",
        "connections.per_address" => "a whole number from 1 to connections.total",
        "connections.ipv4_prefix" => "a whole number from 8 to 32",
        "connections.ipv6_prefix" => "a whole number from 16 to 128",
        "connections.trusted" => "networks separated by commas, as 10.0.0.0/8",
        "connections.idle" => "a duration from 100ms to 1h",
        "connections.requests" => "a whole number from 1 to 4294967295",
        "connections.age" => "a duration from connections.idle to 24h",
        "connections.age_jitter" => "a whole number from 0 to 50",
        "http2.streams" => "a whole number from 1 to 1000",
        "http2.resets" => "a whole number from 1 to 10000",
        "tcp_user_timeout" => "0ms, or a duration from write.idle to 1h",
        _ if limit.starts_with("panics.") => panic_guard::expected(limit),
        _ => admission::limits::expected(limit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Set = fn(&mut EdgeLimits);

    #[track_caller]
    fn check(set: Set, refused: Option<&str>) {
        let mut limits = EdgeLimits::default();
        set(&mut limits);
        let outcome = limits.check();
        assert_eq!(outcome.as_ref().err().map(|error| error.limit), refused, "{outcome:?}");
    }

    const fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn the_defaults_are_in_range() {
        check(|_| {}, None);
    }

    #[test]
    fn each_range_holds_at_its_ends_and_not_one_past_them() {
        check(|limits| limits.head.timeout = ms(100), None);
        check(|limits| limits.head.timeout = ms(99), Some("head.timeout"));
        check(|limits| limits.head.timeout = ms(600_001), Some("head.timeout"));
        check(|limits| limits.head.max_bytes = 1024, None);
        check(|limits| limits.head.max_bytes = 1023, Some("head.max_bytes"));
        check(|limits| limits.head.max_bytes = 131_073, Some("head.max_bytes"));
        check(|limits| limits.body.min = RATE_MAX + 1, Some("body.min"));
        check(|limits| limits.body.grace = ms(99), Some("body.grace"));
        check(|limits| limits.write.min = RATE_MAX + 1, Some("write.min"));
        check(|limits| limits.connections.total = 0, Some("connections.total"));
        check(|limits| limits.connections.per_address = 0, Some("connections.per_address"));
        check(|limits| limits.connections.ipv4_prefix = 7, Some("connections.ipv4_prefix"));
        check(|limits| limits.connections.ipv4_prefix = 33, Some("connections.ipv4_prefix"));
        check(|limits| limits.connections.ipv6_prefix = 15, Some("connections.ipv6_prefix"));
        check(|limits| limits.connections.ipv6_prefix = 129, Some("connections.ipv6_prefix"));
        check(|limits| limits.connections.requests = 0, Some("connections.requests"));
        check(|limits| limits.connections.requests = 1, None);
        check(|limits| limits.connections.age_jitter = 51, Some("connections.age_jitter"));
        check(|limits| limits.handshake = ms(99), Some("handshake"));
        check(|limits| limits.tcp_user_timeout = Duration::ZERO, None);
    }

    #[test]
    fn limits_that_contradict_each_other_are_refused_by_name() {
        check(|limits| limits.body.grace = seconds(11), Some("body.grace"));
        check(|limits| limits.write.grace = seconds(31), Some("write.grace"));
        check(|limits| limits.connections.per_address = 20_001, Some("connections.per_address"));
        check(|limits| limits.connections.age = seconds(59), Some("connections.age"));
        check(|limits| limits.tcp_user_timeout = seconds(29), Some("tcp_user_timeout"));
        let mut limits = EdgeLimits::default();
        limits.connections.age = seconds(59);
        let error = limits.check().unwrap_err();
        let text = "the limit `connections.age` must be a duration from connections.idle to 24h, \
                    not 59s";
        assert_eq!(
            (error.to_string().as_str(), error.code().as_str()),
            (text, "edge.invalid_limit")
        );
    }

    #[test]
    fn every_limit_says_its_range() {
        fn leaves(value: &serde_json::Value, name: &str, found: &mut Vec<String>) {
            let Some(table) = value.as_object() else { return found.push(name.to_owned()) };
            for (key, value) in table {
                let dot = if name.is_empty() { "" } else { "." };
                leaves(value, &format!("{name}{dot}{key}"), found);
            }
        }
        let mut found = Vec::new();
        leaves(&serde_json::to_value(EdgeLimits::default()).unwrap(), "", &mut found);
        let http2 = if cfg!(feature = "http2") { 2 } else { 0 };
        assert_eq!(found.len(), 19 + http2, "{found:?}");
        for limit in found {
            assert_ne!(expected(&limit), expected("no limit"), "{limit}");
        }
    }

    #[test]
    fn a_rate_out_of_range_is_brought_into_it() {
        let rate = Rate::at_least(u32::MAX).grace(Duration::ZERO).idle(Duration::MAX);
        assert_eq!(rate, Rate { min: RATE_MAX, grace: SHORTEST, idle: DAY });
        assert_eq!(Rate::at_least(1).grace(seconds(20)).idle, seconds(20));
        assert_eq!(Rate::at_least(1).idle(seconds(1)).grace, seconds(1));
        check(|limits| limits.body = Rate::none(), None);
    }
}

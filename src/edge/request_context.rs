//! The request context: identity, deadline and cancellation of one HTTP request.
//!
//! [`RequestGuard`] reads what came with the request and makes the ambient
//! [`RequestContext`] out of it. Everything the request does inherits that: messages to actors,
//! nested messages, log lines. Handlers that want it in hand take [`Ctx`].

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::IpAddr;
use std::ops::Deref;
use std::time::Duration;

use actix_web::dev::{Payload, ServiceRequest};
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::{FromRequest, HttpRequest};
use serde::{Deserialize, Serialize};
use steadfast_actors::kernel::{Priority, RequestContext, RequestId, TraceParent};
use tokio::time::Instant;

use super::admission;
use super::deadline::{LIMIT, Schedule, clamp};
use super::in_flight::InFlight;

/// The request's id: honoured when it is safe, and on every response.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Milliseconds the sender will wait, honoured from [trusted](TrustPolicy) peers.
pub const REQUEST_TIMEOUT_MS: HeaderName = HeaderName::from_static("x-request-timeout-ms");
/// `critical`, `high`, `normal` or `sheddable`: how readily to shed it. Honoured from peers that
/// are [trusted with it](RequestGuard::trust_priority).
pub const REQUEST_PRIORITY: HeaderName = HeaderName::from_static("x-request-priority");
/// The trace the request belongs to (W3C Trace Context).
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

const DEADLINE_DEFAULT: Duration = Duration::from_secs(30);
const DEADLINE_MAX_DEFAULT: Duration = Duration::from_secs(300);

/// Whose `X-Request-Timeout-Ms` is honoured: the address at the other end of the connection,
/// which is the proxy's where there is one.
///
/// The header can only shorten a deadline. Whoever is not trusted with it gets the route's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TrustPolicy {
    /// Nobody's.
    Nobody,
    /// That of processes on this host. The default.
    #[default]
    Loopback,
    /// Also that of private networks: 10/8, 172.16/12, 192.168/16, `fc00::/7` and link-local.
    Private,
    /// Everybody's.
    Anyone,
}

impl TrustPolicy {
    /// Whether a peer is trusted. A peer without an address (a Unix socket) is on this host.
    #[must_use]
    pub fn trusts(self, peer: Option<IpAddr>) -> bool {
        let peer = peer.map(|address| address.to_canonical());
        match self {
            Self::Nobody => false,
            Self::Anyone => true,
            Self::Loopback => peer.is_none_or(|address| address.is_loopback()),
            Self::Private => {
                peer.is_none_or(|address| address.is_loopback() || is_private(address))
            }
        }
    }
}

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

/// Gives each request its [`RequestContext`], ends it at its deadline, and records how it went.
///
/// - The id is the one in `X-Request-Id` when it is safe, else a new one; it is on every response.
/// - The deadline is the earliest of the route's (see [`Deadline`](super::Deadline)), the server's maximum and
///   what a trusted client asks for. At the deadline the handler is dropped and the client gets
///   504 `request.deadline_exceeded`.
/// - When the client leaves first, [`Disconnect`](super::Disconnect) decides: the handler is dropped
///   and its context cancelled with
///   [`Stopped::ClientGone`](steadfast_actors::kernel::Stopped::ClientGone), or it goes on. The
///   request is recorded with status 499.
/// - One span per request (`http.request`) and one event when it ended (`http.finished`).
///
/// The deadline is for the response's head. A body that has begun is not cut off at it, but runs
/// under it: what it asks of actors expires. Give streams [`Deadline::none`](super::Deadline::none).
///
/// HTTP/2 requests are not dropped when their stream is reset: actix-web does not tell. Their
/// bound is the deadline.
#[derive(Debug, Clone)]
pub struct RequestGuard {
    deadline: Duration,
    deadline_max: Duration,
    trust: TrustPolicy,
    trust_priority: TrustPolicy,
    pub(super) in_flight: InFlight,
}

impl Default for RequestGuard {
    fn default() -> Self {
        Self {
            deadline: DEADLINE_DEFAULT,
            deadline_max: DEADLINE_MAX_DEFAULT,
            trust: TrustPolicy::default(),
            trust_priority: TrustPolicy::Nobody,
            in_flight: InFlight::new(),
        }
    }
}

impl RequestGuard {
    /// The defaults of every setting.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The deadline of routes that set none. Default 30 s; 1 ms to 24 h, and clamped to that.
    ///
    /// Too short cuts off slow but good answers; too long keeps work alive nobody waits for.
    #[must_use]
    pub fn deadline(mut self, within: Duration) -> Self {
        self.deadline = clamp(within);
        self
    }

    /// The most a route or a client can ask for. Default 5 min; 1 ms to 24 h, clamped.
    #[must_use]
    pub fn deadline_max(mut self, within: Duration) -> Self {
        self.deadline_max = clamp(within);
        self
    }

    /// Whose wish for a shorter deadline is honoured. Default [`TrustPolicy::Loopback`].
    #[must_use]
    pub const fn trust(mut self, policy: TrustPolicy) -> Self {
        self.trust = policy;
        self
    }

    /// Whose `X-Request-Priority` is honoured. Default [`TrustPolicy::Nobody`]: unlike a deadline,
    /// a class can ask for more. A proxy that is trusted with it must not let the header of its
    /// own clients pass.
    #[must_use]
    pub const fn trust_priority(mut self, policy: TrustPolicy) -> Self {
        self.trust_priority = policy;
        self
    }

    /// Where requests are counted, so that a drain can wait for them. Give every worker clones
    /// of one: `steadfast.in_flight().clone()`.
    #[must_use]
    pub fn in_flight(mut self, in_flight: InFlight) -> Self {
        self.in_flight = in_flight;
        self
    }

    pub(super) fn schedule(&self, request: &ServiceRequest, started: Instant) -> Schedule {
        let headers = request.headers();
        let id = inbound_id(headers).unwrap_or_else(RequestId::generate);
        let mut base = RequestContext::new(id);
        if let Some(trace) = inbound_trace(headers) {
            base = base.with_trace(trace);
        }
        let peer = || request.peer_addr().map(|peer| peer.ip());
        // Most trust nobody: then the headers are not looked up.
        let client = (self.trust.trusts(peer()).then(|| inbound_timeout(headers)).flatten())
            .map(|timeout| started + timeout);
        let schedule = Schedule::new(base, started, client, self.deadline_max, self.deadline);
        let class = self.trust_priority.trusts(peer()).then(|| inbound_priority(headers));
        match class.flatten() {
            Some(class) => schedule.classed(class),
            None => schedule,
        }
    }
}

/// The only value of a header; `None` when there are several, for nobody knows which is meant.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name);
    let first = values.next()?;
    if values.next().is_some() { None } else { first.to_str().ok() }
}

fn inbound_id(headers: &HeaderMap) -> Option<RequestId> {
    RequestId::parse(only(headers, &REQUEST_ID)?).ok()
}

fn inbound_trace(headers: &HeaderMap) -> Option<TraceParent> {
    TraceParent::parse(only(headers, &TRACEPARENT)?)
}

fn inbound_timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = only(headers, &REQUEST_TIMEOUT_MS)?;
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let timeout_ms = if digits { text.parse().ok()? } else { return None };
    let timeout = Duration::from_millis(timeout_ms);
    (!timeout.is_zero() && timeout <= LIMIT).then_some(timeout)
}

fn inbound_priority(headers: &HeaderMap) -> Option<Priority> {
    admission::parse(only(headers, &REQUEST_PRIORITY)?)
}

/// The request's context, for handlers: `async fn handler(ctx: Ctx) …`.
///
/// It dereferences to [`RequestContext`]. Extraction never fails: outside of a request, as in
/// the unit test of a handler, it is a new context without a deadline.
#[derive(Debug, Clone)]
pub struct Ctx(RequestContext);

impl Ctx {
    /// The context of the request this code runs for, if it runs for one.
    #[must_use]
    pub fn current() -> Option<Self> {
        RequestContext::current().map(Self)
    }

    /// What to pass on to something that outlives this handler's borrow.
    #[must_use]
    pub fn context(&self) -> &RequestContext {
        &self.0
    }

    /// The headers that carry this request on to another service: `x-request-id`,
    /// `x-request-timeout-ms` when there is a deadline, `traceparent` when there is a trace,
    /// `x-request-priority` when it is not normal.
    ///
    /// `reserve` is what the way there and back costs; it is taken off the time left. At least
    /// 1 ms is sent: check [`stopped`](RequestContext::stopped) before the call.
    pub fn forward_headers(
        &self,
        reserve: Duration,
    ) -> impl Iterator<Item = (HeaderName, HeaderValue)> + use<> {
        let left = self.0.remaining().map(|left| left.saturating_sub(reserve));
        let left_ms = left.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1));
        let trace = self.0.trace().map(|trace| trace.child().to_string());
        let id = HeaderValue::from_str(self.0.id().as_str()).ok();
        let class = Some(self.0.priority()).filter(|class| *class != Priority::Normal);
        let class = class.map(|class| HeaderValue::from_static(admission::word(class)));
        [
            (REQUEST_ID, id),
            (REQUEST_TIMEOUT_MS, left_ms.map(HeaderValue::from)),
            (TRACEPARENT, trace.and_then(|trace| HeaderValue::from_str(&trace).ok())),
            (REQUEST_PRIORITY, class),
        ]
        .into_iter()
        .filter_map(|(name, value)| value.map(|value| (name, value)))
    }
}

impl Deref for Ctx {
    type Target = RequestContext;

    fn deref(&self) -> &RequestContext {
        &self.0
    }
}

impl FromRequest for Ctx {
    type Error = Infallible;
    type Future = Ready<Result<Self, Infallible>>;

    fn from_request(_: &HttpRequest, _: &mut Payload) -> Self::Future {
        let context = RequestContext::current();
        ready(Ok(Self(context.unwrap_or_else(|| RequestContext::new(RequestId::generate())))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &HeaderName, values: &[&[u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name.clone(), HeaderValue::from_bytes(value).unwrap());
        }
        headers
    }

    #[track_caller]
    fn check_id(values: &[&[u8]], expected: Option<&str>) {
        let found = inbound_id(&headers(&REQUEST_ID, values));
        assert_eq!(found.as_ref().map(RequestId::as_str), expected, "for {values:?}");
    }

    #[test]
    fn only_one_safe_id_is_honoured() {
        check_id(&[b"Order_7.a-b"], Some("Order_7.a-b"));
        check_id(&[b"a", b"b"], None);
        check_id(&[b"\xff"], None);
        check_id(&[b"a b"], None);
        check_id(&[], None);
    }

    #[track_caller]
    fn check_timeout(values: &[&[u8]], expected_ms: Option<u64>) {
        let found = inbound_timeout(&headers(&REQUEST_TIMEOUT_MS, values));
        assert_eq!(found, expected_ms.map(Duration::from_millis), "for {values:?}");
    }

    #[test]
    fn a_timeout_is_a_number_of_milliseconds_from_one_to_a_day() {
        check_timeout(&[b"1"], Some(1));
        check_timeout(&[b"86400000"], Some(86_400_000));
        check_timeout(&[b"86400001"], None);
        check_timeout(&[b"0"], None);
        for nonsense in ["", "-1", "+1", "1.5", " ", "1s", "soon", "99999999999999999999"] {
            check_timeout(&[nonsense.as_bytes()], None);
        }
        check_timeout(&[b"1", b"2"], None);
    }

    #[track_caller]
    fn check_trust(policy: TrustPolicy, trusted: &[&str], not: &[&str]) {
        for (addresses, expected) in [(trusted, true), (not, false)] {
            for address in addresses {
                let found = policy.trusts(Some(address.parse().unwrap()));
                assert_eq!(found, expected, "{policy:?} {address}");
            }
        }
    }

    #[test]
    fn trust_is_decided_by_the_peers_address() {
        let (here, inside, outside) = (
            ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"],
            ["10.0.0.7", "172.16.0.1", "192.168.1.1", "169.254.0.1", "fd00::1", "fe80::1"],
            ["8.8.8.8", "172.32.0.1", "2001:db8::1", "::ffff:8.8.8.8"],
        );
        let all = [&here[..], &inside[..], &outside[..]].concat();
        check_trust(TrustPolicy::Nobody, &[], &all);
        check_trust(TrustPolicy::Loopback, &here, &[&inside[..], &outside[..]].concat());
        check_trust(TrustPolicy::Private, &[&here[..], &inside[..]].concat(), &outside);
        check_trust(TrustPolicy::Anyone, &all, &[]);
        assert!(TrustPolicy::Loopback.trusts(None), "a Unix socket is on this host");
        assert!(!TrustPolicy::Nobody.trusts(None));
    }

    #[test]
    fn forwarded_headers_carry_what_is_left_less_the_reserve() {
        let id = RequestId::parse("abc").unwrap();
        let context = RequestContext::new(id);
        let names = |ctx: &Ctx| -> Vec<String> {
            ctx.forward_headers(Duration::ZERO).map(|(name, _)| name.to_string()).collect()
        };
        assert_eq!(names(&Ctx(context.clone())), ["x-request-id"]);
        let trace = TraceParent::generate();
        let limited = context.with_trace(trace).with_deadline(Instant::now() + LIMIT);
        let ctx = Ctx(limited.child(Duration::from_secs(10)));
        let all: Vec<_> = ctx.forward_headers(Duration::from_secs(4)).collect();
        assert_eq!(names(&ctx), ["x-request-id", "x-request-timeout-ms", "traceparent"]);
        let left_ms: u64 = all[1].1.to_str().unwrap().parse().unwrap();
        assert!((1_000..=6_000).contains(&left_ms), "{left_ms}");
        let forwarded = TraceParent::parse(all[2].1.to_str().unwrap()).unwrap();
        assert_eq!(forwarded.trace_id(), trace.trace_id());
        assert_ne!(forwarded, trace, "a span of its own");
        let late = ctx.forward_headers(Duration::from_secs(60)).nth(1).unwrap();
        assert_eq!(late.1, "1");
    }
}

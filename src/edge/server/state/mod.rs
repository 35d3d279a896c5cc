//! Pure: where a connection stands, and how long it may stay there.
//!
//! Three parties tell it what happens: the wrapped stream (bytes), the service around the app
//! (requests), and the wrapped payload (bodies). Nobody tells it the time but [`State::tick`], at
//! the end of each turn of the connection's task; what happened in a turn happened at its end.
//!
//! ```text
//!          byte          request         response's body is dropped
//!   Idle ───────► Head ─────────► Handling ──┬─ all was read ──────► Idle
//!    ▲                              │        ├─ more came than that ► Head
//!    └── a connection begins in     │ 101    └─ the body was not ───► Unread
//!        Head, and is Closed last   ▼
//!                                Upgraded
//! ```
//!
//! A request after the last answer is not served: the connection is Ignoring it, until all is
//! written.
//!
//! The body's rate holds only in `Handling`, the write rate in every phase.

use std::time::Duration;

use tokio::time::Instant;

use super::ahead::Ahead;
use super::credit::Credit;
use crate::edge::limits::{EdgeLimits, Rate};

/// LIMIT: for a client to stop sending a body that nobody reads, after its answer. One second
/// longer than actix-web's own, which ends most of them in better order.
const UNREAD: Duration = Duration::from_secs(2);

/// What of the limits concerns a single connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    head_timeout: Duration,
    head_max: usize,
    body: Rate,
    write: Rate,
    idle: Duration,
    requests: u32,
}

impl From<&EdgeLimits> for Limits {
    fn from(limits: &EdgeLimits) -> Self {
        Self {
            head_timeout: limits.head.timeout,
            head_max: limits.head.max_bytes,
            body: limits.body,
            write: limits.write,
            idle: limits.connections.idle,
            requests: limits.connections.requests,
        }
    }
}

/// Why a connection was ended by us. The last four need streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    not(feature = "http2"),
    allow(dead_code, reason = "without streams nobody has too many")
)]
pub(super) enum Reason {
    HeadTimeout,
    HeadTooLarge,
    BodyTooSlow,
    BodyUnread,
    WriteTooSlow,
    Idle,
    Age,
    TooManyStreams,
    ResetFlood,
    FrameFlood,
    Outstayed,
}

/// What the connection's task does at the end of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Look again then, if nothing happens before.
    Wait(Option<Instant>),
    /// Fail the body of the request, so that it can still be answered, and look again.
    FailBody,
    /// Nothing is owed to the client: end it in good order, and look again.
    Close(Reason),
    /// End it now.
    Kill(Reason),
    /// End it now: the client was told so, and why was counted.
    End,
}

/// What the dispatcher is given of what the client sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// As much as the client sends, as it comes.
    All,
    /// As much as may be read ahead.
    Ahead,
    /// Nothing in this turn.
    NextTurn,
    /// Nothing until the request being handled is answered, or waits for its body.
    Later,
}

/// What to do with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    Serve,
    /// Serve it if its head is small enough. One that came in the same turn as its predecessor, or
    /// as a body, was not counted by itself.
    Measure,
    /// It came after the answer that was said to be the last: nobody may count on it.
    Ignore,
}

/// How the end of a request's body is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is none.
    Empty,
    /// By its length.
    Length,
    /// By an empty chunk, or never.
    Open,
}

/// Where that end is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyEnd {
    Length(u64),
    /// Behind the last chunk.
    Chunks,
    /// All that comes is body.
    Never,
}

/// What the app makes of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Usual,
    /// It says itself that it is the last.
    Last,
    /// What follows is no HTTP.
    Upgrade,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Head { since: Option<Instant> },
    Handling,
    Upgraded,
    Idle { since: Option<Instant> },
    Unread { since: Option<Instant> },
    Ignoring,
    Closed,
}

/// The body of the request being handled.
#[derive(Debug, Clone, Copy)]
enum Body {
    Coming {
        credit: Credit,
        framing: Framing,
        tail: Tail,
    },
    /// All of it was handed over; these were its last bytes, where that says anything.
    Whole(Option<Tail>),
    /// Nobody reads the rest.
    Unread,
    TooSlow,
}

/// One connection.
#[derive(Debug)]
pub(super) struct State {
    limits: Limits,
    phase: Phase,
    body: Body,
    write: Credit,
    /// The last bytes the client sent.
    wire: Tail,
    /// Bytes since the connection was last idle, or since the head that began before it was read.
    unparsed: usize,
    served: u32,
    dies: Instant,
    /// The next answer is the last.
    closing: bool,
    /// An answer was.
    last: bool,
    /// The client sends no more.
    hung_up: bool,
    ahead: Ahead,
}

impl State {
    /// A connection that waits for its first head, and gets no older than `dies`.
    pub(super) const fn new(limits: Limits, dies: Instant) -> Self {
        Self {
            limits,
            phase: Phase::Head { since: None },
            body: Body::Whole(None),
            write: Credit::new(limits.write),
            wire: Tail::EMPTY,
            unparsed: 0,
            served: 0,
            dies,
            closing: false,
            last: false,
            hung_up: false,
            ahead: Ahead::new(),
        }
    }

    /// What the dispatcher may be given now.
    pub(super) const fn reading(&self) -> Reading {
        let exhausted = self.ahead.is_exhausted();
        match (self.phase, self.body) {
            (Phase::Upgraded, _) => Reading::All,
            (Phase::Handling, Body::Coming { .. }) if !exhausted => Reading::Ahead,
            // What comes now is the next request, and would be made one.
            (Phase::Handling | Phase::Ignoring, _) => Reading::Later,
            _ if exhausted => Reading::NextTurn,
            _ => Reading::Ahead,
        }
    }

    /// How many of these bytes the dispatcher is given.
    pub(super) fn hand_out(&mut self, bytes: &[u8]) -> usize {
        let count = match self.reading() {
            Reading::All => bytes.len(),
            Reading::Ahead => self.ahead.hand_out(bytes),
            Reading::NextTurn | Reading::Later => 0,
        };
        if let Some(bytes @ [_, ..]) = bytes.get(..count) {
            self.read(bytes);
        }
        count
    }

    /// Something was held back, for as long as this says.
    pub(super) const fn hold(&mut self) -> Reading {
        self.ahead.held = true;
        self.reading()
    }

    /// Whether what was held back may go on.
    pub(super) const fn release(&mut self) -> bool {
        let goes_on = self.ahead.held && !matches!(self.reading(), Reading::Later);
        if goes_on {
            self.ahead.held = false;
        }
        goes_on
    }

    /// The body of the request that was read ends there.
    pub(super) fn body_ends(&mut self, end: BodyEnd) {
        match end {
            BodyEnd::Length(length) => self.ahead.body_length(length),
            BodyEnd::Chunks => self.ahead.body_chunks(),
            BodyEnd::Never => self.ahead.body_length(u64::MAX),
        }
    }

    /// Bytes were handed out.
    pub(super) fn read(&mut self, bytes: &[u8]) {
        self.wire.push(bytes);
        self.unparsed = self.unparsed.saturating_add(bytes.len());
        if matches!(self.phase, Phase::Idle { .. }) {
            self.phase = Phase::Head { since: None };
        }
    }

    /// Nothing more comes.
    pub(super) const fn hung_up(&mut self) {
        self.hung_up = true;
    }

    pub(super) const fn is_hung_up(&self) -> bool {
        self.hung_up
    }

    /// Bytes were taken by the kernel.
    pub(super) fn wrote(&mut self, bytes: usize) {
        self.write.moved(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    /// The kernel takes no more.
    pub(super) const fn write_blocked(&mut self) {
        self.write.waits();
    }

    /// The kernel took all there was.
    pub(super) const fn flushed(&mut self) {
        self.write.goes_on();
    }

    /// A request was read.
    pub(super) fn called(&mut self, framing: Framing) -> Call {
        if self.last {
            self.phase = Phase::Ignoring;
            return Call::Ignore;
        }
        self.served = self.served.saturating_add(1);
        self.closing |= self.served >= self.limits.requests;
        self.phase = Phase::Handling;
        self.write.set_rate(self.limits.write);
        self.body = match framing {
            Framing::Empty => Body::Whole(None),
            Framing::Length | Framing::Open => {
                Body::Coming { credit: Credit::new(self.limits.body), framing, tail: Tail::EMPTY }
            }
        };
        if self.unparsed > self.limits.head_max { Call::Measure } else { Call::Serve }
    }

    /// The most bytes of a head.
    pub(super) const fn head_max(&self) -> usize {
        self.limits.head_max
    }

    /// The client wants no answer after that of the request being handled.
    pub(super) const fn closes(&mut self) {
        self.closing = true;
    }

    /// Which request is being handled: the payloads of earlier ones have no say any more.
    pub(super) const fn serial(&self) -> u32 {
        self.served
    }

    /// Other rates for the request being handled.
    pub(super) fn set_rates(&mut self, body: Option<Rate>, write: Option<Rate>) {
        if let (Some(rate), Body::Coming { credit, .. }) = (body, &mut self.body) {
            credit.set_rate(rate);
        }
        if let Some(rate) = write {
            self.write.set_rate(rate);
        }
    }

    /// The handler wants more of the body than has come. Whether that is news.
    pub(super) fn body_waits(&mut self) -> bool {
        match &mut self.body {
            Body::Coming { credit, .. } => {
                let news = !credit.is_waiting();
                credit.waits();
                // Its reader has found nothing more.
                self.ahead.waits_for_body();
                news
            }
            Body::Whole(_) | Body::Unread | Body::TooSlow => false,
        }
    }

    /// The handler was given a piece of the body.
    pub(super) fn body_came(&mut self, bytes: &[u8]) {
        if let Body::Coming { credit, tail, .. } = &mut self.body {
            credit.goes_on();
            credit.moved(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
            tail.push(bytes);
        }
    }

    /// The body came to its end.
    pub(super) const fn body_ended(&mut self) {
        if let Body::Coming { framing, tail, .. } = self.body {
            self.body = match framing {
                Framing::Length => Body::Whole(Some(tail)),
                Framing::Empty | Framing::Open => Body::Whole(None),
            };
        }
    }

    /// Nobody reads the rest of the body.
    pub(super) const fn body_dropped(&mut self) {
        if matches!(self.body, Body::Coming { .. }) {
            self.body = Body::Unread;
        }
    }

    pub(super) const fn body_too_slow(&self) -> bool {
        matches!(self.body, Body::TooSlow)
    }

    /// The app answered. Whether the answer should say that it is the last one.
    pub(super) const fn answered(&mut self, answer: Answer) -> bool {
        match answer {
            Answer::Upgrade => self.phase = Phase::Upgraded,
            Answer::Last => self.last = true,
            Answer::Usual => {
                self.last = self.closing || matches!(self.body, Body::Unread | Body::TooSlow);
            }
        }
        self.last
    }

    /// The last byte of the answer was handed over to be written, or it was given up.
    pub(super) fn over(&mut self) {
        if matches!(self.phase, Phase::Closed) {
            return;
        }
        self.phase = match self.body {
            Body::Coming { .. } | Body::Unread | Body::TooSlow => Phase::Unread { since: None },
            Body::Whole(tail) if self.wire.ends_with_message(tail) => Phase::Idle { since: None },
            Body::Whole(_) => {
                self.unparsed = 0;
                Phase::Head { since: None }
            }
        };
    }

    /// Ends a turn.
    pub(super) fn tick(&mut self, now: Instant) -> Turn {
        self.closing |= now >= self.dies;
        if !matches!(self.phase, Phase::Handling | Phase::Ignoring) {
            self.ahead.waits_for_head();
        }
        let Ok(write) = self.write.tick(now) else { return Turn::Kill(Reason::WriteTooSlow) };
        let turn = match &mut self.phase {
            Phase::Handling => self.tick_handling(now),
            Phase::Head { since } => {
                let due = *since.get_or_insert(now) + self.limits.head_timeout;
                if self.unparsed > self.limits.head_max {
                    // The parser has seen all of it, and it has no end.
                    Turn::Kill(Reason::HeadTooLarge)
                } else {
                    until(due, now, Turn::Kill(Reason::HeadTimeout))
                }
            }
            Phase::Idle { since } => {
                self.unparsed = 0;
                let due = *since.get_or_insert(now) + self.limits.idle;
                let (due, reason) =
                    if self.dies < due { (self.dies, Reason::Age) } else { (due, Reason::Idle) };
                until(due, now, Turn::Close(reason))
            }
            Phase::Unread { since } => {
                let due = *since.get_or_insert(now) + UNREAD;
                let told = matches!(self.body, Body::TooSlow);
                until(due, now, if told { Turn::End } else { Turn::Kill(Reason::BodyUnread) })
            }
            Phase::Ignoring if !self.write.is_waiting() => Turn::End,
            Phase::Upgraded | Phase::Ignoring | Phase::Closed => Turn::Wait(None),
        };
        match turn {
            Turn::Wait(due) => Turn::Wait(sooner(due, write)),
            Turn::Close(_) => {
                self.phase = Phase::Closed;
                turn
            }
            Turn::FailBody | Turn::Kill(_) | Turn::End => turn,
        }
    }

    fn tick_handling(&mut self, now: Instant) -> Turn {
        let body = match &mut self.body {
            Body::Coming { credit, .. } => credit.tick(now),
            Body::Whole(_) | Body::Unread | Body::TooSlow => Ok(None),
        };
        let Ok(due) = body else {
            self.body = Body::TooSlow;
            return Turn::FailBody;
        };
        // The answer has to know whether it is the last.
        let dies = (!self.closing).then_some(self.dies);
        Turn::Wait(sooner(due, dies))
    }
}

fn until(due: Instant, now: Instant, then: Turn) -> Turn {
    if now >= due { then } else { Turn::Wait(Some(due)) }
}

fn sooner(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (only, None) | (None, only) => only,
    }
}

/// The last four bytes of a stream, the newest lowest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tail {
    bytes: u32,
    known: u8,
}

impl Tail {
    const EMPTY: Self = Self { bytes: 0, known: 0 };

    fn push(&mut self, bytes: &[u8]) {
        let news = bytes.get(bytes.len().saturating_sub(4)..).unwrap_or_default();
        for byte in news {
            self.bytes = self.bytes << 8 | u32::from(*byte);
            self.known = (self.known + 1).min(4);
        }
    }

    /// Whether these are the last bytes of a request: those of its body if it has a length, else
    /// an empty line. A client that forges it gains `idle` before its head is timed.
    const fn ends_with_message(self, body: Option<Self>) -> bool {
        match body {
            Some(body) => {
                let mask = match body.known {
                    0 => 0,
                    known => u32::MAX >> (32 - 8 * known as u32),
                };
                self.known >= body.known && self.bytes & mask == body.bytes & mask
            }
            None => self.bytes & 0xFFFF == 0x0A0A || self.bytes & 0xFF_FFFF == 0x0A_0D0A,
        }
    }
}

#[cfg(test)]
mod tests;

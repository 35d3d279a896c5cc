//! Pure: where a connection of many streams stands, and how long it may stay there.
//!
//! The wrapped stream tells it bytes in both directions, the service around the app how many requests
//! are worked on. It knows streams as their client does: one is open from its head until both
//! sides have ended it, or one has reset it.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::super::credit::Credit;
use super::super::state::Reason;
use super::fields::Fields;
use super::frames::{Event, Frame, Frames, HEAD, Kind};
use crate::edge::limits::{EdgeLimits, Rate};

/// What a client says first; the protocol checks it.
const PREFACE: usize = 24;
/// LIMIT: fields of a head. Browsers send cookies one by one, up to 180 of a site.
const FIELDS_MAX: usize = 500;
/// LIMIT: frames that bring nothing, in a second and at once: of hollow data, and of those that are
/// about the connection.
const NOTHING_MAX: u32 = 1000;
/// How many of the latter each frame of data allows that the client was sent: some clients grant
/// room for every 4 KiB, to the stream and to the connection.
const PER_DATA: u32 = 10;

/// What of the limits concerns a single connection.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Limits {
    head_timeout: Duration,
    pub(super) head_max: usize,
    pub(super) body: Rate,
    write: Rate,
    idle: Duration,
    requests: u32,
    pub(super) streams: u32,
    resets: u32,
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
            streams: limits.http2.streams,
            resets: limits.http2.resets,
        }
    }
}

/// What the connection's task does at the end of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Look again then, if nothing happens before.
    Wait(Option<Instant>),
    /// Ask the client to begin no more streams, and look again.
    Leave,
    /// Nothing is owed to the client: tell it which stream was the last, and end.
    Close(Option<Reason>),
    /// End it now.
    Kill(Reason),
}

/// Which sides of a stream have ended.
#[derive(Debug, Clone, Copy, Default)]
struct Ended {
    ours: bool,
    theirs: bool,
}

/// A head under way.
#[derive(Debug, Clone, Copy, Default)]
struct Head {
    bytes: usize,
    since: Option<Instant>,
    fields: Fields,
    /// Of the frame under way: what is not fields before them, and all that is left but padding.
    padded: bool,
    before: usize,
    left: usize,
}

impl Head {
    fn begins(&mut self, frame: Frame) {
        self.left = usize::try_from(frame.length).unwrap_or(usize::MAX);
        // Frames without content are not free.
        self.bytes = self.bytes.saturating_add(self.left).saturating_add(HEAD);
        (self.padded, self.before) = (frame.is_padded(), frame.priority());
    }

    fn moves(&mut self, mut bytes: &[u8]) {
        if self.padded
            && let Some((padding, rest)) = bytes.split_first()
        {
            (self.padded, bytes) = (false, rest);
            self.left = self.left.saturating_sub(1 + usize::from(*padding));
        }
        let before = self.before.min(bytes.len());
        self.before -= before;
        self.left = self.left.saturating_sub(before);
        let bytes = bytes.get(before..).unwrap_or_default();
        let fields = bytes.get(..self.left.min(bytes.len())).unwrap_or_default();
        self.left -= fields.len();
        self.fields.take(fields);
    }
}

/// How many of something the client may still send. It fills up in a second.
#[derive(Debug, Clone, Copy)]
struct Allowance {
    most: u32,
    left: u32,
    since: Option<Instant>,
}

/// One connection.
#[derive(Debug)]
pub(super) struct State {
    limits: Limits,
    preface: usize,
    received: Frames,
    sent: Frames,
    /// LIMIT: `limits.streams`; one more ends the connection.
    open: BTreeMap<u32, Ended>,
    /// The last that the client opened.
    highest: u32,
    opened: u32,
    /// How many of them the client may open after it was asked to leave.
    late: Option<u32>,
    /// The first is due from the beginning.
    head: Option<Head>,
    /// Streams that came last, of which the app is asked next; and turns until then.
    arriving: usize,
    turns: usize,
    /// Requests that the app works on.
    working: usize,
    /// Responses of which the client has to take something, before more is asked of the app.
    owing: usize,
    write: Credit,
    /// Of writing, for as long as there are requests.
    rate: Rate,
    blocked: bool,
    resets: Allowance,
    hollow: Allowance,
    chatter: Allowance,
    /// How many streams were reset, by either side.
    resets_seen: u64,
    idle: Option<Instant>,
    dies: Instant,
    draining: bool,
    closed: bool,
}

impl State {
    /// A connection that waits for its first head, and is asked to leave at `dies`.
    pub(super) fn new(limits: Limits, dies: Instant) -> Self {
        Self {
            limits,
            preface: PREFACE,
            received: Frames::default(),
            sent: Frames::default(),
            open: BTreeMap::new(),
            highest: 0,
            opened: 0,
            late: None,
            head: Some(Head::default()),
            arriving: 0,
            turns: 0,
            working: 0,
            owing: 0,
            write: Credit::new(limits.write),
            rate: limits.write,
            blocked: false,
            resets: Allowance::new(limits.resets),
            hollow: Allowance::new(NOTHING_MAX),
            chatter: Allowance::new(NOTHING_MAX),
            resets_seen: 0,
            idle: None,
            dies,
            draining: false,
            closed: false,
        }
    }

    /// Bytes came. `Err` if that was too much of something.
    pub(super) fn received(&mut self, bytes: &[u8], now: Instant) -> Result<(), Reason> {
        let opened = self.opened;
        let preface = self.preface.min(bytes.len());
        self.preface -= preface;
        let mut bytes = bytes.get(preface..).unwrap_or_default();
        loop {
            let before = bytes;
            let Some(event) = self.received.next(&mut bytes) else { break };
            match event {
                Event::Begins(frame) if frame.is_of_head() => self.head_begins(frame)?,
                Event::Moves(frame, count) if frame.is_of_head() => {
                    self.head_moves(before.get(..count).unwrap_or_default())?;
                }
                Event::Begins(_) | Event::Moves(..) => {}
                Event::Ends(frame) => self.came(frame, now)?,
            }
        }
        self.arriving = usize::try_from(self.opened - opened).unwrap_or(usize::MAX);
        // In the last one, others than this connection have their turn.
        self.turns = if self.arriving == 0 { 0 } else { self.arriving + 1 };
        Ok(())
    }

    /// Whether the app is to be asked of what came, before more may come. Once for each turn.
    pub(super) const fn takes_turn(&mut self) -> bool {
        if let Some(left) = self.turns.checked_sub(1) {
            self.turns = left;
            return true;
        }
        self.arriving = 0;
        false
    }

    fn head_begins(&mut self, frame: Frame) -> Result<(), Reason> {
        let head = self.head.get_or_insert_default();
        head.begins(frame);
        if head.bytes > self.limits.head_max {
            return Err(Reason::HeadTooLarge);
        }
        if frame.kind != Kind::Headers || frame.stream <= self.highest {
            return Ok(());
        }
        self.highest = frame.stream;
        self.idle = None;
        self.opened = self.opened.saturating_add(1);
        if self.late.is_some_and(|late| self.opened > late) {
            return Err(Reason::Outstayed);
        }
        self.open.insert(frame.stream, Ended::default());
        let fits = u32::try_from(self.open.len()).is_ok_and(|open| open <= self.limits.streams);
        if fits { Ok(()) } else { Err(Reason::TooManyStreams) }
    }

    fn head_moves(&mut self, bytes: &[u8]) -> Result<(), Reason> {
        let Some(head) = &mut self.head else { return Ok(()) };
        head.moves(bytes);
        if head.fields.count() > FIELDS_MAX { Err(Reason::HeadTooLarge) } else { Ok(()) }
    }

    fn came(&mut self, frame: Frame, now: Instant) -> Result<(), Reason> {
        if frame.ends_headers() {
            self.head = None;
        }
        if frame.ends_stream() {
            self.ends(frame.stream, |ended| ended.theirs = true);
        }
        match frame.kind {
            Kind::Reset => {
                self.was_reset(frame.stream);
                self.resets.take(now).ok_or(Reason::ResetFlood)
            }
            Kind::Data if frame.is_hollow() => self.hollow.take(now).ok_or(Reason::FrameFlood),
            Kind::Data | Kind::Headers | Kind::Continuation => Ok(()),
            Kind::Settings | Kind::Other => self.chatter.take(now).ok_or(Reason::FrameFlood),
        }
    }

    fn was_reset(&mut self, stream: u32) {
        self.open.remove(&stream);
        self.resets_seen += 1;
    }

    fn ends(&mut self, stream: u32, side: impl FnOnce(&mut Ended)) {
        if let Some(ended) = self.open.get_mut(&stream) {
            side(ended);
            if ended.ours && ended.theirs {
                self.open.remove(&stream);
            }
        }
    }

    /// Bytes of the protocol were taken by the transport.
    pub(super) fn wrote(&mut self, mut bytes: &[u8]) {
        while let Some(event) = self.sent.next(&mut bytes) {
            match event {
                // What answers a ping is no progress.
                Event::Moves(frame, count) if frame.is_of_head() || frame.kind == Kind::Data => {
                    self.write.moved(u64::try_from(count).unwrap_or(u64::MAX));
                }
                Event::Begins(_) | Event::Moves(..) => {}
                // Also by the protocol itself, for what the client made of the stream.
                Event::Ends(frame) if frame.kind == Kind::Reset => self.was_reset(frame.stream),
                Event::Ends(frame) => {
                    if frame.kind == Kind::Data {
                        self.chatter.give(PER_DATA);
                    }
                    if frame.ends_stream() {
                        self.ends(frame.stream, |ended| ended.ours = true);
                    }
                }
            }
        }
    }

    /// Whether a frame of our own may be written now.
    pub(super) const fn is_between_frames(&self) -> bool {
        self.sent.is_between()
    }

    /// The transport takes no more.
    pub(super) const fn write_blocked(&mut self) {
        self.blocked = true;
    }

    /// The transport took all there was.
    pub(super) const fn flushed(&mut self) {
        self.blocked = false;
    }

    pub(super) const fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Whether the client has said that it speaks the protocol.
    pub(super) const fn is_greeted(&self) -> bool {
        self.preface == 0
    }

    pub(super) const fn highest(&self) -> u32 {
        self.highest
    }

    pub(super) const fn resets_seen(&self) -> u64 {
        self.resets_seen
    }

    /// So many requests are worked on. When there are none, the rate is the usual one again.
    pub(super) fn working(&mut self, requests: usize) {
        self.working = requests;
        if requests == 0 {
            self.rate = self.limits.write;
            self.write.set_rate(self.rate);
        }
    }

    /// A piece of a response was handed over, or `false` if its producer is asked for the next.
    pub(super) const fn owes(&mut self, piece: bool) {
        self.owing =
            if piece { self.owing.saturating_add(1) } else { self.owing.saturating_sub(1) };
    }

    /// Another rate of writing for as long as there are requests. The most patient holds.
    pub(super) fn set_write_rate(&mut self, rate: Rate) {
        self.rate.min = self.rate.min.min(rate.min);
        self.rate.grace = self.rate.grace.max(rate.grace);
        self.rate.idle = self.rate.idle.max(rate.idle);
        self.write.set_rate(self.rate);
    }

    /// The server stops.
    pub(super) const fn drains(&mut self) {
        self.draining = true;
    }

    /// Ends a turn.
    pub(super) fn tick(&mut self, now: Instant) -> Turn {
        let write = match self.tick_write(now) {
            Ok(write) => write,
            Err(reason) => return Turn::Kill(reason),
        };
        if self.closed {
            return Turn::Wait(write);
        }
        let leaving = self.draining || now >= self.dies || self.opened >= self.limits.requests;
        if leaving && self.is_quiet() {
            self.closed = true;
            return Turn::Close(self.reason(now));
        }
        if leaving && self.late.is_none() {
            self.late = Some(self.opened.saturating_add(self.limits.streams));
            return Turn::Leave;
        }
        let quiet = self.is_quiet();
        let (due, turn) = match &mut self.head {
            Some(head) => {
                let due = *head.since.get_or_insert(now) + self.limits.head_timeout;
                let spoke = self.preface > 0 || head.bytes > 0;
                let reason = Reason::HeadTimeout;
                (due, if spoke { Turn::Kill(reason) } else { Turn::Close(Some(reason)) })
            }
            None if quiet => {
                let due = *self.idle.get_or_insert(now) + self.limits.idle;
                (due, Turn::Close(Some(Reason::Idle)))
            }
            None => return Turn::Wait(self.wake_at(write, None)),
        };
        if now < due {
            return Turn::Wait(self.wake_at(write, Some(due)));
        }
        self.closed = matches!(turn, Turn::Close(_));
        turn
    }

    /// The account of a client that has to take something.
    fn tick_write(&mut self, now: Instant) -> Result<Option<Instant>, Reason> {
        let unanswered = self.open.values().filter(|ended| ended.theirs && !ended.ours).count();
        // What nobody works on any more waits for the client alone.
        if self.blocked || self.owing > 0 || unanswered > self.working + self.arriving {
            self.write.waits();
        } else {
            self.write.goes_on();
        }
        self.write.tick(now).map_err(|_exhausted| Reason::WriteTooSlow)
    }

    /// Whether nothing is under way that somebody waits for: what comes after an answer is of no
    /// interest. At a stop, the first head is not waited for.
    fn is_quiet(&self) -> bool {
        let head = self.head.is_some() && !(self.opened == 0 && self.draining);
        !head && self.open.values().all(|ended| ended.ours) && self.working == 0
    }

    /// Why it closes, if that is counted.
    fn reason(&self, now: Instant) -> Option<Reason> {
        (!self.draining && now >= self.dies).then_some(Reason::Age)
    }

    fn wake_at(&self, write: Option<Instant>, due: Option<Instant>) -> Option<Instant> {
        let dies = self.late.is_none().then_some(self.dies);
        [write, due, dies].into_iter().flatten().min()
    }
}

impl Allowance {
    const fn new(most: u32) -> Self {
        Self { most, left: most, since: None }
    }

    /// One of them; `None` if there are none left.
    fn take(&mut self, now: Instant) -> Option<()> {
        let since = *self.since.get_or_insert(now);
        let each = Duration::from_secs(1) / self.most.max(1);
        let elapsed = now.saturating_duration_since(since);
        let earned = elapsed.as_nanos() / each.as_nanos().max(1);
        let earned = u32::try_from(earned).unwrap_or(u32::MAX).min(self.most);
        self.give(earned);
        // What is left of the time counts for the next.
        self.since = Some(if earned < self.most { since + each * earned } else { now });
        self.left = self.left.checked_sub(1)?;
        Some(())
    }

    fn give(&mut self, count: u32) {
        self.left = self.left.saturating_add(count).min(self.most);
    }
}

#[cfg(test)]
#[path = "peer_tests.rs"]
mod peer_tests;
#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;

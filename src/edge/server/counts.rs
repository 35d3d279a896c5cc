//! What became of the connections.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::state::Reason;

/// What became of the connections of an [`EdgeServer`](super::EdgeServer) since it was made. Each that we
/// ended is counted once, by its reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionCounts {
    /// Open now.
    pub open: usize,
    /// Let in, whatever became of them.
    pub accepted: u64,
    /// Reset at once: there were [as many](crate::edge::ConnectionLimits::total) as there may be.
    pub refused_total: u64,
    /// Reset at once: their address had [as many](crate::edge::ConnectionLimits::per_address).
    pub refused_address: u64,
    /// Cut before the end of the TLS handshake: it took too long.
    pub handshake_timeout: u64,
    /// The TLS handshake failed.
    pub handshake_failed: u64,
    /// Cut: a head took too long.
    pub head_timeout: u64,
    /// Answered 431 and closed: a head was too large.
    pub head_too_large: u64,
    /// The body came too slowly. Answered 408 where the handler gave up at it.
    pub body_too_slow: u64,
    /// Cut: it went on to send a body that nobody reads.
    pub body_unread: u64,
    /// Cut: it took its response too slowly.
    pub write_too_slow: u64,
    /// Closed: no next request came.
    pub idle: u64,
    /// Closed while idle: it was old.
    pub age: u64,
    /// Cut: it opened [more streams](crate::edge::EdgeLimits) at a time than it was told it may.
    /// HTTP/2 only, as the next three.
    pub too_many_streams: u64,
    /// Cut: it reset too many streams in a second, or had us reset too many.
    pub reset_flood: u64,
    /// Cut: it sent too many frames in a second that bring nothing.
    pub frame_flood: u64,
    /// Cut: it went on to open streams after it was asked to leave.
    pub outstayed: u64,
    /// The client broke the protocol, below the application: a malformed head or body.
    pub malformed: u64,
}

/// A handle to the [counts](ConnectionCounts) of a server. Cheap to clone; outlives the server.
#[derive(Clone, Default)]
pub struct Connections(Arc<Tally>);

impl Connections {
    /// The counts now.
    #[must_use]
    pub fn counts(&self) -> ConnectionCounts {
        let Tally { open, counters } = &*self.0;
        let count = |event: Event| read(counters, event);
        ConnectionCounts {
            open: open.load(Ordering::Relaxed),
            accepted: count(Event::Accepted),
            refused_total: count(Event::RefusedTotal),
            refused_address: count(Event::RefusedAddress),
            handshake_timeout: count(Event::HandshakeTimeout),
            handshake_failed: count(Event::HandshakeFailed),
            head_timeout: count(Event::Ended(Reason::HeadTimeout)),
            head_too_large: count(Event::Ended(Reason::HeadTooLarge)),
            body_too_slow: count(Event::Ended(Reason::BodyTooSlow)),
            body_unread: count(Event::Ended(Reason::BodyUnread)),
            write_too_slow: count(Event::Ended(Reason::WriteTooSlow)),
            idle: count(Event::Ended(Reason::Idle)),
            age: count(Event::Ended(Reason::Age)),
            too_many_streams: count(Event::Ended(Reason::TooManyStreams)),
            reset_flood: count(Event::Ended(Reason::ResetFlood)),
            frame_flood: count(Event::Ended(Reason::FrameFlood)),
            outstayed: count(Event::Ended(Reason::Outstayed)),
            malformed: count(Event::Malformed),
        }
    }

    pub(super) fn tally(&self) -> &Arc<Tally> {
        &self.0
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connections").field(&self.counts()).finish()
    }
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    Accepted,
    RefusedTotal,
    RefusedAddress,
    HandshakeTimeout,
    HandshakeFailed,
    Malformed,
    Ended(Reason),
}

impl Event {
    const COUNT: usize = 17;

    const fn index(self) -> usize {
        match self {
            Self::Accepted => 0,
            Self::RefusedTotal => 1,
            Self::RefusedAddress => 2,
            Self::HandshakeTimeout => 3,
            Self::HandshakeFailed => 4,
            Self::Malformed => 5,
            Self::Ended(Reason::HeadTimeout) => 6,
            Self::Ended(Reason::HeadTooLarge) => 7,
            Self::Ended(Reason::BodyTooSlow) => 8,
            Self::Ended(Reason::BodyUnread) => 9,
            Self::Ended(Reason::WriteTooSlow) => 10,
            Self::Ended(Reason::Idle) => 11,
            Self::Ended(Reason::Age) => 12,
            Self::Ended(Reason::TooManyStreams) => 13,
            Self::Ended(Reason::ResetFlood) => 14,
            Self::Ended(Reason::Outstayed) => 15,
            Self::Ended(Reason::FrameFlood) => 16,
        }
    }
}

/// Shared by all workers. Nothing here is written on the path of a request.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) open: AtomicUsize,
    counters: [AtomicU64; Event::COUNT],
}

impl Tally {
    pub(super) fn count(&self, event: Event) {
        if let Some(counter) = self.counters.get(event.index()) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn read(counters: &[AtomicU64; Event::COUNT], event: Event) -> u64 {
    counters.get(event.index()).map_or(0, |counter| counter.load(Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_event_is_counted_under_its_own_name() {
        let connections = Connections::default();
        let ended = |reason| (Event::Ended(reason), 1);
        let events = [
            (Event::Accepted, 1),
            (Event::RefusedTotal, 1),
            (Event::RefusedAddress, 1),
            (Event::HandshakeTimeout, 1),
            (Event::HandshakeFailed, 1),
            (Event::Malformed, 1),
            ended(Reason::HeadTimeout),
            ended(Reason::HeadTooLarge),
            ended(Reason::BodyTooSlow),
            ended(Reason::BodyUnread),
            ended(Reason::WriteTooSlow),
            ended(Reason::Idle),
            ended(Reason::Age),
            ended(Reason::TooManyStreams),
            ended(Reason::ResetFlood),
            ended(Reason::FrameFlood),
            ended(Reason::Outstayed),
        ];
        assert_eq!(events.len(), Event::COUNT);
        for (event, count) in events {
            assert_eq!(read(&connections.tally().counters, event), 0, "{event:?} has its own");
            connections.tally().count(event);
            assert_eq!(read(&connections.tally().counters, event), count);
        }
        assert_eq!(connections.counts().age, 1);
    }
}

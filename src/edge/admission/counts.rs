//! What became of the requests that asked to be admitted.

use std::sync::atomic::{AtomicU64, Ordering};

use steadfast_actors::kernel::Priority;

use super::class::{CLASSES, rank};
use super::state::Reason;

/// What became of the requests that asked to be admitted, since the process began. All zero where
/// admission is off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AdmissionCounts {
    /// How many may be served at a time now.
    pub limit: usize,
    /// How many are. More than the limit while a lowered one is not reached yet.
    pub serving: usize,
    /// How many wait.
    pub waiting: usize,
    /// Refused with 429: their client sent too many. They are in none of the classes.
    pub rate_limited: u64,
    /// Requests of [`Priority::Critical`].
    pub critical: ClassCounts,
    /// Requests of [`Priority::High`].
    pub high: ClassCounts,
    /// Requests of [`Priority::Normal`].
    pub normal: ClassCounts,
    /// Requests of [`Priority::Sheddable`].
    pub sheddable: ClassCounts,
}

/// What became of the requests of one class. Those that ended are each counted once: admitted,
/// shed for one of the reasons, or gone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClassCounts {
    /// Had to wait, whatever became of them.
    pub queued: u64,
    /// Got a place.
    pub admitted: u64,
    /// Shed: the queue was full, or its room was needed by a higher class.
    pub shed_full: u64,
    /// Shed: they waited too long in a queue that stood.
    pub shed_late: u64,
    /// Shed at once: their turn would have come after their deadline.
    pub shed_hopeless: u64,
    /// Shed: their deadline came before their turn.
    pub shed_expired: u64,
    /// Their client left, or the server, while they waited.
    pub gone: u64,
}

impl ClassCounts {
    /// Shed, for whatever reason.
    #[must_use]
    pub const fn shed(&self) -> u64 {
        self.shed_full + self.shed_late + self.shed_hopeless + self.shed_expired
    }
}

/// What is counted of a class.
#[derive(Debug, Clone, Copy)]
pub(super) enum Event {
    Queued,
    Admitted,
    Gone,
    Shed(Reason),
}

impl Event {
    const ALL: usize = 7;

    const fn index(self) -> usize {
        match self {
            Self::Queued => 0,
            Self::Admitted => 1,
            Self::Gone => 2,
            Self::Shed(Reason::Full) => 3,
            Self::Shed(Reason::Late) => 4,
            Self::Shed(Reason::Hopeless) => 5,
            Self::Shed(Reason::Expired) => 6,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Tally {
    classes: [[AtomicU64; Event::ALL]; CLASSES],
}

impl Tally {
    pub(super) fn count(&self, class: Priority, event: Event) {
        let counter = self.classes.get(rank(class)).and_then(|class| class.get(event.index()));
        if let Some(counter) = counter {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn read(&self, class: Priority) -> ClassCounts {
        let read = |event: Event| {
            let counter = self.classes.get(rank(class)).and_then(|class| class.get(event.index()));
            counter.map_or(0, |counter| counter.load(Ordering::Relaxed))
        };
        ClassCounts {
            queued: read(Event::Queued),
            admitted: read(Event::Admitted),
            shed_full: read(Event::Shed(Reason::Full)),
            shed_late: read(Event::Shed(Reason::Late)),
            shed_hopeless: read(Event::Shed(Reason::Hopeless)),
            shed_expired: read(Event::Shed(Reason::Expired)),
            gone: read(Event::Gone),
        }
    }
}

//! Which events are meant, and how they are handled again.

use std::sync::Arc;

use super::event::{EventState, InboxId};
use crate::store::Timestamp;

/// LIMIT: events that one step of a replay or one page of a list takes.
pub(super) const PAGE_MAX: u32 = 1_000;

/// Which events are meant: those in one state, and of those the ones that fit all that is set.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a filter does nothing by itself"]
pub struct EventFilter {
    pub(super) state: EventState,
    pub(super) source: Option<Arc<str>>,
    pub(super) event_type: Option<Arc<str>>,
    pub(super) from: Timestamp,
    pub(super) until: Timestamp,
    pub(super) after: InboxId,
}

impl EventFilter {
    /// Those in this state.
    pub const fn new(state: EventState) -> Self {
        Self {
            state,
            source: None,
            event_type: None,
            from: Timestamp(i64::MIN),
            until: Timestamp(i64::MAX),
            after: InboxId(0),
        }
    }

    /// Those of this source.
    pub fn source(mut self, name: impl Into<Arc<str>>) -> Self {
        self.source = Some(name.into());
        self
    }

    /// Those of this type.
    pub fn event_type(mut self, name: impl Into<Arc<str>>) -> Self {
        self.event_type = Some(name.into());
        self
    }

    /// Those received at this moment or later.
    pub const fn received_from(mut self, at: Timestamp) -> Self {
        self.from = at;
        self
    }

    /// Those received before this moment.
    pub const fn received_until(mut self, at: Timestamp) -> Self {
        self.until = at;
        self
    }

    /// Those with a higher number: to go on after a page.
    pub const fn after(mut self, id: InboxId) -> Self {
        self.after = id;
        self
    }
}

/// Handles events again: back to received, each with a new job.
///
/// # Examples
///
/// ```no_run
/// use steadfast_actors::inbox::{EventFilter, EventState, Inbox, InboxError, Replay};
///
/// # async fn example(inbox: &Inbox) -> Result<(), InboxError> {
/// let dead = EventFilter::new(EventState::Dead).source("payments");
/// let would = inbox.replay(Replay::new(dead.clone()).dry_run()).await?;
/// println!("{} events are dead", would.selected);
/// inbox.replay(Replay::new(dead).per_second(20)).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "nothing is replayed until `Inbox::replay`"]
pub struct Replay {
    pub(super) filter: EventFilter,
    pub(super) per_second: u32,
    pub(super) is_dry: bool,
}

impl Replay {
    /// Of these events. Those that are [done](EventState::Done) take effect a second time; those
    /// that are [received](EventState::Received) are left alone.
    pub const fn new(filter: EventFilter) -> Self {
        Self { filter, per_second: 50, is_dry: false }
    }

    /// The most events in a second. Default 50; at least 1.
    pub const fn per_second(mut self, events: u32) -> Self {
        self.per_second = if events == 0 { 1 } else { events };
        self
    }

    /// Only counts them.
    pub const fn dry_run(mut self) -> Self {
        self.is_dry = true;
        self
    }
}

/// What a replay came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Replayed {
    /// Events that the filter means.
    pub selected: u64,
    /// Of those, the ones that will be handled again. Fewer when somebody else did the same, when
    /// they still cannot be read, or in a dry run.
    pub replayed: u64,
    /// The last of them.
    pub last: Option<InboxId>,
}

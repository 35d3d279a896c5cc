//! An event that is stored.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::raw_json::RawJson;
use super::verify::Confirmation;
use crate::jobs::JobId;
use crate::store::Timestamp;

/// The number of a stored event: unique in its database for ever, rising.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InboxId(pub i64);

impl fmt::Display for InboxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How far an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EventState {
    /// Its job waits or runs.
    Received,
    /// It was handled.
    Done,
    /// Its job is dead, and it was not handled.
    Dead,
    /// Nobody handled its type when it came.
    Ignored,
    /// It was verified, and its type could not be read.
    Unparsable,
}

impl EventState {
    /// The name for metrics, logs and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Done => "done",
            Self::Dead => "dead",
            Self::Ignored => "ignored",
            Self::Unparsable => "unparsable",
        }
    }

    /// Its name in the tables, which know nothing of dead: an event is dead when it was received
    /// and there is no job for it any more.
    pub(super) const fn stored(self) -> &'static str {
        match self {
            Self::Received | Self::Dead => "received",
            Self::Done | Self::Ignored | Self::Unparsable => self.as_str(),
        }
    }

    pub(super) fn read(stored: &str, is_live: bool) -> Option<Self> {
        match stored {
            "received" if is_live => Some(Self::Received),
            "received" => Some(Self::Dead),
            "done" => Some(Self::Done),
            "ignored" => Some(Self::Ignored),
            "unparsable" => Some(Self::Unparsable),
            _ => None,
        }
    }
}

/// What is known of a stored event, without its body.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct EventInfo {
    /// Its number here.
    pub id: InboxId,
    /// Who sent it.
    pub source: Arc<str>,
    /// Its id there; `id-sha256:` and the hash of the id if that is longer than 255 bytes or has
    /// control characters, `sha256:` and the hash of the event's bytes if it has none.
    pub event_id: Arc<str>,
    /// Its type; `None` if that could not be read.
    pub event_type: Option<Arc<str>>,
    /// The version of its type, as it was sent.
    pub version: Option<Arc<str>>,
    /// Whom or what it is about.
    pub subject: Option<Arc<str>>,
    /// When it happened, as its sender says.
    pub occurred_at: Option<Timestamp>,
    /// When it came.
    pub received_at: Timestamp,
    /// When it was handled, or put aside.
    pub settled_at: Option<Timestamp>,
    /// How far it is.
    pub state: EventState,
    /// Why it is unparsable, in a word.
    pub reason: Option<Arc<str>>,
    /// The job that handles it; [`Jobs::errors`](crate::jobs::Jobs::errors) tells what went
    /// wrong.
    pub job: Option<JobId>,
    /// Which key of its source verified it, in the order they were given.
    pub key: Option<u8>,
    /// How often it came again.
    pub duplicates: u64,
    /// How often it came again with another body, which was not kept.
    pub conflicts: u64,
    /// How often it was replayed.
    pub replays: u64,
    /// The headers that were kept.
    pub headers: BTreeMap<Box<str>, Box<str>>,
    /// The bytes of its body.
    pub size: u64,
    /// SHA-256 of its body.
    pub sha256: [u8; 32],
}

/// Nothing that its sender wrote but its id and type: a subject may be an address.
impl fmt::Debug for EventInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventInfo")
            .field("id", &self.id)
            .field("source", &self.source)
            .field("event_id", &self.event_id)
            .field("event_type", &self.event_type)
            .field("state", &self.state)
            .field("reason", &self.reason)
            .field("job", &self.job)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

/// An event as its handler gets it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct StoredEvent {
    /// What is known of it. [`version`](EventInfo::version) is the one that was sent.
    pub info: EventInfo,
    /// Its type.
    pub event_type: Arc<str>,
    /// The version of [`body`](Self::body): the last that an upcaster made, or the one that was
    /// sent.
    pub version: Option<Arc<str>>,
    /// Its body, byte for byte as it came; or what the upcasters made of it.
    pub body: RawJson,
}

/// What became of a delivery. When there is one, the delivery is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// Its events, in their order; one, unless the source sends lists.
    pub events: Vec<Accepted>,
    /// What the sender wants to have confirmed; nothing was done about it.
    pub confirmation: Option<Confirmation>,
}

/// An event of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Accepted {
    /// Its number here.
    pub id: InboxId,
    /// Its id at its sender.
    pub event_id: Arc<str>,
    /// It was here already; nothing more will be done about it.
    pub duplicate: bool,
    /// It was here already, with another body. That one stays, and this one is not kept.
    pub conflict: bool,
}

/// A row that is to be inserted.
#[derive(Clone)]
pub(super) struct NewEvent {
    pub(super) source: Arc<str>,
    pub(super) event_id: String,
    pub(super) event_type: Option<String>,
    pub(super) version: Option<String>,
    pub(super) subject: Option<String>,
    /// Whose turn it has to wait for.
    pub(super) line: Option<String>,
    pub(super) occurred_at: Option<Timestamp>,
    pub(super) state: EventState,
    pub(super) reason: Option<&'static str>,
    pub(super) key: Option<u8>,
    /// As JSON.
    pub(super) headers: Arc<str>,
    pub(super) body: Bytes,
    pub(super) sha256: [u8; 32],
}

impl fmt::Debug for NewEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewEvent")
            .field("source", &self.source)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// A row that was read.
pub(super) struct Row {
    pub(super) info: EventInfo,
    /// The line it waits in, and its place there.
    pub(super) turn: Option<Turn>,
}

/// A place in the line of a subject.
#[derive(Clone)]
pub(super) struct Turn {
    pub(super) line: Arc<str>,
    pub(super) turn: i64,
}

//! What has come and what became of it, in numbers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use super::verify::Refusal;

/// What has come to this process since it began, and what it made of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct InboxCounts {
    /// Deliveries for a source that there is not.
    pub unknown_source: u64,
    /// Those of each source.
    pub sources: BTreeMap<Arc<str>, SourceCounts>,
}

/// What has come from a source since this process began, and what it made of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SourceCounts {
    /// Events that were stored.
    pub stored: u64,
    /// Of those, the ones that nobody here handles.
    pub ignored: u64,
    /// Of those, the ones whose type could not be read.
    pub unparsable: u64,
    /// Events that were here already.
    pub duplicates: u64,
    /// Of those, the ones that came with another body.
    pub conflicts: u64,
    /// Deliveries that were not verified.
    pub unverified: Unbelieved,
    /// Deliveries that were too large.
    pub too_large: u64,
    /// Deliveries that were not stored because something was not there: the store, the actor, a
    /// certificate, room for the job.
    pub unavailable: u64,
    /// Runs that handled their event.
    pub handled: u64,
    /// Runs that failed.
    pub failed: u64,
    /// Runs that did nothing yet: an earlier event of the subject is not over, or another process
    /// handles the type.
    pub waited: u64,
}

/// Deliveries that were not verified, by what was wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Unbelieved {
    /// [`Refusal::Missing`].
    pub missing: u64,
    /// [`Refusal::Malformed`].
    pub malformed: u64,
    /// [`Refusal::Stale`].
    pub stale: u64,
    /// [`Refusal::Mismatch`].
    pub mismatch: u64,
    /// [`Refusal::Untrusted`].
    pub untrusted: u64,
}

impl Unbelieved {
    /// All of them.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.missing + self.malformed + self.stale + self.mismatch + self.untrusted
    }
}

/// The counters of a source.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) stored: Counter,
    pub(super) ignored: Counter,
    pub(super) unparsable: Counter,
    pub(super) duplicates: Counter,
    pub(super) conflicts: Counter,
    pub(super) too_large: Counter,
    pub(super) unavailable: Counter,
    pub(super) handled: Counter,
    pub(super) failed: Counter,
    pub(super) waited: Counter,
    missing: Counter,
    malformed: Counter,
    stale: Counter,
    mismatch: Counter,
    untrusted: Counter,
}

impl Tally {
    pub(super) fn refused(&self, refusal: Refusal) {
        match refusal {
            Refusal::Missing => self.missing.add(),
            Refusal::Malformed => self.malformed.add(),
            Refusal::Stale => self.stale.add(),
            Refusal::Mismatch => self.mismatch.add(),
            Refusal::Untrusted => self.untrusted.add(),
        }
    }

    pub(super) fn read(&self) -> SourceCounts {
        SourceCounts {
            stored: self.stored.read(),
            ignored: self.ignored.read(),
            unparsable: self.unparsable.read(),
            duplicates: self.duplicates.read(),
            conflicts: self.conflicts.read(),
            unverified: Unbelieved {
                missing: self.missing.read(),
                malformed: self.malformed.read(),
                stale: self.stale.read(),
                mismatch: self.mismatch.read(),
                untrusted: self.untrusted.read(),
            },
            too_large: self.too_large.read(),
            unavailable: self.unavailable.read(),
            handled: self.handled.read(),
            failed: self.failed.read(),
            waited: self.waited.read(),
        }
    }
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

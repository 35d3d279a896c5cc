//! What a probe is told.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

/// How one thing, or a group of things, is doing. Ordered: the greatest is the worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Status {
    /// It works.
    Up,
    /// It works, but worse than usual. Still ready.
    Degraded,
    /// Nothing recent is known about it: never checked, or the last result is too old. Not ready.
    Unknown,
    /// It does not work. Not ready.
    Down,
}

impl Status {
    /// Whether traffic may come.
    #[must_use]
    pub const fn is_ready(self) -> bool {
        matches!(self, Self::Up | Self::Degraded)
    }

    /// The status in lower case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Degraded => "degraded",
            Self::Unknown => "unknown",
            Self::Down => "down",
        }
    }
}

/// One line of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Item {
    /// What it is about.
    pub name: Arc<str>,
    /// How it is doing.
    pub status: Status,
    /// Whether the whole is ready only if this is.
    pub critical: bool,
    /// Why, for operators. May name hosts and files: never for the public.
    pub reason: Option<Arc<str>>,
    /// Time since this was last confirmed, where that applies.
    pub age: Option<Duration>,
}

impl Item {
    /// A critical line without reason and age.
    pub fn new(name: impl Into<Arc<str>>, status: Status) -> Self {
        Self { name: name.into(), status, critical: true, reason: None, age: None }
    }

    /// Sets why.
    #[must_use]
    pub fn because(mut self, reason: impl Into<Arc<str>>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// Sets whether the whole depends on it.
    #[must_use]
    pub const fn critical(mut self, critical: bool) -> Self {
        self.critical = critical;
        self
    }
}

/// The answer to one probe: a verdict and the lines it rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The worst of the critical lines; what is not critical degrades it at most.
    pub status: Status,
    /// One line for each thing that was looked at.
    pub items: Vec<Item>,
}

impl Report {
    /// Draws the verdict from `items`. No items: up.
    #[must_use]
    pub fn new(items: Vec<Item>) -> Self {
        let status = items.iter().map(weight).max().unwrap_or(Status::Up);
        Self { status, items }
    }

    /// Whether the probe should answer 200.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        self.status.is_ready()
    }

    /// The same report without the named lines, its verdict drawn anew.
    #[must_use]
    pub fn excluding(self, mut excluded: impl FnMut(&str) -> bool) -> Self {
        Self::new(self.items.into_iter().filter(|item| !excluded(&item.name)).collect())
    }
}

fn weight(item: &Item) -> Status {
    if item.critical { item.status } else { item.status.min(Status::Degraded) }
}

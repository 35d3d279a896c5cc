//! Where the database is and how it is used.

use std::path::PathBuf;
use std::time::Duration;

use crate::store::StoreError;

/// What an answered write has survived.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Durability {
    /// A power cut: every commit waits for the disk. The default.
    #[default]
    Full,
    /// The end of the process, also by `kill -9`. A power cut may undo the last seconds; the
    /// database stays sound.
    Normal,
}

/// Where a SQLite database is and how it is used.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    /// `None` is a database in memory.
    pub(super) path: Option<PathBuf>,
    pub(super) durability: Durability,
    pub(super) busy_timeout: Duration,
    pub(super) readers: u8,
    pub(super) capacity: usize,
}

impl SqliteOptions {
    const BUSY_TIMEOUT_MAX: Duration = Duration::from_secs(600);
    const READERS_MAX: u8 = 16;
    const CAPACITY_MAX: usize = 65_536;

    /// A database in a file, which is made if there is none; its folder must exist. It must lie
    /// on a disk of this host, not on a network's: there, locks cannot be relied on.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self { path: Some(path.into()), ..Self::memory() }
    }

    /// A database in memory, gone with its store: for tests.
    #[must_use]
    pub const fn memory() -> Self {
        Self {
            path: None,
            durability: Durability::Full,
            busy_timeout: Duration::from_secs(5),
            readers: 2,
            capacity: 8_192,
        }
    }

    /// What an answered write has survived. Default [`Durability::Full`].
    #[must_use]
    pub const fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// How long a write waits for another process that writes to the same file before it is
    /// refused with [`StoreError::Timeout`]. Default 5 s, 1 ms to 10 min. Too low, and a long
    /// transaction elsewhere shows as errors here; too high, and callers wait for long.
    #[must_use]
    pub const fn busy_timeout(mut self, timeout: Duration) -> Self {
        self.busy_timeout = timeout;
        self
    }

    /// How many reads run at the same time, each on a thread of its own. Default 2, 1 to 16.
    /// Too low, and reads wait for each other; too high, and they take the processor from what
    /// else runs.
    #[must_use]
    pub const fn readers(mut self, readers: u8) -> Self {
        self.readers = readers;
        self
    }

    /// How many writes, and as many reads, wait to be begun; a caller beyond that waits for its
    /// turn. Default 8,192, 1 to 65,536. Too low, and groups are small and commits many; too
    /// high, and the memory that what waits may take is large.
    #[must_use]
    pub const fn capacity(mut self, capacity: usize) -> Self {
        self.capacity = capacity;
        self
    }

    /// Makes the path absolute, so that it stays the same file and has no special meaning.
    pub(super) fn checked(mut self) -> Result<Self, StoreError> {
        let refuse = |setting, expected| Err(StoreError::InvalidSetting { setting, expected });
        if let Some(path) = &self.path {
            match std::path::absolute(path) {
                Ok(absolute) => self.path = Some(absolute),
                Err(_) => return refuse("path", "the path of a file"),
            }
        }
        if self.busy_timeout < Duration::from_millis(1)
            || self.busy_timeout > Self::BUSY_TIMEOUT_MAX
        {
            return refuse("busy_timeout", "1 ms to 10 min");
        }
        if !(1..=Self::READERS_MAX).contains(&self.readers) {
            return refuse("readers", "1 to 16");
        }
        if !(1..=Self::CAPACITY_MAX).contains(&self.capacity) {
            return refuse("capacity", "1 to 65,536");
        }
        Ok(self)
    }
}

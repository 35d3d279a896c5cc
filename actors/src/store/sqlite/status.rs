//! How a store is, without asking the database.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// How a store is now. Made without asking the database.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct SqliteStatus {
    /// Whether the connection that writes is open. While it is not, writes are refused.
    pub connected: bool,
    /// Writes that wait to be begun.
    pub writes_waiting: usize,
    /// Reads that wait to be begun.
    pub reads_waiting: usize,
    /// Works that were committed since it was opened.
    pub writes: u64,
    /// Commits that they took.
    pub commits: u64,
    /// Commits that failed.
    pub failed_commits: u64,
    /// The most works that one commit has had.
    pub largest_group: usize,
    /// Times that what was committed was copied from the log into the database.
    pub checkpoints: u64,
    /// Times that the log was begun anew while it was written to.
    pub log_resets: u64,
    /// The size of the write-ahead log on the disk.
    pub wal_bytes: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) connected: AtomicBool,
    pub(super) writes: AtomicU64,
    pub(super) commits: AtomicU64,
    pub(super) failed_commits: AtomicU64,
    pub(super) largest_group: AtomicUsize,
    pub(super) checkpoints: AtomicU64,
    pub(super) log_resets: AtomicU64,
}

impl Counters {
    pub(super) fn committed(&self, works: usize) {
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.writes.fetch_add(u64::try_from(works).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.largest_group.fetch_max(works, Ordering::Relaxed);
    }

    pub(super) fn status(
        &self,
        wal: Option<&Path>,
        writes_waiting: usize,
        reads_waiting: usize,
    ) -> SqliteStatus {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SqliteStatus {
            connected: self.connected.load(Ordering::Relaxed),
            writes_waiting,
            reads_waiting,
            writes: read(&self.writes),
            commits: read(&self.commits),
            failed_commits: read(&self.failed_commits),
            largest_group: self.largest_group.load(Ordering::Relaxed),
            checkpoints: read(&self.checkpoints),
            log_resets: read(&self.log_resets),
            wal_bytes: wal.map_or(0, file_bytes),
        }
    }
}

/// The size of a file; zero if there is none.
///
/// It is not opened: closing it again would take SQLite's locks from this process.
pub(super) fn file_bytes(path: &Path) -> u64 {
    path.metadata().map_or(0, |metadata| metadata.len())
}

//! What the threads of one store and its handles share.

use std::path::PathBuf;

use super::checkpoint::Plan;
use super::config::SqliteOptions;
use super::queue::Queue;
use super::status::Counters;
use super::work::{Access, AnyWork};
use crate::store::Wakes;

pub(super) struct Shared {
    pub(super) options: SqliteOptions,
    pub(super) writes: Queue<AnyWork>,
    pub(super) reads: Queue<AnyWork>,
    pub(super) wakes: Wakes,
    pub(super) counters: Counters,
    pub(super) plan: Plan,
    /// The write-ahead log beside the file.
    pub(super) wal: Option<PathBuf>,
}

impl Shared {
    /// `options` with the path as SQLite resolved it.
    pub(super) fn new(options: SqliteOptions) -> Self {
        let wal = options.path.as_ref().map(|path| {
            let mut wal = path.clone().into_os_string();
            wal.push("-wal");
            wal.into()
        });
        Self {
            writes: Queue::new(options.capacity),
            reads: Queue::new(options.capacity),
            wakes: Wakes::default(),
            counters: Counters::default(),
            plan: Plan::default(),
            wal,
            options,
        }
    }

    /// The queue that such work goes to. A database in memory has one connection.
    pub(super) const fn queue_for(&self, access: Access) -> &Queue<AnyWork> {
        match access {
            Access::Read if self.wal.is_some() => &self.reads,
            Access::Read | Access::Write => &self.writes,
        }
    }

    pub(super) fn close(&self) {
        self.writes.close();
        self.reads.close();
    }
}

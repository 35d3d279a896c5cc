//! What goes into the guard, and what it has done besides.

use std::time::Duration;

use crate::jobs::Class;

/// What one look at a queue found. Counts that were cut off at a limit make the guard's estimates
/// too low by as much; see [`GuardConfig::probe_limit`](super::GuardConfig::probe_limit).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reading {
    /// When, on any clock that does not go back.
    pub at: Duration,
    /// Jobs that are due and not begun, by class, the dearest first. Not those that were put off
    /// or parked, and not those for later: they would make the guard see its own doing.
    pub ready: [u64; 4],
    /// The age of the oldest of those: for how long it has been due.
    pub oldest: [Option<Duration>; 4],
    /// Jobs that run, in all processes.
    pub running: u64,
    /// Jobs put off by the guard and not due yet.
    pub deferred: u64,
    /// Jobs parked for a dependency.
    pub parked: u64,
    /// Jobs accepted to run at once, ever: by this process or, better, by all.
    pub enqueued: u64,
    /// Jobs of the classes that a ramp holds back, normal and sheddable, which were put off or
    /// turned away, ever: by this process or, better, by all.
    pub held_back: u64,
    /// Jobs that left the queue, done or dead, ever, in all processes.
    pub finished: u64,
    /// Runs that failed, ever, whether or not they are tried again.
    pub failed: u64,
    /// Whether the breaker of a dependency of this queue is open.
    pub dependency_open: bool,
    /// Whether an operator has paused the queue: what waits then is no overload.
    pub paused: bool,
    /// Processes that enqueue into this queue, this one included; 0 counts as 1.
    pub nodes: u32,
}

impl Reading {
    /// Due jobs of all classes.
    pub(super) fn waiting(&self) -> u64 {
        self.ready.into_iter().fold(0, u64::saturating_add)
    }

    /// Jobs in the queue, whatever they wait for.
    pub(super) fn depth(&self) -> u64 {
        let rest = [self.running, self.deferred, self.parked];
        rest.into_iter().fold(self.waiting(), u64::saturating_add)
    }
}

/// Queued work to give up now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shed {
    /// All jobs of this class; else only those that have expired.
    pub class: Option<Class>,
    /// At most so many.
    pub limit: u32,
}

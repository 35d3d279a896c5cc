//! How a job queue is set up.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::error::JobsError;
use super::guard::GuardConfig;
use super::job::is_name;

/// Settings of a whole job queue, checked.
#[derive(Debug, Clone)]
pub(super) struct Config {
    pub(super) name: Arc<str>,
    pub(super) beat_every: Duration,
    pub(super) expires_after: Duration,
    pub(super) keep_done: Duration,
    pub(super) keep_dead: Duration,
    pub(super) payload_max: usize,
    pub(super) poison_after: i16,
}

const BEAT: RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(60);
const EXPIRES_MAX: Duration = Duration::from_secs(3_600);
const PAYLOAD: RangeInclusive<usize> = 1..=1024 * 1024;
const POISON: RangeInclusive<i16> = 1..=100;

impl Default for Config {
    fn default() -> Self {
        let day = Duration::from_secs(86_400);
        Self {
            name: Arc::from("node"),
            beat_every: Duration::from_secs(2),
            expires_after: Duration::from_secs(20),
            keep_done: day,
            keep_dead: day * 30,
            payload_max: 64 * 1024,
            poison_after: 3,
        }
    }
}

impl Config {
    pub(super) fn check(&self) -> Result<(), JobsError> {
        let checks = [
            (BEAT.contains(&self.beat_every), "beat_every", "50 ms to 60 s"),
            (
                (self.beat_every * 3..=EXPIRES_MAX).contains(&self.expires_after),
                "expires_after",
                "three times `beat_every` to 1 hour",
            ),
            (PAYLOAD.contains(&self.payload_max), "payload_max", "1 byte to 1 MiB"),
            (POISON.contains(&self.poison_after), "poison_after", "1 to 100"),
            (is_name(&self.name), "name", "1 to 127 bytes"),
        ];
        match checks.into_iter().find(|(in_range, ..)| !in_range) {
            Some((_, setting, expected)) => Err(JobsError::InvalidSetting { setting, expected }),
            None => Ok(()),
        }
    }
}

/// A queue that this process works on, and how.
#[derive(Debug, Clone)]
#[must_use = "a queue does nothing until it is added to a builder"]
pub struct QueueSpec {
    pub(super) name: Arc<str>,
    pub(super) workers: u16,
    pub(super) running_limit: Option<u32>,
    pub(super) depth_limit: Option<u32>,
    pub(super) guard: GuardConfig,
}

const WORKERS_MAX: u16 = 10_000;
const DEPTH: RangeInclusive<u32> = 1..=1_000_000;

impl QueueSpec {
    /// A queue with 10 workers in this process.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self {
            name: name.into(),
            workers: 10,
            running_limit: None,
            depth_limit: None,
            guard: GuardConfig::default(),
        }
    }

    /// Jobs that run at a time in this process. Default 10; 0 to 10,000. With 0 this process
    /// only enqueues, and its guard watches all the same.
    pub const fn workers(mut self, count: u16) -> Self {
        self.workers = count;
        self
    }

    /// Jobs that run at a time in all processes together. Default: no limit. With 1 the queue is
    /// serial. It costs a count per claim, and on PostgreSQL a lock.
    pub const fn running_limit(mut self, count: u32) -> Self {
        self.running_limit = Some(count);
        self
    }

    /// Jobs that may wait or run, counted exactly with each enqueue, whatever the number of
    /// processes; one more is refused with [`JobsError::QueueFull`]. Default: no exact limit; 1 to
    /// 1,000,000. Costs time in proportion to the limit: the guard's own limit does not.
    pub const fn depth_limit(mut self, count: u32) -> Self {
        self.depth_limit = Some(count);
        self
    }

    /// When there is too much work. See [`GuardConfig`] for the defaults.
    pub fn guard(mut self, guard: GuardConfig) -> Self {
        self.guard = guard;
        self
    }

    pub(super) fn check(&self) -> Result<(), JobsError> {
        let invalid = |setting, expected| Err(JobsError::InvalidSetting { setting, expected });
        if !is_name(&self.name) || &*self.name == "*" {
            return invalid("queue", "1 to 127 bytes, and not `*`");
        }
        if self.workers > WORKERS_MAX {
            return invalid("workers", "0 to 10,000");
        }
        if self.running_limit == Some(0) {
            return invalid("running_limit", "1 or more");
        }
        if self.depth_limit.is_some_and(|limit| !DEPTH.contains(&limit)) {
            return invalid("depth_limit", "1 to 1,000,000");
        }
        Ok(())
    }
}

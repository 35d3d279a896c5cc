//! What a job is, and how its kind wants to be treated.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Class;
use super::error::JobsError;
use super::guard::Overload;
use super::retry::Backoff;
use crate::breaker::{BreakerError, Rejected};

/// A kind of job: its arguments, which are stored as JSON, and how it wants to be treated.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use serde::{Deserialize, Serialize};
/// use steadfast_actors::jobs::{Class, Job, JobPolicy};
///
/// #[derive(Serialize, Deserialize)]
/// struct Report {
///     name: String,
/// }
///
/// impl Job for Report {
///     const KIND: &'static str = "report";
///     const CLASS: Class = Class::Sheddable;
///
///     fn policy() -> JobPolicy {
///         JobPolicy::default().max_attempts(3).timeout(Duration::from_secs(30))
///     }
/// }
/// ```
pub trait Job: Serialize + DeserializeOwned + Send + 'static {
    /// The name in the tables, 1 to 127 bytes. Once jobs of this kind are stored, it must not
    /// change.
    const KIND: &'static str;
    /// The queue it goes to unless told otherwise, 1 to 127 bytes.
    const QUEUE: &'static str = "default";
    /// How dear it is unless told otherwise.
    const CLASS: Class = Class::Normal;

    /// How it wants to be treated. Asked once, when its handler is registered, and with each
    /// enqueue; it must always say the same.
    fn policy() -> JobPolicy {
        JobPolicy::default()
    }
}

/// How a kind of job wants to be treated. The defaults suit a call of another service.
#[derive(Debug, Clone)]
#[must_use = "a policy does nothing until a `Job` returns it"]
pub struct JobPolicy {
    pub(super) max_attempts: u16,
    pub(super) timeout: Duration,
    pub(super) backoff: Backoff,
    pub(super) dependency: Option<Arc<str>>,
    pub(super) overload: Overload,
    pub(super) expires_in: Option<Duration>,
    pub(super) keep_done: bool,
}

const ATTEMPTS: RangeInclusive<u16> = 1..=100;
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(86_400);
pub(super) const EXPIRES_IN: RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(365 * 86_400);

impl Default for JobPolicy {
    fn default() -> Self {
        Self {
            max_attempts: 10,
            timeout: Duration::from_secs(60),
            backoff: Backoff::default(),
            dependency: None,
            overload: Overload::default(),
            expires_in: None,
            keep_done: true,
        }
    }
}

impl JobPolicy {
    /// Runs in all, the first included. Default 10; 1 to 100. With 1, a job whose process dies
    /// is not run again.
    pub const fn max_attempts(mut self, attempts: u16) -> Self {
        self.max_attempts = attempts;
        self
    }

    /// The longest a run may take; then its future is dropped and the run counts as failed.
    /// Default 60 s; 1 ms to 24 hours. Code that blocks cannot be dropped: it is told through
    /// [`JobCx::cancelled`](super::JobCx::cancelled) and keeps its worker until it returns.
    pub const fn timeout(mut self, within: Duration) -> Self {
        self.timeout = within;
        self
    }

    /// The pause before the next run of one that failed. Default 5 s, doubling to 1 hour, full
    /// jitter.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// The dependency it needs: the name of a breaker. While that breaker is open, its jobs are
    /// parked and no attempt is lost.
    pub fn dependency(mut self, name: impl Into<Arc<str>>) -> Self {
        self.dependency = Some(name.into());
        self
    }

    /// What the guard may do with a new one when there is too much work. Default: put it off.
    pub const fn on_overload(mut self, overload: Overload) -> Self {
        self.overload = overload;
        self
    }

    /// How long after it was enqueued it may still begin; later it is dead as `expired`. Default:
    /// for ever; 1 ms to 365 days.
    pub const fn expires_in(mut self, within: Duration) -> Self {
        self.expires_in = Some(within);
        self
    }

    /// Whether its end is remembered, for as long as the
    /// [builder](super::JobsBuilder::keep_done_for) says. Default `true`; `false` saves a row.
    pub const fn keep_done(mut self, keep: bool) -> Self {
        self.keep_done = keep;
        self
    }

    pub(super) fn check(&self) -> Result<(), JobsError> {
        let invalid = |setting, expected| Err(JobsError::InvalidSetting { setting, expected });
        if !ATTEMPTS.contains(&self.max_attempts) {
            return invalid("max_attempts", "1 to 100");
        }
        if !TIMEOUT.contains(&self.timeout) {
            return invalid("timeout", "1 ms to 24 hours");
        }
        if self.expires_in.is_some_and(|within| !EXPIRES_IN.contains(&within)) {
            return invalid("expires_in", "1 ms to 365 days");
        }
        if self.dependency.as_deref().is_some_and(|name| !is_name(name)) {
            return invalid("dependency", "1 to 127 bytes");
        }
        Ok(())
    }
}

/// Whether this can name a queue, a kind or a dependency.
pub(super) fn is_name(name: &str) -> bool {
    (1..=127).contains(&name.len()) && !name.contains(char::is_control)
}

/// What a handler comes to.
pub type JobResult = Result<(), JobError>;

/// Why a run did not do its work, and what is to become of its job.
///
/// Any error converts into one that is tried again, so a handler can use `?`. A breaker's
/// [`Rejected`] converts into one that parks the job and costs no attempt, because nothing was
/// tried.
pub struct JobError {
    pub(super) fate: Fate,
    pub(super) message: Arc<str>,
}

/// What is to become of the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Try again, after the back-off or after this.
    Retry(Option<Duration>),
    /// Look again after this; it was no attempt.
    Snooze(Duration),
    /// The dependency is not well; it was no attempt. With how long it asks to wait.
    Park(Duration),
    /// Never again.
    Discard,
    /// Not wanted any more.
    Cancel,
}

/// LIMIT: bytes kept of a message; it is one line of a list.
const MESSAGE_MAX: usize = 2 * 1024;

impl JobError {
    /// Tries again after the back-off, as long as there are attempts left.
    pub fn retry(reason: impl fmt::Display) -> Self {
        Self::new(Fate::Retry(None), reason)
    }

    /// Tries again after `wait`, as long as there are attempts left: for a `Retry-After`.
    pub fn retry_after(wait: Duration, reason: impl fmt::Display) -> Self {
        Self::new(Fate::Retry(Some(wait)), reason)
    }

    /// Looks again after `wait` and counts no attempt: for something that is not there yet.
    #[must_use]
    pub fn snooze(wait: Duration) -> Self {
        Self::new(Fate::Snooze(wait), "snoozed")
    }

    /// Gives the job up for good: for arguments that can never work.
    pub fn discard(reason: impl fmt::Display) -> Self {
        Self::new(Fate::Discard, reason)
    }

    /// Gives the job up because nobody wants it any more.
    pub fn cancel(reason: impl fmt::Display) -> Self {
        Self::new(Fate::Cancel, reason)
    }

    /// What a call through a breaker came to: parked if it was refused, else tried again.
    pub fn breaker<E: Error + 'static>(error: BreakerError<E>) -> Self {
        match error {
            BreakerError::Rejected(rejected) => rejected.into(),
            BreakerError::Inner(error) => error.into(),
        }
    }

    fn new(fate: Fate, reason: impl fmt::Display) -> Self {
        Self { fate, message: cut(&reason.to_string(), MESSAGE_MAX) }
    }

    /// What went wrong, in words.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl<E: Error + 'static> From<E> for JobError {
    fn from(error: E) -> Self {
        let as_any: &dyn Any = &error;
        if let Some(rejected) = as_any.downcast_ref::<Rejected>() {
            return Self::new(Fate::Park(rejected.retry_after), error);
        }
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause.filter(|_| text.len() < MESSAGE_MAX) {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        Self::retry(text)
    }
}

impl fmt::Debug for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobError")
            .field("fate", &self.fate)
            .field("message", &self.message)
            .finish()
    }
}

impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// The first `max` bytes of a text, whole characters only.
pub(super) fn cut(text: &str, max: usize) -> Arc<str> {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().into()
}

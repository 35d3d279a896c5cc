//! What a check is, and what it may say.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::Instant;

/// LIMIT: a reason is one line on a page of lines; 256 bytes name a cause without a dump.
const REASON_MAX: usize = 256;

/// Finds out whether one dependency can do its work.
///
/// A function from [`CheckCx`] to a future is a check; see [`blocking`] for code that blocks.
pub trait Check: Send + Sync + 'static {
    /// Asks once. Runs in a task of its own and is dropped at [`CheckCx::deadline`]; a panic
    /// counts as a failure.
    fn check(&self, cx: CheckCx) -> BoxFuture<'_, Result<Detail, CheckError>>;
}

impl<F, Answer> Check for F
where
    F: Fn(CheckCx) -> Answer + Send + Sync + 'static,
    Answer: Future<Output = Result<Detail, CheckError>> + Send + 'static,
{
    fn check(&self, cx: CheckCx) -> BoxFuture<'_, Result<Detail, CheckError>> {
        self(cx).boxed()
    }
}

/// What a running check knows about its run.
#[derive(Debug, Clone, Copy)]
pub struct CheckCx {
    deadline: Instant,
}

impl CheckCx {
    pub(super) const fn new(deadline: Instant) -> Self {
        Self { deadline }
    }

    /// The moment the run is dropped and counts as failed.
    #[must_use]
    pub const fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Time left until the deadline; zero once it passed.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

/// What a check that passed has to say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Detail {
    text: Option<Arc<str>>,
    grade: Grade,
}

/// How well a check passed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Grade {
    #[default]
    Good,
    Degraded,
    Unknown,
}

impl Detail {
    /// All is well, and there is nothing to add.
    #[must_use]
    pub const fn ok() -> Self {
        Self { text: None, grade: Grade::Good }
    }

    /// All is well; `text` (cut at 256 bytes) is shown to operators.
    pub fn note(text: impl AsRef<str>) -> Self {
        Self { text: Some(line(text.as_ref())), grade: Grade::Good }
    }

    /// Work gets done, but worse than usual. Stays ready; `text` says what is worse.
    pub fn degraded(text: impl AsRef<str>) -> Self {
        Self { text: Some(line(text.as_ref())), grade: Grade::Degraded }
    }

    /// Nothing could be found out, which is neither good nor bad: the last finding stands until its
    /// time to live is over, and then counts as [`Status::Unknown`](super::Status::Unknown).
    pub fn unknown(text: impl AsRef<str>) -> Self {
        Self { text: Some(line(text.as_ref())), grade: Grade::Unknown }
    }

    pub(super) fn text(&self) -> Option<&Arc<str>> {
        self.text.as_ref()
    }

    pub(super) const fn grade(&self) -> Grade {
        self.grade
    }
}

/// Why a check failed, in one line for operators. Never shown on a public probe.
///
/// Any error converts into it, so a check can use `?`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckError(Arc<str>);

impl CheckError {
    /// Says in one line, cut at 256 bytes, what is wrong.
    pub fn new(reason: impl AsRef<str>) -> Self {
        Self(line(reason.as_ref()))
    }

    pub(super) fn into_reason(self) -> Arc<str> {
        self.0
    }
}

impl fmt::Display for CheckError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: std::error::Error> From<E> for CheckError {
    fn from(error: E) -> Self {
        Self::new(error.to_string())
    }
}

/// A check whose code blocks its thread, such as a query to SQLite.
///
/// It runs on tokio's blocking pool. Dropping a run cannot stop code that blocks, so while an
/// earlier run has not returned, a new one is not begun and counts as failed.
pub fn blocking<F>(work: F) -> impl Check
where
    F: Fn() -> Result<Detail, CheckError> + Send + Sync + 'static,
{
    Blocking { work: Arc::new(work), busy: Arc::new(AtomicBool::new(false)) }
}

struct Blocking<F> {
    work: Arc<F>,
    busy: Arc<AtomicBool>,
}

impl<F> Check for Blocking<F>
where
    F: Fn() -> Result<Detail, CheckError> + Send + Sync + 'static,
{
    fn check(&self, _: CheckCx) -> BoxFuture<'_, Result<Detail, CheckError>> {
        if self.busy.swap(true, Ordering::AcqRel) {
            let late = CheckError::new("the previous run has not returned");
            return std::future::ready(Err(late)).boxed();
        }
        let busy = Busy(Arc::clone(&self.busy));
        let work = Arc::clone(&self.work);
        let run = tokio::task::spawn_blocking(move || {
            let _until_returned = busy;
            work()
        });
        async { run.await.map_err(|_panic| CheckError::new("the check panicked"))? }.boxed()
    }
}

struct Busy(Arc<AtomicBool>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// One line of at most [`REASON_MAX`] bytes: control characters would break the page of lines.
fn line(text: &str) -> Arc<str> {
    let mut end = text.len().min(REASON_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let cut = text.get(..end).unwrap_or_default();
    if cut.contains(char::is_control) {
        cut.replace(char::is_control, " ").into()
    } else {
        cut.into()
    }
}

//! The context of one request, from the edge down to the last actor and outbound call.
//!
//! A [`RequestContext`] is ambient: whoever serves a request enters it once with
//! [`RequestContext::scope`] (or [`run`](RequestContext::run), which also enforces it),
//! and every message sent inside inherits it, because the envelope captures it on the
//! sender's side and re-enters it while the handler runs.
//!
//! It does not cross `tokio::spawn`, threads or `web::block` by itself: carry
//! [`RequestContext::current`] over and enter it there.

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

use super::fault::{Code, Fault};
use super::request_id::RequestId;
use super::timer::in_time;
use super::trace_parent::TraceParent;

tokio::task_local! {
    static CURRENT: Ambient;
}

/// The identity, deadline, cancellation and priority that one request carries. Cheap to clone.
#[derive(Clone)]
pub struct RequestContext {
    inner: Arc<Inner>,
    /// Outside the shared part, so that tightening it costs nothing.
    deadline: Option<Instant>,
}

struct Inner {
    id: RequestId,
    trace: Option<TraceParent>,
    priority: Priority,
    /// Made when somebody asks for it: most requests are never given up, and most handlers
    /// never wait for that.
    cancel: OnceLock<CancellationToken>,
    /// Why it was given up by itself; 0 if it was not.
    cause: AtomicU8,
    /// The context this is a part of, and with which it is given up.
    above: Option<Arc<Self>>,
}

impl Inner {
    fn new(id: RequestId, above: Option<Arc<Self>>) -> Self {
        Self {
            id,
            trace: above.as_ref().and_then(|above| above.trace),
            priority: above.as_ref().map_or(Priority::Normal, |above| above.priority),
            cancel: OnceLock::new(),
            cause: AtomicU8::new(0),
            above,
        }
    }

    fn token(&self) -> &CancellationToken {
        self.cancel.get_or_init(|| match &self.above {
            Some(above) => above.token().child_token(),
            None => CancellationToken::new(),
        })
    }

    fn is_cancelled(&self) -> bool {
        let own = self.cancel.get().is_some_and(CancellationToken::is_cancelled);
        own || self.above.as_ref().is_some_and(|above| above.is_cancelled())
    }

    /// The first cause stands; whoever looks may have been told already.
    fn give_up(&self, cause: Stopped) {
        let code = cause.encode();
        let _first_stands =
            self.cause.compare_exchange(0, code, Ordering::AcqRel, Ordering::Acquire);
        self.token().cancel();
    }

    fn why(&self) -> Stopped {
        match (self.cause.load(Ordering::Acquire), &self.above) {
            (0, Some(above)) => above.why(),
            (code, _) => Stopped::decode(code),
        }
    }
}

impl RequestContext {
    /// A context with this id and nothing else: no deadline, normal priority.
    #[must_use]
    pub fn new(id: RequestId) -> Self {
        Self { inner: Arc::new(Inner::new(id, None)), deadline: None }
    }

    /// The context this code runs under, if any.
    ///
    /// Under a call that was given a deadline outside of any request, this is a new
    /// context with that deadline and an id of its own.
    #[must_use]
    pub fn current() -> Option<Self> {
        match Ambient::capture() {
            Ambient::Nothing => None,
            Ambient::Deadline(at) => Some(Self::new(RequestId::generate()).with_deadline(at)),
            Ambient::Request(context) => Some(context),
        }
    }

    /// Sets an absolute deadline; keeps the earlier one where one is set already.
    #[must_use]
    pub fn with_deadline(self, deadline: Instant) -> Self {
        let earliest = self.deadline.map_or(deadline, |own| own.min(deadline));
        Self { deadline: Some(earliest), ..self }
    }

    /// Sets the trace this request belongs to.
    ///
    /// On a context that others hold too, this makes a part of it, which is given up with it
    /// and not the other way round. The same goes for the priority.
    #[must_use]
    pub fn with_trace(self, trace: TraceParent) -> Self {
        self.changed(|inner| inner.trace = Some(trace))
    }

    /// Sets how readily the request may be shed.
    #[must_use]
    pub fn with_priority(self, priority: Priority) -> Self {
        self.changed(|inner| inner.priority = priority)
    }

    /// The id that every log line, answer and outbound call of this request carries.
    #[must_use]
    pub fn id(&self) -> &RequestId {
        &self.inner.id
    }

    /// The trace this request belongs to, if any.
    #[must_use]
    pub fn trace(&self) -> Option<TraceParent> {
        self.inner.trace
    }

    /// The moment after which nobody wants the answer.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Time left until the deadline; zero once it passed, `None` without one.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline.map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// How readily the request may be shed.
    #[must_use]
    pub fn priority(&self) -> Priority {
        self.inner.priority
    }

    /// The token that is cancelled when the request is given up.
    #[must_use]
    pub fn cancel_token(&self) -> &CancellationToken {
        self.inner.token()
    }

    /// Completes when the request is given up.
    pub fn cancelled(&self) -> WaitForCancellationFuture<'_> {
        self.inner.token().cancelled()
    }

    /// Gives the request up, for this context and all its children. The first cause stands.
    pub fn cancel(&self, cause: Stopped) {
        self.inner.give_up(cause);
    }

    /// Why this request should stop, if it should: its token or its deadline.
    #[must_use]
    pub fn stopped(&self) -> Option<Stopped> {
        if self.inner.is_cancelled() {
            return Some(self.inner.why());
        }
        let past = self.deadline.is_some_and(|at| at <= Instant::now());
        past.then_some(Stopped::Deadline)
    }

    /// A context for a part of this request: at most `within` from now, and never
    /// later than this one's deadline. Cancelled with this one, not the other way round.
    #[must_use]
    pub fn child(&self, within: Duration) -> Self {
        self.clone().part().with_deadline(in_time(within))
    }

    /// The same id, trace and priority without deadline or cancellation: for work
    /// that outlives the request, such as a cache fill that others also wait for.
    #[must_use]
    pub fn detached(&self) -> Self {
        let (trace, priority) = (self.inner.trace, self.inner.priority);
        let inner = Inner { trace, priority, ..Inner::new(self.inner.id.clone(), None) };
        Self { inner: Arc::new(inner), deadline: None }
    }

    /// Runs `future` with this context as the current one. Enforces nothing.
    pub fn scope<F: Future>(self, future: F) -> impl Future<Output = F::Output> {
        CURRENT.scope(Ambient::Request(self), future)
    }

    /// Runs `work` with this context as the current one.
    pub fn sync_scope<T>(self, work: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(Ambient::Request(self), work)
    }

    /// Runs `future` under this context and drops it when the deadline passes or
    /// the request is given up.
    ///
    /// # Errors
    ///
    /// [`Stopped`] says why the future was dropped unfinished.
    ///
    /// # Cancel safety
    ///
    /// Dropping this drops `future` at its current await point.
    pub async fn run<F: Future>(&self, future: F) -> Result<F::Output, Stopped> {
        let work = self.clone().scope(future);
        tokio::select! {
            biased;
            () = self.cancelled() => Err(self.inner.why()),
            () = sleep_until(self.deadline) => Err(Stopped::Deadline),
            output = work => Ok(output),
        }
    }

    /// A context below this one.
    fn part(self) -> Self {
        let inner = Inner::new(self.inner.id.clone(), Some(self.inner));
        Self { inner: Arc::new(inner), deadline: self.deadline }
    }

    fn changed(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        if Arc::get_mut(&mut self.inner).is_none() {
            self = self.part();
        }
        if let Some(inner) = Arc::get_mut(&mut self.inner) {
            change(inner);
        }
        self
    }
}

/// What a piece of code runs under: what every message it sends inherits.
#[derive(Debug, Clone)]
pub(crate) enum Ambient {
    Nothing,
    /// A call that was given a deadline outside of any request. No context is made for
    /// it until somebody asks, because most handlers never do.
    Deadline(Instant),
    Request(RequestContext),
}

impl Ambient {
    #[inline]
    pub(crate) fn capture() -> Self {
        CURRENT.try_with(Clone::clone).unwrap_or(Self::Nothing)
    }

    pub(crate) const fn is_nothing(&self) -> bool {
        matches!(self, Self::Nothing)
    }

    /// The same with a deadline that is `at` or earlier.
    pub(crate) fn tightened(self, at: Instant) -> Self {
        match self {
            Self::Nothing => Self::Deadline(at),
            Self::Deadline(own) => Self::Deadline(own.min(at)),
            Self::Request(context) => Self::Request(context.with_deadline(at)),
        }
    }

    /// The same identity for work that outlives the message: no deadline, no cancellation.
    pub(crate) fn detached(&self) -> Self {
        match self {
            Self::Nothing | Self::Deadline(_) => Self::Nothing,
            Self::Request(context) => Self::Request(context.detached()),
        }
    }

    #[inline]
    pub(crate) const fn request(&self) -> Option<&RequestContext> {
        match self {
            Self::Nothing | Self::Deadline(_) => None,
            Self::Request(context) => Some(context),
        }
    }

    #[inline]
    pub(crate) const fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Nothing => None,
            Self::Deadline(at) => Some(*at),
            Self::Request(context) => context.deadline,
        }
    }

    /// Whether nobody wants what is done under this any more.
    #[inline]
    pub(crate) fn is_over(&self) -> bool {
        self.is_cancelled() || self.deadline().is_some_and(|at| at <= Instant::now())
    }

    #[inline]
    pub(crate) fn is_cancelled(&self) -> bool {
        self.request().is_some_and(|context| context.inner.is_cancelled())
    }

    /// Runs `work` under this.
    #[inline(always)] // Out of line, what `work` captures is copied just after it was written.
    pub(crate) fn enter<T>(&self, work: impl FnOnce() -> T) -> T {
        match self {
            Self::Nothing => work(),
            Self::Deadline(_) | Self::Request(_) => CURRENT.sync_scope(self.clone(), work),
        }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

impl fmt::Debug for RequestContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestContext")
            .field("id", &self.inner.id)
            .field("trace", &self.inner.trace)
            .field("deadline", &self.deadline)
            .field("priority", &self.inner.priority)
            .field("cancelled", &self.inner.is_cancelled())
            .finish()
    }
}

/// Why a request was given up before its answer was ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Stopped {
    /// Its deadline passed.
    #[error("the request's deadline passed")]
    Deadline,
    /// Nobody waits for the answer any more.
    #[error("the client went away")]
    ClientGone,
    /// The process is shutting down and its drain time is over.
    #[error("the server is shutting down")]
    Shutdown,
}

impl Stopped {
    const fn encode(self) -> u8 {
        match self {
            Self::Deadline => 1,
            Self::ClientGone => 2,
            Self::Shutdown => 3,
        }
    }

    // The token can also be cancelled by hand, with no cause noted: nobody wants the answer.
    const fn decode(code: u8) -> Self {
        match code {
            1 => Self::Deadline,
            3 => Self::Shutdown,
            _ => Self::ClientGone,
        }
    }
}

impl Fault for Stopped {
    fn code(&self) -> Code {
        match self {
            Self::Deadline => Code::new("request.deadline_exceeded"),
            Self::ClientGone => Code::new("request.client_gone"),
            Self::Shutdown => Code::new("request.shutdown"),
        }
    }
}

/// How readily a request may be shed under load, most precious first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Priority {
    /// Shed last.
    Critical,
    /// Shed after `Normal`.
    High,
    /// The default.
    #[default]
    Normal,
    /// Shed first.
    Sheddable,
}

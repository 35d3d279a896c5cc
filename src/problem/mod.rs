//! Problems: the one error a handler returns, and the one place where a fault becomes HTTP.
//!
//! A [`Problem`] is answered as an RFC 9457 document. Every [`Fault`] of this project turns into
//! one with `?`; what an application's own errors turn into is one `impl From<MyError> for
//! Problem`:
//!
//! ```
//! use actix_web::http::StatusCode;
//! use steadfast::kernel::{CallError, Code};
//! use steadfast::problem::Problem;
//!
//! enum Unknown { Product }
//!
//! impl From<Unknown> for Problem {
//!     fn from(_: Unknown) -> Self {
//!         Problem::new(Code::new("product.unknown"), StatusCode::NOT_FOUND, "No such product")
//!     }
//! }
//!
//! async fn handler(answer: Result<String, CallError>) -> Result<String, Problem> {
//!     let answer = answer?; // 503 or 500, with its code and `Retry-After`
//!     if answer.is_empty() { Err(Unknown::Product)? }
//!     Ok(answer)
//! }
//! ```
//!
//! What a client reads of it is what was put in on purpose: title, detail, pointers and extension
//! members. The [`source`](Problem::caused_by) is for the log.

mod codes;
mod detail;
mod document;

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, ResponseError};
use serde_json::{Map, Value};
use steadfast_actors::breaker::{BreakerError, Rejected};
use steadfast_actors::cache_fill::FillError;
use steadfast_actors::counters::CounterError;
use steadfast_actors::inbox::{DecodeError, InboxError, RawJsonError};
use steadfast_actors::jobs::JobsError;
use steadfast_actors::kernel::{CallError, Code, Fault, Refused, RequestContext, Stopped};
use steadfast_actors::mailer::MailerError;
use steadfast_actors::store::StoreError;

pub(crate) use codes::for_status;
pub use codes::{Entry, catalogue, find};
pub(crate) use detail::{from_json, invalid_json, readable};
pub(crate) use document::{Document, Form};

/// What comes before the code in the `type` member, unless the application names its own place.
pub const TYPE_BASE: &str = "urn:problem-type:";

/// How long a client should wait when nobody knows better.
const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(1);

/// LIMIT: a document that lists a hundred mistakes helps nobody more than one with the first few.
const ERRORS_MAX: usize = 100;

/// An error as a client is told it: an RFC 9457 problem with a stable code.
#[must_use = "a problem does something only when it is returned"]
pub struct Problem(Box<Inner>);

struct Inner {
    code: Code,
    status: StatusCode,
    title: Cow<'static, str>,
    detail: Option<Cow<'static, str>>,
    errors: Vec<FieldError>,
    retry_after: Option<Duration>,
    retryable: Option<bool>,
    expected: bool,
    extensions: Map<String, Value>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// One mistake in a document that a client sent.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FieldError {
    /// Where it is, as a JSON Pointer (RFC 6901); empty for the whole document.
    pub pointer: String,
    /// What kind of mistake it is.
    pub code: &'static str,
    /// The same for people.
    pub detail: String,
}

impl Problem {
    /// A problem of an application's own: its code, its status and what kind of problem it is.
    ///
    /// A status below 400 is no problem; it becomes 500.
    pub fn new(code: Code, status: StatusCode, title: impl Into<Cow<'static, str>>) -> Self {
        let wrong = !status.is_client_error() && !status.is_server_error();
        Self(Box::new(Inner {
            code,
            status: if wrong { StatusCode::INTERNAL_SERVER_ERROR } else { status },
            title: title.into(),
            detail: None,
            errors: Vec::new(),
            retry_after: None,
            retryable: None,
            expected: false,
            extensions: Map::new(),
            source: None,
        }))
    }

    /// A problem of the [`catalogue`]. A code that is not in it is answered 500, with the code.
    pub fn known(code: Code) -> Self {
        match find(code) {
            Some(entry) => Self::of(entry),
            None => {
                let status = StatusCode::INTERNAL_SERVER_ERROR;
                Self::new(code, status, for_status(status).title)
            }
        }
    }

    /// What a fault is to a client: status and title from the [`catalogue`], the wait from the
    /// fault. The fault's text goes to the log only.
    ///
    /// A fault whose code is not in the catalogue is 503 when it knows a wait, else 500; say
    /// more with [`with_status`](Self::with_status).
    pub fn from_fault<F>(fault: F) -> Self
    where
        F: Fault + Send + Sync + 'static,
    {
        let mut problem = Self::describing(&fault);
        problem.0.source = Some(Box::new(fault));
        problem
    }

    /// The same for a fault that is only lent: without a source for the log.
    pub fn describing(fault: &dyn Fault) -> Self {
        let mut problem = Self::known(fault.code());
        problem.0.retry_after = fault.retry_after();
        if find(fault.code()).is_none() && fault.retry_after().is_some() {
            let status = StatusCode::SERVICE_UNAVAILABLE;
            problem = problem.with_status(status).with_title(for_status(status).title);
        }
        problem
    }

    pub(crate) fn of(entry: &Entry) -> Self {
        let status = StatusCode::from_u16(entry.status);
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut problem = Self::new(entry.code, status, entry.title);
        problem.0.retryable = entry.retryable;
        problem
    }

    /// Another status than the catalogue's; one below 400 is ignored.
    pub fn with_status(mut self, status: StatusCode) -> Self {
        if status.is_client_error() || status.is_server_error() {
            self.0.status = status;
        }
        self
    }

    /// What kind of problem it is, in a few words; the same for every occurrence.
    pub fn with_title(mut self, title: impl Into<Cow<'static, str>>) -> Self {
        self.0.title = title.into();
        self
    }

    /// What happened this time, for the client to read.
    pub fn with_detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.0.detail = Some(detail.into());
        self
    }

    /// Points at one mistake in what the client sent; the first 100 are kept.
    pub fn with_error(
        mut self,
        pointer: impl Into<String>,
        code: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        if self.0.errors.len() < ERRORS_MAX {
            let (pointer, detail) = (pointer.into(), detail.into());
            self.0.errors.push(FieldError { pointer, code, detail });
        }
        self
    }

    /// How long the client should wait: `Retry-After`, in whole seconds, rounded up, at least 1.
    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        self.0.retry_after = Some(wait);
        self
    }

    /// Whether the same request may safely be sent again: the extension member `retryable`.
    pub fn with_retryable(mut self, retryable: bool) -> Self {
        self.0.retryable = Some(retryable);
        self
    }

    /// Adds an extension member. It cannot replace a standard one.
    pub fn with(mut self, member: impl Into<String>, value: impl Into<Value>) -> Self {
        drop(self.0.extensions.insert(member.into(), value.into()));
        self
    }

    /// Keeps what caused it, for the log. No client ever sees it.
    pub fn caused_by(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Says that it is no failure, so that it does not fill the log: whoever made it counts.
    pub(crate) fn expected(mut self) -> Self {
        self.0.expected = true;
        self
    }

    pub(crate) fn is_expected(&self) -> bool {
        self.0.expected
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// What kind of problem it is.
    #[must_use]
    pub fn title(&self) -> &str {
        &self.0.title
    }

    /// What happened this time.
    #[must_use]
    pub fn detail(&self) -> Option<&str> {
        self.0.detail.as_deref()
    }

    /// The mistakes in what the client sent.
    #[must_use]
    pub fn errors(&self) -> &[FieldError] {
        &self.0.errors
    }

    /// How long the client should wait, if that was said.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Whether the same request may safely be sent again, if that is known.
    #[must_use]
    pub fn retryable(&self) -> Option<bool> {
        self.0.retryable
    }

    pub(crate) fn extensions(&self) -> &Map<String, Value> {
        &self.0.extensions
    }

    /// The value of `Retry-After`: 429 and 503 always have one.
    pub(crate) fn retry_after_seconds(&self) -> Option<u64> {
        let must = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE];
        let default = must.contains(&self.0.status).then_some(RETRY_AFTER_DEFAULT);
        let wait = self.0.retry_after.or(default)?;
        let rounded_up = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        Some(rounded_up.max(1))
    }
}

impl fmt::Debug for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Problem")
            .field("code", &self.0.code)
            .field("status", &self.0.status)
            .field("detail", &self.0.detail)
            .field("source", &self.0.source)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.code, self.0.title)
    }
}

impl Error for Problem {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source.as_ref().map(|source| &**source as &(dyn Error + 'static))
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.0.status
    }

    fn error_response(&self) -> HttpResponse {
        let context = RequestContext::current();
        let id = context.as_ref().map(RequestContext::id);
        let document = Document::new(self, id, Form::Json, TYPE_BASE);
        document.put_into(HttpResponse::new(self.0.status))
    }
}

/// One line per fault of this project.
macro_rules! faults {
    ($($fault:ty),+ $(,)?) => {$(
        impl From<$fault> for Problem {
            fn from(fault: $fault) -> Self {
                Self::from_fault(fault)
            }
        }
    )+};
}

faults!(Refused, Stopped, Rejected, FillError, RawJsonError, StoreError);

impl From<CallError> for Problem {
    fn from(error: CallError) -> Self {
        let ran = error.ran();
        Self::from_fault(error).with_retryable(!ran)
    }
}

impl From<JobsError> for Problem {
    fn from(error: JobsError) -> Self {
        if let JobsError::Call(call) = error {
            return call.into();
        }
        let stored_nothing = error.stored_nothing();
        Self::from_fault(error).with_retryable(stored_nothing)
    }
}

/// One line per fault of a concern that stands on the job queue: what the queue or its actor says
/// means the same there.
macro_rules! faults_over_jobs {
    ($($fault:ident),+ $(,)?) => {$(
        impl From<$fault> for Problem {
            fn from(error: $fault) -> Self {
                if let $fault::Jobs(jobs) = error {
                    return jobs.into();
                }
                if let $fault::Call(call) = error {
                    return call.into();
                }
                Self::from_fault(error)
            }
        }
    )+};
}

faults_over_jobs!(CounterError, InboxError, MailerError);

/// Of the document nothing is told but where it is not what was expected.
impl From<DecodeError> for Problem {
    fn from(error: DecodeError) -> Self {
        let problem = Self::known(Code::new("json.invalid"));
        problem.with("line", error.line()).with("column", error.column()).caused_by(error)
    }
}

/// The dependency's own error becomes whatever the application says it is.
impl<E: Into<Self>> From<BreakerError<E>> for Problem {
    fn from(error: BreakerError<E>) -> Self {
        match error {
            BreakerError::Rejected(rejected) => rejected.into(),
            BreakerError::Inner(inner) => inner.into(),
            _ => Self::known(Code::new("internal.error")),
        }
    }
}

impl From<actix::MailboxError> for Problem {
    fn from(error: actix::MailboxError) -> Self {
        let code = match error {
            actix::MailboxError::Closed => Code::new("actor.stopped"),
            actix::MailboxError::Timeout => Code::new("request.deadline_exceeded"),
        };
        Self::known(code).caused_by(error)
    }
}

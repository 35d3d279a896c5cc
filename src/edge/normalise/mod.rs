//! One form for every error a client sees: RFC 9457, with a stable code and the right status.
//!
//! | what comes | what the client gets |
//! |---|---|
//! | a [`Problem`] | itself |
//! | an error of actix-web | the code of its meaning: 415, 400 or 422 for JSON, 413, 404 for a path parameter |
//! | no route | 404 `route.not_found`, or 405 with `Allow` where the path has other methods |
//! | an empty 4xx or 5xx | the code of the status, `http.conflict` |
//! | another error, rendered as text | the same; its text goes to the log |
//! | a body somebody wrote on purpose | itself |
//!
//! Headers stay: `Allow`, `Retry-After`, `WWW-Authenticate`, `Set-Cookie`, those of CORS. Errors
//! below the app (a head that cannot be parsed, or is too slow or too large) are answered by
//! actix-web with an empty body and never come here.

mod allow;
mod framework;

use std::error::Error as StdError;
use std::fmt;
use std::fmt::Write;
use std::sync::Arc;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::ServiceResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap, HeaderValue};
use actix_web::{Error, HttpRequest, HttpResponse};
use steadfast_actors::kernel::{Code, RequestId};

pub(super) use allow::AllowProbe;
pub(super) use framework::payload;

use crate::problem::{Document, Form, Problem, TYPE_BASE, for_status};

type Mapper = Arc<dyn Fn(&Error) -> Option<Problem> + Send + Sync>;

/// Turns every error into a problem document.
#[derive(Clone)]
pub struct Normalise {
    mappers: Vec<Mapper>,
    type_base: Arc<str>,
}

impl Default for Normalise {
    fn default() -> Self {
        Self { mappers: Vec::new(), type_base: Arc::from(TYPE_BASE) }
    }
}

impl Normalise {
    /// The defaults of every setting.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Says what an error of somebody else's crate is to a client. Asked in the order they were
    /// added, before this crate's own knowledge; the first answer stands.
    #[must_use]
    pub fn map(
        mut self,
        mapper: impl Fn(&Error) -> Option<Problem> + Send + Sync + 'static,
    ) -> Self {
        self.mappers.push(Arc::new(mapper));
        self
    }

    /// What comes before the code in the member `type`, as `https://example.org/errors/`.
    /// Default [`TYPE_BASE`].
    #[must_use]
    pub fn type_base(mut self, base: impl Into<Arc<str>>) -> Self {
        self.type_base = base.into();
        self
    }

    /// Normalises what an inner service answered.
    pub(super) fn response(
        &self,
        response: ServiceResponse<BoxBody>,
        ask: Ask<'_>,
        probe: Option<&AllowProbe>,
    ) -> ServiceResponse<BoxBody> {
        let status = response.status();
        if !status.is_client_error() && !status.is_server_error() {
            return response;
        }
        let told = match response.response().error() {
            Some(error) => self.told(error, ask),
            None => None,
        };
        let foreign = response.response().error().is_some();
        let (request, mut response) = response.into_parts();
        let document = told.or_else(|| {
            let bare = is_bare(&response, foreign);
            bare.then(|| self.document(&unsaid(&request, &mut response, probe), ask))
        });
        let response = match document {
            Some(document) => document.put_into(response),
            None => response,
        };
        ServiceResponse::new(request, response)
    }

    /// Normalises what an inner middleware failed with. The error keeps its type, for whoever
    /// is outside and wants to know it.
    pub(super) fn error(&self, mut error: Error, ask: Ask<'_>) -> (Error, StatusCode) {
        let told = self.told(&error, ask);
        let status = match &told {
            Some(document) => document.status(),
            None => error.as_response_error().status_code(),
        };
        let normalise = self.clone();
        let (id, form) = (ask.id.cloned(), ask.form);
        error.add_response_mapper(move |response| match &told {
            Some(document) => document.put_into(response),
            None if is_bare(&response, true) => {
                let ask = Ask { id: id.as_ref(), form };
                normalise.document(&of_status(response.status()), ask).put_into(response)
            }
            None => response,
        });
        (error, status)
    }

    /// The document of an error whose meaning is known. Logs the error in any case.
    fn told(&self, error: &Error, ask: Ask<'_>) -> Option<Document> {
        if let Some(mapped) = self.mappers.iter().find_map(|mapper| mapper(error)) {
            log(&mapped, Some(error), ask.id);
            return Some(self.document(&mapped, ask));
        }
        if let Some(own) = error.as_error::<Problem>() {
            log(own, None, ask.id);
            return Some(self.document(own, ask));
        }
        let problem = framework::problem_of(error);
        let status = error.as_response_error().status_code();
        match &problem {
            Some(problem) => log(problem, Some(error), ask.id),
            None => log(&of_status(status), Some(error), ask.id),
        }
        problem.map(|problem| self.document(&problem, ask))
    }

    fn document(&self, problem: &Problem, ask: Ask<'_>) -> Document {
        Document::new(problem, ask.id, ask.form, &self.type_base)
    }
}

impl fmt::Debug for Normalise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Normalise")
            .field("mappers", &self.mappers.len())
            .field("type_base", &self.type_base)
            .finish()
    }
}

/// Who asks, and in which form.
#[derive(Clone, Copy)]
pub(super) struct Ask<'a> {
    pub(super) id: Option<&'a RequestId>,
    pub(super) form: Form,
}

/// Whether nobody wrote the body for a client to read: it is empty, or the text that actix-web
/// makes of an error nobody rendered.
fn is_bare<B: MessageBody>(response: &HttpResponse<B>, foreign: bool) -> bool {
    let empty = matches!(response.body().size(), BodySize::None | BodySize::Sized(0));
    empty || (foreign && is_text(response.headers()))
}

fn is_text(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .is_none_or(|value| value.as_bytes().starts_with(b"text/plain"))
}

fn of_status(status: StatusCode) -> Problem {
    Problem::of(for_status(status)).with_status(status)
}

/// The problem behind a response that says nothing but its status.
fn unsaid(
    request: &HttpRequest,
    response: &mut HttpResponse<BoxBody>,
    probe: Option<&AllowProbe>,
) -> Problem {
    let status = response.status();
    if status == StatusCode::METHOD_NOT_ALLOWED && response.headers().contains_key(header::ALLOW) {
        return Problem::known(Code::new("route.method_not_allowed"));
    }
    if status != StatusCode::NOT_FOUND || response.error().is_some() {
        return of_status(status);
    }
    let allow = probe.and_then(|probe| probe.instead_of(request));
    if let Some(allow) = allow.and_then(|methods| HeaderValue::try_from(methods).ok()) {
        response.headers_mut().insert(header::ALLOW, allow);
        return Problem::known(Code::new("route.method_not_allowed"));
    }
    if request.match_pattern().is_some() {
        return of_status(status);
    }
    Problem::known(Code::new("route.not_found"))
}

/// Tells the log what the client is not told.
fn log(problem: &Problem, error: Option<&Error>, id: Option<&RequestId>) {
    let status = problem.status().as_u16();
    let code = problem.code().as_str();
    let request_id = id.map(RequestId::as_str);
    let reason = || match error {
        Some(error) => error.to_string(),
        None => chain(problem),
    };
    if problem.is_expected() {
        tracing::debug!(code, status, request_id, "http.refused");
    } else if status == 500 {
        tracing::error!(code, status, reason = reason(), request_id, "http.failed");
    } else if status > 500 {
        tracing::warn!(code, status, reason = reason(), request_id, "http.failed");
    } else {
        tracing::debug!(code, status, reason = reason(), request_id, "http.refused");
    }
}

/// A problem's source and everything behind it.
fn chain(problem: &Problem) -> String {
    let mut text = problem.to_string();
    let mut next = StdError::source(problem);
    while let Some(source) = next {
        // Writing to a String cannot fail.
        let _infallible = write!(text, ": {source}");
        next = source.source();
    }
    text
}

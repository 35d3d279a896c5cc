//! The record of one request: counted while it is in flight, logged once when it ended.

use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::Arc;

use actix_web::HttpRequest;
use actix_web::dev::{ResourceMap, ServiceRequest};
use actix_web::http::uri::PathAndQuery;
use actix_web::http::{Method, StatusCode};
use tracing::field::Empty;
use tracing::{Level, Span, info_span};

use super::deadline::Schedule;
use super::in_flight::InFlightGuard;

/// What proxies record for a client that closed its connection before it was answered.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// Written to the log when dropped, whatever way the request went.
#[derive(Debug)]
pub(super) struct Access {
    method: Method,
    target: Option<PathAndQuery>,
    /// To look the route up when somebody asks: the request itself is gone by then.
    routes: Rc<ResourceMap>,
    /// Its pattern, once somebody has asked.
    route: OnceCell<Option<Arc<str>>>,
    status: Option<StatusCode>,
    outcome: Outcome,
    /// Nobody waits for the response.
    detached: bool,
    schedule: Rc<Schedule>,
    span: Span,
    in_flight: Option<InFlightGuard>,
}

/// How the exchange ended, as far as the server can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// The response was handed over completely.
    Complete,
    /// The response began and did not come to its end.
    Aborted,
    /// There was no response.
    Cancelled,
    /// The work came to its end, after its client had left.
    Detached,
}

impl Outcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Aborted => "aborted",
            Self::Cancelled => "cancelled",
            Self::Detached => "detached",
        }
    }
}

impl Access {
    pub(super) fn begin(
        request: &ServiceRequest,
        routes: Rc<ResourceMap>,
        schedule: Rc<Schedule>,
        in_flight: InFlightGuard,
    ) -> Self {
        let context = schedule.base();
        let span = info_span!(
            target: "steadfast::request",
            "http.request",
            method = request.method().as_str(),
            request_id = context.id().as_str(),
            trace_id = context.trace().map(|trace| trace.trace_id()),
            route = Empty,
            status = Empty,
        );
        // One that nobody listens to would look for a logger each time it is entered. Whether anybody
        // does only the span itself can ask: filters go by its name and fields too.
        let span = if span.is_disabled() { Span::none() } else { span };
        Self {
            method: request.method().clone(),
            target: request.uri().path_and_query().cloned(),
            routes,
            route: OnceCell::new(),
            status: None,
            outcome: Outcome::Cancelled,
            detached: false,
            schedule,
            span,
            in_flight: Some(in_flight),
        }
    }

    pub(super) const fn span(&self) -> &Span {
        &self.span
    }

    /// The pattern of the route; labels and logs never carry the path itself.
    pub(super) fn route(&self) -> Option<&Arc<str>> {
        let path = self.target.as_ref().map_or("", PathAndQuery::path);
        let look_up = || self.routes.match_pattern(path).map(Arc::from);
        self.route.get_or_init(look_up).as_ref()
    }

    /// The response's head is known.
    pub(super) fn answered(&mut self, status: StatusCode, request: Option<&HttpRequest>) {
        if self.detached {
            self.outcome = Outcome::Detached;
        } else {
            self.status = Some(status);
            self.outcome = Outcome::Aborted;
        }
        // A middleware may have changed the path, and the request knows.
        let known = self.route.get().is_some_and(Option::is_some);
        if let Some(request) = request.filter(|_| !known && self.is_wanted()) {
            self.route = OnceCell::from(request.match_pattern().map(Arc::from));
        }
    }

    /// All of the response is known: what is left is the client's part.
    pub(super) fn worked_off(&mut self) {
        self.in_flight = None;
    }

    /// The response was handed over completely.
    pub(super) const fn completed(&mut self) {
        if !self.detached {
            self.outcome = Outcome::Complete;
        }
    }

    /// The client has left, and the work goes on.
    pub(super) const fn detached(&mut self) {
        self.detached = true;
    }

    /// The connection is closed on purpose.
    pub(super) const fn aborted(&mut self) {
        self.outcome = Outcome::Aborted;
    }

    /// Whether somebody waited for an answer, and did not get it.
    pub(super) const fn is_awaited(&self) -> bool {
        matches!(self.outcome, Outcome::Cancelled) && !self.detached
    }

    fn is_wanted(&self) -> bool {
        !self.span.is_disabled() || tracing::enabled!(target: "steadfast::access", Level::INFO)
    }

    fn log(&self) {
        let route = self.route().map_or("unmatched", |route| &**route);
        let status = self.status.map_or(CLIENT_CLOSED_REQUEST, |status| status.as_u16());
        self.span.record("route", route);
        self.span.record("status", status);
        let elapsed_us =
            u64::try_from(self.schedule.started().elapsed().as_micros()).unwrap_or(u64::MAX);
        tracing::info!(
            target: "steadfast::access",
            method = self.method.as_str(),
            route,
            status,
            outcome = self.outcome.as_str(),
            elapsed_us,
            request_id = self.schedule.base().id().as_str(),
            "http.finished"
        );
    }
}

impl Drop for Access {
    fn drop(&mut self) {
        if self.is_wanted() {
            let context = self.schedule.base().clone();
            self.span.in_scope(|| context.sync_scope(|| self.log()));
        }
    }
}

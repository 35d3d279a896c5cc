//! Deadlines: the request's schedule, and routes with a deadline of their own.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use actix_web::HttpMessage;
use actix_web::dev::ServiceRequest;
use steadfast_actors::kernel::{Priority, RequestContext};
use tokio::time::Instant;

use super::route_option::{self, RouteOption};

/// LIMIT: a request that may take longer than a day is not a request.
pub(super) const LIMIT: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) fn clamp(within: Duration) -> Duration {
    within.clamp(Duration::from_millis(1), LIMIT)
}

/// Who the request is, and until when. Shared between the edge and the route.
#[derive(Debug)]
pub(super) struct Schedule {
    /// Without a deadline: that one is put on when the context is entered.
    base: RequestContext,
    started: Instant,
    client: Option<Instant>,
    max: Duration,
    deadline: Cell<Option<Instant>>,
    /// Whether a client said which class it is of: then the route does not.
    classed: bool,
    /// The route's class, as a part of `base`.
    part: RefCell<Option<RequestContext>>,
    /// Neither counted nor refused by admission.
    always: Cell<bool>,
}

impl Schedule {
    pub(super) fn new(
        base: RequestContext,
        started: Instant,
        client: Option<Instant>,
        max: Duration,
        route: Duration,
    ) -> Self {
        let (deadline, part) = (Cell::new(None), RefCell::new(None));
        let always = Cell::new(false);
        let schedule = Self { base, started, client, max, deadline, classed: false, part, always };
        schedule.within(route);
        schedule
    }

    /// The one of this request, if it is in an edge.
    pub(super) fn of(request: &ServiceRequest) -> Option<Rc<Self>> {
        request.extensions().get::<Rc<Self>>().map(Rc::clone)
    }

    /// The same, of the class that its client asked for.
    pub(super) fn classed(self, class: Priority) -> Self {
        Self { base: self.base.with_priority(class), classed: true, ..self }
    }

    /// What the request runs under now.
    pub(super) fn context(&self) -> RequestContext {
        let part = self.part.borrow().clone();
        let context = part.unwrap_or_else(|| self.base.clone());
        match self.deadline.get() {
            Some(at) => context.with_deadline(at),
            None => context,
        }
    }

    /// The same without its deadline: for its id and its token.
    pub(super) const fn base(&self) -> &RequestContext {
        &self.base
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline.get()
    }

    pub(super) const fn started(&self) -> Instant {
        self.started
    }

    /// The class to admit it by; `None` if it is admitted always.
    pub(super) fn class(&self) -> Option<Priority> {
        let part = self.part.borrow();
        let context = part.as_ref().unwrap_or(&self.base);
        (!self.always.get()).then(|| context.priority())
    }

    /// What the route says of its class; `None` that it is admitted always. The last word holds.
    pub(super) fn admit(&self, route: Option<Priority>) {
        self.always.set(route.is_none());
        if let Some(class) = route.filter(|_| !self.classed) {
            let part = self.base.clone().with_priority(class);
            drop(self.part.replace(Some(part)));
        }
    }

    fn within(&self, route: Duration) {
        let own = self.started + route.min(self.max);
        self.deadline.set(Some(self.client.map_or(own, |client| client.min(own))));
    }

    fn unlimited(&self) {
        self.deadline.set(self.client);
    }
}

/// Gives a route, a resource or a scope a deadline of its own, counted from the request's start.
///
/// The innermost one decides. It works below a [`RequestGuard`](super::RequestGuard) or an [`Edge`](super::Edge);
/// without one it does nothing. The server's maximum and a trusted client's wish still hold.
///
/// ```
/// use std::time::Duration;
/// use actix_web::{App, web};
/// use steadfast::edge::{Deadline, Edge};
///
/// async fn report() -> &'static str { "a long one" }
///
/// let app = App::new()
///     .route("/report", web::get().to(report).wrap(Deadline::after(Duration::from_secs(120))))
///     .wrap(Edge::new());
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Option<Duration>);

impl Deadline {
    /// This long after the request's start. 1 ms to 24 h, and clamped to that.
    #[must_use]
    pub fn after(within: Duration) -> Self {
        Self(Some(clamp(within)))
    }

    /// As long as it takes, even past the server's maximum: for streams. A trusted client may
    /// still ask for less.
    #[must_use]
    pub const fn none() -> Self {
        Self(None)
    }
}

route_option::middleware!(Deadline);

impl RouteOption for Deadline {
    fn apply(&self, request: &ServiceRequest) -> Option<RequestContext> {
        let schedule = Schedule::of(request)?;
        match self.0 {
            Some(within) => schedule.within(within),
            None => schedule.unlimited(),
        }
        Some(schedule.context())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use steadfast_actors::kernel::RequestId;

    const fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    /// A schedule whose maximum is 100 ms; `route` and `client` as they come.
    #[track_caller]
    fn check(default: u64, client: Option<u64>, route: Option<Deadline>, expected: Option<u64>) {
        let started = Instant::now();
        let base = RequestContext::new(RequestId::generate());
        let client = client.map(|within| started + ms(within));
        let schedule = Schedule::new(base, started, client, ms(100), ms(default));
        if let Some(Deadline(route)) = route {
            route.map_or_else(|| schedule.unlimited(), |within| schedule.within(within));
        }
        let expected = expected.map(|within| started + ms(within));
        assert_eq!(schedule.deadline(), expected);
        assert_eq!(schedule.context().deadline(), expected);
    }

    #[test]
    fn the_earliest_of_route_maximum_and_client_holds() {
        check(50, None, None, Some(50));
        check(200, None, None, Some(100));
        check(50, Some(20), None, Some(20));
        check(50, Some(70), None, Some(50));
    }

    #[test]
    fn a_route_replaces_the_default_but_not_the_maximum_nor_the_client() {
        check(50, None, Some(Deadline::after(ms(80))), Some(80));
        check(50, None, Some(Deadline::after(ms(10))), Some(10));
        check(50, None, Some(Deadline::after(ms(800))), Some(100));
        check(50, Some(20), Some(Deadline::after(ms(80))), Some(20));
        check(50, Some(70), Some(Deadline::after(ms(80))), Some(70));
    }

    #[test]
    fn a_route_without_a_deadline_has_only_the_clients() {
        check(50, None, Some(Deadline::none()), None);
        check(50, Some(20), Some(Deadline::none()), Some(20));
    }

    #[test]
    fn a_deadline_out_of_range_is_brought_into_it() {
        assert_eq!(clamp(Duration::ZERO), ms(1));
        assert_eq!(clamp(ms(1)), ms(1));
        assert_eq!(clamp(LIMIT), LIMIT);
        assert_eq!(clamp(Duration::MAX), LIMIT);
    }
}

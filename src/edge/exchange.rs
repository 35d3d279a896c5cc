//! One request and its response, as the edge sees it.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use actix_http::ConnectionType;
use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::HeaderValue;
use actix_web::{Error, HttpMessage, HttpResponse};
use steadfast_actors::kernel::panic::catch_payload;
use steadfast_actors::kernel::{RequestContext, RequestId, Stopped};
use tokio::time::Instant;

use super::access::Access;
use super::admission::{AdmissionCounts, Passage};
use super::body::EdgeBody;
use super::deadline::Schedule;
use super::disconnect::Disconnect;
use super::in_flight::InFlight;
use super::normalise::Ask;
use super::panic_guard::Trial;
use super::recover::{self, Payload, Phase};
use super::request_context::REQUEST_ID;
use super::server::Client;
use super::stack::Shared;
use super::table::{FlightPhase, Listed};
use super::watch::Watch;
use crate::problem::{Form, Problem};

/// What went wrong at an edge since the process began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EdgeCounts {
    /// Panics that were recovered from, wherever they happened.
    pub panics: u64,
    /// Responses that were [aborted](super::AbortResponse) on purpose.
    pub aborts: u64,
    /// Requests that were refused because their route [rests](super::PanicGuard).
    pub resting: u64,
    /// Requests that were given up at their deadline.
    pub deadlines: u64,
    /// Requests whose client left before it was answered.
    pub clients_gone: u64,
    /// What became of the requests that asked to be admitted.
    pub admission: AdmissionCounts,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    panics: AtomicU64,
    aborts: AtomicU64,
    resting: AtomicU64,
    deadlines: AtomicU64,
    clients_gone: AtomicU64,
}

impl Counters {
    pub(super) fn read(&self) -> EdgeCounts {
        EdgeCounts {
            panics: self.panics.load(Ordering::Relaxed),
            aborts: self.aborts.load(Ordering::Relaxed),
            resting: self.resting.load(Ordering::Relaxed),
            deadlines: self.deadlines.load(Ordering::Relaxed),
            clients_gone: self.clients_gone.load(Ordering::Relaxed),
            admission: AdmissionCounts::default(),
        }
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Everything the edge keeps of a request. It never holds the `HttpRequest` itself: routing
/// needs that to be the only one, and panics when it is not.
pub(super) struct Exchange {
    shared: Rc<Shared>,
    form: Form,
    /// Boxed, because an exchange moves from the future into the body.
    live: Option<Box<Live>>,
}

/// What a [`RequestGuard`](super::RequestGuard) adds.
struct Live {
    schedule: Rc<Schedule>,
    access: Access,
    passage: Option<Passage>,
    listed: Listed,
    /// It was admitted, and its route does not rest.
    entered: bool,
    /// Its route is watched.
    trial: Option<Trial>,
    /// It has not waited yet, and will first for its body.
    reads: Cell<bool>,
    /// As it is listed.
    phase: Cell<Option<FlightPhase>>,
    /// Who waits, if that is a client of an [`EdgeServer`](super::EdgeServer).
    client: Option<Client>,
}

impl Live {
    /// Tells operators how far it has come, now that it waits.
    fn note(&self, phase: FlightPhase) {
        if self.phase.replace(Some(phase)) == Some(phase) {
            return;
        }
        // Most requests never wait, so they do not pay for the search for their route.
        let route = self.access.route().cloned();
        let deadline = self.schedule.deadline();
        self.listed.change(|row| {
            row.phase = phase;
            row.route = route;
            row.deadline = deadline;
        });
    }

    fn answered(&mut self) {
        if let Some(trial) = self.trial.take() {
            trial.answered();
        }
        if let Some(passage) = &mut self.passage {
            passage.answered();
        }
    }

    fn mark(&self, shared: &Shared) -> Mark {
        Mark {
            // The alphabet of an id is safe in a header.
            id: HeaderValue::from_str(self.schedule.base().id().as_str()).ok(),
            close: shared.in_flight().is_some_and(InFlight::is_closing),
        }
    }
}

/// What every response carries.
#[derive(Clone)]
struct Mark {
    id: Option<HeaderValue>,
    close: bool,
}

impl Mark {
    fn put_on<B>(self, response: &mut HttpResponse<B>) {
        if let Some(id) = self.id {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        if self.close && !response.upgrade() {
            response.head_mut().set_connection_type(ConnectionType::Close);
        }
    }
}

impl Exchange {
    pub(super) fn begin(shared: &Rc<Shared>, request: &ServiceRequest) -> Self {
        let form = match shared.parts.normalise {
            Some(_) => Form::wanted(request.headers()),
            None => Form::default(),
        };
        // Inside of another guard the request has all of it already.
        let inherits = request.extensions().contains::<Rc<Schedule>>();
        let live = shared.parts.requests.as_ref().filter(|_| !inherits).map(|guard| {
            let started = Instant::now();
            let schedule = Rc::new(guard.schedule(request, started));
            request.extensions_mut().insert(Rc::clone(&schedule));
            let routes = shared.routes(request);
            let in_flight = guard.in_flight.enter();
            let access = Access::begin(request, routes, Rc::clone(&schedule), in_flight);
            let admission = shared.parts.admission.as_ref();
            let passage = admission.map(|admission| Passage::begin(admission, request));
            let listed = shared.list(&schedule, request);
            let client = Client::of(request);
            if let Some(client) = &client {
                client.set_disconnect(Disconnect::usual(request.method()));
            }
            Box::new(Live {
                schedule,
                access,
                passage,
                listed,
                entered: false,
                trial: None,
                reads: Cell::new(!request.method().is_safe()),
                phase: Cell::new(None),
                client,
            })
        });
        Self { shared: Rc::clone(shared), form, live }
    }

    /// Before the request is polled: whether it may be.
    pub(super) fn poll_admission(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Problem>> {
        let Some(live) = &mut self.live else { return Poll::Ready(Ok(())) };
        if live.entered {
            return Poll::Ready(Ok(()));
        }
        if let (Some(passage), Some(admission)) = (&mut live.passage, &self.shared.parts.admission)
        {
            let admitted = ready!(passage.poll(admission, &live.schedule, cx));
            if live.phase.get() == Some(FlightPhase::Queued) {
                live.note(FlightPhase::Handling);
            }
            admitted?;
        }
        live.entered = true;
        let guard = self.shared.parts.recover.as_ref().and_then(|recover| recover.guard.as_ref());
        if let Some(guard) = guard.filter(|guard| guard.is_watching())
            && let Some(route) = live.access.route()
        {
            live.trial =
                guard.enter(route).inspect_err(|_| count(&self.shared.counters.resting))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Runs a piece of the request under its context, and catches its panic if panics are caught.
    pub(super) fn enter<T>(&self, work: impl FnOnce() -> T) -> Result<T, Payload> {
        let guarded = || match self.shared.parts.recover {
            Some(_) => catch_payload(work),
            None => Ok(work()),
        };
        match &self.live {
            Some(live) => {
                let _span = live.access.span().enter();
                live.schedule.context().sync_scope(guarded)
            }
            None => guarded(),
        }
    }

    /// Drops a piece of the application under the request's context.
    pub(super) fn drop_guarded<T>(&self, piece: T) {
        self.drop_guarded_in(|| drop(piece));
    }

    /// The same for a future that has ended: all that ran under the context is gone already.
    pub(super) fn drop_ended(&self, drop_it: impl FnOnce()) {
        if self.shared.parts.recover.is_none() {
            return drop_it();
        }
        if let Err(payload) = catch_payload(drop_it) {
            self.report(payload, Phase::Drop);
        }
    }

    /// The same for what can only be dropped in place.
    pub(super) fn drop_guarded_in(&self, drop_it: impl FnOnce()) {
        if let Err(payload) = self.enter(drop_it) {
            self.report(payload, Phase::Drop);
        }
    }

    /// When the request waits: whether it should be given up.
    pub(super) fn poll_end(
        &self,
        watch: &mut Watch,
        deadline: Option<Instant>,
        cx: &mut Context<'_>,
    ) -> Poll<Stopped> {
        match (&self.live, self.shared.in_flight()) {
            (Some(live), Some(in_flight)) => {
                watch.poll(live.schedule.base(), in_flight, deadline, cx)
            }
            (None, _) | (_, None) => Poll::Pending,
        }
    }

    /// The request waits: for its turn, or for what it does.
    pub(super) fn note_waiting(&self) {
        if let Some(live) = &self.live {
            let queued = live.passage.as_ref().is_some_and(Passage::is_waiting);
            // actix-web asks for the answer once before it hands out what it has of the body. To look
            // up the route just then would cost every request with a body, most of which never wait.
            if queued || !live.reads.replace(false) {
                live.note(if queued { FlightPhase::Queued } else { FlightPhase::Handling });
            }
        }
    }

    /// The response is a stream.
    pub(super) fn note_writing(&self) {
        if let Some(live) = &self.live {
            live.note(FlightPhase::Writing);
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.live.as_ref().and_then(|live| live.schedule.deadline())
    }

    /// Tells everything that runs for the request to stop.
    pub(super) fn cancel(&self, why: Stopped) {
        if let Some(live) = &self.live {
            live.schedule.base().cancel(why);
        }
    }

    /// The answer to a request that was given up.
    pub(super) fn stopped(mut self, why: Stopped) -> Error {
        // It did not panic yet; whether it would have nobody knows.
        drop(self.live.as_mut().and_then(|live| live.trial.take()));
        if why == Stopped::Deadline {
            count(&self.shared.counters.deadlines);
        }
        self.failed(Problem::from(why).into())
    }

    /// The answer to a request that panicked.
    pub(super) fn recovered(mut self, payload: Payload) -> Error {
        self.report(payload, Phase::Handler);
        self.panicked();
        self.failed(recover::problem().into())
    }

    /// Tells it of the route, if panics are counted there.
    pub(super) fn panicked(&mut self) {
        let guard = self.shared.parts.recover.as_ref().and_then(|recover| recover.guard.as_ref());
        let (Some(guard), Some(live)) = (guard, &mut self.live) else { return };
        let trial = live.trial.take();
        if let Some(route) = live.access.route() {
            guard.panicked(route, trial);
        }
    }

    pub(super) fn report(&self, payload: Payload, phase: Phase) {
        count(&self.shared.counters.panics);
        let Some(recover) = &self.shared.parts.recover else { return };
        let route = self.live.as_ref().and_then(|live| live.access.route());
        let report = |id: Option<&RequestId>| {
            recover.report(payload, phase, id, route.map(|route| &**route));
        };
        match &self.live {
            Some(live) => {
                let context = live.schedule.context();
                let id = live.schedule.base().id();
                context.sync_scope(|| report(Some(id)));
            }
            None => report(RequestContext::current().as_ref().map(RequestContext::id)),
        }
    }

    /// The connection is closed on purpose.
    pub(super) fn aborted(&mut self) {
        count(&self.shared.counters.aborts);
        if let Some(live) = &mut self.live {
            live.access.aborted();
        }
    }

    /// Nobody waits any more. If the work goes on all the same, the one that sees to it.
    pub(super) fn detach(&mut self) -> Option<Client> {
        // What waits to be admitted has not begun.
        let live = self.live.as_mut().filter(|live| live.entered)?;
        let client = live.client.take().filter(|client| client.disconnect().goes_on())?;
        count(&self.shared.counters.clients_gone);
        live.access.detached();
        Some(client)
    }

    /// Nobody waits any more, and nothing was answered.
    pub(super) fn abandoned(&self) {
        if self.live.as_ref().is_some_and(|live| live.access.is_awaited()) {
            count(&self.shared.counters.clients_gone);
        }
        self.cancel(Stopped::ClientGone);
    }

    /// Nothing of the application runs for the request any more.
    pub(super) fn worked_off(&mut self) {
        if let Some(live) = &mut self.live {
            live.access.worked_off();
        }
    }

    pub(super) fn completed(&mut self) {
        if let Some(live) = &mut self.live {
            live.access.completed();
        }
    }

    /// The response of the inner service, on its way out.
    pub(super) fn answered(
        mut self,
        response: ServiceResponse<BoxBody>,
    ) -> ServiceResponse<EdgeBody> {
        let mut response = self.normalised(response);
        let status = response.status();
        if let Some(live) = &mut self.live {
            live.answered();
            live.access.answered(status, Some(response.request()));
            live.mark(&self.shared).put_on(response.response_mut());
        }
        response.map_body(|_, body| EdgeBody::new(body, self))
    }

    fn normalised(&self, response: ServiceResponse<BoxBody>) -> ServiceResponse<BoxBody> {
        let failed = response.status().is_client_error() || response.status().is_server_error();
        match &self.shared.parts.normalise {
            Some(normalise) if failed => {
                self.with_ask(|ask| normalise.response(response, ask, self.shared.probe.as_ref()))
            }
            Some(_) | None => response,
        }
    }

    /// What an inner middleware failed with, on its way out.
    pub(super) fn failed(mut self, error: Error) -> Error {
        let (mut error, status) = match &self.shared.parts.normalise {
            Some(normalise) => self.with_ask(|ask| normalise.error(error, ask)),
            None => {
                let status = error.as_response_error().status_code();
                (error, status)
            }
        };
        if let Some(live) = &mut self.live {
            live.answered();
            live.access.answered(status, None);
            live.access.completed();
            let mark = live.mark(&self.shared);
            error.add_response_mapper(move |mut response| {
                mark.clone().put_on(&mut response);
                response
            });
        }
        error
    }

    fn with_ask<T>(&self, work: impl FnOnce(Ask<'_>) -> T) -> T {
        match &self.live {
            Some(live) => {
                let ask = Ask { id: Some(live.schedule.base().id()), form: self.form };
                live.schedule.context().sync_scope(|| work(ask))
            }
            None => {
                let ambient = RequestContext::current();
                let id = ambient.as_ref().map(RequestContext::id);
                work(Ask { id, form: self.form })
            }
        }
    }
}

//! The edge as one middleware.
//!
//! Three concerns, one service and one future: [`RequestGuard`] outside, then [`Normalise`], then
//! [`Recover`]. Each is also a middleware of its own, for an app that wants less. Nothing is
//! boxed for a request that is answered without waiting, but what the app makes of it: that may
//! have to outlive its connection.

use std::cell::OnceCell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use actix_web::Error;
use actix_web::body::MessageBody;
use actix_web::dev::{
    ResourceMap, Service, ServiceRequest, ServiceResponse, Transform, forward_ready,
};
use futures_util::future::LocalBoxFuture;
use steadfast_actors::kernel::Stopped;

use super::admission::Admission;
use super::body::EdgeBody;
use super::deadline::Schedule;
use super::exchange::{Counters, EdgeCounts, Exchange};
use super::in_flight::InFlight;
use super::normalise::{AllowProbe, Normalise};
use super::recover::{AbortResponse, Payload, Recover};
use super::request_context::RequestGuard;
use super::table::{FlightPhase, Listed, Row, Table};
use super::watch::Watch;
use crate::problem::Problem;

/// The whole request edge: wrap an `App` with it **last**, so that it is outermost.
///
/// Each response then has a request id, each request a deadline, each error a code, and a panic
/// costs one request.
///
/// ```
/// use actix_web::{App, web};
/// use steadfast::edge::{Edge, RequestGuard, TrustPolicy};
///
/// let edge = Edge::new().requests(RequestGuard::new().trust(TrustPolicy::Private));
/// let app = move || {
///     App::new().route("/", web::get().to(|| async { "hello" })).wrap(edge.clone())
/// };
/// # drop(app());
/// ```
///
/// Clones share their counters. What a middleware outside of it answers by itself, or fails
/// with, has no request id: there is none for it.
#[derive(Debug, Clone)]
pub struct Edge {
    requests: RequestGuard,
    normalise: Normalise,
    recover: Recover,
    admission: Option<Admission>,
    counters: Arc<Counters>,
}

impl Default for Edge {
    fn default() -> Self {
        Self::new()
    }
}

impl Edge {
    /// All three with their defaults.
    #[must_use]
    pub fn new() -> Self {
        Self {
            requests: RequestGuard::new(),
            normalise: Normalise::new(),
            recover: Recover::new(),
            admission: None,
            counters: Arc::default(),
        }
    }

    /// Settings of ids and deadlines.
    #[must_use]
    pub fn requests(mut self, requests: RequestGuard) -> Self {
        self.requests = requests;
        self
    }

    /// Settings of the error documents.
    #[must_use]
    pub fn normalise(mut self, normalise: Normalise) -> Self {
        self.normalise = normalise;
        self
    }

    /// Settings of the panic reports. A [`PanicGuard`](super::PanicGuard) that is there, as from the settings of a
    /// runtime, stays unless these bring another.
    #[must_use]
    pub fn recover(mut self, mut recover: Recover) -> Self {
        recover.guard = recover.guard.or(self.recover.guard);
        self.recover = recover;
        self
    }

    /// How many requests are served at a time. Default: as many as come.
    #[must_use]
    pub fn admission(mut self, admission: Admission) -> Self {
        self.admission = Some(admission).filter(Admission::is_on);
        self
    }

    /// Where requests are counted; the same as [`RequestGuard::in_flight`].
    #[must_use]
    pub fn in_flight(mut self, in_flight: InFlight) -> Self {
        self.requests = self.requests.in_flight(in_flight);
        self
    }

    /// What went wrong so far, at this edge and its clones.
    #[must_use]
    pub fn counts(&self) -> EdgeCounts {
        let admission = self.admission.as_ref().map(Admission::counts);
        EdgeCounts { admission: admission.unwrap_or_default(), ..self.counters.read() }
    }

    fn parts(&self) -> Parts {
        Parts {
            requests: Some(self.requests.clone()),
            normalise: Some(self.normalise.clone()),
            recover: Some(self.recover.clone()),
            admission: self.admission.clone(),
        }
    }
}

/// Which of the three concerns a service has.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub(super) requests: Option<RequestGuard>,
    pub(super) normalise: Option<Normalise>,
    pub(super) recover: Option<Recover>,
    pub(super) admission: Option<Admission>,
}

/// What all requests of one service share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) parts: Parts,
    pub(super) probe: Option<AllowProbe>,
    pub(super) counters: Arc<Counters>,
    routes: OnceCell<Rc<ResourceMap>>,
    table: Arc<Table>,
}

impl Shared {
    /// The app's routes, to name a request's route after the request is gone.
    pub(super) fn routes(&self, request: &ServiceRequest) -> Rc<ResourceMap> {
        Rc::clone(self.routes.get_or_init(|| Rc::new(request.resource_map().clone())))
    }

    /// Where requests are counted, if they are.
    pub(super) fn in_flight(&self) -> Option<&InFlight> {
        self.parts.requests.as_ref().map(|guard| &guard.in_flight)
    }

    /// Lists a request for operators.
    pub(super) fn list(&self, schedule: &Schedule, request: &ServiceRequest) -> Listed {
        self.table.list(Row {
            id: schedule.base().id().clone(),
            method: request.method().clone(),
            started: schedule.started(),
            deadline: schedule.deadline(),
            phase: FlightPhase::Handling,
            route: None,
        })
    }
}

/// Makes middleware out of a type that knows its parts.
macro_rules! middleware {
    ($name:ty, $own:ident => $parts:expr, $counters:expr) => {
        impl<S, B> Transform<S, ServiceRequest> for $name
        where
            S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
            S::Future: 'static,
            B: MessageBody + 'static,
        {
            type Response = ServiceResponse<EdgeBody>;
            type Error = Error;
            type InitError = ();
            type Transform = EdgeService<S>;
            type Future = LocalBoxFuture<'static, Result<EdgeService<S>, ()>>;

            fn new_transform(&self, service: S) -> Self::Future {
                let $own = self;
                let (parts, counters): (Parts, Arc<Counters>) = ($parts, $counters);
                Box::pin(EdgeService::new(service, parts, counters))
            }
        }
    };
}

middleware!(Edge, edge => edge.parts(), Arc::clone(&edge.counters));
middleware!(
    RequestGuard,
    requests => Parts { requests: Some(requests.clone()), ..Parts::default() },
    Arc::default()
);
middleware!(
    Normalise,
    normalise => Parts { normalise: Some(normalise.clone()), ..Parts::default() },
    Arc::default()
);
middleware!(
    Recover,
    recover => Parts { recover: Some(recover.clone()), ..Parts::default() },
    Arc::default()
);

/// The service that [`Edge`] and its parts make.
pub struct EdgeService<S> {
    service: S,
    shared: Rc<Shared>,
}

impl<S> EdgeService<S> {
    async fn new(service: S, parts: Parts, counters: Arc<Counters>) -> Result<Self, ()> {
        let probe = match parts.normalise {
            Some(_) => AllowProbe::new().await,
            None => None,
        };
        let table = parts.requests.as_ref().map(|guard| guard.in_flight.table());
        let table = table.unwrap_or_default();
        let shared = Rc::new(Shared { parts, probe, counters, routes: OnceCell::new(), table });
        Ok(Self { service, shared })
    }
}

impl<S> fmt::Debug for EdgeService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EdgeService").field("parts", &self.shared.parts).finish_non_exhaustive()
    }
}

impl<S, B> Service<ServiceRequest> for EdgeService<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    S::Future: 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<EdgeBody>;
    type Error = Error;
    type Future = EdgeFuture<S::Future>;

    forward_ready!(service);

    fn call(&self, request: ServiceRequest) -> Self::Future {
        let exchange = Exchange::begin(&self.shared, &request);
        // Routing runs inside of `call`, and with it the guards: they may panic too.
        let called = exchange.enter(|| self.service.call(request));
        let (inner, thrown) = match called {
            Ok(inner) => (Some(Box::pin(inner)), None),
            Err(payload) => (None, Some(payload)),
        };
        EdgeFuture {
            inner,
            thrown,
            exchange: Some(exchange),
            watch: Watch::default(),
            go_on: alone,
        }
    }
}

/// How work goes on without anybody who waits for it.
type GoOn<F> = fn(Pin<Box<F>>, Exchange) -> LocalBoxFuture<'static, ()>;

/// The future of an [`EdgeService`].
pub struct EdgeFuture<F> {
    inner: Option<Pin<Box<F>>>,
    thrown: Option<Payload>,
    exchange: Option<Exchange>,
    watch: Watch,
    go_on: GoOn<F>,
}

impl<F> Drop for EdgeFuture<F> {
    fn drop(&mut self) {
        // Gone after an answer: what is left is a request that nobody waits for any more.
        let Some(mut exchange) = self.exchange.take() else { return };
        let inner = self.inner.take();
        match (inner, exchange.detach()) {
            (Some(inner), Some(client)) => client.leave_behind((self.go_on)(inner, exchange)),
            (inner, _) => {
                exchange.abandoned();
                exchange.drop_guarded(inner);
            }
        }
    }
}

fn alone<F, B>(inner: Pin<Box<F>>, exchange: Exchange) -> LocalBoxFuture<'static, ()>
where
    F: Future<Output = Result<ServiceResponse<B>, Error>> + 'static,
    B: MessageBody + 'static,
{
    let (inner, exchange, watch) = (Some(inner), Some(exchange), Watch::default());
    let work = EdgeFuture { inner, thrown: None, exchange, watch, go_on: alone };
    Box::pin(async move { drop(work.await) })
}

impl<F> fmt::Debug for EdgeFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EdgeFuture").finish_non_exhaustive()
    }
}

impl<F, B> Future for EdgeFuture<F>
where
    F: Future<Output = Result<ServiceResponse<B>, Error>>,
    B: MessageBody + 'static,
{
    type Output = Result<ServiceResponse<EdgeBody>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let Some(exchange) = this.exchange.as_mut() else { return Poll::Pending };
        let admitted = match this.thrown {
            Some(_) => Poll::Ready(Ok(())),
            None => exchange.poll_admission(cx),
        };
        let exchange = &*exchange;
        let ended = match (this.thrown.take(), this.inner.as_mut(), admitted) {
            (Some(payload), ..) => Poll::Ready(Ended::Panicked(payload)),
            (None, None, _) => return Poll::Pending,
            (None, Some(_), Poll::Pending) => Poll::Pending,
            (None, Some(_), Poll::Ready(Err(problem))) => Poll::Ready(Ended::Refused(problem)),
            (None, Some(inner), Poll::Ready(Ok(()))) => {
                match exchange.enter(|| inner.as_mut().poll(cx)) {
                    Ok(polled) => polled.map(Ended::Answered),
                    Err(payload) => Poll::Ready(Ended::Panicked(payload)),
                }
            }
        };
        let ended = match ended {
            Poll::Ready(ended) => ended,
            Poll::Pending => {
                exchange.note_waiting();
                match exchange.poll_end(&mut this.watch, exchange.deadline(), cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(why) => Ended::Stopped(why),
                }
            }
        };
        // ORDER: the inner future goes before the answer does; its drop may still log or panic.
        match &ended {
            Ended::Answered(_) => exchange.drop_ended(|| drop(this.inner.take())),
            Ended::Panicked(_) | Ended::Refused(_) => {
                exchange.drop_guarded_in(|| drop(this.inner.take()));
            }
            Ended::Stopped(why) => {
                exchange.cancel(*why);
                exchange.drop_guarded_in(|| drop(this.inner.take()));
            }
        }
        match this.exchange.take() {
            Some(exchange) => Poll::Ready(conclude(exchange, ended)),
            None => Poll::Pending,
        }
    }
}

/// Why a request does not go on.
enum Ended<B> {
    Answered(Result<ServiceResponse<B>, Error>),
    Panicked(Payload),
    Stopped(Stopped),
    Refused(Problem),
}

fn conclude<B: MessageBody + 'static>(
    mut exchange: Exchange,
    ended: Ended<B>,
) -> Result<ServiceResponse<EdgeBody>, Error> {
    match ended {
        Ended::Answered(Ok(response)) => Ok(exchange.answered(response.map_into_boxed_body())),
        Ended::Answered(Err(error)) => Err(exchange.failed(error)),
        Ended::Stopped(why) => Err(exchange.stopped(why)),
        Ended::Refused(problem) => Err(exchange.failed(problem.into())),
        Ended::Panicked(payload) if AbortResponse::is(&payload) => {
            exchange.aborted();
            drop(exchange);
            std::panic::resume_unwind(payload)
        }
        Ended::Panicked(payload) => Err(exchange.recovered(payload)),
    }
}

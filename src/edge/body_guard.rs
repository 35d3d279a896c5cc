//! For those who keep actix-web's own server: what can be had without wrapping its connections.

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::future::{Future, Ready, ready};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_http::Request;
use actix_http::error::PayloadError;
use actix_service::{IntoServiceFactory, ServiceFactory};
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{
    AppConfig, Payload, Response, Service, ServiceRequest, ServiceResponse, Transform,
    forward_ready,
};
use actix_web::web::Bytes;
use actix_web::{Error, HttpMessage, HttpServer};
use futures_util::Stream;
use futures_util::task::noop_waker_ref;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

use super::limits::{EdgeLimits, InvalidLimit, Rate};
use super::server::Client;
use super::server::credit::Credit;

/// Gives an `HttpServer` those limits that it can have. Call it **before** `bind` and `listen`,
/// and wrap the app with a [`BodyGuard`] too.
///
/// | limit | how |
/// |---|---|
/// | `head.timeout` | `client_request_timeout`: the **first** head of a connection |
/// | `connections.idle` | `keep_alive`: until the first byte of the next head |
/// | `write.idle` | `TCP_USER_TIMEOUT`: a client that acknowledges nothing at all; Linux, plain TCP |
///
/// It takes the place of an `on_connect` callback.
///
/// **What stays open**, and an [`EdgeServer`](super::EdgeServer) closes: half of a second head holds a
/// connection for ever, a client that reads a byte now and then holds its response for as
/// long, heads may have 128 KiB, one address may hold all connections, and nothing is counted.
///
/// # Errors
///
/// [`InvalidLimit`] names the first limit that is out of its range.
pub fn harden<F, I, S, B>(
    server: HttpServer<F, I, S, B>,
    limits: &EdgeLimits,
) -> Result<HttpServer<F, I, S, B>, InvalidLimit>
where
    F: Fn() -> I + Send + Clone + 'static,
    I: IntoServiceFactory<S, Request>,
    S: ServiceFactory<Request, Config = AppConfig> + 'static,
    S::Error: Into<Error> + 'static,
    S::InitError: fmt::Debug,
    S::Response: Into<Response<B>> + 'static,
    <S::Service as Service<Request>>::Future: 'static,
    S::Service: 'static,
    B: MessageBody + 'static,
{
    limits.check()?;
    let write = limits.write.idle;
    Ok(server
        .client_request_timeout(limits.head.timeout)
        .keep_alive(limits.connections.idle)
        .on_connect(move |io: &dyn Any, _| {
            #[cfg(target_os = "linux")]
            if let Some(stream) = io.downcast_ref::<TcpStream>() {
                let socket = socket2::SockRef::from(stream);
                let _not_every_kernel_has_it = socket.set_tcp_user_timeout(Some(write));
            }
        }))
}

/// Cuts off bodies that come too slowly, under any server.
///
/// The handler reads a timeout, which [`Normalise`](super::Normalise) answers with 408
/// `body.timeout`; then the connection is closed. A body that nobody reads closes its connection
/// too. Time runs only while the handler waits for the body. Under an
/// [`EdgeServer`](super::EdgeServer), which does all of this, it does nothing.
///
/// Wrap the app with it **last**, outside of an [`Edge`](super::Edge): what is left of the body
/// has to outlive the answer that goes out, whoever made that.
///
/// ```
/// use actix_web::{App, HttpServer, web};
/// use steadfast::edge::{BodyGuard, Edge, EdgeLimits, harden};
///
/// let limits = EdgeLimits::default();
/// let (edge, guard) = (Edge::new(), BodyGuard::new(limits.body));
/// let server = HttpServer::new(move || {
///     App::new()
///         .route("/", web::post().to(|text: String| async { text }))
///         .wrap(edge.clone())
///         .wrap(guard)
/// });
/// let server = harden(server, &limits)?;
/// # drop(server);
/// # Ok::<_, steadfast::edge::InvalidLimit>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct BodyGuard(Rate);

impl BodyGuard {
    /// How fast bodies must come.
    #[must_use]
    pub const fn new(rate: Rate) -> Self {
        Self(rate)
    }
}

impl<S, B> Transform<S, ServiceRequest> for BodyGuard
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    type Response = ServiceResponse<GuardedBody<B>>;
    type Error = Error;
    type InitError = ();
    type Transform = BodyGuardService<S>;
    type Future = Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, service: S) -> Self::Future {
        ready(Ok(BodyGuardService { service, rate: self.0 }))
    }
}

/// The service that [`BodyGuard`] makes.
#[derive(Debug)]
pub struct BodyGuardService<S> {
    service: S,
    rate: Rate,
}

impl<S, B> Service<ServiceRequest> for BodyGuardService<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    type Response = ServiceResponse<GuardedBody<B>>;
    type Error = Error;
    type Future = BodyGuardFuture<S::Future>;

    forward_ready!(service);

    fn call(&self, mut request: ServiceRequest) -> Self::Future {
        let watched = watch(&mut request, self.rate);
        BodyGuardFuture { inner: self.service.call(request), watched }
    }
}

/// Puts a watched payload in the place of a request's. `None` if there is nothing to watch.
fn watch(request: &mut ServiceRequest, rate: Rate) -> Option<Rc<Watched>> {
    if Client::of(request).is_some() {
        return None;
    }
    let payload = request.take_payload();
    if matches!(payload, Payload::None) {
        return None;
    }
    let (payload, watched) = watched(payload, rate);
    request.extensions_mut().insert(Rc::clone(&watched));
    request.set_payload(payload);
    Some(watched)
}

/// A payload that is watched, and the watch.
pub(super) fn watched(inner: Payload, rate: Rate) -> (Payload, Rc<Watched>) {
    let (rate, unread, too_slow) = (Cell::new(rate), Cell::new(None), Cell::new(false));
    let watched = Rc::new(Watched { rate, unread, too_slow });
    let (credit, timer, over) = (None, None, false);
    let inner = WatchedPayload { inner, credit, timer, over, watched: Rc::clone(&watched) };
    (Payload::Stream { payload: Box::pin(inner) }, watched)
}

pin_project_lite::pin_project! {
    /// The future of [`BodyGuardService`].
    #[derive(Debug)]
    pub struct BodyGuardFuture<F> {
        #[pin]
        inner: F,
        watched: Option<Rc<Watched>>,
    }
}

impl<F, B> Future for BodyGuardFuture<F>
where
    F: Future<Output = Result<ServiceResponse<B>, Error>>,
{
    type Output = Result<ServiceResponse<GuardedBody<B>>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = std::task::ready!(this.inner.poll(cx));
        let unread = this.watched.take();
        Poll::Ready(match answer {
            Ok(answer) => Ok(answer.map_body(|_, body| GuardedBody { body, unread })),
            Err(mut error) => {
                error.add_response_mapper(move |response| {
                    let unread = unread.clone();
                    response.map_body(|_, body| BoxBody::new(GuardedBody { body, unread }))
                });
                Err(error)
            }
        })
    }
}

pin_project_lite::pin_project! {
    /// The response that [`BodyGuard`] passes on: it keeps what was not read of the request until
    /// its own end, because actix-web reads a chunked body that was dropped to its end, however
    /// long that takes, and closes the connection for one that was not.
    #[derive(Debug)]
    pub struct GuardedBody<B> {
        #[pin]
        body: B,
        unread: Option<Rc<Watched>>,
    }
}

impl<B: MessageBody> MessageBody for GuardedBody<B> {
    type Error = B::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, B::Error>>> {
        self.project().body.poll_next(cx)
    }
}

/// What a request's body shares with its route and its response.
pub(super) struct Watched {
    rate: Cell<Rate>,
    unread: Cell<Option<Payload>>,
    too_slow: Cell<bool>,
}

impl Watched {
    pub(super) fn set_rate(&self, rate: Rate) {
        self.rate.set(rate);
    }

    /// Whether it had to be waited for too long.
    #[cfg(feature = "http2")]
    pub(super) fn was_too_slow(&self) -> bool {
        self.too_slow.get()
    }
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("rate", &self.rate.get()).finish_non_exhaustive()
    }
}

/// A payload that reads a timeout when it is too slow.
struct WatchedPayload {
    inner: Payload,
    /// From the first time that it had to be waited for.
    credit: Option<Credit>,
    timer: Option<Pin<Box<Sleep>>>,
    over: bool,
    watched: Rc<Watched>,
}

impl WatchedPayload {
    fn came(&mut self, chunk: &Bytes) {
        if let Some(credit) = &mut self.credit {
            credit.goes_on();
            credit.moved(u64::try_from(chunk.len()).unwrap_or(u64::MAX));
        }
    }

    /// Waits for more. Ready when it waited too long.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let rate = self.watched.rate.get();
        let credit = self.credit.get_or_insert_with(|| Credit::new(rate));
        credit.set_rate(rate);
        credit.waits();
        while let Ok(due) = credit.tick(Instant::now()) {
            let Some(due) = due else { return Poll::Pending };
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
            timer.as_mut().reset(due);
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
        Poll::Ready(())
    }

    fn take(&mut self) -> Payload {
        std::mem::replace(&mut self.inner, Payload::None)
    }
}

impl Stream for WatchedPayload {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.inner).poll_next(cx);
        match &polled {
            Poll::Ready(Some(Ok(chunk))) => this.came(chunk),
            Poll::Ready(Some(Err(_)) | None) => this.over = true,
            Poll::Pending if this.wait(cx).is_ready() => {
                this.over = true;
                let unread = this.take();
                this.watched.unread.set(Some(unread));
                this.watched.too_slow.set(true);
                let error = PayloadError::Io(io::ErrorKind::TimedOut.into());
                return Poll::Ready(Some(Err(error)));
            }
            Poll::Pending => {}
        }
        polled
    }
}

impl Drop for WatchedPayload {
    /// What has come already is taken: a handler that did not want it costs no connection.
    fn drop(&mut self) {
        let mut cx = Context::from_waker(noop_waker_ref());
        while !self.over {
            match Pin::new(&mut self.inner).poll_next(&mut cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(_)) | None) => self.over = true,
                Poll::Pending => {
                    self.over = true;
                    let unread = self.take();
                    self.watched.unread.set(Some(unread));
                }
            }
        }
    }
}

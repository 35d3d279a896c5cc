//! Around the app: where a connection learns of its requests, and they of its end.
//!
//! A request without streams is passed on as it is.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use actix_http::body::{BodySize, BoxBody, MessageBody};
use actix_http::error::PayloadError;
use actix_http::{BoxedPayloadStream, HttpMessage, Request, Response};
use actix_service::{Service, ServiceFactory};
use actix_web::HttpResponse;
use actix_web::dev::Payload;
use actix_web::http::Version;
use actix_web::web::Bytes;
use futures_util::future::LocalBoxFuture;
use steadfast_actors::kernel::Code;

use super::super::service::size;
use super::streams::{Lease, Stream, Streams};
use crate::edge::body_guard;
use crate::problem::Problem;

/// Makes [`StreamsService`] out of an app.
pub(in super::super) struct StreamsFactory<F>(F);

impl<F> StreamsFactory<F> {
    pub(in super::super) const fn new(app: F) -> Self {
        Self(app)
    }
}

impl<F, B> ServiceFactory<Request> for StreamsFactory<F>
where
    F: ServiceFactory<Request, Response = Response<B>, Error = Response<BoxBody>>,
    F::Future: 'static,
    F::Service: 'static,
    B: MessageBody + 'static,
{
    type Response = Response<StreamBody<B>>;
    type Error = Response<BoxBody>;
    type Config = F::Config;
    type Service = StreamsService<F::Service>;
    type InitError = F::InitError;
    type Future = LocalBoxFuture<'static, Result<Self::Service, F::InitError>>;

    fn new_service(&self, config: F::Config) -> Self::Future {
        let app = self.0.new_service(config);
        Box::pin(async move { Ok(StreamsService(app.await?)) })
    }
}

/// The app of one worker.
pub(in super::super) struct StreamsService<S>(S);

impl<S, B> Service<Request> for StreamsService<S>
where
    S: Service<Request, Response = Response<B>, Error = Response<BoxBody>>,
    B: MessageBody,
{
    type Response = Response<StreamBody<B>>;
    type Error = Response<BoxBody>;
    type Future = Answering<S::Future>;

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&self, mut request: Request) -> Self::Future {
        let http2 = request.version() == Version::HTTP_2;
        let Some(streams) = request.conn_data::<Rc<Streams>>().filter(|_| http2).map(Rc::clone)
        else {
            return Answering {
                app: Some(self.0.call(request)),
                lease: None,
                left: None,
                no: None,
            };
        };
        let (lease, no) = enter(&streams, &mut request);
        let app = no.is_none().then(|| self.0.call(request));
        Answering { app, lease: Some(lease), left: None, no }
    }
}

/// Begins a request, or says why not.
fn enter(streams: &Rc<Streams>, request: &mut Request) -> (Lease, Option<Code>) {
    let (lease, fits) = streams.begin(request.take_payload());
    let stream = &lease.stream;
    if !stream.has_ended() {
        let body: BoxedPayloadStream = Box::pin(StreamPayload(Rc::clone(stream)));
        let body = Payload::Stream { payload: body };
        let (body, watched) = body_guard::watched(body, streams.limits().body);
        request.extensions_mut().insert(Rc::clone(&watched));
        stream.watch(watched);
        *request.payload() = body;
    }
    request.extensions_mut().insert(Rc::clone(stream));
    let no = match () {
        () if !fits => Some(Code::new("admission.overloaded")),
        () if size(request) > streams.limits().head_max => {
            Some(Code::new("http.header_fields_too_large"))
        }
        () => None,
    };
    (lease, no)
}

/// The body of a request, on its way to the handler.
struct StreamPayload(Rc<Stream>);

impl futures_util::Stream for StreamPayload {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_body(cx)
    }
}

pin_project_lite::pin_project! {
    /// The app's answer to one request. When nobody waits for it any more, the app's work is
    /// dropped here, and what it leaves behind is seen to.
    pub(in super::super) struct Answering<F> {
        // `None` if the app is not asked, or was given up.
        #[pin]
        app: Option<F>,
        lease: Option<Lease>,
        left: Option<LocalBoxFuture<'static, ()>>,
        no: Option<Code>,
    }
}

impl<F, B> Future for Answering<F>
where
    F: Future<Output = Result<Response<B>, Response<BoxBody>>>,
    B: MessageBody,
{
    type Output = Result<Response<StreamBody<B>>, Response<BoxBody>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Some(code) = this.no.take() {
            return Poll::Ready(Err(HttpResponse::from_error(Problem::known(code)).into()));
        }
        let over = this.lease.as_ref().is_some_and(|lease| lease.stream.is_over(cx));
        if let Some(app) = this.app.as_mut().as_pin_mut().filter(|_| !over) {
            let answer = ready!(app.poll(cx))?;
            let lease = this.lease.take();
            return Poll::Ready(Ok(answer.map_body(|_, body| StreamBody::new(body, lease))));
        }
        if this.app.is_some() {
            this.app.set(None);
            *this.left = this.lease.as_ref().and_then(|lease| lease.stream.inherit());
        }
        if this.lease.as_ref().is_some_and(|lease| lease.stream.is_forsaken()) {
            *this.left = None;
        }
        if let Some(left) = this.left {
            ready!(left.as_mut().poll(cx));
        }
        *this.lease = None;
        // Nobody reads it.
        Poll::Ready(Err(HttpResponse::RequestTimeout().finish().into()))
    }
}

pin_project_lite::pin_project! {
    /// The body of a response.
    pub(in super::super) struct StreamBody<B> {
        // `None` when nobody waits for it any more.
        #[pin]
        body: Option<B>,
        size: BodySize,
        lease: Option<Lease>,
    }
}

impl<B: MessageBody> StreamBody<B> {
    fn new(body: B, lease: Option<Lease>) -> Self {
        Self { size: body.size(), body: Some(body), lease }
    }
}

impl<B: MessageBody> MessageBody for StreamBody<B> {
    type Error = B::Error;

    fn size(&self) -> BodySize {
        self.size
    }

    fn poll_next(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, B::Error>>> {
        let mut this = self.project();
        if let Some(lease) = this.lease {
            if lease.stream.is_over(cx) {
                this.body.set(None);
                return Poll::Ready(None);
            }
            lease.asks();
            if !lease.may_hand_over() {
                return Poll::Pending;
            }
        }
        let Some(body) = this.body.as_pin_mut() else { return Poll::Ready(None) };
        let polled = body.poll_next(cx);
        if let (Some(lease), Poll::Ready(Some(Ok(piece)))) = (this.lease, &polled) {
            lease.handed_over(piece.len());
        }
        polled
    }
}

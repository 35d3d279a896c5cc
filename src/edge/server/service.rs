//! Around the app: where a connection learns of its requests.

use std::cell::OnceCell;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_http::body::{BodySize, BoxBody, EitherBody, MessageBody};
use actix_http::{ConnectionType, HttpMessage, Request, Response};
use actix_service::{Service, ServiceFactory};
use actix_web::HttpResponse;
use actix_web::dev::Payload;
use actix_web::http::Version;
use actix_web::http::header::{CONTENT_LENGTH, UPGRADE};
use actix_web::web::Bytes;
use futures_util::future::LocalBoxFuture;
use steadfast_actors::kernel::Code;

use super::conn::Conn;
use super::payload::GuardedPayload;
use super::state::{Answer, BodyEnd, Call, Framing, State};
use crate::problem::Problem;

/// The app of one worker, once it is made.
pub(super) type Shared<S, B> = Rc<OnceCell<Rc<Guarded<S, B>>>>;

/// Makes [`Guarded`] out of an app.
pub(super) struct GuardedFactory<F, S, B> {
    app: F,
    made: Shared<S, B>,
}

impl<F, S, B> GuardedFactory<F, S, B> {
    pub(super) const fn new(app: F, made: Shared<S, B>) -> Self {
        Self { app, made }
    }
}

impl<F, B> ServiceFactory<Request> for GuardedFactory<F, F::Service, B>
where
    F: ServiceFactory<Request, Error = Response<BoxBody>>,
    F::Response: Into<Response<B>>,
    F::Future: 'static,
    F::Service: 'static,
    B: MessageBody + 'static,
{
    type Response = Response<AnswerBody<EitherBody<B>>>;
    type Error = Response<BoxBody>;
    type Config = F::Config;
    type Service = Rc<Guarded<F::Service, B>>;
    type InitError = F::InitError;
    type Future = LocalBoxFuture<'static, Result<Self::Service, F::InitError>>;

    fn new_service(&self, config: F::Config) -> Self::Future {
        let (app, made) = (self.app.new_service(config), Rc::clone(&self.made));
        Box::pin(async move {
            let app = Rc::new(Guarded { app: app.await?, body: PhantomData });
            Ok(Rc::clone(made.get_or_init(|| app)))
        })
    }
}

/// The app of one worker.
pub(super) struct Guarded<S, B> {
    app: S,
    body: PhantomData<fn() -> B>,
}

impl<S, B> Service<Request> for Guarded<S, B>
where
    S: Service<Request, Error = Response<BoxBody>>,
    S::Response: Into<Response<B>>,
    B: MessageBody,
{
    type Response = Response<AnswerBody<EitherBody<B>>>;
    type Error = Response<BoxBody>;
    type Future = Answering<S::Future, B>;

    actix_service::forward_ready!(app);

    fn call(&self, mut request: Request) -> Self::Future {
        let conn = request.conn_data::<Rc<Conn>>().map(Rc::clone);
        let fate = conn.as_ref().map_or(Fate::Served, |conn| enter(conn, &mut request));
        let app = (fate == Fate::Served).then(|| self.app.call(request));
        Answering { app, fate, conn, body: PhantomData }
    }
}

/// What becomes of a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Served,
    Refused,
    /// It gets no answer; the connection ends.
    Ignored,
}

/// Begins a request.
fn enter(conn: &Rc<Conn>, request: &mut Request) -> Fate {
    let (framing, length) = framing(request);
    let (serial, call) = conn.called(framing);
    if call == Call::Ignore {
        return Fate::Ignored;
    }
    // After an ordinary answer to one who wanted another protocol, actix-http closes too.
    if request.head().connection_type() != ConnectionType::KeepAlive {
        conn.tell(State::closes);
    }
    if framing != Framing::Empty {
        let end = match length {
            Some(length) => BodyEnd::Length(length),
            None if request.chunked().unwrap_or(true) => BodyEnd::Chunks,
            None => BodyEnd::Never,
        };
        conn.tell(|state| state.body_ends(end));
        let payload = GuardedPayload::new(request.take_payload(), Rc::clone(conn), serial, length);
        *request.payload() = Payload::Stream { payload: Box::pin(payload) };
    }
    let fits = call != Call::Measure || size(request) <= conn.tell(|state| state.head_max());
    if !fits {
        return Fate::Refused;
    }
    conn.begins(request.version() >= Version::HTTP_11, request.head().expect());
    Fate::Served
}

/// How the end of the body is known, and its length. The decoder has checked that there is only
/// one way to read it, but for one who wants a WebSocket: then it reads on, whatever the length.
fn framing(request: &mut Request) -> (Framing, Option<u64>) {
    if matches!(request.payload(), Payload::None) {
        return (Framing::Empty, None);
    }
    let length = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    match length.and_then(|length| length.parse().ok()) {
        Some(length) if !request.chunked().unwrap_or(true) && !wants_websocket(request) => {
            (Framing::Length, Some(length))
        }
        Some(_) | None => (Framing::Open, None),
    }
}

fn wants_websocket(request: &Request) -> bool {
    let wanted = request.headers().get_all(UPGRADE).filter_map(|value| value.to_str().ok());
    wanted.map(str::trim).any(|protocol| protocol.eq_ignore_ascii_case("websocket"))
}

/// The bytes of a head as most clients write it.
pub(super) fn size(request: &Request) -> usize {
    let line = request.method().as_str().len() + "  HTTP/1.1\r\n\r\n".len();
    let target = request.uri().path_and_query().map_or(1, |target| target.as_str().len());
    let header = |name: &str, value: &[u8]| name.len() + value.len() + ": \r\n".len();
    let headers =
        request.headers().iter().map(|(name, value)| header(name.as_str(), value.as_bytes()));
    line + target + headers.sum::<usize>()
}

/// The answer to a head that is too large.
fn refused() -> Response<BoxBody> {
    HttpResponse::from_error(Problem::known(Code::new("http.header_fields_too_large"))).into()
}

pin_project_lite::pin_project! {
    /// The app's answer to one request.
    pub(super) struct Answering<F, B> {
        // `None` if the app is not asked.
        #[pin]
        app: Option<F>,
        fate: Fate,
        conn: Option<Rc<Conn>>,
        body: PhantomData<fn() -> B>,
    }
}

impl<F, R, B> Future for Answering<F, B>
where
    F: Future<Output = Result<R, Response<BoxBody>>>,
    R: Into<Response<B>>,
    B: MessageBody,
{
    type Output = Result<Response<AnswerBody<EitherBody<B>>>, Response<BoxBody>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = match this.app.as_pin_mut() {
            Some(app) => std::task::ready!(app.poll(cx)),
            None if *this.fate == Fate::Ignored => return Poll::Pending,
            None => Err(refused()),
        };
        let mut response = match answer {
            Ok(response) => response.into().map_body(|_, body| EitherBody::left(body)),
            Err(response) => response.map_body(|_, body| EitherBody::right(body)),
        };
        let conn = this.conn.take();
        if let Some(conn) = &conn {
            // actix-http keeps heads, and with them the version of their last answer; without it,
            // only what the app itself has said counts. The right one is set when it is written.
            response.head_mut().version = Version::HTTP_11;
            let answer = match response.head().connection_type() {
                _ if *this.fate == Fate::Refused => Answer::Last,
                ConnectionType::Close => Answer::Last,
                ConnectionType::KeepAlive => Answer::Usual,
                ConnectionType::Upgrade => Answer::Upgrade,
            };
            conn.answers();
            let last = conn.tell(|state| state.answered(answer));
            conn.release();
            if last {
                response.head_mut().set_connection_type(ConnectionType::Close);
            }
        }
        Poll::Ready(Ok(response.map_body(|_, body| AnswerBody { body, conn })))
    }
}

pin_project_lite::pin_project! {
    /// The body of a response. When it is dropped, all of it was handed over, or given up.
    pub(super) struct AnswerBody<B> {
        #[pin]
        body: B,
        conn: Option<Rc<Conn>>,
    }

    impl<B> PinnedDrop for AnswerBody<B> {
        fn drop(this: Pin<&mut Self>) {
            if let Some(conn) = this.project().conn.take() {
                conn.over();
            }
        }
    }
}

impl<B: MessageBody> MessageBody for AnswerBody<B> {
    type Error = B::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, B::Error>>> {
        let this = self.project();
        let polled = this.body.poll_next(cx);
        // Whatever it looks like, it is of the app.
        if let (Poll::Ready(Some(Ok(_))), Some(conn)) = (&polled, this.conn) {
            conn.answers_on();
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::Method;
    use actix_web::http::header::{HeaderName, HeaderValue};

    #[test]
    fn a_head_has_the_size_it_had_on_the_wire() {
        let mut request = Request::new();
        request.head_mut().method = Method::POST;
        request.head_mut().uri = "/a/path?and=query".parse().unwrap();
        let header = (HeaderName::from_static("host"), HeaderValue::from_static("test"));
        request.headers_mut().insert(header.0, header.1);
        let wire = "POST /a/path?and=query HTTP/1.1\r\nhost: test\r\n\r\n";
        assert_eq!(size(&request), wire.len());
    }
}

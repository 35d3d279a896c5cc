//! Requests that wait to be told to go on.
//!
//! actix-http tells them so before it asks the app, and then a refusal that was certain from the
//! head alone comes after the invitation. So the app is asked in the place where actix-http asks
//! whether to go on, its answer is the refusal, and the invitation goes out when the body is read.

use std::future::{Ready, ready};
use std::rc::Rc;

use actix_http::body::{BoxBody, EitherBody, MessageBody};
use actix_http::{Request, Response};
use actix_service::{Service, ServiceFactory};
use futures_util::FutureExt;
use futures_util::future::{Either, LocalBoxFuture};

use super::service::{AnswerBody, Guarded, Shared};

/// Makes [`Expecting`] of the app that another factory makes.
pub(super) struct ExpectingFactory<S, B>(Shared<S, B>);

impl<S, B> ExpectingFactory<S, B> {
    pub(super) const fn new(app: Shared<S, B>) -> Self {
        Self(app)
    }
}

impl<S, B> ServiceFactory<Request> for ExpectingFactory<S, B>
where
    S: Service<Request, Error = Response<BoxBody>> + 'static,
    S::Response: Into<Response<B>>,
    S::Future: 'static,
    B: MessageBody + 'static,
{
    type Response = Request;
    type Error = Response<BoxBody>;
    type Config = ();
    type Service = Expecting<S, B>;
    type InitError = ();
    type Future = Ready<Result<Self::Service, ()>>;

    fn new_service(&self, (): ()) -> Self::Future {
        ready(Ok(Expecting(Rc::clone(&self.0))))
    }
}

/// Answers such requests.
pub(super) struct Expecting<S, B>(Shared<S, B>);

impl<S, B> Service<Request> for Expecting<S, B>
where
    S: Service<Request, Error = Response<BoxBody>> + 'static,
    S::Response: Into<Response<B>>,
    S::Future: 'static,
    B: MessageBody + 'static,
{
    type Response = Request;
    type Error = Response<BoxBody>;
    type Future = Either<
        Ready<Result<Request, Self::Error>>,
        LocalBoxFuture<'static, Result<Request, Self::Error>>,
    >;

    actix_service::always_ready!();

    fn call(&self, request: Request) -> Self::Future {
        // The app is made before anything is served.
        let Some(app) = self.0.get() else { return Either::Left(ready(Ok(request))) };
        let answer = Guarded::call(app, request);
        Either::Right(answer.map(|answer| Err(refusal(answer))).boxed_local())
    }
}

type Answer<B> = Result<Response<AnswerBody<EitherBody<B>>>, Response<BoxBody>>;

fn refusal<B: MessageBody + 'static>(answer: Answer<B>) -> Response<BoxBody> {
    match answer {
        Ok(response) => response.map_into_boxed_body(),
        Err(response) => response,
    }
}

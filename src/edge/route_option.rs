//! Options of a route, as middleware.
//!
//! [`Deadline`](super::Deadline), [`Admit`](super::Admit), [`Disconnect`](super::Disconnect) and
//! [`Pace`](super::Pace) change something about a request before the route has it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::Error;
use actix_web::body::MessageBody;
use actix_web::dev::{Service, ServiceRequest, ServiceResponse, forward_ready};
use steadfast_actors::kernel::RequestContext;

/// Something that a route decides for its requests.
pub(super) trait RouteOption {
    /// Applies it to a request. The context that the route runs under from now on, if that is another.
    fn apply(&self, request: &ServiceRequest) -> Option<RequestContext>;
}

/// Makes an option middleware.
macro_rules! middleware {
    ($name:ty) => {
        impl<S, B> actix_web::dev::Transform<S, actix_web::dev::ServiceRequest> for $name
        where
            S: actix_web::dev::Service<
                    actix_web::dev::ServiceRequest,
                    Response = actix_web::dev::ServiceResponse<B>,
                    Error = actix_web::Error,
                >,
            B: actix_web::body::MessageBody,
        {
            type Response = actix_web::dev::ServiceResponse<B>;
            type Error = actix_web::Error;
            type InitError = ();
            type Transform = $crate::edge::RouteOptionService<S, Self>;
            type Future = std::future::Ready<Result<Self::Transform, ()>>;

            fn new_transform(&self, service: S) -> Self::Future {
                std::future::ready(Ok($crate::edge::RouteOptionService::new(service, *self)))
            }
        }
    };
}

pub(super) use middleware;

/// The service that a [`Deadline`](super::Deadline), an [`Admit`](super::Admit), a
/// [`Disconnect`](super::Disconnect) or a [`Pace`](super::Pace) makes of a route.
#[derive(Debug)]
pub struct RouteOptionService<S, T> {
    service: S,
    option: T,
}

impl<S, T> RouteOptionService<S, T> {
    pub(super) const fn new(service: S, option: T) -> Self {
        Self { service, option }
    }
}

#[allow(private_bounds, reason = "which options there are is for the edge to know")]
impl<S, T, B> Service<ServiceRequest> for RouteOptionService<S, T>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
    T: RouteOption,
    B: MessageBody,
{
    type Response = ServiceResponse<B>;
    type Error = Error;
    type Future = Scoped<S::Future>;

    forward_ready!(service);

    fn call(&self, request: ServiceRequest) -> Self::Future {
        let context = self.option.apply(&request);
        let inner = match context.clone() {
            Some(context) => context.sync_scope(|| self.service.call(request)),
            None => self.service.call(request),
        };
        Scoped { inner, context }
    }
}

pin_project_lite::pin_project! {
    /// The future of a [`RouteOptionService`]: the route's, under the route's context.
    #[derive(Debug)]
    pub struct Scoped<F> {
        #[pin]
        inner: F,
        context: Option<RequestContext>,
    }
}

impl<F: Future> Future for Scoped<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        match this.context {
            Some(context) => context.clone().sync_scope(|| this.inner.poll(cx)),
            None => this.inner.poll(cx),
        }
    }
}

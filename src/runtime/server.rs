//! Taking over a server, so that its end is ours to conduct.

use std::fmt;
use std::io;
use std::time::Duration;

use actix_http::Request;
use actix_http::Response;
use actix_http::body::MessageBody;
use actix_service::{IntoServiceFactory, Service, ServiceFactory};
use actix_web::dev::{AppConfig, Server};
use actix_web::{Error, HttpServer};

use crate::edge::{DrainPlan, EdgeServer};

/// A server that [`Steadfast::serve`](super::Steadfast::serve) can conduct.
pub trait IntoServer {
    /// The server, not yet polled, with its own signal handling off.
    ///
    /// # Errors
    ///
    /// It has no listener, or one that the operating system refuses.
    fn into_server(self, plan: &DrainPlan) -> io::Result<Server>;
}

/// Turns off actix-web's own signal handling and sets its shutdown timeout from the plan.
impl<F, I, S, B> IntoServer for HttpServer<F, I, S, B>
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
    fn into_server(self, plan: &DrainPlan) -> io::Result<Server> {
        Ok(self.disable_signals().shutdown_timeout(plan.server_timeout()).run())
    }
}

/// Leaves signals to the drain, and takes its time from the plan.
impl<F, I, S, B> IntoServer for EdgeServer<F, I, S, B>
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
    fn into_server(self, plan: &DrainPlan) -> io::Result<Server> {
        let timeout = Duration::from_secs(plan.server_timeout());
        self.disable_signals().shutdown_timeout(timeout).run()
    }
}

/// For a server that was configured by hand. Call `disable_signals()` on it first, and give it a
/// `shutdown_timeout` longer than the plan's time for requests: else it cuts them by itself.
impl IntoServer for Server {
    fn into_server(self, _: &DrainPlan) -> io::Result<Server> {
        Ok(self)
    }
}

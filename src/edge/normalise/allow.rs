//! Which methods a path has routes for.
//!
//! `#[get("/x")]` and repeated `.route("/x", …)` make resources that are guarded by their method:
//! a request with another method matches none of them, and actix-web answers an empty 404. But
//! while it looked, every method guard it asked left its method with the request, for the 405 of
//! `web::resource`. That record is private; so an empty resource of a small app of our own is
//! shown the same record, and its answer has it in `Allow`.
//!
//! The record has the request's own method exactly when a route was found: an empty 404 that a
//! handler answers is told apart from one that no handler saw. Two things can deceive it: a
//! method guard inside `guard::Not`, and a handler for every method behind a guarded one of the
//! same path, if they answer 404 with an empty body.

use std::fmt;

use actix_http::Request;
use actix_service::{IntoServiceFactory, ServiceFactory, boxed};
use actix_web::body::BoxBody;
use actix_web::dev::{AppConfig, ServiceResponse};
use actix_web::http::{Uri, header};
use actix_web::{App, Error, HttpMessage, HttpRequest, web};
use futures_util::FutureExt;

/// Asks actix-web which methods it tried.
pub(in crate::edge) struct AllowProbe {
    empty: boxed::BoxService<Request, ServiceResponse<BoxBody>, Error>,
}

impl AllowProbe {
    pub(in crate::edge) async fn new() -> Option<Self> {
        let app = App::new().service(web::resource("/")).into_factory();
        let service = app.new_service(AppConfig::default()).await.ok()?;
        Some(Self { empty: boxed::service(service) })
    }

    /// The methods of the routes at the request's path, `GET, PUT`, when its own is not one.
    pub(in crate::edge) fn instead_of(&self, request: &HttpRequest) -> Option<String> {
        let own = request.method().as_str();
        let tried = self.tried(request)?;
        let mut methods: Vec<&str> = tried.split(", ").filter(|name| !name.is_empty()).collect();
        if methods.is_empty() || methods.contains(&own) {
            return None;
        }
        methods.sort_unstable();
        methods.dedup();
        Some(methods.join(", "))
    }

    fn tried(&self, request: &HttpRequest) -> Option<String> {
        let record = std::mem::take(&mut *request.extensions_mut());
        let mut shown = Request::new();
        // Heads are pooled, and this one still has the path of a request that is gone.
        *shown.uri_mut() = Uri::from_static("/");
        *shown.extensions_mut() = record;
        // An empty resource has nothing to wait for.
        let answer = actix_service::Service::call(&self.empty, shown).now_or_never()?.ok()?;
        let record = std::mem::take(&mut *answer.request().extensions_mut());
        *request.extensions_mut() = record;
        answer.headers().get(header::ALLOW)?.to_str().ok().map(str::to_owned)
    }
}

impl fmt::Debug for AllowProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AllowProbe").finish_non_exhaustive()
    }
}

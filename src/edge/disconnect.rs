//! What becomes of a request whose client leaves.

use actix_web::dev::ServiceRequest;
use actix_web::http::Method;
use steadfast_actors::kernel::RequestContext;

use super::route_option::{self, RouteOption};
use super::server::Client;

/// What becomes of the work for a request whose client leaves before it is answered: wrap a route,
/// a resource or a scope with it.
///
/// | | the client resets | it closes | it closes its half, and listens |
/// |---|---|---|---|
/// | [`Cancel`](Self::Cancel) | dropped | dropped | answered |
/// | [`Finish`](Self::Finish) | goes on | goes on, the connection stays | answered |
/// | [`Detach`](Self::Detach) | goes on | goes on, the connection ends | answered |
///
/// Default `Cancel` for methods that change nothing (GET, HEAD, OPTIONS, TRACE), `Detach` for the
/// others. The innermost one decides.
///
/// Work that is dropped is cancelled with
/// [`Stopped::ClientGone`](steadfast_actors::kernel::Stopped::ClientGone): messages to actors that
/// have not begun are not run, and what watches its
/// [`RequestContext`](steadfast_actors::kernel::RequestContext) stops. Work that goes on has its
/// deadline, is in flight for a drain, and its connection counts until it ends; its result is
/// discarded. Either way the request is recorded with status 499, as `cancelled` or `detached`. A
/// body that streams is dropped with the connection, whatever the policy.
///
/// A client that closes looks like one that closes its half: nothing more comes. So after 200 ms the
/// client is asked, with an interim `100 Continue`, which one that listens skips and one that has left
/// answers with a reset. `Finish` does not ask, nor is a client of HTTP/1.0 asked: they are
/// answered, and nobody may be there.
///
/// Over HTTP/2 a client leaves when it resets the stream, or its connection ends; there is no half
/// to close, and `Finish` is as `Detach`.
///
/// It works below an [`Edge`](super::Edge) or a [`RequestGuard`](super::RequestGuard) in an
/// [`EdgeServer`](super::EdgeServer). In actix-web's `HttpServer`, a reset drops all work, and a close none.
///
/// ```
/// use actix_web::{App, web};
/// use steadfast::edge::{Disconnect, Edge};
///
/// async fn report() -> &'static str { "kept for the next who asks" }
///
/// let app = App::new()
///     .route("/report", web::get().to(report).wrap(Disconnect::Detach))
///     .wrap(Edge::new());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Disconnect {
    /// The work is dropped as soon as the client is known to have left.
    Cancel,
    /// The work goes on as if nothing had happened; its answer is written if somebody takes it.
    Finish,
    /// The work goes on without its connection.
    Detach,
}

impl Disconnect {
    pub(super) fn usual(method: &Method) -> Self {
        if method.is_safe() { Self::Cancel } else { Self::Detach }
    }

    /// Whether anything depends on whether the client has left.
    pub(super) const fn asks(self) -> bool {
        matches!(self, Self::Cancel | Self::Detach)
    }

    pub(super) const fn goes_on(self) -> bool {
        matches!(self, Self::Finish | Self::Detach)
    }
}

route_option::middleware!(Disconnect);

impl RouteOption for Disconnect {
    fn apply(&self, request: &ServiceRequest) -> Option<RequestContext> {
        if let Some(client) = Client::of(request) {
            client.set_disconnect(*self);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_changes_something_goes_on() {
        for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
            assert_eq!(Disconnect::usual(&method), Disconnect::Cancel, "{method}");
        }
        for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            assert_eq!(Disconnect::usual(&method), Disconnect::Detach, "{method}");
        }
    }
}

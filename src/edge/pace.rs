//! Routes whose bodies move at other rates.

use std::rc::Rc;

use actix_web::HttpMessage;
use actix_web::dev::ServiceRequest;
use steadfast_actors::kernel::RequestContext;

use super::body_guard::Watched;
use super::limits::Rate;
use super::route_option::{self, RouteOption};
use super::server::Client;

/// Gives a route, a resource or a scope other [rates](Rate) than the server's.
///
/// The innermost one decides, for each direction by itself. It holds for one request, under an
/// [`EdgeServer`](super::EdgeServer); below a [`BodyGuard`](super::BodyGuard) only `upload` does, and
/// without either nothing. Over HTTP/2 all responses of a connection share one rate: the most patient
/// of its requests decides, until none is left.
///
/// ```
/// use std::time::Duration;
/// use actix_web::{App, web};
/// use steadfast::edge::{Pace, Rate};
///
/// async fn photo(photo: web::Bytes) -> String { photo.len().to_string() }
/// async fn events() -> &'static str { "a stream" }
///
/// // People in trains send photos, and one event in an hour is enough.
/// let patient = Rate::at_least(100).idle(Duration::from_secs(60));
/// let app = App::new()
///     .route("/photo", web::post().to(photo).wrap(Pace::new().upload(patient)))
///     .route("/events", web::get().to(events).wrap(Pace::new().stream(Rate::none())));
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Pace {
    body: Option<Rate>,
    write: Option<Rate>,
}

impl Pace {
    /// The server's rates.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How fast the client must send the body.
    #[must_use]
    pub const fn upload(mut self, rate: Rate) -> Self {
        self.body = Some(rate);
        self
    }

    /// How fast the client must take the response. Whatever it is, the kernel gives up a client
    /// that takes nothing at all after [`tcp_user_timeout`](super::EdgeLimits::tcp_user_timeout).
    #[must_use]
    pub const fn stream(mut self, rate: Rate) -> Self {
        self.write = Some(rate);
        self
    }
}

route_option::middleware!(Pace);

impl RouteOption for Pace {
    fn apply(&self, request: &ServiceRequest) -> Option<RequestContext> {
        let Self { body, write } = *self;
        if let Some(client) = Client::of(request) {
            client.set_rates(body, write);
        } else if let (Some(rate), Some(watched)) =
            (body, request.extensions().get::<Rc<Watched>>())
        {
            watched.set_rate(rate);
        }
        None
    }
}

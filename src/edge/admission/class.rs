//! How readily a request is shed: the route's word, and that of a trusted client.

use actix_web::dev::ServiceRequest;
use steadfast_actors::kernel::{Priority, RequestContext};

use crate::edge::deadline::Schedule;
use crate::edge::route_option::{self, RouteOption};

/// How many classes there are.
pub(super) const CLASSES: usize = 4;

/// The classes, most precious first.
pub(super) const ALL: [Priority; CLASSES] =
    [Priority::Critical, Priority::High, Priority::Normal, Priority::Sheddable];

/// The place of a class, 0 for the most precious.
pub(super) fn rank(priority: Priority) -> usize {
    ALL.iter().position(|class| *class == priority).unwrap_or(CLASSES - 1)
}

/// A class as it stands in headers and in the log.
pub(in crate::edge) fn word(priority: Priority) -> &'static str {
    let [critical, high, normal, sheddable] = ["critical", "high", "normal", "sheddable"];
    [critical, high, normal, sheddable].get(rank(priority)).copied().unwrap_or(sheddable)
}

/// The class that a header names.
pub(in crate::edge) fn parse(text: &str) -> Option<Priority> {
    ALL.into_iter().find(|class| word(*class).eq_ignore_ascii_case(text))
}

/// Says of a route, a resource or a scope how readily its requests are shed under load.
///
/// The innermost one decides; where there is none, requests are [`Priority::Normal`]. A class
/// that a [trusted](crate::edge::RequestGuard::trust_priority) client sends holds instead. The
/// class is part of the request's context, so it reaches actors, and other services with
/// [`forward_headers`](crate::edge::Ctx::forward_headers).
///
/// It works below a [`RequestGuard`](crate::edge::RequestGuard) or an [`Edge`](crate::edge::Edge).
/// A middleware between the two that waits before it calls on, as `from_fn` makes them, hides what
/// stands below it from admission, to which all of that is normal: wrap a scope with it, and this
/// around that. The probes of [`Steadfast::configure`](crate::Steadfast::configure) are known in
/// any case.
///
/// ```
/// use actix_web::{App, web};
/// use steadfast::edge::{Admit, Edge};
/// use steadfast::kernel::Priority;
///
/// async fn pay() -> &'static str { "paid" }
/// async fn suggest() -> &'static str { "try this" }
/// async fn events() -> &'static str { "a stream for hours" }
///
/// let app = App::new()
///     .route("/pay", web::post().to(pay).wrap(Admit::with(Priority::Critical)))
///     .route("/suggest", web::get().to(suggest).wrap(Admit::with(Priority::Sheddable)))
///     .route("/events", web::get().to(events).wrap(Admit::always()))
///     .wrap(Edge::new());
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Admit(Option<Priority>);

impl Admit {
    /// Of this class.
    #[must_use]
    pub const fn with(priority: Priority) -> Self {
        Self(Some(priority))
    }

    /// Neither counted nor refused, whatever the load: for probes, and for streams that would
    /// hold a place for hours. What such a route does must cost little.
    #[must_use]
    pub const fn always() -> Self {
        Self(None)
    }
}

route_option::middleware!(Admit);

impl RouteOption for Admit {
    fn apply(&self, request: &ServiceRequest) -> Option<RequestContext> {
        let schedule = Schedule::of(request)?;
        schedule.admit(self.0);
        Some(schedule.context())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_read_as_it_is_written_and_nothing_else_is_one() {
        for class in ALL {
            assert_eq!(parse(word(class)), Some(class));
            assert_eq!(parse(&word(class).to_uppercase()), Some(class));
        }
        for nonsense in ["", "0", "urgent", "critical ", "u=0"] {
            assert_eq!(parse(nonsense), None, "{nonsense}");
        }
        assert!(ALL.is_sorted());
    }
}

//! What may end a request from outside while it waits.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use steadfast_actors::kernel::{DeadlineTimer, RequestContext, Stopped};
use tokio::time::Instant;

use super::in_flight::InFlight;

/// Completes when the request should be given up. Costs nothing until a request first waits,
/// because most never do.
#[derive(Default)]
pub(super) struct Watch {
    waiting: Option<Waiting>,
}

struct Waiting {
    deadline: Option<Instant>,
    end: Pin<Box<dyn Future<Output = Stopped>>>,
}

impl Watch {
    /// Must be polled after each poll of the request that was pending.
    pub(super) fn poll(
        &mut self,
        context: &RequestContext,
        in_flight: &InFlight,
        deadline: Option<Instant>,
        cx: &mut Context<'_>,
    ) -> Poll<Stopped> {
        let stale = |waiting: &Waiting| waiting.deadline != deadline;
        if self.waiting.as_ref().is_none_or(stale) {
            let end = Box::pin(end(context.clone(), in_flight.clone(), deadline));
            self.waiting = Some(Waiting { deadline, end });
        }
        match &mut self.waiting {
            Some(waiting) => waiting.end.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}

async fn end(context: RequestContext, in_flight: InFlight, deadline: Option<Instant>) -> Stopped {
    let expired = async {
        match deadline {
            Some(at) => DeadlineTimer::at(at).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        () = in_flight.cut_token().cancelled() => Stopped::Shutdown,
        () = context.cancelled() => context.stopped().unwrap_or(Stopped::ClientGone),
        () = expired => Stopped::Deadline,
    }
}

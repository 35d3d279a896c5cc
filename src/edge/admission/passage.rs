//! The way of one request through admission.

use std::net::IpAddr;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_web::dev::ServiceRequest;
use steadfast_actors::kernel::Code;
use tokio::time::Instant;

use super::gate::{Entry, Permit, Turn};
use super::state::Reason;
use super::{Admission, client};
use crate::edge::deadline::Schedule;
use crate::edge::health;
use crate::problem::Problem;

/// One request between its arrival and the end of its response.
#[derive(Debug)]
pub(in crate::edge) struct Passage {
    client: Option<IpAddr>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Its route is not known yet, and with it its class.
    Arrived,
    Waits(Box<Turn>),
    Inside(Permit),
    /// Neither counted nor refused.
    Free,
}

impl Passage {
    pub(in crate::edge) fn begin(admission: &Admission, request: &ServiceRequest) -> Self {
        let limited = admission.0.rates.is_some();
        let client = if limited { client::of(request, &admission.0.connections) } else { None };
        let stage = if health::is_probe(request) { Stage::Free } else { Stage::Arrived };
        Self { client, stage }
    }

    /// Completes when the request may be served, or must be refused.
    pub(in crate::edge) fn poll(
        &mut self,
        admission: &Admission,
        schedule: &Schedule,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Problem>> {
        if matches!(self.stage, Stage::Arrived) {
            match self.arrive(admission, schedule) {
                Ok(stage) => self.stage = stage,
                Err(problem) => return Poll::Ready(Err(problem)),
            }
        }
        if let Stage::Waits(turn) = &mut self.stage {
            match ready!(turn.poll(cx)) {
                Ok(permit) => self.stage = Stage::Inside(permit),
                Err(reason) => return Poll::Ready(Err(admission.shed(reason))),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn arrive(&self, admission: &Admission, schedule: &Schedule) -> Result<Stage, Problem> {
        let Some(class) = schedule.class() else { return Ok(Stage::Free) };
        let inner = &admission.0;
        if let (Some(rates), Some(client)) = (&inner.rates, self.client) {
            rates.count(client, schedule.started()).map_err(|wait| admission.too_many(wait))?;
        }
        let Some(gate) = &inner.gate else { return Ok(Stage::Free) };
        match gate.enter(class, schedule.deadline(), schedule.started()) {
            Entry::Inside(permit) => Ok(Stage::Inside(permit)),
            Entry::Waits(turn) => Ok(Stage::Waits(Box::new(turn))),
            Entry::Refused(reason) => Err(admission.shed(reason)),
        }
    }

    pub(in crate::edge) const fn is_waiting(&self) -> bool {
        matches!(self.stage, Stage::Waits(_))
    }

    /// The head of the response is known.
    pub(in crate::edge) fn answered(&mut self) {
        if let Stage::Inside(permit) = &mut self.stage {
            permit.answered();
        }
    }
}

impl Admission {
    /// The refusal of one that the service has no capacity for.
    fn shed(&self, reason: Reason) -> Problem {
        self.0.watch.shed(Instant::now());
        let code = match reason {
            Reason::Full | Reason::Late => Code::new("admission.overloaded"),
            Reason::Hopeless | Reason::Expired => Code::new("admission.expired"),
        };
        // So that those who were refused together do not come back together.
        let wait = Duration::from_secs(fastrand::u64(1..=3));
        Problem::known(code).with_retry_after(wait).expected()
    }

    /// The refusal of one whose client has used up its quota.
    fn too_many(&self, wait: Duration) -> Problem {
        self.0.watch.too_many();
        let jitter = Duration::from_millis(fastrand::u64(0..=1000));
        let problem = Problem::known(Code::new("admission.rate_limited"));
        problem.with_retry_after(wait + jitter).expected()
    }
}

//! One published result: what a probe reads.

use std::sync::Arc;

use tokio::time::Instant;

use super::report::{Item, Status};
use super::spec::Plan;
use super::state::{Finding, State};

/// The standing of one check as it was last published. Judged by whoever reads it, at the
/// reader's time, so that nobody has to be alive for it to expire.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) plan: Arc<Plan>,
    state: State,
    reason: Option<Arc<str>>,
}

impl Entry {
    pub(super) fn new(plan: Arc<Plan>) -> Self {
        Self { plan, state: State::new(), reason: None }
    }

    /// The entry after one more result.
    pub(super) fn after(&self, finding: Finding, reason: Option<Arc<str>>, now: Instant) -> Self {
        // What stands, stands for its own reason.
        let reason = if finding == Finding::Unknown { self.reason.clone() } else { reason };
        let mut next = Self { plan: Arc::clone(&self.plan), state: self.state, reason };
        next.state.record(finding, now, &self.plan.rules);
        next
    }

    pub(super) fn status(&self, now: Instant) -> Status {
        self.state.status(now, self.plan.rules.ttl)
    }

    pub(super) fn item(&self, now: Instant) -> Item {
        let status = self.status(now);
        let age = self.state.age(now);
        let reason = match (status, age) {
            (Status::Unknown, None) => Some(Arc::from("not checked yet")),
            (Status::Unknown, Some(age)) => {
                Some(Arc::from(format!("the last result is {} ms old", age.as_millis())))
            }
            (Status::Up | Status::Degraded | Status::Down, _) => self.reason.clone(),
        };
        let name = Arc::clone(&self.plan.name);
        Item { name, status, critical: self.plan.critical, reason, age }
    }

    pub(super) fn is_in(&self, group: &str) -> bool {
        self.plan.groups.iter().any(|own| &**own == group)
    }
}

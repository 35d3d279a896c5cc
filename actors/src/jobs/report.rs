//! What processes tell each other with their beats: how fast they work, and what they watch.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::pool::Tally;
use super::shared::Shared;
use super::store::NodeRow;

/// What a process says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Report {
    queues: BTreeMap<Arc<str>, Totals>,
    dependencies: Vec<Arc<str>>,
}

/// Jobs of one queue, ever.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Totals {
    pub(super) enqueued: u64,
    pub(super) held_back: u64,
    pub(super) finished: u64,
    pub(super) failed: u64,
}

impl Report {
    pub(super) fn of(shared: &Shared) -> Self {
        let totals = |queue: &Arc<str>, tally: &Tally| (Arc::clone(queue), Totals::of(tally));
        Self {
            queues: shared.pools.values().map(|pool| totals(&pool.queue, &pool.tally)).collect(),
            dependencies: shared.dependencies.names().cloned().collect(),
        }
    }

    pub(super) fn encode(&self) -> Arc<str> {
        serde_json::to_string(self).unwrap_or_default().into()
    }

    fn decode(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_default()
    }
}

impl Totals {
    pub(super) fn of(tally: &Tally) -> Self {
        Self {
            enqueued: tally.enqueued.load(Ordering::Relaxed),
            held_back: tally.held_back.load(Ordering::Relaxed),
            finished: tally.finished.load(Ordering::Relaxed),
            failed: tally.failed.load(Ordering::Relaxed),
        }
    }

    pub(super) const fn and(self, other: Self) -> Self {
        Self {
            enqueued: self.enqueued.saturating_add(other.enqueued),
            held_back: self.held_back.saturating_add(other.held_back),
            finished: self.finished.saturating_add(other.finished),
            failed: self.failed.saturating_add(other.failed),
        }
    }
}

/// What the other processes said last.
#[derive(Debug, Default)]
pub(super) struct Peers(Mutex<Heard>);

#[derive(Debug, Default)]
struct Heard {
    queues: BTreeMap<Arc<str>, Totals>,
    dependencies: HashSet<Arc<str>>,
    count: u32,
}

impl Peers {
    /// What the others have done in a queue, ever.
    pub(super) fn totals(&self, queue: &str) -> Totals {
        self.0.lock().queues.get(queue).copied().unwrap_or_default()
    }

    /// The dependencies that another process watches.
    pub(super) fn dependencies(&self) -> HashSet<Arc<str>> {
        self.0.lock().dependencies.clone()
    }

    /// How many other processes there are.
    pub(super) fn count(&self) -> u32 {
        self.0.lock().count
    }
}

/// Takes in what all processes say.
pub(super) fn hear(shared: &Shared, nodes: &[NodeRow]) {
    let mut heard = Heard::default();
    for row in nodes.iter().filter(|row| row.id != shared.node) {
        let report = row.report.as_deref().map(Report::decode).unwrap_or_default();
        heard.count += 1;
        heard.dependencies.extend(report.dependencies);
        for (queue, totals) in report.queues {
            let sum = heard.queues.entry(queue).or_default();
            *sum = sum.and(totals);
        }
    }
    *shared.peers.0.lock() = heard;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_newer_process_says_besides_is_passed_over() {
        let text = r#"{"queues":{"mail":{"enqueued":3,"new":1}},"other":{}}"#;
        let report = Report::decode(text);
        assert_eq!(report.queues.get("mail").unwrap().enqueued, 3);
        assert_eq!(Report::decode("not json"), Report::default());
        assert_eq!(Report::decode(&report.encode()), report);
    }
}

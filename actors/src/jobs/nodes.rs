//! Which of the other processes are dead. Time in, verdicts out; no clock, no I/O.
//!
//! Two signs, both certain enough to give a process's jobs to others:
//!
//! - On this host the lock that a process holds while it lives is free: it died, this moment.
//! - Its beats have not gone on for so long *by our own steady clock*. A clock that somebody sets
//!   kills nobody, and neither does a process that merely sees old rows when it starts.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::NodeId;
use super::store::NodeRow;

/// What is known of the other processes.
#[derive(Debug, Default)]
pub(super) struct Nodes(HashMap<NodeId, Seen>);

#[derive(Debug)]
struct Seen {
    beats: i64,
    since: Instant,
    presence: Option<Arc<str>>,
}

impl Nodes {
    /// Takes in what the tables say of all processes; `own` is this one.
    pub(super) fn observe(&mut self, rows: &[NodeRow], own: NodeId, now: Instant) {
        self.0.retain(|id, _| rows.iter().any(|row| row.id == *id));
        for row in rows.iter().filter(|row| row.id != own) {
            let presence = row.presence.clone();
            let seen =
                self.0.entry(row.id).or_insert(Seen { beats: row.beats, since: now, presence });
            if seen.beats != row.beats {
                seen.beats = row.beats;
                seen.since = now;
            }
        }
    }

    /// The processes that are dead: those whose presence `is_dead`, and those that have not
    /// beaten for `expires_after`.
    pub(super) fn dead(
        &self,
        expires_after: Duration,
        now: Instant,
        is_dead: impl Fn(&str) -> bool,
    ) -> Vec<NodeId> {
        let gone = |seen: &Seen| {
            now.saturating_duration_since(seen.since) >= expires_after
                || seen.presence.as_deref().is_some_and(&is_dead)
        };
        self.0.iter().filter(|(_, seen)| gone(seen)).map(|(id, _)| *id).collect()
    }

    /// Where the presence of a process can be looked at.
    pub(super) fn presence(&self, id: NodeId) -> Option<Arc<str>> {
        self.0.get(&id)?.presence.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPIRES: Duration = Duration::from_secs(20);

    fn row(id: NodeId, beats: i64, presence: Option<&str>) -> NodeRow {
        let presence = presence.map(Arc::from);
        NodeRow { id, name: "test".into(), presence, beats, report: None }
    }

    #[test]
    fn a_process_that_goes_on_beating_lives() {
        let (own, other, mut now) = (NodeId::fresh(), NodeId::fresh(), Instant::now());
        let mut nodes = Nodes::default();
        for beats in 0..20 {
            nodes.observe(&[row(own, 0, None), row(other, beats, None)], own, now);
            now += Duration::from_secs(19);
            assert!(nodes.dead(EXPIRES, now, |_| false).is_empty(), "after {beats} beats");
        }
        now += Duration::from_secs(1);
        assert_eq!(nodes.dead(EXPIRES, now, |_| false), [other]);
    }

    #[test]
    fn old_rows_are_given_the_whole_time_before_they_count_as_dead() {
        let (own, other, now) = (NodeId::fresh(), NodeId::fresh(), Instant::now());
        let mut nodes = Nodes::default();
        nodes.observe(&[row(other, 7, None)], own, now);
        assert!(nodes.dead(EXPIRES, now + EXPIRES / 2, |_| false).is_empty());
        assert_eq!(nodes.dead(EXPIRES, now + EXPIRES, |_| false), [other]);
    }

    #[test]
    fn a_free_lock_is_death_at_once() {
        let (own, other, now) = (NodeId::fresh(), NodeId::fresh(), Instant::now());
        let mut nodes = Nodes::default();
        nodes.observe(&[row(own, 1, Some("own")), row(other, 1, Some("lock"))], own, now);
        assert_eq!(nodes.dead(EXPIRES, now, |presence| presence == "lock"), [other]);
        assert_eq!(nodes.presence(other).as_deref(), Some("lock"));
        nodes.observe(&[row(own, 1, None)], own, now);
        assert_eq!(nodes.presence(other), None, "it was forgotten");
    }
}

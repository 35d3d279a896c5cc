//! Tells other processes that a topic has something new.
//!
//! `NOTIFY` takes a lock for the whole cluster at commit, so one per row would put all commits
//! in a line. Here it is one per topic in 5 ms, after the commit. Only in a transaction that somebody
//! else has begun, whose commit nobody here sees, does [`NOTIFY`] have to be a part of it.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use super::listen::pause;
use super::{Inner, PgStore};
use crate::kernel::Fault;
use crate::store::StoreError;

/// The payload that says: something changed, and it is not said what.
pub(super) const EVERYTHING: &str = "*";

/// Tells of the second, a topic's [`payload`], on the first, a store's schema.
pub(crate) const NOTIFY: &str = "select pg_notify($1, $2)";

/// How long a topic is quiet after it was told of.
const COOLDOWN: Duration = Duration::from_millis(5);

/// LIMIT: a topic is a queue. Of more at once it is only told that something changed.
const TOPICS_MAX: usize = 1_024;

/// LIMIT: PostgreSQL takes payloads of less than 8,000 bytes.
const PAYLOAD_MAX: usize = 7_999;

/// What is to be told, shared by those who tell and the task that does it.
#[derive(Default)]
pub(super) struct Notifier {
    topics: Mutex<Topics>,
    bell: Notify,
}

impl Notifier {
    pub(super) fn notify(&self, topic: &str) {
        if self.topics.lock().want(payload(topic)) {
            self.bell.notify_one();
        }
    }

    /// Tells until the store is gone.
    pub(super) async fn run(self: Arc<Self>, store: Weak<Inner>) {
        let mut failures = 0;
        loop {
            let due = self.topics.lock().due(Instant::now());
            if due.topics.is_empty() {
                self.wait(due.next).await;
                continue;
            }
            let Some(inner) = store.upgrade() else { return };
            let told = self.tell(PgStore { inner }, due.topics).await;
            failures = if told.is_ok() { 0 } else { failures + 1 };
            if let Err(error) = told {
                tracing::debug!(error_code = error.code().as_str(), "store.notify_failed");
                sleep(pause(failures, fastrand::f64())).await;
            }
        }
    }

    /// Tells at once what is still to be told.
    pub(super) async fn flush(&self, store: PgStore) -> Result<(), StoreError> {
        let wanted = self.topics.lock().wanted();
        if wanted.is_empty() { Ok(()) } else { self.tell(store, wanted).await }
    }

    /// What failed for the moment only is told again.
    async fn tell(&self, store: PgStore, topics: Vec<Arc<str>>) -> Result<(), StoreError> {
        let told = send(&store, topics.clone()).await;
        if told.as_ref().is_err_and(StoreError::is_transient) {
            let mut waiting = self.topics.lock();
            topics.iter().for_each(|topic| {
                waiting.want(topic);
            });
        }
        told
    }

    async fn wait(&self, next: Option<Instant>) {
        match next {
            Some(at) => tokio::select! {
                () = self.bell.notified() => {}
                () = sleep_until(at) => {}
            },
            None => self.bell.notified().await,
        }
    }
}

async fn send(store: &PgStore, topics: Vec<Arc<str>>) -> Result<(), StoreError> {
    let channel: Arc<str> = store.schema().into();
    let sent = store.run(async move |client| {
        let told = "select pg_notify($1, topic) from unnest($2::text[]) as told(topic)";
        let statement = client.prepare_cached(told).await?;
        let topics: Vec<&str> = topics.iter().map(|topic| &**topic).collect();
        client.execute(&statement, &[&&*channel, &topics]).await?;
        Ok(())
    });
    sent.await
}

/// What is sent for a topic.
pub(crate) fn payload(topic: &str) -> &str {
    if topic.len() > PAYLOAD_MAX { EVERYTHING } else { topic }
}

/// Which topics are to be told of, and when. Pure.
#[derive(Debug, Default)]
struct Topics(HashMap<Arc<str>, Topic>);

#[derive(Debug, Clone, Copy)]
struct Topic {
    wanted: bool,
    told_at: Option<Instant>,
}

/// What is to be told now, and when to look again.
#[derive(Debug, PartialEq, Eq)]
struct Due {
    topics: Vec<Arc<str>>,
    next: Option<Instant>,
}

impl Topics {
    /// Whether this is news to whoever waits for them.
    fn want(&mut self, topic: &str) -> bool {
        let known = self.0.contains_key(topic);
        let topic = if known || self.0.len() < TOPICS_MAX { topic } else { EVERYTHING };
        match self.0.get_mut(topic) {
            Some(entry) => !std::mem::replace(&mut entry.wanted, true),
            None => {
                self.0.insert(topic.into(), Topic { wanted: true, told_at: None });
                true
            }
        }
    }

    /// Takes what is due, and forgets topics that cooled down unwanted.
    fn due(&mut self, now: Instant) -> Due {
        let mut due = Due { topics: Vec::new(), next: None };
        self.0.retain(|name, topic| {
            let cool_at = topic.told_at.map_or(now, |at| at + COOLDOWN);
            match (topic.wanted, cool_at <= now) {
                (true, true) => {
                    due.topics.push(Arc::clone(name));
                    *topic = Topic { wanted: false, told_at: Some(now) };
                }
                (true, false) => {
                    due.next = Some(due.next.map_or(cool_at, |next| next.min(cool_at)));
                }
                (false, cool) => return !cool,
            }
            true
        });
        due
    }

    /// Takes all that is wanted, cool or not.
    fn wanted(&mut self) -> Vec<Arc<str>> {
        let wanted = self.0.drain().filter(|(_, topic)| topic.wanted);
        wanted.map(|(name, _)| name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(due: &Due) -> Vec<&str> {
        due.topics.iter().map(|topic| &**topic).collect()
    }

    #[test]
    fn the_first_is_told_at_once_and_the_last_after_the_cooldown() {
        let (mut topics, now) = (Topics::default(), Instant::now());
        assert!(topics.want("mail"));
        assert_eq!(names(&topics.due(now)), ["mail"]);
        assert!(topics.want("mail"), "the task must hear that there is a trailing edge");
        assert!(!topics.want("mail"), "one wake is enough");
        let early = topics.due(now + COOLDOWN / 2);
        assert_eq!(early, Due { topics: vec![], next: Some(now + COOLDOWN) });
        assert_eq!(names(&topics.due(now + COOLDOWN)), ["mail"]);
        assert_eq!(topics.due(now + COOLDOWN), Due { topics: vec![], next: None });
    }

    #[test]
    fn one_topic_does_not_wait_for_the_cooldown_of_another() {
        let (mut topics, now) = (Topics::default(), Instant::now());
        topics.want("mail");
        topics.due(now);
        topics.want("push");
        assert_eq!(names(&topics.due(now + COOLDOWN / 2)), ["push"]);
    }

    #[test]
    fn topics_beyond_the_limit_become_everything_and_quiet_ones_make_room() {
        let (mut topics, now) = (Topics::default(), Instant::now());
        (0..TOPICS_MAX).for_each(|n| assert!(topics.want(&n.to_string())));
        assert!(topics.want("one more"));
        assert!(!topics.want("and another"));
        let due = topics.due(now);
        assert_eq!(due.topics.len(), TOPICS_MAX + 1);
        assert!(due.topics.contains(&EVERYTHING.into()));
        topics.due(now + COOLDOWN);
        assert!(topics.0.is_empty());
    }

    #[test]
    fn a_topic_too_long_for_a_payload_becomes_everything() {
        assert_eq!(payload(&"x".repeat(PAYLOAD_MAX)).len(), PAYLOAD_MAX);
        assert_eq!(payload(&"x".repeat(PAYLOAD_MAX + 1)), EVERYTHING);
    }
}

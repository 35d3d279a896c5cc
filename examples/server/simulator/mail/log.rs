//! The messages that were accepted.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use uuid::Uuid;

/// LIMIT: enough for every mail of a long load test; older ones are forgotten first.
const REMEMBERED: usize = 20_000;
/// LIMIT: characters of each text that are remembered.
const TEXT_MAX: usize = 2_000;

/// One accepted message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(in crate::simulator) struct Accepted {
    /// What the caller tells it by.
    key: Option<String>,
    to: String,
    subject: String,
    /// How often it would have been delivered: above 1, the recipient has it more than once.
    times: u64,
}

impl Accepted {
    /// A message that was asked for once. Of each text the first 2,000 characters are kept.
    pub(super) fn new(key: Option<&str>, to: &str, subject: &str) -> Self {
        let clip = |text: &str| text.chars().take(TEXT_MAX).collect::<String>();
        Self { key: key.map(clip), to: clip(to), subject: clip(subject), times: 1 }
    }
}

/// The key was used for another body.
#[derive(Debug)]
pub(super) struct KeyTaken;

/// The accepted messages, the last 20,000 of them, in order of arrival.
#[derive(Debug, Default)]
pub(super) struct MailLog(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    /// How many there were, each as often as it would have been delivered.
    accepted: u64,
    messages: VecDeque<Accepted>,
    /// The number of the next message.
    next: u64,
    /// By key; a key is remembered as long as its message.
    known: HashMap<String, Known>,
    hasher: RandomState,
}

/// A message that has a key.
#[derive(Debug, Clone, Copy)]
struct Known {
    number: u64,
    /// What was sent under it where keys are honoured: its id and the hash of its body. Two bodies
    /// in 2^64 are taken for the same.
    sent: Option<(Uuid, u64)>,
}

impl MailLog {
    /// Takes a message in, whatever came before; its id.
    pub(super) fn record(&self, message: Accepted) -> Uuid {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.deliver(message, None);
        Uuid::new_v4()
    }

    /// Takes a message in, unless one was sent under this idempotency key already; the id of that
    /// or of this.
    ///
    /// # Errors
    ///
    /// [`KeyTaken`], when that one had another body. Nothing is recorded.
    pub(super) fn record_once(
        &self,
        key: &str,
        body: &[u8],
        message: Accepted,
    ) -> Result<Uuid, KeyTaken> {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let body = entries.hasher.hash_one(body);
        match entries.known.get(key).and_then(|known| known.sent) {
            Some((id, sent)) if sent == body => Ok(id),
            Some(_) => Err(KeyTaken),
            None => {
                let id = Uuid::new_v4();
                entries.deliver(message, Some((id, body)));
                Ok(id)
            }
        }
    }

    /// How many were accepted in all, and those still remembered.
    pub(super) fn snapshot(&self) -> (u64, Vec<Accepted>) {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (entries.accepted, entries.messages.iter().cloned().collect())
    }
}

impl Entries {
    fn deliver(&mut self, message: Accepted, sent: Option<(Uuid, u64)>) {
        self.accepted += 1;
        let Some(key) = message.key.clone() else { return self.push(message) };
        if let Some(known) = self.known.get_mut(&key) {
            known.sent = known.sent.or(sent);
            let number = known.number;
            return self.count_again(number);
        }
        self.known.insert(key, Known { number: self.next, sent });
        self.push(message);
    }

    fn push(&mut self, message: Accepted) {
        if self.messages.len() == REMEMBERED
            && let Some(oldest) = self.messages.pop_front()
            && let Some(key) = oldest.key
        {
            self.known.remove(&key);
        }
        self.messages.push_back(message);
        self.next += 1;
    }

    fn count_again(&mut self, number: u64) {
        let remembered = u64::try_from(self.messages.len()).unwrap_or(u64::MAX);
        let oldest = self.next.saturating_sub(remembered);
        let place = usize::try_from(number.saturating_sub(oldest)).ok();
        if let Some(message) = place.and_then(|place| self.messages.get_mut(place)) {
            message.times += 1;
        }
    }
}

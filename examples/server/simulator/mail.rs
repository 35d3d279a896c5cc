//! The service `mail`: accepts messages and remembers which, so that a test can count them.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::connection::{Answer, Request};

/// LIMIT: enough for every mail of a long load test; older ones are forgotten first.
const REMEMBERED: usize = 20_000;

/// One accepted message. `times` above 1 means that it would have been delivered twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Accepted {
    key: String,
    to: String,
    subject: String,
    times: u64,
}

/// The part of a message that is remembered. Other members are allowed and ignored.
#[derive(Debug, Deserialize)]
struct Message {
    to: String,
    subject: String,
}

/// The accepted messages by idempotency key, the last 20,000 of them, in order of arrival.
#[derive(Debug, Default)]
pub(super) struct MailLog(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    accepted: u64,
    order: VecDeque<String>,
    by_key: HashMap<String, Accepted>,
}

impl MailLog {
    fn record(&self, key: &str, message: Message) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).record(key, message);
    }

    /// How many were accepted in all, and those still remembered.
    pub(super) fn snapshot(&self) -> (u64, Vec<Accepted>) {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let messages = entries.order.iter().filter_map(|key| entries.by_key.get(key).cloned());
        (entries.accepted, messages.collect())
    }
}

impl Entries {
    fn record(&mut self, key: &str, Message { to, subject }: Message) {
        self.accepted += 1;
        if let Some(known) = self.by_key.get_mut(key) {
            known.times += 1;
            return;
        }
        if self.order.len() == REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_key.remove(&oldest);
        }
        self.order.push_back(key.to_owned());
        self.by_key.insert(key.to_owned(), Accepted { key: key.to_owned(), to, subject, times: 1 });
    }
}

pub(super) fn answer(request: &Request, log: &MailLog) -> Answer {
    if request.path != "/mail/messages" {
        return Answer::problem(404, "Not Found");
    }
    if request.method != "POST" {
        return Answer::problem(405, "Method Not Allowed").with_header("allow", "POST");
    }
    let Some(key) = request.header("idempotency-key") else {
        return Answer::problem(400, "Bad Request");
    };
    let Ok(message) = serde_json::from_slice(&request.body) else {
        return Answer::problem(422, "Unprocessable Content");
    };
    log.record(key, message);
    Answer::json(202, &json!({ "key": key }))
}

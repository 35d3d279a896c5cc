//! What was accepted and then never run.
//!
//! An envelope that is dropped with its message still inside reports itself, whatever
//! the reason: the actor stopped, rests, or its thread died. Nothing on the hot path
//! pays for it.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use serde::Serialize;

use super::request_id::RequestId;

/// A message that was accepted and never run.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct DeadLetter {
    /// The actor it was for.
    pub actor: Arc<str>,
    /// The message's type.
    pub message: &'static str,
    /// Why it was not run.
    pub reason: DeadLetterReason,
    /// The request it belonged to, if any.
    #[serde(serialize_with = "as_text")]
    pub request_id: Option<RequestId>,
    /// How long it had waited, for one message in 64: reading the clock for each would
    /// cost more than sending it.
    pub waited: Option<Duration>,
}

/// Why a message was not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DeadLetterReason {
    /// Its actor had stopped.
    Stopped,
    /// Its actor rested after too many failures.
    Quarantined,
    /// A newer message took its place (`Overflow::DropOldest`).
    Displaced,
}

fn as_text<S: serde::Serializer>(id: &Option<RequestId>, out: S) -> Result<S::Ok, S::Error> {
    match id {
        Some(id) => out.serialize_some(id.as_str()),
        None => out.serialize_none(),
    }
}

thread_local! {
    static IN_HOOK: Cell<bool> = const { Cell::new(false) };
}

type Hook = Arc<dyn Fn(&DeadLetter) + Send + Sync>;

/// The last dead letters of a tree, their number, and a hook for each.
pub struct DeadLetters {
    recent: Mutex<VecDeque<DeadLetter>>,
    total: AtomicU64,
    hook: RwLock<Option<Hook>>,
}

impl DeadLetters {
    /// How many of the last ones are kept.
    pub const KEPT: usize = 256;

    pub(crate) fn new() -> Self {
        Self {
            recent: Mutex::new(VecDeque::new()),
            total: AtomicU64::new(0),
            hook: RwLock::new(None),
        }
    }

    /// The last ones, oldest first, at most [`DeadLetters::KEPT`].
    #[must_use]
    pub fn recent(&self) -> Vec<DeadLetter> {
        self.recent.lock().iter().cloned().collect()
    }

    /// How many there have been since the start.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Calls `hook` for each from now on. It runs wherever the message is dropped, often
    /// on an actor's thread: it must be quick and must not block. A panic in it is
    /// caught and ignored. It is not called for dead letters that it causes itself.
    pub fn on_each(&self, hook: impl Fn(&DeadLetter) + Send + Sync + 'static) {
        *self.hook.write() = Some(Arc::new(hook));
    }

    pub(crate) fn report(&self, letter: DeadLetter) {
        self.total.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(
            actor = &*letter.actor,
            message = letter.message,
            reason = ?letter.reason,
            request_id = letter.request_id.as_ref().map(RequestId::as_str),
            "actor.dead_letter"
        );
        let hook = self.hook.read().clone();
        // A hook that sends may make dead letters of its own: those are counted and kept, but
        // it is not called for them, or it would never return.
        if let Some(hook) = hook
            && let Ok(false) = IN_HOOK.try_with(|inside| inside.replace(true))
        {
            // A user's hook must not take down the actor whose mailbox is being emptied.
            let _panicked = super::panic::catch(|| hook(&letter));
            let _ending = IN_HOOK.try_with(|inside| inside.set(false));
        }
        let mut recent = self.recent.lock();
        if recent.len() == Self::KEPT {
            recent.pop_front();
        }
        recent.push_back(letter);
    }
}

impl fmt::Debug for DeadLetters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetters").field("total", &self.total()).finish_non_exhaustive()
    }
}

//! Who waits for new rows, and how they are told.
//!
//! A wake is a hint and never the truth: whoever waits also looks by itself now and then.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// The wakes of one store: one bell per topic. Cheap to clone; clones share the bells.
#[derive(Clone, Default)]
pub struct Wakes(Arc<Mutex<HashMap<Arc<str>, Arc<Notify>>>>);

impl Wakes {
    /// LIMIT: a topic is a queue, and nobody declares so many.
    const TOPICS_MAX: usize = 4_096;

    /// The bell of one topic. Wait on `notified()`; a wake that nobody waited for is kept for
    /// the next who does.
    #[must_use]
    pub fn bell(&self, topic: &str) -> Arc<Notify> {
        let mut bells = self.0.lock();
        if let Some(bell) = bells.get(topic) {
            return Arc::clone(bell);
        }
        let bell = Arc::<Notify>::default();
        if bells.len() < Self::TOPICS_MAX {
            bells.insert(topic.into(), Arc::clone(&bell));
        }
        bell
    }

    /// Wakes who waits for this topic.
    pub fn wake(&self, topic: &str) {
        if let Some(bell) = self.0.lock().get(topic) {
            bell.notify_one();
        }
    }

    /// Wakes everybody: something changed, and nobody knows what.
    pub fn wake_all(&self) {
        self.0.lock().values().for_each(|bell| bell.notify_one());
    }
}

impl fmt::Debug for Wakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wakes").field("topics", &self.0.lock().len()).finish_non_exhaustive()
    }
}

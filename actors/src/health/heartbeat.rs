//! Whether every thread still turns its event loop.
//!
//! Each thread runs a timer task, its [`Pulse`], that writes down the time. One thread of the
//! operating system, which no event loop can block, looks at all of them. A loop that is stuck
//! in a handler cannot write, and the watcher says whose it is.
//!
//! The watcher counts silence in its own turns: while the whole process sleeps (a stopped
//! container, a paused machine) the watcher sleeps too, so waking up is not taken for a wedge.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use parking_lot::RwLock;

use super::report::{Item, Report, Status};

/// LIMIT: one slot per event loop; a process has far fewer.
const PULSES_MAX: usize = 1024;

/// Watches the event loops of one process. Cheap to clone; the watcher ends with the last clone
/// and the last [`Pulse`].
#[derive(Clone)]
pub struct Heartbeats(Arc<Shared>);

struct Shared {
    epoch: Instant,
    wedged_after: Duration,
    every: Duration,
    slots: RwLock<Vec<Arc<Slot>>>,
    /// Milliseconds from `epoch` to the watcher's last turn.
    watched: AtomicU64,
    quit: Arc<Quit>,
}

struct Slot {
    name: Arc<str>,
    /// Milliseconds from `epoch` to the loop's last turn.
    beat: AtomicU64,
    /// Milliseconds of silence, as counted by the watcher.
    silent: AtomicU64,
    wedged: AtomicBool,
}

#[derive(Default)]
struct Quit {
    asked: Mutex<bool>,
    wake: Condvar,
}

impl Heartbeats {
    /// Starts watching. A thread that is silent for `wedged_after` (10 s is a good value; 100 ms
    /// to 10 minutes, taken to the nearer end) counts as wedged. Each beats eight times as often.
    ///
    /// # Errors
    ///
    /// The operating system gave no thread.
    pub fn start(wedged_after: Duration) -> std::io::Result<Self> {
        let wedged_after = wedged_after.clamp(Duration::from_millis(100), Duration::from_secs(600));
        let quit = Arc::new(Quit::default());
        let shared = Arc::new(Shared {
            epoch: Instant::now(),
            wedged_after,
            every: wedged_after / 8,
            slots: RwLock::default(),
            watched: AtomicU64::new(0),
            quit: Arc::clone(&quit),
        });
        let watched = Arc::downgrade(&shared);
        let every = shared.every;
        std::thread::Builder::new().name("steadfast-watch".into()).spawn(move || {
            let mut before = Instant::now();
            while !quit.asked_within(every) {
                let Some(shared) = watched.upgrade() else { return };
                let now = Instant::now();
                shared.watch(now.saturating_duration_since(before));
                before = now;
            }
        })?;
        Ok(Self(shared))
    }

    /// The pulse of the thread called `name`, to be spawned on it. `None` when there are 1,024
    /// already.
    ///
    /// A thread that ends takes its pulse with it, and is then no longer watched.
    pub fn pulse(&self, name: impl Into<Arc<str>>) -> Option<Pulse> {
        let mut slots = self.0.slots.write();
        if slots.len() >= PULSES_MAX {
            return None;
        }
        let slot = Arc::new(Slot {
            name: name.into(),
            beat: AtomicU64::new(self.0.now()),
            silent: AtomicU64::new(0),
            wedged: AtomicBool::new(false),
        });
        slots.push(Arc::clone(&slot));
        drop(slots);
        Some(Pulse { slot, shared: Arc::clone(&self.0) })
    }

    /// One line per thread, and one for the watcher itself. Reads atomics only.
    #[must_use]
    pub fn liveness(&self) -> Report {
        let mut items = vec![self.0.watcher()];
        items.extend(self.0.slots.read().iter().map(|slot| slot.item()));
        Report::new(items)
    }
}

impl fmt::Debug for Heartbeats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Heartbeats")
            .field("wedged_after", &self.0.wedged_after)
            .field("threads", &self.0.slots.read().len())
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn now(&self) -> u64 {
        millis(self.epoch.elapsed())
    }

    /// One turn of the watcher, `elapsed` after the one before.
    fn watch(&self, elapsed: Duration) {
        let now = self.now();
        let before = self.watched.swap(now, Ordering::AcqRel);
        // The watcher may have slept with the whole process: count what it meant to wait.
        let elapsed = millis(elapsed.min(self.every * 2));
        for slot in self.slots.read().iter() {
            slot.observe(before, elapsed, millis(self.wedged_after));
        }
    }

    fn watcher(&self) -> Item {
        let silent = self.now().saturating_sub(self.watched.load(Ordering::Acquire));
        let limit = millis(self.wedged_after) * 2;
        if silent <= limit {
            return Item::new("watcher", Status::Up);
        }
        Item::new("watcher", Status::Unknown).because(format!("has not looked for {silent} ms"))
    }
}

impl Slot {
    /// Counts silence up, or back to nothing when the loop turned since `before`.
    fn observe(&self, before: u64, elapsed: u64, limit: u64) {
        let turned = self.beat.load(Ordering::Acquire) >= before;
        let silent = if turned { 0 } else { self.silent.load(Ordering::Relaxed) + elapsed };
        self.silent.store(silent, Ordering::Release);
        let wedged = silent >= limit;
        if self.wedged.swap(wedged, Ordering::AcqRel) != wedged {
            if wedged {
                tracing::error!(thread = %self.name, silent_ms = silent, "health.thread_wedged");
            } else {
                tracing::info!(thread = %self.name, "health.thread_recovered");
            }
        }
    }

    fn item(&self) -> Item {
        let name = Arc::clone(&self.name);
        if !self.wedged.load(Ordering::Acquire) {
            return Item::new(name, Status::Up);
        }
        let silent = self.silent.load(Ordering::Acquire);
        let reason = format!("its event loop has not turned for {silent} ms");
        Item::new(name, Status::Down).because(reason)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.quit.ask();
    }
}

impl Quit {
    fn ask(&self) {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.wake.notify_all();
    }

    fn asked_within(&self, wait: Duration) -> bool {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.wake.wait_timeout_while(asked, wait, |asked| !*asked);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// The heartbeat of one thread. Dropping it ends the watch over that thread.
pub struct Pulse {
    slot: Arc<Slot>,
    shared: Arc<Shared>,
}

impl Pulse {
    /// Notes that the event loop turned.
    pub fn beat(&self) {
        self.slot.beat.store(self.shared.now(), Ordering::Release);
    }

    /// Beats for ever: spawn it on the event loop that is to be watched.
    ///
    /// # Cancel safety
    ///
    /// Dropping it ends the watch over that thread.
    pub async fn run(self) {
        loop {
            self.beat();
            tokio::time::sleep(self.shared.every).await;
        }
    }
}

impl fmt::Debug for Pulse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pulse").field("name", &self.slot.name).finish_non_exhaustive()
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.shared.slots.write().retain(|slot| !Arc::ptr_eq(slot, &self.slot));
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A watcher that has its turns only when the test says so, and one silent thread.
    fn silent_thread() -> (Heartbeats, Pulse) {
        let beats = Heartbeats::start(Duration::from_secs(600)).unwrap();
        let pulse = beats.pulse("worker").unwrap();
        // Turns are told apart by the millisecond.
        std::thread::park_timeout(Duration::from_millis(5));
        beats.0.watch(Duration::ZERO);
        (beats, pulse)
    }

    #[test]
    fn silence_adds_up_turn_by_turn() {
        let (beats, _pulse) = silent_thread();
        for _ in 0..7 {
            beats.0.watch(Duration::from_secs(75));
            assert!(beats.liveness().is_ready());
        }
        beats.0.watch(Duration::from_secs(75));
        let report = beats.liveness();
        assert_eq!(report.status, Status::Down);
        let reason = report.items[1].reason.as_deref();
        assert_eq!(reason, Some("its event loop has not turned for 600000 ms"));
    }

    #[test]
    fn a_pause_of_the_whole_process_is_not_taken_for_a_wedge() {
        let (beats, pulse) = silent_thread();
        beats.0.watch(Duration::from_secs(24 * 3600));
        assert!(beats.liveness().is_ready(), "one long turn of the watcher is no proof");
        std::thread::park_timeout(Duration::from_millis(5));
        pulse.beat();
        beats.0.watch(Duration::from_secs(75));
        assert!(beats.liveness().is_ready());
    }
}

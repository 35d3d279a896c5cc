//! Which fill may run now, which waits, and which key must rest. Pure: time and
//! chance come in, decisions go out.
//!
//! | a fill is offered when | then |
//! |---|---|
//! | the cache is closed | refused, `Closed` |
//! | its key cools down, or is being tried | refused, `Cooldown` |
//! | another fill waits for it (nested) | starts, on that fill's permit |
//! | a permit is free | starts |
//! | the queue has room | waits; background fills behind all others |
//! | the queue is full, it is not in the background, and a background fill waits | takes that one's place |
//! | the queue is full | refused, `Overloaded` |
//!
//! | a key | on | becomes |
//! |---|---|---|
//! | (unknown) | failure | cooling, for the first pause |
//! | cooling | its time has passed | due |
//! | due | a fill starts | trying |
//! | trying | success | (unknown) |
//! | trying | failure | cooling, for the next pause |
//! | trying | dropped without a verdict | due |

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use foldhash::quality::RandomState;
use lru::LruCache;
use tokio::time::Instant;

use super::error::FillError;
use super::loader::Key;
use crate::kernel::Backoff;

/// LIMIT: keys whose failures are remembered. A key pushed out may be tried sooner.
const COOLING_MAX: usize = 4096;

/// LIMIT: a longer wait than this is not believed, whatever the source asks for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(600);

/// The bounds within which [`Admission`] decides.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) max_fills: usize,
    pub(super) max_queue: usize,
    /// Longest stay in the queue.
    pub(super) max_wait: Duration,
    pub(super) cooldown: Backoff,
}

/// Who asks for a fill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Callers wait for it.
    Foreground,
    /// An old value was served meanwhile.
    Background,
    /// A fill that holds a permit already waits for it. It must not queue, or the two
    /// could wait for each other.
    Nested,
}

/// The right to run one fill; handed back with [`Admission::give_back`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Permit {
    pub(super) attempt: u32,
    counted: bool,
    began: Instant,
}

/// How a fill ended.
#[derive(Debug)]
pub(super) enum End {
    Succeeded,
    Failed {
        error: Arc<FillError>,
        retry_after: Option<Duration>,
    },
    /// Dropped before it had a result: says nothing about the source.
    NoVerdict,
}

/// What became of an offered fill.
#[derive(Debug)]
pub(super) enum Verdict<T> {
    Start(T, Permit),
    /// It waits; the background fill that made room for it was shed.
    Queued {
        shed: Option<(T, FillError)>,
    },
    Refused(T, FillError),
}

/// What can go on with the permits that are free.
#[derive(Debug)]
pub(super) struct Next<T> {
    pub(super) start: Vec<(T, Permit)>,
    pub(super) refused: Vec<(T, FillError)>,
}

struct Queued<K, T> {
    key: K,
    ticket: T,
    since: Instant,
}

struct Cooling {
    failures: u32,
    until: Instant,
    trying: bool,
    last: Arc<FillError>,
}

/// Permits, queue and cool-downs of one cache.
pub(super) struct Admission<K: Key, T> {
    limits: Limits,
    running: usize,
    foreground: VecDeque<Queued<K, T>>,
    background: VecDeque<Queued<K, T>>,
    cooling: LruCache<K, Cooling, RandomState>,
    /// Moving mean of how long a fill holds its permit.
    mean: Duration,
    closed: bool,
}

impl<K: Key, T> Admission<K, T> {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            running: 0,
            foreground: VecDeque::new(),
            background: VecDeque::new(),
            cooling: LruCache::unbounded_with_hasher(RandomState::default()),
            mean: Duration::from_millis(100),
            closed: false,
        }
    }

    /// Fills that hold a permit of their own.
    pub(super) const fn running(&self) -> usize {
        self.running
    }

    /// Fills that wait for one.
    pub(super) fn queued(&self) -> usize {
        self.foreground.len() + self.background.len()
    }

    /// Asks to run the fill of `key` that `ticket` stands for.
    pub(super) fn offer(&mut self, key: K, ticket: T, class: Class, now: Instant) -> Verdict<T> {
        if self.closed {
            return Verdict::Refused(ticket, FillError::Closed);
        }
        if let Some(error) = self.cooling(&key, now) {
            return Verdict::Refused(ticket, error);
        }
        let counted = class != Class::Nested;
        if !counted || self.running < self.limits.max_fills {
            return Verdict::Start(ticket, self.permit(&key, counted, now));
        }
        let full = self.queued() >= self.limits.max_queue;
        let shed = match (full, class) {
            (false, _) => None,
            (true, Class::Foreground) if !self.background.is_empty() => {
                let overloaded = self.overloaded();
                self.background.pop_back().map(|queued| (queued.ticket, overloaded))
            }
            (true, _) => return Verdict::Refused(ticket, self.overloaded()),
        };
        let queue = match class {
            Class::Background => &mut self.background,
            Class::Foreground | Class::Nested => &mut self.foreground,
        };
        queue.push_back(Queued { key, ticket, since: now });
        Verdict::Queued { shed }
    }

    /// Takes a fill for which a running one now waits out of the queue and offers it
    /// again as nested. `None` if it is not queued.
    pub(super) fn promote(
        &mut self,
        wanted: impl Fn(&T) -> bool,
        now: Instant,
    ) -> Option<Verdict<T>> {
        let take = |queue: &mut VecDeque<Queued<K, T>>| {
            let index = queue.iter().position(|queued| wanted(&queued.ticket))?;
            queue.remove(index)
        };
        let queued = take(&mut self.foreground).or_else(|| take(&mut self.background))?;
        Some(self.offer(queued.key, queued.ticket, Class::Nested, now))
    }

    /// Takes a permit back, with what its fill came to. `chance` is in `0.0..=1.0`.
    pub(super) fn give_back(
        &mut self,
        key: &K,
        permit: &Permit,
        end: End,
        now: Instant,
        chance: f64,
    ) {
        self.settle(key, end, now, chance);
        if permit.counted {
            self.running = self.running.saturating_sub(1);
            let held = now.saturating_duration_since(permit.began);
            self.mean = (self.mean * 7 + held) / 8;
        }
    }

    /// Starts what the free permits allow.
    pub(super) fn pump(&mut self, now: Instant) -> Next<T> {
        let mut next = Next { start: Vec::new(), refused: Vec::new() };
        while self.running < self.limits.max_fills {
            let queued = self.foreground.pop_front().or_else(|| self.background.pop_front());
            let Some(Queued { key, ticket, .. }) = queued else { break };
            match self.cooling(&key, now) {
                Some(error) => next.refused.push((ticket, error)),
                None => next.start.push((ticket, self.permit(&key, true, now))),
            }
        }
        next
    }

    /// Why no fill of this key may begin now, if that is so.
    pub(super) fn cooling(&self, key: &K, now: Instant) -> Option<FillError> {
        let cooling = self.cooling.peek(key)?;
        let left = cooling.until.saturating_duration_since(now);
        let retry_after = if cooling.trying { self.limits.cooldown.min } else { left };
        let rests = cooling.trying || !left.is_zero();
        rests.then(|| FillError::Cooldown { retry_after, last: Arc::clone(&cooling.last) })
    }

    /// Forgets a key's failures, because somebody put a value there.
    pub(super) fn forgive(&mut self, key: &K) {
        self.cooling.pop(key);
    }

    /// Gives up on what has waited too long, and forgets failures of long ago.
    pub(super) fn sweep(&mut self, now: Instant) -> Vec<(T, FillError)> {
        let overloaded = self.overloaded();
        let mut late = Vec::new();
        for queue in [&mut self.foreground, &mut self.background] {
            let max = self.limits.max_wait;
            let is_late =
                |queued: &Queued<K, T>| now.saturating_duration_since(queued.since) >= max;
            while queue.front().is_some_and(is_late) {
                late.extend(queue.pop_front().map(|queued| (queued.ticket, overloaded.clone())));
            }
        }
        let forget_after = self.limits.cooldown.max * 2;
        let is_old = |cooling: &Cooling| !cooling.trying && now >= cooling.until + forget_after;
        while self.cooling.peek_lru().is_some_and(|(_, cooling)| is_old(cooling)) {
            self.cooling.pop_lru();
        }
        late
    }

    /// Refuses everything from now on and gives up what is queued.
    pub(super) fn close(&mut self) -> Vec<T> {
        self.closed = true;
        let queued = self.foreground.drain(..).chain(self.background.drain(..));
        queued.map(|queued| queued.ticket).collect()
    }

    fn permit(&mut self, key: &K, counted: bool, now: Instant) -> Permit {
        self.running += usize::from(counted);
        let attempt = self.cooling.peek_mut(key).map_or(1, |cooling| {
            cooling.trying = true;
            cooling.failures.saturating_add(1)
        });
        Permit { attempt, counted, began: now }
    }

    fn settle(&mut self, key: &K, end: End, now: Instant, chance: f64) {
        match end {
            End::Succeeded => self.forgive(key),
            End::NoVerdict => {
                if let Some(cooling) = self.cooling.peek_mut(key) {
                    cooling.trying = false;
                }
            }
            End::Failed { error, retry_after } => {
                let before = self.cooling.pop(key).map_or(0, |cooling| cooling.failures);
                let asked = retry_after.unwrap_or_default().min(RETRY_AFTER_MAX);
                let pause = self.limits.cooldown.pause(before, chance).max(asked);
                let failures = before.saturating_add(1);
                let cooling = Cooling { failures, until: now + pause, trying: false, last: error };
                self.cooling.put(key.clone(), cooling);
                if self.cooling.len() > COOLING_MAX {
                    self.cooling.pop_lru();
                }
            }
        }
    }

    /// How long until a queue of this length has been worked off, roughly.
    fn overloaded(&self) -> FillError {
        let rounds = self.queued() / self.limits.max_fills.max(1) + 1;
        let guess = self.mean.saturating_mul(u32::try_from(rounds).unwrap_or(u32::MAX));
        let retry_after = guess.clamp(Duration::from_millis(100), Duration::from_secs(30));
        FillError::Overloaded { retry_after }
    }
}

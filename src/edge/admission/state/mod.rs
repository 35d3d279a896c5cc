//! Who waits for a place, who is next, and who is refused: time in, effects out.
//!
//! Each class has a lane, and a lane is served only while those above it are empty. So under
//! load the lowest lane stands still first, is overloaded first, and sheds first.

use std::collections::VecDeque;
use std::time::Duration;

use steadfast_actors::kernel::Priority;
use tokio::time::Instant;

use super::class::{ALL, CLASSES, rank};
use super::limits::QueueLimits;

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// The queue has no room, or its room was needed by a higher class.
    Full,
    /// It waited too long in a queue that stands.
    Late,
    /// Its turn would come after its deadline.
    Hopeless,
    /// Its deadline came before its turn.
    Expired,
}

/// One that is refused: its class, why, and who.
pub(super) type Refused<T> = (Priority, Reason, T);

/// The queue of those that wait. `T` is whoever waits.
#[derive(Debug)]
pub(super) struct Queue<T> {
    limits: QueueLimits,
    lanes: [Lane<T>; CLASSES],
    length: usize,
    last_id: u64,
    pace: Pace,
}

/// Those of one class, oldest first. Ids grow with age, so they are in order.
#[derive(Debug)]
struct Lane<T> {
    waiting: VecDeque<Waiting<T>>,
    /// Since when the oldest has waited for the target at least.
    slow_since: Option<Instant>,
    /// From a whole interval above the target until none waits.
    overloaded: bool,
}

#[derive(Debug)]
struct Waiting<T> {
    id: u64,
    since: Instant,
    deadline: Option<Instant>,
    who: T,
}

/// How fast places come free while somebody waits.
#[derive(Debug, Default)]
struct Pace {
    last: Option<Instant>,
    mean: Duration,
}

/// What becomes of one that asks to wait.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Offer<T> {
    /// It waits, under this id; perhaps instead of another.
    Waits(u64, Option<Refused<T>>),
    Refused(Reason),
}

impl<T> Queue<T> {
    pub(super) fn new(limits: QueueLimits) -> Self {
        let lane = |_| Lane { waiting: VecDeque::new(), slow_since: None, overloaded: false };
        let lanes = std::array::from_fn(lane);
        Self { limits, lanes, length: 0, last_id: 0, pace: Pace::default() }
    }

    pub(super) const fn len(&self) -> usize {
        self.length
    }

    /// Lets `who` wait, unless it would be for nothing.
    pub(super) fn offer(
        &mut self,
        who: T,
        class: Priority,
        deadline: Option<Instant>,
        now: Instant,
    ) -> Offer<T> {
        if let Some(lane) = self.lanes.get_mut(rank(class)) {
            // The last that waited may have been served since anybody looked.
            lane.look(now, &self.limits);
        }
        let left = deadline.map(|at| at.saturating_duration_since(now));
        if left.is_some_and(|left| left.is_zero() || left < self.wait(class)) {
            return Offer::Refused(Reason::Hopeless);
        }
        let pushed_out = if self.length < self.limits.max {
            None
        } else {
            match self.push_out_below(class) {
                Some(pushed_out) => Some(pushed_out),
                None => return Offer::Refused(Reason::Full),
            }
        };
        self.last_id += 1;
        let id = self.last_id;
        if let Some(lane) = self.lanes.get_mut(rank(class)) {
            lane.waiting.push_back(Waiting { id, since: now, deadline, who });
            self.length += 1;
        }
        Offer::Waits(id, pushed_out)
    }

    /// How long one of this class would wait, as far as can be told. Nobody waits longer than
    /// target and interval together.
    fn wait(&self, class: Priority) -> Duration {
        let above = self.lanes.iter().take(rank(class)).map(|lane| lane.waiting.len()).sum();
        let own = self.lanes.get(rank(class));
        // In an overloaded lane the newest is the next.
        let before = own.filter(|lane| !lane.overloaded).map_or(0, |lane| lane.waiting.len());
        let turns = usize::saturating_add(above, before).saturating_add(1);
        let turns = u32::try_from(turns).unwrap_or(u32::MAX);
        let longest = self.limits.target + self.limits.interval;
        self.pace.mean.saturating_mul(turns).min(longest)
    }

    /// Makes room: the last of the lowest class goes, if that is below this one.
    fn push_out_below(&mut self, class: Priority) -> Option<Refused<T>> {
        let classes = ALL.into_iter().enumerate().skip(rank(class) + 1).rev();
        for (rank, class) in classes {
            let Some(lane) = self.lanes.get_mut(rank) else { continue };
            // The one whose turn would come last.
            let last =
                if lane.overloaded { lane.waiting.pop_front() } else { lane.waiting.pop_back() };
            if let Some(last) = last {
                self.length -= 1;
                return Some((class, Reason::Full, last.who));
            }
        }
        None
    }

    /// Who is next, now that a place is free. Adds those that are refused on the way.
    pub(super) fn next(
        &mut self,
        now: Instant,
        refused: &mut Vec<Refused<T>>,
    ) -> Option<(Priority, T)> {
        self.look(now, refused);
        let mut found = None;
        for (lane, class) in self.lanes.iter_mut().zip(ALL) {
            while let Some(next) = lane.take() {
                self.length -= 1;
                if next.deadline.is_some_and(|at| at <= now) {
                    refused.push((class, Reason::Expired, next.who));
                    continue;
                }
                found = Some((class, next.who));
                break;
            }
            if found.is_some() {
                break;
            }
        }
        self.pace.turn(now, self.length > 0);
        found
    }

    /// Refuses those that have waited too long in lanes that stand.
    pub(super) fn look(&mut self, now: Instant, refused: &mut Vec<Refused<T>>) {
        for (lane, class) in self.lanes.iter_mut().zip(ALL) {
            lane.look(now, &self.limits);
            while let Some(late) = lane.take_late(now, self.limits.target) {
                self.length -= 1;
                refused.push((class, Reason::Late, late.who));
            }
        }
    }

    /// Takes one out that gave up, or whose deadline came. `None` if it waits no more.
    pub(super) fn remove(&mut self, class: Priority, id: u64) -> Option<T> {
        let lane = self.lanes.get_mut(rank(class))?;
        let place = lane.waiting.binary_search_by_key(&id, |waiting| waiting.id).ok()?;
        let gone = lane.waiting.remove(place)?;
        self.length -= 1;
        Some(gone.who)
    }
}

impl<T> Lane<T> {
    /// First come, first served; but under overload the newest, which is the one most likely to
    /// be still in time.
    fn take(&mut self) -> Option<Waiting<T>> {
        if self.overloaded { self.waiting.pop_back() } else { self.waiting.pop_front() }
    }

    fn look(&mut self, now: Instant, limits: &QueueLimits) {
        let Some(oldest) = self.waiting.front() else {
            (self.slow_since, self.overloaded) = (None, false);
            return;
        };
        let slow_at = oldest.since + limits.target;
        if slow_at > now {
            self.slow_since = None;
            return;
        }
        // Whoever was the oldest before has waited even longer.
        let since = *self.slow_since.get_or_insert(slow_at);
        self.overloaded |= now.saturating_duration_since(since) >= limits.interval;
    }

    fn take_late(&mut self, now: Instant, target: Duration) -> Option<Waiting<T>> {
        let late = |oldest: &&Waiting<T>| oldest.since + target <= now;
        self.waiting.front().filter(late).filter(|_| self.overloaded)?;
        self.waiting.pop_front()
    }
}

impl Pace {
    /// A place came free and was taken, or nobody was there to take it.
    fn turn(&mut self, now: Instant, busy: bool) {
        if let Some(last) = self.last {
            let gap = now.saturating_duration_since(last);
            // LIMIT: an eighth, so that one odd gap does not decide.
            let known = !self.mean.is_zero();
            self.mean = if known { (self.mean * 7 + gap) / 8 } else { gap };
        }
        self.last = busy.then_some(now);
    }
}

#[cfg(test)]
mod tests;

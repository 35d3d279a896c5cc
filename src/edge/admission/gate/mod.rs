//! The places, and the way to one: an atomic where there is room, the queue where there is none.
//!
//! INVARIANT: a place is only taken by a compare-and-swap against the limit, so there are never
//! more than the limit allowed when it was taken.
//!
//! INVARIANT: while somebody waits, nobody takes a place but through the queue.

mod turn;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use steadfast_actors::kernel::Priority;
use tokio::time::Instant;

use self::turn::Ticket;
use super::adapt::{self, Sample};
use super::counts::{Event, Tally};
use super::limits::AdmissionLimits;
use super::state::{Offer, Queue, Reason, Refused};

pub(super) use self::turn::Turn;

/// LIMIT: how often the limit is judged: often enough to follow a load, seldom enough that what
/// the last judgement did is seen by the next.
const JUDGED_EVERY: Duration = Duration::from_millis(500);

/// Shared by all workers.
#[derive(Debug)]
pub(super) struct Gate {
    serving: AtomicUsize,
    limit: AtomicUsize,
    /// The length of the queue.
    waiting: AtomicUsize,
    queue: Mutex<Queue<Arc<Ticket>>>,
    limits: AdmissionLimits,
    seen: Seen,
    pub(super) tally: Tally,
}

/// What was seen since the limit was judged last. A count that is lost in a race is no loss.
#[derive(Debug)]
struct Seen {
    began: Instant,
    /// Milliseconds after `began`.
    judge_at: AtomicU64,
    answers: AtomicU64,
    late: AtomicU64,
    peak: AtomicUsize,
}

/// What becomes of one that asks for a place.
#[derive(Debug)]
pub(super) enum Entry {
    Inside(Permit),
    Waits(Turn),
    Refused(Reason),
}

impl Gate {
    pub(super) fn new(limits: &AdmissionLimits, now: Instant) -> Arc<Self> {
        Arc::new(Self {
            serving: AtomicUsize::new(0),
            limit: AtomicUsize::new(limits.limit),
            waiting: AtomicUsize::new(0),
            queue: Mutex::new(Queue::new(limits.queue.clone())),
            limits: limits.clone(),
            seen: Seen {
                began: now,
                judge_at: AtomicU64::new(millis(JUDGED_EVERY)),
                answers: AtomicU64::new(0),
                late: AtomicU64::new(0),
                peak: AtomicUsize::new(0),
            },
            tally: Tally::default(),
        })
    }

    pub(super) fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    pub(super) fn serving(&self) -> usize {
        self.serving.load(Ordering::Relaxed)
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Asks for a place.
    pub(super) fn enter(
        self: &Arc<Self>,
        class: Priority,
        deadline: Option<Instant>,
        now: Instant,
    ) -> Entry {
        if self.waiting.load(Ordering::SeqCst) == 0 && self.take() {
            self.tally.count(class, Event::Admitted);
            return Entry::Inside(self.permit(now));
        }
        self.wait(class, deadline, now)
    }

    fn wait(self: &Arc<Self>, class: Priority, deadline: Option<Instant>, now: Instant) -> Entry {
        let ticket = Arc::new(Ticket::default());
        let mut told = Vec::new();
        let mut queue = self.queue.lock();
        let offer = queue.offer(Arc::clone(&ticket), class, deadline, now);
        let (id, pushed_out) = match offer {
            Offer::Waits(id, pushed_out) => (id, pushed_out),
            Offer::Refused(reason) => {
                self.tally.count(class, Event::Shed(reason));
                return Entry::Refused(reason);
            }
        };
        self.tally.count(class, Event::Queued);
        self.refuse(pushed_out, &mut told);
        // ORDER: counted before a place is asked for again: whoever gives one back from here on
        // looks into the queue, and what was given back before is seen below.
        self.serve(&mut queue, now, &mut told);
        drop(queue);
        wake(told);
        Entry::Waits(Turn::new(Arc::clone(self), ticket, (class, id), deadline, now))
    }

    /// Takes a place, if there is one.
    fn take(&self) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        let one_more = |serving: usize| (serving < limit).then_some(serving + 1);
        self.serving.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more).is_ok()
    }

    fn permit(self: &Arc<Self>, since: Instant) -> Permit {
        Permit { gate: Arc::clone(self), since, answered: false }
    }

    /// Gives a place back, to whoever is next.
    fn leave(&self) {
        self.serving.fetch_sub(1, Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.look(Instant::now());
        }
    }

    /// Does what is due in the queue.
    fn look(&self, now: Instant) {
        let mut told = Vec::new();
        let mut queue = self.queue.lock();
        let mut refused = Vec::new();
        queue.look(now, &mut refused);
        self.refuse(refused, &mut told);
        self.serve(&mut queue, now, &mut told);
        drop(queue);
        wake(told);
    }

    /// Gives free places to those who wait. Leaves the queue's length for others to see.
    fn serve(&self, queue: &mut Queue<Arc<Ticket>>, now: Instant, told: &mut Vec<Arc<Ticket>>) {
        let mut refused = Vec::new();
        loop {
            self.waiting.store(queue.len(), Ordering::SeqCst);
            if queue.len() == 0 || !self.take() {
                break;
            }
            match queue.next(now, &mut refused) {
                Some((class, ticket)) => {
                    self.tally.count(class, Event::Admitted);
                    ticket.settle(Ok(()));
                    told.push(ticket);
                }
                // Nobody is left, so the place is free for whoever comes.
                None => drop(self.serving.fetch_sub(1, Ordering::SeqCst)),
            }
        }
        self.refuse(refused, told);
    }

    fn refuse(
        &self,
        refused: impl IntoIterator<Item = Refused<Arc<Ticket>>>,
        told: &mut Vec<Arc<Ticket>>,
    ) {
        for (class, reason, ticket) in refused {
            self.tally.count(class, Event::Shed(reason));
            ticket.settle(Err(reason));
            told.push(ticket);
        }
    }

    /// One that was served has been answered, or given up after so long that it counts.
    fn saw(&self, took: Duration, now: Instant) {
        let Seen { began, judge_at, answers, late, peak } = &self.seen;
        let answered = answers.fetch_add(1, Ordering::Relaxed) + 1;
        if took > self.limits.target_p95 {
            late.fetch_add(1, Ordering::Relaxed);
        }
        peak.fetch_max(self.serving(), Ordering::Relaxed);
        let at = millis(now.saturating_duration_since(*began));
        let due = judge_at.load(Ordering::Relaxed);
        if at < due || answered < adapt::SAMPLES_MIN {
            return;
        }
        let next = at + millis(JUDGED_EVERY);
        let first = judge_at.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed);
        if first.is_ok() {
            self.judge(now);
        }
    }

    fn judge(&self, now: Instant) {
        let Seen { answers, late, peak, .. } = &self.seen;
        let sample = Sample {
            answers: answers.swap(0, Ordering::Relaxed),
            late: late.swap(0, Ordering::Relaxed),
            peak: peak.swap(0, Ordering::Relaxed),
        };
        let limit = self.limit();
        let next = adapt::next(limit, sample, &self.limits);
        self.limit.store(next, Ordering::SeqCst);
        if next != limit {
            tracing::debug!(limit = next, was = limit, ?sample, "admission.limit");
        }
        if next > limit {
            self.look(now);
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Outside of the lock: waking somebody runs code that is not ours.
fn wake(told: Vec<Arc<Ticket>>) {
    for ticket in told {
        ticket.wake();
    }
}

/// A place; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Permit {
    gate: Arc<Gate>,
    since: Instant,
    answered: bool,
}

impl Permit {
    /// The head of the response is known. The place is held on, for the body.
    pub(super) fn answered(&mut self) {
        self.answered = true;
        if self.gate.limits.is_adaptive() {
            let now = Instant::now();
            self.gate.saw(now.saturating_duration_since(self.since), now);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.answered && self.gate.limits.is_adaptive() {
            let now = Instant::now();
            let took = now.saturating_duration_since(self.since);
            // Clients that leave because we are slow are those that tell it best. One that left
            // sooner says nothing.
            if took > self.gate.limits.target_p95 {
                self.gate.saw(took, now);
            }
        }
        self.gate.leave();
    }
}

#[cfg(test)]
mod tests;

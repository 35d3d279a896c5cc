//! The places, and the way to one: an atomic where there is room, the queue where there is none.
//!
//! INVARIANT: a place is only taken by a compare-and-swap against the limit, so there are never
//! more than the limit allowed when it was taken.
//!
//! INVARIANT: while somebody waits, nobody takes a place but through the queue.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use steadfast_actors::kernel::{DeadlineTimer, Priority};
use tokio::time::Instant;

use super::adapt::{self, Sample};
use super::counts::{Event, Tally};
use super::limits::AdmissionLimits;
use super::state::{Offer, Queue, Reason, Refused};

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
        let queue = &self.limits.queue;
        let looks = [Some(now + queue.target), Some(now + queue.target + queue.interval), deadline];
        let gate = Arc::clone(self);
        Entry::Waits(Turn { gate, ticket, id, class, deadline, looks, timer: None, over: false })
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
                    ticket.settle(ADMITTED);
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
            ticket.settle(code(reason));
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
        ticket.waker.wake();
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

const WAITING: u8 = 0;
const ADMITTED: u8 = 1;

const fn code(reason: Reason) -> u8 {
    match reason {
        Reason::Full => 2,
        Reason::Late => 3,
        Reason::Hopeless => 4,
        Reason::Expired => 5,
    }
}

/// What one who waits and the gate both know. Settled once, under the queue's lock.
#[derive(Default)]
pub(super) struct Ticket {
    settled: AtomicU8,
    waker: AtomicWaker,
}

impl Ticket {
    fn settle(&self, how: u8) {
        self.settled.store(how, Ordering::Release);
    }

    fn outcome(&self) -> Option<Result<(), Reason>> {
        match self.settled.load(Ordering::Acquire) {
            WAITING => None,
            ADMITTED => Some(Ok(())),
            2 => Some(Err(Reason::Full)),
            3 => Some(Err(Reason::Late)),
            4 => Some(Err(Reason::Hopeless)),
            _ => Some(Err(Reason::Expired)),
        }
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ticket").field(&self.outcome()).finish()
    }
}

/// The turn of one who waits. Dropping it gives it up.
#[derive(Debug)]
pub(super) struct Turn {
    gate: Arc<Gate>,
    ticket: Arc<Ticket>,
    id: u64,
    class: Priority,
    deadline: Option<Instant>,
    /// When it might be refused; then the queue must be looked at, though no place came free.
    looks: [Option<Instant>; 3],
    timer: Option<DeadlineTimer>,
    over: bool,
}

impl Turn {
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Permit, Reason>> {
        loop {
            if let Some(outcome) = self.ticket.outcome() {
                return Poll::Ready(self.settled(outcome));
            }
            // ORDER: registered before it is asked again, so that no change is missed.
            self.ticket.waker.register(cx.waker());
            let now = Instant::now();
            if self.look(now) || self.ticket.outcome().is_some() {
                continue;
            }
            let Some(next) = self.looks.iter().flatten().min().copied() else {
                return Poll::Pending;
            };
            let timer = self.timer.get_or_insert_with(|| DeadlineTimer::at(next));
            if Pin::new(timer).poll(cx).is_pending() {
                return Poll::Pending;
            }
            // It fired a moment before the clock got there, or for an earlier look.
            self.timer = None;
        }
    }

    /// Looks into the queue if it is time to. Whether anything may have changed.
    fn look(&mut self, now: Instant) -> bool {
        let mut due = false;
        for look in &mut self.looks {
            due |= look.take_if(|at| *at <= now).is_some();
        }
        if !due {
            return false;
        }
        self.timer = None;
        if self.deadline.is_some_and(|at| at <= now) {
            self.expire();
        } else {
            self.gate.look(now);
        }
        true
    }

    /// Its deadline came. Perhaps its turn did so too, a moment ago: then it has it.
    fn expire(&self) {
        let mut queue = self.gate.queue.lock();
        if queue.remove(self.class, self.id).is_some() {
            self.gate.waiting.store(queue.len(), Ordering::SeqCst);
            self.gate.tally.count(self.class, Event::Shed(Reason::Expired));
            self.ticket.settle(code(Reason::Expired));
        }
    }

    fn settled(&mut self, outcome: Result<(), Reason>) -> Result<Permit, Reason> {
        self.over = true;
        outcome.map(|()| self.gate.permit(Instant::now()))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let mut queue = self.gate.queue.lock();
        if queue.remove(self.class, self.id).is_some() {
            self.gate.waiting.store(queue.len(), Ordering::SeqCst);
            self.gate.tally.count(self.class, Event::Gone);
            return;
        }
        drop(queue);
        // CANCEL: its turn had come and it was not there to see it: the place goes to the next.
        if self.ticket.outcome() == Some(Ok(())) {
            self.gate.leave();
        }
    }
}

#[cfg(test)]
mod tests;

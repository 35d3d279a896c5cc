//! The turn of one who waits: a ticket that the gate settles, and a timer for what is due though
//! no place comes free.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use steadfast_actors::kernel::{DeadlineTimer, Priority};
use tokio::time::Instant;

use super::{Gate, Permit};
use crate::edge::admission::counts::Event;
use crate::edge::admission::state::Reason;

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
    pub(super) fn settle(&self, outcome: Result<(), Reason>) {
        self.settled.store(outcome.map_or_else(code, |()| ADMITTED), Ordering::Release);
    }

    pub(super) fn wake(&self) {
        self.waker.wake();
    }

    pub(super) fn outcome(&self) -> Option<Result<(), Reason>> {
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
pub(in super::super) struct Turn {
    gate: Arc<Gate>,
    pub(super) ticket: Arc<Ticket>,
    id: u64,
    pub(super) class: Priority,
    deadline: Option<Instant>,
    /// When it might be refused; then the queue must be looked at, though no place came free.
    looks: [Option<Instant>; 3],
    timer: Option<DeadlineTimer>,
    over: bool,
}

impl Turn {
    pub(super) fn new(
        gate: Arc<Gate>,
        ticket: Arc<Ticket>,
        (class, id): (Priority, u64),
        deadline: Option<Instant>,
        now: Instant,
    ) -> Self {
        let queue = &gate.limits.queue;
        let looks = [Some(now + queue.target), Some(now + queue.target + queue.interval), deadline];
        Self { gate, ticket, id, class, deadline, looks, timer: None, over: false }
    }

    pub(in super::super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Permit, Reason>> {
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
            self.ticket.settle(Err(Reason::Expired));
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

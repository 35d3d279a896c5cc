//! Many threads at one breaker.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use tokio::sync::broadcast::error::TryRecvError;

use super::*;
use crate::breaker::Event;
use crate::breaker::operator::Command;

const THREADS: u64 = 4;
const PROBES: u16 = 5;

/// Probes known to hold a slot, by epoch: now, and at most.
type Slots = Mutex<BTreeMap<u64, (u16, u16)>>;

/// Makes one random call. Its slot is noted after it was taken, and struck off before it
/// is given back: so the note is never above the truth.
fn random_call(breaker: &Breaker, rng: &mut fastrand::Rng, slots: &Slots) {
    let Ok(permit) = breaker.try_acquire() else { return };
    let epoch = permit.epoch();
    {
        let mut slots = slots.lock().unwrap();
        let (held, most) = slots.entry(epoch).or_default();
        *held = held.saturating_add(1);
        *most = (*most).max(*held);
    }
    if rng.u8(..4) == 0 {
        std::thread::yield_now();
    }
    let gives_back = |slots: &Slots| {
        slots.lock().unwrap().get_mut(&epoch).unwrap().0 -= 1;
    };
    match rng.u8(..10) {
        0..=3 => permit.finish(Outcome::Success),
        4..=6 => permit.finish(Outcome::Failure),
        7 => {
            gives_back(slots);
            permit.finish(Outcome::Ignored);
        }
        8 => {
            gives_back(slots);
            permit.release();
        }
        _ => {
            gives_back(slots);
            drop(permit);
        }
    }
}

/// A round of random calls from all threads, while the clock goes on.
fn round(breaker: &Breaker, clock: &ManualClock, seed: u64, slots: &Slots) {
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let mut rng = fastrand::Rng::with_seed(seed * THREADS + thread);
            scope.spawn(move || {
                for call in 0..2_000 {
                    random_call(breaker, &mut rng, slots);
                    if thread == 0 && call % 100 == 0 {
                        clock.advance(MILLI);
                    }
                }
            });
        }
    });
}

/// All events so far, and proof that none was lost.
fn drain(receiver: &mut tokio::sync::broadcast::Receiver<Event>, into: &mut Vec<Event>) {
    loop {
        match receiver.try_recv() {
            Ok(event) => into.push(event),
            Err(TryRecvError::Empty) => return,
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn a_storm_never_admits_too_many_probes_nor_loses_a_slot_nor_a_transition() {
    let (breaker, clock) = breaker(|builder| {
        let pauses = builder.open_for(MILLI).open_max(MILLI).slow_after(3_600 * SECOND);
        pauses.failure_percent(20).probes(PROBES).probes_needed(3).probe_lease(3_600 * SECOND)
    });
    let slots = Slots::default();
    let mut receiver = breaker.events();
    let mut events = Vec::new();
    for seed in 0..40 {
        round(&breaker, &clock, seed, &slots);
        drain(&mut receiver, &mut events);
        assert_eq!(breaker.core.probes_under_way(), 0, "a slot is lost in round {seed}");
        let at_rest = breaker.snapshot();
        let last = events.last().unwrap();
        assert_eq!((at_rest.state, at_rest.epoch), (last.to, last.epoch));
    }
    assert!(events.len() > 100, "only {} transitions", events.len());
    check_chain(&events);
    check_slots(&events, &slots.into_inner().unwrap());
}

/// One event for each epoch, in order, each beginning where the one before ended.
#[track_caller]
fn check_chain(events: &[Event]) {
    let mut state = BreakerState::Closed;
    for (at, event) in (1..).zip(events) {
        assert_eq!((event.epoch, event.from), (at, state));
        assert_ne!(event.to, state, "{event:?}");
        state = event.to;
    }
}

#[track_caller]
fn check_slots(events: &[Event], slots: &BTreeMap<u64, (u16, u16)>) {
    let trials = events.iter().filter(|event| event.to == BreakerState::HalfOpen);
    let held = trials.filter_map(|trial| slots.get(&trial.epoch));
    let most: Vec<u16> = held.map(|(_, most)| *most).collect();
    assert!(most.iter().all(|most| *most <= PROBES), "{most:?}");
    assert!(most.contains(&PROBES), "never were all slots in use: {most:?}");
}

#[test]
fn threads_that_trip_together_make_one_transition() {
    for _ in 0..200 {
        let (breaker, _clock) = standard();
        let all: Vec<Permit> = (0..32).map(|_| acquire(&breaker)).collect();
        let permits = Mutex::new(all);
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    while let Some(permit) = { permits.lock().unwrap().pop() } {
                        permit.finish(Outcome::Failure);
                    }
                });
            }
        });
        assert_eq!(breaker.history().len(), 1);
    }
}

/// Uses the breaker from inside its own announcement.
struct Meddler {
    breaker: Breaker,
    woken: AtomicUsize,
    again: AtomicBool,
}

impl Wake for Meddler {
    fn wake(self: Arc<Self>) {
        self.woken.fetch_add(1, Ordering::Relaxed);
        if self.again.swap(false, Ordering::Relaxed) {
            assert_eq!(self.breaker.history().len(), 1);
            assert_eq!(self.breaker.snapshot().openings, 1);
            drop(self.breaker.try_acquire());
            self.breaker.core.command(Command::ForceClose, None, "meddling");
            trip(&self.breaker);
        }
    }
}

#[test]
fn a_subscriber_may_use_the_breaker_while_it_is_told() {
    let (breaker, _clock) = standard();
    let mut receiver = breaker.events();
    let meddler = Arc::new(Meddler {
        breaker: breaker.clone(),
        woken: AtomicUsize::new(0),
        again: AtomicBool::new(true),
    });
    let waker = Waker::from(Arc::clone(&meddler));
    let mut next = Box::pin(receiver.recv());
    assert!(next.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    trip(&breaker);
    assert_eq!(meddler.woken.load(Ordering::Relaxed), 1);
    let Poll::Ready(Ok(first)) = next.as_mut().poll(&mut Context::from_waker(&waker)) else {
        panic!("nothing was announced")
    };
    assert_eq!(first.epoch, 1);
    drop(next);
    let mut rest = Vec::new();
    drain(&mut receiver, &mut rest);
    assert_eq!(rest.iter().map(|event| event.epoch).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(breaker.snapshot().openings, 2);
}

#[test]
fn the_history_keeps_the_last_64_transitions() {
    let (breaker, clock) = breaker(|builder| builder.open_for(MILLI).open_max(MILLI));
    for turns in 1..=22 {
        trip(&breaker);
        clock.advance(MILLI);
        play(&breaker, &clock, "++");
        let epochs: Vec<u64> = breaker.history().iter().map(|event| event.epoch).collect();
        let made: u64 = turns * 3;
        let kept: Vec<u64> = (1..=made).filter(|epoch| epoch + 64 > made).collect();
        assert_eq!(epochs, kept);
    }
}

//! Admission and cool-downs, without a runtime.

use std::collections::HashSet;

use proptest::prelude::*;
use tokio::time::Instant;

use super::{Duration, FillError, SECOND};
use crate::cache_fill::state::{Admission, Class, End, Limits, Permit, Verdict};
use crate::kernel::Backoff;

const LIMITS: Limits = Limits {
    max_fills: 2,
    max_queue: 2,
    max_wait: Duration::from_secs(10),
    cooldown: Backoff { min: SECOND, max: Duration::from_secs(4), factor: 2.0 },
};

fn failed() -> End {
    End::Failed { error: FillError::Aborted.into(), retry_after: None }
}

#[track_caller]
fn started(verdict: Verdict<u32>) -> Permit {
    match verdict {
        Verdict::Start(_, permit) => permit,
        other @ (Verdict::Queued { .. } | Verdict::Refused(..)) => {
            panic!("not started: {other:?}")
        }
    }
}

#[test]
fn pauses_double_up_to_the_maximum_and_end_on_the_moment() {
    let mut now = Instant::now();
    let mut state: Admission<u8, u32> = Admission::new(LIMITS);
    for (attempt, pause) in [(1, 1), (2, 2), (3, 4), (4, 4)] {
        let permit = started(state.offer(1, 0, Class::Foreground, now));
        assert_eq!(permit.attempt, attempt);
        state.give_back(&1, &permit, failed(), now, 1.0);
        now += pause * SECOND - Duration::from_nanos(1);
        assert!(state.cooling(&1, now).is_some(), "attempt {attempt}");
        now += Duration::from_nanos(1);
        assert!(state.cooling(&1, now).is_none(), "attempt {attempt}");
    }
}

#[test]
fn only_one_load_tries_after_a_cool_down() {
    let now = Instant::now();
    let mut state: Admission<u8, u32> = Admission::new(LIMITS);
    let first = started(state.offer(1, 0, Class::Foreground, now));
    state.give_back(&1, &first, failed(), now, 0.0);
    let trial = started(state.offer(1, 1, Class::Foreground, now));
    let second = state.offer(1, 2, Class::Foreground, now);
    assert!(matches!(second, Verdict::Refused(2, FillError::Cooldown { .. })), "{second:?}");
    state.give_back(&1, &trial, End::NoVerdict, now, 0.0);
    assert!(matches!(state.offer(1, 3, Class::Foreground, now), Verdict::Start(3, _)));
}

#[test]
fn a_source_may_ask_for_a_longer_pause_but_not_for_ever() {
    let now = Instant::now();
    let mut state: Admission<u8, u32> = Admission::new(LIMITS);
    for (asked, granted) in [(60, 60), (86_400, 600)] {
        let permit = started(state.offer(1, 0, Class::Foreground, now));
        let retry_after = Some(Duration::from_secs(asked));
        let end = End::Failed { error: FillError::Aborted.into(), retry_after };
        state.give_back(&1, &permit, end, now, 0.0);
        let Some(FillError::Cooldown { retry_after, .. }) = state.cooling(&1, now) else {
            panic!("not cooling")
        };
        assert_eq!(retry_after, Duration::from_secs(granted));
        state.forgive(&1);
    }
}

#[test]
fn foreground_loads_go_before_background_ones_and_take_their_place() {
    let now = Instant::now();
    let mut state: Admission<u8, u32> = Admission::new(LIMITS);
    let permit = started(state.offer(1, 1, Class::Foreground, now));
    let _other = started(state.offer(2, 2, Class::Background, now));
    assert!(matches!(state.offer(3, 3, Class::Background, now), Verdict::Queued { shed: None }));
    assert!(matches!(state.offer(4, 4, Class::Background, now), Verdict::Queued { shed: None }));
    assert!(matches!(
        state.offer(5, 5, Class::Background, now),
        Verdict::Refused(5, FillError::Overloaded { .. })
    ));
    let Verdict::Queued { shed: Some((4, FillError::Overloaded { .. })) } =
        state.offer(6, 6, Class::Foreground, now)
    else {
        panic!("the newest background load should have gone")
    };
    state.give_back(&1, &permit, End::Succeeded, now, 0.0);
    let next = state.pump(now);
    assert_eq!(next.start.iter().map(|(ticket, _)| *ticket).collect::<Vec<_>>(), [6]);
}

#[test]
fn a_key_that_began_to_cool_while_it_was_queued_is_refused_in_its_turn() {
    let now = Instant::now();
    let mut state: Admission<u8, u32> = Admission::new(Limits { max_fills: 1, ..LIMITS });
    let permit = started(state.offer(1, 1, Class::Foreground, now));
    assert!(matches!(state.offer(1, 2, Class::Foreground, now), Verdict::Queued { .. }));
    assert!(matches!(state.offer(2, 3, Class::Foreground, now), Verdict::Queued { .. }));
    state.give_back(&1, &permit, failed(), now, 1.0);
    let next = state.pump(now);
    assert_eq!(next.refused.len(), 1);
    assert_eq!(next.start[0].0, 3);
}

#[test]
fn the_queue_gives_up_what_is_late_and_only_that() {
    let now = Instant::now();
    let mut state: Admission<u8, u32> = Admission::new(Limits { max_fills: 1, ..LIMITS });
    let _permit = started(state.offer(1, 1, Class::Foreground, now));
    drop(state.offer(2, 2, Class::Foreground, now));
    drop(state.offer(3, 3, Class::Foreground, now + SECOND));
    assert!(state.sweep(now + 10 * SECOND - Duration::from_nanos(1)).is_empty());
    let late: Vec<_> = state.sweep(now + 10 * SECOND).iter().map(|(ticket, _)| *ticket).collect();
    assert_eq!(late, [2]);
}

#[test]
fn remembered_failures_are_bounded_and_forgotten() {
    let now = Instant::now();
    let mut state: Admission<u32, u32> = Admission::new(LIMITS);
    for key in 0..5_000 {
        let Verdict::Start(_, permit) = state.offer(key, key, Class::Foreground, now) else {
            panic!("not started")
        };
        state.give_back(&key, &permit, failed(), now, 1.0);
    }
    assert!(state.cooling(&903, now).is_none(), "pushed out");
    assert!(state.cooling(&904, now).is_some(), "one of the last 4,096");
    assert!(state.sweep(now + 9 * SECOND).is_empty());
    let Verdict::Start(_, permit) = state.offer(4_999, 0, Class::Foreground, now + 9 * SECOND)
    else {
        panic!("not started")
    };
    assert_eq!(permit.attempt, 1, "forgotten after twice the longest pause");
}

#[derive(Debug, Clone)]
enum Event {
    Offer(u8, u8),
    Finish(usize, u8),
    Promote(usize),
    Wait(u16),
    Sweep,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0..5_u8, 0..3_u8).prop_map(|(key, class)| Event::Offer(key, class)),
        4 => (any::<usize>(), 0..3_u8).prop_map(|(which, end)| Event::Finish(which, end)),
        1 => any::<usize>().prop_map(Event::Promote),
        2 => (0..5_000_u16).prop_map(Event::Wait),
        1 => Just(Event::Sweep),
    ]
}

/// A run of [`Admission`] that keeps account of every ticket.
struct Ledger {
    state: Admission<u8, u32>,
    now: Instant,
    next: u32,
    queued: HashSet<u32>,
    running: Vec<(u32, u8, Permit, bool)>,
    keys: Vec<u8>,
}

impl Ledger {
    fn key(&self, ticket: u32) -> u8 {
        self.keys[usize::try_from(ticket).expect("small")]
    }

    fn start(&mut self, ticket: u32, permit: Permit, nested: bool) {
        self.queued.remove(&ticket);
        self.running.push((ticket, self.key(ticket), permit, nested));
    }

    fn heed(&mut self, verdict: Verdict<u32>, own: Option<u32>, nested: bool) {
        match verdict {
            Verdict::Start(ticket, permit) => self.start(ticket, permit, nested),
            Verdict::Refused(ticket, _) => drop(self.queued.remove(&ticket)),
            Verdict::Queued { shed } => {
                self.queued.extend(own);
                if let Some((ticket, _)) = shed {
                    assert!(self.queued.remove(&ticket), "shed what was queued");
                }
            }
        }
    }

    fn pump(&mut self) {
        let next = self.state.pump(self.now);
        for (ticket, permit) in next.start {
            self.start(ticket, permit, false);
        }
        for (ticket, _) in next.refused {
            assert!(self.queued.remove(&ticket));
        }
    }

    fn play(&mut self, event: &Event) {
        match *event {
            Event::Offer(key, class) => {
                let class =
                    [Class::Foreground, Class::Background, Class::Nested][usize::from(class)];
                let ticket = self.next;
                self.next += 1;
                self.keys.push(key);
                let verdict = self.state.offer(key, ticket, class, self.now);
                self.heed(verdict, Some(ticket), class == Class::Nested);
            }
            Event::Finish(which, end) if !self.running.is_empty() => {
                let (_, key, permit, _) = self.running.swap_remove(which % self.running.len());
                let end = [End::Succeeded, failed(), End::NoVerdict].into_iter().nth(end.into());
                self.state.give_back(&key, &permit, end.expect("three"), self.now, 0.5);
                self.pump();
            }
            Event::Promote(which) if !self.queued.is_empty() => {
                let mut tickets: Vec<_> = self.queued.iter().copied().collect();
                tickets.sort_unstable();
                let wanted = tickets[which % tickets.len()];
                let verdict = self.state.promote(|ticket| *ticket == wanted, self.now);
                self.heed(verdict.expect("it is queued"), None, true);
            }
            Event::Wait(ms) => self.now += Duration::from_millis(ms.into()),
            Event::Sweep => {
                for (ticket, _) in self.state.sweep(self.now) {
                    assert!(self.queued.remove(&ticket));
                }
                self.pump();
            }
            Event::Finish(..) | Event::Promote(_) => {}
        }
    }

    fn check(&self) {
        let counted = self.running.iter().filter(|(_, _, _, nested)| !nested).count();
        assert_eq!(self.state.running(), counted);
        assert!(counted <= LIMITS.max_fills);
        assert_eq!(self.state.queued(), self.queued.len());
        assert!(self.queued.len() <= LIMITS.max_queue);
        assert!(self.queued.is_empty() || counted == LIMITS.max_fills, "no permit lies idle");
    }
}

proptest! {
    #[test]
    fn no_ticket_is_lost_and_no_limit_passed(events in proptest::collection::vec(event(), 1..200)) {
        let mut ledger = Ledger {
            state: Admission::new(LIMITS),
            now: Instant::now(),
            next: 0,
            queued: HashSet::new(),
            running: Vec::new(),
            keys: Vec::new(),
        };
        for event in &events {
            ledger.play(event);
            ledger.check();
        }
        let left: HashSet<_> = ledger.state.close().into_iter().collect();
        prop_assert_eq!(left, ledger.queued);
    }
}

//! Claims about places: how many there are, and who gets one.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use proptest::prelude::*;
use steadfast_actors::kernel::Priority;
use tokio::time::Instant;

use super::{Entry, Gate, Permit, Turn};
use crate::edge::admission::class::{ALL, rank};
use crate::edge::admission::limits::AdmissionLimits;
use crate::edge::admission::state::Reason;

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn gate(limit: usize, queue: usize) -> Arc<Gate> {
    let mut limits = AdmissionLimits::default();
    (limits.limit, limits.queue.max) = (limit, queue);
    Gate::new(&limits, Instant::now())
}

fn poll(turn: &mut Turn) -> Poll<Result<Permit, Reason>> {
    turn.poll(&mut Context::from_waker(Waker::noop()))
}

#[track_caller]
fn inside(entry: Entry) -> Permit {
    let Entry::Inside(permit) = entry else { panic!("{entry:?}") };
    permit
}

#[track_caller]
fn waits(entry: Entry) -> Turn {
    let Entry::Waits(turn) = entry else { panic!("{entry:?}") };
    turn
}

fn enter(gate: &Arc<Gate>, class: Priority) -> Entry {
    gate.enter(class, None, Instant::now())
}

#[tokio::test(start_paused = true)]
async fn one_past_the_limit_waits_and_one_past_the_queue_is_refused() {
    let gate = gate(2, 1);
    let first = inside(enter(&gate, Priority::Normal));
    let _second = inside(enter(&gate, Priority::Normal));
    let mut third = waits(enter(&gate, Priority::Normal));
    assert!(matches!(enter(&gate, Priority::Normal), Entry::Refused(Reason::Full)));
    assert!(poll(&mut third).is_pending());
    drop(first);
    let Poll::Ready(Ok(_third)) = poll(&mut third) else { panic!("{third:?}") };
    assert_eq!((gate.serving(), gate.waiting()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn nobody_passes_those_who_wait() {
    let gate = gate(1, 8);
    let only = inside(enter(&gate, Priority::Normal));
    let mut waiting = waits(enter(&gate, Priority::Sheddable));
    drop(only);
    assert!(matches!(enter(&gate, Priority::Critical), Entry::Waits(_)), "the place is given away");
    assert!(matches!(poll(&mut waiting), Poll::Ready(Ok(_))));
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_is_dropped_gives_its_place_to_the_next() {
    let gate = gate(1, 8);
    let only = inside(enter(&gate, Priority::Normal));
    let first = waits(enter(&gate, Priority::Normal));
    let gone = waits(enter(&gate, Priority::Normal));
    let mut last = waits(enter(&gate, Priority::Normal));
    drop(gone);
    drop(only);
    assert_eq!((gate.serving(), gate.waiting()), (1, 1), "given to the first, who did not look");
    drop(first);
    let Poll::Ready(Ok(last)) = poll(&mut last) else { panic!("{last:?}") };
    drop(last);
    assert_eq!((gate.serving(), gate.waiting()), (0, 0));
    let counts = gate.tally.read(Priority::Normal);
    assert_eq!((counts.queued, counts.admitted, counts.gone), (3, 3, 1));
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_longer_than_target_and_interval_though_no_place_comes_free() {
    let gate = gate(1, 8);
    let _only = inside(enter(&gate, Priority::Normal));
    let began = Instant::now();
    let mut turn = waits(enter(&gate, Priority::Critical));
    let outcome = std::future::poll_fn(|cx| turn.poll(cx)).await;
    assert_eq!(outcome.unwrap_err(), Reason::Late);
    let waited = began.elapsed();
    assert!((ms(105)..=ms(107)).contains(&waited), "{waited:?}");
    assert_eq!(gate.tally.read(Priority::Critical).shed_late, 1);
}

#[tokio::test(start_paused = true)]
async fn one_whose_deadline_comes_while_it_waits_is_told_then() {
    let gate = gate(1, 8);
    let _only = inside(enter(&gate, Priority::Normal));
    let began = Instant::now();
    let mut turn = waits(gate.enter(Priority::Normal, Some(began + ms(30)), began));
    let outcome = std::future::poll_fn(|cx| turn.poll(cx)).await;
    assert_eq!(outcome.unwrap_err(), Reason::Expired);
    assert!(began.elapsed() < ms(33), "{:?}", began.elapsed());
    assert_eq!((gate.waiting(), gate.tally.read(Priority::Normal).shed_expired), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn the_limit_follows_the_target() {
    let mut limits = AdmissionLimits::default();
    (limits.limit, limits.min, limits.max, limits.target_p95) = (100, 10, 138, ms(50));
    let gate = Gate::new(&limits, Instant::now());
    // As many as there is room for, each for this long, some rounds of it.
    let serve = async |took: Duration, answered: bool| {
        for _ in 0..40 {
            let mut permits = Vec::new();
            while let Entry::Inside(permit) = enter(&gate, Priority::Normal) {
                permits.push(permit);
            }
            tokio::time::advance(took).await;
            if answered {
                permits.iter_mut().for_each(Permit::answered);
            }
        }
        gate.limit()
    };
    assert_eq!(serve(ms(600), true).await, 10, "slow: the lowest");
    assert!(serve(ms(50), true).await > 10, "in time: it rises");
    for _ in 0..50 {
        serve(ms(50), true).await;
    }
    assert_eq!(gate.limit(), 138, "to the highest");
    assert_eq!(serve(ms(40), false).await, 138, "who left in time says nothing");
    assert_eq!(serve(ms(600), false).await, 10, "who left because it was slow does");
}

#[test]
fn threads_that_come_and_go_never_exceed_the_limit_and_leave_nothing_behind() {
    let gate = gate(3, 64);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let gate = &gate;
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread();
                let runtime = { runtime }.enable_time().build().unwrap();
                runtime.block_on(async {
                    for round in 0..500 {
                        let class = ALL[(thread + round) % ALL.len()];
                        let permit = match enter(gate, class) {
                            Entry::Inside(permit) => Some(permit),
                            Entry::Refused(_) => None,
                            Entry::Waits(turn) if round % 7 == 0 => {
                                drop(turn);
                                None
                            }
                            Entry::Waits(mut turn) => {
                                std::future::poll_fn(|cx| turn.poll(cx)).await.ok()
                            }
                        };
                        assert!(gate.serving() <= 3);
                        if round % 3 == 0 {
                            tokio::task::yield_now().await;
                        }
                        drop(permit);
                    }
                });
            });
        }
    });
    assert_eq!((gate.serving(), gate.waiting()), (0, 0));
    let all = ALL.map(|class| gate.tally.read(class));
    let offered: u64 = all.iter().map(|class| class.admitted + class.shed()).sum();
    // One that left in the moment its turn came is admitted; one that left before is gone.
    let gone: u64 = all.iter().map(|class| class.gone).sum();
    assert_eq!(offered + gone, 2000);
}

#[derive(Debug, Clone)]
enum Act {
    Come(usize, Option<u64>),
    Pass(u64),
    Leave(usize),
    GiveUp(usize),
    Limit(usize),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0..4_usize, prop::option::of(0..200_u64)).prop_map(|(class, left)| Act::Come(class, left)),
        2 => (0..60_u64).prop_map(Act::Pass),
        3 => any::<usize>().prop_map(Act::Leave),
        1 => any::<usize>().prop_map(Act::GiveUp),
        1 => (1..6_usize).prop_map(Act::Limit),
    ]
}

fn see_who_is_next(turns: &mut Vec<Turn>, permits: &mut Vec<Permit>) {
    for mut turn in std::mem::take(turns) {
        match poll(&mut turn) {
            Poll::Ready(Ok(permit)) => permits.push(permit),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => turns.push(turn),
        }
    }
}

/// Plays what requests do, and checks after each step what must always hold.
async fn play(acts: Vec<Act>) {
    let gate = gate(2, 5);
    let (mut permits, mut turns) = (Vec::new(), Vec::<Turn>::new());
    let mut offered = 0;
    for act in acts {
        let before = gate.serving();
        match act {
            Act::Come(class, left) => {
                offered += 1;
                let now = Instant::now();
                match gate.enter(ALL[class], left.map(|left| now + ms(left)), now) {
                    Entry::Inside(permit) => permits.push(permit),
                    Entry::Waits(turn) => turns.push(turn),
                    Entry::Refused(_) => {}
                }
            }
            Act::Pass(time) => tokio::time::advance(ms(time)).await,
            Act::Leave(which) if !permits.is_empty() => {
                let best = turns.iter().filter(|turn| turn.ticket.outcome().is_none());
                let best = best.map(|turn| rank(turn.class)).min();
                drop(permits.swap_remove(which % permits.len()));
                let next = turns.iter().find(|turn| turn.ticket.outcome() == Some(Ok(())));
                if let (Some(next), Some(best)) = (next, best) {
                    let passed = turns
                        .iter()
                        .any(|turn| turn.ticket.outcome().is_none() && turn.class < next.class);
                    assert!(!passed && rank(next.class) >= best, "{turns:?}");
                }
            }
            Act::GiveUp(which) if !turns.is_empty() => {
                drop(turns.swap_remove(which % turns.len()));
            }
            Act::Limit(limit) => gate.limit.store(limit, Ordering::SeqCst),
            Act::Leave(_) | Act::GiveUp(_) => {}
        }
        // What one finds due may be another's turn.
        for _ in 0..2 {
            see_who_is_next(&mut turns, &mut permits);
        }
        let serving = gate.serving();
        assert_eq!((permits.len(), turns.len()), (serving, gate.waiting()));
        assert!(serving <= gate.limit() || serving <= before, "{serving} of {}", gate.limit());
        assert!(turns.len() <= 5);
        let ended: u64 = ALL
            .map(|class| gate.tally.read(class))
            .iter()
            .map(|class| class.admitted + class.shed() + class.gone)
            .sum();
        assert_eq!(ended + gate.waiting() as u64, offered, "each is counted once");
    }
}

proptest! {
    #[test]
    fn places_are_never_exceeded_and_each_request_ends_once(acts in prop::collection::vec(act(), 1..120)) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(play(acts));
    }
}

//! Claims about who waits, who is next and who is refused.

use std::time::Duration;

use steadfast_actors::kernel::Priority::{self, Critical, High, Normal, Sheddable};
use tokio::time::Instant;

use super::{Offer, Queue, Reason};
use crate::edge::admission::limits::QueueLimits;

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// A queue of three, with a target of 5 ms and an interval of 100 ms, and a clock.
struct Bench {
    queue: Queue<&'static str>,
    now: Instant,
    refused: Vec<(Priority, Reason, &'static str)>,
}

impl Bench {
    fn new() -> Self {
        Self::of(3)
    }

    fn of(max: usize) -> Self {
        let limits = QueueLimits { max, target: ms(5), interval: ms(100) };
        Self { queue: Queue::new(limits), now: Instant::now(), refused: Vec::new() }
    }

    fn pass(&mut self, time: Duration) -> &mut Self {
        self.now += time;
        self
    }

    #[track_caller]
    fn waits(&mut self, who: &'static str, class: Priority) -> u64 {
        let offer = self.queue.offer(who, class, None, self.now);
        let Offer::Waits(id, None) = offer else { panic!("{who} {offer:?}") };
        id
    }

    fn offer(
        &mut self,
        who: &'static str,
        class: Priority,
        within: Duration,
    ) -> Offer<&'static str> {
        self.queue.offer(who, class, Some(self.now + within), self.now)
    }

    fn next(&mut self) -> Option<&'static str> {
        self.queue.next(self.now, &mut self.refused).map(|(_, who)| who)
    }

    fn look(&mut self) {
        self.queue.look(self.now, &mut self.refused);
    }

    #[track_caller]
    fn refused(&mut self, expected: &[(Reason, &'static str)]) {
        let found: Vec<_> = self.refused.drain(..).map(|(_, why, who)| (why, who)).collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn the_highest_class_is_next_and_in_it_the_oldest() {
    let mut bench = Bench::of(8);
    for (who, class) in [
        ("sheddable", Sheddable),
        ("normal 1", Normal),
        ("critical", Critical),
        ("normal 2", Normal),
        ("high", High),
    ] {
        bench.waits(who, class);
    }
    let order: Vec<_> = std::iter::from_fn(|| bench.next()).collect();
    assert_eq!(order, ["critical", "high", "normal 1", "normal 2", "sheddable"]);
    assert_eq!(bench.queue.len(), 0);
}

#[test]
fn a_full_queue_refuses_all_but_a_higher_class_which_pushes_out_the_last_of_the_lowest() {
    let mut bench = Bench::new();
    for (who, class) in [("s1", Sheddable), ("n1", Normal), ("s2", Sheddable)] {
        bench.waits(who, class);
    }
    let mut offer = |who, class| bench.queue.offer(who, class, None, bench.now);
    assert_eq!(offer("s3", Sheddable), Offer::Refused(Reason::Full));
    assert!(matches!(offer("n2", Normal), Offer::Waits(_, Some((Sheddable, Reason::Full, "s2")))));
    assert!(matches!(offer("c1", Critical), Offer::Waits(_, Some((_, Reason::Full, "s1")))));
    assert_eq!(offer("n3", Normal), Offer::Refused(Reason::Full));
    assert!(matches!(offer("h1", High), Offer::Waits(_, Some((Normal, Reason::Full, "n2")))));
    assert_eq!(bench.queue.len(), 3);
}

#[test]
fn a_queue_of_none_refuses_at_once() {
    let mut bench = Bench::of(0);
    assert_eq!(bench.offer("c", Critical, ms(1000)), Offer::Refused(Reason::Full));
}

#[test]
fn drops_begin_only_after_the_target_is_exceeded_for_the_whole_interval() {
    let mut bench = Bench::of(8);
    bench.waits("a", Normal);
    bench.pass(ms(5)).look();
    bench.pass(ms(99)).look();
    bench.waits("b", Normal);
    bench.refused(&[]);
    bench.pass(ms(1)).look();
    bench.refused(&[(Reason::Late, "a")]);
    assert_eq!(bench.queue.len(), 1, "the one within the target stays");
}

#[test]
fn a_wait_within_the_target_begins_the_interval_anew() {
    let mut bench = Bench::of(8);
    bench.waits("a", Normal);
    bench.pass(ms(60)).waits("b", Normal);
    assert_eq!(bench.next(), Some("a"));
    bench.pass(ms(4)).look();
    bench.pass(ms(96)).look();
    bench.refused(&[]);
    bench.pass(ms(5)).look();
    bench.refused(&[(Reason::Late, "b")]);
}

#[test]
fn under_overload_the_newest_is_next_until_none_waits() {
    let mut bench = Bench::of(8);
    bench.waits("old", Normal);
    bench.pass(ms(105)).waits("a", Normal);
    bench.pass(ms(2)).waits("b", Normal);
    assert_eq!(bench.next(), Some("b"));
    bench.refused(&[(Reason::Late, "old")]);
    bench.pass(ms(3)).look();
    bench.refused(&[(Reason::Late, "a")]);
    bench.look();
    bench.waits("c", Normal);
    bench.waits("d", Normal);
    bench.pass(ms(5)).look();
    bench.refused(&[]);
    assert_eq!(bench.next(), Some("c"), "none waited, so it is over");
}

#[test]
fn a_lane_that_stands_does_not_harm_those_above_it() {
    let mut bench = Bench::of(8);
    bench.waits("s1", Sheddable);
    bench.waits("s2", Sheddable);
    for _ in 0..60 {
        bench.waits("n", Normal);
        bench.pass(ms(2));
        assert_eq!(bench.next(), Some("n"));
    }
    bench.refused(&[(Reason::Late, "s1"), (Reason::Late, "s2")]);
}

#[test]
fn whoever_cannot_be_in_time_is_refused_at_once() {
    let mut bench = Bench::of(100);
    assert_eq!(bench.offer("late", Normal, ms(0)), Offer::Refused(Reason::Hopeless));
    // A place each 10 ms, while somebody waits.
    for _ in 0..5 {
        bench.waits("n", Normal);
    }
    for _ in 0..4 {
        assert_eq!(bench.next(), Some("n"));
        bench.pass(ms(10));
    }
    // One waits already, so the turn is the second.
    assert_eq!(bench.offer("hasty", Normal, ms(19)), Offer::Refused(Reason::Hopeless));
    assert!(matches!(bench.offer("patient", Normal, ms(20)), Offer::Waits(_, None)));
    assert!(matches!(bench.offer("first", Critical, ms(10)), Offer::Waits(_, None)));
}

#[test]
fn nobody_is_called_hopeless_for_longer_than_the_longest_wait() {
    let mut bench = Bench::of(100);
    for _ in 0..3 {
        bench.waits("n", Normal);
        bench.waits("n", Normal);
        assert_eq!(bench.next(), Some("n"));
        bench.pass(ms(104));
        assert!(bench.next().is_some());
    }
    assert!(matches!(bench.offer("n", Normal, ms(105)), Offer::Waits(_, None)));
}

#[test]
fn one_whose_deadline_came_is_passed_over() {
    let mut bench = Bench::of(8);
    assert!(matches!(bench.offer("a", Normal, ms(3)), Offer::Waits(..)));
    bench.waits("b", Normal);
    bench.pass(ms(3));
    assert_eq!(bench.next(), Some("b"));
    bench.refused(&[(Reason::Expired, "a")]);
}

#[test]
fn one_that_leaves_is_gone_and_only_once() {
    let mut bench = Bench::of(8);
    let ids = ["a", "b", "c"].map(|who| bench.waits(who, Normal));
    assert_eq!(bench.queue.remove(Normal, ids[1]), Some("b"));
    assert_eq!(bench.queue.remove(Normal, ids[1]), None);
    assert_eq!(bench.queue.remove(Critical, ids[0]), None, "of another class");
    assert_eq!((bench.next(), bench.next(), bench.next()), (Some("a"), Some("c"), None));
}

#[test]
fn a_lane_that_was_served_to_its_end_is_a_new_one() {
    let mut bench = Bench::new();
    bench.waits("a", Normal);
    bench.waits("b", Normal);
    bench.pass(ms(50));
    assert_eq!(bench.next(), Some("a"), "slow, but not for long enough");
    bench.pass(ms(60));
    bench.look();
    bench.refused(&[(Reason::Late, "b")]);
    bench.waits("c", Normal);
    bench.pass(ms(4));
    assert_eq!(bench.next(), Some("c"));
    // Nobody looks while nobody waits.
    bench.pass(Duration::from_secs(3600));
    bench.waits("d", Normal);
    bench.waits("e", Normal);
    bench.pass(ms(50));
    bench.look();
    bench.refused(&[]);
    assert_eq!(bench.next(), Some("d"), "the oldest first");
}

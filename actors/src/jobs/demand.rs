//! How free workers are shared among the four classes. Pure: the time comes in.
//!
//! Weighted fair queueing by virtual time (Demers, Keshav and Shenker, 1989; a deficit round
//! robin whose rounds are interleaved): each job of a class moves the class's own time on by
//! the class's stride, and the next worker goes to the class that is furthest behind. So 15
//! workers are shared 8 : 4 : 2 : 1, and so are 15 times one worker.
//!
//! INVARIANT: a class is charged only for jobs it got, and one that had none is not owed for
//! that time.

use std::time::Duration;

use tokio::time::Instant;

/// Four numbers, by class.
pub(crate) type ByClass = [u16; 4];

/// How free workers are shared among the classes, and which classes may have work.
///
/// [`split`](Self::split), claim, [`learned`](Self::learned), and another claim at once if that
/// says so: classes that turn out to be empty are asked first, and the
/// workers they left are for the others. A claim that failed is simply not learned from.
#[derive(Debug)]
pub(crate) struct Demand {
    classes: [Share; 4],
    /// The time of the class that is furthest behind; where one that had no work joins in.
    time: u64,
    /// How often something was enqueued. If that was after a split, a class that gave less than it
    /// was asked for may not be empty any more.
    wakes: u64,
}

#[derive(Debug, Clone, Copy)]
struct Share {
    /// The class's own time: its stride for each job that it got.
    time: u64,
    stride: u64,
    empty_since: Option<Instant>,
}

/// By how much a job moves its class's time on: in inverse proportion to the weights 8, 4, 2, 1.
const STRIDES: [u64; 4] = [1, 2, 4, 8];

/// How long a class that was empty is not asked, unless somebody enqueues.
const RECHECK: Duration = Duration::from_secs(1);

impl Demand {
    /// Shares before anything is known: all classes may have work.
    pub(crate) fn new() -> Self {
        let classes = STRIDES.map(|stride| Share { time: 0, stride, empty_since: None });
        Self { classes, time: 0, wakes: 0 }
    }

    /// Shares `free` workers out. All of them, unless no class may have work: then none.
    #[must_use]
    pub(crate) fn split(&mut self, free: u16, now: Instant) -> ByClass {
        let mut turns = self.classes.map(|class| Turn {
            ends: class.may_have_work(now).then(|| class.time.max(self.time) + class.stride),
            stride: class.stride,
            share: 0,
        });
        // LIMIT: one step for each worker.
        for _ in 0..free {
            let may = turns.iter_mut().filter(|turn| turn.ends.is_some());
            // Of two that are equal, the dearer one: it comes first.
            let Some(turn) = may.min_by_key(|turn| turn.ends) else { break };
            turn.share += 1;
            turn.ends = turn.ends.map(|ends| ends + turn.stride);
        }
        turns.map(|turn| turn.share)
    }

    /// What [`learned`](Self::learned) wants to know of the moment of the split.
    #[must_use]
    pub(crate) const fn wakes(&self) -> u64 {
        self.wakes
    }

    /// Takes in what a claim brought, whose workers were split when there had been `wakes`. Whether
    /// another one at once may bring more: workers were
    /// left over, and some class may have more than it was asked for.
    #[must_use]
    pub(crate) fn learned(
        &mut self,
        asked: ByClass,
        got: ByClass,
        wakes: u64,
        now: Instant,
    ) -> bool {
        for ((class, asked), got) in self.classes.iter_mut().zip(asked).zip(got) {
            class.time = class.time.max(self.time) + u64::from(got) * class.stride;
            if got < asked {
                class.empty_since = (self.wakes == wakes).then_some(now);
            } else if got > 0 {
                class.empty_since = None;
            }
        }
        self.move_on(now);
        let sum = |of: ByClass| of.map(u32::from).iter().sum::<u32>();
        sum(got) < sum(asked) && self.classes.iter().any(|class| class.may_have_work(now))
    }

    /// Something was enqueued, in whatever class: all are asked again.
    pub(crate) fn woken(&mut self) {
        self.wakes += 1;
        for class in &mut self.classes {
            class.empty_since = None;
        }
    }

    fn move_on(&mut self, now: Instant) {
        let busy = self.classes.iter().filter(|class| class.may_have_work(now));
        let behind = busy.map(|class| class.time).min();
        let ahead = self.classes.iter().map(|class| class.time).max();
        self.time = self.time.max(behind.or(ahead).unwrap_or(0));
    }
}

impl Share {
    fn may_have_work(&self, now: Instant) -> bool {
        self.empty_since.is_none_or(|since| now.saturating_duration_since(since) >= RECHECK)
    }
}

/// A class while workers are shared out.
#[derive(Debug, Clone, Copy)]
struct Turn {
    /// The class's time when it has done one more job; `None` if it is not asked.
    ends: Option<u64>,
    stride: u64,
    share: u16,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: ByClass = [u16::MAX; 4];

    /// A queue that is claimed from as the worker does.
    struct Queue {
        demand: Demand,
        waiting: ByClass,
        done: [u32; 4],
        now: Instant,
    }

    impl Queue {
        fn with(waiting: ByClass) -> Self {
            Self { demand: Demand::new(), waiting, done: [0; 4], now: Instant::now() }
        }

        fn claim(&mut self, free: u16) -> (ByClass, bool) {
            let asked = self.demand.split(free, self.now);
            let mut got = [0; 4];
            for class in 0..4 {
                got[class] = asked[class].min(self.waiting[class]);
                self.waiting[class] -= got[class];
                self.done[class] += u32::from(got[class]);
            }
            let more = self.demand.learned(asked, got, self.demand.wakes(), self.now);
            (got, more)
        }

        fn enqueue(&mut self, class: usize, jobs: u16) {
            self.waiting[class] += jobs;
            self.demand.woken();
        }
    }

    #[test]
    fn workers_are_shared_eight_four_two_one() {
        let mut queue = Queue::with(ALL);
        assert_eq!(queue.claim(15).0, [8, 4, 2, 1]);
        assert_eq!(queue.claim(150).0, [80, 40, 20, 10]);
    }

    #[test]
    fn one_worker_at_a_time_comes_to_the_same() {
        let mut queue = Queue::with(ALL);
        for _ in 0..15 {
            let (got, more) = queue.claim(1);
            assert_eq!((got.iter().sum::<u16>(), more), (1, false));
        }
        assert_eq!(queue.done, [8, 4, 2, 1]);
    }

    #[test]
    fn an_empty_class_gives_its_share_to_the_others_at_once() {
        let mut queue = Queue::with([3, 0, 0, 100]);
        assert_eq!(queue.claim(15), ([3, 0, 0, 1], true));
        assert_eq!(queue.claim(11), ([0, 0, 0, 11], false));
        assert_eq!(queue.claim(15), ([0, 0, 0, 15], false));
    }

    #[test]
    fn with_nothing_left_nobody_is_asked_until_a_second_is_over() {
        let mut queue = Queue::with([0; 4]);
        let mut claims = 0;
        while queue.claim(4).1 {
            claims += 1;
        }
        assert!(claims < 4, "each claim finds one class empty at least: {claims}");
        assert_eq!(queue.demand.split(4, queue.now), [0; 4]);
        queue.now += RECHECK - Duration::from_nanos(1);
        assert_eq!(queue.demand.split(4, queue.now), [0; 4]);
        queue.now += Duration::from_nanos(1);
        assert_eq!(queue.demand.split(4, queue.now).iter().sum::<u16>(), 4);
    }

    #[test]
    fn a_wake_has_all_classes_asked_again() {
        let mut queue = Queue::with([0; 4]);
        while queue.claim(15).1 {}
        queue.enqueue(3, 1);
        while queue.claim(15).1 {}
        assert_eq!(queue.done, [0, 0, 0, 1]);
    }

    #[test]
    fn a_wake_while_a_claim_is_under_way_is_not_lost() {
        let (mut demand, now) = (Demand::new(), Instant::now());
        let asked = demand.split(15, now);
        let wakes = demand.wakes();
        demand.woken();
        assert!(
            demand.learned(asked, [0; 4], wakes, now),
            "what was enqueued may have been missed"
        );
        assert_eq!(demand.split(15, now), [8, 4, 2, 1]);
    }

    #[test]
    fn a_claim_that_failed_changes_nothing() {
        let (mut demand, now) = (Demand::new(), Instant::now());
        for _ in 0..100 {
            assert_eq!(demand.split(1, now), [1, 0, 0, 0]);
        }
    }

    #[test]
    fn a_class_that_had_no_work_is_owed_nothing_and_owes_nothing() {
        let mut queue = Queue::with([10_000, 0, 0, 0]);
        for _ in 0..1_000 {
            queue.claim(10);
        }
        queue.waiting = ALL;
        queue.now += RECHECK;
        assert_eq!(queue.claim(15).0, [8, 4, 2, 1]);
        let mut queue = Queue::with([0, 0, 0, 10_000]);
        for _ in 0..1_000 {
            let (mut got, mut more) = queue.claim(10);
            while more {
                (got, more) = queue.claim(10);
            }
            assert_eq!(got, [0, 0, 0, 10]);
            queue.now += RECHECK;
        }
        queue.waiting = ALL;
        queue.now += RECHECK;
        let got = queue.claim(150).0;
        assert!(got[0] >= 75 && got[3] >= 1, "{got:?}");
    }

    #[test]
    fn the_largest_demand_is_shared_whole() {
        let shares = Demand::new().split(u16::MAX, Instant::now());
        assert_eq!(shares.iter().sum::<u16>(), u16::MAX);
    }

    proptest! {
        #[test]
        fn all_workers_are_given_out_and_no_class_starves(
            steps in proptest::collection::vec((0_u16..40, 0_usize..5, 0_u16..30, 0_u64..700), 1..200),
        ) {
            let mut queue = Queue::with([0; 4]);
            let mut passed_over = [0_u32; 4];
            for (free, class, jobs, wait) in steps {
                queue.now += Duration::from_millis(wait);
                if class < 4 {
                    queue.enqueue(class, jobs);
                }
                let may = queue.demand.classes.map(|class| class.may_have_work(queue.now));
                let asked = queue.demand.split(free, queue.now);
                let sum: u16 = asked.iter().sum();
                prop_assert_eq!(sum, if may.contains(&true) { free } else { 0 });
                let before = queue.waiting;
                let (got, _more) = queue.claim(free);
                for class in 0..4 {
                    prop_assert!(asked[class] == 0 || may[class]);
                    prop_assert!(may[class] || before[class] == 0, "work nobody asks for");
                    let others = u32::from(got.iter().sum::<u16>() - got[class]);
                    let waits = before[class] > 0 && got[class] == 0;
                    passed_over[class] = if waits { passed_over[class] + others } else { 0 };
                    prop_assert!(passed_over[class] <= 60, "class {} starves", class);
                }
            }
        }
    }
}

//! Actors that start, fail and stop together.

use std::time::Duration;

use super::support::{Add, How, Journal, Poison, Worker, fixed, paused, worker, worker_that};
use crate::kernel::{ActorState, CallError, Exhausted, Group, Ref, Spec, Strategy, Tree};

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

struct Three {
    tree: Tree,
    journal: Journal,
    workers: Vec<Ref<Worker>>,
}

impl Three {
    async fn start(strategy: Strategy) -> Self {
        Self::with(strategy, |spec| spec).await
    }

    async fn with(strategy: Strategy, change: impl Fn(Spec<Worker>) -> Spec<Worker>) -> Self {
        let (tree, journal) = (Tree::new(), Journal::default());
        let mut group = Group::new(&tree, "group", strategy);
        let workers = ["a", "b", "c"].map(|name| group.add(change(worker(name, &journal)))).into();
        group.start();
        tokio::time::sleep(seconds(1)).await;
        Self { tree, journal, workers }
    }

    fn generations(&self) -> Vec<u32> {
        self.workers.iter().map(|worker| worker.info().generation).collect()
    }
}

#[test]
fn children_start_in_order_each_after_the_one_before_is_up() {
    paused(|| async {
        let (tree, journal) = (Tree::new(), Journal::default());
        let mut group = Group::new(&tree, "group", Strategy::OneForOne);
        group.add(worker_that("slow", &journal, |ctx| {
            actix::AsyncContext::wait(ctx, actix::fut::wrap_future(tokio::time::sleep(seconds(3))));
        }));
        let quick = group.add(worker("quick", &journal));
        group.start();
        tokio::time::sleep(seconds(2)).await;
        assert_eq!(journal.lines(), ["slow 1 started"]);
        assert_eq!(quick.state(), ActorState::Starting);
        tokio::time::sleep(seconds(2)).await;
        assert_eq!(journal.lines(), ["slow 1 started", "quick 1 started"]);
    });
}

#[test]
fn a_child_that_does_not_come_up_holds_the_others_only_for_its_time() {
    paused(|| async {
        let (tree, journal) = (Tree::new(), Journal::default());
        let mut group = Group::new(&tree, "group", Strategy::OneForOne);
        group.add(
            worker_that("stuck", &journal, |_| panic!("never"))
                .start_within(seconds(7))
                .backoff(fixed(seconds(1))),
        );
        let next = group.add(worker("next", &journal));
        group.start();
        tokio::time::sleep(Duration::from_millis(6_900)).await;
        assert_eq!(next.state(), ActorState::Starting);
        tokio::time::sleep(seconds(1)).await;
        assert_eq!(next.state(), ActorState::Running);
    });
}

/// Poisons the child at `poisoned` and expects these generations afterwards.
#[track_caller]
fn check(strategy: Strategy, poisoned: usize, expected: [u32; 3], started: &[&str]) {
    paused(|| async {
        let three = Three::start(strategy).await;
        let before = three.journal.lines().len();
        assert!(three.workers[poisoned].call(Poison(How::Sync)).await.is_err());
        for worker in &three.workers {
            assert!(worker.call(Add(1)).await.is_ok(), "messages wait for the restart");
        }
        assert_eq!(three.generations(), expected);
        assert_eq!(three.journal.lines()[before..], *started);
    });
}

#[test]
fn one_for_one_restarts_the_child_alone() {
    check(Strategy::OneForOne, 1, [1, 2, 1], &["b 2 started"]);
}

#[test]
fn one_for_all_restarts_every_child_in_order() {
    let all = ["a 2 started", "b 2 started", "c 2 started"];
    check(Strategy::OneForAll, 0, [2, 2, 2], &all);
    check(Strategy::OneForAll, 2, [2, 2, 2], &all);
}

#[test]
fn rest_for_one_restarts_the_child_and_those_after_it() {
    check(Strategy::RestForOne, 0, [2, 2, 2], &["a 2 started", "b 2 started", "c 2 started"]);
    check(Strategy::RestForOne, 1, [1, 2, 2], &["b 2 started", "c 2 started"]);
    check(Strategy::RestForOne, 2, [1, 1, 2], &["c 2 started"]);
}

#[test]
fn a_sibling_that_restarts_with_another_does_not_pay_for_it() {
    paused(|| async {
        let three = Three::with(Strategy::OneForAll, |spec| spec.intensity(1, seconds(60))).await;
        for round in 1..=3 {
            let poisoned = &three.workers[round - 1];
            assert!(poisoned.call(Poison(How::Sync)).await.is_err());
            assert!(three.workers[2].call(Add(1)).await.is_ok());
        }
        assert_eq!(three.generations(), [4, 4, 4]);
        let failures: Vec<_> = three.workers.iter().map(|one| one.info().failures).collect();
        assert_eq!(failures, [1, 1, 1], "each counts its own failures only");
    });
}

#[test]
fn two_children_that_fail_together_are_restarted_together() {
    paused(|| async {
        let three = Three::start(Strategy::OneForAll).await;
        let (a, c) = tokio::join!(
            three.workers[0].call(Poison(How::Sync)),
            three.workers[2].call(Poison(How::Sync))
        );
        assert!(a.is_err() && c.is_err());
        for worker in &three.workers {
            assert!(worker.call(Add(1)).await.is_ok());
        }
        tokio::time::sleep(seconds(5)).await;
        assert!(three.generations().iter().all(|&generation| generation <= 3));
        assert!(three.workers.iter().all(|worker| worker.state() == ActorState::Running));
    });
}

#[test]
fn a_child_that_cannot_be_rebuilt_keeps_those_after_it_waiting() {
    paused(|| async {
        let (tree, journal) = (Tree::new(), Journal::default());
        let mut group = Group::new(&tree, "group", Strategy::RestForOne);
        let first = group.add(
            worker_that("first", &journal, |ctx| {
                assert!(!(2..=4).contains(&ctx.generation()), "the disk is full");
            })
            .backoff(fixed(seconds(1))),
        );
        let second = group.add(worker("second", &journal));
        group.start();
        tokio::time::sleep(seconds(1)).await;
        assert!(first.call(Poison(How::Sync)).await.is_err());
        assert_eq!(second.call(Add(1)).await, Ok(1));
        assert_eq!(first.state(), ActorState::Running, "first is up before second");
        assert_eq!((first.info().generation, second.info().generation), (5, 2));
    });
}

#[test]
fn an_escalation_restarts_the_whole_group_and_then_reaches_the_root() {
    paused(|| async {
        let three = Three::with(Strategy::OneForOne, |spec| {
            spec.intensity(0, seconds(60)).exhausted(Exhausted::Escalate)
        })
        .await;
        for round in 1..=5 {
            assert!(three.workers[1].call(Poison(How::Sync)).await.is_err());
            tokio::time::sleep(seconds(2)).await;
            assert!(three.workers[2].call(Add(1)).await.is_ok(), "the whole group is back");
            assert_eq!(three.generations(), [round + 1; 3]);
            assert!(!three.tree.has_escalated());
        }
        assert!(three.workers[1].call(Poison(How::Sync)).await.is_err());
        tokio::time::sleep(seconds(60)).await;
        assert!(three.tree.has_escalated(), "the supervisor's own intensity is 5 in 30 s");
        assert_eq!(three.workers[0].call(Add(1)).await, Ok(1), "the others go on");
        let left = three.workers[1].call(Add(1)).await;
        assert_eq!(left, Err(CallError::Stopped), "it is not left waiting for ever");
    });
}

#[test]
fn a_group_that_never_started_does_not_hold_up_the_stop() {
    paused(|| async {
        let (tree, journal) = (Tree::new(), Journal::default());
        let mut group = Group::new(&tree, "idle", Strategy::OneForAll);
        let never = group.add(worker("never", &journal));
        let began = tokio::time::Instant::now();
        assert!(tree.stop(seconds(60)).await.is_clean());
        assert_eq!(began.elapsed(), Duration::ZERO);
        drop((group, never));
    });
}

#[test]
fn a_stop_in_the_middle_of_the_start_starts_nothing_more() {
    paused(|| async {
        let (tree, journal) = (Tree::new(), Journal::default());
        let mut group = Group::new(&tree, "group", Strategy::OneForOne);
        group.add(worker_that("slow", &journal, |ctx| {
            actix::AsyncContext::wait(ctx, actix::fut::wrap_future(tokio::time::sleep(seconds(3))));
        }));
        let second = group.add(worker("second", &journal));
        group.start();
        tokio::time::sleep(seconds(1)).await;
        assert!(tree.stop(seconds(60)).await.is_clean());
        tokio::time::sleep(seconds(10)).await;
        assert_eq!(journal.lines(), ["slow 1 started", "slow stopped"]);
        assert_eq!(second.call(Add(1)).await, Err(CallError::Stopped));
        assert!(tree.snapshot().nodes.is_empty());
    });
}

#[test]
fn a_quarantined_child_does_not_come_back_in_the_middle_of_its_groups_restart() {
    paused(|| async {
        let three = Three::with(Strategy::OneForAll, |spec| {
            spec.intensity(0, seconds(60))
                .exhausted(Exhausted::Quarantine { cooldown: seconds(30) })
        })
        .await;
        assert!(three.workers[2].call(Poison(How::Sync)).await.is_err());
        assert_eq!(three.workers[2].state(), ActorState::Quarantined);
        assert_eq!(three.generations(), [1, 1, 1]);
        tokio::time::sleep(seconds(31)).await;
        assert_eq!(three.workers[2].call(Add(1)).await, Ok(1));
        assert_eq!(three.generations(), [1, 1, 2]);
    });
}

#[test]
fn calls_can_be_awaited_on_any_thread() {
    fn is_send<T: Send>(_: &T) {}
    paused(|| async {
        let three = Three::start(Strategy::OneForOne).await;
        is_send(&three.workers[0]);
        is_send(&three.workers[0].call(Add(1)));
        is_send(&three.tree.stop(seconds(1)));
    });
}

#[test]
fn a_groups_escalation_is_a_failure_of_the_group_above() {
    paused(|| async {
        let (tree, journal) = (Tree::new(), Journal::default());
        let mut outer = Group::new(&tree, "outer", Strategy::OneForAll);
        let neighbour = outer.add(worker("neighbour", &journal));
        let mut inner = Group::new(&tree, "inner", Strategy::OneForOne);
        let fragile = inner.add(
            worker("fragile", &journal).intensity(0, seconds(60)).exhausted(Exhausted::Escalate),
        );
        let supervisor = outer.add_group(inner);
        outer.start();
        tokio::time::sleep(seconds(1)).await;
        assert!(fragile.call(Poison(How::Sync)).await.is_err());
        assert_eq!(fragile.call(Add(1)).await, Ok(1));
        assert_eq!(neighbour.call(Add(1)).await, Ok(1));
        assert_eq!(supervisor.info().generation, 2);
        assert_eq!(neighbour.info().generation, 2, "one for all, in the outer group");
        let shown = tree.snapshot().nodes;
        let parent = |name: &str| {
            shown.iter().find(|node| &*node.name == name).map(|node| (node.id, node.parent))
        };
        let (inner_id, inner_parent) = parent("inner").expect("shown");
        assert_eq!(parent("fragile").expect("shown").1, Some(inner_id));
        assert_eq!(inner_parent, parent("outer").map(|(id, _)| id));
    });
}

#[test]
fn an_actor_is_found_by_its_name_and_type() {
    paused(|| async {
        let three = Three::start(Strategy::OneForOne).await;
        assert_eq!(three.tree.find::<Worker>("b"), Some(three.workers[1].clone()));
        assert_eq!(three.tree.find::<Worker>("z"), None);
        assert!(three.tree.find::<crate::kernel::Supervisor>("b").is_none(), "not of that type");
        let second = three.tree.start(worker("b", &three.journal));
        assert_eq!(second.name(), "b-2", "names are unique");
        second.stop(seconds(1));
        tokio::time::sleep(seconds(1)).await;
        assert_eq!(three.tree.find::<Worker>("b-2"), None);
        assert_eq!(second.call(Add(1)).await, Err(CallError::Stopped));
    });
}

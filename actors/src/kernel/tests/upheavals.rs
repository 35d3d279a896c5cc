//! Groups in trouble: whatever fails when, every caller is told and every child ends up
//! running or stopped.

use std::sync::Arc;
use std::time::Duration;

use actix::{ActorContext, AsyncContext};
use tokio::time::Instant;

use super::support::{Add, Do, How, Journal, Poison, Worker, fixed, paused, worker, worker_that};
use crate::kernel::{
    ActorState, CallError, Exhausted, Group, Overflow, Placement, Ref, Restart, Spec, Strategy,
    Tree,
};

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn generation(worker: &Ref<Worker>) -> u32 {
    worker.info().generation
}

async fn group_of<const N: usize>(
    strategy: Strategy,
    specs: [Spec<Worker>; N],
) -> (Tree, [Ref<Worker>; N], Ref<crate::kernel::Supervisor>) {
    let tree = Tree::new();
    let mut group = Group::new(&tree, "group", strategy);
    let workers = specs.map(|spec| group.add(spec));
    let supervisor = group.start();
    tokio::time::sleep(seconds(1)).await;
    (tree, workers, supervisor)
}

#[test]
fn a_resting_child_is_no_part_of_its_groups_restart() {
    paused(|| async {
        let journal = Journal::default();
        let resting = worker("resting", &journal)
            .intensity(0, seconds(60))
            .exhausted(Exhausted::Quarantine { cooldown: seconds(30) });
        let specs = [worker("a", &journal), resting];
        let (_tree, [a, resting], _) = group_of(Strategy::OneForAll, specs).await;
        assert!(resting.call(Poison(How::Sync)).await.is_err());
        assert!(a.call(Poison(How::Sync)).await.is_err());
        assert_eq!(a.call(Add(1)).await, Ok(1));
        assert_eq!((generation(&a), resting.state()), (2, ActorState::Quarantined));
        tokio::time::sleep(seconds(31)).await;
        assert_eq!(resting.call(Add(1)).await, Ok(1));
        assert_eq!(generation(&resting), 2);
    });
}

#[test]
fn children_that_stopped_by_themselves_are_left_out_of_a_restart() {
    paused(|| async {
        let journal = Journal::default();
        let specs = [
            worker("a", &journal).restart(Restart::Transient),
            worker("b", &journal),
            worker("c", &journal).restart(Restart::Temporary),
        ];
        let (tree, [a, b, c], _) = group_of(Strategy::OneForAll, specs).await;
        assert_eq!(a.call(Do::this(|_, ctx| ctx.stop())).await, Ok(()));
        assert!(c.call(Poison(How::Sync)).await.is_err());
        assert_eq!(generation(&b), 1, "a child that is not restarted takes nobody along");
        let began = Instant::now();
        assert!(b.call(Poison(How::Sync)).await.is_err());
        assert_eq!(b.call(Add(1)).await, Ok(1));
        assert!(began.elapsed() < seconds(1), "nobody waits for those that are gone");
        assert_eq!(a.call(Add(1)).await, Err(CallError::Stopped));
        assert_eq!(c.call(Add(1)).await, Err(CallError::Stopped));
        assert!(tree.stop(seconds(5)).await.is_clean());
    });
}

#[test]
fn children_of_a_supervisor_that_fell_are_stopped_with_the_tree() {
    paused(|| async {
        let journal = Journal::default();
        let core = worker("core", &journal)
            .intensity(0, seconds(60))
            .exhausted(Exhausted::Escalate)
            .backoff(fixed(Duration::ZERO));
        let specs = [worker("a", &journal), core, worker("b", &journal)];
        let (tree, [a, core, b], supervisor) = group_of(Strategy::OneForOne, specs).await;
        let mut rounds = 0;
        while supervisor.state() != ActorState::Stopped {
            rounds += 1;
            assert!(rounds < 20, "the supervisor gives up in the end");
            assert!(core.call(Poison(How::Sync)).await.is_err());
            tokio::time::sleep(seconds(2)).await;
        }
        assert_eq!(a.call(Add(1)).await, Ok(1), "the others go on");
        let parents: Vec<_> = tree
            .snapshot()
            .nodes
            .into_iter()
            .filter(|node| node.state == ActorState::Running)
            .map(|node| node.parent)
            .collect();
        assert_eq!(parents, [None, None], "under the tree itself now");
        assert!(tree.stop(seconds(5)).await.is_clean());
        assert_eq!((a.state(), b.state()), (ActorState::Stopped, ActorState::Stopped));
        let last: Vec<_> = journal.lines().into_iter().rev().take(2).collect();
        assert_eq!(last, ["a stopped", "b stopped"], "in order");
    });
}

#[test]
fn a_child_that_was_never_started_stops_with_its_supervisor() {
    paused(|| async {
        let (tree, journal) = (Tree::new(), Journal::default());
        let mut group = Group::new(&tree, "group", Strategy::OneForOne);
        let slow = group.add(worker_that("slow", &journal, |ctx| {
            ctx.wait(actix::fut::wrap_future(tokio::time::sleep(seconds(5))));
        }));
        let ring = group.add(worker("ring", &journal).overflow(Overflow::DropOldest));
        let queue = group.add(worker("queue", &journal));
        let supervisor = group.start();
        let asked = {
            let (ring, queue) = (ring.clone(), queue.clone());
            tokio::task::spawn_local(
                async move { tokio::join!(ring.call(Add(1)), queue.call(Add(1))) },
            )
        };
        tokio::time::sleep(seconds(1)).await;
        supervisor.stop(Duration::ZERO);
        let told = tokio::time::timeout(seconds(60), asked).await.expect("they are told");
        let stopped = Err(CallError::Stopped);
        assert_eq!(told.expect("it ended"), (stopped.clone(), stopped));
        assert_eq!((ring.state(), queue.state()), (ActorState::Stopped, ActorState::Stopped));
        assert_eq!(slow.call(Add(1)).await, Ok(1));
        let names: Vec<_> =
            tree.snapshot().nodes.iter().map(|node| Arc::clone(&node.name)).collect();
        assert_eq!(names, ["slow".into()]);
    });
}

#[test]
fn a_group_restarted_in_the_middle_of_its_start_goes_on_starting() {
    paused(|| async {
        let (tree, journal) = (Tree::new(), Journal::default());
        let mut outer = Group::new(&tree, "outer", Strategy::OneForAll);
        let neighbour = outer.add(worker("neighbour", &journal).backoff(fixed(Duration::ZERO)));
        let mut inner = Group::new(&tree, "inner", Strategy::OneForOne);
        inner.add(worker_that("slow", &journal, |ctx| {
            ctx.wait(actix::fut::wrap_future(tokio::time::sleep(seconds(3))));
        }));
        let last = inner.add(worker("last", &journal));
        outer.add_group(inner);
        outer.start();
        tokio::time::sleep(seconds(1)).await;
        let began = Instant::now();
        assert!(neighbour.call(Poison(How::Sync)).await.is_err());
        assert_eq!(last.call(Add(1)).await, Ok(1));
        assert_eq!(began.elapsed().as_secs(), 3, "as long as the slow one takes, no longer");
        assert_eq!(generation(&last), 1);
    });
}

#[test]
fn a_stop_that_drops_what_a_held_child_had_queued_says_so() {
    paused(|| async {
        let journal = Journal::default();
        let specs = [worker("a", &journal).backoff(fixed(seconds(3600))), worker("b", &journal)];
        let (tree, [a, b], _) = group_of(Strategy::OneForAll, specs).await;
        assert!(a.call(Poison(How::Sync)).await.is_err());
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(b.state(), ActorState::Suspended);
        assert_eq!(b.tell(Add(1)), Ok(()));
        assert_eq!(tree.stop(seconds(5)).await.unfinished, ["b".into()]);
    });
}

#[test]
fn a_child_that_fails_while_it_drains_takes_nobody_along() {
    paused(|| async {
        let journal = Journal::default();
        let specs = [worker("a", &journal), worker("b", &journal)];
        let (_tree, [a, b], _) = group_of(Strategy::OneForAll, specs).await;
        let (poison, queued, ()) =
            tokio::join!(b.call(Poison(How::Sync)), b.call(Add(1)), async { b.stop(seconds(5)) });
        assert!(poison.is_err());
        assert_eq!(queued, Ok(1), "what it had accepted is finished");
        tokio::time::sleep(seconds(1)).await;
        assert_eq!((generation(&a), b.state()), (1, ActorState::Stopped));
    });
}

#[test]
fn an_operator_stops_a_child_in_the_middle_of_its_groups_restart() {
    paused(|| async {
        let journal = Journal::default();
        let failing = worker("a", &journal).backoff(fixed(seconds(3600)));
        let specs = [failing, worker("b", &journal), worker("c", &journal)];
        let (tree, [a, b, c], _) = group_of(Strategy::OneForAll, specs).await;
        assert!(a.call(Poison(How::Sync)).await.is_err());
        tokio::time::sleep(Duration::from_millis(1)).await;
        b.stop(seconds(1));
        let rest = tokio::join!(a.call(Add(1)), b.call(Add(1)), c.call(Add(1)));
        assert_eq!(rest, (Ok(1), Err(CallError::Stopped), Ok(1)));
        assert_eq!((generation(&a), generation(&c)), (2, 2));
        assert!(tree.stop(seconds(5)).await.is_clean());
    });
}

#[test]
fn groups_that_came_and_went_leave_nothing() {
    paused(|| async {
        let tree = Tree::new();
        let mut gone = Vec::new();
        for _ in 0..20 {
            let journal = Journal::default();
            let mut outer = Group::new(&tree, "outer", Strategy::OneForAll);
            let mut inner = Group::new(&tree, "inner", Strategy::RestForOne);
            let worker = inner.add(worker("w", &journal));
            outer.add_group(inner);
            let supervisor = outer.start();
            assert_eq!(worker.call(Add(1)).await, Ok(1));
            assert!(tree.stop(seconds(5)).await.is_clean());
            gone.push(Arc::downgrade(worker.shared()));
            gone.push(Arc::downgrade(supervisor.shared()));
        }
        let unstarted = Group::new(&tree, "unstarted", Strategy::OneForAll);
        assert!(tree.stop(seconds(5)).await.is_clean());
        drop(unstarted);
        tokio::task::yield_now().await;
        assert!(tree.snapshot().nodes.is_empty(), "{:?}", tree.snapshot().nodes);
        assert_eq!(gone.iter().filter(|shared| shared.strong_count() > 0).count(), 0);
    });
}

#[test]
fn children_on_other_threads_survive_a_storm_of_group_restarts() {
    for strategy in [Strategy::OneForAll, Strategy::RestForOne] {
        actix_rt::System::new().block_on(async {
            let (tree, journal) = (Tree::new(), Journal::default());
            let arbiters = [actix_rt::Arbiter::new(), actix_rt::Arbiter::new()];
            let mut group = Group::new(&tree, "group", strategy);
            let workers: Vec<_> = (0..4)
                .map(|number| {
                    let arbiter = arbiters[number % 2].handle();
                    group.add(
                        worker(&format!("w{number}"), &journal)
                            .backoff(fixed(Duration::from_micros(100)))
                            .place(Placement::On(arbiter)),
                    )
                })
                .collect();
            group.start();
            let storm = async {
                for round in 0..200 {
                    let poisoned = &workers[round % 4];
                    let _told = poisoned.call(Poison(How::Sync)).await;
                    let (_, _) = tokio::join!(
                        workers[(round + 1) % 4].call(Add(1)),
                        workers[(round + 2) % 4].call(Poison(How::Sync))
                    );
                }
                for worker in &workers {
                    while worker.call(Add(1)).await.is_err() {}
                }
            };
            let settled = tokio::time::timeout(seconds(60), storm).await;
            assert!(settled.is_ok(), "{:?}", tree.snapshot().nodes);
            assert!(tree.stop(seconds(5)).await.is_clean());
            for arbiter in arbiters {
                arbiter.stop();
            }
        });
    }
}

async fn gone(worker: &Ref<Worker>) {
    let _seen = worker.watch().reached(ActorState::Stopped).await;
}

#[test]
fn an_actor_whose_thread_ended_before_it_began_is_stopped_like_any_other() {
    actix_rt::System::new().block_on(async {
        let (tree, journal) = (Tree::new(), Journal::default());
        let arbiter = actix_rt::Arbiter::new();
        // The thread is busy, then it is told to end, and only then comes the actor.
        let (release, busy) = std::sync::mpsc::channel::<()>();
        let (began, begun) = tokio::sync::oneshot::channel();
        arbiter.spawn_fn(move || {
            let _told = began.send(());
            let _released = busy.recv();
        });
        assert_eq!(begun.await, Ok(()));
        arbiter.stop();
        let here = Placement::On(arbiter.handle());
        let queue = tree.start(worker("queue", &journal).place(here.clone()));
        let ring = worker("ring", &journal).overflow(Overflow::DropOldest).place(here);
        let ring = tree.start(ring);
        let released = async { drop(release) };
        let asked = async { tokio::join!(queue.call(Add(1)), ring.call(Add(1)), released) };
        let told = tokio::time::timeout(seconds(60), asked).await.expect("they are told");
        assert_eq!(told, (Err(CallError::Stopped), Err(CallError::Stopped), ()));
        let stopped = async { tokio::join!(gone(&queue), gone(&ring)) };
        assert!(tokio::time::timeout(seconds(60), stopped).await.is_ok());
        assert!(tree.snapshot().nodes.is_empty());
        assert_eq!(tree.dead_letters().total(), 2);
    });
}

#[test]
fn a_child_whose_thread_ended_is_left_out_of_a_restart() {
    actix_rt::System::new().block_on(async {
        let (tree, journal) = (Tree::new(), Journal::default());
        let arbiter = actix_rt::Arbiter::new();
        let mut group = Group::new(&tree, "group", Strategy::OneForAll);
        let here = group.add(worker("here", &journal));
        let there = group.add(worker("there", &journal).place(Placement::On(arbiter.handle())));
        group.start();
        assert_eq!((here.call(Add(1)).await, there.call(Add(1)).await), (Ok(1), Ok(1)));
        arbiter.stop();
        assert!(there.watch().reached(ActorState::Stopped).await.is_some());
        let began = std::time::Instant::now();
        assert!(here.call(Poison(How::Sync)).await.is_err());
        assert_eq!(here.call(Add(1)).await, Ok(1));
        assert!(began.elapsed() < seconds(3), "nobody waits for it");
        assert!(tree.stop(seconds(5)).await.is_clean());
    });
}

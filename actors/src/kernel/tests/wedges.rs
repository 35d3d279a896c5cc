//! Nested groups under random trouble: whatever happens in whatever order, every caller is
//! told, and every child ends up running, resting or stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use actix::{ActorContext, AsyncContext};
use proptest::prelude::*;

use super::support::{
    Add, Do, Hold, How, Journal, Poison, Sleep, Worker, fixed, paused, worker_that,
};
use crate::kernel::{
    ActorState, Exhausted, Group, NodeInfo, Overflow, Ref, Restart, Spec,
    Strategy as GroupStrategy, Tree,
};

const CHILDREN: usize = 5;

#[derive(Debug, Clone)]
enum Step {
    Poison(usize),
    StopItself(usize),
    Stop(usize, u64),
    Call(usize),
    Sleep(usize, u64),
    Hold(usize, u64),
    /// The next starts of a child fail.
    FailStarts(usize, u32),
    StopSupervisor(bool),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let child = || 0..CHILDREN;
    prop_oneof![
        6 => child().prop_map(Step::Poison),
        2 => child().prop_map(Step::StopItself),
        1 => (child(), 0_u64..200).prop_map(|(child, within)| Step::Stop(child, within)),
        6 => child().prop_map(Step::Call),
        2 => (child(), 0_u64..200).prop_map(|(child, long)| Step::Sleep(child, long)),
        2 => (child(), 0_u64..200).prop_map(|(child, long)| Step::Hold(child, long)),
        3 => (child(), 1_u32..4).prop_map(|(child, times)| Step::FailStarts(child, times)),
        1 => any::<bool>().prop_map(Step::StopSupervisor),
        8 => (0_u64..200).prop_map(Step::Wait),
    ]
}

#[derive(Debug, Clone)]
struct Kind {
    restart: Restart,
    exhausted: Exhausted,
    overflow: Overflow,
    intensity: u32,
    backoff: u64,
    slow_start: u64,
    failing_starts: u32,
}

fn kind() -> impl Strategy<Value = Kind> {
    let restart = prop_oneof![4 => Just(Restart::Permanent), 1 => Just(Restart::Transient), 1 => Just(Restart::Temporary)];
    let exhausted = prop_oneof![
        Just(Exhausted::Stop),
        Just(Exhausted::Escalate),
        Just(Exhausted::Quarantine { cooldown: ms(300) }),
    ];
    let overflow =
        prop_oneof![Just(Overflow::Reject), Just(Overflow::Wait), Just(Overflow::DropOldest)];
    let times = (0_u32..4, 0_u64..100, 0_u64..50, 0_u32..3);
    (restart, exhausted, overflow, times).prop_map(
        |(restart, exhausted, overflow, (intensity, backoff, slow_start, failing_starts))| Kind {
            restart,
            exhausted,
            overflow,
            intensity,
            backoff,
            slow_start,
            failing_starts,
        },
    )
}

fn strategy() -> impl Strategy<Value = GroupStrategy> {
    prop_oneof![
        Just(GroupStrategy::OneForOne),
        Just(GroupStrategy::OneForAll),
        Just(GroupStrategy::RestForOne),
    ]
}

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn child(number: usize, kind: &Kind, failing: &Arc<AtomicU32>) -> Spec<Worker> {
    let (failing, slow) = (Arc::clone(failing), ms(kind.slow_start));
    worker_that(&format!("c{number}"), &Journal::default(), move |ctx| {
        let fails =
            failing.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        assert!(fails.is_err(), "the start fails");
        ctx.wait(actix::fut::wrap_future(tokio::time::sleep(slow)));
    })
    .capacity(4)
    .overflow(kind.overflow)
    .restart(kind.restart)
    .exhausted(kind.exhausted)
    .intensity(kind.intensity, ms(400))
    .backoff(fixed(ms(kind.backoff)))
}

async fn play(steps: Vec<Step>, strategies: [GroupStrategy; 2], kinds: Vec<Kind>) {
    let tree = Tree::new();
    let failing: Vec<_> =
        kinds.iter().map(|kind| Arc::new(AtomicU32::new(kind.failing_starts))).collect();
    let mut specs =
        kinds.iter().zip(&failing).enumerate().map(|(n, (kind, failing))| child(n, kind, failing));
    let mut outer = Group::new(&tree, "outer", strategies[0]);
    let mut inner = Group::new(&tree, "inner", strategies[1]);
    let mut workers: Vec<Ref<Worker>> =
        specs.by_ref().take(2).map(|spec| outer.add(spec)).collect();
    workers.extend(specs.by_ref().take(2).map(|spec| inner.add(spec)));
    let inner = outer.add_group(inner);
    workers.extend(specs.map(|spec| outer.add(spec)));
    let outer = outer.start();
    let mut callers = Vec::new();
    for step in steps {
        match step {
            Step::Poison(n) => callers.push(ask(&workers[n], |one| async move {
                drop(one.call(Poison(How::Sync)).await);
            })),
            Step::StopItself(n) => callers.push(ask(&workers[n], |one| async move {
                drop(one.call(Do::this(|_, ctx| ctx.stop())).await);
            })),
            Step::Call(n) => callers.push(ask(&workers[n], |one| async move {
                drop(one.call(Add(1)).await);
            })),
            Step::Sleep(n, long) => callers.push(ask(&workers[n], move |one| async move {
                drop(one.call(Sleep(ms(long))).await);
            })),
            Step::Hold(n, long) => callers.push(ask(&workers[n], move |one| async move {
                drop(one.call(Hold(ms(long))).await);
            })),
            Step::Stop(n, within) => workers[n].stop(ms(within)),
            Step::FailStarts(n, times) => failing[n].store(times, Ordering::Relaxed),
            Step::StopSupervisor(of_inner) => if of_inner { &inner } else { &outer }.stop(ms(10)),
            Step::Wait(long) => tokio::time::sleep(ms(long)).await,
        }
    }
    tokio::time::sleep(Duration::from_secs(3600)).await;
    for caller in callers {
        assert!(caller.is_finished(), "a caller was never told: {:#?}", tree.snapshot().nodes);
        assert!(caller.await.is_ok(), "a caller panicked");
    }
    let settled = [ActorState::Running, ActorState::Quarantined, ActorState::Stopped];
    for worker in &workers {
        assert!(settled.contains(&worker.state()), "{:#?}", tree.snapshot().nodes);
    }
    let report = tree.stop(Duration::from_secs(60)).await;
    assert!(report.is_clean(), "{report:?}");
    workers.iter().for_each(|worker| balances(&worker.info()));
    let left: Vec<NodeInfo> = tree.snapshot().nodes;
    assert!(left.iter().all(|node| node.state == ActorState::Stopped), "{left:#?}");
}

fn balances(info: &NodeInfo) {
    let ended = info.handled + info.expired + info.abandoned + info.panicked + info.dead_lettered;
    assert_eq!((info.sent, info.depth, info.state), (ended, 0, ActorState::Stopped), "{info:?}");
}

fn ask<F: Future<Output = ()> + 'static>(
    worker: &Ref<Worker>,
    question: impl FnOnce(Ref<Worker>) -> F,
) -> tokio::task::JoinHandle<()> {
    tokio::task::spawn_local(question(worker.clone()))
}

proptest! {
    #[test]
    fn no_order_of_failures_and_stops_leaves_anyone_waiting(
        steps in prop::collection::vec(step(), 1..60),
        strategies in [strategy(), strategy()],
        kinds in prop::collection::vec(kind(), CHILDREN),
    ) {
        paused(|| play(steps, strategies, kinds));
    }
}

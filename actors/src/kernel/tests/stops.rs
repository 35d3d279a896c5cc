//! Draining and stopping.

use std::time::Duration;

use tokio::time::Instant;

use super::support::{Add, Hold, How, Journal, Poison, Sleep, fixed, paused, start, worker};
use crate::kernel::{ActorState, CallError, CutShort, Group, Placement, Refused, Strategy, Tree};

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[test]
fn a_drain_finishes_what_was_accepted_and_takes_nothing_new() {
    paused(|| async {
        let (tree, worker) = start(worker("w", &Journal::default()).drain(seconds(10)));
        let stop = async {
            tokio::task::yield_now().await;
            let report = tree.stop(seconds(60)).await;
            (report.is_clean(), Instant::now())
        };
        let began = Instant::now();
        let late = async {
            tokio::time::sleep(seconds(1)).await;
            worker.tell(Add(1))
        };
        let (task, held, queued, (clean, at), late) = tokio::join!(
            worker.call(Sleep(seconds(2))),
            worker.call(Hold(seconds(3))),
            worker.call(Add(1)),
            stop,
            late
        );
        assert_eq!((task, held, queued), (Ok(()), Ok(()), Ok(1)));
        assert_eq!(late, Err(Refused::Stopped));
        assert!(clean);
        assert_eq!(at - began, seconds(3), "as soon as the last one is done");
        assert!(tree.snapshot().nodes.is_empty());
    });
}

#[test]
fn what_does_not_finish_in_time_is_cut_told_and_reported() {
    paused(|| async {
        let (tree, worker) = start(worker("w", &Journal::default()).drain(seconds(1)));
        let stop = async {
            tokio::task::yield_now().await;
            tree.stop(seconds(60)).await
        };
        let (task, held, queued, report) = tokio::join!(
            worker.call(Sleep(seconds(100))),
            worker.call(Hold(seconds(100))),
            worker.call(Add(1)),
            stop
        );
        assert_eq!(task, Err(CallError::Cancelled(CutShort::Stop)), "it ran");
        assert_eq!(held, Err(CallError::Cancelled(CutShort::Stop)), "it ran");
        assert_eq!(queued, Err(CallError::Stopped), "it did not run");
        assert_eq!(report.unfinished, ["w".into()]);
        assert_eq!(tree.dead_letters().total(), 1);
    });
}

#[test]
fn a_stop_ends_a_failed_actor_without_waiting_for_its_pause() {
    paused(|| async {
        let (tree, worker) = start(
            worker("w", &Journal::default()).intensity(0, seconds(60)).backoff(fixed(seconds(100))),
        );
        assert!(worker.call(Poison(How::Sync)).await.is_err());
        assert_eq!(worker.state(), ActorState::Quarantined);
        let began = Instant::now();
        assert!(tree.stop(seconds(60)).await.is_clean());
        assert_eq!(began.elapsed(), Duration::ZERO);
    });
}

#[test]
fn actors_stop_in_reverse_order_within_one_deadline() {
    paused(|| async {
        let (tree, journal) = (Tree::new(), Journal::default());
        let _a = tree.start(worker("a", &journal));
        let mut group = Group::new(&tree, "group", Strategy::OneForOne);
        let _b = group.add(worker("b", &journal));
        let mut inner = Group::new(&tree, "inner", Strategy::OneForAll);
        let _c = inner.add(worker("c", &journal));
        let d = inner.add(worker("d", &journal).drain(seconds(30)));
        group.add_group(inner);
        group.start();
        let _e = tree.start(worker("e", &journal));
        tokio::time::sleep(seconds(1)).await;
        assert_eq!(d.tell(Hold(seconds(100))), Ok(()));
        tokio::task::yield_now().await;
        let began = Instant::now();
        let report = tree.stop(seconds(5)).await;
        assert_eq!(began.elapsed(), seconds(5), "the deadline of all, not d's own");
        assert_eq!(report.unfinished, ["d".into()]);
        let stopped: Vec<_> =
            journal.lines().into_iter().filter(|line| line.ends_with("stopped")).collect();
        assert_eq!(stopped, ["e stopped", "d stopped", "c stopped", "b stopped", "a stopped"]);
        assert!(tree.snapshot().nodes.is_empty());
    });
}

#[test]
fn an_actor_whose_thread_ends_tells_its_callers() {
    let system = actix_rt::System::new();
    system.block_on(async {
        let arbiter = actix_rt::Arbiter::new();
        let tree = Tree::new();
        let spec = worker("w", &Journal::default()).place(Placement::On(arbiter.handle()));
        let worker = tree.start(spec);
        assert_eq!(worker.call(Add(1)).await, Ok(1));
        let asleep = worker.clone();
        let asleep = tokio::task::spawn_local(async move { asleep.call(Sleep(seconds(60))).await });
        tokio::task::yield_now().await;
        assert_eq!(worker.call(Add(1)).await, Ok(2), "the sleeper is in flight");
        arbiter.stop();
        let cut = asleep.await.expect("the caller ended");
        assert_eq!(cut, Err(CallError::Cancelled(CutShort::Stop)));
        assert_eq!(worker.call(Add(1)).await, Err(CallError::Stopped));
        let late = tree.start(worker_on(&arbiter));
        assert_eq!(late.call(Add(1)).await, Err(CallError::Stopped), "its thread is gone");
    });
}

fn worker_on(arbiter: &actix_rt::Arbiter) -> crate::kernel::Spec<super::support::Worker> {
    worker("late", &Journal::default()).place(Placement::On(arbiter.handle()))
}

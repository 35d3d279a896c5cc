//! Asking and telling.

use std::time::Duration;

use super::support::{
    Add, Hold, How, Journal, Poison, PoisonAtomic, PoisonFuture, paused, start, worker,
};
use crate::kernel::{ActorState, CallError, Overflow, Refused};

#[test]
fn an_answer_comes_back() {
    paused(|| async {
        let (_tree, worker) = start(worker("w", &Journal::default()));
        assert_eq!(worker.call(Add(2)).await, Ok(2));
        assert_eq!(worker.tell(Add(3)), Ok(()));
        assert_eq!(worker.call(Add(0)).await, Ok(5));
    });
}

#[test]
fn a_panic_is_told_to_its_caller_and_the_next_message_meets_a_new_incarnation() {
    paused(|| async {
        let (_tree, worker) = start(worker("w", &Journal::default()));
        assert_eq!(worker.call(Add(2)).await, Ok(2));
        let error = worker.call(Poison(How::Sync)).await.unwrap_err();
        let CallError::Panicked { message, generation } = &error else { panic!("{error:?}") };
        assert_eq!((&**message, *generation), ("poisoned in a handler", 1));
        assert!(error.ran());
        assert_eq!(worker.call(Add(1)).await, Ok(1), "state starts anew");
        assert_eq!(worker.info().generation, 2);
    });
}

#[test]
fn a_panic_in_a_reply_future_is_told_to_its_caller() {
    paused(|| async {
        let (_tree, worker) = start(worker("w", &Journal::default()));
        for expected in ["poisoned in a future", "poisoned atomically"] {
            let error = if expected.ends_with("future") {
                worker.call(PoisonFuture).await.unwrap_err()
            } else {
                worker.call(PoisonAtomic).await.unwrap_err()
            };
            let CallError::Panicked { message, .. } = &error else { panic!("{error:?}") };
            assert_eq!(&**message, expected);
        }
        assert_eq!(worker.call(Add(1)).await, Ok(1));
        assert_eq!(worker.info().restarts, 2);
    });
}

#[test]
fn a_panic_in_a_task_costs_its_message_and_no_restart() {
    paused(|| async {
        let (_tree, worker) = start(worker("w", &Journal::default()));
        assert_eq!(worker.call(Add(2)).await, Ok(2));
        let error = worker.call(Poison(How::Task)).await.unwrap_err();
        assert!(matches!(error, CallError::Panicked { .. }), "{error:?}");
        assert_eq!(worker.call(Add(1)).await, Ok(3), "the state is kept");
        assert_eq!((worker.info().restarts, worker.info().task_panics), (0, 1));
    });
}

#[test]
fn the_bound_is_exact_through_any_number_of_clones() {
    paused(|| async {
        let (_tree, worker) = start(worker("w", &Journal::default()).capacity(16));
        let _held = worker.tell(Hold(Duration::from_secs(1)));
        let accepted = (0..1000).filter(|_| worker.clone().tell(Add(1)).is_ok()).count();
        assert_eq!(accepted, 15, "and the one that holds the mailbox");
        assert_eq!(worker.clone().tell(Add(1)), Err(Refused::Overloaded));
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(worker.depth(), 0);
        assert_eq!(worker.call(Add(0)).await, Ok(15));
    });
}

#[test]
fn a_waiting_call_gets_a_slot_in_turn() {
    paused(|| async {
        let spec = worker("w", &Journal::default()).capacity(1).overflow(Overflow::Wait);
        let (_tree, worker) = start(spec);
        let hold = worker.call(Hold(Duration::from_secs(1)));
        let (held, a, b) = tokio::join!(hold, worker.call(Add(1)), worker.call(Add(1)));
        assert_eq!((held, a, b), (Ok(()), Ok(1), Ok(2)));
    });
}

#[test]
fn the_oldest_makes_room_and_its_caller_is_told() {
    paused(|| async {
        let spec = worker("w", &Journal::default()).capacity(2).overflow(Overflow::DropOldest);
        let (tree, worker) = start(spec);
        let (first, second, third) =
            tokio::join!(worker.call(Add(1)), worker.call(Add(10)), worker.call(Add(100)));
        assert_eq!((first, second, third), (Err(CallError::Overloaded), Ok(10), Ok(110)));
        assert_eq!(tree.dead_letters().total(), 1);
        assert_eq!(worker.depth(), 0);
    });
}

#[test]
fn a_deadline_that_passes_in_the_queue_means_it_did_not_run() {
    paused(|| async {
        let (_tree, worker) = start(worker("w", &Journal::default()));
        let hold = worker.call(Hold(Duration::from_secs(1)));
        let late = worker.call(Add(1)).deadline(Duration::from_millis(100));
        let (held, late) = tokio::join!(hold, late);
        assert_eq!((held, late), (Ok(()), Err(CallError::Expired)));
        assert_eq!(worker.call(Add(0)).await, Ok(0));
    });
}

#[test]
fn a_stopped_actor_refuses_and_says_so() {
    paused(|| async {
        let (_tree, worker) = start(worker("w", &Journal::default()));
        assert_eq!(worker.call(Add(1)).await, Ok(1));
        worker.stop(Duration::from_secs(1));
        let mut life = worker.watch();
        assert!(life.reached(ActorState::Stopped).await.is_some());
        assert_eq!(worker.call(Add(1)).await, Err(CallError::Stopped));
        assert_eq!(worker.tell(Add(1)), Err(Refused::Stopped));
    });
}

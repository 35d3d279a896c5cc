//! Code that knows only actix.

use std::time::Duration;

use super::support::{Add, Hold, How, Journal, Poison, paused, start, worker};
use crate::kernel::{ActorState, CallError};

#[test]
fn an_address_and_a_recipient_stay_valid_across_restarts() {
    paused(|| async {
        let (_tree, worker) = start(worker("w", &Journal::default()));
        let (addr, recipient) = (worker.addr().clone(), worker.recipient::<Add>());
        assert_eq!(addr.send(Add(1)).await.ok(), Some(1));
        assert!(addr.send(Poison(How::Sync)).await.is_err());
        assert_eq!(recipient.send(Add(1)).await.ok(), Some(1), "the next incarnation");
        assert_eq!(addr.send(Add(1)).await.ok(), Some(2));
        assert!(addr.connected());
    });
}

#[test]
fn both_doors_lead_into_one_queue() {
    paused(|| async {
        let (_tree, worker) = start(worker("w", &Journal::default()));
        let addr = worker.addr();
        let (first, second, third) =
            tokio::join!(async { addr.send(Add(1)).await.ok() }, worker.call(Add(1)), async {
                addr.send(Add(1)).await.ok()
            });
        assert_eq!((first, second, third), (Some(1), Ok(2), Some(3)));
    });
}

#[test]
fn what_came_through_an_address_is_accounted_for_too() {
    paused(|| async {
        let (tree, worker) = start(worker("w", &Journal::default()));
        worker.addr().do_send(Add(1));
        assert_eq!(worker.call(Add(0)).await, Ok(1));
        worker.addr().do_send(Hold(Duration::from_secs(100)));
        worker.addr().do_send(Add(1));
        worker.addr().do_send(Add(1));
        worker.stop(Duration::ZERO);
        assert_eq!(worker.call(Add(1)).await, Err(CallError::Stopped));
        assert!(worker.watch().reached(ActorState::Stopped).await.is_some());
        let info = worker.info();
        assert_eq!((info.sent, info.handled, info.dead_lettered), (5, 3, 2));
        assert_eq!(tree.dead_letters().total(), 2);
    });
}

//! Every message ends in exactly one way, whatever happens to the actor.

use std::time::Duration;

use proptest::prelude::*;

use super::support::{
    Add, Hold, How, Journal, Poison, PoisonAtomic, PoisonFuture, Sleep, fixed, paused, worker,
};
use crate::kernel::{CallError, Exhausted, Overflow, RequestContext, RequestId, Stopped, Tree};

#[derive(Debug, Clone)]
enum Step {
    Call,
    CallWithDeadline(u64),
    CallAndLeave(u64),
    CallInCancelledRequest,
    Tell,
    TellThroughAddr,
    Sleep(u64),
    Hold(u64),
    Poison,
    PoisonFuture,
    PoisonAtomic,
    PoisonTask,
    Wait(u64),
    Stop(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Call),
        4 => (0_u64..50).prop_map(Step::CallWithDeadline),
        4 => (0_u64..50).prop_map(Step::CallAndLeave),
        2 => Just(Step::CallInCancelledRequest),
        4 => Just(Step::Tell),
        2 => Just(Step::TellThroughAddr),
        3 => (0_u64..50).prop_map(Step::Sleep),
        3 => (0_u64..50).prop_map(Step::Hold),
        2 => Just(Step::Poison),
        2 => Just(Step::PoisonFuture),
        1 => Just(Step::PoisonAtomic),
        1 => Just(Step::PoisonTask),
        6 => (0_u64..60).prop_map(Step::Wait),
        1 => (0_u64..60).prop_map(Step::Stop),
    ]
}

fn overflow() -> impl Strategy<Value = Overflow> {
    prop_oneof![Just(Overflow::Reject), Just(Overflow::Wait), Just(Overflow::DropOldest)]
}

fn exhausted() -> impl Strategy<Value = Exhausted> {
    prop_oneof![
        Just(Exhausted::Stop),
        Just(Exhausted::Escalate),
        Just(Exhausted::Quarantine { cooldown: Duration::from_millis(40) }),
    ]
}

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// What callers were told, to be held against what the actor counted.
#[derive(Debug, Default)]
struct Told {
    answered: u64,
    not_run: u64,
    ran: u64,
}

async fn play(steps: Vec<Step>, overflow: Overflow, exhausted: Exhausted, capacity: usize) {
    let tree = Tree::new();
    let spec = worker("w", &Journal::default())
        .capacity(capacity)
        .overflow(overflow)
        .exhausted(exhausted)
        .intensity(3, ms(100))
        .backoff(fixed(ms(20)));
    let worker = tree.start(spec);
    let mut callers = Vec::new();
    for step in steps {
        let target = worker.clone();
        macro_rules! caller {
            ($answer:expr) => {
                callers.push(tokio::task::spawn_local(async move {
                    let answer: Option<Result<(), CallError>> = $answer;
                    answer
                }))
            };
        }
        match step {
            Step::Call => caller!(Some(target.call(Add(1)).await.map(drop))),
            Step::CallWithDeadline(d) => {
                caller!(Some(target.call(Add(1)).deadline(ms(d)).await.map(drop)));
            }
            Step::CallAndLeave(d) => {
                caller!(tokio::time::timeout(ms(d), target.call(Sleep(ms(30)))).await.ok());
            }
            Step::CallInCancelledRequest => caller!({
                let request = RequestContext::new(RequestId::generate());
                request.cancel(Stopped::ClientGone);
                Some(request.scope(async { target.call(Add(1)).await.map(drop) }).await)
            }),
            Step::Tell => drop(target.tell(Add(1))),
            Step::TellThroughAddr => target.addr().do_send(Add(1)),
            Step::Sleep(d) => caller!(Some(target.call(Sleep(ms(d))).await)),
            Step::Hold(d) => caller!(Some(target.call(Hold(ms(d))).await)),
            Step::Poison => caller!(Some(target.call(Poison(How::Sync)).await)),
            Step::PoisonFuture => caller!(Some(target.call(PoisonFuture).await)),
            Step::PoisonAtomic => caller!(Some(target.call(PoisonAtomic).await)),
            Step::PoisonTask => caller!(Some(target.call(Poison(How::Task)).await)),
            Step::Wait(d) => tokio::time::sleep(ms(d)).await,
            Step::Stop(d) => target.stop(ms(d)),
        }
    }
    let mut told = Told::default();
    for caller in callers {
        // A caller that is never answered would hang here and fail the test by its deadline.
        match tokio::time::timeout(Duration::from_secs(600), caller).await {
            Ok(Ok(Some(Ok(())))) => told.answered += 1,
            Ok(Ok(Some(Err(error)))) if error.ran() => told.ran += 1,
            Ok(Ok(Some(Err(_)))) => told.not_run += 1,
            Ok(Ok(None)) => {}
            Ok(Err(panicked)) => panic!("a caller panicked: {panicked}"),
            Err(_) => panic!("a caller was never told: {:?}", worker.info()),
        }
    }
    tree.stop(Duration::from_secs(60)).await;
    let info = worker.info();
    let ended = info.handled + info.expired + info.abandoned + info.panicked + info.dead_lettered;
    assert_eq!(info.sent, ended, "{info:?} {told:?}");
    assert_eq!(info.depth, 0, "every slot came back");
    assert!(told.answered <= info.handled, "{info:?} {told:?}");
    assert!(told.ran <= info.handled + info.panicked, "{info:?} {told:?}");
    assert_eq!(tree.dead_letters().total(), info.dead_lettered);
}

proptest! {
    #[test]
    fn every_message_is_accounted_for_once(
        steps in prop::collection::vec(step(), 1..80),
        overflow in overflow(),
        exhausted in exhausted(),
        capacity in 1_usize..20,
    ) {
        paused(|| play(steps, overflow, exhausted, capacity));
    }
}

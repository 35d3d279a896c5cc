//! What is left of an incarnation once it has ended: nothing that runs.

use std::pin::Pin;
use std::task::{self, Poll};
use std::time::Duration;

use actix::{ActorContext, ActorFuture, AsyncContext};
use tokio::time::Instant;

use super::support::{
    Add, Do, FailThenAnswer, Hold, How, Journal, Poison, Worker, fixed, paused, start, worker,
};
use crate::kernel::{
    ActorState, BuildError, CallError, Context, CutShort, Exhausted, Overflow, Refused,
    RequestContext, RequestId, Restart, Spec, Tree,
};

const MINUTE: Duration = Duration::from_secs(60);

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// A timer that adds 100 to whichever instance it finds.
fn plant(ctx: &mut Context<Worker>) {
    ctx.run_later(Duration::from_millis(1), |worker, _| worker.count += 100);
}

#[test]
fn what_a_failed_incarnation_spawns_does_not_reach_the_next() {
    paused(|| async {
        let (_tree, worker) = start(worker("w", &Journal::default()));
        let told = worker.call(Do::this(|_, ctx| {
            ctx.fail("beyond repair");
            plant(ctx);
        }));
        assert_eq!(told.await, Ok(()), "the message gets its reply");
        let unfinished = worker.call(FailThenAnswer).await;
        assert_eq!(unfinished, Err(CallError::Cancelled(CutShort::Restart)));
        tokio::time::sleep(seconds(1)).await;
        assert_eq!(worker.call(Add(1)).await, Ok(1), "nothing of the old ones touched it");
    });
}

#[test]
fn nothing_runs_on_a_failed_instance_while_it_rests() {
    paused(|| async {
        let journal = Journal::default();
        let spec = worker("w", &Journal::default())
            .intensity(0, MINUTE)
            .exhausted(Exhausted::Quarantine { cooldown: seconds(30) });
        let (_tree, worker) = start(spec);
        let seen = journal.clone();
        let failed = worker.call(Do::this(move |_, ctx| {
            ctx.fail("beyond repair");
            ctx.run_later(Duration::from_millis(1), move |_, _| seen.note("ran"));
        }));
        assert_eq!(failed.await, Ok(()));
        tokio::time::sleep(seconds(40)).await;
        assert_eq!(journal.lines(), [""; 0]);
        assert_eq!(worker.call(Add(1)).await, Ok(1));
    });
}

#[test]
fn an_incarnation_ends_once_however_often_it_says_so() {
    paused(|| async {
        let spec = worker("w", &Journal::default()).intensity(1, MINUTE).exhausted(Exhausted::Stop);
        let (_tree, worker) = start(spec);
        let ended = worker.call(Do::this(|_, ctx| {
            ctx.stop();
            ctx.stop();
            ctx.fail("as well");
        }));
        assert_eq!(ended.await, Ok(()));
        assert_eq!(worker.call(Add(1)).await, Ok(1), "one strike is allowed, and it was one");
    });
}

#[test]
fn a_failed_instance_says_nothing_when_the_actor_is_stopped_in_its_pause() {
    for (within, queued) in [(seconds(0), false), (seconds(5), false), (seconds(5), true)] {
        paused(|| async {
            let journal = Journal::default();
            let (tree, worker) = start(worker("w", &journal).backoff(fixed(MINUTE * 60)));
            assert!(worker.call(Poison(How::Sync)).await.is_err());
            assert_eq!(worker.state(), ActorState::Restarting);
            if queued {
                assert_eq!(worker.tell(Add(1)), Ok(()));
            }
            let report = tree.stop(within).await;
            assert_eq!(report.is_clean(), !queued, "queued: {queued}");
            assert_eq!(journal.lines(), ["w 1 started"]);
        });
    }
}

#[test]
fn a_stop_waits_for_a_first_start_that_has_work_queued() {
    paused(|| async {
        let (tree, worker) = start(worker("w", &Journal::default()));
        assert_eq!(worker.tell(Add(1)), Ok(()), "accepted before the task ever ran");
        assert!(tree.stop(seconds(5)).await.is_clean());
        assert_eq!((worker.info().handled, worker.info().dead_lettered), (1, 0));
    });
}

#[test]
fn a_stop_that_drops_queued_work_of_an_actor_that_cannot_start_says_so() {
    paused(|| async {
        let spec: Spec<Worker> = Spec::fallible("w", |_| Err(BuildError::new("no")));
        let (tree, worker) = start(spec.intensity(1_000, seconds(1)).backoff(fixed(seconds(20))));
        assert_eq!(worker.tell(Add(1)), Ok(()));
        let began = Instant::now();
        let report = tree.stop(seconds(2)).await;
        assert_eq!(report.unfinished, ["w".into()]);
        assert_eq!(began.elapsed(), seconds(2));
        assert_eq!(tree.dead_letters().total(), 1);
    });
}

/// Stops the actor from inside, and never completes.
struct StopAndWait {
    terminate: bool,
}

impl ActorFuture<Worker> for StopAndWait {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        _: &mut Worker,
        ctx: &mut Context<Worker>,
        _: &mut task::Context<'_>,
    ) -> Poll<()> {
        if self.terminate {
            ctx.terminate();
        } else {
            ctx.stop();
        }
        Poll::Pending
    }
}

#[test]
fn a_stop_inside_a_pending_wait_takes_effect_at_once() {
    for terminate in [false, true] {
        paused(|| async {
            let journal = Journal::default();
            let spec = worker("w", &journal).restart(Restart::Transient);
            let (_tree, worker) = start(spec);
            assert_eq!(worker.call(Add(1)).await, Ok(1));
            tokio::time::sleep(MINUTE).await;
            let asked = worker.call(Do::this(move |_, ctx| {
                ctx.wait(StopAndWait { terminate });
            }));
            assert_eq!(asked.await, Ok(()));
            tokio::time::sleep(MINUTE).await;
            assert_eq!(worker.state(), ActorState::Stopped, "terminate: {terminate}");
            let started = journal.lines().iter().filter(|line| line.contains("started")).count();
            assert_eq!(started, 1, "terminate: {terminate}");
        });
    }
}

#[test]
fn a_second_stop_does_not_put_off_the_first() {
    paused(|| async {
        let (_tree, worker) = start(worker("w", &Journal::default()));
        assert_eq!(worker.tell(Hold(MINUTE)), Ok(()));
        tokio::task::yield_now().await;
        let began = Instant::now();
        worker.stop(seconds(1));
        worker.stop(seconds(30));
        assert!(worker.watch().reached(ActorState::Stopped).await.is_some());
        assert_eq!(began.elapsed(), seconds(1));
    });
}

#[test]
fn a_watcher_that_outlives_every_handle_still_sees_the_stop() {
    paused(|| async {
        let (tree, worker) = start(worker("w", &Journal::default()));
        assert_eq!(worker.call(Add(1)).await, Ok(1));
        let mut life = worker.watch();
        assert!(tree.stop(seconds(1)).await.is_clean());
        drop((tree, worker));
        tokio::task::yield_now().await;
        let last = life.changed().await.map(|event| event.state);
        assert_eq!(last, Some(ActorState::Stopped));
        assert_eq!(life.changed().await, None);
    });
}

#[test]
fn a_rest_ends_with_the_actor() {
    paused(|| async {
        let spec = worker("w", &Journal::default()).intensity(0, MINUTE);
        let (_tree, worker) = start(spec);
        assert!(worker.call(Poison(How::Sync)).await.is_err());
        assert_eq!(worker.info().rest_ms, 30_000);
        worker.stop(seconds(1));
        assert!(worker.watch().reached(ActorState::Stopped).await.is_some());
        assert_eq!(worker.info().rest_ms, 0);
    });
}

#[test]
fn for_ever_is_a_duration_like_any_other() {
    paused(|| async {
        let cooldown = Duration::MAX;
        let spec = worker("w", &Journal::default())
            .intensity(0, MINUTE)
            .drain(Duration::MAX)
            .exhausted(Exhausted::Quarantine { cooldown });
        let (tree, worker) = start(spec);
        assert_eq!(worker.call(Add(1)).deadline(Duration::MAX).await, Ok(1));
        let request = RequestContext::new(RequestId::generate());
        let child = request.child(Duration::MAX);
        assert_eq!(child.run(worker.call(Add(1))).await, Ok(Ok(2)));
        assert!(worker.call(Poison(How::Sync)).await.is_err());
        assert_eq!(worker.state(), ActorState::Quarantined);
        assert!(matches!(worker.tell(Add(1)), Err(Refused::Quarantined { .. })));
        assert!(tree.stop(Duration::MAX).await.is_clean());
        worker.stop(Duration::MAX);
    });
}

#[test]
fn everyone_who_waits_is_told_the_true_reason_however_many_they_are() {
    paused(|| async {
        let spec = worker("w", &Journal::default()).capacity(10_000);
        let (tree, worker) = start(spec);
        assert_eq!(worker.tell(Hold(MINUTE)), Ok(()));
        let asks: Vec<_> = (0..9_999)
            .map(|_| {
                let worker = worker.clone();
                tokio::task::spawn_local(async move { worker.call(Add(1)).await })
            })
            .collect();
        tokio::time::sleep(seconds(1)).await;
        assert_eq!(worker.depth(), 10_000);
        tree.stop(Duration::ZERO).await;
        for ask in asks {
            assert_eq!(ask.await.expect("it ended"), Err(CallError::Stopped));
        }
    });
}

#[test]
fn the_bound_holds_for_work_in_flight_where_the_oldest_makes_room() {
    paused(|| async {
        let spec = worker("w", &Journal::default()).capacity(2).overflow(Overflow::DropOldest);
        let (_tree, worker) = start(spec);
        let mut refused = 0;
        for _ in 0..10 {
            refused += u32::from(worker.tell(super::support::Sleep(MINUTE)).is_err());
            tokio::task::yield_now().await;
            assert!(worker.depth() <= 2, "{} in flight", worker.depth());
        }
        assert_eq!(refused, 8, "there is nothing queued that could make room");
        tokio::time::sleep(MINUTE * 2).await;
        assert_eq!(worker.call(Add(1)).await, Ok(1));
    });
}

#[test]
fn a_dead_letter_hook_that_makes_dead_letters_does_not_call_itself() {
    paused(|| async {
        let tree = Tree::new();
        let spec = worker("w", &Journal::default()).capacity(1).overflow(Overflow::DropOldest);
        let worker = tree.start(spec);
        let told = worker.clone();
        tree.dead_letters().on_each(move |_| drop(told.tell(Add(1))));
        assert_eq!((worker.tell(Add(1)), worker.tell(Add(10))), (Ok(()), Ok(())));
        assert_eq!(worker.call(Add(100)).await, Err(CallError::Overloaded));
        assert!(tree.dead_letters().total() >= 2);
    });
}

#[test]
fn waiting_calls_get_their_slots_in_the_order_in_which_they_came() {
    paused(|| async {
        let spec = worker("w", &Journal::default()).capacity(1).overflow(Overflow::Wait);
        let (_tree, worker) = start(spec);
        let order = Journal::default();
        let ask = |name: &'static str| {
            let (worker, order) = (worker.clone(), order.clone());
            tokio::task::spawn_local(async move {
                let answer = worker.call(Hold(seconds(1))).await;
                order.note(name);
                // Whoever asks again stands behind those who wait already.
                let again = worker.call(Hold(seconds(1))).await;
                order.note(format!("{name} again"));
                answer.and(again)
            })
        };
        for asked in [ask("a"), ask("b"), ask("c")] {
            assert_eq!(asked.await.expect("it ended"), Ok(()));
        }
        assert_eq!(order.lines(), ["a", "b", "c", "a again", "b again", "c again"]);
    });
}

#[test]
fn a_call_that_gave_up_but_is_kept_does_not_hold_the_line() {
    paused(|| async {
        let spec = worker("w", &Journal::default()).capacity(1).overflow(Overflow::Wait);
        let (_tree, worker) = start(spec);
        assert_eq!(worker.tell(Hold(seconds(10))), Ok(()));
        let mut gave_up = std::pin::pin!(worker.call(Add(1)).deadline(seconds(1)));
        assert_eq!(gave_up.as_mut().await, Err(CallError::Expired));
        let next = worker.call(Add(1)).deadline(MINUTE).await;
        assert_eq!(next, Ok(1));
    });
}

#[test]
fn a_thousand_actors_that_came_and_went_leave_nothing() {
    paused(|| async {
        let tree = Tree::new();
        let mut gone = Vec::new();
        for _ in 0..1_000 {
            let worker = tree.start(worker("w", &Journal::default()));
            assert_eq!(worker.name(), "w", "the name is free again");
            assert_eq!(worker.call(Add(1)).await, Ok(1));
            worker.stop(seconds(1));
            assert!(worker.watch().reached(ActorState::Stopped).await.is_some());
            gone.push(std::sync::Arc::downgrade(worker.shared()));
        }
        tokio::task::yield_now().await;
        assert!(tree.snapshot().nodes.is_empty());
        assert_eq!(gone.iter().filter(|shared| shared.strong_count() > 0).count(), 0);
    });
}

/// Tells another actor when it is dropped.
struct TellsOnDrop(crate::kernel::Ref<Worker>);

impl Drop for TellsOnDrop {
    fn drop(&mut self) {
        let _told = self.0.tell(Add(1));
    }
}

#[derive(actix::Message)]
#[rtype(result = "()")]
struct Laden(#[expect(dead_code, reason = "it is there to be dropped")] TellsOnDrop);

impl actix::Handler<Laden> for Worker {
    type Result = ();

    fn handle(&mut self, _: Laden, _: &mut Self::Context) {}
}

#[test]
fn a_message_that_sends_as_it_is_refused_disturbs_neither_account() {
    paused(|| async {
        let (_living_tree, living) = start(worker("living", &Journal::default()));
        let (_tree, gone) = start(worker("gone", &Journal::default()));
        assert_eq!(gone.call(Add(1)).await, Ok(1));
        gone.stop(Duration::ZERO);
        assert!(gone.watch().reached(ActorState::Stopped).await.is_some());
        // Past the check, as a sender is that looked just before the actor stopped.
        gone.shared().reopen_for_test();
        let laden = || Laden(TellsOnDrop(living.clone()));
        assert_eq!(gone.tell(laden()), Err(Refused::Stopped));
        assert_eq!(gone.call(laden()).await, Err(CallError::Stopped));
        assert_eq!(living.call(Add(0)).await, Ok(2));
        assert_eq!((gone.depth(), living.depth()), (0, 0));
        assert_eq!((gone.info().sent, living.info().sent), (1, 3));
    });
}

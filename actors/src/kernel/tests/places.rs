//! User code panics wherever it can be called from: nothing else breaks, and nobody waits
//! for ever.

use std::time::Duration;

use actix::dev::{MessageResponse, OneshotSender};
use actix::{
    Actor, ActorContext, AsyncContext, Handler, Message, MessageResult, Running, StreamHandler,
};
use futures_util::stream;

use super::support::{Add, Do, Journal, Who, fixed, paused, start, worker};
use crate::kernel::panic::catch;
use crate::kernel::{
    ActorState, CallError, Context, Exhausted, Ref, Reply, RequestContext, RequestId, Restart,
    Spec, Tree,
};

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("the bomb went off");
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Stopping,
    Stopped,
    ActorDrop,
    Response,
    HandledMessageDrop,
    UnhandledMessageDrop,
    AnswerDrop,
    StreamItem,
    StreamFinished,
    Notified,
    Interval,
    SpawnedDrop,
    TaskDrop,
    CancelledDrop,
}

/// Panics in one place, in its first incarnation only.
struct Fragile {
    place: Place,
    fragile: bool,
    bomb: Option<Bomb>,
}

impl Actor for Fragile {
    type Context = Context<Self>;

    fn stopping(&mut self, _: &mut Self::Context) -> Running {
        assert!(self.place != Place::Stopping || !self.fragile, "stopping");
        Running::Stop
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        assert!(self.place != Place::Stopped || !self.fragile, "stopped");
    }
}

#[derive(Message)]
#[rtype(result = "u32")]
struct Ping;

impl Handler<Ping> for Fragile {
    type Result = MessageResult<Ping>;

    fn handle(&mut self, _: Ping, ctx: &mut Self::Context) -> Self::Result {
        MessageResult(ctx.generation())
    }
}

struct Rude;

impl MessageResponse<Fragile, Provoke> for Rude {
    fn handle(self, _: &mut Context<Fragile>, _: Option<OneshotSender<Option<Bomb>>>) {
        panic!("a response");
    }
}

#[derive(Message)]
#[rtype(result = "Option<Bomb>")]
struct Provoke(Option<Bomb>);

enum Answer {
    Rude(Rude),
    Calm(Reply<Option<Bomb>>),
}

impl MessageResponse<Fragile, Provoke> for Answer {
    fn handle(self, ctx: &mut Context<Fragile>, reply: Option<OneshotSender<Option<Bomb>>>) {
        match self {
            Self::Rude(rude) => rude.handle(ctx, reply),
            Self::Calm(calm) => {
                <Reply<_> as MessageResponse<Fragile, Provoke>>::handle(calm, ctx, reply);
            }
        }
    }
}

impl StreamHandler<u8> for Fragile {
    fn handle(&mut self, _: u8, _: &mut Self::Context) {
        assert!(self.place != Place::StreamItem, "a stream item");
    }

    fn finished(&mut self, _: &mut Self::Context) {
        panic!("a finished stream");
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Whisper;

impl Handler<Whisper> for Fragile {
    type Result = ();

    fn handle(&mut self, _: Whisper, _: &mut Self::Context) {
        panic!("notified");
    }
}

impl Handler<Provoke> for Fragile {
    type Result = Answer;

    fn handle(&mut self, message: Provoke, ctx: &mut Self::Context) -> Answer {
        let pending = |bomb: Bomb| async move {
            let _armed = bomb;
            std::future::pending::<()>().await;
        };
        match self.place {
            Place::Response => return Answer::Rude(Rude),
            Place::HandledMessageDrop => drop(message.0),
            Place::AnswerDrop => return Answer::Calm(Reply::ready(Some(Bomb))),
            Place::StreamItem | Place::StreamFinished => {
                ctx.add_stream(stream::iter([1]));
            }
            Place::Notified => ctx.notify(Whisper),
            Place::Interval => {
                ctx.run_interval(Duration::from_millis(1), |_, _| panic!("an interval"));
            }
            Place::SpawnedDrop => {
                ctx.spawn(actix::fut::wrap_future(pending(Bomb)));
                ctx.stop();
            }
            Place::CancelledDrop => {
                let spawned = ctx.spawn(actix::fut::wrap_future(pending(Bomb)));
                ctx.cancel_future(spawned);
            }
            Place::TaskDrop => {
                let bomb = Bomb;
                return Answer::Calm(Reply::task(async move {
                    pending(bomb).await;
                    None
                }));
            }
            Place::UnhandledMessageDrop => {
                ctx.wait(actix::fut::wrap_future(std::future::pending::<()>()));
            }
            Place::Stopping | Place::Stopped => {}
            Place::ActorDrop => {
                self.bomb = Some(Bomb);
                ctx.stop();
            }
        }
        Answer::Calm(Reply::ready(None))
    }
}

fn fragile(tree: &Tree, place: Place, restart: Restart) -> Ref<Fragile> {
    let spec = Spec::fallible("fragile", move |life| {
        Ok(Fragile { place, fragile: life.generation() == 1, bomb: None })
    });
    tree.start(spec.restart(restart).backoff(fixed(Duration::ZERO)))
}

#[track_caller]
fn check(place: Place) {
    for restart in [Restart::Permanent, Restart::Transient] {
        paused(|| async {
            let tree = Tree::new();
            let fragile = fragile(&tree, place, restart);
            assert_eq!(fragile.call(Ping).await, Ok(1));
            let bomb = matches!(place, Place::HandledMessageDrop).then(|| Bomb);
            let provoked = tokio::time::timeout(seconds(5), fragile.call(Provoke(bomb))).await;
            if place == Place::Response {
                let told = matches!(provoked, Ok(Err(CallError::Panicked { .. })));
                assert!(told, "{restart:?}");
            }
            if let Ok(Ok(Some(bomb))) = provoked {
                assert!(catch(|| drop(bomb)).is_err(), "the answer arrived, and is the caller's");
            }
            if place == Place::UnhandledMessageDrop {
                fragile.addr().do_send(Provoke(Some(Bomb)));
                assert!(fragile.tell(Provoke(Some(Bomb))).is_ok());
                tokio::task::yield_now().await;
            }
            if matches!(place, Place::Stopping | Place::Stopped | Place::UnhandledMessageDrop) {
                fragile.stop(Duration::ZERO);
            }
            tokio::time::sleep(seconds(1)).await;
            let answer = fragile.call(Ping).deadline(seconds(60)).await;
            let stopped = answer == Err(CallError::Stopped);
            assert!(answer.is_ok() || stopped, "{place:?} {restart:?}: {answer:?}");
            tree.stop(seconds(5)).await;
            let info = fragile.info();
            assert_eq!(info.state, ActorState::Stopped, "{place:?} {restart:?}");
            assert_eq!(info.depth, 0, "{place:?} {restart:?}: every slot came back");
            let ended =
                info.handled + info.expired + info.abandoned + info.panicked + info.dead_lettered;
            assert_eq!(info.sent, ended, "{place:?} {restart:?}: {info:?}");
        });
    }
}

#[test]
fn a_panic_in_any_place_leaves_nobody_waiting_and_no_slot_taken() {
    for place in [
        Place::Stopping,
        Place::Stopped,
        Place::ActorDrop,
        Place::Response,
        Place::HandledMessageDrop,
        Place::UnhandledMessageDrop,
        Place::AnswerDrop,
        Place::StreamItem,
        Place::StreamFinished,
        Place::Notified,
        Place::Interval,
        Place::SpawnedDrop,
        Place::TaskDrop,
        Place::CancelledDrop,
    ] {
        check(place);
    }
}

#[test]
fn panics_in_hooks_are_the_hooks_own() {
    paused(|| async {
        let (tree, worker) = start(
            worker("w", &Journal::default())
                .intensity(0, seconds(60))
                .exhausted(Exhausted::Escalate),
        );
        tree.on_escalation(|_, _| panic!("a hook"));
        tree.dead_letters().on_each(|_| panic!("a hook"));
        let fail = Do::this(|_, ctx| ctx.fail("beyond repair"));
        let (failed, queued) = tokio::join!(worker.call(fail), worker.call(Add(1)));
        assert_eq!((failed, queued), (Ok(()), Err(CallError::Stopped)));
        assert!(tree.has_escalated());
        assert_eq!(tree.dead_letters().total(), 1);
    });
}

#[test]
fn what_one_request_brings_along_does_not_reach_the_next_message() {
    paused(|| async {
        let journal = Journal::default();
        let (_tree, worker) = start(worker("w", &journal));
        let context = RequestContext::new(RequestId::parse("r-1").expect("valid"));
        let (seen, late) = (journal.clone(), journal.clone());
        let note = |journal: &Journal, at: &str| {
            let current = RequestContext::current();
            let id = current.as_ref().map_or("nobody", |context| context.id().as_str());
            let deadline = current.as_ref().is_some_and(|context| context.deadline().is_some());
            journal.note(format!("{at}: {id}, deadline {deadline}"));
        };
        let plant = Do::this(move |_, ctx| {
            note(&seen, "handler");
            ctx.run_later(seconds(1), move |_, ctx| {
                note(&late, "timer");
                ctx.run_later(seconds(1), move |_, _| note(&late, "its own timer"));
            });
        });
        let asked = context.child(seconds(60)).scope(async { worker.call(plant).await }).await;
        assert_eq!(asked, Ok(()));
        assert_eq!(worker.call(Who).await, Ok((None, None)));
        tokio::time::sleep(seconds(5)).await;
        assert_eq!(
            journal.lines()[1..],
            [
                "handler: r-1, deadline true",
                "timer: r-1, deadline false",
                "its own timer: r-1, deadline false"
            ]
        );
        assert!(RequestContext::current().is_none());
    });
}

#[test]
fn deadlines_work_on_one_runtime_after_another_on_the_same_thread() {
    for _ in 0..3 {
        paused(|| async {
            let (_tree, worker) = start(worker("w", &Journal::default()));
            for within in [50, 10, 30] {
                let began = tokio::time::Instant::now();
                let within = Duration::from_millis(within);
                let nap = super::support::Sleep(seconds(60));
                let asked = worker.call(nap).deadline(within).await;
                assert!(asked.is_err_and(|error| error.ran()));
                assert_eq!(began.elapsed(), within);
                assert_eq!(worker.call(Add(1)).deadline(within).await.map(drop), Ok(()));
            }
        });
    }
}

#[test]
fn an_actor_may_ask_itself_from_a_task_and_tell_itself_when_it_is_full() {
    paused(|| async {
        let (_tree, worker) = start(worker("w", &Journal::default()).capacity(2));
        let asked = worker.call(Do::this(|_, ctx| {
            let myself = ctx.myself();
            assert!(myself.tell(Add(1)).is_ok(), "one slot is its own, one is free");
            assert!(myself.tell(Add(1)).is_err(), "an overflow is a value");
            ctx.spawn(actix::fut::wrap_future(async move {
                assert_eq!(myself.call(Add(1)).await, Ok(2));
            }));
        }));
        assert_eq!(asked.await, Ok(()));
        tokio::time::sleep(seconds(1)).await;
        assert_eq!((worker.info().failures, worker.info().handled), (0, 3));
    });
}

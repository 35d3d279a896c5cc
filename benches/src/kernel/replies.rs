//! Answers that are futures: actix's two kinds beside `Reply::task`.

use actix::fut::wrap_future;
use actix::{Actor, Addr, Handler, Message, ResponseActFuture, ResponseFuture};
use steadfast_actors::kernel::{Ref, Reply, Spec, Tree};

use super::raw_actix::{Add, Counter as Raw};
use super::steadfast::Counter as Supervised;
use crate::measure::{Comparison, Contender};

/// Answers with 1, or never.
async fn answer(comes: bool) -> u64 {
    if !comes {
        std::future::pending::<()>().await;
    }
    1
}

/// To be answered by a future the actor polls.
#[derive(Debug, Message)]
#[rtype(result = "u64")]
pub(super) struct ActFuture(bool);

/// To be answered by a future actix spawns and forgets.
#[derive(Debug, Message)]
#[rtype(result = "u64")]
pub(super) struct Spawned(bool);

/// To be answered by a `Reply::task`.
#[derive(Debug, Message)]
#[rtype(result = "u64")]
pub(super) struct Task(bool);

impl Handler<ActFuture> for Raw {
    type Result = ResponseActFuture<Self, u64>;

    fn handle(&mut self, message: ActFuture, _: &mut Self::Context) -> Self::Result {
        Box::pin(wrap_future(answer(message.0)))
    }
}

impl Handler<ActFuture> for Supervised {
    type Result = ResponseActFuture<Self, u64>;

    fn handle(&mut self, message: ActFuture, _: &mut Self::Context) -> Self::Result {
        Box::pin(wrap_future(answer(message.0)))
    }
}

impl Handler<Spawned> for Raw {
    type Result = ResponseFuture<u64>;

    fn handle(&mut self, message: Spawned, _: &mut Self::Context) -> Self::Result {
        Box::pin(answer(message.0))
    }
}

impl Handler<Task> for Supervised {
    type Result = Reply<u64>;

    fn handle(&mut self, message: Task, _: &mut Self::Context) -> Self::Result {
        Reply::task(answer(message.0))
    }
}

fn raw<M>(name: &str, addr: &Addr<Raw>, message: fn() -> M) -> Contender
where
    Raw: Handler<M>,
    M: Message<Result = u64> + Send + 'static,
{
    let addr = addr.clone();
    Contender::new(format!("actix 0.13, {name}"), move |asks| {
        let addr = addr.clone();
        async move {
            for _ in 0..asks {
                addr.send(message()).await.expect("it answers");
            }
        }
    })
}

fn supervised<M>(name: &str, actor: &Ref<Supervised>, message: fn() -> M) -> Contender
where
    Supervised: Handler<M>,
    M: Message<Result = u64> + Send + 'static,
{
    let actor = actor.clone();
    Contender::new(format!("steadfast, {name}"), move |asks| {
        let actor = actor.clone();
        async move {
            for _ in 0..asks {
                actor.call(message()).await.expect("it answers");
            }
        }
    })
}

/// Answers that are ready at the first poll: what the machinery alone costs.
pub(super) fn ready() -> Comparison {
    let addr = Raw::default().start();
    let actor = Tree::new().start(Spec::new("replies", Supervised::default));
    Comparison::with(
        "Answers that are futures, ready at once (same thread, one at a time)",
        raw("ResponseActFuture", &addr, || ActFuture(true)),
    )
    .against(raw("ResponseFuture", &addr, || Spawned(true)))
    .against(supervised("ResponseActFuture", &actor, || ActFuture(true)))
    .against(supervised("Reply::task", &actor, || Task(true)))
}

/// Answers that pend while the other comparison of [`pending`] runs.
const PENDING: usize = 1000;

/// What pending answers cost a message that has nothing to do with them.
pub(super) fn pending() -> Comparison {
    let none = Raw::default().start();
    let act = Raw::default().start();
    let spec = Spec::new("pending", Supervised::default).capacity(2 * PENDING);
    let tasks = Tree::new().start(spec);
    for _ in 0..PENDING {
        act.do_send(ActFuture(false));
        tasks.tell(Task(false)).expect("there is room");
    }
    Comparison::with(
        format!("An ask while {PENDING} other answers pend (same thread, one at a time)"),
        raw("none pending", &none, || Add),
    )
    .against(raw("ResponseActFutures pending", &act, || Add))
    .against(supervised("Reply::tasks pending", &tasks, || Add))
}

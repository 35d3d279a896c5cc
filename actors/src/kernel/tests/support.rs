//! An actor that does as it is told, and a paused runtime for it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use actix::fut::wrap_future;
use actix::{
    Actor, ActorFutureExt, AsyncContext, AtomicResponse, Handler, Message, ResponseActFuture,
};
use parking_lot::Mutex;

use crate::kernel::{Backoff, Context, Reply, RequestContext, RequestId, Spec, Tree};

/// Runs `test` on a paused clock, in a `LocalSet` as actix has it.
pub(super) fn paused<F: Future>(test: impl FnOnce() -> F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, async { test().await })
}

/// What happened, in order, over all incarnations.
#[derive(Clone, Default)]
pub(super) struct Journal(Arc<Mutex<Vec<String>>>);

impl Journal {
    pub(super) fn note(&self, line: impl Into<String>) {
        self.0.lock().push(line.into());
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.0.lock().clone()
    }
}

/// Counts, panics and waits on request.
pub(super) struct Worker {
    pub(super) count: u64,
    journal: Journal,
    on_start: OnStart,
}

type OnStart = Arc<dyn Fn(&mut Context<Worker>) + Send + Sync>;

impl Actor for Worker {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.journal.note(format!("{} {} started", ctx.name(), ctx.generation()));
        (Arc::clone(&self.on_start))(ctx);
    }

    fn stopped(&mut self, ctx: &mut Self::Context) {
        self.journal.note(format!("{} stopped", ctx.name()));
    }
}

pub(super) fn worker(name: &str, journal: &Journal) -> Spec<Worker> {
    worker_that(name, journal, |_| {})
}

/// A worker whose `started` also runs `on_start`.
pub(super) fn worker_that(
    name: &str,
    journal: &Journal,
    on_start: impl Fn(&mut Context<Worker>) + Send + Sync + 'static,
) -> Spec<Worker> {
    let journal = journal.clone();
    let on_start: OnStart = Arc::new(on_start);
    Spec::new(name, move || Worker {
        count: 0,
        journal: journal.clone(),
        on_start: Arc::clone(&on_start),
    })
    .backoff(fixed(Duration::from_millis(20)))
    .intensity(1_000_000, Duration::from_secs(3600))
}

/// A back-off whose pauses are at most this long.
pub(super) const fn fixed(pause: Duration) -> Backoff {
    Backoff { min: pause, max: pause, factor: 1.0 }
}

pub(super) fn start(spec: Spec<Worker>) -> (Tree, crate::kernel::Ref<Worker>) {
    let tree = Tree::new();
    let worker = tree.start(spec);
    (tree, worker)
}

/// Adds one and answers the sum.
#[derive(Message)]
#[rtype(result = "u64")]
pub(super) struct Add(pub(super) u64);

impl Handler<Add> for Worker {
    type Result = u64;

    fn handle(&mut self, Add(amount): Add, _: &mut Self::Context) -> u64 {
        self.count += amount;
        self.count
    }
}

#[derive(Clone, Copy)]
pub(super) enum How {
    Sync,
    Task,
    Timer,
}

/// Panics, one way or another.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Poison(pub(super) How);

impl Handler<Poison> for Worker {
    type Result = Reply<()>;

    fn handle(&mut self, Poison(how): Poison, ctx: &mut Self::Context) -> Self::Result {
        match how {
            How::Sync => panic!("poisoned in a handler"),
            How::Task => Reply::task(async { panic!("poisoned in a task") }),
            How::Timer => {
                ctx.run_later(Duration::from_millis(1), |_, _| panic!("poisoned in a timer"));
                Reply::ready(())
            }
        }
    }
}

/// Panics inside a future that holds the actor.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct PoisonFuture;

impl Handler<PoisonFuture> for Worker {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, _: PoisonFuture, _: &mut Self::Context) -> Self::Result {
        let work = wrap_future::<_, Self>(tokio::time::sleep(Duration::from_millis(1)));
        Box::pin(work.map(|(), _, _| panic!("poisoned in a future")))
    }
}

/// Panics inside a future that also holds the mailbox.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct PoisonAtomic;

impl Handler<PoisonAtomic> for Worker {
    type Result = AtomicResponse<Self, ()>;

    fn handle(&mut self, _: PoisonAtomic, _: &mut Self::Context) -> Self::Result {
        let work = wrap_future::<_, Self>(tokio::time::sleep(Duration::from_millis(1)));
        AtomicResponse::new(Box::pin(work.map(|(), _, _| panic!("poisoned atomically"))))
    }
}

/// Works this long in a task of its own, then answers.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Sleep(pub(super) Duration);

impl Handler<Sleep> for Worker {
    type Result = Reply<()>;

    fn handle(&mut self, Sleep(duration): Sleep, _: &mut Self::Context) -> Self::Result {
        let journal = self.journal.clone();
        Reply::task(async move {
            let _unfinished = NoteOnDrop(journal, "sleep over");
            tokio::time::sleep(duration).await;
        })
    }
}

/// Works this long with the mailbox held.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Hold(pub(super) Duration);

impl Handler<Hold> for Worker {
    type Result = AtomicResponse<Self, ()>;

    fn handle(&mut self, Hold(duration): Hold, _: &mut Self::Context) -> Self::Result {
        AtomicResponse::new(Box::pin(wrap_future(tokio::time::sleep(duration))))
    }
}

struct NoteOnDrop(Journal, &'static str);

impl Drop for NoteOnDrop {
    fn drop(&mut self) {
        self.0.note(self.1);
    }
}

/// The request id and remaining time the handler sees, in milliseconds.
#[derive(Message)]
#[rtype(result = "(Option<RequestId>, Option<u128>)")]
pub(super) struct Who;

impl Handler<Who> for Worker {
    type Result = actix::MessageResult<Who>;

    fn handle(&mut self, _: Who, ctx: &mut Self::Context) -> Self::Result {
        let id = ctx.request().map(|context| context.id().clone());
        if id.is_some() {
            let ambient = RequestContext::current().map(|context| context.id().clone());
            assert_eq!(id, ambient, "the context's request is the ambient one");
        }
        actix::MessageResult((id, ctx.remaining().map(|left| left.as_millis())))
    }
}

/// Stops the actor from inside.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct StopYourself;

impl Handler<StopYourself> for Worker {
    type Result = ();

    fn handle(&mut self, _: StopYourself, ctx: &mut Self::Context) {
        actix::ActorContext::stop(ctx);
    }
}

/// The number of the span its reply task runs in.
#[derive(Message)]
#[rtype(result = "Option<u64>")]
pub(super) struct CurrentSpan;

impl Handler<CurrentSpan> for Worker {
    type Result = Reply<Option<u64>>;

    fn handle(&mut self, _: CurrentSpan, _: &mut Self::Context) -> Self::Result {
        Reply::task(async {
            tokio::task::yield_now().await;
            tracing::Span::current().id().map(|id| id.into_u64())
        })
    }
}

type Deed = Box<dyn FnOnce(&mut Worker, &mut Context<Worker>) + Send>;

/// Does whatever a test needs done inside the actor.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Do(Deed);

impl Do {
    pub(super) fn this(
        deed: impl FnOnce(&mut Worker, &mut Context<Worker>) + Send + 'static,
    ) -> Self {
        Self(Box::new(deed))
    }
}

impl Handler<Do> for Worker {
    type Result = ();

    fn handle(&mut self, Do(deed): Do, ctx: &mut Self::Context) {
        deed(self, ctx);
    }
}

/// Says that the incarnation failed, and still answers with a future that holds the actor.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct FailThenAnswer;

impl Handler<FailThenAnswer> for Worker {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, _: FailThenAnswer, ctx: &mut Self::Context) -> Self::Result {
        ctx.fail("beyond repair");
        Box::pin(wrap_future::<_, Self>(std::future::ready(())).map(|(), worker, _| {
            worker.count += 100;
        }))
    }
}

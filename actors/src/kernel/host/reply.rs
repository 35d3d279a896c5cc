//! Answers that take I/O.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{self, Poll};

use actix::dev::{MessageResponse, OneshotSender};
use actix::{Actor, Message};
use futures_util::FutureExt;
use slab::Slab;
use tokio::task::AbortHandle;
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::context::Context;
use super::letter::record;
use crate::kernel::error::{CallError, CutShort};
use crate::kernel::panic;
use crate::kernel::request::Ambient;
use crate::kernel::shared::{Shared, Slot};
use crate::kernel::timer::DeadlineTimer;

/// What a handler returns when its answer may need I/O.
///
/// [`Reply::task`] runs in a task of its own on the actor's thread, so the actor handles
/// its next message meanwhile. The task is tracked: it holds the message's slot in the
/// mailbox bound until it is done, runs under the request the message belongs to, and is
/// dropped when its caller leaves, its deadline passes, or the actor restarts or stops. A
/// panic in it costs that one message: the task cannot have touched the actor's state, so
/// the actor is not rebuilt. To change the actor's state with the result, send the actor
/// a message.
///
/// Prefer it to `ResponseActFuture`, which is polled again whenever the actor handles any
/// message (184 µs per message with 10,000 pending, measured), and to `ResponseFuture`,
/// which actix runs where nobody sees it panic.
///
/// ```
/// # use steadfast_actors::kernel::{Context, Reply};
/// # struct Rates;
/// # impl actix::Actor for Rates { type Context = Context<Self>; }
/// #[derive(actix::Message)]
/// #[rtype(result = "Result<f64, std::io::Error>")]
/// struct Fetch;
///
/// impl actix::Handler<Fetch> for Rates {
///     type Result = Reply<Result<f64, std::io::Error>>;
///
///     fn handle(&mut self, _: Fetch, _: &mut Self::Context) -> Self::Result {
///         Reply::task(async { Ok(1.08) })
///     }
/// }
/// ```
pub struct Reply<T>(Kind<T>);

enum Kind<T> {
    Ready(T),
    Task(Pin<Box<dyn Future<Output = T>>>),
}

impl<T> Reply<T> {
    /// An answer that is there already.
    pub const fn ready(answer: T) -> Self {
        Self(Kind::Ready(answer))
    }

    /// An answer that `future` will give.
    pub fn task(future: impl Future<Output = T> + 'static) -> Self {
        Self(Kind::Task(Box::pin(future)))
    }
}

impl<T> fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Kind::Ready(_) => "Reply::ready(..)",
            Kind::Task(_) => "Reply::task(..)",
        })
    }
}

impl<A, M, T> MessageResponse<A, M> for Reply<T>
where
    A: Actor<Context = Context<A>>,
    M: Message<Result = T>,
    T: 'static,
{
    fn handle(self, ctx: &mut Context<A>, reply: Option<OneshotSender<T>>) {
        match self.0 {
            Kind::Ready(answer) => {
                if let Some(reply) = reply {
                    // The caller may have left; then nobody wants the answer.
                    let _caller_left = reply.send(answer);
                }
            }
            Kind::Task(future) => {
                let work = ctx.take_reply_work();
                ctx.tasks().spawn(future, reply, work);
            }
        }
    }
}

/// What a reply carries over from its message.
pub(super) struct ReplyWork {
    pub(super) ticket: Option<u64>,
    /// Held until the reply is done.
    pub(super) _slot: Option<Slot>,
    pub(super) ambient: Ambient,
    pub(super) generation: u32,
}

/// The reply tasks of one incarnation.
pub(super) struct RunningTasks {
    shared: Arc<Shared>,
    handles: Rc<RefCell<Slab<AbortHandle>>>,
    /// Why this incarnation's tasks were cut short, once they are.
    why: Rc<Cell<CutShort>>,
}

impl RunningTasks {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, handles: Rc::default(), why: Rc::new(Cell::new(CutShort::Stop)) }
    }

    fn spawn<T: 'static>(
        &self,
        future: Pin<Box<dyn Future<Output = T>>>,
        reply: Option<OneshotSender<T>>,
        work: ReplyWork,
    ) {
        let mut handles = self.handles.borrow_mut();
        let entry = handles.vacant_entry();
        let timer = work.ambient.deadline().map(DeadlineTimer::at);
        let token = work.ambient.request().map(|context| context.cancel_token().clone());
        let given_up = token.map(|token| Box::pin(token.cancelled_owned()));
        let task = ReplyTask {
            future: Some(future),
            span: message_span(),
            reply,
            work,
            timer,
            given_up,
            shared: Arc::clone(&self.shared),
            why: Rc::clone(&self.why),
            _registered: Registered { handles: Rc::clone(&self.handles), key: entry.key() },
        };
        entry.insert(tokio::task::spawn_local(task).abort_handle());
    }

    /// Ends all of them; their callers are told why.
    pub(super) fn clear(&mut self, why: CutShort) {
        let handles = std::mem::take(&mut self.handles);
        self.why.replace(why);
        self.why = Rc::new(Cell::new(CutShort::Stop));
        for (_, handle) in handles.borrow().iter() {
            handle.abort();
        }
    }
}

/// The span of the message being answered, when message spans are recorded.
fn message_span() -> Option<tracing::Span> {
    tracing::enabled!(target: "steadfast::message", tracing::Level::DEBUG)
        .then(tracing::Span::current)
}

/// A task's place in the list of its incarnation, given up when the task is gone.
struct Registered {
    handles: Rc<RefCell<Slab<AbortHandle>>>,
    key: usize,
}

impl Drop for Registered {
    fn drop(&mut self) {
        // Borrowed while the list is being cleared: then the whole list goes.
        if let Ok(mut handles) = self.handles.try_borrow_mut() {
            drop(handles.try_remove(self.key));
        }
    }
}

struct ReplyTask<T> {
    future: Option<Pin<Box<dyn Future<Output = T>>>>,
    span: Option<tracing::Span>,
    reply: Option<OneshotSender<T>>,
    work: ReplyWork,
    timer: Option<DeadlineTimer>,
    given_up: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    shared: Arc<Shared>,
    why: Rc<Cell<CutShort>>,
    _registered: Registered,
}

// Nothing in it is pinned in place: the one future is boxed.
impl<T> Unpin for ReplyTask<T> {}

impl<T> Future for ReplyTask<T> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let _entered = this.span.clone().map(tracing::Span::entered);
        if this.caller_left(cx) {
            this.future = None;
            return Poll::Ready(());
        }
        if this.given_up.as_mut().is_some_and(|given_up| given_up.as_mut().poll(cx).is_ready()) {
            this.cut_short(CallError::Cancelled(CutShort::GivenUp));
            return Poll::Ready(());
        }
        if this.timer.as_mut().is_some_and(|timer| timer.poll_unpin(cx).is_ready()) {
            this.cut_short(CallError::Cancelled(CutShort::Deadline));
            return Poll::Ready(());
        }
        let Some(future) = &mut this.future else { return Poll::Ready(()) };
        match panic::catch(|| this.work.ambient.enter(|| future.as_mut().poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(answer)) => {
                this.future = None;
                if let Some(reply) = this.reply.take() {
                    let _caller_left = reply.send(answer);
                }
                Poll::Ready(())
            }
            Err(caught) => {
                this.panicked(&caught);
                Poll::Ready(())
            }
        }
    }
}

impl<T> ReplyTask<T> {
    fn caller_left(&mut self, cx: &mut task::Context<'_>) -> bool {
        self.reply.as_mut().is_some_and(|reply| reply.poll_closed(cx).is_ready())
    }

    fn panicked(&mut self, caught: &panic::Panic) {
        self.shared.task_panics.fetch_add(1, Ordering::Relaxed);
        tracing::error!(
            actor = &*self.shared.name,
            panic = &**caught.message(),
            location = caught.location(),
            request_id = self.work.ambient.request().map(|context| context.id().as_str()),
            "actor.reply_panicked"
        );
        self.cut_short(CallError::Panicked {
            message: Arc::clone(caught.message()),
            generation: self.work.generation,
        });
    }

    /// Tells the caller why, then drops the work.
    fn cut_short(&mut self, verdict: CallError) {
        if let (Some(reply), Some(ticket)) = (&self.reply, self.work.ticket) {
            record(&self.shared, ticket, reply, verdict);
        }
        let future = self.future.take();
        if let Err(caught) = panic::catch(|| drop(future)) {
            tracing::error!(actor = &*self.shared.name, panic = %caught.message(), "actor.panic_in_drop");
        }
        self.reply = None;
    }
}

impl<T> Drop for ReplyTask<T> {
    fn drop(&mut self) {
        if self.future.is_some() {
            self.cut_short(CallError::Cancelled(self.why.get()));
        }
    }
}

//! One question to an actor, until it is answered.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll, ready};
use std::time::Duration;

use actix::dev::{Request, ToEnvelope};
use actix::{Actor, Handler, Message};
use futures_util::FutureExt;
use pin_project_lite::pin_project;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::context::Context;
use super::letter::{Progress, Stamp, stamped};
use super::reference::Ref;
use crate::kernel::error::{CallError, CutShort};
use crate::kernel::request::Ambient;
use crate::kernel::spec::Overflow;
use crate::kernel::timer::{DeadlineTimer, in_time};

pin_project! {
    /// The answer to a [`Ref::call`], once it is there.
    #[must_use = "the message is sent when this is awaited"]
    pub struct Call<'a, A, M>
    where
        A: Actor<Context = Context<A>>,
        A: Handler<M>,
        M: Message,
        M: Send,
        M: 'static,
        M::Result: Send,
    {
        actor: &'a Ref<A>,
        message: Option<M>,
        within: Option<Duration>,
        deadline: Option<Deadline>,
        ticket: Option<u64>,
        waiting: Option<Pin<Box<dyn Future<Output = u64> + Send + 'a>>>,
        #[pin]
        answer: Answer<A, M>,
    }

    impl<'a, A, M> PinnedDrop for Call<'a, A, M>
    where
        A: Actor<Context = Context<A>>,
        A: Handler<M>,
        M: Message,
        M: Send,
        M: 'static,
        M::Result: Send,
    {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            // Whoever was answered has taken its ticket already.
            if let Some(ticket) = this.ticket.take() {
                let mut answer = this.answer;
                answer.set(Answer::None);
                // ORDER: channel first, verdict second; see `Verdicts::forget`.
                this.actor.shared().verdicts.forget(ticket);
            }
        }
    }
}

pin_project! {
    #[project = AnswerProjection]
    enum Answer<A, M>
    where
        A: Actor<Context = Context<A>>,
        A: Handler<M>,
        M: Message,
        M: Send,
        M: 'static,
        M::Result: Send,
    {
        None,
        Queued { #[pin] request: Request<A, M> },
        OnRing { receiver: oneshot::Receiver<M::Result> },
    }
}

/// The deadline this call was given, shared with its envelope.
struct Deadline {
    at: Instant,
    progress: Arc<Progress>,
    timer: Option<DeadlineTimer>,
}

impl<'a, A, M> Call<'a, A, M>
where
    A: Actor<Context = Context<A>> + Handler<M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    pub(super) const fn new(actor: &'a Ref<A>, message: M) -> Self {
        Self {
            actor,
            message: Some(message),
            within: None,
            deadline: None,
            ticket: None,
            waiting: None,
            answer: Answer::None,
        }
    }

    /// Gives up after `within`, counted from the first poll, or at the current request's
    /// deadline if that is earlier. Whatever the handler calls inherits it.
    ///
    /// The call then ends as [`CallError::Expired`] if the handler never began, and as
    /// [`CallError::Cancelled`] if it had.
    ///
    /// # Panics
    ///
    /// When it has to wait outside of a tokio runtime with a clock.
    pub fn deadline(self, within: Duration) -> Self {
        // Fields cannot be moved out of a type with a drop, hence the rebinding.
        let mut this = self;
        this.within = Some(within);
        this
    }
}

impl<A, M> Future for Call<'_, A, M>
where
    A: Actor<Context = Context<A>> + Handler<M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    type Output = Result<M::Result, CallError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        if self.message.is_some() {
            match self.as_mut().send(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => {
                    self.leave_line();
                    return Poll::Ready(Err(error));
                }
                Poll::Pending => return self.poll_deadline(cx),
            }
        }
        match self.as_mut().poll_answer(cx) {
            Poll::Ready(answer) => Poll::Ready(answer),
            Poll::Pending => self.poll_deadline(cx),
        }
    }
}

impl<A, M> Call<'_, A, M>
where
    A: Actor<Context = Context<A>> + Handler<M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    /// Passes the gate and queues the message.
    fn send(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Result<(), CallError>> {
        let this = self.as_mut().project();
        this.actor.shared().admits()?;
        if let Some(within) = this.within.take() {
            *this.deadline =
                Some(Deadline { at: in_time(within), progress: Arc::default(), timer: None });
        }
        let ambient = Ambient::capture();
        if ambient.is_over() {
            return Poll::Ready(Err(CallError::Expired));
        }
        let ticket = match this.actor.overflow() {
            Overflow::DropOldest => this.actor.shared().gate.try_enter(),
            Overflow::Reject => {
                Some(this.actor.shared().gate.try_enter().ok_or(CallError::Overloaded)?)
            }
            Overflow::Wait => Some(ready!(self.as_mut().poll_slot(cx))),
        };
        Poll::Ready(self.queue(ticket, ambient))
    }

    fn poll_slot(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<u64> {
        let this = self.project();
        if this.waiting.is_none()
            && let Some(ticket) = this.actor.shared().gate.try_enter_behind()
        {
            return Poll::Ready(ticket);
        }
        let actor: &Ref<A> = this.actor;
        let waiting = this.waiting.get_or_insert_with(|| Box::pin(actor.shared().gate.enter()));
        let ticket = ready!(waiting.as_mut().poll(cx));
        *this.waiting = None;
        Poll::Ready(ticket)
    }

    fn queue(self: Pin<&mut Self>, ticket: Option<u64>, ambient: Ambient) -> Result<(), CallError> {
        let mut this = self.project();
        let Some(message) = this.message.take() else { return Ok(()) };
        let ambient = match this.deadline {
            Some(deadline) => ambient.tightened(deadline.at),
            None => ambient,
        };
        let progress = this.deadline.as_ref().map(|deadline| Arc::clone(&deadline.progress));
        let number = this.actor.shared().number;
        let stamp = |ticket| Stamp::new(number, ticket, ambient, progress);
        if this.actor.overflow() == Overflow::DropOldest {
            let (reply, receiver) = oneshot::channel();
            this.actor.push(ticket, |ticket| {
                *this.ticket = Some(ticket);
                let pack = || <Context<A> as ToEnvelope<A, M>>::pack(message, Some(reply));
                stamped(stamp(ticket), pack).0
            })?;
            this.answer.set(Answer::OnRing { receiver });
            return Ok(());
        }
        let Some(ticket) = ticket else { return Err(CallError::Overloaded) };
        // A request is large, with room for actix's own timer: it is moved once.
        let addr = this.actor.addr();
        let send = || this.answer.set(Answer::Queued { request: addr.send(message) });
        let ((), unsent) = stamped(stamp(ticket), send);
        if unsent.is_some() {
            this.answer.set(Answer::None);
            this.actor.shared().bounced();
            return Err(CallError::Stopped);
        }
        *this.ticket = Some(ticket);
        Ok(())
    }

    fn poll_answer(
        self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
    ) -> Poll<<Self as Future>::Output> {
        let this = self.project();
        let answer = match this.answer.project() {
            AnswerProjection::Queued { request } => ready!(request.poll(cx)).ok(),
            AnswerProjection::OnRing { receiver } => ready!(Pin::new(receiver).poll(cx)).ok(),
            AnswerProjection::None => None,
        };
        let ticket = this.ticket.take();
        if let Some(answer) = answer {
            return Poll::Ready(Ok(answer));
        }
        let verdict = ticket.and_then(|ticket| this.actor.shared().verdicts.take(ticket));
        Poll::Ready(Err(verdict.unwrap_or(CallError::Cancelled(CutShort::NoReply))))
    }

    /// Ends the call once its own deadline has passed.
    fn poll_deadline(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
    ) -> Poll<<Self as Future>::Output> {
        let this = self.as_mut().project();
        let Some(deadline) = this.deadline else { return Poll::Pending };
        let at = deadline.at;
        ready!(deadline.timer.get_or_insert_with(|| DeadlineTimer::at(at)).poll_unpin(cx));
        let unrun = deadline.progress.expire();
        self.leave_line();
        Poll::Ready(Err(if unrun {
            CallError::Expired
        } else {
            CallError::Cancelled(CutShort::Deadline)
        }))
    }

    /// Waits for a slot no more: a call that is over may be kept, and must not stand in the
    /// way of others meanwhile.
    fn leave_line(self: Pin<&mut Self>) {
        let this = self.project();
        *this.message = None;
        *this.waiting = None;
    }
}

impl<A, M> fmt::Debug for Call<'_, A, M>
where
    A: Actor<Context = Context<A>> + Handler<M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("actor", &self.actor.name())
            .field("message", &std::any::type_name::<M>())
            .finish_non_exhaustive()
    }
}

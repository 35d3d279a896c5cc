//! What the parts of one connection share: its state, and whom to wake.
//!
//! All of them run on one worker. Usually they are polled by one task, the connection's; a handler
//! may have given its payload to another.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Waker};

use futures_util::future::LocalBoxFuture;
use steadfast_actors::kernel::RequestId;
use tokio::time::Instant;

use super::counts::{Event, Tally};
use super::state::{Call, Framing, Reason, State, Turn};
use crate::edge::disconnect::Disconnect;
use crate::edge::limits::Rate;

/// One connection, for the stream, the service and the payload around its requests.
#[derive(Debug)]
pub(crate) struct Conn {
    state: RefCell<State>,
    /// Something happened since the last turn ended.
    stirred: Cell<bool>,
    /// The task that polls the stream.
    task: RefCell<Option<Waker>>,
    /// Who waits for the body, if that is another task.
    reader: RefCell<Option<Waker>>,
    tally: Arc<Tally>,
    peer: Option<SocketAddr>,
    disconnect: Cell<Disconnect>,
    /// The request being handled is not answered, and its client understands interim answers.
    interim: Cell<bool>,
    /// The client waits to be told to go on.
    expects: Cell<bool>,
    /// It should be told so.
    go_on: Cell<bool>,
    /// The app has handed over something of an answer since all was written.
    answering: Cell<bool>,
    left_behind: RefCell<LeftBehind>,
}

/// Work that goes on after its connection. LIMIT: a connection handles one request at a time.
enum LeftBehind {
    Nothing,
    Work(LocalBoxFuture<'static, ()>),
    /// Nobody would see to it.
    Refused,
}

impl fmt::Debug for LeftBehind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LeftBehind").field(&matches!(self, Self::Work(_))).finish()
    }
}

impl Conn {
    pub(super) fn new(state: State, tally: Arc<Tally>, peer: Option<SocketAddr>) -> Self {
        let (task, reader) = (RefCell::new(None), RefCell::new(None));
        Self {
            state: RefCell::new(state),
            stirred: Cell::new(true),
            task,
            reader,
            tally,
            peer,
            disconnect: Cell::new(Disconnect::Cancel),
            interim: Cell::new(false),
            expects: Cell::new(false),
            go_on: Cell::new(false),
            answering: Cell::new(false),
            left_behind: RefCell::new(LeftBehind::Nothing),
        }
    }

    /// Tells the state what happened.
    pub(super) fn tell<T>(&self, what: impl FnOnce(&mut State) -> T) -> T {
        self.stirred.set(true);
        what(&mut self.state.borrow_mut())
    }

    /// Ends a turn of the connection's task.
    pub(super) fn tick(&self, now: Instant, cx: &Context<'_>) -> Turn {
        let mut task = self.task.borrow_mut();
        if !task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            *task = Some(cx.waker().clone());
        }
        drop(task);
        let turn = self.tell(|state| state.tick(now));
        self.stirred.set(false);
        turn
    }

    /// Whether the end of one more turn would come to nothing new, but for the time.
    pub(super) fn is_quiet(&self) -> bool {
        !self.stirred.get() && !self.go_on.get()
    }

    /// A request was read. Its number, and what to do with it.
    pub(super) fn called(&self, framing: Framing) -> (u32, Call) {
        self.tell(|state| {
            let call = state.called(framing);
            (state.serial(), call)
        })
    }

    /// Something that the body of a request tells; one of an earlier request has no say.
    pub(super) fn of_body(&self, serial: u32, what: impl FnOnce(&mut State)) {
        self.tell(|state| {
            if state.serial() == serial {
                what(state);
            }
        });
    }

    /// The reader of a body waits for more.
    pub(super) fn body_waits(&self, serial: u32, cx: &Context<'_>) {
        let mut news = false;
        self.of_body(serial, |state| news = state.body_waits());
        self.release();
        if self.expects.take() {
            self.go_on.set(true);
            self.wake_task();
        }
        let elsewhere = match &*self.task.borrow() {
            Some(task) => !task.will_wake(cx.waker()),
            None => true,
        };
        if elsewhere {
            *self.reader.borrow_mut() = Some(cx.waker().clone());
            if news {
                // Only its own task can set the timer.
                self.wake_task();
            }
        }
    }

    /// The answer was handed over to be written, or given up.
    pub(super) fn over(&self) {
        self.tell(State::over);
        self.release();
    }

    /// Lets go on what was held back, if it may by now.
    pub(super) fn release(&self) {
        if self.tell(State::release) {
            self.wake_task();
        }
    }

    /// Whether the body of this request was too slow.
    pub(super) fn body_too_slow(&self, serial: u32) -> bool {
        let state = self.state.borrow();
        state.serial() == serial && state.body_too_slow()
    }

    /// The body of a request ended before its end. If the client is still there, it was because
    /// nobody can read on.
    pub(super) fn body_broke(&self) {
        if !self.tell(|state| state.is_hung_up()) {
            self.tally.count(Event::Malformed);
        }
    }

    /// Wakes whoever waits for the body, to learn that it failed.
    pub(super) fn wake_reader(&self) {
        self.wake_task();
        let reader = self.reader.borrow_mut().take();
        reader.into_iter().for_each(Waker::wake);
    }

    fn wake_task(&self) {
        if let Some(task) = &*self.task.borrow() {
            task.wake_by_ref();
        }
    }

    /// The request that was read is handed to the app.
    pub(super) fn begins(&self, interim: bool, expects: bool) {
        self.disconnect.set(Disconnect::Cancel);
        self.interim.set(interim);
        self.expects.set(expects);
    }

    /// The answer begins.
    pub(super) fn answers(&self) {
        self.interim.set(false);
        self.go_on.set(false);
        self.answering.set(true);
    }

    /// A piece of its body is handed over to be written.
    pub(super) fn answers_on(&self) {
        self.answering.set(true);
    }

    /// All that was answered was written.
    pub(super) fn flushed(&self) {
        self.tell(State::flushed);
        self.answering.set(false);
    }

    /// Whether what is written now is of the app.
    pub(super) fn is_answering(&self) -> bool {
        self.answering.get()
    }

    /// Whether the client should be told to go on. It has been, if this was written.
    pub(super) fn goes_on(&self) -> bool {
        self.go_on.get()
    }

    pub(super) fn told_to_go_on(&self) {
        self.go_on.set(false);
    }

    /// Whether a client that sends no more should be asked whether it is still there. It may be
    /// asked by an interim answer then.
    pub(super) fn asks(&self) -> bool {
        self.interim.get() && self.disconnect.get().asks()
    }

    /// What becomes of the request being handled when its client leaves.
    pub(crate) fn disconnect(&self) -> Disconnect {
        self.disconnect.get()
    }

    pub(crate) fn set_disconnect(&self, disconnect: Disconnect) {
        self.stirred.set(true);
        self.disconnect.set(disconnect);
    }

    /// Has the connection's task see to work whose client has left. If that is over, it is dropped.
    pub(crate) fn leave_behind(&self, work: LocalBoxFuture<'static, ()>) {
        let mut left_behind = self.left_behind.borrow_mut();
        if matches!(*left_behind, LeftBehind::Nothing) {
            *left_behind = LeftBehind::Work(work);
            return;
        }
        // ORDER: dropping it may come back here.
        drop(left_behind);
        drop(work);
    }

    /// What was left behind. From now on, nothing can be.
    pub(super) fn inherit(&self) -> Option<LocalBoxFuture<'static, ()>> {
        match self.left_behind.replace(LeftBehind::Refused) {
            LeftBehind::Work(work) => Some(work),
            LeftBehind::Nothing | LeftBehind::Refused => None,
        }
    }

    /// Other rates for the request being handled.
    pub(crate) fn set_rates(&self, body: Option<Rate>, write: Option<Rate>) {
        self.tell(|state| state.set_rates(body, write));
    }

    /// The client was told this without asking the app.
    pub(super) fn said(&self, status: &'static str, id: &RequestId) {
        let peer = self.peer.map(tracing::field::display);
        tracing::debug!(status, request_id = id.as_str(), peer, "edge.refused_below_the_app");
    }

    /// The connection is ended by us.
    pub(super) fn ended(&self, reason: Reason) {
        self.tally.count(Event::Ended(reason));
        let peer = self.peer.map(tracing::field::display);
        tracing::debug!(?reason, peer, "edge.connection_ended");
    }
}

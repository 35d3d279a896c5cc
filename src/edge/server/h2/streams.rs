//! What the parts of one connection share, and each of its streams.
//!
//! All of them run on one worker: the connection in its task, each request in one of its own.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use actix_http::error::PayloadError;
use actix_web::dev::Payload;
use actix_web::web::Bytes;
use futures_util::Stream as _;
use futures_util::future::LocalBoxFuture;
use futures_util::task::noop_waker_ref;
use slab::Slab;
use tokio::time::Instant;

use super::super::counts::{Event, Tally};
use super::super::state::Reason;
use super::state::{Limits, State, Turn};
use crate::edge::body_guard::Watched;
use crate::edge::disconnect::Disconnect;
use crate::edge::limits::Rate;

/// LIMIT: bytes of responses handed over in one turn of the connection; and none while the client
/// takes nothing. `h2` alone would keep 400 KiB of each stream.
const TURN_MAX: usize = 256 * 1024;

/// One connection, for the stream and its requests.
pub(in super::super) struct Streams {
    limits: Limits,
    state: RefCell<State>,
    /// The task that polls the connection.
    task: RefCell<Option<Waker>>,
    /// Who waits until no request is worked on.
    heir: RefCell<Option<Waker>>,
    /// LIMIT: `limits.streams`; more are refused.
    live: RefCell<Slab<Rc<Stream>>>,
    handed: Cell<usize>,
    /// Something was held back until all is written.
    held: Cell<bool>,
    /// How many streams had been reset at the end of the last turn, when `h2` knows which.
    resets: Cell<u64>,
    gone: Cell<bool>,
    /// Nobody sees to work without a connection any more.
    forsaken: Cell<bool>,
    tally: Arc<Tally>,
    peer: Option<SocketAddr>,
}

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams").field("state", &self.state).finish_non_exhaustive()
    }
}

impl Streams {
    pub(in super::super) fn new(
        limits: Limits,
        dies: Instant,
        tally: Arc<Tally>,
        peer: Option<SocketAddr>,
    ) -> Rc<Self> {
        Rc::new(Self {
            limits,
            state: RefCell::new(State::new(limits, dies)),
            task: RefCell::new(None),
            heir: RefCell::new(None),
            live: RefCell::new(Slab::new()),
            handed: Cell::new(0),
            held: Cell::new(false),
            resets: Cell::new(0),
            gone: Cell::new(false),
            forsaken: Cell::new(false),
            tally,
            peer,
        })
    }

    /// Tells the state what happened.
    pub(super) fn tell<T>(&self, what: impl FnOnce(&mut State) -> T) -> T {
        what(&mut self.state.borrow_mut())
    }

    pub(super) const fn most(&self) -> u32 {
        self.limits.streams
    }

    pub(super) fn head(&self) -> u32 {
        u32::try_from(self.limits.head_max).unwrap_or(u32::MAX)
    }

    pub(super) const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Ends a turn of the connection's task.
    pub(super) fn tick(&self, now: Instant, cx: &Context<'_>) -> Turn {
        keep(&self.task, cx);
        let resets = self.tell(|state| state.resets_seen());
        if self.resets.replace(resets) != resets {
            self.wake_all();
        }
        self.tell(|state| state.tick(now))
    }

    /// The client has taken all there was.
    pub(super) fn flushed(&self) {
        self.tell(State::flushed);
        self.handed.set(0);
        if self.held.take() {
            self.wake_all();
        }
    }

    /// The connection is no more.
    pub(super) fn gone(&self) {
        self.gone.set(true);
        self.wake_all();
    }

    /// Work that goes on without the connection is dropped, now and later.
    pub(in super::super) fn forsake(&self) {
        self.forsaken.set(true);
        self.wake_all();
    }

    /// Ready when no request is worked on.
    pub(in super::super) fn poll_empty(&self, cx: &Context<'_>) -> Poll<()> {
        keep(&self.heir, cx);
        if self.live.borrow().is_empty() { Poll::Ready(()) } else { Poll::Pending }
    }

    fn wake_all(&self) {
        for (_, stream) in &*self.live.borrow() {
            stream.wake();
        }
    }

    fn wake_task(&self) {
        if let Some(task) = &*self.task.borrow() {
            task.wake_by_ref();
        }
    }

    /// Begins a request. The state is told of all, and so many are served.
    pub(super) fn begin(self: &Rc<Self>, payload: Payload) -> (Lease, bool) {
        let stream = Rc::new(Stream::new(Rc::clone(self), payload));
        let mut live = self.live.borrow_mut();
        let key = live.insert(Rc::clone(&stream));
        let count = live.len();
        drop(live);
        self.tell(|state| state.working(count));
        let fits = u32::try_from(count).is_ok_and(|count| count <= self.limits.streams);
        (Lease { stream, key, owes: false }, fits)
    }

    fn end(&self, key: usize) {
        let mut live = self.live.borrow_mut();
        let ended = live.try_remove(key);
        let count = live.len();
        // ORDER: dropping it may come back here.
        drop(live);
        if ended.is_some_and(|stream| stream.unwatch()) {
            self.tally.count(Event::Ended(Reason::BodyTooSlow));
        }
        self.tell(|state| state.working(count));
        self.wake_task();
        if count == 0 {
            self.heir.borrow_mut().take().into_iter().for_each(Waker::wake);
        }
    }

    /// The connection is ended by us.
    pub(super) fn ended(&self, reason: Reason) {
        self.tally.count(Event::Ended(reason));
        let peer = self.peer.map(tracing::field::display);
        tracing::debug!(?reason, peer, "edge.connection_ended");
    }
}

/// Remembers whom to wake.
fn keep(waker: &RefCell<Option<Waker>>, cx: &Context<'_>) {
    let mut waker = waker.borrow_mut();
    if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
        *waker = Some(cx.waker().clone());
    }
}

/// One request of a connection.
pub(crate) struct Stream {
    streams: Rc<Streams>,
    /// The task that works on it.
    task: RefCell<Option<Waker>>,
    payload: RefCell<Incoming>,
    /// How many streams had been reset when it was last asked whether this one was.
    resets_seen: Cell<u64>,
    /// Keeps what is not read of the body, and with it this stream: until it is no longer served.
    watched: RefCell<Option<Rc<Watched>>>,
    disconnect: Cell<Disconnect>,
    left_behind: RefCell<Option<LocalBoxFuture<'static, ()>>>,
}

/// What comes of a request's body.
struct Incoming {
    payload: Payload,
    first: Option<Result<Bytes, PayloadError>>,
    ended: bool,
}

impl Incoming {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, PayloadError>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(first));
        }
        let polled = Pin::new(&mut self.payload).poll_next(cx);
        self.ended |= matches!(polled, Poll::Ready(None));
        polled
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("disconnect", &self.disconnect).finish_non_exhaustive()
    }
}

impl Stream {
    fn new(streams: Rc<Streams>, payload: Payload) -> Self {
        let mut incoming = Incoming { payload, first: None, ended: false };
        let mut cx = Context::from_waker(noop_waker_ref());
        if let Poll::Ready(Some(first)) = incoming.poll_next(&mut cx) {
            incoming.first = Some(first);
        }
        let resets_seen = Cell::new(streams.resets.get());
        Self {
            streams,
            task: RefCell::new(None),
            payload: RefCell::new(incoming),
            resets_seen,
            watched: RefCell::new(None),
            disconnect: Cell::new(Disconnect::Cancel),
            left_behind: RefCell::new(None),
        }
    }

    /// Whether its body is over, or there is none.
    pub(super) fn has_ended(&self) -> bool {
        self.payload.borrow().ended
    }

    /// What else of its body came.
    pub(super) fn poll_body(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, PayloadError>>> {
        self.payload.borrow_mut().poll_next(cx)
    }

    pub(super) fn watch(&self, watched: Rc<Watched>) {
        *self.watched.borrow_mut() = Some(watched);
    }

    /// Lets go of what is left of its body, so that `h2` tells the client that nobody reads it.
    /// Whether it came too slowly.
    fn unwatch(&self) -> bool {
        self.watched.take().is_some_and(|watched| watched.was_too_slow())
    }

    fn wake(&self) {
        if let Some(task) = &*self.task.borrow() {
            task.wake_by_ref();
        }
    }

    /// Whether nobody waits for the answer any more. The task is woken when that changes.
    pub(super) fn is_over(&self, cx: &Context<'_>) -> bool {
        keep(&self.task, cx);
        self.streams.gone.get() || self.is_reset()
    }

    /// Whether it was reset. Only `h2` knows that, and tells it to who reads on after the end of the
    /// body; before that, who reads it learns of it anyway. One that was reset before it was begun
    /// has nothing but that to say.
    fn is_reset(&self) -> bool {
        if matches!(self.payload.borrow().first, Some(Err(_))) {
            return true;
        }
        let resets = self.streams.resets.get();
        if self.resets_seen.replace(resets) == resets || !self.has_ended() {
            return false;
        }
        let mut cx = Context::from_waker(noop_waker_ref());
        matches!(self.poll_body(&mut cx), Poll::Ready(Some(Err(_))))
    }

    /// What was left behind by who gave it up; nothing, if nobody sees to it.
    pub(super) fn inherit(&self) -> Option<LocalBoxFuture<'static, ()>> {
        self.left_behind.take().filter(|_| !self.is_forsaken())
    }

    pub(super) fn is_forsaken(&self) -> bool {
        self.streams.forsaken.get()
    }

    /// What becomes of it when its client leaves.
    pub(crate) fn disconnect(&self) -> Disconnect {
        self.disconnect.get()
    }

    pub(crate) fn set_disconnect(&self, disconnect: Disconnect) {
        self.disconnect.set(disconnect);
    }

    /// Has its task see to work whose client has left.
    pub(crate) fn leave_behind(&self, work: LocalBoxFuture<'static, ()>) {
        let before = self.left_behind.replace(Some(work));
        // ORDER: dropping it may come back here.
        drop(before);
    }

    /// Other rates: that of writing for the whole connection, until it has no requests.
    pub(crate) fn set_rates(&self, body: Option<Rate>, write: Option<Rate>) {
        if let (Some(rate), Some(watched)) = (body, &*self.watched.borrow()) {
            watched.set_rate(rate);
        }
        if let Some(rate) = write {
            self.streams.tell(|state| state.set_write_rate(rate));
        }
    }
}

/// A request that is worked on, until it is dropped.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) stream: Rc<Stream>,
    key: usize,
    owes: bool,
}

impl Lease {
    /// Whether more of the response may be handed over now. The task is woken when it may.
    pub(super) fn may_hand_over(&self) -> bool {
        let streams = &self.stream.streams;
        let may = streams.handed.get() < TURN_MAX && !streams.tell(|state| state.is_blocked());
        if !may {
            streams.held.set(true);
            streams.wake_task();
        }
        may
    }

    /// More of the response is asked of the app.
    pub(super) fn asks(&mut self) {
        if std::mem::take(&mut self.owes) {
            self.stream.streams.tell(|state| state.owes(false));
        }
    }

    /// It was handed over; the client has to take it.
    pub(super) fn handed_over(&mut self, bytes: usize) {
        let streams = &self.stream.streams;
        streams.handed.set(streams.handed.get().saturating_add(bytes));
        if !std::mem::replace(&mut self.owes, true) {
            streams.tell(|state| state.owes(true));
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.asks();
        self.stream.streams.end(self.key);
    }
}

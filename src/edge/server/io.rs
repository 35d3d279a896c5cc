//! The stream of a connection, with its limits.
//!
//! actix-http's dispatcher ends each of its turns with a flush, or with a write or shutdown that
//! has to wait: after it has parsed what it read and asked the app. There the state is asked how
//! long to wait. So a request costs one look at the clock, and the only timer of a connection is
//! set again only when it would fire too late.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use steadfast_actors::kernel::RequestId;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::unconstrained;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::bytes::{Buf, BytesMut};

use super::census::Entry;
use super::conn::Conn;
use super::counts::Tally;
use super::farewell::{Farewell, INTERIM};
use super::presence::Presence;
use super::state::{Reading, Reason, State, Turn};

/// LIMIT: a turn fails a body and closes at most once each; what is left has another turn.
const TURNS_MAX: u32 = 4;

/// LIMIT: bytes of later requests that are read behind one being handled, to learn that the client
/// has left. The kernel keeps the rest, and with it the news.
const HELD_MAX: usize = 8 * 1024;

/// How long work goes on for a client that sends no more before it is asked whether it is there.
/// Most are answered by then, and some who close their half are surprised by interim answers.
const ASK_AFTER: Duration = Duration::from_millis(200);

/// A stream over TCP.
pub(super) trait Transport: AsyncRead + AsyncWrite + Unpin + 'static {
    /// The socket at the bottom.
    fn socket(&self) -> &TcpStream;

    /// Whether both sides have agreed on HTTP/2.
    #[cfg(feature = "http2")]
    fn speaks_http2(&self) -> bool {
        false
    }
}

impl Transport for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

/// What a read came to.
enum Read {
    HandedOut,
    Held,
    End,
}

/// The stream that the dispatcher of HTTP/1.1 is given.
#[derive(Debug)]
pub(super) struct GuardedIo<T> {
    inner: T,
    conn: Rc<Conn>,
    timer: Pin<Box<Sleep>>,
    /// When the timer fires, or has fired.
    armed: Option<Instant>,
    /// The dispatcher was told that the client has left.
    closed: bool,
    /// Something was written, or tried to be, since all was flushed.
    writes: bool,
    /// What came and may not be handed out yet. LIMIT: `HELD_MAX`, and one buffer of the dispatcher.
    held: BytesMut,
    /// Nothing comes after that, and from when on the client may be asked whether it is there.
    ended: Option<Instant>,
    /// Whether a client that sends no more is still there.
    presence: Presence,
    /// Counts the connection until it is gone.
    entry: Option<Entry>,
}

impl<T: Transport> GuardedIo<T> {
    pub(super) fn new(
        inner: T,
        state: State,
        tally: &Arc<Tally>,
        peer: Option<SocketAddr>,
        entry: Entry,
    ) -> Self {
        let conn = Rc::new(Conn::new(state, Arc::clone(tally), peer));
        let timer = Box::pin(sleep_until(Instant::now()));
        Self {
            inner,
            conn,
            timer,
            armed: None,
            closed: false,
            writes: false,
            held: BytesMut::new(),
            ended: None,
            presence: Presence::Unasked,
            entry: Some(entry),
        }
    }

    pub(super) fn conn(&self) -> &Rc<Conn> {
        &self.conn
    }

    /// Leaves it to the caller to count the connection.
    pub(super) const fn take_entry(&mut self) -> Option<Entry> {
        self.entry.take()
    }

    pub(super) fn socket(&self) -> &TcpStream {
        self.inner.socket()
    }

    /// Ends a turn. With `flushed`, nothing is owed to the client half-way.
    fn tend(&mut self, cx: &mut Context<'_>, flushed: bool) -> io::Result<()> {
        // The dispatcher flushes more often than something happens.
        if self.conn.is_quiet() && self.presence.is_unasked() && !self.timer.is_elapsed() {
            return Ok(());
        }
        let mut now = Instant::now();
        self.attend(cx, flushed, now)?;
        for _ in 0..TURNS_MAX {
            match self.conn.tick(now, cx) {
                Turn::Wait(due) => {
                    let due = due.into_iter().chain(self.asks_at().filter(|at| now < *at)).min();
                    if self.arm(due, now, cx) {
                        return Ok(());
                    }
                }
                Turn::FailBody => {
                    self.conn.ended(Reason::BodyTooSlow);
                    self.conn.wake_reader();
                }
                Turn::Close(reason) => {
                    self.conn.ended(reason);
                    self.closed = true;
                    cx.waker().wake_by_ref();
                }
                Turn::End => return Err(io::ErrorKind::ConnectionAborted.into()),
                Turn::Kill(reason) => return Err(self.kill(reason, flushed, cx)),
            }
            now = Instant::now();
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    /// Sees to it that the task is woken when it is due. Whether that is still to come.
    fn arm(&mut self, due: Option<Instant>, now: Instant, cx: &mut Context<'_>) -> bool {
        let Some(due) = due else { return true };
        // The timer has the waker of this task since it was armed; a task has only one.
        if self.armed.is_some_and(|armed| now < armed && armed <= due) {
            return true;
        }
        self.armed = Some(due);
        self.timer.as_mut().reset(due);
        // A task that has used up its turn would be told "not yet" without being noted down, and
        // never be woken.
        pin!(unconstrained(self.timer.as_mut())).poll(cx).is_pending()
    }

    /// Ends the connection. The dispatcher drops it at the error.
    fn kill(&mut self, reason: Reason, flushed: bool, cx: &mut Context<'_>) -> io::Error {
        self.conn.ended(reason);
        match Farewell::to(reason).filter(|_| flushed) {
            Some(farewell) => {
                self.say(farewell, cx);
                let _unsent = Pin::new(&mut self.inner).poll_flush(cx);
            }
            // Reset, so that the kernel keeps nothing for a client who does not take it.
            None => {
                let _closed_all_the_same =
                    socket2::SockRef::from(self.socket()).set_linger(Some(Duration::ZERO));
            }
        }
        io::ErrorKind::TimedOut.into()
    }

    /// Says an interim answer, if one is due, and finds out whether a client that sends no more has
    /// left, where that matters.
    fn attend(&mut self, cx: &mut Context<'_>, flushed: bool, now: Instant) -> io::Result<()> {
        let asks = self.asks_at().is_some_and(|at| at <= now);
        if flushed && (asks || self.conn.goes_on()) && self.interim(cx)? {
            self.conn.told_to_go_on();
            if asks {
                self.presence = Presence::asked(self.socket());
            }
        }
        if self.presence.has_left(cx) {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(())
    }

    /// When the client is to be asked whether it is still there.
    fn asks_at(&self) -> Option<Instant> {
        self.ended.filter(|_| self.presence.is_unasked() && self.conn.asks())
    }

    /// Writes an interim answer, unless the kernel takes nothing now.
    fn interim(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let Poll::Ready(count) = Pin::new(&mut self.inner).poll_write(cx, INTERIM)? else {
            return Ok(false);
        };
        if count < INTERIM.len() {
            // Half of it would make nonsense of all that follows.
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let _sent_with_the_next_turn = Pin::new(&mut self.inner).poll_flush(cx)?;
        Ok(true)
    }

    /// Says it under an id of its own. Whether it fits or not: nobody waits for it.
    fn say(&mut self, farewell: Farewell, cx: &mut Context<'_>) {
        let id = RequestId::generate();
        let said = farewell.under(&id);
        let _unsent = Pin::new(&mut self.inner).poll_write(cx, said.as_bytes());
        self.conn.said(farewell.status(), &id);
    }

    /// Hands out what was held back. Whether there was any.
    fn hand_out_held(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        if self.held.is_empty() {
            return false;
        }
        let room = self.held.len().min(buffer.remaining());
        let bytes = self.held.get(..room).unwrap_or_default();
        let count = self.conn.tell(|state| state.hand_out(bytes));
        buffer.put_slice(bytes.get(..count).unwrap_or_default());
        self.held.advance(count);
        if self.held.is_empty() {
            self.held = BytesMut::new();
        }
        count > 0
    }

    /// Reads once. Ready when there is something for the dispatcher; what is not for it now is
    /// held back.
    fn read(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<Read>> {
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.inner).poll_read(cx, buffer));
        let bytes = buffer.filled().get(before..).unwrap_or_default();
        if read.is_err() || bytes.is_empty() {
            self.conn.tell(State::hung_up);
            self.ended = Some(Instant::now() + ASK_AFTER);
            return Poll::Ready(read.map(|()| Read::End));
        }
        let count = self.conn.tell(|state| state.hand_out(bytes));
        if let Some(rest @ [_, ..]) = bytes.get(count..) {
            self.held.extend_from_slice(rest);
            buffer.set_filled(before + count);
        }
        Poll::Ready(Ok(if count > 0 { Read::HandedOut } else { Read::Held }))
    }

    /// What a write, a flush or a shutdown came to, and the end of the turn if it has to wait.
    fn blocked<R>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<R>> {
        self.writes = true;
        self.conn.tell(State::write_blocked);
        match self.tend(cx, false) {
            Ok(()) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl<T> Drop for GuardedIo<T> {
    fn drop(&mut self) {
        self.conn.tell(State::hung_up);
    }
}

impl<T: Transport> AsyncRead for GuardedIo<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.closed {
            return Poll::Ready(Ok(()));
        }
        if this.hand_out_held(buffer) {
            return Poll::Ready(Ok(()));
        }
        while this.ended.is_none() && this.held.len() < HELD_MAX {
            match this.read(cx, buffer)? {
                Poll::Ready(Read::HandedOut) => return Poll::Ready(Ok(())),
                Poll::Ready(Read::Held | Read::End) => {}
                Poll::Pending if this.held.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        if this.held.is_empty() {
            return Poll::Ready(Ok(()));
        }
        // INVARIANT: what is held back is asked for again. Whatever lets it go on wakes the task.
        if this.conn.tell(State::hold) == Reading::NextTurn {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl<T: Transport> AsyncWrite for GuardedIo<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if !this.conn.is_answering()
            && let Some(farewell) = Farewell::said(bytes)
        {
            this.say(farewell, cx);
            return Poll::Ready(Ok(bytes.len()));
        }
        match Pin::new(&mut this.inner).poll_write(cx, bytes) {
            Poll::Pending => this.blocked(cx),
            Poll::Ready(Ok(count)) => {
                this.writes = true;
                this.conn.tell(|state| state.wrote(count));
                Poll::Ready(Ok(count))
            }
            failed @ Poll::Ready(Err(_)) => failed,
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match Pin::new(&mut this.inner).poll_flush(cx) {
            Poll::Pending => this.blocked(cx),
            Poll::Ready(Ok(())) => {
                if std::mem::take(&mut this.writes) {
                    this.conn.flushed();
                }
                Poll::Ready(this.tend(cx, true))
            }
            failed @ Poll::Ready(Err(_)) => failed,
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match Pin::new(&mut this.inner).poll_shutdown(cx) {
            Poll::Pending => this.blocked(cx),
            ended @ Poll::Ready(_) => ended,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::net::TcpListener;
    use tokio::task::coop;
    use tokio::time::timeout;

    use super::*;
    use crate::edge::limits::EdgeLimits;
    use crate::edge::server::census::Census;
    use crate::edge::server::counts::Connections;
    use crate::edge::server::state::{Framing, Limits};

    /// A connection with the default limits, and its client.
    async fn connection(connections: &Connections) -> (GuardedIo<TcpStream>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, peer) = listener.accept().await.unwrap();
        let limits = EdgeLimits::default();
        let entry = Census::new(&limits.connections, connections).enter(None).unwrap();
        let dies = Instant::now() + limits.connections.age;
        let state = State::new(Limits::from(&limits), dies);
        (GuardedIo::new(stream, state, connections.tally(), Some(peer), entry), client)
    }

    #[tokio::test(start_paused = true)]
    async fn is_cut_even_if_its_task_had_used_up_its_turn_when_it_began_to_wait() {
        let connections = Connections::default();
        let (mut io, _client) = connection(&connections).await;
        let mut first = true;
        let cut = poll_fn(|cx| {
            if std::mem::take(&mut first) {
                while coop::has_budget_remaining() {
                    let _used_up = pin!(coop::consume_budget()).poll(cx);
                }
            }
            match Pin::new(&mut io).poll_flush(cx) {
                Poll::Ready(Err(error)) => Poll::Ready(error.kind()),
                Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
            }
        });
        let begun = Instant::now();
        let cut = timeout(Duration::from_secs(60), cut).await;
        assert_eq!(cut, Ok(io::ErrorKind::TimedOut));
        assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
        assert_eq!(connections.counts().head_timeout, 1);
    }

    #[tokio::test]
    async fn a_request_costs_no_timer() {
        let connections = Connections::default();
        let (mut io, _client) = connection(&connections).await;
        let flush = async |io: &mut GuardedIo<TcpStream>| {
            poll_fn(|cx| Pin::new(&mut *io).poll_flush(cx)).await.unwrap();
            io.armed
        };
        let first = flush(&mut io).await;
        for _ in 0..10 {
            io.conn.tell(|state| state.read(b"GET / HTTP/1.1\r\n\r\n"));
            io.conn.called(Framing::Empty);
            io.conn.tell(State::over);
            assert_eq!(flush(&mut io).await, first, "the timer is left as it is");
        }
    }
}

//! The stream of a connection with many streams.
//!
//! As with HTTP/1.1, the state is asked at the end of each turn, which is a flush, or a write that
//! has to wait; before the client has greeted, a read that has to wait.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use actix_server::GracefulShutdownSignal;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::unconstrained;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::bytes::{Buf, BytesMut};

use super::super::accept::{DISCONNECT, reset};
use super::super::census::Entry;
use super::super::io::Transport;
use super::super::state::Reason;
use super::frames::{go_away, greeting};
use super::state::{State, Turn};
use super::streams::Streams;

/// The client may still open any stream that it has begun to open.
const ANY: u32 = u32::MAX >> 1;

/// The stream that the dispatcher is given.
pub(in super::super) struct StreamsIo<T> {
    inner: T,
    streams: Rc<Streams>,
    timer: Pin<Box<Sleep>>,
    armed: Option<Instant>,
    /// Completes when the server stops.
    stop: Option<Pin<Box<dyn Future<Output = ()>>>>,
    /// The server's greeting was written.
    greeted: bool,
    /// The dispatcher was told that the client has left.
    closed: bool,
    /// Nothing more is written, and until when the client may take what was.
    shut: Option<Instant>,
    /// What goes out before anything else. LIMIT: one greeting, two farewells.
    ours: BytesMut,
    entry: Option<Entry>,
}

impl<T: Transport> StreamsIo<T> {
    pub(in super::super) fn new(
        inner: T,
        streams: Rc<Streams>,
        stop: &GracefulShutdownSignal,
        entry: Entry,
    ) -> Self {
        let stop = stop.clone();
        // Frames are small, and the client answers none of them before it has the next.
        let _slower_without = inner.socket().set_nodelay(true);
        Self {
            inner,
            streams,
            timer: Box::pin(sleep_until(Instant::now())),
            armed: None,
            stop: Some(Box::pin(async move { stop.notified().await })),
            greeted: false,
            closed: false,
            shut: None,
            ours: BytesMut::new(),
            entry: Some(entry),
        }
    }

    pub(in super::super) fn streams(&self) -> &Rc<Streams> {
        &self.streams
    }

    pub(in super::super) const fn take_entry(&mut self) -> Option<Entry> {
        self.entry.take()
    }

    pub(in super::super) fn socket(&self) -> &TcpStream {
        self.inner.socket()
    }

    /// Ends a turn.
    fn tend(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if let Some(stop) = &mut self.stop
            && pin!(unconstrained(stop.as_mut())).poll(cx).is_ready()
        {
            self.stop = None;
            self.streams.tell(State::drains);
        }
        // LIMIT: it is asked to leave once, and closed or killed once; else it waits.
        loop {
            let now = Instant::now();
            match self.streams.tick(now, cx) {
                Turn::Wait(due) => {
                    if self.arm(due, now, cx) {
                        return Ok(());
                    }
                }
                Turn::Leave => self.say(go_away(ANY)),
                Turn::Close(reason) => {
                    reason.into_iter().for_each(|reason| self.streams.ended(reason));
                    self.say(go_away(self.streams.tell(|state| state.highest())));
                    self.closed = true;
                    cx.waker().wake_by_ref();
                }
                Turn::Kill(reason) => return Err(self.kill(reason)),
            }
        }
    }

    /// Sees to it that the task is woken when it is due. Whether that is still to come.
    fn arm(&mut self, due: Option<Instant>, now: Instant, cx: &mut Context<'_>) -> bool {
        let Some(due) = due else { return true };
        if self.armed.is_some_and(|armed| now < armed && armed <= due) {
            return true;
        }
        self.armed = Some(due);
        self.timer.as_mut().reset(due);
        pin!(unconstrained(self.timer.as_mut())).poll(cx).is_pending()
    }

    /// Says it in the next gap between frames.
    fn say(&mut self, frame: [u8; 17]) {
        self.ours.extend_from_slice(&frame);
    }

    /// Ends the connection by a reset. The dispatcher drops it at the error.
    fn kill(&self, reason: Reason) -> io::Error {
        self.streams.ended(reason);
        reset(self.socket());
        io::ErrorKind::TimedOut.into()
    }

    /// Writes what is ours, where it may stand.
    fn write_ours(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.streams.tell(|state| state.is_between_frames()) {
            return Poll::Ready(Ok(()));
        }
        while !self.ours.is_empty() {
            let count = ready!(Pin::new(&mut self.inner).poll_write(cx, &self.ours))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.ours.advance(count);
        }
        Poll::Ready(Ok(()))
    }

    fn flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.write_ours(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    /// Ready when the client has closed its side too, or has had its time. A socket that is closed
    /// with something unread is reset, and with it what the client has not taken yet.
    fn linger(&mut self, until: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let mut space = [0; 1024];
        loop {
            let now = Instant::now();
            let mut buffer = ReadBuf::new(&mut space);
            match Pin::new(&mut self.inner).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() && now < until => {}
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending if now < until && self.arm(Some(until), now, cx) => {
                    return Poll::Pending;
                }
                Poll::Pending => return Poll::Ready(()),
            }
        }
    }

    /// Ends a turn that has to wait for the client to take something.
    fn blocked<R>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<R>> {
        self.streams.tell(State::write_blocked);
        match self.tend(cx) {
            Ok(()) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl<T> Drop for StreamsIo<T> {
    fn drop(&mut self) {
        self.streams.gone();
    }
}

impl<T> fmt::Debug for StreamsIo<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamsIo").field("streams", &self.streams).finish_non_exhaustive()
    }
}

impl<T: Transport> AsyncRead for StreamsIo<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.closed {
            return Poll::Ready(Ok(()));
        }
        // `h2` reads on as long as there is something, and keeps the requests until then. They are
        // much larger there than on their way; so each is taken from it before more comes.
        if this.streams.tell(State::takes_turn) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let Poll::Ready(read) = Pin::new(&mut this.inner).poll_read(cx, buffer) else {
            if !this.streams.tell(|state| state.is_greeted()) {
                // The protocol waits here, and does not flush.
                this.tend(cx)?;
                if this.closed {
                    return Poll::Ready(Ok(()));
                }
            }
            return Poll::Pending;
        };
        read?;
        let bytes = buffer.filled().get(before..).unwrap_or_default();
        match this.streams.tell(|state| state.received(bytes, Instant::now())) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(reason) => Poll::Ready(Err(this.kill(reason))),
        }
    }
}

impl<T: Transport> AsyncWrite for StreamsIo<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if !std::mem::replace(&mut this.greeted, true)
            && let Some((told, count)) = greeting(bytes, this.streams.most(), this.streams.head())
        {
            this.ours.extend_from_slice(&told);
            return Poll::Ready(Ok(count));
        }
        match this.write_ours(cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return this.blocked(cx),
        }
        match Pin::new(&mut this.inner).poll_write(cx, bytes) {
            Poll::Pending => this.blocked(cx),
            Poll::Ready(Ok(count)) => {
                let taken = bytes.get(..count).unwrap_or_default();
                this.streams.tell(|state| state.wrote(taken));
                Poll::Ready(Ok(count))
            }
            failed @ Poll::Ready(Err(_)) => failed,
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match this.flush(cx) {
            Poll::Pending => return this.blocked(cx),
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) => {}
        }
        this.streams.flushed();
        this.tend(cx)?;
        if this.ours.is_empty() {
            return Poll::Ready(Ok(()));
        }
        match this.flush(cx) {
            Poll::Pending => this.blocked(cx),
            ended @ Poll::Ready(_) => ended,
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let until = match this.shut {
            Some(until) => until,
            None => match Pin::new(&mut this.inner).poll_shutdown(cx) {
                Poll::Pending => return this.blocked(cx),
                Poll::Ready(Ok(())) => *this.shut.insert(Instant::now() + DISCONNECT),
                failed @ Poll::Ready(Err(_)) => return failed,
            },
        };
        this.linger(until, cx).map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::future::poll_immediate;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::super::super::census::Census;
    use super::super::super::counts::Connections;
    use super::super::frames::tests::wire;
    use super::*;
    use crate::edge::limits::EdgeLimits;

    async fn pair() -> (StreamsIo<TcpStream>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        let (limits, connections) = (EdgeLimits::default(), Connections::default());
        let tally = Arc::clone(connections.tally());
        let dies = Instant::now() + limits.connections.age;
        let streams = Streams::new((&limits).into(), dies, tally, None);
        let entry = Census::new(&limits.connections, &connections).enter(None).unwrap();
        let stop = actix_server::Server::build().graceful_shutdown_signal();
        (StreamsIo::new(server, streams, &stop, entry), client)
    }

    #[tokio::test]
    async fn the_requests_that_came_are_taken_and_others_have_a_turn_before_more_is_read() {
        let (mut server, mut client) = pair().await;
        let head = wire(1, 0x5, 1, b"head");
        let mut bytes = [b'P'; 24].to_vec();
        for id in [1, 3, 5] {
            bytes.extend(wire(1, 0x5, id, b"head"));
        }
        let first = bytes.len();
        bytes.extend(&head);
        client.write_all(&bytes).await.unwrap();
        let mut space = vec![0; first];
        server.read_exact(&mut space).await.unwrap();
        for _ in 0..=3 {
            assert!(poll_immediate(server.read(&mut space)).await.is_none());
        }
        assert_eq!(poll_immediate(server.read(&mut space)).await.unwrap().unwrap(), head.len());
        assert!(poll_immediate(server.read(&mut space)).await.is_none(), "of an old stream");
    }
}

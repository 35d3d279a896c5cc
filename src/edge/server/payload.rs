//! The body of a request, on its way to the handler.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_http::error::PayloadError;
use actix_web::dev::Payload;
use actix_web::web::Bytes;
use futures_util::Stream;
use futures_util::task::noop_waker_ref;

use super::conn::Conn;
use super::state::State;

/// Tells the connection when the handler waits for the body, and the handler when it is too slow.
pub(super) struct GuardedPayload {
    inner: Payload,
    conn: Rc<Conn>,
    serial: u32,
    /// What is still to come, if that is known.
    left: Option<u64>,
    over: bool,
}

impl GuardedPayload {
    pub(super) const fn new(
        inner: Payload,
        conn: Rc<Conn>,
        serial: u32,
        length: Option<u64>,
    ) -> Self {
        Self { inner, conn, serial, left: length, over: false }
    }

    fn came(&mut self, chunk: &Bytes) {
        self.conn.of_body(self.serial, |state| state.body_came(chunk));
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(u64::try_from(chunk.len()).unwrap_or(u64::MAX));
            if *left == 0 {
                // Nobody needs to ask once more to know.
                self.end(State::body_ended);
            }
        }
    }

    fn broke(&mut self, error: &PayloadError) {
        // actix-http tells a malformed chunk as a client that left.
        if matches!(error, PayloadError::Incomplete(_)) && !self.over {
            self.conn.body_broke();
        }
        self.end(State::body_dropped);
    }

    fn end(&mut self, how: impl FnOnce(&mut State)) {
        if !std::mem::replace(&mut self.over, true) {
            self.conn.of_body(self.serial, how);
        }
    }
}

impl Stream for GuardedPayload {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.conn.body_too_slow(this.serial) {
            let told = std::mem::replace(&mut this.over, true);
            let error = || PayloadError::Io(io::ErrorKind::TimedOut.into());
            return Poll::Ready((!told).then(|| Err(error())));
        }
        let polled = Pin::new(&mut this.inner).poll_next(cx);
        match &polled {
            Poll::Pending if !this.over => this.conn.body_waits(this.serial, cx),
            Poll::Pending => {}
            Poll::Ready(Some(Ok(chunk))) => this.came(chunk),
            Poll::Ready(Some(Err(error))) => this.broke(error),
            Poll::Ready(None) => this.end(State::body_ended),
        }
        polled
    }
}

impl Drop for GuardedPayload {
    /// What has come already is taken: a handler that did not want it costs no connection.
    fn drop(&mut self) {
        let mut cx = Context::from_waker(noop_waker_ref());
        while !self.over {
            match Pin::new(&mut self.inner).poll_next(&mut cx) {
                Poll::Ready(Some(Ok(chunk))) => self.came(&chunk),
                Poll::Ready(Some(Err(error))) => self.broke(&error),
                Poll::Ready(None) => self.end(State::body_ended),
                Poll::Pending => self.end(State::body_dropped),
            }
        }
    }
}

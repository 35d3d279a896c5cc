//! The body of a response, still under its request's context.

use std::error::Error;
use std::fmt;
use std::mem;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::web::Bytes;
use steadfast_actors::kernel::Stopped;

use super::exchange::Exchange;
use super::recover::{AbortResponse, Payload, Phase};
use super::watch::Watch;

/// What an [`Edge`](super::Edge) makes of a body: it streams under the request's context, a
/// panic in it aborts it, and the request ends when it does.
pub struct EdgeBody {
    content: Content,
    exchange: Option<Exchange>,
    watch: Watch,
}

enum Content {
    /// All of it is here, and nothing of the application runs any more.
    Full(Bytes),
    Stream(BoxBody),
    /// Ended, or broken: it is not polled again.
    Over,
}

impl EdgeBody {
    pub(super) fn new(body: BoxBody, mut exchange: Exchange) -> Self {
        let empty = matches!(body.size(), BodySize::None | BodySize::Sized(0));
        let content = match body.try_into_bytes() {
            Ok(bytes) => {
                // A client that does not take it must not look like work that a drain has cut.
                exchange.worked_off();
                Content::Full(bytes)
            }
            Err(body) => {
                exchange.note_writing();
                Content::Stream(body)
            }
        };
        if empty {
            exchange.completed();
        }
        Self { content, exchange: Some(exchange), watch: Watch::default() }
    }

    /// The last byte was handed over.
    fn complete(&mut self) {
        self.drop_content();
        if let Some(mut exchange) = self.exchange.take() {
            exchange.completed();
        }
    }

    /// No further byte comes, though some are missing.
    fn give_up(&mut self, why: Broken) -> Poll<Option<Result<Bytes, Box<dyn Error>>>> {
        self.drop_content();
        drop(self.exchange.take());
        Poll::Ready(Some(Err(Box::new(why))))
    }

    fn panicked(&mut self, payload: Payload) -> Poll<Option<Result<Bytes, Box<dyn Error>>>> {
        let Some(mut exchange) = self.exchange.take() else { resume_unwind(payload) };
        // The stream is what panicked: whatever it does when dropped must not escape either.
        exchange.drop_guarded(mem::replace(&mut self.content, Content::Over));
        if AbortResponse::is(&payload) {
            exchange.aborted();
            drop(exchange);
            resume_unwind(payload)
        }
        exchange.report(payload, Phase::Body);
        exchange.panicked();
        drop(exchange);
        self.give_up(Broken::Panicked)
    }

    fn poll_stream(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Box<dyn Error>>>> {
        let (Content::Stream(body), Some(exchange)) = (&mut self.content, &self.exchange) else {
            return Poll::Ready(None);
        };
        let polled = exchange.enter(|| Pin::new(body).poll_next(cx));
        match polled {
            Err(payload) => self.panicked(payload),
            Ok(Poll::Pending) => match exchange.poll_end(&mut self.watch, None, cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(why) => {
                    exchange.cancel(why);
                    self.give_up(Broken::Stopped(why))
                }
            },
            Ok(Poll::Ready(None)) => {
                self.complete();
                Poll::Ready(None)
            }
            Ok(Poll::Ready(Some(Err(error)))) => {
                self.drop_content();
                drop(self.exchange.take());
                Poll::Ready(Some(Err(error)))
            }
            Ok(more) => more,
        }
    }

    fn drop_content(&mut self) {
        let content = mem::replace(&mut self.content, Content::Over);
        if let (Content::Stream(_), Some(exchange)) = (&content, &self.exchange) {
            exchange.drop_guarded(content);
        }
    }
}

impl MessageBody for EdgeBody {
    type Error = Box<dyn Error>;

    fn size(&self) -> BodySize {
        match &self.content {
            Content::Full(bytes) => bytes.size(),
            Content::Stream(body) => body.size(),
            Content::Over => BodySize::None,
        }
    }

    fn poll_next(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let this = self.get_mut();
        match &mut this.content {
            Content::Full(bytes) => {
                let bytes = mem::take(bytes);
                this.complete();
                Poll::Ready((!bytes.is_empty()).then_some(Ok(bytes)))
            }
            Content::Stream(_) => this.poll_stream(cx),
            Content::Over => Poll::Ready(None),
        }
    }
}

impl Drop for EdgeBody {
    fn drop(&mut self) {
        let unfinished = matches!(self.content, Content::Stream(_));
        if let (true, Some(exchange)) = (unfinished, &self.exchange) {
            exchange.cancel(Stopped::ClientGone);
        }
        self.drop_content();
    }
}

impl fmt::Debug for EdgeBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EdgeBody").field("size", &self.size()).finish_non_exhaustive()
    }
}

/// Why a body has no end. actix-web logs it and closes the connection.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("the body panicked")]
    Panicked,
    #[error("the body was given up: {0}")]
    Stopped(Stopped),
}

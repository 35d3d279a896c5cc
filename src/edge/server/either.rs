//! The stream of a connection, by the protocol that it speaks.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_http::{Extensions, Protocol};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::accept::Life;
#[cfg(feature = "http2")]
use super::h2::StreamsIo;
use super::io::{GuardedIo, Transport};

/// The stream that a dispatcher is given.
#[derive(Debug)]
pub(super) enum EitherIo<T> {
    Http1(GuardedIo<T>),
    #[cfg(feature = "http2")]
    Http2(StreamsIo<T>),
}

/// The same of either.
macro_rules! either {
    ($this:expr, $io:ident => $what:expr) => {
        match $this {
            Self::Http1($io) => $what,
            #[cfg(feature = "http2")]
            Self::Http2($io) => $what,
        }
    };
}

impl<T: Transport> EitherIo<T> {
    pub(super) const fn protocol(&self) -> Protocol {
        match self {
            Self::Http1(_) => Protocol::Http1,
            #[cfg(feature = "http2")]
            Self::Http2(_) => Protocol::Http2,
        }
    }

    pub(super) fn socket(&self) -> &TcpStream {
        either!(self, io => io.socket())
    }

    /// What its requests find of it.
    pub(super) fn introduce(&self, data: &mut Extensions) {
        match self {
            Self::Http1(io) => drop(data.insert(Rc::clone(io.conn()))),
            #[cfg(feature = "http2")]
            Self::Http2(io) => drop(data.insert(Rc::clone(io.streams()))),
        }
    }

    pub(super) fn life(&mut self) -> Life {
        match self {
            Self::Http1(io) => Life::of_conn(io),
            #[cfg(feature = "http2")]
            Self::Http2(io) => Life::of_streams(io),
        }
    }
}

impl<T: Transport> AsyncRead for EitherIo<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        either!(self.get_mut(), io => Pin::new(io).poll_read(cx, buffer))
    }
}

impl<T: Transport> AsyncWrite for EitherIo<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), io => Pin::new(io).poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), io => Pin::new(io).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), io => Pin::new(io).poll_shutdown(cx))
    }
}

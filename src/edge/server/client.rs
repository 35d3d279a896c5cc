//! Who waits for a request.

use std::rc::Rc;

#[cfg(feature = "http2")]
use actix_web::HttpMessage;
use actix_web::dev::ServiceRequest;
#[cfg(feature = "http2")]
use actix_web::http::Version;
use futures_util::future::LocalBoxFuture;

use super::conn::Conn;
#[cfg(feature = "http2")]
use super::h2::Stream;
use crate::edge::disconnect::Disconnect;
use crate::edge::limits::Rate;

/// A client of an [`EdgeServer`](super::EdgeServer), as far as one request goes: the connection
/// that handles nothing else now, or one of its streams.
#[derive(Debug)]
pub(crate) enum Client {
    Conn(Rc<Conn>),
    #[cfg(feature = "http2")]
    Stream(Rc<Stream>),
}

impl Client {
    pub(crate) fn of(request: &ServiceRequest) -> Option<Self> {
        #[cfg(feature = "http2")]
        if request.version() == Version::HTTP_2
            && let Some(stream) = request.extensions().get::<Rc<Stream>>()
        {
            return Some(Self::Stream(Rc::clone(stream)));
        }
        request.conn_data::<Rc<Conn>>().map(|conn| Self::Conn(Rc::clone(conn)))
    }

    /// What becomes of the request when its client leaves.
    pub(crate) fn disconnect(&self) -> Disconnect {
        match self {
            Self::Conn(conn) => conn.disconnect(),
            #[cfg(feature = "http2")]
            Self::Stream(stream) => stream.disconnect(),
        }
    }

    pub(crate) fn set_disconnect(&self, disconnect: Disconnect) {
        match self {
            Self::Conn(conn) => conn.set_disconnect(disconnect),
            #[cfg(feature = "http2")]
            Self::Stream(stream) => stream.set_disconnect(disconnect),
        }
    }

    /// Other rates for the request.
    pub(crate) fn set_rates(&self, body: Option<Rate>, write: Option<Rate>) {
        match self {
            Self::Conn(conn) => conn.set_rates(body, write),
            #[cfg(feature = "http2")]
            Self::Stream(stream) => stream.set_rates(body, write),
        }
    }

    /// Has somebody see to work whose client has left.
    pub(crate) fn leave_behind(&self, work: LocalBoxFuture<'static, ()>) {
        match self {
            Self::Conn(conn) => conn.leave_behind(work),
            #[cfg(feature = "http2")]
            Self::Stream(stream) => stream.leave_behind(work),
        }
    }
}

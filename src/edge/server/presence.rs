//! Whether a client that sends no more is still there.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::Context;

use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::task::unconstrained;

/// What is known of it.
pub(super) enum Presence {
    Unasked,
    /// Completes when it is not.
    Asked(Pin<Box<dyn Future<Output = ()>>>),
    /// The system has no way to tell.
    Unknown,
}

impl Presence {
    /// After something was sent that one who has left answers with a reset.
    pub(super) fn asked(socket: &TcpStream) -> Self {
        match reset_of(socket) {
            Ok(reset) => Self::Asked(Box::pin(reset)),
            Err(_) => Self::Unknown,
        }
    }

    pub(super) const fn is_unasked(&self) -> bool {
        matches!(self, Self::Unasked)
    }

    /// Whether it is known to have left.
    pub(super) fn has_left(&mut self, cx: &mut Context<'_>) -> bool {
        match self {
            Self::Asked(reset) => pin!(unconstrained(reset.as_mut())).poll(cx).is_ready(),
            Self::Unasked | Self::Unknown => false,
        }
    }
}

impl fmt::Debug for Presence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unasked => "Unasked",
            Self::Asked(_) => "Asked",
            Self::Unknown => "Unknown",
        })
    }
}

/// Waits until the socket is reset. It needs a second handle, because a socket that has come to
/// its end is always ready to be read.
fn reset_of(socket: &TcpStream) -> io::Result<impl Future<Output = ()> + use<>> {
    let handle = TcpStream::from_std(socket2::SockRef::from(socket).try_clone()?.into())?;
    Ok(async move {
        if handle.ready(Interest::ERROR).await.is_err() {
            std::future::pending::<()>().await;
        }
    })
}

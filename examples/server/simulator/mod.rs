//! A third party that fails on demand: a real HTTP server with a fault switch.
//!
//! It listens on a port of its own and runs on a thread of its own, so its faults happen on
//! the wire and never inside the application. It stands behind one base address:
//!
//! | route | answer |
//! |---|---|
//! | `GET /rates/{currency}` | the service `rates`: `{currency,rate}` in euros, 404 for an unknown one |
//! | `POST /mail/emails` | the service `mail`, as Resend: one `Idempotency-Key`, one message |
//! | `POST /mail/email` | the service `mail`, as Postmark: every request is another message |
//! | `GET /control` | what really arrived: `{rates:{mode,calls},mail:{mode,calls,accepted,messages}}` |
//! | `PUT /control` | `{service?,mode,latency_ms?}` switches one service, or both |
//!
//! What each mode does is told at [`Mode`](switch::Mode). The control route is never affected by a mode.
//!
//! Of a mail, what counts is whether it was recorded, which is what a real provider would
//! deliver, and whether its sender can know:
//!
//! | mode | the mail is | its sender |
//! |---|---|---|
//! | `ok`, `slow` | recorded | is told |
//! | `hang`, `stall`, `garbage` | recorded | cannot know |
//! | `error` (an empty 502), `reset`, `refuse` | not recorded | cannot know |
//! | `throttle` | not recorded | is told |
//!
//! Each entry of `messages` is one recorded mail, `{key,to,subject,times}`. `key` is the
//! `Idempotency-Key`, or what Postmark gets as `Metadata.mail_id`, or null. `times` is how often it
//! would have been delivered: a repeated `Idempotency-Key` delivers nothing, a repeated `mail_id`
//! delivers again. `accepted` is the sum of them. Keys are forgotten with their messages, not after
//! 24 hours as Resend does. Any token is good, and bodies are limited to 1 MiB.
//!
//! It speaks HTTP/1.1 over a plain socket, because a framework would repair, delay or refuse
//! the very faults it is there to make.

mod connection;
mod control;
mod faults;
mod mail;
mod rates;
mod server;
mod switch;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio_util::sync::CancellationToken;

pub(crate) use self::switch::Switch;

/// LIMIT: callers that wait to be accepted; the system may set a lower one.
const QUEUE_MAX: i32 = 1024;

/// A running simulator. Dropping it closes its port and all its connections.
#[derive(Debug)]
pub(crate) struct Simulator {
    address: SocketAddr,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Simulator {
    /// Starts a simulator on `address`; port 0 takes a free port.
    ///
    /// # Errors
    ///
    /// The address could not be bound, or the thread not started.
    pub(crate) fn start(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        // A burst of callers waits its turn, where the usual queue of 128 would turn some away.
        socket2::SockRef::from(&listener).listen(QUEUE_MAX)?;
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let stopped = stop.clone().cancelled_owned();
        let serve = move || runtime.block_on(server::run(listener, Arc::default(), stopped));
        let thread = std::thread::Builder::new().name("simulator".into()).spawn(serve)?;
        Ok(Self { address, stop, thread: Some(thread) })
    }

    /// The base address of every route above.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // A panic of that thread has been reported by the panic hook already.
            drop(thread.join());
        }
    }
}

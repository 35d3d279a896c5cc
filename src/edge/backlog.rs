//! Closing a listener without resetting those who stand in its queue.
//!
//! The kernel completes a connection before anybody accepts it. When the listener closes, those
//! in its queue are reset, with the request they may have sent already. So we keep a second
//! handle to each socket: when the server has let go of its own, whoever still stands in the
//! queue is told 503 with `Retry-After`, and then the socket closes.

use std::io;
use std::net::{TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use parking_lot::Mutex;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// LIMIT: clients that may stand in the queue of one listener; the system may set a lower one.
///
/// The standard library's 128 is less than a burst: whoever finds the queue full tries again
/// after a second, and then after three.
pub(super) const QUEUE_MAX: i32 = 4096;
/// For the workers to take up what the server accepted for them.
const HAND_OVER: Duration = Duration::from_millis(50);
/// For the server's accept thread to close its own handle.
const LET_GO: Duration = Duration::from_millis(20);
/// LIMIT: how long one client may take over its farewell.
const FAREWELL: Duration = Duration::from_secs(1);
/// LIMIT: how much of a request is read before it is answered.
const HEAD_MAX: usize = 16 * 1024;

const PROBLEM: &str = r#"{"type":"about:blank","title":"the server is shutting down","status":503,"code":"request.shutdown"}"#;

/// The listeners of one runtime.
#[derive(Debug, Clone, Default)]
pub(crate) struct Backlog(Arc<Mutex<Vec<TcpListener>>>);

impl Backlog {
    /// Binds a listener and keeps a second handle to its socket.
    pub(crate) fn bind(&self, address: impl ToSocketAddrs) -> io::Result<TcpListener> {
        let listener = bind(address, QUEUE_MAX)?;
        self.0.lock().push(listener.try_clone()?);
        Ok(listener)
    }

    /// Stops the server gracefully, and the listening sockets with nobody left in their queues.
    ///
    /// # Cancel safety
    ///
    /// Dropped half-way, the server may keep its listeners.
    pub(crate) async fn close(&self, server: ServerHandle) {
        let listeners = std::mem::take(&mut *self.0.lock());
        if listeners.is_empty() {
            drop(server.stop(true));
            return;
        }
        // ORDER: paused, then handed over, then stopped: a worker that is stopping drops the
        // connections it was given and has not begun.
        server.pause().await;
        sleep(HAND_OVER).await;
        drop(server.stop(true));
        sleep(LET_GO).await;
        let mut farewells = JoinSet::new();
        for listener in listeners {
            sweep(&listener, &mut farewells);
        }
        while farewells.join_next().await.is_some() {}
    }
}

/// Binds a listener in whose queue this many clients may stand.
pub(super) fn bind(address: impl ToSocketAddrs, queue: i32) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    // Listening again only changes the length of the queue.
    SockRef::from(&listener).listen(queue)?;
    Ok(listener)
}

/// Accepts until the queue is empty. The kernel bounds the queue.
fn sweep(listener: &TcpListener, farewells: &mut JoinSet<()>) {
    if let Err(error) = listener.set_nonblocking(true) {
        tracing::warn!(%error, "shutdown.backlog_unswept");
        return;
    }
    while let Ok((client, _)) = listener.accept() {
        let client = client.set_nonblocking(true).and_then(|()| TcpStream::from_std(client));
        if let Ok(client) = client {
            farewells.spawn(async { drop(timeout(FAREWELL, dismiss(client)).await) });
        }
    }
}

/// Answers one request and waits for the client to close.
///
/// Closing with unread bytes would reset the connection, and the answer with it.
async fn dismiss(mut client: TcpStream) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.len() < HEAD_MAX {
        if client.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    client.write_all(answer().as_bytes()).await?;
    client.shutdown().await?;
    let mut rest = [0; 1024];
    while client.read(&mut rest).await? > 0 {}
    Ok(())
}

fn answer() -> String {
    let length = PROBLEM.len();
    format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\n\
         cache-control: no-store\r\nretry-after: 1\r\nconnection: close\r\n\
         content-length: {length}\r\n\r\n{PROBLEM}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_farewell_is_a_whole_response() {
        let answer = answer();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let problem: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(problem["code"], "request.shutdown");
        assert_eq!(problem["status"], 503);
        assert!(head.ends_with(&format!("content-length: {}", body.len())), "{head}");
    }
}

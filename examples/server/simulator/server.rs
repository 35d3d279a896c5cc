//! The accept loop, and the way of a request to its service.

use std::future::Future;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::connection::{Answer, Connection, ReadError, Request};
use super::control;
use super::faults::{self, Fate, Voice};
use super::rates::Rates;
use super::switch::{Service, Switchboard};

/// LIMIT: connections at a time; those beyond it wait to be accepted. Leaves most of the 1,024
/// files that a process may usually open to the application.
const CONNECTIONS_MAX: usize = 256;
/// LIMIT: connections that hang or stall at a time, so that some are left for the control route.
const HELD_MAX: usize = 224;
/// LIMIT: connections at a time that serve more than one request. The others close after their
/// answer, or idle ones could keep everybody else from being accepted.
const KEPT_MAX: usize = 64;

/// Serves until `stopped` completes, then drops every connection where it stands.
pub(super) async fn run(listener: TcpListener, board: Arc<Switchboard>, stopped: impl Future) {
    let served = serve(listener, board);
    tokio::select! {
        _stopped = stopped => {}
        outcome = served => {
            if let Err(error) = outcome {
                tracing::error!(%error, "the simulator cannot listen");
            }
        }
    }
}

async fn serve(listener: TcpListener, board: Arc<Switchboard>) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let held = Arc::new(Semaphore::new(HELD_MAX));
    let reusable = Arc::new(Semaphore::new(KEPT_MAX));
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= CONNECTIONS_MAX {
            connections.join_next().await;
        }
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _peer)) => {
                    let (board, held) = (Arc::clone(&board), Arc::clone(&held));
                    let reusable = Arc::clone(&reusable);
                    connections.spawn(serve_connection(stream, board, held, reusable));
                }
                // Out of file descriptors, most likely: give others time to close theirs.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
            Some(_finished) = connections.join_next() => {}
        }
    }
}

async fn serve_connection(
    stream: TcpStream,
    board: Arc<Switchboard>,
    held: Arc<Semaphore>,
    reusable: Arc<Semaphore>,
) {
    let mut connection = Connection::new(stream);
    let place = reusable.try_acquire();
    if place.is_err() {
        connection.close_after_answer();
    }
    loop {
        let mut request = match connection.read_head().await {
            Ok(request) => request,
            Err(ReadError::Gone) => return,
            Err(ReadError::Refused(status, title)) => {
                // Whether the caller still reads this is its own affair: the connection ends.
                let _best_effort = connection.write(&Answer::problem(status, title)).await;
                return;
            }
        };
        match serve_request(connection, &mut request, &board, &held).await {
            Ok(Fate::Reusable(same)) if request.keeps_alive() && !same.is_closing() => {
                connection = same;
            }
            Ok(Fate::Reusable(_) | Fate::Spent) | Err(_) => return,
        }
    }
}

async fn serve_request(
    mut connection: Connection,
    request: &mut Request,
    board: &Switchboard,
    held: &Semaphore,
) -> io::Result<Fate> {
    let Some(service) = service_of(&request.path) else {
        connection.read_body(request).await?;
        connection.write(&unaffected(request, board)).await?;
        return Ok(Fate::Reusable(connection));
    };
    let voice: &dyn Voice = match service {
        Service::Rates => &Rates,
        Service::Mail => &board.providers,
    };
    faults::answer(connection, request, board.line(service), held, voice).await
}

fn service_of(path: &str) -> Option<Service> {
    match path.split('/').nth(1) {
        Some("rates") => Some(Service::Rates),
        Some("mail") => Some(Service::Mail),
        _ => None,
    }
}

/// The answer of a route that no mode affects.
fn unaffected(request: &Request, board: &Switchboard) -> Answer {
    match request.path.as_str() {
        "/control" => control::answer(request, board),
        _ => Answer::problem(404, "Not Found"),
    }
}

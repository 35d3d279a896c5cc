//! What each mode does to a request, on the wire.

use std::io;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::time::sleep;

use super::connection::{Answer, Connection, Request};
use super::switch::{Line, Mode, Setting};

/// LIMIT: how long a hanging or stalled caller is held when nothing else ends it.
const HOLD_MAX: Duration = Duration::from_secs(600);

/// What becomes of a connection after a request.
pub(super) enum Fate {
    /// It serves the next request.
    Reusable(Connection),
    /// It is closed.
    Spent,
}

/// What is particular to a service: its true answers, and the words of its faults.
pub(super) trait Voice: Sync {
    /// Does what was asked and makes the true answer. This also happens where only the answer
    /// gets lost on its way: such a caller cannot know that its request was carried out.
    fn answer(&self, request: &Request) -> Answer;

    /// The answer in the mode [`Mode::Error`].
    fn failed(&self) -> Answer;

    /// The answer in the mode [`Mode::Throttle`].
    fn throttled(&self, request: &Request) -> Answer;

    /// Whether [`Mode::Reset`] comes before the body is read, rather than amid the answer.
    fn resets_unread(&self) -> bool;
}

/// Treats one request, whose body is still to be read, as the switch of its service says.
pub(super) async fn answer(
    mut connection: Connection,
    request: &mut Request,
    line: &Line,
    held: &Semaphore,
    voice: &dyn Voice,
) -> io::Result<Fate> {
    let mut changes = line.observe();
    let Setting { mode, latency } = *changes.borrow_and_update();
    let unread = mode == Mode::Reset && voice.resets_unread();
    if !unread {
        connection.read_body(request).await?;
    }
    if mode != Mode::Refuse {
        line.count_call();
    }
    if !latency.is_zero() {
        // Even a sleep of nothing lasts until the timer's next tick.
        sleep(latency).await;
    }
    let answer = match mode {
        Mode::Ok | Mode::Slow => voice.answer(request),
        Mode::Error => voice.failed(),
        Mode::Throttle => voice.throttled(request),
        Mode::Garbage => garbled(&voice.answer(request)),
        Mode::Refuse => return connection.reset().map(|()| Fate::Spent),
        Mode::Hang => {
            let _unsaid = voice.answer(request);
            return Ok(hold(connection, changes, held).await);
        }
        Mode::Stall => {
            connection.write_half(&voice.answer(request)).await?;
            return Ok(hold(connection, changes, held).await);
        }
        Mode::Reset if unread => return connection.reset().map(|()| Fate::Spent),
        Mode::Reset => {
            connection.write_half(&voice.answer(request)).await?;
            return connection.reset().map(|()| Fate::Spent);
        }
    };
    connection.write(&answer).await?;
    Ok(Fate::Reusable(connection))
}

/// Says no more until the mode changes, the caller leaves or the limit is reached.
///
/// When as many are held as may be, the caller is let go at once: holding more could starve
/// the control route.
async fn hold(
    mut connection: Connection,
    mut changes: watch::Receiver<Setting>,
    held: &Semaphore,
) -> Fate {
    let Ok(_place) = held.try_acquire() else {
        return Fate::Spent;
    };
    tokio::select! {
        () = connection.closed() => {}
        _switched = changes.changed() => {}
        () = sleep(HOLD_MAX) => {}
    }
    Fate::Spent
}

/// Success and the right content type, with bytes that are not even text.
fn garbled(answer: &Answer) -> Answer {
    let junk = b"\xff\xfe\x00<html>it works!".repeat(answer.length() / 16 + 1);
    Answer::bytes(200, "application/json", junk)
}

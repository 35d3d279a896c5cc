//! What each mode does to a request, on the wire.

use std::io;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::time::sleep;

use super::connection::{Answer, Connection};
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

/// Treats one request as the switch of its service says.
///
/// `work` does what was asked and makes the true answer. It also runs where only the answer
/// gets lost on its way: such a caller cannot know that its request was carried out.
pub(super) async fn answer(
    mut connection: Connection,
    line: &Line,
    held: &Semaphore,
    work: impl FnOnce() -> Answer,
) -> io::Result<Fate> {
    let mut changes = line.observe();
    let Setting { mode, latency } = *changes.borrow_and_update();
    if mode != Mode::Refuse {
        line.count_call();
    }
    if !latency.is_zero() {
        // Even a sleep of nothing lasts until the timer's next tick.
        sleep(latency).await;
    }
    let answer = match mode {
        Mode::Ok | Mode::Slow => work(),
        Mode::Error => Answer::problem(500, "Internal Server Error"),
        Mode::Throttle => throttled(),
        Mode::Garbage => garbled(&work()),
        Mode::Refuse => return connection.reset().map(|()| Fate::Spent),
        Mode::Hang => return Ok(hold(connection, changes, held).await),
        Mode::Stall => {
            connection.write_half(&work()).await?;
            return Ok(hold(connection, changes, held).await);
        }
        Mode::Reset => {
            connection.write_half(&work()).await?;
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

fn throttled() -> Answer {
    Answer::problem(429, "Too Many Requests").with_header("retry-after", "1")
}

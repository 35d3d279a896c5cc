//! Which ticks of a periodic job fire now. Pure: the time comes in.
//!
//! INVARIANT: a tick fires only while the stored `next_at` stands at it or before it, and
//! whoever fires it moves `next_at` beyond in the same transaction. So whatever the wall clock
//! does, none fires twice.

use std::time::Duration;

use super::Schedule;
use crate::jobs::store::CronRow;
use crate::store::Timestamp;

/// What is to be done about a periodic job now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticks {
    /// The ticks that fire, oldest first; at most 1,000.
    pub fire: Vec<Timestamp>,
    /// The tick after those. If it is not later than now, look again at once: more are due
    /// than fire at a time.
    pub next: Timestamp,
}

/// LIMIT: ticks that fire in one look, and so jobs in one transaction.
const TICKS_MAX: usize = 1_000;

/// How late a tick may be and still be on time. Longer than it takes another process to
/// notice that the leader is gone, and than a restart.
const GRACE: Duration = Duration::from_secs(60);

/// How far the wall clock may be set back while the schedule stands still until it has caught
/// up. If it is set back further it was wrong before, and waiting for it could take years: the
/// schedule begins anew.
const SET_BACK_MAX: Duration = Duration::from_secs(25 * 3_600);

/// Decides which ticks of a periodic job fire at `now`. `looked` is when this process looked
/// last without a break, by the same clock; `None` if it has just begun.
///
/// | a tick that is due | fires |
/// |---|---|
/// | and on time: no older than `looked` or than 60 s | yes |
/// | and missed, no older than the backfill | yes |
/// | and older | never |
/// | of a job that is paused | never |
///
/// Without a backfill, ticks that became due together fire as one, the newest: a job that runs
/// every second is not owed 60 runs after a restart. With one, each fires.
///
/// A clock that jumps forward makes the ticks on its way due, and they are on time, for nobody
/// failed to look. A clock that is set back fires nothing again, because `next_at` does not move
/// back; set back by more than 25 h, it was wrong, and the next tick is sought anew.
#[must_use]
pub fn due(row: &CronRow, schedule: &Schedule, looked: Option<Timestamp>, now: Timestamp) -> Ticks {
    let fire = Vec::new();
    if now < row.next_at {
        return Ticks { fire, next: standing(row, schedule, now) };
    }
    if row.paused {
        return Ticks { fire, next: after(schedule, now) };
    }
    let backfill = Duration::from_millis(u64::try_from(row.backfill_ms).unwrap_or(0));
    let oldest = now.before(backfill.max(GRACE));
    let oldest = looked.map_or(oldest, |looked| oldest.min(looked));
    if backfill.is_zero() {
        let fire = Some(newest(row, schedule, now)).filter(|tick| *tick >= oldest);
        Ticks { fire: fire.into_iter().collect(), next: after(schedule, now) }
    } else {
        all(row, schedule, oldest, now)
    }
}

/// The next tick of a job that is not due.
fn standing(row: &CronRow, schedule: &Schedule, now: Timestamp) -> Timestamp {
    let furthest = after(schedule, now.after(SET_BACK_MAX));
    if row.next_at > furthest { after(schedule, now) } else { row.next_at }
}

fn all(row: &CronRow, schedule: &Schedule, oldest: Timestamp, now: Timestamp) -> Ticks {
    let mut next = row.next_at;
    if next < oldest {
        next = after(schedule, Timestamp(oldest.0.saturating_sub(1)));
    }
    let mut fire = Vec::new();
    while next <= now && fire.len() < TICKS_MAX {
        fire.push(next);
        next = after(schedule, next);
    }
    Ticks { fire, next }
}

/// The newest tick that is due. Found by bisection, so that it takes no longer after a year.
fn newest(row: &CronRow, schedule: &Schedule, now: Timestamp) -> Timestamp {
    let (mut found, mut beyond) = (row.next_at, now);
    let mut from = found;
    while from < beyond {
        let middle = from.after(beyond.since(from) / 2);
        let tick = after(schedule, middle);
        if tick <= now {
            (found, from) = (tick, tick);
        } else {
            beyond = middle;
        }
    }
    found
}

fn after(schedule: &Schedule, at: Timestamp) -> Timestamp {
    schedule.next_after(at).unwrap_or(Timestamp(i64::MAX))
}

//! Taking jobs back from processes that died.

use rusqlite::{Row, params};

use super::{all, execute, nodes, settle};
use crate::jobs::store::{DeadReason, Rescued};
use crate::jobs::{JobId, NodeId};
use crate::store::{SqliteTx, Timestamp};

/// Whatever runs on a process that has no row: nothing is forgotten because a process was.
pub(super) const ORPHANS: &str = "select id, queue, crashes, cancel,
    started_at is not null as begun, attempt < max_attempts as has_attempts
    from sf_job indexed by sf_job_running
    where state = 1 and not exists (select 1 from sf_node where sf_node.id = sf_job.node)";

const CHARGE: &str = "update sf_job set crashes = crashes + 1 where id = ?1";

const REQUEUE: &str = "update sf_job set state = 0, run = run + 1, node = null, started_at = null,
    run_at = ?2, attempt = attempt - ?3 where id = ?1";

const RAISE_FENCE: &str = "update sf_job set run = run + 1 where id = ?1";

/// Forgets processes and makes the jobs ready again that nobody runs any more.
pub(super) fn rescue(
    tx: &SqliteTx<'_>,
    dead: &[NodeId],
    poison_after: i16,
    now: Timestamp,
) -> rusqlite::Result<Rescued> {
    for node in dead {
        nodes::leave(tx, *node)?;
    }
    let orphans = all(tx, ORPHANS, [], orphan)?;
    let mut rescued = Rescued::default();
    for orphan in &orphans {
        match orphan.fate(poison_after) {
            None => rescued.requeued += 1,
            Some(DeadReason::Poison) => rescued.poisoned += 1,
            Some(
                DeadReason::Discarded
                | DeadReason::Cancelled
                | DeadReason::Expired
                | DeadReason::Shed,
            ) => rescued.discarded += 1,
        }
        carry_out(tx, orphan, poison_after, now)?;
    }
    Ok(rescued)
}

/// A job whose process is gone.
struct Orphan {
    id: JobId,
    queue: String,
    crashes: i16,
    cancel: bool,
    begun: bool,
    has_attempts: bool,
}

impl Orphan {
    /// Why it is dead, if it is.
    fn fate(&self, poison_after: i16) -> Option<DeadReason> {
        if self.cancel {
            Some(DeadReason::Cancelled)
        } else if self.begun && self.crashes.saturating_add(1) >= poison_after {
            Some(DeadReason::Poison)
        } else if self.begun && !self.has_attempts {
            Some(DeadReason::Discarded)
        } else {
            None
        }
    }
}

fn carry_out(
    tx: &SqliteTx<'_>,
    orphan: &Orphan,
    poison_after: i16,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let id = orphan.id;
    if orphan.begun {
        execute(tx, CHARGE, [id.0])?;
    }
    match orphan.fate(poison_after) {
        Some(reason) => {
            execute(tx, RAISE_FENCE, [id.0])?;
            settle::bury(tx, id, reason, None, now)
        }
        None => {
            execute(tx, REQUEUE, params![id.0, now.0, !orphan.begun])?;
            tx.wake(&orphan.queue);
            Ok(())
        }
    }
}

fn orphan(row: &Row<'_>) -> rusqlite::Result<Orphan> {
    Ok(Orphan {
        id: JobId(row.get("id")?),
        queue: row.get("queue")?,
        crashes: row.get("crashes")?,
        cancel: row.get("cancel")?,
        begun: row.get("begun")?,
        has_attempts: row.get("has_attempts")?,
    })
}

//! The processes that run jobs, and which of them leads.

use rusqlite::{Connection, Row, params};

use super::{all, execute, optional, parsed};
use crate::jobs::store::{Beat, NodeRow, Pulse};
use crate::jobs::{JobId, NodeId};
use crate::store::Timestamp;

const BEAT: &str = "insert into sf_node (id, name, presence, started_at, beats, beat_at, report)
    values (?1, ?2, ?3, ?4, 1, ?4, ?5)
    on conflict (id) do update set name = excluded.name, presence = excluded.presence,
    beats = beats + 1, beat_at = excluded.beat_at, report = excluded.report";

const NODES: &str = "select id, name, presence, beats, report from sf_node order by id";

pub(super) const TO_CANCEL: &str = "select id from sf_job indexed by sf_job_running
    where state = 1 and node = ?1 and cancel = 1 order by id";

const LEAVE: &str = "delete from sf_node where id = ?1";

const LEADER: &str = "select node, term, expires_at,
    exists (select 1 from sf_node where id = sf_leader.node) from sf_leader where name = ?1";

const LEAD: &str = "insert into sf_leader (name, node, term, expires_at) values (?1, ?2, ?3, ?4)
    on conflict (name) do update
    set node = excluded.node, term = excluded.term, expires_at = excluded.expires_at";

/// The row stays, without a node, so that the next term is a higher one.
const RESIGN: &str = "update sf_leader set node = '', expires_at = 0
    where name = ?1 and node = ?2 and term = ?3";

/// Says that a process lives, and hears of the others.
pub(super) fn beat(db: &Connection, beat: &Beat, now: Timestamp) -> rusqlite::Result<Pulse> {
    let node = beat.node.to_string();
    execute(db, BEAT, params![node, beat.name, beat.presence, now.0, beat.report])?;
    let nodes = all(db, NODES, [], node_row)?;
    let to_cancel = all(db, TO_CANCEL, [&node], |row| row.get(0).map(JobId))?;
    Ok(Pulse { database_now: None, nodes, to_cancel })
}

/// Forgets a process.
pub(super) fn leave(db: &Connection, node: NodeId) -> rusqlite::Result<()> {
    execute(db, LEAVE, [node.to_string()])?;
    Ok(())
}

/// Becomes or stays the leader. The term, or nothing if another one leads.
pub(super) fn elect(
    db: &Connection,
    name: &str,
    node: NodeId,
    until: Timestamp,
    now: Timestamp,
) -> rusqlite::Result<Option<i64>> {
    let node = node.to_string();
    let leader = optional(db, LEADER, [name], |row| {
        let lives: bool = row.get(3)?;
        Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?, lives))
    })?;
    let term = match leader {
        None => 1,
        Some((leader, term, ..)) if leader == node => term,
        Some((_, term, expires_at, lives)) if expires_at <= now.0 || !lives => {
            term.saturating_add(1)
        }
        Some(_) => return Ok(None),
    };
    execute(db, LEAD, params![name, node, term, until.0])?;
    Ok(Some(term))
}

/// Gives leadership up.
pub(super) fn resign(db: &Connection, name: &str, node: NodeId, term: i64) -> rusqlite::Result<()> {
    execute(db, RESIGN, params![name, node.to_string(), term])?;
    Ok(())
}

fn node_row(row: &Row<'_>) -> rusqlite::Result<NodeRow> {
    Ok(NodeRow {
        id: parsed(row, "id", NodeId::parse)?,
        name: row.get("name")?,
        presence: row.get("presence")?,
        beats: row.get("beats")?,
        report: row.get("report")?,
    })
}

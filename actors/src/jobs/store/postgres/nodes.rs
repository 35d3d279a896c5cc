//! The processes that run jobs, and which of them leads.

use tokio_postgres::types::Type;

use super::PgSql;
use super::decode::{moment, node, text, text_or_none};
use super::session::{Param, Row, Session, statements, text as clean};
use crate::jobs::store::{Beat, NodeRow, Pulse};
use crate::jobs::{JobId, NodeId};
use crate::store::{StoreError, Timestamp};

statements! {
    NodesSql {
        beat: "insert into {schema}.node (id, name, presence, started_at, beats, beat_at, report)
               values ($1, $2, $3, $4, 1, $4, $5)
               on conflict (id) do update
               set name = excluded.name, presence = excluded.presence,
                   beats = node.beats + 1, beat_at = excluded.beat_at, report = excluded.report
               returning (extract(epoch from clock_timestamp()) * 1000)::bigint",
        all: "select id, name, presence, beats, report from {schema}.node order by id",
        to_cancel: "select id from {schema}.job where state = 1 and node = $1 and cancel
                     order by id",
        leave: "delete from {schema}.node where id = $1",
        elect: "insert into {schema}.leader (name, node, term, expires_at) values ($1, $2, 1, $3)
                on conflict (name) do update
                set node = excluded.node, expires_at = excluded.expires_at,
                    term = leader.term + (leader.node <> excluded.node)::int
                where leader.node = excluded.node or leader.expires_at <= $4
                   or not exists (select from {schema}.node n where n.id = leader.node)
                returning term",
        // The row stays, without a node, so that the next term is a higher one.
        resign: "update {schema}.leader set node = '', expires_at = 0
                  where name = $1 and node = $2 and term = $3",
    }
}

/// Says that a process lives, and hears of the others, in one round trip.
pub(super) async fn beat(
    session: Session<'_>,
    sql: &PgSql,
    beat: &Beat,
    now: Timestamp,
) -> Result<Pulse, StoreError> {
    let (id, name, report) = (beat.node.to_string(), clean(&beat.name), clean(&beat.report));
    let params: [Param<'_>; 5] = [
        (&id, Type::TEXT),
        (&name, Type::TEXT),
        (&beat.presence.as_deref(), Type::TEXT),
        (&now.0, Type::INT8),
        (&report, Type::TEXT),
    ];
    let own: [Param<'_>; 1] = [(&id, Type::TEXT)];
    session.warm(&[&sql.nodes.beat, &sql.nodes.all, &sql.nodes.to_cancel]).await?;
    // ORDER: sent as they are polled; the second sees what the first wrote.
    let (clock, nodes, to_cancel) = tokio::try_join!(
        biased;
        session.row(&sql.nodes.beat, &params),
        session.rows(&sql.nodes.all, &[]),
        session.rows(&sql.nodes.to_cancel, &own),
    )?;
    let job = |row: &Row| Ok(JobId(row.try_get(0)?));
    Ok(Pulse {
        database_now: Some(moment(&clock, 0)?),
        nodes: nodes.iter().map(node_row).collect::<Result<_, _>>()?,
        to_cancel: to_cancel.iter().map(job).collect::<Result<_, StoreError>>()?,
    })
}

/// Forgets a process.
pub(super) async fn leave(
    session: Session<'_>,
    sql: &PgSql,
    node: NodeId,
) -> Result<(), StoreError> {
    session.rows(&sql.nodes.leave, &[(&node.to_string(), Type::TEXT)]).await.map(drop)
}

/// Becomes or stays the leader. The term, or nothing if another one leads.
pub(super) async fn elect(
    session: Session<'_>,
    sql: &PgSql,
    name: &str,
    node: NodeId,
    until: Timestamp,
    now: Timestamp,
) -> Result<Option<i64>, StoreError> {
    let node = node.to_string();
    let params: [Param<'_>; 4] =
        [(&name, Type::TEXT), (&node, Type::TEXT), (&until.0, Type::INT8), (&now.0, Type::INT8)];
    let rows = session.rows(&sql.nodes.elect, &params).await?;
    rows.first().map(|row| row.try_get(0)).transpose()
}

/// Gives leadership up.
pub(super) async fn resign(
    session: Session<'_>,
    sql: &PgSql,
    name: &str,
    node: NodeId,
    term: i64,
) -> Result<(), StoreError> {
    let node = node.to_string();
    let params: [Param<'_>; 3] = [(&name, Type::TEXT), (&node, Type::TEXT), (&term, Type::INT8)];
    session.rows(&sql.nodes.resign, &params).await.map(drop)
}

fn node_row(row: &Row) -> Result<NodeRow, StoreError> {
    Ok(NodeRow {
        id: node(row.try_get(0)?)?,
        name: text(row, 1)?,
        presence: text_or_none(row, 2)?,
        beats: row.try_get(3)?,
        report: text_or_none(row, 4)?,
    })
}

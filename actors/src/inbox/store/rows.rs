//! Rows of events.

use crate::inbox::event::{EventInfo, EventState, InboxId, Row, Turn};
use crate::jobs::JobId;
use crate::jobs::store::postgres::defect;
use crate::jobs::tx;
use crate::store::{StoreError, Timestamp};

/// What is read of an event; [`event`] knows the order.
macro_rules! columns {
    () => {
        "e.id, e.source, e.event_id, e.type, e.version, e.subject, e.line, e.turn, e.occurred_at,
         e.received_at, e.settled_at, e.state, e.reason, e.job_id, e.key, e.duplicates,
         e.conflicts, e.replays, e.headers, e.body_sha256, cast(length(e.body) as bigint), j.id"
    };
}

/// An event is live as long as its job is: then `j.id` is there.
macro_rules! events {
    () => {
        "{inbox} e left join {job} j on j.id = e.job_id"
    };
}

pub(super) use {columns, events};

/// The column that may follow those of [`event`].
pub(super) const BODY: usize = 22;

/// How many events are in a state.
pub(in crate::inbox) type StateCount = (EventState, u64);

/// Reads what `columns!` selects.
pub(super) fn event(row: &mut tx::Row) -> Result<Row, StoreError> {
    let is_live = row.int_or_none(21)?.is_some();
    let turn = match (row.text_or_none(6)?, row.int_or_none(7)?) {
        (Some(line), Some(turn)) => Some(Turn { line: line.into(), turn }),
        _ => None,
    };
    let info = EventInfo {
        id: InboxId(row.int(0)?),
        source: row.text(1)?.into(),
        event_id: row.text(2)?.into(),
        event_type: row.text_or_none(3)?.map(Into::into),
        version: row.text_or_none(4)?.map(Into::into),
        subject: row.text_or_none(5)?.map(Into::into),
        occurred_at: row.int_or_none(8)?.map(Timestamp),
        received_at: Timestamp(row.int(9)?),
        settled_at: row.int_or_none(10)?.map(Timestamp),
        state: state(&row.text(11)?, is_live)?,
        reason: row.text_or_none(12)?.map(Into::into),
        job: row.int_or_none(13)?.map(JobId),
        key: row.int_or_none(14)?.and_then(|key| u8::try_from(key).ok()),
        duplicates: count(row.int(15)?),
        conflicts: count(row.int(16)?),
        replays: count(row.int(17)?),
        headers: serde_json::from_str(&row.text(18)?)
            .or(Err(defect("the headers of an event are not as they were written")))?,
        sha256: row.blob(19)?.try_into().or(Err(defect("the hash of an event is none")))?,
        size: count(row.int(20)?),
    };
    Ok(Row { info, turn })
}

pub(super) fn state_count(mut row: tx::Row) -> Result<StateCount, StoreError> {
    Ok((state(&row.text(0)?, row.int(1)? == 1)?, count(row.int(2)?)))
}

fn state(stored: &str, is_live: bool) -> Result<EventState, StoreError> {
    let state = EventState::read(stored, is_live);
    state.ok_or_else(|| defect("an event has a state that is not known"))
}

fn count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

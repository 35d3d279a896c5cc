//! Rows of either database, as what they stand for.

use std::sync::Arc;

use bytes::Bytes;

use crate::inbox::event::{EventInfo, EventState, InboxId, Row, Turn};
use crate::jobs::JobId;
use crate::store::{StoreError, Timestamp};

/// A row, whichever database it is of.
pub(super) trait Cells {
    fn int(&self, place: usize) -> Result<Option<i64>, StoreError>;
    fn text(&self, place: usize) -> Result<Option<Arc<str>>, StoreError>;
    fn blob(&self, place: usize) -> Result<Option<Vec<u8>>, StoreError>;
}

/// How many events are in a state.
pub(in crate::inbox) type StateCount = (EventState, u64);

/// The row is not one that this program has written.
#[derive(Debug, thiserror::Error)]
#[error("a row of the inbox is not as it was written")]
struct Unreadable;

fn unreadable() -> StoreError {
    StoreError::Failed(StoreError::source(Unreadable))
}

/// Reads what `columns!` selects.
pub(super) fn event(row: &impl Cells) -> Result<Row, StoreError> {
    let int = |place| row.int(place)?.ok_or_else(unreadable);
    let text = |place| row.text(place)?.ok_or_else(unreadable);
    let count = |place| Ok::<_, StoreError>(u64::try_from(int(place)?).unwrap_or(0));
    let is_live = row.int(21)?.is_some();
    let headers = text(18)?;
    let sha256 = row.blob(19)?.and_then(|hash| hash.try_into().ok()).ok_or_else(unreadable)?;
    let turn = match (row.text(6)?, row.int(7)?) {
        (Some(line), Some(turn)) => Some(Turn { line, turn }),
        _ => None,
    };
    let info = EventInfo {
        id: InboxId(int(0)?),
        source: text(1)?,
        event_id: text(2)?,
        event_type: row.text(3)?,
        version: row.text(4)?,
        subject: row.text(5)?,
        occurred_at: row.int(8)?.map(Timestamp),
        received_at: Timestamp(int(9)?),
        settled_at: row.int(10)?.map(Timestamp),
        state: EventState::read(&text(11)?, is_live).ok_or_else(unreadable)?,
        reason: row.text(12)?,
        job: row.int(13)?.map(JobId),
        key: row.int(14)?.and_then(|key| u8::try_from(key).ok()),
        duplicates: count(15)?,
        conflicts: count(16)?,
        replays: count(17)?,
        headers: serde_json::from_str(&headers).or(Err(unreadable()))?,
        sha256,
        size: count(20)?,
    };
    Ok(Row { info, turn })
}

/// The body that follows them.
pub(super) fn body(row: &impl Cells) -> Result<Bytes, StoreError> {
    Ok(row.blob(22)?.ok_or_else(unreadable)?.into())
}

pub(super) fn state_count(row: &impl Cells) -> Result<StateCount, StoreError> {
    let stored = row.text(0)?.ok_or_else(unreadable)?;
    let is_live = row.int(1)? == Some(1);
    let state = EventState::read(&stored, is_live).ok_or_else(unreadable)?;
    Ok((state, u64::try_from(row.int(2)?.unwrap_or(0)).unwrap_or(0)))
}

impl Cells for rusqlite::Row<'_> {
    fn int(&self, place: usize) -> Result<Option<i64>, StoreError> {
        Ok(self.get(place)?)
    }

    fn text(&self, place: usize) -> Result<Option<Arc<str>>, StoreError> {
        Ok(self.get(place)?)
    }

    fn blob(&self, place: usize) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.get(place)?)
    }
}

impl Cells for tokio_postgres::Row {
    fn int(&self, place: usize) -> Result<Option<i64>, StoreError> {
        Ok(self.try_get(place)?)
    }

    fn text(&self, place: usize) -> Result<Option<Arc<str>>, StoreError> {
        let text: Option<&str> = self.try_get(place)?;
        Ok(text.map(Arc::from))
    }

    fn blob(&self, place: usize) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.try_get(place)?)
    }
}

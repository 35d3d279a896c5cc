//! Reads columns.

use std::sync::Arc;

use super::session::{Row, defect};
use crate::jobs::{Class, JobId, NodeId, RunKey};
use crate::store::{StoreError, Timestamp};

/// The run that the first two columns name.
pub(super) fn run_key(row: &Row) -> Result<RunKey, StoreError> {
    Ok(RunKey { id: JobId(row.try_get(0)?), run: row.try_get(1)? })
}

/// The class with a number.
pub(super) fn class(number: i16) -> Result<Class, StoreError> {
    Class::from_number(i64::from(number)).ok_or_else(|| defect("there is no such class"))
}

/// The process with a name.
pub(super) fn node(name: &str) -> Result<NodeId, StoreError> {
    NodeId::parse(name).ok_or_else(|| defect("the name of a process is not one"))
}

/// A moment.
pub(super) fn moment(row: &Row, column: usize) -> Result<Timestamp, StoreError> {
    Ok(Timestamp(row.try_get(column)?))
}

/// A text.
pub(super) fn text(row: &Row, column: usize) -> Result<Arc<str>, StoreError> {
    Ok(row.try_get::<&str>(column)?.into())
}

/// A text that may be missing.
pub(super) fn text_or_none(row: &Row, column: usize) -> Result<Option<Arc<str>>, StoreError> {
    Ok(row.try_get::<Option<&str>>(column)?.map(Into::into))
}

/// A number of rows.
pub(super) fn count(row: &Row, column: usize) -> Result<u64, StoreError> {
    Ok(row.try_get::<i64>(column)?.unsigned_abs())
}

/// How many rows there are.
pub(super) fn rows<T>(rows: &[T]) -> u64 {
    u64::try_from(rows.len()).unwrap_or(u64::MAX)
}

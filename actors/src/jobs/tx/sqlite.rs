//! On SQLite.

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ToSql, params_from_iter};

use super::{JobTx, Row, Rows, Value};
use crate::jobs::{Enqueue, Enqueued, Job, JobCx, JobsError};
use crate::store::{SqliteTx, StoreError};

/// A connection, in whatever transaction it is. Never waits.
pub(crate) struct SqliteRows<'a>(&'a Connection);

impl<'a> SqliteRows<'a> {
    pub(crate) const fn new(connection: &'a Connection) -> Self {
        Self(connection)
    }

    fn run(&self, sql: &str, params: &[Value]) -> Result<Vec<Row>, rusqlite::Error> {
        // Here a transaction that writes is the only one.
        let sql = sql.replace('{', "sf_").replace('}', "").replace(" for update", "");
        let mut statement = self.0.prepare_cached(&sql)?;
        let columns = statement.column_count();
        let read = |row: &rusqlite::Row<'_>| {
            let values = (0..columns).map(|column| Ok(value(row.get_ref(column)?)));
            values.collect::<rusqlite::Result<_>>().map(Row)
        };
        statement.query_map(params_from_iter(params), read)?.collect()
    }
}

impl Rows for SqliteRows<'_> {
    async fn rows(&self, sql: &str, params: &[Value]) -> Result<Vec<Row>, StoreError> {
        Ok(self.run(sql, params)?)
    }
}

/// A transaction that writes. Never waits.
pub(crate) struct SqliteJobTx<'a>(&'a SqliteTx<'a>);

impl<'a> SqliteJobTx<'a> {
    pub(crate) const fn new(tx: &'a SqliteTx<'a>) -> Self {
        Self(tx)
    }
}

impl Rows for SqliteJobTx<'_> {
    async fn rows(&self, sql: &str, params: &[Value]) -> Result<Vec<Row>, StoreError> {
        SqliteRows::new(self.0).rows(sql, params).await
    }
}

impl JobTx for SqliteJobTx<'_> {
    /// Here a transaction that writes is the only one.
    async fn lock(&self, _: &str) -> Result<(), StoreError> {
        Ok(())
    }

    async fn enqueue<J: Job>(&self, job: Enqueue<'_, J>) -> Result<Enqueued, JobsError> {
        job.in_sqlite(self.0)
    }

    async fn complete(&self, cx: &JobCx) -> Result<(), JobsError> {
        cx.complete_in(self.0)
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Int(value) => ValueRef::Integer(*value),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

fn value(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(value) => Value::Int(value),
        // No table of ours has such a column; `strict` sees to it.
        ValueRef::Real(_) => Value::Null,
        ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
    }
}

//! On PostgreSQL.

use std::error::Error;

use bytes::BytesMut;
use deadpool_postgres::Transaction;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use super::{JobTx, Row, Rows, Value};
use crate::jobs::store::postgres::{Param, Session, Told};
use crate::jobs::{Enqueue, Enqueued, Job, JobCx, JobsError};
use crate::store::{PgClient, StoreError};

/// The seed keeps these names apart from those of others who lock by a hash. What it returns has no
/// type that is read here.
const LOCK: &str = "select pg_advisory_xact_lock(hashtextextended(?1, 7363))::text";

/// A connection of ours, or a transaction on any.
pub(crate) struct PostgresRows<'a> {
    session: Session<'a>,
    schema: &'a str,
}

impl<'a> PostgresRows<'a> {
    /// For statements that only read, each on its own.
    pub(crate) fn reading(client: &'a PgClient, schema: &'a str) -> Self {
        Self { session: Session::reading(client), schema }
    }

    fn fill(&self, sql: &str) -> String {
        sql.replace('{', &format!("{}.", self.schema)).replace('}', "").replace('?', "$")
    }
}

impl Rows for PostgresRows<'_> {
    async fn rows(&self, sql: &str, params: &[Value]) -> Result<Vec<Row>, StoreError> {
        let params: Vec<Param<'_>> =
            params.iter().map(|value| (value as &(dyn ToSql + Sync), value.kind())).collect();
        let rows = self.session.rows(&self.fill(sql), &params).await?;
        let read = |row: &crate::jobs::store::postgres::Row| {
            (0..row.columns()).map(|column| row.try_get(column)).collect::<Result<_, _>>()
        };
        rows.iter().map(|row| Ok(Row(read(row)?))).collect()
    }
}

/// A transaction of ours, or of somebody else.
pub(crate) struct PostgresTx<'a>(PostgresRows<'a>);

impl<'a> PostgresTx<'a> {
    pub(crate) const fn new(session: Session<'a>, schema: &'a str) -> Self {
        Self(PostgresRows { session, schema })
    }

    pub(crate) fn within(transaction: &'a Transaction<'_>, schema: &'a str) -> Self {
        Self::new(Session::within(transaction), schema)
    }

    /// The same, whose owner tells after the commit what is to be told.
    pub(crate) fn told_by(self, told: &'a Told) -> Self {
        let Self(PostgresRows { session, schema }) = self;
        Self::new(session.told_by(told), schema)
    }
}

impl Rows for PostgresTx<'_> {
    async fn rows(&self, sql: &str, params: &[Value]) -> Result<Vec<Row>, StoreError> {
        self.0.rows(sql, params).await
    }
}

impl JobTx for PostgresTx<'_> {
    async fn lock(&self, name: &str) -> Result<(), StoreError> {
        self.rows(LOCK, &[name.into()]).await.map(drop)
    }

    async fn enqueue<J: Job>(&self, job: Enqueue<'_, J>) -> Result<Enqueued, JobsError> {
        job.within(self.0.session).await
    }

    async fn complete(&self, cx: &JobCx) -> Result<(), JobsError> {
        cx.complete_within(self.0.session).await
    }
}

impl Value {
    const fn kind(&self) -> Type {
        match self {
            Self::Null => Type::UNKNOWN,
            Self::Int(_) => Type::INT8,
            Self::Text(_) => Type::TEXT,
            Self::Blob(_) => Type::BYTEA,
        }
    }
}

impl ToSql for Value {
    fn to_sql(
        &self,
        kind: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            // The server says what it wants, and the job tables have narrow columns.
            Self::Int(value) if *kind == Type::INT4 => i32::try_from(*value)?.to_sql(kind, out),
            Self::Int(value) if *kind == Type::INT2 => i16::try_from(*value)?.to_sql(kind, out),
            Self::Int(value) => value.to_sql(kind, out),
            Self::Text(text) => text.to_sql(kind, out),
            Self::Blob(bytes) => bytes.to_sql(kind, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Value {
    fn from_sql(kind: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(match *kind {
            Type::INT8 => Self::Int(i64::from_sql(kind, raw)?),
            Type::INT4 => Self::Int(i32::from_sql(kind, raw)?.into()),
            Type::INT2 => Self::Int(i16::from_sql(kind, raw)?.into()),
            Type::BYTEA => Self::Blob(raw.to_vec()),
            _ => Self::Text(String::from_sql(kind, raw)?),
        })
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self::Null)
    }

    fn accepts(kind: &Type) -> bool {
        matches!(*kind, Type::INT8 | Type::INT4 | Type::INT2 | Type::BYTEA | Type::TEXT)
    }
}

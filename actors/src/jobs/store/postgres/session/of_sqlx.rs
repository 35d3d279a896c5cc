//! Statements on a connection of sqlx.
//!
//! Values go through as the bytes that they have on the wire: both drivers send and read the
//! same, and there is one set of statements.

use std::fmt;

use bytes::BytesMut;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sqlx::encode::IsNull;
use sqlx::error::{BoxDynError, DatabaseError};
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgConnection, PgRow, PgTypeInfo, PgValueFormat};
use sqlx::{AssertSqlSafe, Encode, Postgres, Row as _, ValueRef as _};
use tokio::sync::Mutex;
use tokio_postgres::types::{self, FromSql, Type, WrongType};

use super::{Param, Row, defect};
use crate::store::{StoreError, postgres};

/// A connection of sqlx with the transaction that somebody has begun on it.
pub(crate) struct SqlxConnection<'c>(Mutex<&'c mut PgConnection>);

impl<'c> SqlxConnection<'c> {
    pub(crate) fn new(connection: &'c mut PgConnection) -> Self {
        Self(Mutex::new(connection))
    }
}

impl fmt::Debug for SqlxConnection<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlxConnection").finish_non_exhaustive()
    }
}

/// [`SqlxConnection`] without the lifetime that is in the way.
pub(super) trait Sends: Send + Sync {
    fn rows<'a>(
        &'a self,
        sql: &'a str,
        params: &'a [Param<'_>],
    ) -> BoxFuture<'a, Result<Vec<Row>, StoreError>>;
}

impl Sends for SqlxConnection<'_> {
    fn rows<'a>(
        &'a self,
        sql: &'a str,
        params: &'a [Param<'_>],
    ) -> BoxFuture<'a, Result<Vec<Row>, StoreError>> {
        let bound: Result<Vec<_>, _> = params.iter().map(Bound::of).collect();
        async move {
            // Nothing is left prepared on a connection that is not ours.
            let query = sqlx::query(AssertSqlSafe(sql.to_owned())).persistent(false);
            let query = bound?.into_iter().fold(query, |query, bound| query.bind(bound));
            let mut connection = self.0.lock().await;
            let rows = query.fetch_all(&mut **connection).await.map_err(error)?;
            Ok(rows.into_iter().map(|row| Row::Sqlx(Box::new(row))).collect())
        }
        .boxed()
    }
}

/// A value as it goes over the wire; `None` is null.
struct Bound {
    bytes: Option<BytesMut>,
    kind: Oid,
}

impl Bound {
    fn of((value, kind): &Param<'_>) -> Result<Self, StoreError> {
        let mut bytes = BytesMut::new();
        let null = value.to_sql_checked(kind, &mut bytes).map_err(unreadable)?;
        let bytes = matches!(null, types::IsNull::No).then_some(bytes);
        Ok(Self { bytes, kind: Oid(kind.oid()) })
    }
}

impl sqlx::Type<Postgres> for Bound {
    /// Never asked: [`Encode::produces`] goes before.
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(Type::BYTEA.oid()))
    }
}

impl Encode<'_, Postgres> for Bound {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        let Some(bytes) = &self.bytes else { return Ok(IsNull::Yes) };
        buffer.extend_from_slice(bytes);
        Ok(IsNull::No)
    }

    fn produces(&self) -> Option<PgTypeInfo> {
        Some(PgTypeInfo::with_oid(self.kind))
    }
}

pub(super) fn columns(row: &PgRow) -> usize {
    row.len()
}

/// The value of a column.
pub(super) fn value<'a, T: FromSql<'a>>(row: &'a PgRow, column: usize) -> Result<T, StoreError> {
    let raw = row.try_get_raw(column).map_err(error)?;
    let kind = raw.type_info().oid().and_then(|oid| Type::from_oid(oid.0));
    let kind = kind.ok_or_else(|| defect("a column has an unknown type"))?;
    if !T::accepts(&kind) {
        return Err(StoreError::Failed(StoreError::source(WrongType::new::<T>(kind))));
    }
    if raw.format() != PgValueFormat::Binary {
        return Err(defect("a column came as text"));
    }
    let bytes = if raw.is_null() { None } else { Some(raw.as_bytes().map_err(unreadable)?) };
    T::from_sql_nullable(&kind, bytes).map_err(unreadable)
}

fn unreadable(error: BoxDynError) -> StoreError {
    StoreError::Failed(std::sync::Arc::from(error))
}

/// For statements within a transaction: a connection that is lost takes it along.
fn error(error: sqlx::Error) -> StoreError {
    let refused = error.as_database_error();
    let code = refused.and_then(DatabaseError::code).map(std::borrow::Cow::into_owned);
    let constraint = refused.and_then(DatabaseError::constraint).map(Into::into);
    let is_lost = matches!(error, sqlx::Error::Io(_) | sqlx::Error::Tls(_));
    let source = StoreError::source(error);
    match code {
        Some(code) => postgres::refused(&code, constraint, source),
        None if is_lost => StoreError::Unavailable(source),
        None => StoreError::Failed(source),
    }
}

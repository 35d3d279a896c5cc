//! Where a statement of the queue runs: on a pooled connection or in a user's transaction.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use bytes::BytesMut;
use deadpool_postgres::{ClientWrapper, StatementCache, Transaction};
use futures_util::TryStreamExt;
use parking_lot::Mutex;
use tokio_postgres::types::{Format, FromSql, IsNull, ToSql, Type};
use tokio_postgres::{Client, GenericClient};

use crate::store::{PgStore, StoreError};

#[cfg(feature = "sqlx")]
mod of_sqlx;

#[cfg(feature = "sqlx")]
pub(crate) use of_sqlx::SqlxConnection;

/// The statements of one file, with the schema filled in once.
macro_rules! statements {
    ($(#[$doc:meta])* $name:ident { $($field:ident: $sql:expr,)+ }) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub(super) struct $name {
            $(pub(super) $field: String,)+
        }

        impl $name {
            pub(super) fn new(fill: &dyn Fn(&str) -> String) -> Self {
                Self { $($field: fill($sql),)+ }
            }
        }
    };
}

pub(super) use statements;

/// What is bound to a statement.
pub(crate) type Param<'a> = (&'a (dyn ToSql + Sync), Type);

/// A connection and what is known about it.
#[derive(Clone, Copy)]
pub(crate) struct Session<'a> {
    driver: Driver<'a>,
    /// Whether each statement is a transaction.
    commits: bool,
    /// Who tells after the commit that queues have something new; else the transaction does.
    told: Option<&'a Told>,
}

/// Queues that have something new once a transaction is committed.
///
/// `NOTIFY` holds a lock of the whole cluster while its transaction commits, so transactions of our
/// own are kept free of it.
#[derive(Debug, Default)]
pub(crate) struct Told(Mutex<Vec<Arc<str>>>);

impl Told {
    pub(super) fn note(&self, queue: &str) {
        self.0.lock().push(queue.into());
    }

    /// To be called after the commit.
    pub(crate) fn tell(self, store: &PgStore) {
        self.0.into_inner().iter().for_each(|queue| super::wake(store, queue));
    }
}

/// Who sends a statement.
#[derive(Clone, Copy)]
enum Driver<'a> {
    /// A connection of ours, which keeps statements prepared.
    Pooled(&'a Client, &'a StatementCache),
    /// A connection that is not ours: nothing is left prepared there.
    Foreign(&'a Client),
    #[cfg(feature = "sqlx")]
    Sqlx(&'a dyn of_sqlx::Sends),
}

impl<'a> Session<'a> {
    /// Each statement is a transaction.
    pub(super) fn single(client: &'a ClientWrapper) -> Self {
        Self { driver: Driver::Pooled(client, &client.statement_cache), commits: true, told: None }
    }

    /// For statements that only read: a lost connection leaves nothing open.
    pub(crate) fn reading(client: &'a ClientWrapper) -> Self {
        Self { commits: false, ..Self::single(client) }
    }

    /// In a transaction of ours.
    pub(crate) fn within(transaction: &'a Transaction<'_>) -> Self {
        let driver = Driver::Pooled(transaction.client(), &transaction.statement_cache);
        Self { driver, commits: false, told: None }
    }

    /// The same, whose owner tells after the commit what is to be told.
    pub(crate) const fn told_by(self, told: &'a Told) -> Self {
        Self { told: Some(told), ..self }
    }

    pub(super) const fn told(&self) -> Option<&'a Told> {
        self.told
    }

    /// In whatever somebody else has begun on this connection.
    pub(crate) fn foreign(client: &'a impl GenericClient) -> Self {
        Self { driver: Driver::Foreign(client.client()), commits: false, told: None }
    }

    /// In whatever somebody else has begun on this connection of sqlx.
    #[cfg(feature = "sqlx")]
    pub(crate) fn sqlx(connection: &'a SqlxConnection<'_>) -> Self {
        Self { driver: Driver::Sqlx(connection), commits: false, told: None }
    }

    /// Prepares statements, so that afterwards their order is that in which they are polled.
    pub(super) async fn warm(&self, statements: &[&str]) -> Result<(), StoreError> {
        let Driver::Pooled(client, cache) = self.driver else { return Ok(()) };
        for sql in statements {
            drop(cache.prepare(client, sql).await?);
        }
        Ok(())
    }

    /// Runs one statement. A connection that breaks meanwhile leaves open what became of it,
    /// unless a transaction is around it.
    pub(crate) async fn rows(
        &self,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<Vec<Row>, StoreError> {
        let answer = match self.driver {
            Driver::Pooled(client, cache) => {
                let statement = cache.prepare(client, sql).await?;
                let params = params.iter().map(|(value, _)| Unseen(*value));
                match client.query_raw(&statement, params).await {
                    Ok(rows) => rows.try_collect().await,
                    Err(error) => Err(error),
                }
            }
            // Of typed statements the driver writes nothing to its log.
            Driver::Foreign(client) => client.query_typed(sql, params).await,
            #[cfg(feature = "sqlx")]
            Driver::Sqlx(connection) => return connection.rows(sql, params).await,
        };
        let rows: Vec<_> = answer.map_err(|error| self.what_became(error.into()))?;
        Ok(rows.into_iter().map(Row::Native).collect())
    }

    /// Runs a statement that returns one row.
    pub(super) async fn row(&self, sql: &str, params: &[Param<'_>]) -> Result<Row, StoreError> {
        self.rows(sql, params)
            .await?
            .into_iter()
            .next()
            .ok_or_else(|| defect("no row was returned"))
    }

    fn what_became(&self, error: StoreError) -> StoreError {
        match (error, self.commits) {
            (StoreError::Unavailable(source), true) => StoreError::OutcomeUnknown(source),
            (error, _) => error,
        }
    }
}

/// A parameter without what is in it: the driver writes what is bound to its log.
struct Unseen<'a>(&'a (dyn ToSql + Sync));

impl fmt::Debug for Unseen<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

impl ToSql for Unseen<'_> {
    fn to_sql(
        &self,
        kind: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        self.0.to_sql_checked(kind, out)
    }

    /// The value itself is asked when it is written.
    fn accepts(_: &Type) -> bool {
        true
    }

    fn to_sql_checked(
        &self,
        kind: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        self.0.to_sql_checked(kind, out)
    }

    fn encode_format(&self, kind: &Type) -> Format {
        self.0.encode_format(kind)
    }
}

/// A row, whoever read it.
#[derive(Debug)]
pub(crate) enum Row {
    Native(tokio_postgres::Row),
    #[cfg(feature = "sqlx")]
    Sqlx(Box<::sqlx::postgres::PgRow>),
}

impl Row {
    /// How many columns it has.
    pub(crate) fn columns(&self) -> usize {
        match self {
            Self::Native(row) => row.len(),
            #[cfg(feature = "sqlx")]
            Self::Sqlx(row) => of_sqlx::columns(row),
        }
    }

    /// The value of a column, counted from 0.
    pub(crate) fn try_get<'a, T: FromSql<'a>>(&'a self, column: usize) -> Result<T, StoreError> {
        match self {
            Self::Native(row) => Ok(row.try_get(column)?),
            #[cfg(feature = "sqlx")]
            Self::Sqlx(row) => of_sqlx::value(row, column),
        }
    }
}

/// The tables say what they cannot say.
pub(crate) fn defect(what: &'static str) -> StoreError {
    StoreError::Failed(StoreError::source(std::io::Error::new(
        std::io::ErrorKind::InvalidData,
        what,
    )))
}

/// PostgreSQL has no text with a zero character in it, and one must not keep a run from ending.
pub(super) fn text(text: &str) -> std::borrow::Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{fffd}").into() } else { text.into() }
}

//! Where a statement of the queue runs: on a pooled connection or in a user's transaction.

use deadpool_postgres::{ClientWrapper, StatementCache, Transaction};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, GenericClient, Row};

use crate::store::StoreError;

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
pub(super) type Param<'a> = (&'a (dyn ToSql + Sync), Type);

/// A connection and what is known about it.
#[derive(Clone, Copy)]
pub(super) struct Session<'a> {
    client: &'a Client,
    /// `None` for connections that are not ours: nothing is left prepared there.
    cache: Option<&'a StatementCache>,
    /// Whether each statement is a transaction.
    commits: bool,
}

impl<'a> Session<'a> {
    /// Each statement is a transaction.
    pub(super) fn single(client: &'a ClientWrapper) -> Self {
        Self { client, cache: Some(&*client.statement_cache), commits: true }
    }

    /// In a transaction of ours.
    pub(super) fn within(transaction: &'a Transaction<'_>) -> Self {
        let cache = Some(&*transaction.statement_cache);
        Self { client: transaction.client(), cache, commits: false }
    }

    /// In whatever somebody else has begun on this connection.
    pub(super) fn foreign(client: &'a impl GenericClient) -> Self {
        Self { client: client.client(), cache: None, commits: false }
    }

    /// Prepares statements, so that afterwards their order is that in which they are polled.
    pub(super) async fn warm(&self, statements: &[&str]) -> Result<(), StoreError> {
        let Some(cache) = self.cache else { return Ok(()) };
        for sql in statements {
            drop(cache.prepare(self.client, sql).await?);
        }
        Ok(())
    }

    /// Runs one statement. A connection that breaks meanwhile leaves open what became of it,
    /// unless a transaction is around it.
    pub(super) async fn rows(
        &self,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<Vec<Row>, StoreError> {
        let answer = match self.cache {
            Some(cache) => {
                let statement = cache.prepare(self.client, sql).await?;
                let params: Vec<_> = params.iter().map(|(value, _)| *value).collect();
                self.client.query(&statement, &params).await
            }
            None => self.client.query_typed(sql, params).await,
        };
        answer.map_err(|error| self.what_became(error.into()))
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

/// The tables say what they cannot say.
pub(super) fn defect(what: &'static str) -> StoreError {
    StoreError::Failed(StoreError::source(std::io::Error::new(
        std::io::ErrorKind::InvalidData,
        what,
    )))
}

/// PostgreSQL has no text with a zero character in it, and one must not keep a run from ending.
pub(super) fn text(text: &str) -> std::borrow::Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{fffd}").into() } else { text.into() }
}

//! Why the store did not do what it was asked.

use std::sync::Arc;
use std::time::Duration;

use crate::kernel::{Code, Fault};

/// What lay beneath a failure; for the log, never for a client.
pub type Source = Arc<dyn std::error::Error + Send + Sync>;

/// Why the store did not do what it was asked. Variants are different reactions.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The database cannot be reached. Nothing was written: try again later.
    #[error("the database cannot be reached")]
    Unavailable(#[source] Source),
    /// The database was too slow or its lock was held for too long. Nothing was written: try
    /// again later.
    #[error("the database did not answer in time")]
    Timeout,
    /// The connection broke while a commit was under way: it may have been made or not. Look
    /// before you write again, or write in a way that can be repeated.
    #[error("the connection broke during a commit; it may have been made")]
    OutcomeUnknown(#[source] Source),
    /// No room is left on the disk. Nothing was written: free some.
    #[error("no room is left for the database")]
    Full(#[source] Source),
    /// The file or the server cannot be written to. Mend its permissions.
    #[error("the database is read-only")]
    ReadOnly(#[source] Source),
    /// The server refused the user or its password, or there is no such database. Correct the
    /// address.
    #[error("the database refused the credentials or has no such database")]
    Credentials(#[source] Source),
    /// The server's certificate was not issued by anybody this process trusts, or is for another
    /// name. Give the right root certificates or the name the certificate is for.
    #[error("the certificate of the database server is not trusted")]
    Untrusted(#[source] Source),
    /// The address of the database or one of the options cannot be used. Correct it.
    #[error("`{setting}` must be {expected}")]
    InvalidSetting {
        /// Which one.
        setting: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// The database was migrated by a newer version of this library. Upgrade this process, or
    /// give it a database of its own.
    #[error("the database has version {found} of the tables; this process knows {known}")]
    NewerSchema {
        /// The version the database has.
        found: u32,
        /// The newest that this process knows.
        known: u32,
    },
    /// A migration that was applied is not the one that this process has. Restore the tables
    /// from a backup, or give this process a database of its own.
    #[error("migration {version} was applied in another form than this process has")]
    MigrationChanged {
        /// Which one.
        version: u32,
    },
    /// A constraint refused the row. Correct what is written.
    #[error("a constraint refused the row")]
    Constraint {
        /// The name of the constraint, where the database tells it.
        name: Option<Arc<str>>,
        /// What the database said.
        #[source]
        source: Source,
    },
    /// A value is none of those that a [schema-backed enum](crate::schema_enum) has in the
    /// database. Write one of them; or, if the code has it, let the database allow it first.
    #[error("the value is not one that the database allows here")]
    EnumRejected {
        /// The name of the constraint; `None` where the type of the column refused.
        constraint: Option<Arc<str>>,
        /// What the database said.
        #[source]
        source: Source,
    },
    /// The file is not a database, or it is damaged. Restore it from a backup.
    #[error("the database is damaged or is not one")]
    Corrupt(#[source] Source),
    /// The code that ran in the transaction panicked. It was rolled back.
    #[error("the transaction panicked and was rolled back")]
    Panicked,
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// The statement is wrong for this database: a defect, or tables that somebody changed.
    #[error("the database refused a statement")]
    Failed(#[source] Source),
}

impl StoreError {
    /// Whether the same may work later without anybody mending anything.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unavailable(_) | Self::Timeout | Self::OutcomeUnknown(_) | Self::Full(_)
        )
    }

    /// Whether it is certain that nothing was written.
    #[must_use]
    pub const fn wrote_nothing(&self) -> bool {
        !matches!(self, Self::OutcomeUnknown(_))
    }

    /// Wraps what lay beneath.
    pub(crate) fn source(error: impl std::error::Error + Send + Sync + 'static) -> Source {
        Arc::new(error)
    }
}

impl Fault for StoreError {
    fn code(&self) -> Code {
        match self {
            Self::Unavailable(_) => Code::new("store.unavailable"),
            Self::Timeout => Code::new("store.timeout"),
            Self::OutcomeUnknown(_) => Code::new("store.outcome_unknown"),
            Self::Full(_) => Code::new("store.full"),
            Self::ReadOnly(_) => Code::new("store.read_only"),
            Self::Credentials(_) => Code::new("store.credentials"),
            Self::Untrusted(_) => Code::new("store.untrusted"),
            Self::InvalidSetting { .. } => Code::new("store.invalid_setting"),
            Self::NewerSchema { .. } => Code::new("store.newer_schema"),
            Self::MigrationChanged { .. } => Code::new("store.migration_changed"),
            Self::Constraint { .. } => Code::new("store.constraint"),
            Self::EnumRejected { .. } => Code::new("schema_enum.rejected"),
            Self::Corrupt(_) => Code::new("store.corrupt"),
            Self::Panicked => Code::new("store.panicked"),
            Self::Closed => Code::new("store.closed"),
            Self::Failed(_) => Code::new("store.failed"),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        self.is_transient().then_some(Duration::from_secs(1))
    }
}

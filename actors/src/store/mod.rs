//! One durable store behind everything that must survive a crash: SQLite or PostgreSQL.
//!
//! ```
//! use steadfast_actors::store::{SqliteOptions, SqliteStore, Store, StoreError};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), StoreError> {
//! // In a service: Store::open("sqlite:data/service.db") or Store::open("postgres://…").
//! let store = Store::from(SqliteStore::open(SqliteOptions::memory()).await?);
//! store.ping().await?;
//! store.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! | | SQLite | PostgreSQL |
//! |---|---|---|
//! | for | one host, one or several processes | any number of hosts |
//! | needs | a local disk | a server |
//! | opened with | [`SqliteOptions`] | [`PgOptions`] |
//! | what is in use besides | a thread that writes, 2 that read | a pool of connections, one to listen |
//! | transactions of your own | [`SqliteStore::write`] | [`PgStore::client`] |
//!
//! # Guarantees
//!
//! - A write that was answered is committed. What it has survived, [`Durability`] says: a power
//!   cut ([`Durability::Full`], the default), or the end of the process ([`Durability::Normal`]).
//!   On PostgreSQL it is what the server's `synchronous_commit` says.
//! - On SQLite, writes of many callers share a commit: while the disk works, those that come make
//!   the next group. Each has a savepoint of its own: an error or a panic in one undoes nothing of
//!   its neighbours.
//! - Whether something was written is never guessed: [`StoreError::OutcomeUnknown`] is the only
//!   error after which it may have been.
//! - A call ends: at its deadline, at the time limit of the store, or with an error. A statement
//!   nobody waits for any more is stopped on the server.
//! - No caller's thread is blocked by the disk, and no queue is without a limit.
//!
//! # The tables
//!
//! Opening a store brings its tables up to date. Migrations are numbered, only go forward, and are
//! applied each in a transaction, by one process of all that start together. Each is remembered with
//! a checksum: a database that is newer than the process ([`StoreError::NewerSchema`]) or was made
//! otherwise ([`StoreError::MigrationChanged`]) is refused before anything is written.
//!
//! On SQLite the library's tables begin with `sf_`; on PostgreSQL they are in a schema of their
//! own ([`PgOptions::schema`]). Nothing else is ever touched, so a service's own tables may be in
//! the same database, and share transactions with jobs. Where a service may not make tables,
//! [`SqliteStore::print_migrations`] and [`PgStore::print_migrations`] give the script.
//!
//! # Transactions of your own
//!
//! An order and the job that ships it: both are there, or neither.
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use steadfast_actors::jobs::{Job, Jobs, JobsError};
//! use steadfast_actors::store::{PgStore, SqliteStore, StoreError, commit};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Ship {
//!     order: i64,
//! }
//!
//! impl Job for Ship {
//!     const KIND: &'static str = "ship";
//! }
//!
//! async fn order(store: &SqliteStore, jobs: &Jobs, order: i64) -> Result<(), JobsError> {
//!     let jobs = jobs.clone();
//!     // The work runs on the thread that writes: short, and waiting for nothing.
//!     let written = store.write(move |tx| {
//!         tx.execute("insert into orders (id) values (?1)", [order]).map_err(StoreError::from)?;
//!         jobs.enqueue(Ship { order }).in_sqlite(tx)
//!     });
//!     written.await.map(drop)
//! }
//!
//! async fn order_on_postgres(store: &PgStore, jobs: &Jobs, order: i64) -> Result<(), JobsError> {
//!     let mut client = store.client().await?;
//!     let tx = client.transaction().await.map_err(StoreError::from)?;
//!     tx.execute("insert into orders (id) values ($1)", &[&order]).await.map_err(StoreError::from)?;
//!     jobs.enqueue(Ship { order }).in_postgres(&tx).await?;
//!     commit(tx).await?; // Tells a commit that failed from one that nobody knows of.
//!     Ok(())
//! }
//! ```
//!
//! # What to do about an error
//!
//! | error | nothing was written | what to do |
//! |---|---|---|
//! | [`StoreError::Unavailable`], [`StoreError::Timeout`] | certain | try again later |
//! | [`StoreError::OutcomeUnknown`] | open | look, or write so that it can be repeated: a unique key |
//! | [`StoreError::Full`] | certain | free room on the disk; then it goes on by itself |
//! | [`StoreError::ReadOnly`] | certain | mend permissions, or the server that became a replica |
//! | [`StoreError::Credentials`], [`StoreError::Untrusted`] | certain | correct the address or the certificates |
//! | [`StoreError::InvalidSetting`] | certain | correct the setting it names |
//! | [`StoreError::NewerSchema`] | certain | upgrade this process |
//! | [`StoreError::MigrationChanged`] | certain | restore the tables, or use another database |
//! | [`StoreError::Constraint`] | certain | correct the row |
//! | [`StoreError::EnumRejected`] | certain | write one of the enum's values, or let the database allow it |
//! | [`StoreError::Corrupt`] | certain | restore the file from a backup |
//! | [`StoreError::Panicked`] | certain | a defect in the transaction's own code |
//! | [`StoreError::Closed`] | certain | the process ends: let the caller come back |
//! | [`StoreError::Failed`] | certain | a defect, or tables that somebody changed: see the log |
//!
//! [`StoreError::is_transient`] and [`StoreError::wrote_nothing`] answer both questions in code.
//!
//! # What it does not do
//!
//! - It is no mapper and has no queries of its own: SQL goes through [`rusqlite`] and
//!   [`tokio_postgres`].
//! - It does not repeat a write by itself: only the caller knows whether it may be.
//! - A SQLite file on a network's disk is not supported: locks there cannot be relied on.
//! - It makes no backups. For SQLite, `VACUUM INTO` or the backup API on a connection of your own.

mod actor;
mod breakers;
mod clock;
mod database;
mod error;
mod identifier;
pub(crate) mod migrations;
pub(crate) mod postgres;
pub(crate) mod presence;
mod sqlite;
mod wakes;

pub use actor::{PingStore, StoreActor};
pub use breakers::BreakerMemory;
pub use clock::{ManualWallClock, Timestamp, WallClock};
pub use database::Store;
pub use error::{Source, StoreError};
pub use identifier::{Identifier, InvalidIdentifier, QualifiedName};
pub use migrations::{AppliedMigration, Migration};
pub use postgres::{Listening, PgClient, PgOptions, PgStatus, PgStore, commit, outcome};
pub use sqlite::{Durability, SqliteOptions, SqliteStatus, SqliteStore, SqliteTx};
pub use wakes::Wakes;

pub(crate) use clock::millis;
pub(crate) use identifier::{Literal, is_of_enum};
pub(crate) use presence::Presence;

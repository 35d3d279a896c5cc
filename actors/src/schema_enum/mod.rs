//! Schema-backed enums: a Rust enum and what its column lets in are one thing.
//!
//! ```
//! # use steadfast_actors as steadfast;
//! use steadfast::schema_enum::SchemaEnum;
//!
//! #[derive(SchemaEnum, Debug, Clone, Copy, PartialEq, Eq)]
//! # #[schema_enum(crate = "steadfast_actors")]
//! #[schema_enum(table = "orders", column = "status", rename_all = "snake_case")]
//! enum OrderStatus {
//!     Pending,
//!     Paid,
//!     #[schema_enum(alias = "canceled")]
//!     Cancelled,
//! }
//!
//! assert_eq!(OrderStatus::Paid.as_str(), "paid");
//! assert_eq!("canceled".parse(), Ok(OrderStatus::Cancelled));
//! assert_eq!(OrderStatus::VALUES.len(), 3);
//! ```
//!
//! The one list gives the text, JSON, the OpenAPI schema (feature `openapi`), the codecs of
//! [`rusqlite`] and [`tokio_postgres`] (of `sqlx` and `diesel` with the features of that name), and
//! the constraint of the column. What derives it derives neither `Serialize` nor `Deserialize`.
//!
//! ```no_run
//! use steadfast_actors::schema_enum::{Phase, SchemaEnums};
//! # async fn example(store: &steadfast_actors::store::Store) -> Result<(), Box<dyn std::error::Error>> {
//! let enums = SchemaEnums::registered();
//! println!("{}", enums.check(store).await?); // How the database differs.
//! println!("{}", enums.plan(store).await?); // What to do about it, as a script.
//! enums.apply(store, Phase::Expand).await?; // Does it, where a process may.
//! # Ok(())
//! # }
//! ```
//!
//! # How a column keeps it
//!
//! | | PostgreSQL | SQLite |
//! |---|---|---|
//! | `repr = "text"`, the default | `text`, `varchar`, `char(n)`, a domain over one, with a `CHECK` | text, with a `CHECK` or triggers |
//! | `repr = "int2"`, `"int4"` | an integer, with a `CHECK` | an integer, with a `CHECK` or triggers |
//! | `native = "…"` | an enum type | as `text` |
//! | `array` | a list of one of these | not supported |
//!
//! Names of tables, columns and types are those of the catalogue, case and all.
//!
//! # Changing an enum
//!
//! Old and new code run side by side for a while, so a change has up to three [phases](Phase):
//!
//! | change | before the new code | when no old code runs | after that |
//! |---|---|---|---|
//! | add a value | [`Phase::Expand`] allows it | | |
//! | rename one: the old label becomes an `alias` | [`Phase::Expand`] allows both | [`Phase::Backfill`] gives rows the new one | [`Phase::Contract`] refuses the old one |
//! | remove one | | | [`Phase::Contract`] refuses it, unless rows have it |
//!
//! On PostgreSQL a constraint is swapped under a lock of milliseconds that is given up and tried
//! again when the table is in use, and its rows are checked afterwards beside readers and writers.
//! A value of an enum type is added at once; removing one writes the table anew, and so is only done
//! when allowed. On SQLite from 3.53 on a constraint is swapped in place; before that, triggers do
//! its work. A table is never rebuilt.
//!
//! # Guarantees
//!
//! - What differs is found by trying values, never by comparing texts: a constraint that somebody
//!   wrote in other words, or under another name, is no drift.
//! - A user's table is changed by [`SchemaEnums::apply`] and by nothing else.
//! - Whatever would keep a phase from succeeding is found before anything is written, and said
//!   with what to do about it.
//! - The catch-all is never written.
//! - A write that the database refuses is [`StoreError::EnumRejected`](crate::store::StoreError), with
//!   the code `schema_enum.rejected`, whichever database it is and however it refuses.
//!
//! # What it does not do
//!
//! - It does not see what a constraint over several columns refuses, nor other people's triggers.
//! - It makes no tables or columns, and changes no column's type. The constraint for a
//!   `create table` is [`SchemaEnums::constraints`].
//! - The codecs of diesel are those for text and integers: an enum type of PostgreSQL has a type of
//!   its own in diesel's schema.
//!
//! # Events
//!
//! | event | level | when |
//! |---|---|---|
//! | `schema_enum.drift` | warn | the database is weaker than the code, or refuses what it writes; once for each finding |
//! | `schema_enum.applied` | info | a step of a plan was taken |
//! | `schema_enum.backfilled` | info | a pass over a table gave rows their new label |
//! | `schema_enum.lock_busy` | debug | a lock was not free; it will be tried again |
//! | `schema_enum.check_not_tried` | debug | a constraint of SQLite needs a function that only the program has |

mod apply;
#[doc(hidden)]
pub mod codec;
mod ddl;
mod drift;
mod error;
mod handle;
mod lock;
mod registry;
mod spec;

#[doc(hidden)]
#[path = "private.rs"]
pub mod __private;

#[cfg(test)]
mod tests;

pub use ddl::{Dialect, Impact, Obstacle, Phase, Plan, Refusal, SqliteStrategy, Step};
pub use drift::{ColumnReport, DriftReport, Rows, Sample, Severity, Verdict};
pub use error::{LabelError, SchemaEnumError};
pub use handle::SchemaEnums;
pub use lock::check_lock;
pub use registry::registered;
pub use spec::{Binding, ColumnSpec, EnumSpec, Renamed, Repr, SchemaEnum, Variant};
#[doc(inline)]
pub use steadfast_derive::SchemaEnum;

//! Counter repair: columns that count other rows, put right while others write.
//!
//! ```
//! use steadfast_actors::counters::{Counters, CounterSpec, RunState};
//! use steadfast_actors::jobs::Jobs;
//! use steadfast_actors::kernel::Tree;
//! use steadfast_actors::store::{SqliteOptions, SqliteStore, Store, StoreError};
//!
//! #[actix::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     // In a service: Store::open("sqlite:data.db") or Store::open("postgres://…").
//!     let sqlite = SqliteStore::open(SqliteOptions::memory()).await?;
//!     let tables = "
//!         create table products (id integer primary key, orders_count integer not null);
//!         create table orders (id integer primary key, product_id integer, deleted_at text);
//!         create index orders_product on orders (product_id);
//!         insert into products values (1, 7);
//!         insert into orders (product_id, deleted_at) values (1, null), (1, null), (1, 'today');";
//!     sqlite.write(move |tx| Ok::<_, StoreError>(tx.execute_batch(tables)?)).await?;
//!     let store = Store::from(sqlite);
//!
//!     let tree = Tree::new();
//!     let counters = Counters::builder(&store).counter(
//!         CounterSpec::new("product_orders")
//!             .parent("products", "id")
//!             .column("orders_count")
//!             .child("orders", "product_id")
//!             .filter("deleted_at is null"),
//!     );
//!     // Runs are jobs, so the queue must know them before it starts.
//!     let (counters, jobs) = counters.register(Jobs::builder(&store))?;
//!     let jobs = jobs.start(&tree).await?;
//!     let counters = counters.start(&tree, &jobs);
//!
//!     let started = counters.repair("product_orders").await?;
//!     # let mut report = None;
//!     # for _ in 0..2_000 {
//!     #     report = counters.report(started.job).await?.filter(|one| one.state == RunState::Done);
//!     #     if report.is_some() { break }
//!     #     tokio::time::sleep(std::time::Duration::from_millis(5)).await;
//!     # }
//!     # let report = report.unwrap();
//!     // Later: let report = counters.report(started.job).await?;
//!     assert_eq!((report.totals.scanned, report.totals.repaired), (1, 1));
//!     assert_eq!(report.totals.samples[0].drift, Some(-5));
//!     # assert_eq!(report.state, RunState::Done);
//!     # jobs.drain(std::time::Duration::from_secs(5)).await;
//!     # tree.stop(std::time::Duration::from_secs(5)).await;
//!     # store.close().await;
//!     Ok(())
//! }
//! ```
//!
//! # Guarantees
//!
//! - What others write meanwhile is neither lost nor counted twice, as long as they keep to the
//!   two rules [below](#what-repair-relies-on). A counter that is right is not written.
//! - Each batch is one transaction, with the run's cursor in it: a process that dies, in a batch or
//!   between two, leaves a run that goes on where it was, and looks at each parent once.
//! - A batch is short: it is made to take [`target_batch`](CountersBuilder::target_batch), waits no
//!   longer than [`lock_timeout`](CountersBuilder::lock_timeout) for a lock, and one that meets a
//!   deadlock or a timeout is rolled back, halved and tried again. It locks what is wrong, and
//!   nothing else.
//! - A run gives way: between batches it waits while a job queue of this process is behind, for
//!   up to 30 s, and, where a batch took more than twice its time, for as long as it took beyond
//!   that.
//! - A declaration that does not fit the tables is refused before anything is written, with what
//!   to do ([`SpecFault`]).
//! - Tables of the service are only changed by [`Counters::repair`], by what
//!   [`CountersBuilder::schedule`] begins, by [`Counters::apply`] and
//!   [`remove_triggers`](Counters::remove_triggers), and by the flusher of counters that are
//!   [`Maintain::Deferred`].
//!
//! # What repair relies on
//!
//! Of whoever writes while a counter is repaired:
//!
//! 1. A child and the counter of its parent change in one transaction.
//! 2. The counter is changed by adding to it (`count = count + 1`), and never set to a value that
//!    the service has computed from what it read before.
//!
//! Triggers of [`Maintain::Trigger`] and [`Maintain::Deferred`] see to both. Where the service's
//! own statements keep a counter, its reports say so
//! ([`relies_on_application`](CounterReport::relies_on_application)).
//!
//! *Why that is enough, on PostgreSQL.* One statement sees one snapshot. By rule 1, each
//! transaction in it gave as much to the children as to the counter, so what they differ by is the
//! drift and nothing else, and a counter that is right shows none however much is written. By rule
//! 2, whatever is committed later changes both by the same, so the drift stays what it was: adding
//! it to the counter *as it is by then* leaves the counter true. It must be added once, so an
//! advisory lock, taken by an earlier statement of the same transaction, keeps two repairers of a
//! column apart; after a crash, or a commit nobody knows of, drift is looked for again, and is 0
//! where it was added. A largest or smallest value has no difference: there what looks wrong is
//! locked first, and counted again by a later statement. Whoever had changed it has committed by
//! then, and is seen; whoever changes it next waits, and adds to what repair wrote. Counters
//! that are null are counted again like that too, because what is added to null is lost.
//!
//! *On SQLite* only one writes at a time, and a batch is one transaction of the thread that writes.
//!
//! Two ways that look right and are not: reading counts and writing them later loses what was
//! added in between; so does `update … set count = (select count(*) …)` in one statement, because
//! when it has waited for a row, PostgreSQL reads the row anew but not the count.
//!
//! # What it does not do
//!
//! - It repairs no counter that a service updates after its commit, as with a queue: that breaks
//!   rule 1. Use [`Maintain::Deferred`], whose deltas are committed with the children.
//! - Triggers are made for counts and sums of direct children only. On PostgreSQL they run as
//!   whoever writes children: that role needs `usage` on the library's schema, and for
//!   [`Maintain::Deferred`] `insert` on its table `counter_deltas`.
//! - Triggers do not run for `TRUNCATE`, for replication roles, and on SQLite for rows that
//!   `REPLACE` takes away: keep a [`schedule`](CountersBuilder::schedule).
//! - On SQLite a parent of very many children is counted in one go, and holds up whoever writes
//!   for as long as that takes.
//! - It adds no index. It says which one is missing.
//!
//! # The life of a run
//!
//! | from | what happens | to |
//! |---|---|---|
//! | | its job begins | running |
//! | | its job begins while another is at the same counter | none: that job is cancelled |
//! | running | all parents are seen | done |
//! | running | its turn is over, its process dies, the database is away | running, as its job goes on |
//! | running | its job is cancelled or dead | stopped |
//! | stopped | [`Jobs::retry`](crate::jobs::Jobs::retry) | running, from its cursor on |
//! | done, stopped | older than [`keep_for`](CountersBuilder::keep_for), and not the newest | forgotten |
//!
//! # Limits
//!
//! | what | limit |
//! |---|---|
//! | counters of a service; levels below a parent; columns of a key | 256; 5; 4 |
//! | a filter | 1,000 bytes |
//! | parents of a batch | 20,000; up to 50,000 |
//! | failures of a run in a row, before its job is tried again later | 20 |
//! | attempts of a run's job | 20; a turn that is over is none |
//! | examples in a report; bytes of a value there | 20; 200 |
//! | deltas that a transaction folds | 2,000 |
//! | questions under way at a time | 256, then [`CallError`](crate::kernel::CallError) |
//!
//! # Events
//!
//! | log message | level | when |
//! |---|---|---|
//! | `counters.finished` | info | a run has seen all parents |
//! | `counters.batch_retried` | debug | a batch was rolled back and is tried again |
//! | `counters.triggers_changed` | info | triggers were made or taken away |
//! | `counters.not_flushed` | warn | deltas could not be folded; it is tried again |

mod actor;
mod builder;
mod catalog;
mod core;
mod error;
mod filter;
mod handle;
mod maintain;
mod messages;
mod repair;
mod report;
mod run;
mod spec;
mod sql;
mod state;
mod store;

#[cfg(test)]
mod tests;

pub use actor::CounterRepair;
pub use builder::{CountersBuilder, RegisteredCounters};
pub use error::{CounterError, SpecFault};
pub use handle::Counters;
pub use maintain::{CounterFlush, Plan};
pub use messages::Started;
pub use report::{CounterReport, Histogram, RunState, Sample, Totals};
pub use spec::{Agg, CounterSpec, Hop, Maintain, Mode, Names, Strategy};

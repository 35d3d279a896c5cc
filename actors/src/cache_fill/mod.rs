//! A read-through cache with one load per key, whatever happens to its readers.
//!
//! A burst of readers on a cold or expired key makes one load; the others share its
//! result. The loader runs in a task of its own, so no reader's deadline, departure or
//! panic harms the others. What was invalidated while it was being loaded never comes
//! back. When the source fails, readers get old values for as long as you allow, and
//! the source gets a rest.
//!
//! ```
//! use std::time::Duration;
//! use steadfast_actors::cache_fill::{Cache, FillCtx, FillError, Loaded};
//! use steadfast_actors::kernel::Tree;
//!
//! async fn load(id: u64, _: FillCtx<String>) -> Result<Loaded<String>, std::io::Error> {
//!     Ok(if id == 1 { Loaded::value("chair".to_owned()) } else { Loaded::absent() })
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # actix::System::new().block_on(async {
//! let products = Cache::builder("products", load)
//!     .ttl(Duration::from_secs(60))
//!     .stale_if_error(Duration::from_secs(600))
//!     .start(&Tree::new())?;
//!
//! let chair = products.get(&1).wait(Duration::from_millis(500)).await?;
//! assert_eq!(*chair.value, "chair");
//! assert_eq!(chair.served.as_str(), "filled");
//! assert_eq!(products.get(&1).await?.served.as_str(), "hit");
//! assert!(matches!(products.get(&2).await, Err(FillError::Absent)));
//! # Ok(())
//! # })
//! # }
//! ```
//!
//! # Guarantees
//!
//! - **One load.** At any time at most one load of a key runs whose result would be
//!   stored. All readers that come before it ends get its result: value, error or panic.
//! - **A reader is only a reader.** Its deadline or departure ends its own wait. A load
//!   for which nobody waits any more finishes, or is dropped after a grace
//!   ([`Abandon`]).
//! - **No old value comes back.** A [`get`](Cache::get) that begins after
//!   [`invalidate`](Cache::invalidate), [`insert`](Cache::insert),
//!   [`expire`](Cache::expire) or [`clear`](Cache::clear) has returned neither joins a
//!   load that began before it nor ever finds its result. Readers that wait already
//!   get the true result they wait for.
//! - **A key never gets stuck.** A loader that fails, panics, hangs, is aborted or waits
//!   for itself frees its key; its waiters are told why.
//! - **A failing source gets a rest.** After a failure the key cools down, longer each
//!   time, and then one load tries. Waiters never run the loader one after the other.
//! - **Everything is bounded:** values, known absences (apart, so that they evict no
//!   value), loads at once, queued loads, their time, remembered failures.
//! - **A restart of the actor loses nothing:** loads, permits, queue and cool-downs outlive it.
//! - **A hit** is one read lock and no allocation, on the caller's own thread.
//!
//! # What it does not do
//!
//! It knows one process: other replicas have their own copies and their own loads. It
//! does not write through: whoever changes the source calls `invalidate` after the
//! change is committed. It limits the number of values, not their size. It does not
//! retry a load; the next reader after the cool-down does.
//!
//! # Events
//!
//! | event | level | when | fields |
//! |---|---|---|---|
//! | `cache_fill.load_failed` | warn | a load ended without a result | `cache`, `flight`, `attempt`, `waiters`, `error`, `cause` |
//! | `cache_fill.loader_panicked` | error | a loader panicked | `cache`, `flight`, `panic`, `location` |
//! | `cache_fill.fenced` | debug | a result was not stored, because its key was changed meanwhile | `cache`, `flight` |
//!
//! Keys are not logged: they may be secrets.

mod actor;
mod begin;
mod cache;
mod config;
mod error;
mod fence;
mod fill;
mod flight;
mod get;
mod hit;
mod landing;
mod loader;
mod messages;
mod nesting;
mod shards;
mod shared;
mod state;
mod stats;
mod store;

#[cfg(test)]
mod tests;

pub use actor::CacheFill;
pub use cache::Cache;
pub use config::{Abandon, CacheBuilder};
pub use error::{ConfigError, FillError, NothingToKeep};
pub use flight::{FlightId, FlightInfo};
pub use get::Get;
pub use hit::{Hit, Lookup, Served, StaleReason};
pub use loader::{FillCtx, Key, Loaded, Loader, Meta, Reason};
pub use messages::{Clear, Invalidate, Refresh};
pub use stats::Stats;

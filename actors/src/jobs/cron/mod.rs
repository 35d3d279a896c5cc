//! Periodic jobs: when they are due, in the time zone they are meant in.
//!
//! ```
//! use steadfast_actors::jobs::Schedule;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let nightly = Schedule::parse("30 2 * * *", "Europe/Berlin")?;
//! let wrong = Schedule::parse("30 25 * * *", "Europe/Berlin").unwrap_err();
//! assert_eq!(
//!     wrong.to_string(),
//!     "the hour of `30 25 * * *` is `25` but must be 0 to 23, such as `30 4 * * *`",
//! );
//! # let _nightly = nightly;
//! # Ok(())
//! # }
//! ```

mod due;
mod error;
mod schedule;

#[cfg(test)]
mod tests;

pub use due::{Ticks, due};
pub use error::CronError;
pub use schedule::Schedule;

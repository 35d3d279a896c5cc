//! The guard of a queue: holds work back before the backlog feeds the outage.
//!
//! This is its pure heart. [`State`] takes a [`Reading`] of the queue every second, or four times
//! as often when something is wrong, and makes a [`GuardSnapshot`] of it, in which every enqueue
//! reads whether its job is let in ([`GuardSnapshot::admit`]). No clock, no I/O, no chance of its
//! own.
//!
//! # Pressure and levels
//!
//! Pressure is the greatest of these, and 1.0 is as much as should be:
//!
//! - the age of the oldest due job of each class, to its target;
//! - the time to work off what is due of each class, to its target;
//! - the number of jobs, to 80 % of the hard limit;
//! - 1.0 while the breaker of a dependency is open.
//!
//! An age or a drain time counts with its least value over 10 s, which is how `CoDel` tells a
//! standing queue from a burst. What [`Class::Sheddable`] and [`Class::Bulk`] lack counts as 1.0
//! at most: a cheap backlog never has normal work refused.
//!
//! | level | from | critical | normal | sheddable | bulk |
//! |---|---|---|---|---|---|
//! | [`Level::Normal`] | | accept | accept | accept | accept |
//! | [`Level::Elevated`] | 0.7 and growing | accept | accept | accept | put off |
//! | [`Level::Overloaded`] | 1.0 | accept | put off, in part | put off | turn away |
//! | [`Level::Critical`] | 1.5, or the hard limit | accept | turn away | turn away | turn away |
//!
//! While overloaded, tenants are held back by cohort and not by lot: sheddable work of all
//! cohorts at first, then, if that does not help, normal work of as many as it takes to hold the
//! pressure at 1.0; and if it helps too much, sheddable work comes back cohort by cohort.
//!
//! # Guarantees
//!
//! - [`Class::Critical`] is accepted until the hard limit, at any level.
//! - The level rises after 3 s of pressure without a break, at the hard limit at once. It falls by
//!   one when the pressure was at most 70 % of the level's own for 20 s, and each level lasts at
//!   least so long. [`Level::Overloaded`] is not left while a cohort is still held back.
//! - Without history it is calm; a gap between readings proves nothing; a counter that fell was
//!   reset. No reading makes it panic or gives a number that is none.
//! - Each change of level is a [`LevelChanged`] with its cause and the numbers.
//! - Whenever the workers would run dry, jobs that were put off are pulled forward
//!   ([`State::pull_forward`]): nothing sleeps while nobody works.

mod admission;
mod config;
mod drain;
mod event;
mod ladder;
mod per_class;
mod ramp;
mod rates;
mod reading;
mod snapshot;
mod state;
mod window;

#[cfg(test)]
mod tests;

pub use admission::{Admission, Candidate, Overload};
pub use config::{GuardBuilder, GuardConfig, GuardConfigError};
pub use event::{Cause, LevelChanged};
pub use ladder::Level;
pub use per_class::PerClass;
pub use reading::{Reading, Shed};
pub use snapshot::{GuardSnapshot, Pressures};
pub use state::State;

#[cfg(doc)]
use super::Class;

//! Whether this process should get traffic, and whether it should be restarted.
//!
//! Two questions, answered apart:
//!
//! - **Readiness** ([`Health::readiness`]): start-up is done, nobody drains, every critical
//!   check holds and no critical actor is quarantined or stopped.
//! - **Liveness** ([`Heartbeats::liveness`]): every worker thread still turns its event loop.
//!   It never asks a dependency, because a restart does not repair somebody else's outage.
//!
//! Checks run in the background, in tasks of their own. A probe only reads what the last runs
//! found and does no I/O, so it costs microseconds and cannot be used to load a dependency.
//!
//! # Guarantees
//!
//! - A result older than its check's time to live counts as [`Status::Unknown`], and that is
//!   not ready. The reader compares the times, so it holds even when the actor that runs the
//!   checks is dead.
//! - A check that hangs is cut off by its timeout and counts as failed; one that blocks its
//!   thread goes stale.
//! - Two runs of one check never overlap, not even across a restart of the actor.
//! - One failure does not make a service leave, one success does not bring it back: see
//!   [`CheckSpec::fail_after`] and [`CheckSpec::recover_after`].
//!
//! # Example
//!
//! ```
//! # actix_rt::System::new().block_on(async {
//! use steadfast_actors::health::{CheckCx, CheckSpec, Detail, Health, HealthRegistry};
//! use steadfast_actors::kernel::Tree;
//!
//! let tree = Tree::new();
//! let db = |_: CheckCx| async { Ok(Detail::note("12 connections free")) };
//! let registry = HealthRegistry::new().check(CheckSpec::new("db", db));
//! let (health, actor) = Health::prepare(registry, &tree)?;
//! tree.start(actor);
//! assert!(!health.readiness().is_ready(), "nothing was checked yet");
//! # Ok::<(), steadfast_actors::health::HealthError>(())
//! # });
//! ```
//!
//! # What it does not do
//!
//! It restarts nothing and sheds nothing: whoever asks decides. It does not check dependencies
//! for liveness.
//!
//! # Events
//!
//! | event | level | when |
//! |---|---|---|
//! | `health.check_flipped` | warn, info | a check fell or recovered |
//! | `health.readiness_flipped` | warn, info | the process stopped or began to be ready |
//! | `health.start_task_failed` | warn | a start-up task failed and will be tried again |
//! | `health.started` | info | all start-up tasks are done |
//! | `health.thread_wedged` | error | a thread stopped turning its event loop |
//! | `health.thread_recovered` | info | it turns again |

mod actor;
mod check;
mod entry;
mod error;
mod handle;
mod heartbeat;
mod report;
mod run;
mod spec;
mod startup;
mod state;

pub use actor::{HealthActor, Recheck};
pub use check::{Check, CheckCx, CheckError, Detail, blocking};
pub use error::HealthError;
pub use handle::{Health, READY};
pub use heartbeat::{Heartbeats, Pulse};
pub use report::{Item, Report, Status};
pub use spec::{CheckSpec, HealthRegistry};
pub use startup::{StartTask, StartTasks};

#[cfg(test)]
mod tests;

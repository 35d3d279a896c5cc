//! What of a breaker outlives the process, and where it is kept.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::{BreakerState, DependencyId};

/// Why a memory did not do what it was asked; for the log.
pub type MemoryError = Box<dyn std::error::Error + Send + Sync>;

/// Keeps the state of breakers beyond the process.
///
/// The breaker saves after each change of state, one save at a time and only the newest state,
/// and tries again until it is saved. It recalls once, before its first save. It gives each
/// call 10 s.
///
/// # Cancel safety
///
/// A returned future may be dropped at any time; a save may then be made or not.
pub trait Memory: fmt::Debug + Send + Sync + 'static {
    /// Keeps this in place of what was kept for the dependency.
    fn save(&self, remembered: Remembered) -> BoxFuture<'static, Result<(), MemoryError>>;

    /// What is kept for the dependency, as it is now: `lasts` is shorter and `age` longer by
    /// the time since it was saved.
    fn recall(
        &self,
        dependency: DependencyId,
    ) -> BoxFuture<'static, Result<Option<Remembered>, MemoryError>>;
}

/// What of a breaker outlives the process. Times count from now, for the breaker knows no wall
/// clock.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "who implements a memory builds it")]
pub struct Remembered {
    /// Whose breaker.
    pub dependency: DependencyId,
    /// What it does with calls. Half-open is kept as open with nothing left of the pause.
    pub state: BreakerState,
    /// How long that still lasts; `None`: until calls or an operator change it.
    pub lasts: Option<Duration>,
    /// Openings that lengthen the next pause, as they were when it came into the state.
    pub openings: u16,
    /// Why it came into the state.
    pub cause: Arc<str>,
    /// How long ago it did.
    pub age: Duration,
}

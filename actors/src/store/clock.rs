//! The time that durable rows carry: milliseconds since 1970.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use tokio::time::Instant;

/// A moment as durable rows carry it: milliseconds since 1970, UTC.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The moment `by` later; stops at the end of time.
    #[must_use]
    pub fn after(self, by: Duration) -> Self {
        Self(self.0.saturating_add(millis(by)))
    }

    /// The moment `by` earlier; stops at the beginning of time.
    #[must_use]
    pub fn before(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(millis(by)))
    }

    /// The time from `earlier` to this; zero if it is not earlier.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        let passed = self.0.saturating_sub(earlier.0);
        Duration::from_millis(u64::try_from(passed).unwrap_or(0))
    }
}

/// A duration in whole milliseconds; more than fits is cut.
pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Where the spine reads the time that it writes down. Cheap to clone; clones agree.
///
/// Waiting is always done on tokio's clock. This one only says what a row is stamped with, and
/// compares it with what rows say.
#[derive(Debug, Clone)]
pub struct WallClock(Source);

#[derive(Debug, Clone)]
enum Source {
    /// The system's wall clock plus what the database's clock is ahead of it.
    System {
        ahead_ms: Arc<AtomicI64>,
    },
    /// Begins at `origin_ms` and moves with tokio's clock, also when that is paused.
    Tokio {
        began: Instant,
        origin_ms: i64,
    },
    Manual(Arc<AtomicI64>),
}

impl WallClock {
    /// The system's clock; on PostgreSQL, corrected to the server's with every heartbeat, so
    /// that nodes whose clocks differ agree. The default.
    #[must_use]
    pub fn system() -> Self {
        Self(Source::System { ahead_ms: Arc::default() })
    }

    /// A clock that begins now and moves with tokio's, also when that is paused: for tests.
    #[must_use]
    pub fn tokio() -> Self {
        Self(Source::Tokio { began: Instant::now(), origin_ms: system_ms() })
    }

    /// A clock that stands still at `at` until somebody moves it: for tests.
    #[must_use]
    pub fn manual(at: Timestamp) -> (Self, ManualWallClock) {
        let now = Arc::new(AtomicI64::new(at.0));
        (Self(Source::Manual(Arc::clone(&now))), ManualWallClock(now))
    }

    /// The moment that is now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System { ahead_ms } => {
                Timestamp(system_ms().saturating_add(ahead_ms.load(Ordering::Relaxed)))
            }
            Source::Tokio { began, origin_ms } => Timestamp(*origin_ms).after(began.elapsed()),
            Source::Manual(now) => Timestamp(now.load(Ordering::Acquire)),
        }
    }

    /// Takes the database's clock for the right one. Only the system's clock is corrected.
    pub(crate) fn correct_to(&self, database: Timestamp) {
        if let Source::System { ahead_ms } = &self.0 {
            ahead_ms.store(database.0.saturating_sub(system_ms()), Ordering::Relaxed);
        }
    }
}

impl Default for WallClock {
    fn default() -> Self {
        Self::system()
    }
}

/// Moves the [`WallClock`] it was made with, in either direction.
#[derive(Debug, Clone)]
pub struct ManualWallClock(Arc<AtomicI64>);

impl ManualWallClock {
    /// Moves it forward.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(millis(by), Ordering::AcqRel);
    }

    /// Sets it, as an operator who corrects a clock does.
    pub fn set(&self, to: Timestamp) {
        self.0.store(to.0, Ordering::Release);
    }
}

/// The one place where the wall clock is read.
fn system_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, millis)
}

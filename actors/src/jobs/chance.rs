//! Where jitter comes from.

use fastrand::Rng;
use parking_lot::Mutex;

/// Where jitter comes from: unforeseeable, or in a test kit the same with every run.
#[derive(Debug, Default)]
pub(super) enum Chance {
    /// Each thread's own generator.
    #[default]
    Any,
    /// One generator, begun with a number somebody chose.
    Seeded(Mutex<Rng>),
}

impl Chance {
    pub(super) fn seeded(seed: u64) -> Self {
        Self::Seeded(Mutex::new(Rng::with_seed(seed)))
    }

    /// From 0 to 1.
    pub(super) fn draw(&self) -> f64 {
        match self {
            Self::Any => fastrand::f64(),
            Self::Seeded(generator) => generator.lock().f64(),
        }
    }
}

//! Several ways to the same core, so that threads do not share a reference count.
//!
//! Each permit keeps its breaker alive. With one count for all, taking and dropping it
//! costs several times the rest of a call as soon as two processors do it (measured:
//! 237 ns against 50 ns for one thread).

use std::cell::Cell;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_utils::CachePadded;

use super::core::Core;

/// A reference to the core that is counted on a cache line of its own.
#[derive(Debug, Clone)]
pub(super) struct Lane(Arc<CachePadded<Arc<Core>>>);

impl Lane {
    fn new(core: &Arc<Core>) -> Self {
        Self(Arc::new(CachePadded::new(Arc::clone(core))))
    }
}

impl Deref for Lane {
    type Target = Core;

    #[inline]
    fn deref(&self) -> &Core {
        &self.0
    }
}

/// All ways to one core.
#[derive(Debug, Clone)]
pub(super) struct Lanes(Arc<[Lane]>);

impl Lanes {
    pub(super) fn new(core: &Arc<Core>) -> Self {
        Self((0..count()).map(|_| Lane::new(core)).collect())
    }

    /// The lane of this thread.
    #[inline]
    pub(super) fn pick(&self, core: &Arc<Core>) -> Lane {
        let own = self.0.get(thread_number() & (self.0.len() - 1));
        own.map_or_else(|| Lane::new(core), Clone::clone)
    }
}

/// How many threads to keep apart: a power of two.
pub(super) fn count() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    // LIMIT: reading sums over all of them, and 16 already part the threads well.
    cores.next_power_of_two().min(16)
}

/// A small number that differs between threads.
#[inline]
pub(super) fn thread_number() -> usize {
    thread_local! {
        static NUMBER: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    NUMBER
        .try_with(|number| if number.get() == usize::MAX { first(number) } else { number.get() })
        .unwrap_or(0)
}

#[cold]
fn first(number: &Cell<usize>) -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    number.set(NEXT.fetch_add(1, Ordering::Relaxed) & (usize::MAX >> 1));
    number.get()
}

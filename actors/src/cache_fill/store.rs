//! What is kept and what goes when there is no room: S3-FIFO.
//!
//! Two queues and a memory of what left. New keys enter `small`, a tenth of the
//! room. What was read again while in there moves to `main`; what was not leaves,
//! and only its hash is remembered in `ghost`. A key that comes back while its hash
//! is remembered enters `main` directly. In `main`, what was read since it was last
//! looked at gets another round. A scan of one-time keys thus passes through `small`
//! without touching `main`.
//!
//! Source: Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023.
//!
//! A hit changes one counter of two bits and no list, so a read lock is enough.
//! [`LruCache`] is used as an ordered map: `peek` never moves an entry.

use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash};
use std::sync::atomic::{AtomicU8, Ordering};

use foldhash::quality::RandomState;
use lru::LruCache;

/// LIMIT: the paper's two-bit counter; more rounds only slow the clock hand.
const USES_MAX: u8 = 3;

/// A bounded map that decides itself what to drop. One shard of a cache.
pub(super) trait Store<K, T> {
    /// Looks a key up and notes that it was used.
    fn get<Q>(&self, key: &Q) -> Option<&T>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized;

    /// Looks a key up and notes nothing.
    fn peek<Q>(&self, key: &Q) -> Option<&T>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized;

    /// Access to a value, to change it where it is. Notes nothing.
    fn peek_mut<Q>(&mut self, key: &Q) -> Option<&mut T>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized;

    /// Stores a value; what it replaced or pushed out is handed back, to be dropped
    /// outside of the lock.
    fn put(&mut self, key: K, value: T) -> Put<T>;

    /// Takes a key out.
    fn remove<Q>(&mut self, key: &Q) -> Option<T>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized;

    /// The number of keys held.
    fn len(&self) -> usize;
}

/// What a [`Store::put`] did.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Put<T> {
    /// There was room.
    Added,
    /// The key held this value before.
    Replaced(T),
    /// This value of another key had to go.
    Evicted(T),
}

#[derive(Debug)]
struct Node<T> {
    value: T,
    uses: AtomicU8,
}

impl<T> Node<T> {
    const fn new(value: T) -> Self {
        Self { value, uses: AtomicU8::new(0) }
    }

    // A lost update between two readers costs one of three chances: not worth a
    // compare-and-swap on the hit path.
    fn note_use(&self) {
        let uses = self.uses.load(Ordering::Relaxed);
        if uses < USES_MAX {
            self.uses.store(uses + 1, Ordering::Relaxed);
        }
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct S3Fifo<K: Eq + Hash, T> {
    small: LruCache<K, Node<T>, RandomState>,
    main: LruCache<K, Node<T>, RandomState>,
    ghost: LruCache<u64, (), RandomState>,
    hasher: RandomState,
    capacity: usize,
    small_target: usize,
}

impl<K: Eq + Hash, T> S3Fifo<K, T> {
    /// Holds at most `capacity` keys, and at least one.
    pub(super) fn new(capacity: usize, hasher: &RandomState) -> Self {
        let capacity = capacity.max(1);
        Self {
            small: LruCache::unbounded_with_hasher(hasher.clone()),
            main: LruCache::unbounded_with_hasher(hasher.clone()),
            ghost: LruCache::unbounded_with_hasher(hasher.clone()),
            hasher: hasher.clone(),
            capacity,
            small_target: (capacity / 10).max(1),
        }
    }

    /// An empty one of the same size and hasher.
    pub(super) fn emptied(&self) -> Self {
        Self::new(self.capacity, &self.hasher)
    }

    /// Drops one entry. INVARIANT: ends, because each step takes an entry out, moves
    /// one from `small` to `main` for good, or lowers a counter that only reads raise,
    /// and nobody reads while the shard is locked for writing.
    fn evict(&mut self) -> Option<T> {
        loop {
            let from_small = self.small.len() > self.small_target || self.main.is_empty();
            let evicted = if from_small { self.evict_small() } else { self.evict_main() };
            if evicted.is_some() || (self.small.is_empty() && self.main.is_empty()) {
                return evicted;
            }
        }
    }

    fn evict_small(&mut self) -> Option<T> {
        let (key, mut node) = self.small.pop_lru()?;
        if *node.uses.get_mut() > 0 {
            *node.uses.get_mut() = 0;
            self.main.put(key, node);
            return None;
        }
        self.remember(self.hasher.hash_one(&key));
        Some(node.value)
    }

    fn evict_main(&mut self) -> Option<T> {
        let (key, mut node) = self.main.pop_lru()?;
        let uses = node.uses.get_mut();
        if *uses > 0 {
            *uses -= 1;
            self.main.put(key, node);
            return None;
        }
        Some(node.value)
    }

    fn remember(&mut self, hash: u64) {
        if self.ghost.len() >= self.capacity {
            self.ghost.pop_lru();
        }
        self.ghost.put(hash, ());
    }

    fn node<Q>(&self, key: &Q) -> Option<&Node<T>>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        // `main` first: in the long run most hits are there.
        self.main.peek(key).or_else(|| self.small.peek(key))
    }

    fn node_mut<Q>(&mut self, key: &Q) -> Option<&mut Node<T>>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.main.peek_mut(key).or_else(|| self.small.peek_mut(key))
    }
}

impl<K: Eq + Hash, T> Store<K, T> for S3Fifo<K, T> {
    fn get<Q>(&self, key: &Q) -> Option<&T>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let node = self.node(key)?;
        node.note_use();
        Some(&node.value)
    }

    fn peek<Q>(&self, key: &Q) -> Option<&T>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.node(key).map(|node| &node.value)
    }

    fn peek_mut<Q>(&mut self, key: &Q) -> Option<&mut T>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.node_mut(key).map(|node| &mut node.value)
    }

    fn put(&mut self, key: K, value: T) -> Put<T> {
        if let Some(node) = self.node_mut(&key) {
            return Put::Replaced(std::mem::replace(&mut node.value, value));
        }
        // Nothing is dropped before the room is full: the queues are a division of
        // the room in use, not two rooms.
        let full = self.len() >= self.capacity;
        let evicted = if full { self.evict() } else { None };
        let came_back = self.ghost.pop(&self.hasher.hash_one(&key)).is_some();
        let queue = if came_back { &mut self.main } else { &mut self.small };
        queue.put(key, Node::new(value));
        evicted.map_or(Put::Added, Put::Evicted)
    }

    fn remove<Q>(&mut self, key: &Q) -> Option<T>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.main.pop(key).or_else(|| self.small.pop(key)).map(|node| node.value)
    }

    fn len(&self) -> usize {
        self.small.len() + self.main.len()
    }
}

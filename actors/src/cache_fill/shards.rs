//! The stored entries of one cache, divided into shards with a lock each.

use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;
use foldhash::quality::RandomState;
use lru::LruCache;
use parking_lot::RwLock;

use super::store::{Put, S3Fifo, Store};

/// A point in time: microseconds since the cache was built.
pub(super) type Micros = u64;

/// What is stored under a key: a value, or the knowledge that there is none.
#[derive(Debug)]
pub(super) struct Entry<V> {
    /// `None`: the source has nothing under this key.
    pub(super) value: Option<Arc<V>>,
    pub(super) stored_at: Micros,
    pub(super) fresh_until: Micros,
}

impl<V> Clone for Entry<V> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), ..*self }
    }
}

struct Shard<K: Eq + Hash, V> {
    values: S3Fifo<K, Entry<V>>,
    /// Apart, so that a flood of unknown keys cannot push values out.
    absent: LruCache<K, Entry<V>, RandomState>,
}

struct Slot<K: Eq + Hash, V> {
    shard: RwLock<Shard<K, V>>,
    /// On the line of the lock word, which a hit writes in any case.
    hits: AtomicU64,
    evicted: AtomicU64,
}

/// How many entries a cache may hold, and in how many shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) values: usize,
    pub(super) absent: usize,
    pub(super) shards: usize,
}

impl Room {
    /// LIMIT: a shard with fewer entries has too short queues to tell hot from cold.
    pub(super) const SHARD_MIN: usize = 32;

    /// `shards` is brought down to what the capacity allows, and to a power of two.
    pub(super) fn new(values: usize, absent: usize, shards: usize) -> Self {
        let allowed = (values / Self::SHARD_MIN).max(1);
        let shards = shards.clamp(1, allowed);
        let shards = if shards.is_power_of_two() { shards } else { shards.next_power_of_two() / 2 };
        Self { values, absent, shards }
    }
}

/// Sharded storage. Everything a lock protects is dropped after it is released.
pub(super) struct Shards<K: Eq + Hash, V> {
    slots: Box<[CachePadded<Slot<K, V>>]>,
    hasher: RandomState,
}

impl<K: Eq + Hash, V> Shards<K, V> {
    pub(super) fn new(room: Room) -> Self {
        let hasher = RandomState::default();
        let slots = (0..room.shards).map(|index| {
            let share =
                |total: usize| total / room.shards + usize::from(index < total % room.shards);
            let absent = NonZeroUsize::new(share(room.absent)).unwrap_or(NonZeroUsize::MIN);
            let shard = Shard {
                values: S3Fifo::new(share(room.values), &hasher),
                absent: LruCache::with_hasher(absent, hasher.clone()),
            };
            CachePadded::new(Slot {
                shard: RwLock::new(shard),
                hits: AtomicU64::new(0),
                evicted: AtomicU64::new(0),
            })
        });
        Self { slots: slots.collect(), hasher }
    }

    pub(super) fn hash<Q: Hash + ?Sized>(&self, key: &Q) -> u64 {
        self.hasher.hash_one(key)
    }

    /// Looks a key up and counts it as used. Takes a read lock, allocates nothing.
    pub(super) fn get<Q>(&self, hash: u64, key: &Q) -> Option<Entry<V>>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let shard = self.slot(hash)?.shard.read();
        shard.values.get(key).or_else(|| shard.absent.peek(key)).cloned()
    }

    /// Looks a key up without a trace.
    pub(super) fn peek<Q>(&self, hash: u64, key: &Q) -> Option<Entry<V>>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let shard = self.slot(hash)?.shard.read();
        shard.values.peek(key).or_else(|| shard.absent.peek(key)).cloned()
    }

    /// Stores `entry` if `allowed` still says so once the shard is locked.
    pub(super) fn put_if(
        &self,
        hash: u64,
        key: K,
        entry: Entry<V>,
        allowed: impl FnOnce() -> bool,
    ) -> bool {
        let Some(slot) = self.slot(hash) else { return false };
        let mut shard = slot.shard.write();
        if !allowed() {
            return false;
        }
        if entry.value.is_some() {
            let no_longer_absent = shard.absent.pop(&key);
            let put = shard.values.put(key, entry);
            drop(shard);
            slot.evicted.fetch_add(matches!(put, Put::Evicted(_)).into(), Ordering::Relaxed);
            drop((no_longer_absent, put));
        } else {
            let no_longer_there = shard.values.remove(&key);
            let pushed_out = shard.absent.push(key, entry);
            drop(shard);
            drop((no_longer_there, pushed_out));
        }
        true
    }

    /// Takes a key out if `allowed` still says so once the shard is locked.
    pub(super) fn remove_if(&self, hash: u64, key: &K, allowed: impl FnOnce() -> bool) -> bool {
        let Some(slot) = self.slot(hash) else { return false };
        let mut shard = slot.shard.write();
        if !allowed() {
            return false;
        }
        let removed = (shard.values.remove(key), shard.absent.pop(key));
        drop(shard);
        drop(removed);
        true
    }

    /// Takes a key out; whether there was a value.
    pub(super) fn remove<Q>(&self, hash: u64, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let Some(slot) = self.slot(hash) else { return false };
        let mut shard = slot.shard.write();
        let removed = (shard.values.remove(key), shard.absent.pop(key));
        drop(shard);
        removed.0.is_some()
    }

    /// Ends the freshness of a value at `now` and forgets that there was none; whether
    /// there was a value.
    pub(super) fn expire<Q>(&self, hash: u64, key: &Q, now: Micros) -> bool
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let Some(slot) = self.slot(hash) else { return false };
        let mut shard = slot.shard.write();
        let was_absent = shard.absent.pop(key);
        let there = shard.values.peek_mut(key).map(|entry| {
            entry.fresh_until = entry.fresh_until.min(now);
        });
        drop(shard);
        drop(was_absent);
        there.is_some()
    }

    pub(super) fn clear(&self) {
        for slot in &self.slots {
            let fresh = {
                let shard = slot.shard.read();
                let values = shard.values.emptied();
                let absent = LruCache::with_hasher(shard.absent.cap(), self.hasher.clone());
                Shard { values, absent }
            };
            let old = std::mem::replace(&mut *slot.shard.write(), fresh);
            drop(old);
        }
    }

    pub(super) fn count_hit(&self, hash: u64) {
        if let Some(slot) = self.slot(hash) {
            slot.hits.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn hits(&self) -> u64 {
        self.slots.iter().map(|slot| slot.hits.load(Ordering::Relaxed)).sum()
    }

    pub(super) fn evicted(&self) -> u64 {
        self.slots.iter().map(|slot| slot.evicted.load(Ordering::Relaxed)).sum()
    }

    /// Stored values, and keys known to have none.
    pub(super) fn len(&self) -> (usize, usize) {
        self.slots.iter().fold((0, 0), |(values, absent), slot| {
            let shard = slot.shard.read();
            (values + shard.values.len(), absent + shard.absent.len())
        })
    }

    // The map inside a shard uses the lowest bits and the top seven; these are others.
    fn slot(&self, hash: u64) -> Option<&Slot<K, V>> {
        let index = usize::try_from(hash >> 40).unwrap_or(usize::MAX) & (self.slots.len() - 1);
        self.slots.get(index).map(|slot| &**slot)
    }
}

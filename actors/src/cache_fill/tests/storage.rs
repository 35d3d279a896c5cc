//! What is kept, what goes, and how well that is chosen.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroUsize;

use foldhash::quality::RandomState;
use lru::LruCache;
use proptest::prelude::*;

use super::Arc;
use crate::cache_fill::fence::Fence;
use crate::cache_fill::shards::{Entry, Room, Shards};
use crate::cache_fill::store::{Put, S3Fifo, Store};

fn s3(capacity: usize) -> S3Fifo<u64, u64> {
    S3Fifo::new(capacity, &RandomState::default())
}

#[test]
fn nothing_is_dropped_before_the_room_is_full() {
    for capacity in [1, 2, 10, 32, 1000] {
        let mut store = s3(capacity);
        for key in 0..capacity as u64 {
            assert_eq!(store.put(key, key), Put::Added);
        }
        assert_eq!(store.len(), capacity);
        assert!(matches!(store.put(u64::MAX, 0), Put::Evicted(_)), "one beyond {capacity}");
        assert_eq!(store.len(), capacity);
    }
}

#[test]
fn what_was_read_survives_a_scan() {
    let mut store = s3(100);
    for key in 0..20 {
        store.put(key, key);
        store.get(&key);
    }
    for key in 1_000..11_000 {
        store.put(key, key);
    }
    let kept = (0..20).filter(|key| store.peek(key).is_some()).count();
    assert_eq!(kept, 20);
}

#[test]
fn a_peek_is_not_a_use() {
    let mut store = s3(10);
    store.put(1, 1);
    store.peek(&1);
    for key in 2..12 {
        store.put(key, key);
    }
    assert_eq!(store.peek(&1), None);
}

proptest! {
    #[test]
    fn the_store_holds_what_it_said_it_holds(
        capacity in 1..40_usize,
        steps in proptest::collection::vec((0..60_u64, 0..4_u8), 0..600),
    ) {
        let mut store = s3(capacity);
        let mut held: HashMap<u64, u64> = HashMap::new();
        for (at, (key, what)) in steps.into_iter().enumerate() {
            let value = at as u64;
            match what {
                0 => prop_assert_eq!(store.get(&key), held.get(&key)),
                1 => prop_assert_eq!(store.remove(&key), held.remove(&key)),
                _ => {
                    match store.put(key, value) {
                        Put::Added => prop_assert!(!held.contains_key(&key)),
                        Put::Replaced(old) => prop_assert_eq!(held.get(&key), Some(&old)),
                        Put::Evicted(old) => {
                            // Values are unique, so the value names the key.
                            let gone = held.iter().find(|(_, value)| **value == old);
                            let gone = *gone.expect("it was held").0;
                            prop_assert_ne!(gone, key);
                            held.remove(&gone);
                        }
                    }
                    held.insert(key, value);
                }
            }
            prop_assert_eq!(store.len(), held.len());
            prop_assert!(store.len() <= capacity);
        }
        for (key, value) in &held {
            prop_assert_eq!(store.peek(key), Some(value));
        }
    }
}

/// Keys drawn with a probability of 1 / rank^skew.
fn zipf(keys: u32, skew: f64, length: usize, seed: u64) -> Vec<u64> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut sum = 0.0;
    let cumulated: Vec<f64> = (1..=keys)
        .map(|rank| {
            sum += f64::from(rank).powf(-skew);
            sum
        })
        .collect();
    let draw = |_| cumulated.partition_point(|bound| *bound < random.f64() * sum) as u64;
    (0..length).map(draw).collect()
}

fn with_scans(trace: &[u64]) -> Vec<u64> {
    let scans = trace.chunks(10_000).enumerate().flat_map(|(index, chunk)| {
        let first = 1_000_000 + index as u64 * 2_000;
        chunk.iter().copied().chain(first..first + 2_000)
    });
    scans.collect()
}

/// Hits of S3-FIFO and of plain LRU, in thousandths.
fn hit_ratios(trace: &[u64], capacity: usize) -> (usize, usize) {
    let mut store = s3(capacity);
    let mut lru = LruCache::new(NonZeroUsize::new(capacity).expect("not zero"));
    let (mut ours, mut plain) = (0, 0);
    for key in trace {
        if store.get(key).is_some() {
            ours += 1;
        } else {
            store.put(*key, *key);
        }
        if lru.get(key).is_some() {
            plain += 1;
        } else {
            lru.put(*key, ());
        }
    }
    (ours * 1000 / trace.len(), plain * 1000 / trace.len())
}

/// The margins, in thousandths, are what was measured less ten.
#[test]
fn more_is_hit_than_with_plain_lru() {
    let table = [
        (0.8, 1_000, false, 68),
        (0.99, 1_000, false, 68),
        (0.99, 1_000, true, 76),
        (0.99, 5_000, false, 0),
        (1.1, 1_000, false, 37),
    ];
    for (skew, capacity, scans, margin) in table {
        let trace = zipf(50_000, skew, 200_000, 42);
        let trace = if scans { with_scans(&trace) } else { trace };
        let (ours, plain) = hit_ratios(&trace, capacity);
        assert!(
            ours >= plain + margin,
            "skew {skew}, capacity {capacity}, scans {scans}: {ours} to {plain} per mille"
        );
    }
}

#[test]
fn shards_divide_the_room_without_losing_any() {
    let table = [
        ((1, 1, 64), 1),
        ((63, 6, 64), 1),
        ((64, 6, 64), 2),
        ((1000, 100, 64), 16),
        ((100_000, 10, 6), 4),
    ];
    for ((values, absent, wanted), shards) in table {
        let room = Room::new(values, absent, wanted);
        assert_eq!(room.shards, shards, "{values} values in {wanted} shards");
        let store: Shards<u64, u64> = Shards::new(room);
        for key in 0..(values as u64 * 3).min(10_000) {
            let entry = Entry { value: Some(Arc::new(key)), stored_at: 0, fresh_until: 1 };
            assert!(store.put_if(store.hash(&key), key, entry, || true));
            assert!(store.len().0 <= values);
        }
    }
}

#[test]
fn keys_spread_over_the_shards() {
    let store: Shards<u64, u64> = Shards::new(Room::new(64_000, 0, 64));
    for key in 0..32_000 {
        let entry = Entry { value: Some(Arc::new(key)), stored_at: 0, fresh_until: 1 };
        store.put_if(store.hash(&key), key, entry, || true);
    }
    assert_eq!(store.evicted(), 0, "500 of 1,000 places in each shard on average");
    assert_eq!(store.len(), (32_000, 0));
}

#[test]
fn a_generation_changes_with_its_own_key_and_with_all() {
    let fence = Fence::new();
    let before = fence.generation(7);
    fence.raise(8);
    assert_eq!(fence.generation(7), before);
    fence.raise(7);
    let after = fence.generation(7);
    assert_ne!(after, before);
    fence.raise_all();
    assert_ne!(fence.generation(7), after);
    let distinct: HashSet<_> =
        [before, after, fence.generation(7)].map(|seen| format!("{seen:?}")).into();
    assert_eq!(distinct.len(), 3);
}

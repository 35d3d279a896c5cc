//! Random use, compared with a map that does everything the slow and simple way.

use std::collections::HashMap;

use proptest::prelude::*;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::Instant;

use super::*;
use crate::cache_fill::{Abandon, Lookup};

const TTL: Duration = Duration::from_secs(10);

#[derive(Debug, Clone)]
enum Step {
    Get(u64),
    Insert(u64),
    Invalidate(u64),
    Clear,
    Write,
    Wait(u16),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0..4_u64).prop_map(Step::Get),
        1 => (0..4_u64).prop_map(Step::Insert),
        1 => (0..4_u64).prop_map(Step::Invalidate),
        1 => Just(Step::Clear),
        2 => Just(Step::Write),
        2 => (0..8_000_u16).prop_map(Step::Wait),
    ]
}

/// One step after the other: each read must find what the map has, or load.
async fn follow_the_map(steps: Vec<Step>) {
    let source = Source::new();
    let (_tree, cache) = source.start_with(|builder| builder.ttl(TTL));
    let mut map: HashMap<u64, (u64, Instant)> = HashMap::new();
    let mut version = 1;
    for step in steps {
        match step {
            Step::Get(key) => {
                let stored = map.get(&key).filter(|(_, until)| Instant::now() < *until).copied();
                let got = cache.get(&key).await;
                match stored {
                    Some((value, _)) => assert_served(&got, value, Served::Fresh),
                    None => {
                        assert_served(&got, version, Served::Loaded);
                        map.insert(key, (version, Instant::now() + TTL));
                    }
                }
            }
            Step::Insert(key) => {
                cache.insert(key, 1_000_000 + version);
                map.insert(key, (1_000_000 + version, Instant::now() + TTL));
            }
            Step::Invalidate(key) => {
                assert_eq!(cache.invalidate(&key), map.remove(&key).is_some());
            }
            Step::Clear => {
                cache.clear();
                map.clear();
            }
            Step::Write => version = source.write(),
            Step::Wait(ms) => advance(Duration::from_millis(ms.into())).await,
        }
        for key in 0..4 {
            let fresh = map.get(&key).filter(|(_, until)| Instant::now() < *until);
            let seen = match cache.try_get(&key) {
                Lookup::Fresh(hit) => Some(*hit),
                Lookup::Stale(_) | Lookup::Absent | Lookup::Miss => None,
            };
            assert_eq!(seen, fresh.map(|(value, _)| *value), "key {key}");
        }
    }
}

#[derive(Debug, Clone)]
enum Chance {
    Read(u64),
    Impatient(u64, u16),
    Leave(usize),
    Refresh(u64),
    Invalidate(u64),
    Clear,
    Mood(u8),
    Wait(u16),
}

fn chance() -> impl Strategy<Value = Chance> {
    prop_oneof![
        6 => (0..6_u64).prop_map(Chance::Read),
        2 => (0..6_u64, 0..2_000_u16).prop_map(|(key, ms)| Chance::Impatient(key, ms)),
        3 => any::<usize>().prop_map(Chance::Leave),
        1 => (0..6_u64).prop_map(Chance::Refresh),
        1 => (0..6_u64).prop_map(Chance::Invalidate),
        1 => Just(Chance::Clear),
        3 => (0..6_u8).prop_map(Chance::Mood),
        4 => (0..1_500_u16).prop_map(Chance::Wait),
    ]
}

type Reader = JoinHandle<Result<Hit<u64>, FillError>>;

/// Readers come, wait, leave and are refused while the source changes its mood: in the
/// end nobody waits any more, nothing is left over, and every key can be loaded.
async fn leave_nothing_behind(chances: Vec<Chance>, abandon: Abandon) {
    let source = Source::new();
    let (_tree, cache) = source.start_with(|builder| {
        let builder = builder.ttl(3 * SECOND).max_fills(2).max_queue(2).on_no_waiters(abandon);
        let builder = builder.stale_while_revalidate(SECOND).stale_if_error(2 * SECOND);
        builder.max_fill_time(4 * SECOND).cooldown(SECOND, 2 * SECOND)
    });
    let mut readers: Vec<Reader> = Vec::new();
    for chance in chances {
        match chance {
            Chance::Read(key) => readers.push(spawn_local(cache.get(&key))),
            Chance::Impatient(key, ms) => {
                readers.push(spawn_local(cache.get(&key).wait(Duration::from_millis(ms.into()))));
            }
            Chance::Leave(which) if !readers.is_empty() => {
                readers.swap_remove(which % readers.len()).abort();
            }
            Chance::Refresh(key) => readers.push(spawn_local(cache.refresh(&key))),
            Chance::Invalidate(key) => drop(cache.invalidate(&key)),
            Chance::Clear => cache.clear(),
            Chance::Mood(mood) => source.is([
                Mood::Well,
                Mood::Failing,
                Mood::Panicking,
                Mood::Hanging,
                Mood::Empty,
                Mood::Unchanged,
            ][usize::from(mood)]),
            Chance::Wait(ms) => advance(Duration::from_millis(ms.into())).await,
            Chance::Leave(_) => settle().await,
        }
        assert!(source.0.most_running.load(Ordering::SeqCst) <= 2);
    }
    for reader in readers {
        let within = tokio::time::timeout(60 * SECOND, reader).await;
        drop(within.expect("nobody waits for ever").expect("no panic"));
    }
    // Slept, not advanced: each load ends in its own time.
    tokio::time::sleep(30 * SECOND).await;
    let stats = cache.stats();
    assert_eq!((stats.in_flight, stats.running, stats.queued), (0, 0, 0));
    assert_eq!(source.0.running.load(Ordering::SeqCst), 0);
    source.is(Mood::Well);
    cache.clear();
    for key in 0..6 {
        assert_served(&cache.get(&key).await, 1, Served::Loaded);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn one_after_the_other_it_is_a_map_with_a_ttl(
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        paused(|| follow_the_map(steps));
    }

    #[test]
    fn whatever_readers_and_source_do_nothing_is_left_behind(
        chances in proptest::collection::vec(chance(), 1..80),
        cancel in any::<bool>(),
    ) {
        let abandon = if cancel { Abandon::CancelAfter(SECOND / 2) } else { Abandon::Finish };
        paused(|| leave_nothing_behind(chances, abandon));
    }
}

//! How much may be under way, and loads within loads.

use futures_util::FutureExt;
use futures_util::future::join_all;
use std::sync::OnceLock;
use tokio::task::spawn_local;
use tokio::time::Instant;

use super::*;
use crate::cache_fill::StaleReason;
use crate::kernel::Fault;

#[test]
fn never_more_loads_run_than_allowed_and_all_get_their_turn() {
    paused(|| async {
        let source = Source::new();
        let (_tree, cache) = source.start_with(|builder| builder.max_fills(7).max_queue(93));
        let keys: Vec<u64> = (0..100).collect();
        let results = join_all(keys.iter().map(|key| cache.get(key))).await;
        assert!(results.iter().all(Result::is_ok));
        source.assert_loads(100);
        assert_eq!(source.0.most_running.load(Ordering::SeqCst), 7);
    });
}

#[test]
fn one_load_beyond_the_queue_is_refused_with_a_wait() {
    paused(|| async {
        let source = Source::new();
        let (_tree, cache) = source.start_with(|builder| builder.max_fills(2).max_queue(3));
        let keys: Vec<u64> = (0..6).collect();
        let results = join_all(keys.iter().map(|key| cache.get(key))).await;
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 5);
        let error = results[5].as_ref().expect_err("the sixth");
        assert_eq!(error.code().as_str(), "cache_fill.overloaded");
        assert!(error.retry_after().is_some_and(|wait| !wait.is_zero()));
        assert_eq!(cache.stats().shed, 1);
        assert_served(&cache.get(&5).await, 1, Served::Loaded);
    });
}

#[test]
fn an_old_value_is_served_when_there_is_no_room_to_load() {
    paused(|| async {
        let source = Source::new();
        let (_tree, cache) = source
            .start_with(|builder| builder.max_fills(1).max_queue(0).stale_if_error(600 * SECOND));
        assert_served(&cache.get(&1).await, 1, Served::Loaded);
        advance(60 * SECOND).await;
        let other = spawn_local(cache.get(&2));
        settle().await;
        assert_served(&cache.get(&1).await, 1, Served::Stale(StaleReason::Overloaded));
        assert!(other.await.expect("no panic").is_ok());
    });
}

#[test]
fn what_waits_too_long_for_its_turn_is_given_up() {
    paused(|| async {
        let source = Source::new();
        source.is(Mood::Hanging);
        let (_tree, cache) =
            source.start_with(|builder| builder.max_fills(1).max_fill_time(5 * SECOND));
        let first = spawn_local(cache.get(&1));
        settle().await;
        advance(SECOND).await;
        let began = Instant::now();
        let (second, third) = tokio::join!(cache.get(&2), cache.get(&3));
        assert!(matches!(second, Err(FillError::FillTimeout { .. })), "{second:?}");
        assert!(matches!(third, Err(FillError::Overloaded { .. })), "{third:?}");
        assert!(began.elapsed() <= 10 * SECOND);
        assert!(first.await.expect("no panic").is_err());
    });
}

type Tangle = Arc<OnceLock<Cache<u64, u64>>>;

/// A cache whose loader of a key first reads the keys that `needs` names.
fn tangled(
    needs: fn(u64) -> Vec<u64>,
    configure: impl FnOnce(CacheBuilder<u64, u64>) -> CacheBuilder<u64, u64>,
) -> (Tree, Cache<u64, u64>) {
    let tangle = Tangle::default();
    let inner = Arc::clone(&tangle);
    let loader = move |key: u64, _: FillCtx<u64>| {
        let cache = inner.get().expect("set").clone();
        async move {
            tokio::time::sleep(SECOND / 10).await;
            let needed = needs(key);
            for result in join_all(needed.iter().map(|key| cache.get(key))).await {
                result?;
            }
            Ok::<_, FillError>(Loaded::value(key))
        }
    };
    let tree = Tree::new();
    let builder = Cache::builder("tangled", loader).cooldown(Duration::ZERO, Duration::ZERO);
    let cache = configure(builder).start(&tree).expect("valid settings");
    assert!(tangle.set(cache.clone()).is_ok());
    (tree, cache)
}

#[track_caller]
fn assert_recursion(result: &Result<Hit<u64>, FillError>) {
    let error = result.as_ref().expect_err("it waits for itself");
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    assert_eq!(cause.to_string(), FillError::Recursion.to_string());
}

#[test]
fn a_loader_that_reads_its_own_key_is_told_at_once() {
    paused(|| async {
        let (_tree, cache) = tangled(|key| vec![key], |builder| builder);
        let began = Instant::now();
        assert_recursion(&cache.get(&1).await);
        assert!(began.elapsed() < SECOND);
    });
}

#[test]
fn loaders_that_wait_for_each_other_are_told_at_once() {
    paused(|| async {
        let (_tree, cache) = tangled(|key| vec![3 - key], |builder| builder);
        let began = Instant::now();
        // Begun apart, so that neither load is nested in the other.
        let (one, two) = tokio::join!(cache.get(&1), cache.get(&2));
        assert_recursion(&one);
        assert_recursion(&two);
        assert!(began.elapsed() < SECOND);
        assert!(cache.flights().is_empty());
    });
}

#[test]
fn a_circle_through_two_caches_is_found_too() {
    paused(|| async {
        let (tree, other) = (Tree::new(), Tangle::default());
        let (there, back) = (Arc::clone(&other), Tangle::default());
        let home = Arc::clone(&back);
        let first = move |key: u64, _: FillCtx<u64>| {
            let next = there.get().expect("set").clone();
            async move { next.get(&key).await.map(|hit| Loaded::value(*hit)) }
        };
        let second = move |key: u64, _: FillCtx<u64>| {
            let next = home.get().expect("set").clone();
            async move { next.get(&key).await.map(|hit| Loaded::value(*hit)) }
        };
        let one = Cache::builder("one", first).start(&tree).expect("valid settings");
        let two = Cache::builder("two", second).start(&tree).expect("valid settings");
        assert!(back.set(one.clone()).is_ok() && other.set(two).is_ok());
        let began = Instant::now();
        assert_recursion(&one.get(&1).await);
        assert!(began.elapsed() < SECOND);
    });
}

#[test]
fn a_chain_of_ever_new_keys_ends() {
    paused(|| async {
        let (_tree, cache) = tangled(|key| vec![key + 1], |builder| builder);
        assert_recursion(&cache.get(&0).await);
        assert!(cache.stats().loads <= 17, "{:?}", cache.stats());
    });
}

#[test]
fn loads_within_loads_need_no_permit_of_their_own() {
    paused(|| async {
        let needs = |key| if key < 3 { vec![key + 1, 10] } else { Vec::new() };
        let (_tree, cache) = tangled(needs, |builder| builder.max_fills(1).max_queue(0));
        assert_served(&cache.get(&0).await, 0, Served::Loaded);
        assert_eq!(cache.stats().values, 5);
    });
}

#[test]
fn a_queued_load_that_a_running_one_needs_is_moved_up() {
    paused(|| async {
        let needs = |key| if key == 0 { vec![1] } else { Vec::new() };
        let (_tree, cache) = tangled(needs, |builder| builder.max_fills(1));
        let outer = spawn_local(cache.get(&0));
        settle().await;
        let queued = spawn_local(cache.get(&1));
        settle().await;
        assert_eq!(cache.stats().queued, 1);
        let began = Instant::now();
        assert_served(&outer.await.expect("no panic"), 0, Served::Loaded);
        assert_served(&queued.await.expect("no panic"), 1, Served::Loaded);
        assert!(began.elapsed() < SECOND);
    });
}

#[test]
fn a_setting_out_of_its_range_is_refused_by_name() {
    type Change = fn(CacheBuilder<u64, u64>) -> CacheBuilder<u64, u64>;
    let table: [(&str, Change); 12] = [
        ("capacity", |builder| builder.capacity(0)),
        ("negative_share", |builder| builder.negative_share(1.01)),
        ("negative_share", |builder| builder.negative_share(f64::NAN)),
        ("jitter", |builder| builder.jitter(-0.1)),
        ("shards", |builder| builder.shards(0)),
        ("shards", |builder| builder.shards(4097)),
        ("ttl", |builder| builder.ttl(Duration::ZERO)),
        ("ttl", |builder| builder.ttl(Duration::from_secs(366 * 24 * 3600))),
        ("cooldown", |builder| builder.cooldown(SECOND, SECOND / 2)),
        ("max_fills", |builder| builder.max_fills(0)),
        ("max_queue", |builder| builder.max_queue((1 << 20) + 1)),
        ("max_fill_time", |builder| builder.max_fill_time(Duration::ZERO)),
    ];
    for (setting, change) in table {
        let builder = change(Cache::builder("table", Source::new()));
        let error = builder.settings().expect_err(setting);
        assert_eq!(error.setting(), setting);
        assert_eq!(error.code().as_str(), "cache_fill.invalid_setting");
    }
    let widest = Cache::builder("widest", Source::new())
        .capacity(1)
        .negative_share(1.0)
        .jitter(0.9)
        .shards(4096)
        .ttl(Duration::from_secs(365 * 24 * 3600))
        .cooldown(Duration::ZERO, Duration::ZERO)
        .max_fills(1 << 16)
        .max_queue(1 << 20)
        .max_fill_time(Duration::from_secs(3600));
    assert!(widest.settings().is_ok());
}

#[test]
fn a_read_that_is_never_polled_starts_nothing() {
    paused(|| async {
        let source = Source::new();
        let (_tree, cache) = source.start();
        drop(cache.get(&1));
        settle().await;
        source.assert_loads(0);
        assert!(cache.get(&1).now_or_never().is_none());
    });
}

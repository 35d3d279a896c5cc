//! What was changed while it was being loaded does not come back.

use futures_util::FutureExt;
use tokio::task::spawn_local;

use super::*;
use crate::cache_fill::{Clear, Invalidate, Refresh, StaleReason};

type Change = fn(&Cache<u64, u64>);

/// Changes the source and then the cache by `change` while a load runs that has read
/// the old version; `refresh` says whether that load is a background one.
async fn changed_during_load(background: bool, change: Change) -> (Source, Cache<u64, u64>) {
    let source = Source::new();
    let (_tree, cache) = source.start_with(|builder| builder.stale_while_revalidate(60 * SECOND));
    if background {
        assert_served(&cache.get(&1).await, 1, Served::Loaded);
        advance(60 * SECOND).await;
        assert!(cache.get(&1).now_or_never().is_some());
    } else {
        assert!(cache.get(&1).now_or_never().is_none());
    }
    settle().await;
    assert_eq!(cache.flights().len(), 1);
    source.write();
    change(&cache);
    (source, cache)
}

#[test]
fn a_load_that_began_before_a_change_is_never_stored() {
    let changes: [(&str, Change); 3] = [
        ("invalidate", |cache| {
            cache.invalidate(&1);
        }),
        ("clear", |cache| cache.clear()),
        ("expire", |cache| {
            cache.expire(&1);
        }),
    ];
    for (name, change) in changes {
        for background in [false, true] {
            paused(|| async {
                let (_source, cache) = changed_during_load(background, change).await;
                advance(2 * SECOND).await;
                let stored = cache.peek(&1).filter(|hit| hit.served == Served::Fresh);
                assert!(stored.is_none(), "{name}, background: {background}: {stored:?}");
                assert_eq!(cache.stats().fenced, 1, "{name}");
            });
        }
    }
}

#[test]
fn an_inserted_value_survives_an_older_load() {
    for background in [false, true] {
        paused(|| async {
            let (_source, cache) =
                changed_during_load(background, |cache| cache.insert(1, 77)).await;
            advance(2 * SECOND).await;
            assert_served(&cache.get(&1).await, 77, Served::Fresh);
        });
    }
}

#[test]
fn a_reader_after_the_change_starts_its_own_load_before_the_old_one_ends() {
    paused(|| async {
        let source = Source::new();
        let (_tree, cache) = source.start();
        let before = spawn_local(cache.get(&1));
        settle().await;
        advance(SECOND / 2).await;
        source.write();
        cache.invalidate(&1);
        let after = spawn_local(cache.get(&1));
        settle().await;
        source.assert_loads(2);
        assert_eq!(cache.flights().len(), 2);
        // Each gets the true result of the load it waited for, in either order.
        assert_served(&before.await.expect("no panic"), 1, Served::Loaded);
        assert_eq!(cache.flights().len(), 1, "the old load takes only itself out");
        assert_served(&cache.get(&1).await, 2, Served::Joined);
        assert_served(&after.await.expect("no panic"), 2, Served::Loaded);
        assert_served(&cache.get(&1).await, 2, Served::Fresh);
    });
}

#[test]
fn a_change_of_one_key_leaves_the_loads_of_others_alone() {
    paused(|| async {
        let source = Source::new();
        let (_tree, cache) = source.start();
        // Keys may share a counter by chance, so look at many.
        for key in 0..50 {
            assert!(cache.get(&key).now_or_never().is_none());
        }
        settle().await;
        cache.invalidate(&1000);
        advance(2 * SECOND).await;
        let stored = (0..50).filter(|key| cache.peek(key).is_some()).count();
        assert!(stored >= 48, "{stored}");
    });
}

#[test]
fn an_invalidated_value_is_not_served_as_an_old_one() {
    paused(|| async {
        let source = Source::new();
        let (_tree, cache) = source.start_with(|builder| {
            builder.stale_if_error(600 * SECOND).stale_while_revalidate(600 * SECOND)
        });
        assert_served(&cache.get(&1).await, 1, Served::Loaded);
        source.is(Mood::Failing);
        assert!(cache.invalidate(&1));
        assert!(cache.get(&1).await.is_err());
    });
}

#[test]
fn an_expired_value_is_served_as_an_old_one() {
    paused(|| async {
        let source = Source::new();
        let (_tree, cache) = source.start_with(|builder| builder.stale_if_error(600 * SECOND));
        assert_served(&cache.get(&1).await, 1, Served::Loaded);
        source.is(Mood::Failing);
        assert!(cache.expire(&1));
        assert_served(&cache.get(&1).await, 1, Served::Stale(StaleReason::LoadFailed));
        assert!(!cache.expire(&2), "nothing there");
    });
}

#[test]
fn messages_change_the_cache_as_the_handle_does() {
    paused(|| async {
        let source = Source::new();
        let (_tree, cache) = source.start();
        assert_served(&cache.get(&1).await, 1, Served::Loaded);
        source.write();
        cache.actor().call(Refresh { key: 1 }).await.expect("handled");
        advance(SECOND).await;
        assert_served(&cache.get(&1).await, 2, Served::Fresh);
        assert!(cache.actor().call(Invalidate { key: 1 }).await.expect("handled"));
        assert!(!cache.actor().call(Invalidate { key: 1 }).await.expect("handled"));
        cache.insert(5, 5);
        cache.actor().call(Clear).await.expect("handled");
        assert!(cache.peek(&5).is_none());
    });
}

/// Threads invalidate, insert and load the same few keys as fast as they can. The
/// source's version is raised before each invalidation; a read that begins after the
/// invalidation must see at least that version.
#[test]
fn no_read_sees_a_version_older_than_its_last_invalidation() {
    let version = Arc::new(AtomicU64::new(1));
    let source = Arc::clone(&version);
    let loader = move |_: u64, _: FillCtx<u64>| {
        let source = Arc::clone(&source);
        async move {
            let read = source.load(Ordering::SeqCst);
            for _ in 0..fastrand::u8(0..8) {
                yield_now().await;
            }
            Ok::<_, io::Error>(Loaded::value(read))
        }
    };
    let system = actix_rt::System::new();
    let tree = Tree::new();
    let cache = system
        .block_on(async { Cache::builder("race", loader).start(&tree) })
        .expect("valid settings");
    let threads: Vec<_> = (0..3).map(|_| race(cache.clone(), Arc::clone(&version))).collect();
    system.block_on(async {
        while !threads.iter().all(std::thread::JoinHandle::is_finished) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    for thread in threads {
        thread.join().expect("no read was too old");
    }
    assert!(cache.flights().is_empty());
}

fn race(cache: Cache<u64, u64>, version: Arc<AtomicU64>) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(async {
            for round in 0..2_000 {
                let key = round % 3;
                let least = if fastrand::bool() {
                    let written = version.fetch_add(1, Ordering::SeqCst) + 1;
                    match fastrand::u8(0..8) {
                        0 => cache.clear(),
                        _ => {
                            cache.invalidate(&key);
                        }
                    }
                    written
                } else {
                    0
                };
                let got = *cache.get(&key).await.expect("a value").value;
                assert!(got >= least, "read {got} after {least} was invalidated");
            }
        });
    })
}

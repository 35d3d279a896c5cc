//! Readers, and what they do to each other: nothing.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use tokio::task::spawn_local;
use tokio::time::Instant;

use super::*;
use crate::cache_fill::{Abandon, Lookup, Reason, StaleReason};
use crate::kernel::{Fault, RequestContext, RequestId};

#[test]
fn ten_thousand_readers_of_a_cold_key_make_one_load() {
    paused(|| async {
        let source = Source::new();
        let (_tree, cache) = source.start();
        let results = join_all((0..10_000).map(|_| cache.get(&1))).await;
        assert_served(&results[0], 1, Served::Loaded);
        for result in &results[1..] {
            assert_served(result, 1, Served::Joined);
        }
        source.assert_loads(1);
        let stats = cache.stats();
        assert_eq!((stats.loads, stats.joined, stats.in_flight), (1, 9_999, 0));
    });
}

#[test]
fn ten_thousand_readers_of_an_expired_key_make_one_load() {
    paused(|| async {
        let source = Source::new();
        let (_tree, cache) = source.start();
        assert_served(&cache.get(&1).await, 1, Served::Loaded);
        source.write();
        tokio::time::advance(60 * SECOND).await;
        let results = join_all((0..10_000).map(|_| cache.get(&1))).await;
        assert!(results.iter().all(|result| **result.as_ref().expect("a value") == 2));
        source.assert_loads(2);
    });
}

#[test]
fn readers_on_many_threads_make_one_load() {
    let source = Source::new();
    let system = actix_rt::System::new();
    let (_tree, cache) = system.block_on(async { source.start() });
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let cache = cache.clone();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_time()
                    .build()
                    .expect("a runtime");
                runtime.block_on(async {
                    join_all((0..500).map(|_| cache.get(&1)))
                        .await
                        .iter()
                        .filter(|got| got.is_ok())
                        .count()
                })
            })
        })
        .collect();
    let served: usize = system.block_on(async {
        // The loads run on this thread, so it must not block on the others.
        while !threads.iter().all(std::thread::JoinHandle::is_finished) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
    });
    assert_eq!(served, 2_000);
    source.assert_loads(1);
}

#[test]
fn a_hit_is_ready_at_once_and_a_miss_is_not() {
    paused(|| async {
        let (_tree, cache) = Source::new().start();
        assert!(cache.get(&1).now_or_never().is_none());
        settle().await;
        advance(SECOND).await;
        let hit = cache.get(&1).now_or_never().expect("ready");
        assert_served(&hit, 1, Served::Fresh);
    });
}

#[test]
fn a_read_can_be_sent_to_any_task_and_outlive_its_handle() {
    fn assert_sendable<T: Send + 'static>(value: T) -> T {
        value
    }
    paused(|| async {
        let source = Source::new();
        let (_tree, cache) = source.start();
        let read = assert_sendable(cache.get(&1));
        drop(assert_sendable(cache));
        assert_served(&tokio::spawn(read).await.expect("no panic"), 1, Served::Loaded);
    });
}

#[test]
fn a_read_looks_into_the_store_again_before_it_loads() {
    paused(|| async {
        let source = Source::new();
        let (_tree, cache) = source.start();
        let slow_starter = cache.get(&1);
        assert_served(&cache.get(&1).await, 1, Served::Loaded);
        assert_served(&slow_starter.await, 1, Served::Fresh);
        source.assert_loads(1);
    });
}

#[test]
fn a_loader_that_cancels_its_own_token_ends_what_it_spawned_and_not_its_load() {
    paused(|| async {
        let loader = |key: u64, cx: FillCtx<u64>| async move {
            cx.cancel_token().cancel();
            tokio::time::sleep(SECOND).await;
            Ok::<_, io::Error>(Loaded::value(key))
        };
        let cache = Cache::builder("own", loader).start(&Tree::new()).expect("valid settings");
        assert_served(&cache.get(&1).await, 1, Served::Loaded);
    });
}

#[test]
fn age_counts_from_when_the_value_was_stored() {
    paused(|| async {
        let (_tree, cache) = Source::new().start();
        assert_eq!(cache.get(&1).await.expect("a value").age, Duration::ZERO);
        advance(7 * SECOND).await;
        assert_eq!(cache.get(&1).await.expect("a value").age, 7 * SECOND);
    });
}

#[test]
fn a_value_is_fresh_until_its_ttl_and_not_a_moment_longer() {
    paused(|| async {
        let source = Source::new();
        let (_tree, cache) = source.start();
        assert_served(&cache.get(&1).await, 1, Served::Loaded);
        advance(60 * SECOND - Duration::from_millis(1)).await;
        assert_served(&cache.get(&1).await, 1, Served::Fresh);
        advance(Duration::from_millis(1)).await;
        assert_served(&cache.get(&1).await, 1, Served::Loaded);
    });
}

#[test]
fn jitter_only_ever_shortens_the_ttl() {
    paused(|| async {
        let (_tree, cache) = Source::new().start_with(|builder| builder.jitter(0.5));
        for key in 0..200 {
            cache.insert(key, key);
        }
        advance(30 * SECOND - Duration::from_millis(1)).await;
        let fresh = |key: &u64| matches!(cache.try_get(key), Lookup::Fresh(_));
        assert_eq!((0..200).filter(fresh).count(), 200);
        advance(15 * SECOND).await;
        let half_way = (0..200).filter(fresh).count();
        assert!((50..150).contains(&half_way), "spread, not together: {half_way}");
        advance(15 * SECOND + Duration::from_millis(1)).await;
        assert_eq!((0..200).filter(fresh).count(), 0);
    });
}

#[test]
fn the_first_reader_leaves_at_any_moment_and_the_others_get_the_value() {
    for steps in 0..12 {
        paused(|| async move {
            let source = Source::new();
            let (_tree, cache) = source.start();
            let mut first = Box::pin(cache.get(&1));
            assert!((&mut first).now_or_never().is_none());
            let others: Vec<_> = (0..20).map(|_| spawn_local(cache.get(&1))).collect();
            for _ in 0..steps {
                yield_now().await;
                tokio::time::advance(Duration::from_millis(100)).await;
            }
            drop(first);
            for other in others {
                assert_served(&other.await.expect("no panic"), 1, Served::Joined);
            }
            source.assert_loads(1);
        });
    }
}

#[test]
fn a_load_that_everybody_left_fills_the_cache() {
    paused(|| async {
        let source = Source::new();
        let (_tree, cache) = source.start();
        assert!(cache.get(&1).now_or_never().is_none());
        settle().await;
        advance(SECOND).await;
        assert_served(&cache.get(&1).await, 1, Served::Fresh);
        source.assert_loads(1);
    });
}

#[test]
fn cancel_after_drops_a_load_that_nobody_wants_and_frees_its_key() {
    paused(|| async {
        let source = Source::new();
        let grace = Duration::from_millis(300);
        let (_tree, cache) =
            source.start_with(|builder| builder.on_no_waiters(Abandon::CancelAfter(grace)));
        assert!(cache.get(&1).now_or_never().is_none());
        settle().await;
        assert_eq!(source.0.running.load(Ordering::SeqCst), 1);
        advance(grace - Duration::from_millis(1)).await;
        assert_eq!(source.0.running.load(Ordering::SeqCst), 1, "within the grace");
        advance(Duration::from_millis(2)).await;
        assert_eq!(source.0.running.load(Ordering::SeqCst), 0, "past the grace");
        assert!(cache.flights().is_empty());
        assert_served(&cache.get(&1).await, 1, Served::Loaded);
        source.assert_loads(2);
    });
}

#[test]
fn a_reader_who_comes_within_the_grace_keeps_the_load() {
    paused(|| async {
        let source = Source::new();
        let (_tree, cache) =
            source.start_with(|builder| builder.on_no_waiters(Abandon::CancelAfter(SECOND / 2)));
        assert!(cache.get(&1).now_or_never().is_none());
        settle().await;
        advance(SECOND / 4).await;
        assert_served(&cache.get(&1).await, 1, Served::Joined);
        source.assert_loads(1);
    });
}

#[test]
fn each_reader_waits_for_as_long_as_it_said() {
    paused(|| async {
        let source = Source::new();
        let (_tree, cache) = source.start();
        let began = Instant::now();
        let patient = spawn_local(cache.get(&1));
        settle().await;
        for wait in [1, 10, 500] {
            let (wait, now) = (Duration::from_millis(wait), Instant::now());
            let refused = cache.get(&1).wait(wait).await.expect_err("too early");
            assert_eq!(refused.code().as_str(), "cache_fill.wait_timeout");
            assert_eq!(now.elapsed(), wait);
        }
        assert_served(&cache.get(&1).wait(SECOND).await, 1, Served::Joined);
        assert_served(&patient.await.expect("no panic"), 1, Served::Loaded);
        assert_eq!(began.elapsed(), SECOND);
        source.assert_loads(1);
    });
}

#[test]
fn an_absolute_deadline_and_the_requests_own_bound_the_wait() {
    paused(|| async {
        let (_tree, cache) = Source::new().start();
        let soon = Instant::now() + SECOND / 10;
        let result = cache.get(&1).deadline(soon).wait(SECOND).await;
        assert!(matches!(result, Err(FillError::WaitTimeout { .. })), "{result:?}");
        let request =
            RequestContext::new(RequestId::generate()).with_deadline(Instant::now() + SECOND / 10);
        let result = request.scope(cache.get(&1)).await;
        assert!(matches!(result, Err(FillError::WaitTimeout { .. })), "{result:?}");
        assert_served(&cache.get(&1).await, 1, Served::Joined);
    });
}

#[test]
fn a_load_has_its_starters_request_id_and_neither_deadline_nor_cancellation() {
    paused(|| async {
        let seen: Arc<Mutex<Vec<(RequestId, bool, bool)>>> = Arc::default();
        let notes = Arc::clone(&seen);
        let loader = move |key: u64, cx: FillCtx<u64>| {
            let notes = Arc::clone(&notes);
            async move {
                tokio::time::sleep(SECOND).await;
                let ambient = RequestContext::current().expect("a request");
                assert_eq!(cx.request().map(RequestContext::id), Some(ambient.id()));
                assert_eq!(cx.reason(), Reason::Miss);
                let cancelled = ambient.cancel_token().is_cancelled();
                let bounded = ambient.deadline().is_some();
                notes.lock().push((ambient.id().clone(), bounded, cancelled));
                Ok::<_, io::Error>(Loaded::value(key))
            }
        };
        let tree = Tree::new();
        let cache = Cache::builder("ids", loader).start(&tree).expect("valid settings");
        let request =
            RequestContext::new(RequestId::generate()).with_deadline(Instant::now() + SECOND / 10);
        let starter = request.clone().scope(cache.get(&1)).await;
        assert!(matches!(starter, Err(FillError::WaitTimeout { .. })));
        request.cancel(crate::kernel::Stopped::ClientGone);
        assert!(cache.get(&1).await.is_ok());
        assert_eq!(*seen.lock(), [(request.id().clone(), false, false)]);
    });
}

#[test]
fn an_old_value_is_served_at_once_while_one_load_renews_it() {
    paused(|| async {
        let source = Source::new();
        let (_tree, cache) =
            source.start_with(|builder| builder.stale_while_revalidate(10 * SECOND));
        assert_served(&cache.get(&1).await, 1, Served::Loaded);
        source.write();
        advance(60 * SECOND).await;
        let stale = Served::Stale(StaleReason::Revalidating);
        for _ in 0..100 {
            let hit = cache.get(&1).now_or_never().expect("at once");
            assert_served(&hit, 1, stale);
        }
        advance(SECOND).await;
        assert_served(&cache.get(&1).await, 2, Served::Fresh);
        source.assert_loads(2);
        assert_eq!(cache.stats().stale, 100);
    });
}

#[test]
fn past_the_stale_window_readers_wait_for_the_load() {
    paused(|| async {
        let source = Source::new();
        let (_tree, cache) =
            source.start_with(|builder| builder.stale_while_revalidate(10 * SECOND));
        assert_served(&cache.get(&1).await, 1, Served::Loaded);
        source.write();
        advance(70 * SECOND).await;
        assert_served(&cache.get(&1).await, 2, Served::Loaded);
    });
}

#[test]
fn refresh_loads_although_the_value_is_fresh_and_is_shared() {
    paused(|| async {
        let source = Source::new();
        let (_tree, cache) = source.start();
        assert_served(&cache.get(&1).await, 1, Served::Loaded);
        source.write();
        let both = tokio::join!(cache.refresh(&1), cache.refresh(&1));
        assert_served(&both.0, 2, Served::Loaded);
        assert_served(&both.1, 2, Served::Joined);
        assert_served(&cache.get(&1).await, 2, Served::Fresh);
        source.assert_loads(2);
    });
}

#[test]
fn not_modified_keeps_the_value_and_renews_its_ttl() {
    paused(|| async {
        let source = Source::new();
        let (_tree, cache) = source.start();
        assert_served(&cache.get(&1).await, 1, Served::Loaded);
        source.write();
        source.is(Mood::Unchanged);
        advance(60 * SECOND).await;
        assert_served(&cache.get(&1).await, 1, Served::Loaded);
        advance(59 * SECOND).await;
        assert_served(&cache.get(&1).await, 1, Served::Fresh);
        assert_eq!(*source.0.previous.lock(), [None, Some(1)]);
        let error = cache.get(&2).await.expect_err("nothing to keep");
        assert_eq!(error.code().as_str(), "cache_fill.loader_failed");
    });
}

#[test]
fn peek_and_try_get_never_load() {
    paused(|| async {
        let source = Source::new();
        let (_tree, cache) = source.start_with(|builder| builder.stale_if_error(10 * SECOND));
        assert!(matches!(cache.try_get(&1), Lookup::Miss));
        assert!(cache.peek(&1).is_none());
        cache.insert(1, 7);
        assert!(matches!(cache.try_get(&1), Lookup::Fresh(hit) if *hit == 7));
        advance(60 * SECOND).await;
        assert!(matches!(cache.try_get(&1), Lookup::Stale(hit) if *hit == 7));
        assert_eq!(cache.peek(&1).map(|hit| hit.served), Some(Served::Stale(StaleReason::Unasked)));
        advance(10 * SECOND).await;
        assert!(cache.peek(&1).is_none());
        source.assert_loads(0);
    });
}

#[test]
fn text_keys_are_looked_up_by_str() {
    paused(|| async {
        async fn length(key: String, _: FillCtx<usize>) -> Result<Loaded<usize>, io::Error> {
            Ok(Loaded::value(key.len()))
        }
        let cache = Cache::builder("text", length).start(&Tree::new()).expect("valid settings");
        assert_eq!(*cache.get("four").await.expect("a value"), 4);
        assert!(cache.invalidate("four"));
        assert!(cache.peek("four").is_none());
    });
}

#[test]
fn flights_tell_what_is_under_way() {
    paused(|| async {
        let (_tree, cache) = Source::new().start();
        let readers: Vec<_> = (0..3).map(|_| spawn_local(cache.get(&9))).collect();
        settle().await;
        advance(SECOND / 2).await;
        let flights = cache.flights();
        assert_eq!(flights.len(), 1);
        let flight = &flights[0];
        assert_eq!((flight.key, flight.reason, flight.waiters), (9, Reason::Miss, 3));
        assert!(flight.running);
        assert_eq!(flight.age, SECOND / 2);
        assert_eq!(cache.actor().depth(), 1, "the tree shows it too");
        for reader in readers {
            assert!(reader.await.expect("no panic").is_ok());
        }
        assert!(cache.flights().is_empty());
        settle().await;
        assert_eq!(cache.actor().depth(), 0);
    });
}

//! Sources that fail, and actors that do.

use std::error::Error as _;

use actix::{Handler, Message};
use futures_util::FutureExt;
use futures_util::future::join_all;
use tokio::task::spawn_local;
use tokio::time::Instant;

use super::*;
use crate::cache_fill::{CacheFill, Meta, StaleReason};
use crate::kernel::{ActorState, Context, Fault, RequestContext, RequestId};

/// What makes the actor itself panic.
#[derive(Message)]
#[rtype(result = "()")]
struct Poison;

impl Handler<Poison> for CacheFill<u64, u64> {
    type Result = ();

    fn handle(&mut self, _: Poison, _: &mut Context<Self>) {
        panic!("poisoned");
    }
}

#[test]
fn an_error_reaches_all_waiters_and_nobody_loads_again() {
    paused(|| async {
        let source = Source::new();
        source.is(Mood::Failing);
        let (_tree, cache) = source.start();
        let results = join_all((0..500).map(|_| cache.get(&1))).await;
        for result in &results {
            let error = result.as_ref().expect_err("the source is down");
            assert_eq!(error.code().as_str(), "cache_fill.loader_failed");
            assert_eq!(error.source().expect("a cause").to_string(), "the source is down");
        }
        source.assert_loads(1);
        assert_eq!(cache.stats().failed, 1);
    });
}

#[test]
fn a_panic_reaches_all_waiters_and_frees_the_key() {
    paused(|| async {
        let source = Source::new();
        source.is(Mood::Panicking);
        let (_tree, cache) =
            source.start_with(|builder| builder.cooldown(Duration::ZERO, Duration::ZERO));
        let results = join_all((0..100).map(|_| cache.get(&1))).await;
        for result in results {
            let Err(FillError::Panicked(text)) = result else { panic!("not a panic: {result:?}") };
            assert_eq!(&*text, "the loader slipped");
        }
        source.is(Mood::Well);
        assert_served(&cache.get(&1).await, 1, Served::Loaded);
        assert_eq!(cache.actor().info().restarts, 0, "the actor has nothing to do with it");
    });
}

#[test]
fn a_loader_that_never_answers_is_given_up_after_max_fill_time() {
    paused(|| async {
        let source = Source::new();
        source.is(Mood::Hanging);
        let (_tree, cache) = source.start_with(|builder| {
            builder.max_fill_time(5 * SECOND).cooldown(Duration::ZERO, Duration::ZERO)
        });
        let began = Instant::now();
        let error = cache.get(&1).await.expect_err("it hangs");
        assert_eq!(error.code().as_str(), "cache_fill.fill_timeout");
        assert_eq!(began.elapsed(), 5 * SECOND);
        assert_eq!(source.0.running.load(Ordering::SeqCst), 0, "dropped");
        source.is(Mood::Well);
        assert_served(&cache.get(&1).await, 1, Served::Loaded);
    });
}

#[test]
fn a_late_joiner_waits_for_the_loads_time_not_for_its_own_full_limit() {
    paused(|| async {
        let source = Source::new();
        source.is(Mood::Hanging);
        let (_tree, cache) = source.start_with(|builder| builder.max_fill_time(5 * SECOND));
        let first = spawn_local(cache.get(&1));
        settle().await;
        advance(4 * SECOND).await;
        let joined = Instant::now();
        assert!(matches!(cache.get(&1).await, Err(FillError::FillTimeout { .. })));
        assert_eq!(joined.elapsed(), SECOND);
        assert!(first.await.expect("no panic").is_err());
    });
}

#[test]
fn while_a_key_cools_down_the_source_is_left_alone_and_then_one_load_tries() {
    paused(|| async {
        let source = Source::new();
        source.is(Mood::FailingFor(10 * SECOND));
        let (_tree, cache) = source.start();
        assert!(cache.get(&1).await.is_err());
        for _ in 0..9 {
            let error = cache.get(&1).now_or_never().expect("at once").expect_err("cooling");
            assert_eq!(error.code().as_str(), "cache_fill.cooldown");
            let left = error.retry_after().expect("a wait");
            assert!(left > Duration::ZERO && left <= 10 * SECOND, "{left:?}");
            assert!(error.source().is_some(), "the last failure");
            advance(SECOND).await;
        }
        source.assert_loads(1);
        advance(SECOND).await;
        let results = join_all((0..100).map(|_| cache.get(&1))).await;
        assert!(results.iter().all(Result::is_err));
        source.assert_loads(2);
        advance(10 * SECOND).await;
        source.is(Mood::Well);
        assert_served(&cache.get(&1).await, 1, Served::Loaded);
        assert_eq!(*source.0.attempts.lock(), [1, 2, 3]);
        cache.invalidate(&1);
        assert_served(&cache.get(&1).await, 1, Served::Loaded);
        assert_eq!(source.0.attempts.lock().last(), Some(&1), "success forgets the failures");
    });
}

#[test]
fn an_inserted_value_ends_the_cool_down() {
    paused(|| async {
        let source = Source::new();
        source.is(Mood::FailingFor(100 * SECOND));
        let (_tree, cache) = source.start();
        assert!(cache.get(&1).await.is_err());
        cache.insert_with(1, 5, &Meta::default().ttl(SECOND));
        source.is(Mood::Well);
        assert_served(&cache.get(&1).await, 5, Served::Fresh);
        advance(SECOND).await;
        assert_served(&cache.get(&1).await, 1, Served::Loaded);
    });
}

#[test]
fn an_old_value_stands_in_for_every_kind_of_failure() {
    let moods = [
        (Mood::Failing, StaleReason::LoadFailed),
        (Mood::Panicking, StaleReason::LoadFailed),
        (Mood::Hanging, StaleReason::LoadFailed),
    ];
    for (mood, reason) in moods {
        paused(|| async move {
            let source = Source::new();
            let (_tree, cache) = source.start_with(|builder| {
                builder.stale_if_error(600 * SECOND).cooldown(600 * SECOND, 600 * SECOND)
            });
            assert_served(&cache.get(&1).await, 1, Served::Loaded);
            source.is(mood);
            advance(60 * SECOND).await;
            let early = cache.get(&1).wait(SECOND / 10).await;
            assert_served(&early, 1, Served::Stale(StaleReason::WaitTimeout));
            assert_served(&cache.get(&1).await, 1, Served::Stale(reason));
            // A pause drawn as zero lets the next read load again.
            let next = cache.get(&1).await.expect("old").served;
            let cooling = Served::Stale(StaleReason::Cooldown);
            assert!(next == cooling || next == Served::Stale(reason), "{next:?}");
        });
    }
}

#[test]
fn past_the_error_window_the_error_is_told() {
    paused(|| async {
        let source = Source::new();
        let (_tree, cache) = source.start_with(|builder| builder.stale_if_error(10 * SECOND));
        assert_served(&cache.get(&1).await, 1, Served::Loaded);
        source.is(Mood::FailingFor(3 * SECOND));
        advance(60 * SECOND).await;
        assert_served(&cache.get(&1).await, 1, Served::Stale(StaleReason::LoadFailed));
        advance(10 * SECOND).await;
        assert!(cache.get(&1).await.is_err());
    });
}

#[test]
fn a_background_renewal_that_fails_harms_no_reader() {
    paused(|| async {
        let source = Source::new();
        let (_tree, cache) =
            source.start_with(|builder| builder.stale_while_revalidate(60 * SECOND));
        assert_served(&cache.get(&1).await, 1, Served::Loaded);
        source.is(Mood::FailingFor(20 * SECOND));
        advance(60 * SECOND).await;
        assert_served(&cache.get(&1).await, 1, Served::Stale(StaleReason::Revalidating));
        advance(2 * SECOND).await;
        assert_served(&cache.get(&1).await, 1, Served::Stale(StaleReason::Cooldown));
        source.assert_loads(2);
    });
}

#[test]
fn refresh_tells_the_error_and_keeps_the_value() {
    paused(|| async {
        let source = Source::new();
        let (_tree, cache) = source.start_with(|builder| builder.stale_if_error(10 * SECOND));
        assert_served(&cache.get(&1).await, 1, Served::Loaded);
        source.is(Mood::Failing);
        assert!(cache.refresh(&1).await.is_err());
        assert_served(&cache.get(&1).await, 1, Served::Fresh);
    });
}

#[test]
fn the_absence_of_a_value_is_remembered_for_its_own_ttl() {
    paused(|| async {
        let source = Source::new();
        source.is(Mood::Empty);
        let (_tree, cache) = source.start_with(|builder| builder.negative_ttl(5 * SECOND));
        for _ in 0..3 {
            let error = cache.get(&1).await.expect_err("nothing there");
            assert_eq!(error.code().as_str(), "cache_fill.absent");
        }
        source.assert_loads(1);
        source.is(Mood::Well);
        advance(5 * SECOND).await;
        assert_served(&cache.get(&1).await, 1, Served::Loaded);
        let stats = cache.stats();
        assert_eq!((stats.absent, stats.values, stats.absent_hits), (0, 1, 2));
    });
}

#[test]
fn a_value_that_is_gone_at_the_source_is_not_served_as_an_old_one() {
    for negative_ttl in [Duration::ZERO, SECOND] {
        paused(|| async move {
            let source = Source::new();
            let (_tree, cache) = source.start_with(|builder| {
                builder.negative_ttl(negative_ttl).stale_if_error(600 * SECOND)
            });
            assert_served(&cache.get(&1).await, 1, Served::Loaded);
            source.is(Mood::Empty);
            advance(60 * SECOND).await;
            assert!(matches!(cache.get(&1).await, Err(FillError::Absent)));
            assert!(cache.peek(&1).is_none());
        });
    }
}

#[test]
fn a_flood_of_unknown_keys_evicts_no_value() {
    paused(|| async {
        let tree = Tree::new();
        let loader = |key: u64, _: FillCtx<u64>| async move {
            Ok::<_, io::Error>(if key < 100 { Loaded::value(key) } else { Loaded::absent() })
        };
        let builder = Cache::builder("flood", loader).capacity(256).shards(1).negative_share(0.25);
        let cache = builder.start(&tree).expect("valid settings");
        for key in 0..5_000 {
            assert_eq!(cache.get(&key).await.is_ok(), key < 100);
        }
        let stats = cache.stats();
        assert_eq!((stats.values, stats.absent, stats.evicted), (100, 64, 0));
    });
}

#[test]
fn loads_outlive_a_restart_of_the_actor() {
    paused(|| async {
        let source = Source::new();
        let (_tree, cache) = source.start();
        let reader = spawn_local(cache.get(&1));
        settle().await;
        cache.actor().tell(Poison).expect("accepted");
        settle().await;
        assert_served(&cache.get(&1).await, 1, Served::Joined);
        assert_served(&reader.await.expect("no panic"), 1, Served::Loaded);
        source.assert_loads(1);
        assert_eq!(cache.actor().info().failures, 1);
    });
}

#[test]
fn loads_asked_for_while_the_actor_is_down_run_when_it_is_back() {
    paused(|| async {
        let source = Source::new();
        let (_tree, cache) = source.start();
        cache.actor().tell(Poison).expect("accepted");
        let results = join_all((0..50).map(|key| cache.get(&(key % 5)))).await;
        assert!(results.iter().all(Result::is_ok), "{results:?}");
        source.assert_loads(5);
    });
}

#[test]
fn a_load_queued_behind_a_restart_outlives_the_deadline_of_who_asked_for_it() {
    paused(|| async {
        let source = Source::new();
        let (_tree, cache) = source.start();
        cache.actor().call(Poison).await.expect_err("it panics");
        let request = RequestContext::new(RequestId::generate()).with_deadline(Instant::now());
        let hasty = request.scope(cache.get(&1)).await;
        assert!(matches!(hasty, Err(FillError::WaitTimeout { .. })), "{hasty:?}");
        assert_eq!(cache.flights().len(), 1);
        assert_served(&cache.get(&1).await, 1, Served::Joined);
        source.assert_loads(1);
    });
}

#[test]
fn loads_that_a_resting_actor_dropped_are_asked_for_once_more_and_then_refused() {
    paused(|| async {
        let source = Source::new();
        let (tree, cache) = source.start();
        for _ in 0..6 {
            cache.actor().tell(Poison).expect("accepted");
        }
        let reads = join_all((0..10).map(|key| cache.get(&(key % 2))));
        let results = tokio::time::timeout(600 * SECOND, reads).await.expect("nobody is forgotten");
        assert!(tree.dead_letters().total() > 0, "the loads were queued and dropped");
        for result in results {
            assert!(matches!(result, Err(FillError::Overloaded { .. })), "{result:?}");
        }
        assert!(cache.flights().is_empty());
        source.assert_loads(0);
    });
}

#[test]
fn a_resting_actor_serves_what_is_stored_and_refuses_the_rest_with_a_wait() {
    paused(|| async {
        let source = Source::new();
        let (_tree, cache) = source.start_with(|builder| builder.stale_if_error(600 * SECOND));
        assert_served(&cache.get(&1).await, 1, Served::Loaded);
        for _ in 0..6 {
            cache.actor().tell(Poison).expect("accepted");
        }
        cache.actor().watch().reached(ActorState::Quarantined).await;
        assert_served(&cache.get(&1).await, 1, Served::Fresh);
        let error = cache.get(&2).await.expect_err("no actor");
        assert_eq!(error.code().as_str(), "cache_fill.overloaded");
        assert!(error.retry_after().is_some_and(|wait| wait > SECOND));
        cache.expire(&1);
        assert_served(&cache.get(&1).await, 1, Served::Stale(StaleReason::Overloaded));
        assert!(cache.flights().is_empty());
        advance(31 * SECOND).await;
        cache.actor().watch().reached(ActorState::Running).await;
        assert_served(&cache.get(&2).await, 1, Served::Loaded);
    });
}

#[test]
fn a_stop_waits_for_loads_and_then_refuses_new_ones() {
    paused(|| async {
        let source = Source::new();
        let (tree, cache) = source.start();
        let reader = spawn_local(cache.get(&1));
        settle().await;
        assert!(tree.stop(10 * SECOND).await.is_clean());
        assert_served(&reader.await.expect("no panic"), 1, Served::Loaded);
        assert_served(&cache.get(&1).await, 1, Served::Fresh);
        assert!(matches!(cache.get(&2).await, Err(FillError::Closed)));
        assert!(matches!(cache.refresh(&1).await, Err(FillError::Closed)));
    });
}

#[test]
fn a_stop_that_cannot_wait_tells_the_waiters() {
    paused(|| async {
        let source = Source::new();
        source.is(Mood::Hanging);
        let (tree, cache) = source.start_with(|builder| builder.max_fills(1));
        let readers: Vec<_> = (0..3).map(|key| spawn_local(cache.get(&key))).collect();
        settle().await;
        assert_eq!(tree.stop(2 * SECOND).await.unfinished.len(), 1);
        for reader in readers {
            assert!(matches!(reader.await.expect("no panic"), Err(FillError::Closed)));
        }
        assert_eq!(source.0.running.load(Ordering::SeqCst), 0, "dropped");
        assert!(cache.flights().is_empty());
    });
}

#[test]
fn readers_elsewhere_are_told_when_the_loads_runtime_ends() {
    let source = Source::new();
    source.is(Mood::Hanging);
    let loads =
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let local = LocalSet::new();
    let cache = local.block_on(&loads, async {
        let (_tree, cache) = source.start_with(|builder| builder.max_fills(1));
        for key in 0..3 {
            assert!(cache.get(&key).now_or_never().is_none());
        }
        settle().await;
        cache
    });
    assert_eq!((cache.stats().running, cache.stats().queued), (1, 2));
    let reader = cache.clone();
    let waiting = std::thread::spawn(move || {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(join_all((0..3).map(|key| reader.get(&key).wait(20 * SECOND))))
    });
    while cache.flights().iter().map(|flight| flight.waiters).sum::<usize>() < 3 {
        std::thread::yield_now();
    }
    drop(local);
    drop(loads);
    for result in waiting.join().expect("no panic") {
        let error = result.expect_err("the loads are gone");
        assert!(matches!(error, FillError::Closed | FillError::Aborted), "{error:?}");
    }
    assert!(cache.flights().is_empty());
}

#[test]
fn every_error_has_its_own_code() {
    let last = Arc::new(FillError::Aborted);
    let errors = [
        FillError::Absent,
        FillError::Loader(Arc::new(io::Error::other("x"))),
        FillError::Panicked("x".into()),
        FillError::FillTimeout { limit: SECOND },
        FillError::WaitTimeout { flight: crate::cache_fill::FlightId::next() },
        FillError::Cooldown { retry_after: SECOND, last },
        FillError::Overloaded { retry_after: SECOND },
        FillError::Recursion,
        FillError::Aborted,
        FillError::Closed,
    ];
    let mut codes: Vec<_> = errors.iter().map(|error| error.code().as_str()).collect();
    assert!(codes.iter().all(|code| code.starts_with("cache_fill.")));
    codes.sort_unstable();
    codes.dedup();
    assert_eq!(codes.len(), errors.len());
}

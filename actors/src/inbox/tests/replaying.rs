//! What is dead, ignored or unparsable, and comes back.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;
use crate::jobs::QueueSpec;
use crate::store::{Timestamp, WallClock};

on_each_database! {
    an_event_whose_handler_panics_is_dead_and_replayed_after_the_fix,
    an_event_nobody_handles_is_kept_and_handled_once_somebody_does,
    an_event_that_could_not_be_read_is_read_again_by_a_replay,
    only_what_the_filter_means_is_replayed,
    two_replays_at_once_handle_each_event_once,
    a_job_of_an_event_that_was_replayed_has_nothing_to_say,
    a_process_that_does_not_handle_a_type_leaves_its_events_to_those_that_do,
    an_event_that_nobody_handles_for_an_hour_is_ignored,
}

const EVENT: &str = r#"{"id":"e1","type":"paid"}"#;

async fn an_event_whose_handler_panics_is_dead_and_replayed_after_the_fix(base: Base) {
    let store = base.open().await;
    let (runs, fixed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let (counted, is_fixed) = (Arc::clone(&runs), Arc::clone(&fixed));
    let judge = move |_: &StoredEvent| {
        counted.fetch_add(1, Ordering::SeqCst);
        assert!(is_fixed.load(Ordering::SeqCst), "the handler is broken");
        Ok(())
    };
    let bench = base.bench(|inbox| leaves_effects_if(inbox.max_attempts(3), &store, judge)).await;
    let id = bench.send(EVENT).await.id;
    bench.reaches(id, EventState::Dead).await;
    assert_eq!(runs.load(Ordering::SeqCst), 3);
    assert!(bench.send(EVENT).await.duplicate, "sent again, it stays dead");
    assert_eq!(bench.inbox.states().await.unwrap().get("dead"), Some(&1));
    fixed.store(true, Ordering::SeqCst);
    let dead = EventFilter::new(EventState::Dead);
    let dry = bench.inbox.replay(Replay::new(dead.clone()).dry_run()).await.unwrap();
    assert_eq!((dry.selected, dry.replayed, dry.last), (1, 0, Some(id)));
    assert_eq!(bench.info(id).await.state, EventState::Dead, "a dry run changes nothing");
    let replayed = bench.inbox.replay(Replay::new(dead)).await.unwrap();
    assert_eq!((replayed.selected, replayed.replayed), (1, 1));
    let info = bench.reaches(id, EventState::Done).await;
    assert_eq!((info.replays, info.duplicates), (1, 1));
    assert_eq!(bench.effects().await, ["e1"]);
    bench.stop().await;
    store.close().await;
}

async fn an_event_nobody_handles_is_kept_and_handled_once_somebody_does(base: Base) {
    let bench = base.bench(|inbox| inbox.on(SHOP, "other", |_, _| async { Ok(()) })).await;
    let id = bench.send(EVENT).await.id;
    let info = bench.info(id).await;
    assert_eq!((info.state, info.job), (EventState::Ignored, None));
    assert_eq!(bench.counts().ignored, 1);
    let ignored = || Replay::new(EventFilter::new(EventState::Ignored));
    // Replayed while nobody handles it, it is ignored again.
    assert_eq!(bench.inbox.replay(ignored()).await.unwrap().replayed, 1);
    let info = bench.reaches(id, EventState::Ignored).await;
    assert_eq!(info.replays, 1);
    bench.stop().await;
    let store = base.open().await;
    let bench = base.bench(|inbox| leaves_effects(inbox, &store)).await;
    assert_eq!(bench.info(id).await.state, EventState::Ignored, "not by itself");
    assert_eq!(bench.inbox.replay(ignored()).await.unwrap().replayed, 1);
    bench.reaches(id, EventState::Done).await;
    assert_eq!(bench.effects().await, ["e1"]);
    bench.stop().await;
    store.close().await;
}

async fn an_event_that_could_not_be_read_is_read_again_by_a_replay(base: Base) {
    let bench = base.bench(|inbox| inbox).await;
    let id = bench.send(r#"{"id":"e1","kind":"paid"}"#).await.id;
    let broken = bench.send("{").await.id;
    assert_eq!(bench.info(id).await.reason.as_deref(), Some("no_type"));
    bench.stop().await;
    let store = base.open().await;
    let place = |path: &'static str| Place::Pointer(path.into());
    let envelope = Envelope::new(place("/id"), place("/kind"));
    let bench = base
        .bench(|inbox| {
            // In the place of the source that read it wrongly.
            let mut inbox = leaves_effects(inbox, &store);
            inbox.replace_source(Source::unverified(SHOP, envelope));
            inbox
        })
        .await;
    let unparsable = Replay::new(EventFilter::new(EventState::Unparsable));
    let replayed = bench.inbox.replay(unparsable).await.unwrap();
    assert_eq!((replayed.selected, replayed.replayed), (2, 1));
    let info = bench.reaches(id, EventState::Done).await;
    assert_eq!((info.event_type.as_deref(), info.reason), (Some("paid"), None));
    assert_eq!(bench.info(broken).await.state, EventState::Unparsable);
    assert_eq!(bench.effects().await, ["e1"]);
    bench.stop().await;
    store.close().await;
}

async fn only_what_the_filter_means_is_replayed(base: Base) {
    let other = Source::unverified("other", Envelope::common());
    let bench = base.bench(|inbox| inbox.source(other)).await;
    let mut ids = Vec::new();
    for (id, event_type) in [("1", "a"), ("2", "b"), ("3", "a"), ("4", "a")] {
        let body = format!(r#"{{"id":"{id}","type":"{event_type}"}}"#);
        ids.push(bench.send(body).await.id);
    }
    let body = Bytes::from_static(br#"{"id":"1","type":"a"}"#);
    bench.inbox.receive("other", &Headers::default(), body).await.unwrap();
    let ignored = || EventFilter::new(EventState::Ignored);
    let selected = async |filter: EventFilter| {
        let found = bench.inbox.list(filter.clone()).await.unwrap();
        let dry = bench.inbox.replay(Replay::new(filter).dry_run()).await.unwrap();
        assert_eq!(dry.selected, found.len() as u64);
        found.len()
    };
    assert_eq!(selected(ignored()).await, 5);
    assert_eq!(selected(ignored().source(SHOP)).await, 4);
    assert_eq!(selected(ignored().source(SHOP).event_type("a")).await, 3);
    assert_eq!(selected(ignored().source(SHOP).event_type("a").after(ids[0])).await, 2);
    assert_eq!(selected(ignored().source("nobody")).await, 0);
    assert_eq!(selected(EventFilter::new(EventState::Done)).await, 0);
    let received_at = bench.info(ids[0]).await.received_at;
    assert_eq!(selected(ignored().received_until(received_at)).await, 0);
    assert_eq!(selected(ignored().received_from(received_at)).await, 5);
    let later = Timestamp(received_at.0 + 3_600_000);
    assert_eq!(selected(ignored().received_from(later)).await, 0);
    let waiting = Replay::new(EventFilter::new(EventState::Received));
    assert!(bench.inbox.replay(waiting).await.is_err());
    bench.stop().await;
}

async fn two_replays_at_once_handle_each_event_once(base: Base) {
    let bench = base.bench(|inbox| inbox).await;
    for id in 0..20 {
        bench.send(format!(r#"{{"id":"{id}","type":"paid"}}"#)).await;
    }
    bench.stop().await;
    let store = base.open().await;
    let bench = base.bench(|inbox| leaves_effects(inbox, &store)).await;
    let replay = || Replay::new(EventFilter::new(EventState::Ignored)).per_second(1_000);
    let (one, two) = tokio::join!(bench.inbox.replay(replay()), bench.inbox.replay(replay()));
    assert_eq!(one.unwrap().replayed + two.unwrap().replayed, 20);
    let done = async || {
        let states = bench.inbox.states().await.unwrap();
        (states.get("done") == Some(&20)).then_some(())
    };
    eventually(done, "all are done").await;
    let mut effects = bench.effects().await;
    effects.sort_by_key(|id| id.parse::<u32>().unwrap());
    assert!(effects.iter().eq((0..20).map(|id| id.to_string()).collect::<Vec<_>>().iter()));
    bench.stop().await;
    store.close().await;
}

async fn a_job_of_an_event_that_was_replayed_has_nothing_to_say(base: Base) {
    let store = base.open().await;
    let fails = Arc::new(AtomicBool::new(true));
    let failing = Arc::clone(&fails);
    let judge = move |_: &StoredEvent| {
        if failing.load(Ordering::SeqCst) {
            return Err(crate::jobs::JobError::discard("not yet"));
        }
        Ok(())
    };
    let bench = base.bench(|inbox| leaves_effects_if(inbox, &store, judge)).await;
    let id = bench.send(EVENT).await.id;
    let first = bench.reaches(id, EventState::Dead).await.job.unwrap();
    fails.store(false, Ordering::SeqCst);
    let dead = Replay::new(EventFilter::new(EventState::Dead));
    bench.inbox.replay(dead).await.unwrap();
    let info = bench.reaches(id, EventState::Done).await;
    assert_ne!(info.job, Some(first));
    // An operator brings the first job back as well.
    assert!(bench.jobs.retry(first).await.unwrap());
    let done = async || {
        let job = bench.jobs.find(first).await.unwrap().unwrap();
        (job.state == crate::jobs::JobState::Done).then_some(())
    };
    eventually(done, "the first job is over").await;
    assert_eq!(bench.effects().await, ["e1"]);
    bench.stop().await;
    store.close().await;
}

/// Receives an event that has a handler, in a process that does no work.
async fn received(base: &Base) -> InboxId {
    let idle = |jobs: JobsBuilder| jobs.queue(QueueSpec::new("inbox").workers(0));
    let bench =
        base.bench_with(idle, |inbox| inbox.on(SHOP, "paid", |_, _| async { Ok(()) })).await;
    let id = bench.send(EVENT).await.id;
    bench.stop().await;
    id
}

async fn a_process_that_does_not_handle_a_type_leaves_its_events_to_those_that_do(base: Base) {
    let id = received(&base).await;
    let old = base.bench(|inbox| inbox).await;
    let left = async || (old.counts().waited > 0).then_some(());
    eventually(left, "it looks at the event").await;
    let job = old.info(id).await.job.unwrap();
    old.stop().await;
    let store = base.open().await;
    let new = base.bench(|inbox| leaves_effects(inbox, &store)).await;
    assert_eq!(new.info(id).await.state, EventState::Received);
    // It would look again within a minute.
    assert!(new.jobs.retry(job).await.unwrap());
    new.reaches(id, EventState::Done).await;
    assert_eq!(new.effects().await, ["e1"]);
    new.stop().await;
    store.close().await;
}

async fn an_event_that_nobody_handles_for_an_hour_is_ignored(base: Base) {
    let id = received(&base).await;
    let (clock, hand) = WallClock::manual(Timestamp(0));
    let hour = Duration::from_secs(3_600);
    let bench = base.bench_with(
        |jobs| {
            hand.set(WallClock::system().now().after(hour));
            jobs.clock(clock)
        },
        |inbox| inbox,
    );
    let bench = bench.await;
    bench.reaches(id, EventState::Ignored).await;
    bench.stop().await;
}

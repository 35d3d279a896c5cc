//! Events of one subject, one after the other.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;
use crate::jobs::JobError;

on_each_database! {
    events_of_a_subject_are_handled_one_at_a_time_in_the_order_they_came,
    a_subject_waits_for_no_other,
    an_event_that_fails_holds_up_its_subject_until_it_is_dead,
    a_replayed_event_goes_to_the_end_of_its_line,
}

fn serial(inbox: InboxBuilder) -> InboxBuilder {
    let mut inbox = inbox;
    inbox.replace_source(shop().serial_by_subject());
    inbox
}

fn event(id: usize, subject: &str) -> String {
    format!(r#"{{"id":"{subject}{id}","type":"t","subject":"{subject}"}}"#)
}

async fn events_of_a_subject_are_handled_one_at_a_time_in_the_order_they_came(base: Base) {
    let log = Log::default();
    let (seen, running) = (log.clone(), Arc::new(AtomicUsize::new(0)));
    let handler = move |event: StoredEvent, cx: EventCx| {
        let (seen, running) = (seen.clone(), Arc::clone(&running));
        async move {
            assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0, "two at a time");
            sleep(Duration::from_millis(2)).await;
            running.fetch_sub(1, Ordering::SeqCst);
            // The third does not work at once; the others wait for it.
            if &*event.info.event_id == "a2" && cx.job().attempt() == 1 {
                return Err(JobError::retry("not yet"));
            }
            seen.add(&*event.info.event_id);
            Ok(())
        }
    };
    let bench = base.bench(|inbox| serial(inbox).on(SHOP, "t", handler)).await;
    let mut last = InboxId(0);
    for id in 0..8 {
        last = bench.send(event(id, "a")).await.id;
    }
    bench.reaches(last, EventState::Done).await;
    assert_eq!(log.lines(), ["a0", "a1", "a2", "a3", "a4", "a5", "a6", "a7"]);
    let info = bench.info(last).await;
    let job = bench.jobs.find(info.job.unwrap()).await.unwrap().unwrap();
    assert_eq!(job.attempt, 1, "waiting is no attempt");
    bench.stop().await;
}

async fn a_subject_waits_for_no_other(base: Base) {
    let open = Arc::new(AtomicBool::new(false));
    let gate = Arc::clone(&open);
    let handler = move |event: StoredEvent, _| {
        let gate = Arc::clone(&gate);
        async move {
            while event.info.subject.as_deref() == Some("a") && !gate.load(Ordering::SeqCst) {
                sleep(Duration::from_millis(2)).await;
            }
            Ok(())
        }
    };
    let bench = base.bench(|inbox| serial(inbox).on(SHOP, "t", handler)).await;
    let first = bench.send(event(1, "a")).await.id;
    let second = bench.send(event(2, "a")).await.id;
    let other = bench.send(event(1, "b")).await.id;
    let alone = bench.send(r#"{"id":"x","type":"t"}"#).await.id;
    bench.reaches(other, EventState::Done).await;
    bench.reaches(alone, EventState::Done).await;
    for id in [first, second] {
        assert_eq!(bench.info(id).await.state, EventState::Received);
    }
    open.store(true, Ordering::SeqCst);
    bench.reaches(second, EventState::Done).await;
    bench.stop().await;
}

async fn an_event_that_fails_holds_up_its_subject_until_it_is_dead(base: Base) {
    let log = Log::default();
    let seen = log.clone();
    let handler = move |event: StoredEvent, cx: EventCx| {
        seen.add(format!("{}#{}", event.info.event_id, cx.job().attempt()));
        let fails = &*event.info.event_id == "a0";
        async move { if fails { Err(JobError::retry("never")) } else { Ok(()) } }
    };
    let bench = base.bench(|inbox| serial(inbox).max_attempts(3).on(SHOP, "t", handler)).await;
    let first = bench.send(event(0, "a")).await.id;
    let second = bench.send(event(1, "a")).await.id;
    bench.reaches(second, EventState::Done).await;
    assert_eq!(bench.info(first).await.state, EventState::Dead);
    assert_eq!(log.lines(), ["a0#1", "a0#2", "a0#3", "a1#1"]);
    bench.stop().await;
}

async fn a_replayed_event_goes_to_the_end_of_its_line(base: Base) {
    let log = Log::default();
    let (seen, open) = (log.clone(), Arc::new(AtomicBool::new(false)));
    let gate = Arc::clone(&open);
    let handler = move |event: StoredEvent, _: EventCx| {
        let (seen, gate) = (seen.clone(), Arc::clone(&gate));
        async move {
            let id = &*event.info.event_id;
            if id == "a0" && event.info.replays == 0 {
                return Err(JobError::discard("never"));
            }
            while id == "a1" && !gate.load(Ordering::SeqCst) {
                sleep(Duration::from_millis(2)).await;
            }
            seen.add(id);
            Ok(())
        }
    };
    let bench = base.bench(|inbox| serial(inbox).on(SHOP, "t", handler)).await;
    let first = bench.send(event(0, "a")).await.id;
    bench.reaches(first, EventState::Dead).await;
    let second = bench.send(event(1, "a")).await.id;
    let dead = Replay::new(EventFilter::new(EventState::Dead));
    assert_eq!(bench.inbox.replay(dead).await.unwrap().replayed, 1);
    let third = bench.send(event(2, "a")).await.id;
    open.store(true, Ordering::SeqCst);
    bench.reaches(third, EventState::Done).await;
    assert_eq!(bench.info(second).await.state, EventState::Done);
    assert_eq!(log.lines(), ["a1", "a0", "a2"]);
    bench.stop().await;
}

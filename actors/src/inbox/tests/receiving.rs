//! What is stored, how often, and what of it.

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use super::*;
use crate::jobs::tx::transact;
use crate::kernel::Fault;

on_each_database! {
    what_was_sent_is_what_is_stored_byte_for_byte,
    one_event_sent_50_times_at_once_is_stored_and_handled_once,
    the_same_id_with_another_body_is_told_and_the_first_body_stays,
    two_sources_may_use_the_same_id,
    long_ids_with_one_body_are_events_of_their_own,
    what_is_verified_and_cannot_be_read_is_kept_and_acknowledged,
    a_body_is_taken_at_its_limit_and_not_one_past_it,
    only_headers_that_are_allowed_are_kept,
    a_list_of_events_becomes_one_of_each,
    what_cannot_be_stored_is_not_acknowledged,
    what_is_older_than_it_is_kept_for_is_forgotten,
}

async fn what_was_sent_is_what_is_stored_byte_for_byte(base: Base) {
    let envelope = Envelope::new(Place::BodyHash, Place::BodyHash);
    let bench = base.bench(|inbox| inbox.source(Source::unverified("corpus", envelope))).await;
    let mut runner = TestRunner::deterministic();
    for _ in 0..200 {
        let text = corpus::document().new_tree(&mut runner).unwrap().current();
        let body = Bytes::from(text);
        let receipt = bench.inbox.receive("corpus", &Headers::default(), body.clone()).await;
        let [event] = receipt.unwrap().events.try_into().unwrap();
        assert_eq!(bench.inbox.raw(event.id).await.unwrap(), Some(body.clone()));
        let info = bench.info(event.id).await;
        assert_eq!(info.sha256, crate::inbox::raw_json::sha256(&body));
        assert_eq!(info.size, body.len() as u64);
    }
    bench.stop().await;
}

async fn one_event_sent_50_times_at_once_is_stored_and_handled_once(base: Base) {
    let store = base.open().await;
    let bench = base.bench(|inbox| leaves_effects(inbox, &store)).await;
    let body = Bytes::from_static(br#"{"id":"e1","type":"paid"}"#);
    let headers = Headers::default();
    let all = (0..50).map(|_| bench.inbox.receive(SHOP, &headers, body.clone()));
    let all = futures_util::future::join_all(all).await;
    let events: Vec<Accepted> = all.into_iter().flat_map(|one| one.unwrap().events).collect();
    assert_eq!(events.len(), 50);
    assert_eq!(events.iter().filter(|event| !event.duplicate).count(), 1);
    assert!(events.iter().all(|event| event.id == events[0].id && !event.conflict));
    let info = bench.reaches(events[0].id, EventState::Done).await;
    assert_eq!((info.duplicates, info.conflicts), (49, 0));
    // Once more, when it is done.
    assert!(bench.send(body).await.duplicate);
    assert_eq!(bench.info(events[0].id).await.state, EventState::Done);
    // A run is counted a moment after its commit.
    let counted = async || (bench.counts().handled == 1).then_some(());
    eventually(counted, "the run is counted").await;
    let counts = bench.counts();
    assert_eq!((counts.stored, counts.duplicates), (1, 50));
    assert_eq!(bench.effects().await, ["e1"]);
    bench.stop().await;
    store.close().await;
}

async fn the_same_id_with_another_body_is_told_and_the_first_body_stays(base: Base) {
    let bench = base.bench(|inbox| inbox).await;
    let first = bench.send(r#"{"id":"e1","type":"paid","amount":1}"#).await;
    let second = bench.send(r#"{"id":"e1","type":"paid","amount":2}"#).await;
    assert_eq!((second.id, second.duplicate, second.conflict), (first.id, true, true));
    let info = bench.info(first.id).await;
    assert_eq!((info.duplicates, info.conflicts), (1, 1));
    let body = bench.inbox.raw(first.id).await.unwrap().unwrap();
    assert_eq!(&body[..], br#"{"id":"e1","type":"paid","amount":1}"#);
    assert_eq!(bench.counts().conflicts, 1);
    bench.stop().await;
}

async fn two_sources_may_use_the_same_id(base: Base) {
    let other = Source::unverified("other", Envelope::common());
    let bench = base.bench(|inbox| inbox.source(other)).await;
    let body = Bytes::from_static(br#"{"id":"e1","type":"paid"}"#);
    let first = bench.send(body.clone()).await;
    let second = bench.inbox.receive("other", &Headers::default(), body).await.unwrap();
    assert!(!second.events[0].duplicate);
    let found = async |source| bench.inbox.find_by_event_id(source, "e1").await.unwrap();
    assert_eq!(found(SHOP).await, Some(first.id));
    assert_eq!(found("other").await, Some(second.events[0].id));
    assert_eq!(found("nobody").await, None);
    bench.stop().await;
}

async fn long_ids_with_one_body_are_events_of_their_own(base: Base) {
    let by_header = Envelope::new(Place::Header("x-id".into()), Place::Header("x-type".into()));
    let bench = base.bench(|inbox| inbox.source(Source::unverified("long", by_header))).await;
    let send = async |id: &str| {
        let headers: Headers = [("x-id", id), ("x-type", "paid")].into_iter().collect();
        let body = Bytes::from_static(b"{}");
        bench.inbox.receive("long", &headers, body).await.unwrap().events.remove(0)
    };
    let mut ids = Vec::new();
    for length in [255, 256, 4_000] {
        for last in ["1", "2"] {
            let id = "x".repeat(length - 1) + last;
            let first = send(&id).await;
            let again = send(&id).await;
            assert_eq!((first.duplicate, again.duplicate, again.id), (false, true, first.id));
            let found = bench.inbox.find_by_event_id("long", &id).await.unwrap();
            assert_eq!(found, Some(first.id), "the id its sender uses finds it");
            ids.push(first.id);
        }
    }
    assert!(ids.is_sorted_by(|one, next| one < next), "each is its own: {ids:?}");
    bench.stop().await;
}

async fn what_is_verified_and_cannot_be_read_is_kept_and_acknowledged(base: Base) {
    let bench = base.bench(|inbox| inbox).await;
    let deep = format!(r#"{{"id":"e1","type":"t","a":{}{}}}"#, "[".repeat(64), "]".repeat(64));
    for (body, reason) in [
        (Bytes::from_static(b"not JSON at all \xff\x00"), "not_utf8"),
        (Bytes::from_static(b"{"), "syntax"),
        (deep.into(), "too_deep"),
        (Bytes::from_static(br#"{"id":"e1","id":"e2","type":"t"}"#), "duplicate_name"),
        (Bytes::from_static(br#"{"type":"t"}"#), "no_event_id"),
        (Bytes::from_static(br#"{"id":"e3"}"#), "no_type"),
        (Bytes::from_static(br#"{"id":"e4","type":"t","version":{}}"#), "bad_version"),
    ] {
        let event = bench.send(body.clone()).await;
        let info = bench.info(event.id).await;
        assert_eq!((info.state, info.reason.as_deref()), (EventState::Unparsable, Some(reason)));
        assert_eq!(bench.inbox.raw(event.id).await.unwrap(), Some(body.clone()));
        assert!(bench.send(body).await.duplicate, "{reason}: sent again, it is known");
    }
    let counts = bench.counts();
    assert_eq!((counts.stored, counts.unparsable, counts.duplicates), (7, 7, 7));
    bench.stop().await;
}

async fn a_body_is_taken_at_its_limit_and_not_one_past_it(base: Base) {
    let small = Source::unverified("small", Envelope::common()).body_max(30);
    let bench = base.bench(|inbox| inbox.source(small)).await;
    let receive = async |body: &str| {
        let body = Bytes::copy_from_slice(body.as_bytes());
        bench.inbox.receive("small", &Headers::default(), body).await
    };
    let fits = format!("{:<30}", r#"{"id":"e1","type":"t"}"#);
    assert!(receive(&fits).await.is_ok());
    let refused = receive(&format!("{fits} ")).await;
    assert!(matches!(refused, Err(InboxError::TooLarge { limit: 30 })));
    assert_eq!(bench.inbox.counts().sources["small"].too_large, 1);
    assert_eq!(bench.inbox.body_max("small"), Some(30));
    assert_eq!(bench.inbox.body_max(SHOP), Some(256 * 1024));
    bench.stop().await;
}

async fn only_headers_that_are_allowed_are_kept(base: Base) {
    let bench = base.bench(|inbox| inbox.source(shop2().keep_header("X-Trace"))).await;
    let headers: Headers = [
        ("Content-Type", "text/plain; charset=UTF-8"),
        ("Authorization", "Bearer hush"),
        ("Cookie", "hush"),
        ("X-Trace", "abc"),
        ("X-Other", "hush"),
        ("User-Agent", "a\u{0}b"),
    ]
    .into_iter()
    .collect();
    let body = Bytes::from_static(br#"{"id":"e1","type":"t"}"#);
    let receipt = bench.inbox.receive("shop2", &headers, body).await.unwrap();
    let info = bench.info(receipt.events[0].id).await;
    let kept: Vec<_> = info.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
    assert_eq!(kept, [("content-type", "text/plain; charset=UTF-8"), ("x-trace", "abc")]);
    bench.stop().await;
}

fn shop2() -> Source {
    Source::unverified("shop2", Envelope::common())
}

async fn a_list_of_events_becomes_one_of_each(base: Base) {
    let source = Source::unverified("lists", Envelope::common().batch());
    let bench = base.bench(|inbox| inbox.source(source)).await;
    let body = br#"[ {"id":"1","type":"a", "n":1E400},{"id":"2","type":"b"} , {"type":"c"},
                     {"id":"1","type":"a", "n":1E400}]"#;
    let receive =
        async || bench.inbox.receive("lists", &Headers::default(), Bytes::from_static(body)).await;
    let events = receive().await.unwrap().events;
    let duplicates: Vec<bool> = events.iter().map(|event| event.duplicate).collect();
    assert_eq!(duplicates, [false, false, false, true]);
    let raw = bench.inbox.raw(events[0].id).await.unwrap().unwrap();
    assert_eq!(&raw[..], br#"{"id":"1","type":"a", "n":1E400}"#);
    assert_eq!(bench.info(events[2].id).await.state, EventState::Unparsable);
    assert!(receive().await.unwrap().events.iter().all(|event| event.duplicate));
    let nothing = bench.inbox.receive("lists", &Headers::default(), "[]".into()).await;
    assert!(nothing.unwrap().events.is_empty());
    bench.stop().await;
}

async fn what_cannot_be_stored_is_not_acknowledged(base: Base) {
    let bench = base.bench(|inbox| inbox).await;
    bench.store.close().await;
    let body = Bytes::from_static(br#"{"id":"e1","type":"t"}"#);
    let refused = bench.inbox.receive(SHOP, &Headers::default(), body).await.unwrap_err();
    assert_eq!(refused.code().as_str(), "store.closed");
    assert_eq!(bench.counts().unavailable, 1);
    assert_eq!(bench.counts().stored, 0);
    bench.tree.stop(Duration::ZERO).await;
    let again = base.bench(|inbox| inbox).await;
    assert!(!again.send(r#"{"id":"e1","type":"t"}"#).await.duplicate);
    again.stop().await;
}

async fn what_is_older_than_it_is_kept_for_is_forgotten(base: Base) {
    let bench = base
        .bench(|inbox| {
            inbox.on(SHOP, "bad", |_, _| async {
                Err(crate::jobs::JobError::discard("it can never work"))
            })
        })
        .await;
    let ignored = bench.send(r#"{"id":"e1","type":"t"}"#).await.id;
    let dead = bench.send(r#"{"id":"e2","type":"bad"}"#).await.id;
    bench.reaches(dead, EventState::Dead).await;
    let prune = async |settled, dead| -> Result<u64, StoreError> {
        transact!(&bench.store, tx => store::prune(&tx, settled, dead, 500))
    };
    let now = bench.jobs.clock().now().after(Duration::from_secs(1));
    let earlier = now.before(Duration::from_secs(3_600));
    assert_eq!(prune(earlier, earlier).await.unwrap(), 0);
    assert_eq!(prune(now, earlier).await.unwrap(), 1);
    assert_eq!(bench.inbox.find(ignored).await.unwrap(), None);
    assert_eq!(bench.info(dead).await.state, EventState::Dead);
    assert_eq!(prune(now, now).await.unwrap(), 1);
    assert_eq!(bench.inbox.find(dead).await.unwrap(), None);
    bench.stop().await;
}

//! What the mailer promises, on both databases.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::Notify;

use super::fault_server::{Fault, FaultServer};
use super::golden::TOKEN;
use super::stage::{Act, Script, Stage, accepted, mail, mail_to, outcomes};
use super::wire::Panics;
use crate::breaker::BreakerState;
use crate::jobs::Class;
use crate::jobs::tests::{Base, eventually, on_each_database};
use crate::mailer::core::Swept;
use crate::mailer::events::{DeliveryEvent, DeliveryKind, Recorded};
use crate::mailer::provider::{
    AmbiguousCause, HttpProvider, Idempotency, NotSentCause, Outcome, Postmark, RecipientOutcome,
    RecipientStatus, ThrottleScope, TransportError,
};
use crate::mailer::{
    Delivery, EmailAddress, HttpTransport, MailEnqueued, MailId, MailState, MailerError, OnUnknown,
    ProviderSpec,
};
use crate::store::{Store, StoreError, Timestamp};

on_each_database! {
    a_mail_is_sent_once_and_says_so,
    a_key_names_one_mail_whoever_is_first,
    a_mail_is_there_if_its_transaction_is,
    what_was_not_sent_goes_to_the_next_provider_at_once,
    what_may_have_been_sent_goes_to_no_other_provider,
    a_known_key_is_asked_again_with_the_same_bytes,
    without_keys_an_open_question_is_parked_and_a_word_of_the_provider_settles_it,
    a_send_that_was_cut_off_is_an_open_question,
    a_panic_over_an_answer_is_an_open_question_and_ends_nothing_else,
    an_operator_settles_what_nobody_knows,
    a_mail_that_is_tried_again_has_all_its_attempts_and_its_class,
    a_mail_is_found_while_others_wait_to_write,
    a_recipient_at_fault_trips_no_breaker_and_gets_no_more_mail,
    a_provider_to_be_mended_is_left_alone,
    a_quota_pauses_its_provider_and_costs_no_attempt,
    a_mail_that_is_too_late_is_not_sent,
    a_mail_is_called_back_before_it_is_sent,
    a_mail_is_resent_once_for_each_reason,
    a_mail_is_resent_as_dear_as_it_was_and_to_whom_it_must_go,
    delivery_only_rises,
    a_word_that_comes_before_the_answer_counts,
    a_mail_whose_job_is_gone_says_the_truth,
    old_content_is_forgotten_and_the_ledger_is_not,
    a_late_run_changes_no_mail,
    a_late_run_that_was_accepted_settles_its_mail_for_whoever_has_the_job,
    what_may_have_been_sent_is_not_sent_when_its_key_is_forgotten_or_its_time_is_over,
    a_resting_provider_with_keys_is_waited_for,
    a_given_up_mail_that_was_delivered_says_so,
}

pub(super) const NO_KEYS: Idempotency = Idempotency::None;
pub(super) const KEYS: Idempotency = Idempotency::Replay { ttl: Duration::from_secs(86_400) };
pub(super) const TIMEOUT: TransportError = TransportError::Ambiguous(AmbiguousCause::Timeout);
pub(super) const REFUSED: TransportError = TransportError::NotSent(NotSentCause::Connect);

pub(super) fn event(id: &str, mail: MailId, kind: DeliveryKind) -> DeliveryEvent {
    DeliveryEvent {
        provider: "one".into(),
        event_id: id.into(),
        mail: Some(mail),
        provider_id: Some("p-9".into()),
        kind,
        recipient: None,
        happened_at: Timestamp(0),
    }
}

pub(super) fn address(text: &str) -> EmailAddress {
    EmailAddress::parse(text).unwrap()
}

async fn a_mail_is_sent_once_and_says_so(base: Base) {
    let one = Script::new("one", NO_KEYS);
    let stage = Stage::start(&base, &[&one], |builder| builder).await;
    let id = stage.send(mail("hello")).await;
    let status = stage.reaches(id, MailState::Accepted).await;
    assert_eq!(outcomes(&status), ["one accepted"]);
    assert_eq!((status.delivery, status.provider_id.as_deref()), (Delivery::Sent, Some("p-1")));
    assert_eq!(one.sent().len(), 1);
    assert_eq!(stage.jobs.counts().await.unwrap().done, 1);
    assert!(stage.mailer.find(MailId::fresh()).await.unwrap().is_none());
    stage.stop().await;
}

async fn a_key_names_one_mail_whoever_is_first(base: Base) {
    let one = Script::new("one", NO_KEYS);
    let stage = Stage::start(&base, &[&one], |builder| builder).await;
    let racers = (0..100).map(|_| async { stage.mailer.enqueue(mail("hello")).key("k").await });
    let answers = join_all(racers).await;
    let new = answers.iter().filter(|answer| matches!(answer, Ok(MailEnqueued::New(_)))).count();
    let id = answers[0].as_ref().unwrap().id();
    assert_eq!(new, 1);
    assert!(answers.iter().all(|answer| answer.as_ref().unwrap().id() == id));
    let other = stage.mailer.enqueue(mail("other")).key("k").await;
    assert!(matches!(other, Err(MailerError::KeyConflict { id: of }) if of == id), "{other:?}");
    let elsewhere = stage.mailer.enqueue(mail("other")).key("k").tenant("t").await.unwrap();
    assert_ne!(elsewhere.id(), id);
    stage.reaches(id, MailState::Accepted).await;
    stage.reaches(elsewhere.id(), MailState::Accepted).await;
    assert_eq!(one.sent().len(), 2);
    for key in ["", "with space", "ü", &"x".repeat(201)] {
        let error = stage.mailer.enqueue(mail("hello")).key(key).await.unwrap_err();
        assert!(matches!(error, MailerError::InvalidSetting { setting: "key", .. }), "{key}");
    }
    assert!(stage.mailer.enqueue(mail("hello")).key("x".repeat(200)).await.is_ok());
    stage.stop().await;
}

async fn a_mail_is_there_if_its_transaction_is(base: Base) {
    let one = Script::new("one", NO_KEYS);
    let stage = Stage::start(&base, &[&one], |builder| builder).await;
    let mut ids = Vec::new();
    match stage.store.clone() {
        Store::Sqlite(store) => {
            for commits in [false, true] {
                let mailer = stage.mailer.clone();
                let written = store.write(move |tx| {
                    let id = mailer.enqueue(mail("hello")).in_sqlite(tx)?.id();
                    if commits { Ok(id) } else { Err(MailerError::NotStarted) }
                });
                ids.extend(written.await);
            }
        }
        Store::Postgres(store) => {
            for commits in [false, true] {
                let mut client = store.client().await.unwrap();
                let tx = client.transaction().await.unwrap();
                let id = stage.mailer.enqueue(mail("hello")).in_postgres(&tx).await.unwrap().id();
                if commits {
                    tx.commit().await.unwrap();
                    ids.push(id);
                } else {
                    tx.rollback().await.unwrap();
                    assert!(stage.mailer.find(id).await.unwrap().is_none());
                }
            }
        }
    }
    let [id] = ids[..] else { panic!("{ids:?}") };
    stage.reaches(id, MailState::Accepted).await;
    assert_eq!(one.sent().len(), 1);
    stage.stop().await;
}

async fn what_was_not_sent_goes_to_the_next_provider_at_once(base: Base) {
    let (one, two) = (Script::new("one", KEYS), Script::new("two", NO_KEYS));
    let stage = Stage::start(&base, &[&one, &two], |builder| builder).await;
    for act in [Act::Fail(REFUSED), Act::Say(Outcome::Unavailable { retry_after: None })] {
        one.next(act);
        let id = stage.send(mail("hello")).await;
        let status = stage.reaches(id, MailState::Accepted).await;
        assert_eq!(status.attempts.len(), 2);
        assert_eq!(status.provider.as_deref(), Some("two"));
        assert_eq!(status.attempts[0].run, status.attempts[1].run, "in the same run");
    }
    stage.stop().await;
}

async fn what_may_have_been_sent_goes_to_no_other_provider(base: Base) {
    let (one, two) = (Script::new("one", KEYS), Script::new("two", NO_KEYS));
    let stage = Stage::start(&base, &[&one, &two], |builder| builder).await;
    one.next(Act::Fail(TIMEOUT));
    // Afterwards it takes nothing, but it may have taken the mail before.
    one.next(Act::Say(Outcome::Unavailable { retry_after: None }));
    let id = stage.send(mail("hello")).await;
    let status = stage.reaches(id, MailState::Accepted).await;
    assert_eq!(outcomes(&status), ["one ambiguous", "one unavailable", "one accepted"]);
    assert!(two.sent().is_empty());
    stage.stop().await;
}

async fn a_known_key_is_asked_again_with_the_same_bytes(base: Base) {
    let one = Script::new("one", KEYS);
    let stage = Stage::start(&base, &[&one], |builder| builder).await;
    one.next(Act::Fail(TIMEOUT));
    one.next(Act::Say(Outcome::KeyBusy));
    let id = stage.send(mail("hello")).await;
    let status = stage.reaches(id, MailState::Accepted).await;
    assert_eq!(outcomes(&status), ["one ambiguous", "one busy", "one accepted"]);
    let sent = one.sent();
    assert!(sent.iter().all(|request| request == &sent[0]), "the bytes changed");
    stage.stop().await;
}

async fn without_keys_an_open_question_is_parked_and_a_word_of_the_provider_settles_it(base: Base) {
    let one = Script::new("one", NO_KEYS);
    let stage = Stage::start(&base, &[&one], |builder| builder).await;
    one.next(Act::Fail(TIMEOUT));
    let id = stage.send(mail("hello")).await;
    let status = stage.reaches(id, MailState::Unknown).await;
    assert_eq!(status.code.as_deref(), Some("mailer.outcome_unknown"));
    assert_eq!(one.sent().len(), 1, "it was sent again");
    let recorded = stage.mailer.record(event("e1", id, DeliveryKind::Delivered)).await.unwrap();
    assert_eq!(recorded, Recorded::Mail(id));
    let status = stage.status(id).await;
    assert_eq!((status.state, status.delivery), (MailState::Accepted, Delivery::Delivered));
    assert_eq!(status.provider_id.as_deref(), Some("p-9"));

    for (on_unknown, state) in
        [(OnUnknown::Fail, MailState::Dead), (OnUnknown::Retry, MailState::Accepted)]
    {
        one.next(Act::Fail(TIMEOUT));
        let id = stage.mailer.enqueue(mail("hello")).on_unknown(on_unknown).await.unwrap().id();
        stage.reaches(id, state).await;
    }
    assert_eq!(one.sent().len(), 4);
    stage.stop().await;
}

async fn a_send_that_was_cut_off_is_an_open_question(base: Base) {
    let (one, two) = (Script::new("one", NO_KEYS), Script::new("two", KEYS));
    for (script, state) in [(&one, MailState::Unknown), (&two, MailState::Accepted)] {
        let stage = Stage::start(&base, &[script], |builder| builder).await;
        // A panic leaves its attempt open, as a kill does.
        script.next(Act::Panic);
        let id = stage.send(mail("hello")).await;
        let status = stage.reaches(id, state).await;
        assert_eq!(status.attempts[0].code.as_deref(), Some("cut_off"));
        assert_eq!(script.sent().len(), status.attempts.len());
        stage.stop().await;
    }
    assert_eq!((one.sent().len(), two.sent().len()), (1, 2));
}

async fn a_panic_over_an_answer_is_an_open_question_and_ends_nothing_else(base: Base) {
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec();
    let server = FaultServer::start(Fault::Answer(answer)).await;
    let url = format!("http://{}", server.address);
    let api = Postmark::new(TOKEN).unwrap().base_url(&url).unwrap();
    let panics = HttpProvider::new(Panics(api), HttpTransport::new().unwrap());
    let one = Script::new("one", NO_KEYS);
    let stage =
        Stage::start(&base, &[&one], |builder| builder.provider(ProviderSpec::new(panics))).await;
    for words in ["first", "second"] {
        let id = stage.send(mail(words)).await;
        let status = stage.reaches(id, MailState::Unknown).await;
        assert_eq!(outcomes(&status), ["panics ambiguous"]);
        assert_eq!(status.attempts[0].code.as_deref(), Some("bad_answer"));
    }
    assert!(one.sent().is_empty(), "it failed over");
    assert_eq!(stage.jobs.counts().await.unwrap().dead, 0);
    stage.stop().await;
}

async fn an_operator_settles_what_nobody_knows(base: Base) {
    let one = Script::new("one", NO_KEYS);
    let stage = Stage::start(&base, &[&one], |builder| builder).await;
    one.next(Act::Fail(TIMEOUT));
    one.next(Act::Fail(TIMEOUT));
    let [first, second] = [stage.send(mail("first")).await, stage.send(mail("second")).await];
    for id in [first, second] {
        stage.reaches(id, MailState::Unknown).await;
    }
    assert!(stage.mailer.try_again(first).await.unwrap());
    stage.reaches(first, MailState::Accepted).await;
    assert!(!stage.mailer.try_again(first).await.unwrap());
    assert!(stage.mailer.give_up(second).await.unwrap());
    assert!(!stage.mailer.give_up(second).await.unwrap());
    assert_eq!(stage.status(second).await.code.as_deref(), Some("mailer.given_up"));
    stage.stop().await;
}

async fn a_mail_that_is_tried_again_has_all_its_attempts_and_its_class(base: Base) {
    let one = Script::new("one", NO_KEYS);
    let stage = Stage::start(&base, &[&one], |builder| builder.max_attempts(2)).await;
    one.always(Act::Fail(REFUSED));
    let dear = stage.mailer.enqueue(mail("hello")).class(Class::Critical);
    let id = dear.await.unwrap().id();
    assert_eq!(stage.reaches(id, MailState::Dead).await.attempts.len(), 2);
    assert!(stage.mailer.try_again(id).await.unwrap());
    assert_eq!(stage.job(id).await.class, Class::Critical);
    assert_eq!(stage.reaches(id, MailState::Dead).await.attempts.len(), 4, "two more");
    one.next(Act::Fail(REFUSED));
    one.next(Act::Say(accepted()));
    assert!(stage.mailer.try_again(id).await.unwrap());
    assert_eq!(stage.reaches(id, MailState::Accepted).await.attempts.len(), 6);
    stage.stop().await;
}

async fn a_mail_is_found_while_others_wait_to_write(base: Base) {
    let one = Script::new("one", NO_KEYS);
    let stage = Stage::start(&base, &[&one], |builder| builder).await;
    let id = stage.send(mail("hello")).await;
    stage.reaches(id, MailState::Accepted).await;
    let find = async || {
        let found = tokio::time::timeout(Duration::from_secs(30), stage.mailer.find(id)).await;
        let found = found.expect("a read waits for nobody who writes");
        assert_eq!(found.unwrap().unwrap().state, MailState::Accepted);
    };
    match stage.store.clone() {
        Store::Sqlite(store) => {
            let (held, holds) = tokio::sync::oneshot::channel();
            let (release, released) = std::sync::mpsc::channel::<()>();
            let writes = tokio::spawn(store.write(move |_| {
                held.send(()).unwrap();
                Ok::<_, StoreError>(released.recv().is_ok())
            }));
            holds.await.unwrap();
            find().await;
            release.send(()).unwrap();
            assert!(writes.await.unwrap().unwrap(), "it was held all the while");
        }
        Store::Postgres(store) => {
            let mut client = store.client().await.unwrap();
            let tx = client.transaction().await.unwrap();
            let lock = store.sql("lock table {schema}.mail in exclusive mode");
            tx.batch_execute(&lock).await.unwrap();
            find().await;
            tx.rollback().await.unwrap();
        }
    }
    stage.stop().await;
}

async fn a_recipient_at_fault_trips_no_breaker_and_gets_no_more_mail(base: Base) {
    let (one, two) = (Script::new("one", KEYS), Script::new("two", KEYS));
    let stage = Stage::start(&base, &[&one, &two], |builder| builder).await;
    for number in 0..30 {
        let bad = format!("bad{number}@example.com");
        let recipients =
            vec![RecipientOutcome { address: address(&bad), status: RecipientStatus::Inactive }];
        one.next(Act::Say(Outcome::RecipientRejected { recipients, suppress: true }));
        let id = stage.send(mail_to(&bad, "hello")).await;
        let status = stage.reaches(id, MailState::Dead).await;
        assert_eq!(status.code.as_deref(), Some("mailer.recipient_rejected"));
        let again = stage.mailer.enqueue(mail_to(&bad, "again")).await;
        assert!(matches!(again, Err(MailerError::Suppressed)), "{again:?}");
    }
    let (_, breaker) = stage.mailer.breakers().next().unwrap();
    assert_eq!(breaker.snapshot().state, BreakerState::Closed);
    assert!(two.sent().is_empty(), "it failed over");
    let must = stage.mailer.enqueue(mail_to("bad1@example.com", "law")).override_suppression();
    stage.reaches(must.await.unwrap().id(), MailState::Accepted).await;
    assert!(stage.mailer.unsuppress("", &address("bad2@example.com")).await.unwrap());
    assert!(!stage.mailer.unsuppress("", &address("bad2@example.com")).await.unwrap());
    stage.stop().await;
}

async fn a_provider_to_be_mended_is_left_alone(base: Base) {
    let (one, two) = (Script::new("one", KEYS), Script::new("two", NO_KEYS));
    let stage = Stage::start(&base, &[&one, &two], |builder| builder).await;
    one.always(Act::Say(Outcome::Misconfigured));
    for _ in 0..5 {
        let id = stage.send(mail("hello")).await;
        stage.reaches(id, MailState::Accepted).await;
    }
    assert_eq!((one.sent().len(), two.sent().len()), (1, 5));
    stage.stop().await;
}

async fn a_quota_pauses_its_provider_and_costs_no_attempt(base: Base) {
    let one = Script::new("one", NO_KEYS);
    let stage = Stage::start(&base, &[&one], |builder| builder.max_attempts(1)).await;
    let throttled = |milliseconds, scope| {
        let retry_after = Some(Duration::from_millis(milliseconds));
        Act::Say(Outcome::Throttled { retry_after, scope })
    };
    one.next(throttled(300, ThrottleScope::Quota));
    one.next(throttled(200, ThrottleScope::Rate));
    let id = stage.send(mail("hello")).await;
    let status = stage.reaches(id, MailState::Accepted).await;
    assert_eq!(outcomes(&status), ["one quota", "one throttled", "one accepted"]);
    let began: Vec<_> = status.attempts.iter().map(|attempt| attempt.started_at.0).collect();
    assert!(began[1] - began[0] >= 300 && began[2] - began[1] >= 200, "{began:?}");
    stage.stop().await;
}

async fn a_mail_that_is_too_late_is_not_sent(base: Base) {
    let one = Script::new("one", NO_KEYS);
    let stage = Stage::start(&base, &[&one], |builder| builder).await;
    one.always(Act::Say(Outcome::Unavailable { retry_after: Some(Duration::from_secs(5)) }));
    let late = stage.mailer.enqueue(mail("code")).deadline_in(Duration::from_secs(2));
    let id = late.await.unwrap().id();
    let status = stage.reaches(id, MailState::Expired).await;
    assert_eq!(status.attempts.len(), 1, "{:?}", outcomes(&status));
    let past = stage.mailer.enqueue(mail("code")).deadline(Timestamp(1)).await.unwrap().id();
    assert!(stage.reaches(past, MailState::Expired).await.attempts.is_empty());
    stage.stop().await;
}

async fn a_mail_is_called_back_before_it_is_sent(base: Base) {
    let one = Script::new("one", NO_KEYS);
    let stage = Stage::start(&base, &[&one], |builder| builder).await;
    let later = stage.jobs.clock().now().after(Duration::from_secs(3_600));
    let id = stage.mailer.enqueue(mail("hello")).deliver_after(later).await.unwrap().id();
    assert!(stage.mailer.cancel(id).await.unwrap());
    assert!(!stage.mailer.cancel(id).await.unwrap());
    assert_eq!(stage.status(id).await.state, MailState::Cancelled);
    let sent = stage.send(mail("hello")).await;
    stage.reaches(sent, MailState::Accepted).await;
    assert!(!stage.mailer.cancel(sent).await.unwrap());
    assert_eq!(one.sent().len(), 1);
    stage.stop().await;
}

async fn a_mail_is_resent_once_for_each_reason(base: Base) {
    let one = Script::new("one", KEYS);
    let stage = Stage::start(&base, &[&one], |builder| builder).await;
    let id = stage.mailer.enqueue(mail("hello")).key("k").await.unwrap().id();
    stage.reaches(id, MailState::Accepted).await;
    let again = stage.mailer.resend(id, "lost").await.unwrap().unwrap();
    assert_eq!(stage.mailer.resend(id, "lost").await.unwrap(), Some(again));
    assert_ne!(again, id);
    let status = stage.reaches(again, MailState::Accepted).await;
    assert_eq!(status.resend_of, Some(id));
    assert_eq!(stage.mailer.resend(MailId::fresh(), "lost").await.unwrap(), None);
    stage.stop().await;
}

async fn a_mail_is_resent_as_dear_as_it_was_and_to_whom_it_must_go(base: Base) {
    let one = Script::new("one", KEYS);
    let stage = Stage::start(&base, &[&one], |builder| builder).await;
    let ada = address("ada@example.com");
    stage.mailer.suppress("", &ada, "asked", None).await.unwrap();
    let must = stage.mailer.enqueue(mail("law")).override_suppression().class(Class::Bulk);
    let id = must.await.unwrap().id();
    stage.reaches(id, MailState::Accepted).await;
    let go = Arc::new(Notify::new());
    one.next(Act::Wait(Arc::clone(&go)));
    let again = stage.mailer.resend(id, "lost").await.unwrap().unwrap();
    assert_eq!(stage.job(again).await.class, Class::Bulk);
    go.notify_one();
    stage.reaches(again, MailState::Accepted).await;
    stage.stop().await;
}

async fn delivery_only_rises(base: Base) {
    let one = Script::new("one", NO_KEYS);
    let stage = Stage::start(&base, &[&one], |builder| builder).await;
    let id = stage.send(mail("hello")).await;
    stage.reaches(id, MailState::Accepted).await;
    let steps = [
        ("e1", DeliveryKind::Delivered, Delivery::Delivered),
        ("e2", DeliveryKind::Deferred, Delivery::Delivered),
        ("e3", DeliveryKind::Complained, Delivery::Complained),
        ("e4", DeliveryKind::Bounced, Delivery::Complained),
    ];
    for (number, kind, delivery) in steps {
        assert_eq!(stage.mailer.record(event(number, id, kind)).await.unwrap(), Recorded::Mail(id));
        let again = stage.mailer.record(event(number, id, DeliveryKind::Bounced)).await.unwrap();
        assert_eq!(again, Recorded::Duplicate);
        assert_eq!(stage.status(id).await.delivery, delivery);
    }
    let mut bounced = event("e5", id, DeliveryKind::Bounced);
    bounced.recipient = Some(address("ada@example.com"));
    stage.mailer.record(bounced).await.unwrap();
    let again = stage.mailer.enqueue(mail("again")).await;
    assert!(matches!(again, Err(MailerError::Suppressed)), "{again:?}");
    let other = event("e6", MailId::fresh(), DeliveryKind::Delivered);
    assert_eq!(stage.mailer.record(other).await.unwrap(), Recorded::UnknownMail);
    let mut by_provider = event("e7", id, DeliveryKind::Other);
    (by_provider.mail, by_provider.provider_id) = (None, Some("p-1".into()));
    assert_eq!(stage.mailer.record(by_provider).await.unwrap(), Recorded::Mail(id));
    stage.stop().await;
}

async fn a_word_that_comes_before_the_answer_counts(base: Base) {
    let one = Script::new("one", NO_KEYS);
    let short = Duration::from_millis(500);
    let stage = Stage::start(&base, &[&one], |builder| builder.attempt_timeout(short)).await;
    one.next(Act::Hang);
    let id = stage.send(mail("hello")).await;
    stage.reaches(id, MailState::Sending).await;
    stage.mailer.record(event("e1", id, DeliveryKind::Delivered)).await.unwrap();
    let status = stage.reaches(id, MailState::Accepted).await;
    assert_eq!(outcomes(&status), ["one ambiguous"]);
    assert_eq!(status.delivery, Delivery::Delivered);
    stage.stop().await;
}

async fn a_mail_whose_job_is_gone_says_the_truth(base: Base) {
    let one = Script::new("one", NO_KEYS);
    let stage = Stage::start(&base, &[&one], |builder| builder).await;
    let later = stage.jobs.clock().now().after(Duration::from_secs(3_600));
    let id = stage.mailer.enqueue(mail("hello")).deliver_after(later).await.unwrap().id();
    let dead = stage.store_job_away().await;
    assert_eq!(dead, 1);
    stage.mailer.sweep().await.unwrap();
    let status = stage.status(id).await;
    assert_eq!((status.state, status.code.as_deref()), (MailState::Dead, Some("mailer.job_gone")));
    stage.stop().await;
}

async fn old_content_is_forgotten_and_the_ledger_is_not(base: Base) {
    let one = Script::new("one", NO_KEYS);
    let hour = Duration::from_secs(3_600);
    let stage = Stage::start(&base, &[&one], |builder| builder.keep_content_for(hour)).await;
    let id = stage.send(mail("hello")).await;
    stage.reaches(id, MailState::Accepted).await;
    assert_eq!(stage.mailer.sweep().await.unwrap(), Swept::default());
    stage.age(2 * hour).await;
    let swept = Swept { forgotten: 1, ..Swept::default() };
    assert_eq!(stage.mailer.sweep().await.unwrap(), swept);
    assert_eq!(outcomes(&stage.status(id).await), ["one accepted"]);
    assert_eq!(stage.mailer.resend(id, "lost").await.unwrap(), None);
    stage.stop().await;
}

async fn a_late_run_changes_no_mail(base: Base) {
    let one = Script::new("one", NO_KEYS);
    let stage = Stage::start(&base, &[&one], |builder| builder).await;
    let short = Duration::from_secs(3);
    one.next(Act::Hang);
    let id = stage.mailer.enqueue(mail("hello")).deadline_in(short).await.unwrap().id();
    stage.reaches(id, MailState::Sending).await;
    // Another process takes the job, as after a pause of this one.
    stage.steal_job().await;
    let status = stage.reaches(id, MailState::Sending).await;
    assert!(status.attempts[0].finished_at.is_none());
    let ended = async || {
        let status = stage.status(id).await;
        status.attempts[0].finished_at.is_some().then_some(status)
    };
    let status = eventually(ended, "the late run ends its attempt").await;
    assert_eq!(
        (status.state, outcomes(&status)),
        (MailState::Sending, vec!["one ambiguous".to_owned()])
    );
    stage.stop().await;
}

async fn a_late_run_that_was_accepted_settles_its_mail_for_whoever_has_the_job(base: Base) {
    let one = Script::new("one", NO_KEYS);
    let stage = Stage::start(&base, &[&one], |builder| builder).await;
    let go = Arc::new(Notify::new());
    one.next(Act::Wait(Arc::clone(&go)));
    let id = stage.send(mail("hello")).await;
    stage.reaches(id, MailState::Sending).await;
    stage.steal_job().await;
    // The run that is late has its answer before anybody else has read the ledger.
    go.notify_one();
    let status = stage.reaches(id, MailState::Accepted).await;
    assert_eq!(
        (outcomes(&status), status.delivery),
        (vec!["one accepted".to_owned()], Delivery::Sent)
    );
    // Who gets the job now finds that there is nothing to do.
    stage.give_jobs_back().await;
    let done = async || (stage.jobs.counts().await.unwrap().done == 1).then_some(());
    eventually(done, "the job is done").await;
    assert_eq!(one.sent().len(), 1, "it was sent twice");
    stage.stop().await;
}

async fn what_may_have_been_sent_is_not_sent_when_its_key_is_forgotten_or_its_time_is_over(
    base: Base,
) {
    let (one, two) = (Script::new("one", KEYS), Script::new("two", NO_KEYS));
    let stage = Stage::start(&base, &[&one, &two], |builder| builder).await;
    one.always(Act::Fail(TIMEOUT));
    let late = stage.mailer.enqueue(mail("code")).deadline_in(Duration::from_secs(2));
    let late = late.await.unwrap().id();
    stage.reaches(late, MailState::Unknown).await;
    let forgotten = stage.send(mail("hello")).await;
    stage.reaches(forgotten, MailState::RetryWait).await;
    let sent = stage.forget_keys().await;
    stage.reaches(forgotten, MailState::Unknown).await;
    assert!(sent > 0 && two.sent().is_empty(), "it was sent by another");
    stage.stop().await;
}

async fn a_resting_provider_with_keys_is_waited_for(base: Base) {
    let (one, two) = (Script::new("one", KEYS), Script::new("two", NO_KEYS));
    let stage = Stage::start(&base, &[&one, &two], |builder| builder).await;
    let rest = Some(Duration::from_millis(300));
    one.next(Act::Say(Outcome::Throttled { retry_after: rest, scope: ThrottleScope::Rate }));
    let first = stage.send(mail("first")).await;
    stage.reaches(first, MailState::Accepted).await;
    // The first one went to the other provider, which was asked because this one said no to it.
    let second = stage.send(mail("second")).await;
    let status = stage.reaches(second, MailState::Accepted).await;
    assert_eq!(status.provider.as_deref(), Some("one"));
    assert_eq!((one.sent().len(), two.sent().len()), (2, 1));
    stage.stop().await;
}

async fn a_given_up_mail_that_was_delivered_says_so(base: Base) {
    let one = Script::new("one", NO_KEYS);
    let stage = Stage::start(&base, &[&one], |builder| builder.on_unknown(OnUnknown::Fail)).await;
    one.next(Act::Fail(TIMEOUT));
    let id = stage.send(mail("hello")).await;
    stage.reaches(id, MailState::Dead).await;
    stage.mailer.record(event("e1", id, DeliveryKind::Delivered)).await.unwrap();
    let status = stage.status(id).await;
    assert_eq!((status.state, status.delivery), (MailState::Accepted, Delivery::Delivered));
    stage.stop().await;
}

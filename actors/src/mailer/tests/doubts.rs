//! Mails that may have been sent, when it gets awkward: their state says the truth.

use std::time::Duration;

use super::claims::{KEYS, NO_KEYS, TIMEOUT, event};
use super::stage::{Act, Script, Stage, mail, outcomes};
use crate::jobs::tests::{Base, on_each_database};
use crate::mailer::events::DeliveryKind;
use crate::mailer::provider::Outcome;
use crate::mailer::{MailId, MailState, OnUnknown};

on_each_database! {
    a_mail_whose_provider_is_gone_ends_as_was_decided,
    a_mail_that_nobody_can_carry_is_dead_unless_it_may_have_been_sent,
    a_provider_that_cannot_carry_a_mail_does_not_end_it_for_the_others,
    a_mail_in_doubt_whose_job_is_gone_ends_as_was_decided,
    proof_that_a_mail_was_accepted_outdoes_that_it_was_given_up,
}

const UNKNOWN: Option<&str> = Some("mailer.outcome_unknown");
/// What a mail in doubt ends as that is not sent again.
const DECIDED: [(OnUnknown, MailState); 3] = [
    (OnUnknown::Park, MailState::Unknown),
    (OnUnknown::Fail, MailState::Dead),
    (OnUnknown::Retry, MailState::Unknown),
];

/// A mail that waits, and that a process which died had begun to send by a provider.
async fn in_doubt(stage: &Stage, on_unknown: OnUnknown) -> MailId {
    let later = stage.jobs.clock().now().after(Duration::from_secs(3_600));
    let waits = stage.mailer.enqueue(mail("hello")).on_unknown(on_unknown).deliver_after(later);
    let id = waits.await.unwrap().id();
    stage.begun_elsewhere(id, "gone").await;
    id
}

async fn a_mail_whose_provider_is_gone_ends_as_was_decided(base: Base) {
    let two = Script::new("two", KEYS);
    let stage = Stage::start(&base, &[&two], |builder| builder).await;
    for (on_unknown, state) in [DECIDED[0], DECIDED[1]] {
        let id = in_doubt(&stage, on_unknown).await;
        stage.hurry(id).await;
        let status = stage.reaches(id, state).await;
        assert_eq!(status.code.as_deref(), UNKNOWN, "{on_unknown}");
        assert_eq!(outcomes(&status), ["gone ambiguous"], "{on_unknown}");
    }
    assert!(two.sent().is_empty(), "it may have been sent by another");
    // Better twice than not at all.
    let id = in_doubt(&stage, OnUnknown::Retry).await;
    stage.hurry(id).await;
    let status = stage.reaches(id, MailState::Accepted).await;
    assert_eq!(outcomes(&status), ["gone ambiguous", "two accepted"]);
    stage.stop().await;
}

async fn a_mail_that_nobody_can_carry_is_dead_unless_it_may_have_been_sent(base: Base) {
    let two = Script::new("two", KEYS);
    let stage = Stage::start(&base, &[&two], |builder| builder).await;
    two.carries(false);
    let id = stage.send(mail("hello")).await;
    let status = stage.reaches(id, MailState::Dead).await;
    assert_eq!(status.code.as_deref(), Some("mailer.not_encodable"));
    for (on_unknown, state) in DECIDED {
        let id = in_doubt(&stage, on_unknown).await;
        stage.hurry(id).await;
        let status = stage.reaches(id, state).await;
        assert_eq!(status.code.as_deref(), UNKNOWN, "{on_unknown}");
    }
    assert!(two.sent().is_empty());
    stage.stop().await;
}

async fn a_provider_that_cannot_carry_a_mail_does_not_end_it_for_the_others(base: Base) {
    let (one, two) = (Script::new("one", NO_KEYS), Script::new("two", NO_KEYS));
    let stage = Stage::start(&base, &[&one, &two], |builder| builder).await;
    let retry_after = Some(Duration::from_millis(100));
    one.next(Act::Say(Outcome::Unavailable { retry_after }));
    two.carries(false);
    let id = stage.send(mail("hello")).await;
    let status = stage.reaches(id, MailState::Accepted).await;
    assert_eq!(outcomes(&status), ["one unavailable", "one accepted"]);
    stage.stop().await;
}

async fn a_mail_in_doubt_whose_job_is_gone_ends_as_was_decided(base: Base) {
    let two = Script::new("two", KEYS);
    let stage = Stage::start(&base, &[&two], |builder| builder).await;
    let mut mails = Vec::new();
    for (on_unknown, state) in DECIDED {
        mails.push((in_doubt(&stage, on_unknown).await, state));
    }
    assert_eq!(stage.store_job_away().await, 3);
    assert_eq!(stage.mailer.sweep().await.unwrap().buried, 3);
    for (id, state) in mails {
        let status = stage.status(id).await;
        assert_eq!((status.state, status.code.as_deref()), (state, UNKNOWN));
        assert_eq!(outcomes(&status), ["gone ambiguous"]);
    }
    stage.stop().await;
}

async fn proof_that_a_mail_was_accepted_outdoes_that_it_was_given_up(base: Base) {
    let one = Script::new("one", NO_KEYS);
    let stage = Stage::start(&base, &[&one], |builder| builder).await;
    one.next(Act::Fail(TIMEOUT));
    let id = stage.send(mail("hello")).await;
    stage.reaches(id, MailState::Unknown).await;
    assert!(stage.mailer.give_up(id).await.unwrap());
    assert!(!stage.mailer.give_up(id).await.unwrap());
    assert_eq!(stage.status(id).await.state, MailState::Dead);
    stage.mailer.record(event("e1", id, DeliveryKind::Delivered)).await.unwrap();
    assert_eq!(stage.status(id).await.state, MailState::Accepted);
    stage.stop().await;
}

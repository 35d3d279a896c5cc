//! Wall clocks that jump, and mails that go by them.

use std::time::Duration;

use super::claims::{KEYS, NO_KEYS, TIMEOUT};
use super::stage::{Act, Script, Stage, mail, outcomes};
use crate::jobs::JobState;
use crate::jobs::tests::{Base, eventually, on_each_database};
use crate::mailer::provider::{Outcome, ThrottleScope};
use crate::mailer::{MailId, MailState};
use crate::store::{Timestamp, WallClock};

on_each_database! {
    a_deadline_is_what_the_clock_says_when_it_is_looked_at,
    a_mail_that_waits_is_tried_when_the_clock_has_come_there,
    a_provider_rests_for_as_long_as_it_said_whatever_the_clock_does,
    a_key_is_not_relied_on_when_nobody_can_tell_how_old_it_is,
}

const HOUR: Duration = Duration::from_secs(3_600);
const START: Timestamp = Timestamp(1_800_000_000_000);

async fn attempted(stage: &Stage, id: MailId, times: usize) {
    let attempted = async || {
        let status = stage.status(id).await;
        let ended = status.attempts.iter().filter(|one| one.finished_at.is_some()).count();
        // The mail is written down before its job is put off.
        let waits = async || stage.job(id).await.state != JobState::Running;
        (ended == times && status.state == MailState::RetryWait && waits().await).then_some(())
    };
    eventually(attempted, "an attempt ends, and its job waits").await;
}

async fn a_deadline_is_what_the_clock_says_when_it_is_looked_at(base: Base) {
    let (clock, hands) = WallClock::manual(START);
    let one = Script::new("one", NO_KEYS);
    let stage = Stage::start_at(&base, clock, &[&one], |builder| builder).await;
    let enqueue = async || {
        let mail = stage.mailer.enqueue(mail("code")).deadline(START.after(HOUR));
        mail.deliver_after(START.after(HOUR / 2)).await.unwrap().id()
    };
    let early = enqueue().await;
    // Back: it has all the more time, and is not sent before it is due.
    hands.set(START.before(24 * HOUR));
    assert_eq!(stage.status(early).await.state, MailState::Queued);
    hands.set(START.after(HOUR / 2));
    stage.reaches(early, MailState::Accepted).await;
    hands.set(START);
    let late = enqueue().await;
    hands.set(START.after(HOUR));
    assert!(stage.reaches(late, MailState::Expired).await.attempts.is_empty());
    assert_eq!(one.sent().len(), 1);
    stage.stop().await;
}

async fn a_mail_that_waits_is_tried_when_the_clock_has_come_there(base: Base) {
    let (clock, hands) = WallClock::manual(START);
    let one = Script::new("one", NO_KEYS);
    let stage = Stage::start_at(&base, clock, &[&one], |builder| builder).await;
    // Throttled, so that neither the breaker nor the pace has a say for long.
    let retry_after = Some(Duration::from_millis(1));
    one.next(Act::Say(Outcome::Throttled { retry_after, scope: ThrottleScope::Rate }));
    let id = stage.send(mail("hello")).await;
    attempted(&stage, id, 1).await;
    let due = stage.job(id).await.run_at.unwrap();
    assert!(due > START && due <= START.after(Duration::from_secs(1)), "{due:?}");
    hands.set(START.before(HOUR));
    assert_eq!(stage.status(id).await.attempts.len(), 1);
    // A jump of ten years is no reason to lose it.
    hands.set(START.after(87_600 * HOUR));
    let status = stage.reaches(id, MailState::Accepted).await;
    assert_eq!(outcomes(&status), ["one throttled", "one accepted"]);
    stage.stop().await;
}

async fn a_provider_rests_for_as_long_as_it_said_whatever_the_clock_does(base: Base) {
    let (clock, hands) = WallClock::manual(START);
    let one = Script::new("one", NO_KEYS);
    let stage = Stage::start_at(&base, clock, &[&one], |builder| builder).await;
    let rest = Duration::from_millis(500);
    let scope = ThrottleScope::Quota;
    one.next(Act::Say(Outcome::Throttled { retry_after: Some(rest), scope }));
    let began = tokio::time::Instant::now();
    let id = stage.send(mail("hello")).await;
    attempted(&stage, id, 1).await;
    for to in [START.after(24 * HOUR), START.before(24 * HOUR), START.after(48 * HOUR)] {
        hands.set(to);
        stage.hurry_if_it_waits(id).await;
    }
    let moves = async || {
        hands.advance(Duration::from_secs(1));
        (stage.status(id).await.state == MailState::Accepted).then_some(())
    };
    eventually(moves, "the rest is over").await;
    assert!(began.elapsed() >= rest, "{:?}", began.elapsed());
    assert_eq!(one.sent().len(), 2);
    stage.stop().await;
}

async fn a_key_is_not_relied_on_when_nobody_can_tell_how_old_it_is(base: Base) {
    let (clock, hands) = WallClock::manual(START);
    let one = Script::new("one", KEYS);
    let stage = Stage::start_at(&base, clock, &[&one], |builder| builder).await;
    for to in [START.after(24 * HOUR), START.before(24 * HOUR)] {
        hands.set(START);
        one.next(Act::Fail(TIMEOUT));
        let id = stage.send(mail("hello")).await;
        attempted(&stage, id, 1).await;
        let sent = one.sent().len();
        hands.set(to);
        stage.hurry_if_it_waits(id).await;
        stage.reaches(id, MailState::Unknown).await;
        assert_eq!(one.sent().len(), sent, "it was sent again");
    }
    stage.stop().await;
}

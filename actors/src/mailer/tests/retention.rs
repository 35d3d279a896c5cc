//! What is forgotten, and when: at its limit it is kept, one past it it is gone.

use std::time::Duration;

use futures_util::future::join_all;

use super::claims::{NO_KEYS, TIMEOUT, address, event};
use super::stage::{Act, Script, Stage, mail};
use crate::jobs::JobId;
use crate::jobs::tests::{Base, on_each_database};
use crate::jobs::tx::{look, transact};
use crate::kernel::Tree;
use crate::mailer::core::Swept;
use crate::mailer::events::DeliveryKind;
use crate::mailer::store::{self, Look};
use crate::mailer::{MailEnqueued, MailState, Mailer, MailerBuilder, MailerError, ProviderSpec};
use crate::store::{SqliteOptions, SqliteStore, StoreError, Timestamp, WallClock};

on_each_database! {
    a_settled_mail_is_kept_for_its_time_and_then_forgotten_with_all_it_left,
    what_may_still_be_settled_is_kept_however_old,
    a_step_takes_its_limit_of_mails_and_no_more,
    a_suppression_is_forgotten_when_it_holds_no_more,
    a_look_for_mails_without_jobs_takes_its_limit_and_goes_on_where_it_stopped,
}

const HOUR: Duration = Duration::from_secs(3_600);
const NOW: Timestamp = Timestamp(1_800_000_000_000);

fn keeps_an_hour(builder: MailerBuilder) -> MailerBuilder {
    builder.keep_content_for(HOUR).keep_ledger_for(HOUR)
}

async fn a_settled_mail_is_kept_for_its_time_and_then_forgotten_with_all_it_left(base: Base) {
    let (clock, hands) = WallClock::manual(NOW);
    let one = Script::new("one", NO_KEYS);
    let stage = Stage::start_at(&base, clock, &[&one], keeps_an_hour).await;
    let id = stage.mailer.enqueue(mail("hello")).key("k").await.unwrap().id();
    stage.reaches(id, MailState::Accepted).await;
    stage.mailer.record(event("e1", id, DeliveryKind::Delivered)).await.unwrap();
    hands.set(NOW.after(HOUR));
    assert_eq!(stage.mailer.sweep().await.unwrap(), Swept::default());
    let again = stage.mailer.enqueue(mail("hello")).key("k").await.unwrap();
    assert_eq!(again, MailEnqueued::Replayed(id));
    hands.advance(Duration::from_millis(1));
    let swept = stage.mailer.sweep().await.unwrap();
    assert_eq!((swept.mails, swept.events), (1, 1));
    assert!(stage.mailer.find(id).await.unwrap().is_none());
    let left = "select (select count(*) from {mail}) + (select count(*) from {mail_wire})
        + (select count(*) from {mail_attempt}) + (select count(*) from {mail_event})";
    assert_eq!(stage.count(left).await, 0);
    let new = stage.mailer.enqueue(mail("hello")).key("k").await.unwrap();
    assert!(matches!(new, MailEnqueued::New(_)), "its key is free");
    stage.stop().await;
}

async fn what_may_still_be_settled_is_kept_however_old(base: Base) {
    let one = Script::new("one", NO_KEYS);
    let stage = Stage::start(&base, &[&one], keeps_an_hour).await;
    let later = stage.jobs.clock().now().after(1_000 * HOUR);
    let open = stage.mailer.enqueue(mail("later")).deliver_after(later).await.unwrap().id();
    one.next(Act::Fail(TIMEOUT));
    let unknown = stage.send(mail("hello")).await;
    stage.reaches(unknown, MailState::Unknown).await;
    stage.age(100 * HOUR).await;
    assert_eq!(stage.mailer.sweep().await.unwrap(), Swept::default());
    assert_eq!(stage.status(open).await.state, MailState::Queued);
    assert!(stage.mailer.try_again(unknown).await.unwrap(), "its content is there");
    stage.reaches(unknown, MailState::Accepted).await;
    stage.stop().await;
}

async fn a_step_takes_its_limit_of_mails_and_no_more(base: Base) {
    let one = Script::new("one", NO_KEYS);
    let stage = Stage::start(&base, &[&one], |builder| builder).await;
    let ids = join_all((0..3).map(|_| stage.send(mail("hello")))).await;
    for id in ids {
        stage.reaches(id, MailState::Accepted).await;
    }
    let before = stage.jobs.clock().now().after(HOUR);
    for expected in [2, 1, 0] {
        let gone: Result<u64, StoreError> =
            transact!(&stage.store, tx => store::prune(&tx, before, 2));
        assert_eq!(gone.unwrap(), expected);
    }
    stage.stop().await;
}

async fn a_suppression_is_forgotten_when_it_holds_no_more(base: Base) {
    let (clock, hands) = WallClock::manual(NOW);
    let one = Script::new("one", NO_KEYS);
    let stage = Stage::start_at(&base, clock, &[&one], |builder| builder).await;
    let until = NOW.after(HOUR);
    for (name, until) in [("ada@example.com", Some(until)), ("eve@example.com", None)] {
        stage.mailer.suppress("", &address(name), "asked", until).await.unwrap();
    }
    hands.set(Timestamp(until.0 - 1));
    assert_eq!(stage.mailer.sweep().await.unwrap().suppressions, 0);
    let refused = stage.mailer.enqueue(mail("hello")).await;
    assert!(matches!(refused, Err(MailerError::Suppressed)), "{refused:?}");
    hands.set(until);
    assert_eq!(stage.mailer.sweep().await.unwrap().suppressions, 1);
    assert_eq!(stage.count("select count(*) from {mail_suppression}").await, 1, "one is for good");
    assert!(stage.mailer.enqueue(mail("hello")).await.is_ok());
    stage.stop().await;
}

async fn a_look_for_mails_without_jobs_takes_its_limit_and_goes_on_where_it_stopped(base: Base) {
    let one = Script::new("one", NO_KEYS);
    let stage = Stage::start(&base, &[&one], |builder| builder).await;
    let later = stage.jobs.clock().now().after(HOUR);
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(stage.mailer.enqueue(mail("hello")).deliver_after(later).await.unwrap().id());
    }
    let orphan = stage.job(ids[3]).await.id;
    stage.rows("delete from {job} where id = ?1 returning 1", vec![orphan.0.into()]).await;
    let mut after = JobId(0);
    for expected in [&[][..], &[ids[3]], &[]] {
        let look: Result<Look, StoreError> =
            look!(&stage.store, rows => store::look(&rows, after, 2));
        let look = look.unwrap();
        assert_eq!(look.orphans, expected);
        after = look.last.unwrap();
    }
    let end: Result<Look, StoreError> = look!(&stage.store, rows => store::look(&rows, after, 2));
    assert_eq!(end.unwrap().last, None);
    assert_eq!(stage.mailer.sweep().await.unwrap().buried, 1);
    assert_eq!(stage.status(ids[3]).await.state, MailState::Dead);
    assert_eq!(stage.status(ids[4]).await.state, MailState::Queued);
    stage.stop().await;
}

#[actix::test]
async fn times_to_keep_are_taken_at_their_limits_and_not_one_past_them() {
    let store = SqliteStore::open(SqliteOptions::memory()).await.unwrap().into();
    let years = Duration::from_secs(3_650 * 86_400);
    let step = Duration::from_millis(1);
    let build = |content, ledger| {
        let one = ProviderSpec::new(Script::new("one", NO_KEYS));
        let builder = Mailer::builder(&store).provider(one);
        builder.keep_content_for(content).keep_ledger_for(ledger).build(&Tree::new()).map(drop)
    };
    for (content, ledger) in [(HOUR, HOUR), (HOUR, years), (years, years)] {
        assert!(build(content, ledger).is_ok(), "{content:?} {ledger:?}");
    }
    let refused = [
        (HOUR, HOUR - step, "keep_ledger_for"),
        (HOUR, years + step, "keep_ledger_for"),
        (HOUR + step, HOUR, "keep_ledger_for"),
        (HOUR - step, HOUR, "keep_content_for"),
    ];
    for (content, ledger, name) in refused {
        let error = build(content, ledger).unwrap_err();
        assert!(
            matches!(error, MailerError::InvalidSetting { setting, .. } if setting == name),
            "{error:?}"
        );
    }
}

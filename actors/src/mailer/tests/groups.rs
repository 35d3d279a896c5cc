//! What many mails share, and what they do not.

use futures_util::future::join_all;
use tokio::sync::Semaphore;

use super::claims::{NO_KEYS, address};
use super::stage::{Script, Stage, mail, mail_to};
use crate::jobs::tests::{Base, on_each_database};
use crate::kernel::{RequestContext, RequestId};
use crate::mailer::{Mail, MailEnqueued, MailState, Mailbox, MailerError};
use crate::store::Store;

on_each_database! {
    one_that_is_refused_costs_the_others_of_its_group_nothing,
    each_of_a_group_belongs_to_its_own_request,
    large_mails_are_sent_like_others,
}

async fn one_that_is_refused_costs_the_others_of_its_group_nothing(base: Base) {
    let one = Script::new("one", NO_KEYS);
    let stage = Stage::start(&base, &[&one], |builder| builder).await;
    let mailer = &stage.mailer;
    let known = mailer.enqueue(mail("known")).key("taken").await.unwrap().id();
    mailer.suppress("", &address("gone@example.com"), "bounced", None).await.unwrap();
    let enqueue = async |number: u32| match number % 4 {
        0 => mailer.enqueue(mail("other words")).key("taken").await,
        1 => mailer.enqueue(mail_to("gone@example.com", "hello")).await,
        2 => mailer.enqueue(mail("known")).key("taken").await,
        _ => mailer.enqueue(mail(&format!("mail {number}"))).await,
    };
    let answers = join_all((0..200).map(enqueue)).await;
    for (number, answer) in answers.into_iter().enumerate() {
        match (number % 4, answer) {
            (0, Err(MailerError::KeyConflict { id })) => assert_eq!(id, known),
            (1, Err(MailerError::Suppressed)) => {}
            (2, Ok(MailEnqueued::Replayed(id))) => assert_eq!(id, known),
            (3, Ok(MailEnqueued::New(id))) => {
                stage.reaches(id, MailState::Accepted).await;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(stage.count("select count(*) from {mail}").await, 51);
    assert_eq!(one.sent().len(), 51);
    stage.stop().await;
}

async fn each_of_a_group_belongs_to_its_own_request(base: Base) {
    let one = Script::new("one", NO_KEYS);
    let stage = Stage::start(&base, &[&one], |builder| builder).await;
    // Nobody sends them meanwhile.
    stage.jobs.pause("mail").await.unwrap();
    let requests: Vec<_> = (0..50).map(|_| RequestContext::new(RequestId::generate())).collect();
    let enqueue = async |request: &RequestContext| {
        request.clone().scope(async { stage.send(mail("hello")).await }).await
    };
    join_all(requests.iter().map(enqueue)).await;
    assert_eq!(stage.count("select count(distinct meta) from {job}").await, 50);
    for request in requests {
        let sql = "select 1 from {job} where meta like ?1";
        let like = format!("%{}%", request.id());
        assert_eq!(stage.rows(sql, vec![like.as_str().into()]).await, 1);
    }
    stage.stop().await;
}

#[actix::test]
async fn one_that_is_refused_shares_the_transaction_of_the_others() {
    let Some(base) = Base::postgres().await else { return };
    let one = Script::new("one", NO_KEYS);
    let stage = Stage::start(&base, &[&one], |builder| builder).await;
    let mailer = &stage.mailer;
    // Nobody sends them meanwhile.
    stage.jobs.pause("mail").await.unwrap();
    let _known = mailer.enqueue(mail("known")).key("taken").await.unwrap();
    mailer.suppress("", &address("gone@example.com"), "bounced", None).await.unwrap();
    let enqueue = async |number: u32| match number % 10 {
        0 => mailer.enqueue(mail("other words")).key("taken").await,
        1 => mailer.enqueue(mail_to("gone@example.com", "hello")).await,
        _ => mailer.enqueue(mail(&format!("mail {number}"))).await,
    };
    let answers = join_all((0..500).map(enqueue)).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_err()).count(), 100);
    let transactions = stage.count("select count(distinct xmin::text) from {mail}").await;
    assert!(transactions < 100, "{transactions} transactions for 400 mails");
    stage.stop().await;
}

#[actix::test]
async fn a_key_that_another_transaction_holds_keeps_only_its_own_mail_waiting() {
    let Some(base) = Base::postgres().await else { return };
    let one = Script::new("one", NO_KEYS);
    let stage = Stage::start(&base, &[&one], |builder| builder).await;
    let Store::Postgres(store) = &stage.store else { unreachable!("it is on PostgreSQL") };
    let mailer = &stage.mailer;
    let done = Semaphore::new(0);
    let mut client = store.client().await.unwrap();
    let tx = client.transaction().await.unwrap();
    let held = mailer.enqueue(mail("held")).key("held").in_postgres(&tx).await.unwrap();
    let all = async |number: u32| {
        if number == 30 {
            let again = mailer.enqueue(mail("held")).key("held").await;
            assert!(
                matches!(again, Ok(MailEnqueued::Replayed(id)) if id == held.id()),
                "{again:?}"
            );
        } else {
            let other = mailer.enqueue(mail("hello")).key(format!("k{number}")).await;
            assert!(matches!(other, Ok(MailEnqueued::New(_))), "{other:?}");
        }
        done.add_permits(1);
    };
    let release = async {
        drop(done.acquire_many(99).await.unwrap());
        tx.commit().await.unwrap();
    };
    tokio::join!(join_all((0..100).map(all)), release);
    drop(client);
    stage.stop().await;
}

#[actix::test]
async fn two_processes_that_store_the_same_mails_refuse_none() {
    let Some(base) = Base::postgres().await else { return };
    let one = Script::new("one", NO_KEYS);
    let stages = [
        Stage::start(&base, &[&one], |builder| builder).await,
        Stage::start(&base, &[&one], |builder| builder).await,
    ];
    for stage in &stages {
        stage.jobs.pause("mail").await.unwrap();
    }
    // A mail that asks for none on the list takes fewer statements, and so overtakes others.
    let enqueue = async |process: usize, number: usize| {
        let mailer = &stages[process].mailer;
        let mut mail = mailer.enqueue(mail("hello")).key(format!("k{number}"));
        if (number + process).is_multiple_of(2) {
            mail = mail.override_suppression();
        }
        mail.await
    };
    let all = |process| {
        join_all((0..300).map(move |number| (process, number)).map(|(p, n)| enqueue(p, n)))
    };
    let (these, those) = tokio::join!(all(0), all(1));
    let new = |answer: Result<_, MailerError>| matches!(answer.unwrap(), MailEnqueued::New(_));
    for (this, that) in these.into_iter().zip(those) {
        assert!(new(this) ^ new(that));
    }
    for stage in stages {
        stage.stop().await;
    }
}

async fn large_mails_are_sent_like_others(base: Base) {
    let one = Script::new("one", NO_KEYS);
    let stage = Stage::start(&base, &[&one], |builder| builder).await;
    stage.jobs.pause("mail").await.unwrap();
    let words = "lorem ipsum ".repeat(100_000);
    let of = |address: &str| {
        let [from, to] = ["shop@example.com", address].map(|one| Mailbox::parse(one).unwrap());
        Mail::builder(from, [to]).subject("large".parse().unwrap()).text(&*words).build().unwrap()
    };
    let ids = join_all((0..20).map(|_| stage.send(of("ada@example.com")))).await;
    let gone = stage.send(of("gone@example.com")).await;
    stage.mailer.suppress("", &address("gone@example.com"), "bounced", None).await.unwrap();
    stage.jobs.resume("mail").await.unwrap();
    for id in ids {
        stage.reaches(id, MailState::Accepted).await;
    }
    stage.reaches(gone, MailState::Suppressed).await;
    assert_eq!(one.sent().len(), 20);
    stage.stop().await;
}

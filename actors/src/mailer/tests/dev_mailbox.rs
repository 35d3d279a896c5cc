//! The mailbox in memory.

use std::time::Duration;

use super::*;
use crate::mailer::provider::{
    AmbiguousCause, DevMailbox, MailProvider as _, Outcome, TransportError,
};

async fn send(mailbox: &DevMailbox, id: MailId, mail: &Mail) -> Result<Outcome, TransportError> {
    let request = mailbox.encode(id, mail).unwrap();
    mailbox.send(&request, Duration::from_secs(1)).await.map(|answer| answer.outcome)
}

fn to(address: &str) -> Mail {
    Mail::builder(mailbox("a@example.com"), [mailbox(address)])
        .subject(text("Hi"))
        .text("Hello")
        .build()
        .unwrap()
}

#[tokio::test]
async fn it_keeps_what_is_sent_as_it_was() {
    let dev = DevMailbox::new();
    let outcome = send(&dev, id(), &awkward()).await.unwrap();
    let accepted =
        Outcome::Accepted { provider_id: Some(format!("dev-{ID}").into()), recipients: Vec::new() };
    assert_eq!(outcome, accepted);
    let kept = dev.assert_sent_to("HIDDEN@example.net");
    assert_eq!((kept.id, kept.mail), (id(), awkward()));
    dev.assert_not_sent_to("nobody@example.net");
    dev.assert_count(1);
    assert!(!format!("{dev:?} {:?}", dev.mails()).contains("jane"));
}

#[tokio::test]
async fn a_mail_that_is_sent_twice_is_there_twice() {
    let dev = DevMailbox::new();
    for _ in 0..2 {
        send(&dev, id(), &to("b@example.com")).await.unwrap();
    }
    dev.assert_count(2);
    dev.clear();
    dev.assert_count(0);
}

#[tokio::test]
async fn the_oldest_go_when_it_is_full() {
    let dev = DevMailbox::keeping(2);
    for at in 0..3 {
        send(&dev, MailId::fresh(), &to(&format!("b{at}@example.com"))).await.unwrap();
    }
    dev.assert_count(2);
    dev.assert_not_sent_to("b0@example.com");
    dev.assert_sent_to("b1@example.com");
    dev.assert_sent_to("b2@example.com");
}

#[tokio::test]
async fn it_answers_what_a_test_wants_it_to() {
    let dev = DevMailbox::new();
    let lost = Err(TransportError::Ambiguous(AmbiguousCause::Timeout));
    dev.answer_next(lost.clone());
    dev.answer_next(Ok(Outcome::Misconfigured));
    let mail = to("b@example.com");
    assert_eq!(send(&dev, id(), &mail).await, lost);
    assert_eq!(send(&dev, id(), &mail).await, Ok(Outcome::Misconfigured));
    dev.assert_count(0);
    assert!(matches!(send(&dev, id(), &mail).await, Ok(Outcome::Accepted { .. })));
    dev.assert_count(1);
    for _ in 0..=DevMailbox::ANSWERS_LIMIT {
        dev.answer_next(Ok(Outcome::KeyBusy));
    }
    for _ in 0..DevMailbox::ANSWERS_LIMIT {
        assert_eq!(send(&dev, id(), &mail).await, Ok(Outcome::KeyBusy));
    }
    assert!(matches!(send(&dev, id(), &mail).await, Ok(Outcome::Accepted { .. })));
}

#[tokio::test]
async fn another_thread_can_wait_for_what_this_one_sends() {
    let dev = DevMailbox::new().named("dev-2").unwrap();
    assert_eq!(dev.name(), "dev-2");
    let theirs = dev.clone();
    let waits = std::thread::spawn(move || {
        futures_util::FutureExt::now_or_never(theirs.received(1));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(theirs.received(2));
        theirs.mails().len()
    });
    for _ in 0..2 {
        send(&dev, MailId::fresh(), &to("b@example.com")).await.unwrap();
    }
    assert_eq!(waits.join().unwrap(), 2);
}

#[tokio::test]
async fn a_request_that_is_not_its_own_is_refused() {
    let dev = DevMailbox::new();
    let mut request = dev.encode(id(), &awkward()).unwrap();
    request.body = b"{}".to_vec();
    let answer = dev.send(&request, Duration::from_secs(1)).await.unwrap();
    assert_eq!(answer.outcome, Outcome::RequestRejected);
}

//! From a signed webhook to the delivery of a mail, on both databases.

use std::sync::Arc;
use std::time::Duration;

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};

use super::stage::{Act, Script, mail_to};
use crate::inbox::tests::sign;
use crate::inbox::tests::sns::{self, Chain, Files, TOPIC};
use crate::inbox::{
    EventInfo, EventState, Headers, Inbox, InboxBuilder, InboxError, InboxId, Receipt, Source,
};
use crate::jobs::Jobs;
use crate::jobs::tests::{Base, eventually, on_each_database};
use crate::kernel::Tree;
use crate::mailer::events::{DeliveryEvent, DeliveryKind, EventReader, Recorded};
use crate::mailer::provider::{AmbiguousCause, Idempotency, Outcome, TransportError};
use crate::mailer::{
    Delivery, EmailAddress, Mail, MailId, MailState, MailStatus, Mailer, MailerError, ProviderSpec,
};
use crate::store::{Store, Timestamp, WallClock};

on_each_database! {
    a_signed_event_of_each_provider_ends_as_a_delivery_and_a_suppression,
    what_is_not_signed_changes_nothing,
    an_event_settles_a_mail_whose_fate_was_unknown,
    events_that_come_before_the_answer_count_when_it_is_there,
    no_event_and_its_mail_miss_each_other,
    an_event_that_names_nobody_is_about_the_only_recipient,
    what_cannot_be_read_is_dead_at_once,
    a_list_of_events_is_taken_in_one_by_one_and_once,
    what_a_topic_says_of_itself_is_no_event,
}

const SVIX: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const MAILGUN: &str = "mailgun key";

/// A mailer and an inbox that has a source of each provider, by its name.
struct Hall {
    tree: Tree,
    store: Store,
    jobs: Jobs,
    mailer: Mailer,
    inbox: Inbox,
    sendgrid: EcdsaKeyPair,
}

/// A delivery.
struct Post {
    source: &'static str,
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl Hall {
    async fn open(base: &Base, script: &Script) -> Self {
        let (store, tree) = (base.open().await, Tree::new());
        let provider = ProviderSpec::new(script.clone()).at_a_time(50);
        let mailer = Mailer::builder(&store).provider(provider).build(&tree).unwrap();
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let sendgrid = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap();
        let inbox = listen(&mailer, Inbox::builder(&store), &sendgrid);
        let jobs = Jobs::builder(&store).beat_every(Duration::from_millis(50)).threads(2);
        let (inbox, jobs) = inbox.register(mailer.declare(jobs)).unwrap();
        let jobs = jobs.start(&tree).await.unwrap();
        drop(mailer.start(&jobs, &tree));
        let inbox = inbox.start(&tree, &jobs);
        Self { tree, store, jobs, mailer, inbox, sendgrid }
    }

    async fn receive(&self, post: &Post) -> Result<Receipt, InboxError> {
        let headers: Headers = post.headers.iter().map(|(name, value)| (name, value)).collect();
        self.inbox.receive(post.source, &headers, post.body.clone().into()).await
    }

    /// Receives it and waits until its events are over.
    async fn take(&self, post: &Post, state: EventState) -> Vec<EventInfo> {
        let mut all = Vec::new();
        for event in self.receive(post).await.unwrap().events {
            all.push(self.event_reaches(event.id, state).await);
        }
        all
    }

    async fn event_reaches(&self, id: InboxId, state: EventState) -> EventInfo {
        let reached = async || {
            let info = self.inbox.find(id).await.unwrap().expect("the event is known");
            Some(info).filter(|info| info.state == state)
        };
        eventually(reached, &format!("an event is {state:?}")).await
    }

    async fn sent(&self, mail: Mail, state: MailState) -> MailId {
        let id = self.mailer.enqueue(mail).await.unwrap().id();
        let reached = async || Some(self.status(id).await).filter(|mail| mail.state == state);
        eventually(reached, &format!("a mail is {state}")).await;
        id
    }

    async fn status(&self, id: MailId) -> MailStatus {
        self.mailer.find(id).await.unwrap().expect("the mail is known")
    }

    async fn is_suppressed(&self, address: &str) -> bool {
        // It is not sent while a test lasts.
        let later = self.jobs.clock().now().after(Duration::from_secs(3_600));
        let again = self.mailer.enqueue(mail_to(address, "again")).deliver_after(later).await;
        matches!(again, Err(MailerError::Suppressed))
    }

    async fn stop(self) {
        self.jobs.drain(Duration::from_secs(5)).await;
        self.tree.stop(Duration::from_secs(5)).await;
        self.store.close().await;
    }

    /// As SendGrid signs it.
    fn of_sendgrid(&self, events: &Value) -> Post {
        let (body, time) = (events.to_string(), now_s().to_string());
        let signed = format!("{time}{body}");
        let signature = self.sendgrid.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        let headers = vec![
            ("x-twilio-email-event-webhook-signature", sign::base64(signature.as_ref())),
            ("x-twilio-email-event-webhook-timestamp", time),
        ];
        Post { source: "sendgrid", headers, body }
    }
}

fn listen(mailer: &Mailer, inbox: InboxBuilder, key: &EcdsaKeyPair) -> InboxBuilder {
    let prefix = sign::unbase64("MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAA");
    let key = sign::base64(&[&prefix[..26], key.public_key().as_ref()].concat());
    let chain = Chain::for_name("sns.amazonaws.com");
    let files = Arc::new(Files::with(format!("{}{}", chain.signing, chain.between)));
    let ses = Source::sns("ses", [TOPIC], chain.root.as_bytes(), files).unwrap();
    let postmark = Source::postmark("postmark", [("hook", "s3cret")]).unwrap();
    let inbox = mailer.listen(inbox, postmark, EventReader::postmark());
    let sendgrid = Source::sendgrid("sendgrid", [key]).unwrap();
    let inbox = mailer.listen(inbox, sendgrid, EventReader::sendgrid());
    let mailgun = Source::mailgun("mailgun", [MAILGUN]).unwrap();
    let inbox = mailer.listen(inbox, mailgun, EventReader::mailgun());
    let resend = Source::svix("resend", [SVIX]).unwrap();
    let inbox = mailer.listen(inbox, resend, EventReader::resend());
    mailer.listen(inbox, ses, EventReader::ses())
}

fn now_s() -> i64 {
    WallClock::system().now().0 / 1_000
}

fn now_text() -> String {
    jiff::Timestamp::from_second(now_s()).unwrap().to_string()
}

fn of_postmark(body: &Value) -> Post {
    let basic = sign::base64(b"hook:s3cret");
    let headers = vec![("authorization", format!("Basic {basic}"))];
    Post { source: "postmark", headers, body: body.to_string() }
}

fn of_mailgun(data: &Value) -> Post {
    let token = format!("{:050x}", fastrand::u128(..));
    let time = now_s().to_string();
    let tag = sign::hmac(MAILGUN.as_bytes(), &[time.as_bytes(), token.as_bytes()]);
    let signature = json!({"timestamp": time, "token": token, "signature": sign::hex(&tag)});
    let body = json!({"signature": signature, "event-data": data}).to_string();
    Post { source: "mailgun", headers: Vec::new(), body }
}

fn of_resend(body: &Value) -> Post {
    let (body, time) = (body.to_string(), now_s().to_string());
    let id = format!("msg_{:x}", fastrand::u64(..));
    let key = sign::unbase64(SVIX.strip_prefix("whsec_").unwrap());
    let tag = sign::hmac(&key, &[format!("{id}.{time}.{body}").as_bytes()]);
    let signature = format!("v1,{}", sign::base64(&tag));
    let headers = vec![("svix-id", id), ("svix-timestamp", time), ("svix-signature", signature)];
    Post { source: "resend", headers, body }
}

fn of_ses(message: &str) -> Post {
    let mut notification = sns::notification();
    notification["MessageId"] = format!("m-{:x}", fastrand::u64(..)).into();
    notification["Timestamp"] = now_text().into();
    notification["Message"] = message.into();
    let headers = vec![("content-type", "text/plain; charset=UTF-8".to_owned())];
    Post { source: "ses", headers, body: sns::signed(notification).to_string() }
}

/// That a mail was delivered, and later that its recipient is unknown, as each provider says it.
fn stories(hall: &Hall, source: &str, mail: MailId, to: &str) -> [Post; 2] {
    let (mail, at) = (mail.to_string(), now_text());
    match source {
        "postmark" => {
            let metadata = json!({"mail_id": mail});
            [
                of_postmark(&json!({
                    "RecordType": "Delivery", "MessageID": "p-1", "Metadata": metadata,
                    "Recipient": to, "DeliveredAt": at,
                })),
                of_postmark(&json!({
                    "RecordType": "Bounce", "MessageID": "p-1", "Metadata": metadata, "ID": 42,
                    "Type": "HardBounce", "Email": to, "BouncedAt": at,
                })),
            ]
        }
        "sendgrid" => [json!({"event": "delivered"}), json!({"event": "bounce"})].map(|event| {
            let is_bounce = event["event"] == "bounce";
            let mut event = json!({
                "event": event["event"], "email": to, "timestamp": now_s(), "mail_id": mail,
                "sg_event_id": format!("{:x}", fastrand::u64(..)), "sg_message_id": "p-1.recv-1",
            });
            if is_bounce {
                event["type"] = "bounce".into();
            }
            hall.of_sendgrid(&json!([event]))
        }),
        "mailgun" => ["delivered", "failed"].map(|event| {
            of_mailgun(&json!({
                "event": event, "timestamp": now_s(), "recipient": to, "severity": "permanent",
                "reason": "bounce", "user-variables": {"mail_id": mail},
                "message": {"headers": {"message-id": "p-1"}},
            }))
        }),
        "resend" => ["email.delivered", "email.bounced"].map(|event| {
            of_resend(&json!({
                "type": event, "created_at": at,
                "data": {"email_id": "p-1", "to": [to], "tags": {"mail_id": mail},
                    "bounce": {"type": "Permanent", "subType": "General"}},
            }))
        }),
        _ => {
            let of_mail = json!({
                "timestamp": at, "messageId": "p-1", "destination": [to],
                "tags": {"mail_id": [mail]},
            });
            let delivered = json!({
                "eventType": "Delivery", "mail": of_mail,
                "delivery": {"timestamp": at, "recipients": [to]},
            });
            let bounced = json!({
                "eventType": "Bounce", "mail": of_mail,
                "bounce": {"bounceType": "Permanent", "bounceSubType": "General", "timestamp": at,
                    "bouncedRecipients": [{"emailAddress": to}]},
            });
            [of_ses(&delivered.to_string()), of_ses(&bounced.to_string())]
        }
    }
}

const SOURCES: [&str; 5] = ["postmark", "sendgrid", "mailgun", "resend", "ses"];

async fn a_signed_event_of_each_provider_ends_as_a_delivery_and_a_suppression(base: Base) {
    let script = Script::new("any", Idempotency::None);
    let hall = Hall::open(&base, &script).await;
    for source in SOURCES {
        let to = format!("{source}@example.com");
        let mail = hall.sent(mail_to(&to, "hello"), MailState::Accepted).await;
        let [delivered, bounced] = stories(&hall, source, mail, &to);
        hall.take(&delivered, EventState::Done).await;
        assert_eq!(hall.status(mail).await.delivery, Delivery::Delivered, "{source}");
        hall.take(&bounced, EventState::Done).await;
        assert_eq!(hall.status(mail).await.delivery, Delivery::Bounced, "{source}");
        assert!(hall.is_suppressed(&to).await, "{source}");
        // It came again, as after an answer that was lost.
        let again = hall.receive(&delivered).await.unwrap();
        assert!(again.events.iter().all(|event| event.duplicate), "{source}");
    }
    assert!(!hall.is_suppressed("somebody.else@example.com").await);
    hall.stop().await;
}

async fn what_is_not_signed_changes_nothing(base: Base) {
    let script = Script::new("any", Idempotency::None);
    let hall = Hall::open(&base, &script).await;
    let mail = hall.sent(mail_to("ada@example.com", "hello"), MailState::Accepted).await;
    for source in SOURCES {
        let [_, mut bounced] = stories(&hall, source, mail, "ada@example.com");
        match source {
            // The one has its secret beside the body; the other signs nothing but its token.
            "postmark" => bounced.headers[0].1 = format!("Basic {}", sign::base64(b"hook:guess")),
            "mailgun" => bounced.body = bounced.body.replace("\"token\":\"0", "\"token\":\"1"),
            _ => bounced.body = bounced.body.replace("ada@", "eve@"),
        }
        let refused = hall.receive(&bounced).await;
        assert!(matches!(refused, Err(InboxError::Unverified)), "{source}: {refused:?}");
    }
    assert_eq!(hall.status(mail).await.delivery, Delivery::Sent);
    assert!(!hall.is_suppressed("ada@example.com").await);
    hall.stop().await;
}

async fn an_event_settles_a_mail_whose_fate_was_unknown(base: Base) {
    let script = Script::new("any", Idempotency::None);
    let hall = Hall::open(&base, &script).await;
    for source in SOURCES {
        script.next(Act::Fail(TransportError::Ambiguous(AmbiguousCause::Timeout)));
        let to = format!("{source}@example.com");
        let mail = hall.sent(mail_to(&to, "hello"), MailState::Unknown).await;
        let [delivered, _] = stories(&hall, source, mail, &to);
        hall.take(&delivered, EventState::Done).await;
        let status = hall.status(mail).await;
        assert_eq!((status.state, status.delivery), (MailState::Accepted, Delivery::Delivered));
        // Who said so has the mail, and calls it so.
        assert_eq!(status.provider.as_deref(), Some(source));
        assert_eq!(status.provider_id.as_deref(), Some("p-1"));
    }
    hall.stop().await;
}

fn bounce_of(provider_id: &str, number: u32) -> Post {
    of_postmark(&json!({
        "RecordType": "Bounce", "MessageID": provider_id, "ID": number, "Type": "HardBounce",
        "Email": "ada@example.com", "BouncedAt": now_text(),
    }))
}

async fn events_that_come_before_the_answer_count_when_it_is_there(base: Base) {
    let script = Script::new("postmark", Idempotency::None);
    let hall = Hall::open(&base, &script).await;
    // They have no number of ours, and there is no mail yet that is called so.
    hall.take(&bounce_of("p-1", 1), EventState::Done).await;
    hall.take(&bounce_of("p-2", 2), EventState::Done).await;
    assert!(!hall.is_suppressed("ada@example.com").await);
    let mail = hall.sent(mail_to("bob@example.com", "hello"), MailState::Accepted).await;
    let status = hall.status(mail).await;
    assert_eq!((status.provider_id.as_deref(), status.delivery), (Some("p-1"), Delivery::Bounced));
    assert!(hall.is_suppressed("ada@example.com").await);
    // The same at the moment that another event tells what an unknown mail is called.
    script.next(Act::Fail(TransportError::Ambiguous(AmbiguousCause::Timeout)));
    let mail = hall.sent(mail_to("bob@example.com", "again"), MailState::Unknown).await;
    let sent = DeliveryEvent {
        provider: "postmark".into(),
        event_id: "sent".into(),
        mail: Some(mail),
        provider_id: Some("p-2".into()),
        kind: DeliveryKind::Sent,
        recipient: None,
        happened_at: Timestamp(0),
    };
    assert_eq!(hall.mailer.record(sent).await.unwrap(), Recorded::Mail(mail));
    let status = hall.status(mail).await;
    assert_eq!((status.state, status.delivery), (MailState::Accepted, Delivery::Bounced));
    hall.stop().await;
}

async fn no_event_and_its_mail_miss_each_other(base: Base) {
    const MAILS: usize = 60;
    let script = Script::new("postmark", Idempotency::None);
    let hall = Hall::open(&base, &script).await;
    for number in 0..MAILS {
        let provider_id = Some(format!("p-{number}").into());
        script.next(Act::Say(Outcome::Accepted { provider_id, recipients: Vec::new() }));
    }
    let mut mails = Vec::new();
    for number in 0..MAILS {
        mails.push(hall.mailer.enqueue(mail_to("ada@example.com", "hi")).await.unwrap().id());
        let event = DeliveryEvent {
            provider: "postmark".into(),
            event_id: format!("e-{number}").into(),
            mail: None,
            provider_id: Some(format!("p-{number}").into()),
            kind: DeliveryKind::Delivered,
            recipient: None,
            happened_at: Timestamp(0),
        };
        let mailer = hall.mailer.clone();
        actix::spawn(async move { mailer.record(event).await.unwrap() });
    }
    for id in mails {
        let delivered = async || {
            let delivery = hall.status(id).await.delivery;
            (delivery == Delivery::Delivered).then_some(())
        };
        eventually(delivered, "a mail is delivered").await;
    }
    hall.stop().await;
}

async fn an_event_that_names_nobody_is_about_the_only_recipient(base: Base) {
    let script = Script::new("any", Idempotency::None);
    let hall = Hall::open(&base, &script).await;
    let two = |to: &str, copy: &str| {
        let address = |text: &str| EmailAddress::parse(text).unwrap();
        Mail::builder(address("shop@example.com").into(), [address(to).into()])
            .cc(address(copy).into())
            .subject("hello".parse().unwrap())
            .text("hello")
            .build()
            .unwrap()
    };
    let both = hall.sent(two("ada@example.com", "bob@example.com"), MailState::Accepted).await;
    let one = hall.sent(mail_to("eve@example.com", "hello"), MailState::Accepted).await;
    for (mail, to) in [(both, "ada@example.com"), (one, "eve@example.com")] {
        let [_, bounced] = stories(&hall, "resend", mail, to);
        hall.take(&bounced, EventState::Done).await;
        assert_eq!(hall.status(mail).await.delivery, Delivery::Bounced);
    }
    assert!(!hall.is_suppressed("ada@example.com").await, "it may have been the other");
    assert!(!hall.is_suppressed("bob@example.com").await, "it may have been the other");
    assert!(hall.is_suppressed("eve@example.com").await);
    hall.stop().await;
}

async fn what_cannot_be_read_is_dead_at_once(base: Base) {
    let script = Script::new("any", Idempotency::None);
    let hall = Hall::open(&base, &script).await;
    let mail = hall.sent(mail_to("ada@example.com", "hello"), MailState::Accepted).await;
    let broken = of_postmark(&json!({
        "RecordType": "Bounce", "MessageID": "p-1", "Metadata": {"mail_id": mail.to_string()},
        "Type": "HardBounce", "Email": "ada@example.com", "BouncedAt": "yesterday",
    }));
    let [info] = hall.take(&broken, EventState::Dead).await.try_into().unwrap();
    let errors = hall.jobs.errors(info.job.unwrap()).await.unwrap();
    let errors = format!("{errors:?}");
    assert!(errors.contains("the time of the event is none"), "{errors}");
    assert!(!errors.contains("ada@") && !errors.contains("yesterday"), "{errors}");
    assert_eq!(hall.status(mail).await.delivery, Delivery::Sent);
    assert!(!hall.is_suppressed("ada@example.com").await);
    hall.stop().await;
}

async fn a_list_of_events_is_taken_in_one_by_one_and_once(base: Base) {
    let script = Script::new("any", Idempotency::None);
    let hall = Hall::open(&base, &script).await;
    let mail = hall.sent(mail_to("ada@example.com", "hello"), MailState::Accepted).await;
    let event = |id: &str, event: &str, timestamp: Value| {
        json!({
            "event": event, "email": "ada@example.com", "timestamp": timestamp,
            "mail_id": mail.to_string(), "sg_event_id": id,
        })
    };
    let (now, soon) = (json!(now_s()), json!("soon"));
    let list = json!([
        event("1", "delivered", now.clone()),
        event("2", "deferred", now.clone()),
        event("3", "open", soon),
        event("4", "of_next_year", now),
    ]);
    let receipt = hall.receive(&hall.of_sendgrid(&list)).await.unwrap();
    let states = [EventState::Done, EventState::Done, EventState::Dead, EventState::Done];
    for (event, state) in receipt.events.iter().zip(states) {
        hall.event_reaches(event.id, state).await;
    }
    // What came late says less.
    assert_eq!(hall.status(mail).await.delivery, Delivery::Delivered);
    let again = hall.receive(&hall.of_sendgrid(&list)).await.unwrap();
    assert!(again.events.iter().all(|event| event.duplicate && !event.conflict));
    hall.stop().await;
}

async fn what_a_topic_says_of_itself_is_no_event(base: Base) {
    let script = Script::new("any", Idempotency::None);
    let hall = Hall::open(&base, &script).await;
    let greeting = "Successfully validated SNS topic for Amazon SES event publishing.";
    hall.take(&of_ses(greeting), EventState::Done).await;
    hall.take(&of_ses("hello"), EventState::Dead).await;
    let mut confirmation = sns::confirmation(sns::CONFIRM);
    confirmation["Timestamp"] = now_text().into();
    let body = sns::signed(confirmation).to_string();
    let post = Post { source: "ses", headers: Vec::new(), body };
    let receipt = hall.receive(&post).await.unwrap();
    assert!(receipt.confirmation.is_some());
    hall.event_reaches(receipt.events[0].id, EventState::Ignored).await;
    hall.stop().await;
}

//! What a log at the finest level must not have in it, over the whole life of mails.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use super::claims::{NO_KEYS, event};
use super::fault_server::{Fault, FaultServer};
use super::stage::{Act, Script, Stage};
use super::*;
use crate::jobs::tests::{Base, eventually};
use crate::mailer::events::DeliveryKind;
use crate::mailer::provider::{
    HttpApi, HttpProvider, MailProvider, Mailgun, Outcome, Postmark, RecipientOutcome,
    RecipientStatus, Resend, SendGrid, Ses, SesCredentials,
};

const CHILD: &str = "STEADFAST_TEST_MAILER_TALKS";
/// Between the log and what has a `Debug` or a `Display`.
const TOLD: &str = "--- told:";
const TOKEN: &str = "token-mark";
/// What is in every field of the mail, and what is secret.
const HIDDEN: [&str; 12] = [
    "address-mark",
    "other-mark",
    "name-mark",
    "subject-mark",
    "body-mark",
    "html-mark",
    "file-mark",
    "header-mark",
    "metadata-mark",
    "why-mark",
    "pass-mark",
    TOKEN,
];

#[test]
fn neither_addresses_nor_content_nor_secrets_are_told_on_sqlite() {
    check("sqlite", &[]);
}

#[actix::test]
async fn neither_addresses_nor_content_nor_secrets_are_told_on_postgres() {
    if Base::postgres().await.is_some() {
        check("postgres", &["executing statement"]);
    }
}

/// In a process of its own, so that its subscriber hears every thread and no other test.
#[track_caller]
fn check(database: &str, speaks: &[&str]) {
    let name = "mailer::tests::silence::child_that_logs_everything";
    let output = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(CHILD, database)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    let events = ["mailer.attempted", "mailer.not_encodable", "TRACE", "breaker", TOLD];
    for event in events.iter().chain(speaks) {
        assert!(text.contains(event), "{event} is told, otherwise this shows nothing:\n{text}");
    }
    for hidden in HIDDEN {
        // As text, and as what a driver prints of bytes.
        let bytes = format!("{:?}", hidden.as_bytes());
        for told in [hidden, bytes.trim_matches(['[', ']'])] {
            assert!(!text.contains(told), "{hidden} is told as {told}:\n{text}");
        }
    }
}

/// Not a test of its own: what the tests here start.
#[actix::test]
async fn child_that_logs_everything() {
    let base = match std::env::var(CHILD).as_deref() {
        Ok("sqlite") => Base::sqlite(),
        Ok("postgres") => Base::postgres().await.unwrap(),
        _ => return,
    };
    // What the driver of PostgreSQL says goes to `log`.
    tracing_log::LogTracer::init().unwrap();
    tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false).init();
    let mut told = wires().await;
    told += &life(&base).await;
    println!("{TOLD} {told}");
}

fn marked() -> Mail {
    let file = Attachment::new("file-mark.pdf", "application/pdf", *b"file-mark").unwrap();
    Mail::builder(
        mailbox("name-mark <shop@example.com>"),
        [mailbox("name-mark <address-mark@example.com>")],
    )
    .bcc(mailbox("other-mark@example.com"))
    .subject(text("subject-mark"))
    .text("body-mark")
    .html("<p>html-mark</p>")
    .header(HeaderName::new("X-Order").unwrap(), text("header-mark"))
    .attach(file)
    .metadata("order", "metadata-mark")
    .build()
    .unwrap()
}

fn apis(url: &str) -> Vec<Arc<dyn MailProvider>> {
    fn provider(api: impl HttpApi) -> Arc<dyn MailProvider> {
        Arc::new(HttpProvider::new(api, HttpTransport::new().unwrap()))
    }
    let keys = SesCredentials::new("AKIDEXAMPLE", TOKEN).unwrap();
    vec![
        provider(Postmark::new(TOKEN).unwrap().base_url(url).unwrap()),
        provider(SendGrid::new(TOKEN).unwrap().base_url(url).unwrap()),
        provider(Mailgun::new("mg.example.com", TOKEN).unwrap().base_url(url).unwrap()),
        provider(Resend::new(TOKEN).unwrap().base_url(url).unwrap()),
        provider(Ses::new("eu-central-1", keys).unwrap().base_url(url).unwrap()),
    ]
}

/// A provider that says back what it was sent.
fn echo(status: &str) -> Fault {
    let words = "address-mark@example.com name-mark subject-mark body-mark token-mark";
    let body = format!(
        r#"{{"ErrorCode":406,"Message":"{words}","message":"{words}","name":"validation_error",
            "statusCode":422,"errors":[{{"message":"{words}","field":"{words}"}}],
            "__type":"MessageRejected","To":"address-mark@example.com"}}"#
    );
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\nx-echo: {words}\r\ncontent-length: {length}");
    Fault::Answer(format!("{head}\r\n\r\n{body}").into_bytes())
}

/// Every provider over the wire, with every way to fail.
async fn wires() -> String {
    let faults = [
        Fault::Reset,
        Fault::Close,
        Fault::Stall,
        Fault::Answer(b"HTTP/1.1 200 OK\r\n\r\nno answer".to_vec()),
        Fault::AnswerAndReset(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n".to_vec()),
        echo("200 OK"),
        echo("400 Bad Request"),
        echo("401 Unauthorized"),
        echo("422 Unprocessable Content"),
        echo("429 Too Many Requests"),
        echo("500 Internal Server Error"),
    ];
    let mut told = String::new();
    let id = MailId::fresh();
    for fault in faults {
        let server = FaultServer::start(fault).await;
        for provider in apis(&format!("http://{}", server.address)) {
            let request = provider.encode(id, &marked()).unwrap();
            let answer = provider.send(&request, Duration::from_millis(300)).await;
            // What it says of recipients is for the list of those who get no mail.
            let answer = answer.map(|answer| (answer.http_status, answer.code));
            told += &format!("{provider:?} {request:?} {answer:?}\n");
        }
    }
    told + &over_smtp(id).await
}

#[cfg(feature = "smtp")]
async fn over_smtp(id: MailId) -> String {
    use crate::mailer::provider::{Smtp, SmtpSecurity};

    let mut told = String::new();
    let refuses = b"554 address-mark@example.com token-mark\r\n".to_vec();
    for fault in [Fault::Reset, Fault::Silent, Fault::Greet(refuses)] {
        let server = FaultServer::start(fault).await;
        let smtp = Smtp::new("127.0.0.1", SmtpSecurity::None).unwrap();
        let smtp = smtp.port(server.address.port()).credentials("name-mark", "pass-mark");
        let request = smtp.encode(id, &marked()).unwrap();
        let answer = smtp.send(&request, Duration::from_millis(300)).await;
        let answer = answer.map(|answer| (answer.http_status, answer.code));
        told += &format!("{smtp:?} {request:?} {answer:?}\n");
    }
    told
}

#[cfg(not(feature = "smtp"))]
async fn over_smtp(_: MailId) -> String {
    String::new()
}

/// From the first word to the last: enqueued, sent and failed, answered, listed, swept.
async fn life(base: &Base) -> String {
    let server = FaultServer::start(echo("422 Unprocessable Content")).await;
    let postmark = apis(&format!("http://{}", server.address)).remove(0);
    let one = Script::new("one", NO_KEYS);
    let stage = Stage::start(base, &[&one], |builder| {
        let postmark = ProviderSpec::shared(postmark).weight(0);
        let builder = builder.provider(postmark).order(Order::Weighted).max_attempts(2);
        builder.keep_content_for(Duration::from_secs(3_600))
    })
    .await;
    let mut told = format!("{:?} {:?}\n", stage.mailer, stage.mailer.enqueue(marked()));

    let id = stage.send(marked()).await;
    let mut status = stage.reaches(id, MailState::Accepted).await;
    told += &format!("{status:?}\n");
    one.next(Act::Panic);
    let cut_off = stage.send(marked()).await;
    status = stage.reaches(cut_off, MailState::Unknown).await;
    told += &format!("{status:?}\n");
    assert!(stage.mailer.try_again(cut_off).await.unwrap());
    stage.reaches(cut_off, MailState::Accepted).await;
    let again = stage.mailer.resend(id, "why-mark").await.unwrap().unwrap();
    let keyed = stage.mailer.enqueue(plain().build().unwrap()).key("k").await.unwrap().id();
    // Before its provider takes nothing any more: that would let the provider rest.
    for id in [again, keyed] {
        stage.reaches(id, MailState::Accepted).await;
    }
    let conflict = stage.mailer.enqueue(marked()).key("k").await.unwrap_err();
    told += &format!("{conflict} {conflict:?}\n");

    // The other provider says back all that it was sent, whenever this one takes nothing.
    one.always(Act::Say(Outcome::Unavailable { retry_after: None }));
    for carries in [false, true] {
        one.carries(carries);
        let id = stage.send(marked()).await;
        let settled = async || Some(stage.status(id).await).filter(|mail| !mail.state.is_open());
        status = eventually(settled, "the mail is settled").await;
        assert!(status.attempts.iter().any(|attempt| &*attempt.provider == "postmark"));
        told += &format!("{status:?}\n");
        for address in ["address-mark@example.com", "other-mark@example.com"] {
            let _was_refused =
                stage.mailer.unsuppress("", &address.parse().unwrap()).await.unwrap();
        }
    }
    let mut bounced = event("e1", id, DeliveryKind::Bounced);
    bounced.recipient = Some("address-mark@example.com".parse().unwrap());
    told += &format!("{:?}\n", stage.mailer.record(bounced).await.unwrap());
    let suppressed = stage.mailer.enqueue(marked()).await.unwrap_err();
    told += &format!("{suppressed} {suppressed:?}\n");
    let recipient = RecipientOutcome {
        address: "other-mark@example.com".parse().unwrap(),
        status: RecipientStatus::Inactive,
    };
    told += &format!("{recipient:?}\n");
    let (until, other) = (stage.jobs.clock().now(), "other-mark@example.com".parse().unwrap());
    stage.mailer.suppress("", &other, "asked", Some(until)).await.unwrap();
    stage.age(Duration::from_secs(7_200)).await;
    told += &format!("{:?}\n", stage.mailer.sweep().await.unwrap());
    stage.stop().await;
    told
}

//! What a log at the finest level must not have in it.

use std::process::Command;

use super::*;
use crate::jobs::{Job, JobError};
use crate::kernel::Fault;

const CHILD: &str = "STEADFAST_TEST_INBOX_TALKS";
const SECRET: &str = "whsec_aHVzaGh1c2hodXNoaHVzaGh1c2hodXNoaHVzaA==";
/// Between the log and what has a `Debug` or a `Display`.
const TOLD: &str = "--- told:";
/// What is secret, what is in a delivery, and what is in jobs.
const HIDDEN: [&str; 11] = [
    "payload-mark",
    "aHVzaGh1c2h",
    "hushhush",
    "pass-mark",
    "id-mark",
    "sig-mark",
    "agent-mark",
    "subject-mark",
    "args-mark",
    "key-mark",
    "tenant-mark",
];
/// The ids of events: users see them, logs do not.
const NUMBER: &str = "number-mark";

#[test]
fn neither_secrets_nor_payloads_nor_credentials_are_told_on_sqlite() {
    check("sqlite", &[]);
}

#[actix::test]
async fn neither_secrets_nor_payloads_nor_credentials_are_told_on_postgres() {
    if Base::postgres().await.is_some() {
        check("postgres", &["executing statement", "with parameters"]);
    }
}

/// In a process of its own, so that its subscriber hears every thread and no other test.
#[track_caller]
fn check(database: &str, speaks: &[&str]) {
    let name = "inbox::tests::silence::child_that_logs_everything";
    let output = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(CHILD, database)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    let events = [
        "inbox.stored",
        "inbox.unverified",
        "inbox.unparsable",
        "inbox.conflict",
        "inbox.replayed",
        "jobs.died",
        TOLD,
    ];
    for event in events.iter().chain(speaks) {
        assert!(text.contains(event), "{event} is told, otherwise this shows nothing:\n{text}");
    }
    let (log, _) = text.split_once(TOLD).unwrap();
    let hidden = HIDDEN.iter().map(|hidden| (*hidden, &*text));
    for (hidden, text) in hidden.chain([(NUMBER, log)]) {
        // As text, and as what a driver prints of bytes.
        let bytes = format!("{:?}", hidden.as_bytes());
        for told in [hidden, bytes.trim_matches(['[', ']'])] {
            assert!(!text.contains(told), "{hidden} is told as {told}:\n{text}");
        }
    }
}

/// Not a test of its own: what the test here starts.
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
    println!("{TOLD} {}", scenario(base).await);
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Later {
    text: String,
}

impl Job for Later {
    const KIND: &'static str = "later";
}

fn body(number: usize, event_type: &str, more: &str) -> Bytes {
    let id = format!("{NUMBER}-{number}");
    let body = format!(
        r#"{{"id":"{id}","type":"{event_type}","subject":"subject-mark","x":"payload-mark"{more}}}"#
    );
    body.into()
}

/// Everything that is logged, and in the answer all that has a `Debug` or a `Display`.
async fn scenario(base: Base) -> String {
    let hooks = Source::standard_webhooks("hooks", [SECRET]).unwrap();
    let basic = Source::basic("basic", [("ada", "pass-mark")], Envelope::common()).unwrap();
    let mut told = format!("{hooks:?} {basic:?}");
    let bench = base
        .bench(|mut inbox| {
            inbox.replace_source(shop().serial_by_subject());
            let inbox = inbox.source(hooks).source(basic).max_attempts(1);
            let inbox = inbox.on(SHOP, "good", |_, _| async { Ok(()) });
            inbox.on(SHOP, "bad", |event, _| async move {
                let _number: u64 = event.body.decode()?;
                Err(JobError::retry("it is never reached"))
            })
        })
        .await;
    let headers: Headers = [
        ("authorization", "Basic pass-mark"),
        ("cookie", "pass-mark"),
        ("webhook-id", "id-mark"),
        ("webhook-timestamp", "1"),
        ("webhook-signature", "v1,sig-mark"),
        ("user-agent", "agent-mark"),
    ]
    .into_iter()
    .collect();
    for source in ["hooks", "basic"] {
        let refused = bench.inbox.receive(source, &headers, body(1, "bad", "")).await.unwrap_err();
        told += &format!("{refused} {refused:?} {}", refused.code());
    }
    let receive = async |body| bench.inbox.receive(SHOP, &headers, body).await.unwrap();
    let receipt = receive(body(1, "bad", "")).await;
    told += &format!("{receipt:?}");
    receive(body(1, "bad", r#","y":1"#)).await;
    receive(Bytes::from("payload-mark{")).await;
    receive(body(2, "nobody's", "")).await;
    let info = bench.reaches(receipt.events[0].id, EventState::Dead).await;
    let errors = bench.jobs.errors(info.job.unwrap()).await.unwrap();
    let posted = body(1, "bad", "");
    let (limits, window) = (JsonLimits::default(), Window::default());
    let (headers_seen, now) = (&headers, info.received_at);
    let delivery = Delivery { headers: headers_seen, body: &posted, limits: &limits, window, now };
    told +=
        &format!("{info:?} {errors:?} {delivery:?} {:?} {:?} {headers:?}", bench.inbox, bench.jobs);
    // One waits for the other.
    receive(body(3, "good", "")).await;
    let good = receive(body(4, "good", "")).await.events[0].id;
    bench.reaches(good, EventState::Done).await;
    for state in [EventState::Dead, EventState::Unparsable, EventState::Ignored] {
        let filter = EventFilter::new(state).source(SHOP);
        told += &format!("{:?}", bench.inbox.replay(Replay::new(filter)).await.unwrap());
    }
    let id = bench.inbox.find_by_event_id(SHOP, &format!("{NUMBER}-4")).await.unwrap();
    assert_eq!(id, Some(good));
    assert_eq!(bench.inbox.raw(good).await.unwrap().unwrap(), body(4, "good", ""));
    for key in ["key-mark", "key-mark and more"] {
        let later = bench.jobs.enqueue(Later { text: "args-mark".into() }).delay(WITHIN);
        told += &format!("{:?}", later.tenant("tenant-mark").unique(key).await.unwrap());
    }
    let later = bench.jobs.enqueue(Later { text: "args-mark".into() }).delay(WITHIN);
    told += &format!("{:?}", later.await.unwrap());
    bench.stop().await;
    told
}

//! What a log at the finest level must not have in it.

use std::process::Command;

use super::*;
use crate::jobs::JobError;
use crate::kernel::Fault;

const CHILD: &str = "STEADFAST_TEST_INBOX_TALKS";
const SECRET: &str = "whsec_aHVzaGh1c2hodXNoaHVzaGh1c2hodXNoaHVzaA==";
const MARK: &str = "payload-mark";
/// Between the log and what has a `Debug` or a `Display`.
const TOLD: &str = "--- told:";

/// In a process of its own, so that its subscriber hears every thread and no other test.
#[test]
fn neither_secrets_nor_payloads_nor_credentials_are_told() {
    let name = "inbox::tests::silence::child_that_logs_everything";
    let output = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(CHILD, "1")
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
    for event in events {
        assert!(text.contains(event), "{event} is told, otherwise this shows nothing:\n{text}");
    }
    for hidden in [
        MARK,
        "aHVzaGh1c2h",
        "hushhush",
        "pass-mark",
        "id-mark",
        "sig-mark",
        "agent-mark",
        "subject-mark",
    ] {
        assert!(!text.contains(hidden), "{hidden} is told:\n{text}");
    }
}

/// Not a test of its own: what the test here starts.
#[actix::test]
async fn child_that_logs_everything() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false).init();
    println!("{TOLD} {}", scenario().await);
}

/// Everything that is logged, and in the answer all that has a `Debug` or a `Display`.
async fn scenario() -> String {
    let hooks = Source::standard_webhooks("hooks", [SECRET]).unwrap();
    let basic = Source::basic("basic", [("ada", "pass-mark")], Envelope::common()).unwrap();
    let mut told = format!("{hooks:?} {basic:?}");
    let bench = Base::sqlite()
        .bench(|inbox| {
            let inbox = inbox.source(hooks).source(basic).max_attempts(1);
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
    let body = |text: &str| {
        Bytes::from(format!(
            r#"{{"id":"1","type":"bad","subject":"subject-mark","x":"{MARK}"{text}}}"#
        ))
    };
    for source in ["hooks", "basic"] {
        let refused = bench.inbox.receive(source, &headers, body("")).await.unwrap_err();
        told += &format!("{refused} {refused:?} {}", refused.code());
    }
    let receipt = bench.inbox.receive(SHOP, &headers, body("")).await.unwrap();
    told += &format!("{receipt:?}");
    bench.inbox.receive(SHOP, &headers, body(r#","y":1"#)).await.unwrap();
    let broken = Bytes::from(format!("{MARK}{{"));
    bench.inbox.receive(SHOP, &headers, broken).await.unwrap();
    let info = bench.reaches(receipt.events[0].id, EventState::Dead).await;
    let errors = bench.jobs.errors(info.job.unwrap()).await.unwrap();
    let posted = body("");
    let (limits, window) = (JsonLimits::default(), Window::default());
    let (headers_seen, now) = (&headers, info.received_at);
    let delivery = Delivery { headers: headers_seen, body: &posted, limits: &limits, window, now };
    told +=
        &format!("{info:?} {errors:?} {delivery:?} {:?} {:?} {headers:?}", bench.inbox, bench.jobs);
    let dead = Replay::new(EventFilter::new(EventState::Dead));
    bench.inbox.replay(dead).await.unwrap();
    bench.stop().await;
    told
}

//! What cannot be meant is refused before anything is received.

use super::*;
use crate::jobs::Job;
use crate::kernel::Fault;

async fn memory() -> Store {
    SqliteStore::open(SqliteOptions::memory()).await.unwrap().into()
}

#[track_caller]
fn check(store: &Store, change: impl FnOnce(InboxBuilder) -> InboxBuilder, expected: Option<&str>) {
    let builder = change(Inbox::builder(store));
    let found = builder.register(Jobs::builder(store));
    assert_eq!(found.err().map(|error| error.to_string()).as_deref(), expected);
}

fn source(name: &str) -> Source {
    Source::unverified(name, Envelope::common())
}

#[actix::test]
async fn settings_are_taken_at_their_limits_and_not_one_past_them() {
    let store = memory().await;
    let of_source = |source: Source| move |inbox: InboxBuilder| inbox.source(source);
    let name = "`the name of a source` must be 1 to 64 of a to z, 0 to 9, - and _";
    check(&store, of_source(source(&"x".repeat(64))), None);
    check(&store, of_source(source(&"x".repeat(65))), Some(name));
    for wrong in ["", "A", "a b", "a/b"] {
        check(&store, of_source(source(wrong)), Some(name));
    }
    let body = "`body_max` must be 1 byte to 16 MiB";
    check(&store, of_source(source("a").body_max(16 << 20)), None);
    check(&store, of_source(source("a").body_max((16 << 20) + 1)), Some(body));
    check(&store, of_source(source("a").body_max(0)), Some(body));
    check(&store, of_source(source("a").depth_max(127)), None);
    check(&store, of_source(source("a").depth_max(128)), Some("`depth_max` must be 1 to 127"));
    check(
        &store,
        of_source(source("a").tokens_max(0)),
        Some("`tokens_max` must be 1 to 10 million"),
    );
    let day = Duration::from_secs(86_400);
    check(
        &store,
        of_source(source("a").window(day * 31, day)),
        Some("`window` must be at most 30 days"),
    );
    let kept = "`keep_for` must be no shorter than the window of a source";
    let source_of = |past| source("a").window(past, Duration::ZERO);
    check(&store, |inbox| inbox.source(source_of(day)).keep_for(day), None);
    check(&store, |inbox| inbox.source(source_of(day * 2)).keep_for(day), Some(kept));
    check(&store, |inbox| inbox, Some("`sources` must be 1 to 256"));
    let many = |count: usize| {
        move |inbox| {
            (0..count)
                .fold(inbox, |inbox: InboxBuilder, one| inbox.source(source(&one.to_string())))
        }
    };
    check(&store, many(256), None);
    check(&store, many(257), Some("`sources` must be 1 to 256"));
}

#[actix::test]
async fn headers_with_credentials_cannot_be_kept() {
    let store = memory().await;
    let refused = "`keep_header` must be at most 16 headers without credentials";
    for name in ["Authorization", "cookie", "Set-Cookie", "proxy-authorization", "X-Api-Key"] {
        check(&store, |inbox| inbox.source(source("a").keep_header(name)), Some(refused));
        let place = Place::Header(name.to_ascii_lowercase().into());
        let envelope = Envelope::new(place, Place::BodyHash);
        check(&store, |inbox| inbox.source(Source::unverified("a", envelope)), Some(refused));
    }
}

#[actix::test]
async fn what_is_declared_twice_or_for_nobody_is_refused() {
    let store = memory().await;
    let nothing = |_, _| async { Ok(()) };
    let twice = |what: &str| Some(format!("`{what}` is declared twice"));
    let both = |inbox: InboxBuilder| inbox.source(source("a")).source(source("a"));
    check(&store, both, twice("a").as_deref());
    let both =
        |inbox: InboxBuilder| inbox.source(source("a")).on("a", "t", nothing).on("a", "t", nothing);
    check(&store, both, twice("t").as_deref());
    let nobody = Some("`source of a handler or upcaster` must be one that is declared");
    check(&store, |inbox| inbox.source(source("a")).on("b", "t", nothing), nobody);
    let upcast = |inbox: InboxBuilder| {
        inbox.source(source("a")).upcast("b", "t", "1", "2", |json| Ok(json.to_vec()))
    };
    check(&store, upcast, nobody);
    let circle = |inbox: InboxBuilder| {
        let inbox = inbox.source(source("a"));
        let inbox = inbox.upcast("a", "t", "1", "2", |json| Ok(json.to_vec()));
        inbox.upcast("a", "t", "2", "1", |json| Ok(json.to_vec()))
    };
    check(&store, circle, Some("`upcast` must be a chain without a circle"));
    let postgres = |inbox: InboxBuilder| {
        inbox.source(source("a")).on_postgres("a", "t", |_, _| Box::pin(async { Ok(()) }))
    };
    let foreign = "the transaction belongs to another kind of database";
    check(&store, postgres, Some(foreign));
}

#[test]
fn each_error_has_a_code_of_its_own() {
    let wait = Duration::from_secs(1);
    let all = [
        InboxError::UnknownSource,
        InboxError::Unverified,
        InboxError::TooLarge { limit: 1 },
        InboxError::CertificateUnavailable { retry_after: wait },
        InboxError::InvalidSetting { setting: "", expected: "" },
        InboxError::Taken("a".into()),
        InboxError::Superseded,
        InboxError::ForeignTransaction,
    ];
    let codes: std::collections::BTreeSet<_> = all.iter().map(|error| error.code()).collect();
    assert_eq!(codes.len(), all.len());
    assert!(codes.iter().all(|code| code.as_str().starts_with("inbox.")));
    let waits: Vec<_> = all.iter().filter_map(Fault::retry_after).collect();
    assert_eq!(waits, [wait]);
    assert_eq!(run::EventJob::KIND, "inbox.event");
}

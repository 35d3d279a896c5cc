//! What providers and the wire can be set to.

use std::time::Duration;

use super::golden::ses;
use super::*;
use crate::mailer::provider::{
    HttpApi as _, HttpProvider, MailProvider as _, Mailgun, Postmark, ProviderError, Secret, Ses,
    SesCredentials, SesKeys,
};
use crate::store::Timestamp;

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, ProviderError>, name: &str) {
    match result {
        Err(ProviderError::InvalidSetting { setting, .. }) => assert_eq!(setting, name),
        other => panic!("{other:?}"),
    }
}

#[test]
fn mail_and_tokens_do_not_cross_a_network_in_the_clear() {
    let api = || Postmark::new("token").unwrap();
    for url in ["https://example.com", "http://127.0.0.1:80/x/", "http://[::1]", "http://localhost"]
    {
        assert!(api().base_url(url).is_ok(), "{url}");
    }
    for url in [
        "http://example.com",
        "http://127.0.0.1.example.com",
        "http://localhost.example.com",
        "http://10.0.0.1",
        "ftp://127.0.0.1",
        "https://user:password@example.com",
        "https://example.com/?a=b",
        "https://example.com/#a",
        "example.com",
        "",
    ] {
        refused(api().base_url(url), "base_url");
    }
    let api = api().base_url("https://proxy.example.com/postmark/").unwrap();
    let request = api.encode(id(), &plain().build().unwrap()).unwrap();
    assert_eq!(request.url, "https://proxy.example.com/postmark/email");
    refused(ses().base_url("https://example.com/path"), "base_url");
    assert!(ses().base_url("https://example.com/").is_ok());
}

#[test]
fn what_cannot_stand_in_a_header_is_no_token() {
    for token in ["", "a b", "a\r\nb", "ä", &"t".repeat(4097)] {
        refused(Postmark::new(token), "postmark.token");
    }
    assert!(Postmark::new("t".repeat(4096)).is_ok());
    refused(SesCredentials::new("a\n", "b"), "ses.access_key_id");
    refused(SesCredentials::new("a", "b\n"), "ses.secret_access_key");
    assert_eq!(format!("{:?}", Secret::from("hidden")), "Secret(…)");
}

#[test]
fn names_that_are_none_are_refused() {
    for domain in ["", "a/b", "a%2fb", "exa mple.com", "a?b"] {
        refused(Mailgun::new(domain, "key"), "mailgun.domain");
    }
    let keys = || SesCredentials::new("a", "b").unwrap();
    for region in ["", "EU", "eu/1", "eu.example.com", &"r".repeat(33)] {
        refused(Ses::new(region, keys()), "ses.region");
    }
    refused(Postmark::new("t").unwrap().message_stream("a b"), "message_stream");
    refused(ses().configuration_set(""), "configuration_set");
    refused(ses().max_bytes(999), "max_bytes");
    refused(ses().max_bytes(40_000_001), "max_bytes");
    assert!(ses().max_bytes(40_000_000).is_ok());
    let provider = || HttpProvider::new(Postmark::new("t").unwrap(), HttpTransport::new().unwrap());
    assert_eq!(provider().name(), "postmark");
    assert_eq!(provider().named("postmark-eu").unwrap().name(), "postmark-eu");
    assert!(provider().named(&"n".repeat(32)).is_ok());
    for name in ["", "A", "a.b", &"n".repeat(33)] {
        refused(provider().named(name), "name");
    }
}

#[test]
fn times_out_of_range_are_refused() {
    let build = |connect, idle| {
        HttpTransport::builder()
            .connect_timeout(Duration::from_millis(connect))
            .pool_idle_timeout(Duration::from_millis(idle))
            .build()
    };
    for (connect, idle) in [(100, 0), (60_000, 30_000)] {
        assert!(build(connect, idle).is_ok());
    }
    for connect in [99, 60_001] {
        refused(build(connect, 0), "connect_timeout");
    }
    refused(build(100, 30_001), "pool_idle_timeout");
    refused(HttpTransport::builder().trust(*b"no certificate").build(), "trust");
}

#[test]
fn keys_of_ses_can_be_replaced_while_it_is_used() {
    let keys = SesKeys::new(SesCredentials::new("FIRST", "b").unwrap());
    let api = Ses::new("eu-central-1", keys.clone()).unwrap();
    let request = api.encode(id(), &plain().build().unwrap()).unwrap();
    let credential = || api.authorize(&request, Timestamp(0))[0].1.expose().to_owned();
    assert!(credential().contains("Credential=FIRST/19700101/"));
    keys.replace(SesCredentials::new("SECOND", "b").unwrap());
    assert!(credential().contains("Credential=SECOND/19700101/"));
}

//! Amazon SNS: chains, hosts, topics, both versions of the signature, and confirmations.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::BoxFuture;
use rcgen::{
    BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PKCS_RSA_SHA256, date_time_ymd,
};
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};

use super::*;
use crate::store::{Timestamp, WallClock};

/// Made for these tests: it protects nothing.
const KEY: &str = include_str!("sns_key.pem");
/// Version 1 of what [`notification`] says, made with `openssl dgst -sha1 -sign`.
const SHA1: &str = include_str!("sns_sha1.txt");

pub(crate) const TOPIC: &str = "arn:aws:sns:eu-west-1:123456789012:orders";
const CERTIFICATE: &str = "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0a.pem";
const SENT: &str = "2024-01-02T03:04:05.678Z";
const SENT_MS: i64 = 1_704_164_645_678;

/// A root, one between and the signing one, in PEM.
pub(crate) struct Chain {
    pub(crate) root: String,
    pub(crate) between: String,
    pub(crate) signing: String,
}

fn authority() -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

impl Chain {
    pub(crate) fn for_name(name: &str) -> Self {
        Self::until(name, 2100)
    }

    fn until(name: &str, year: i32) -> Self {
        let (root_key, between_key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let root = authority().self_signed(&root_key).unwrap();
        let root_issuer = Issuer::new(authority(), root_key);
        let mut params = authority();
        params.distinguished_name.push(rcgen::DnType::CommonName, "between");
        let between = params.clone().signed_by(&between_key, &root_issuer).unwrap();
        let between_issuer = Issuer::new(params, between_key);
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_after = date_time_ymd(year, 1, 1);
        let key = KeyPair::from_pkcs8_pem_and_sign_algo(KEY, &PKCS_RSA_SHA256).unwrap();
        let signing = params.signed_by(&key, &between_issuer).unwrap();
        Self { root: root.pem(), between: between.pem(), signing: signing.pem() }
    }
}

/// Hands out files and counts how often it is asked.
#[derive(Clone, Default)]
pub(crate) struct Files {
    files: HashMap<&'static str, String>,
    asked: Arc<AtomicUsize>,
}

impl Files {
    pub(crate) fn with(file: impl Into<String>) -> Self {
        Self { files: HashMap::from([(CERTIFICATE, file.into())]), asked: Arc::default() }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Certificates for Files {
    fn fetch(&self, url: CertificateUrl) -> BoxFuture<'static, Result<Bytes, FetchFailed>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let file = self.files.get(url.as_str()).cloned();
        let file = file.map(Bytes::from).ok_or_else(|| FetchFailed::new("there is none"));
        Box::pin(std::future::ready(file))
    }
}

pub(crate) fn notification() -> Value {
    json!({
        "Type": "Notification", "MessageId": "m1", "TopicArn": TOPIC, "Message": "hello",
        "Timestamp": SENT, "SignatureVersion": "2", "SigningCertURL": CERTIFICATE,
        "UnsubscribeURL": "https://sns.eu-west-1.amazonaws.com/?Action=Unsubscribe",
    })
}

pub(crate) fn confirmation(url: &str) -> Value {
    json!({
        "Type": "SubscriptionConfirmation", "MessageId": "m2", "TopicArn": TOPIC,
        "Message": "You have chosen", "Timestamp": SENT, "SignatureVersion": "2",
        "Token": "hush", "SubscribeURL": url, "SigningCertURL": CERTIFICATE,
    })
}

pub(crate) const CONFIRM: &str =
    "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn=arn&Token=hush";

/// As SNS signs it, written down once more here: the names of its type, in their order.
pub(crate) fn signed(mut message: Value) -> Value {
    let names: &[&str] = if message["Type"] == "Notification" {
        &["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"]
    } else {
        &["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
    };
    let mut text = String::new();
    for name in names {
        if let Some(value) = message[name].as_str() {
            text += &format!("{name}\n{value}\n");
        }
    }
    let der = PrivatePkcs8KeyDer::from_pem_slice(KEY.as_bytes()).unwrap();
    let pair = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).unwrap();
    let mut signature = vec![0; pair.public().modulus_len()];
    pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature).unwrap();
    message["Signature"] = sign::base64(&signature).into();
    message
}

async fn verified(sns: &Sns, message: &Value, now_ms: i64) -> Result<Verified, Refusal> {
    let body = Bytes::from(serde_json::to_vec_pretty(message).unwrap());
    let (headers, limits) = (Headers::default(), JsonLimits::default());
    let (window, now) = (Window::default(), Timestamp(now_ms));
    let delivery = Delivery { headers: &headers, body: &body, limits: &limits, window, now };
    // Where a certificate cannot be got, there is none to verify with.
    let _got = sns.prepare(delivery).await;
    sns.verify(&delivery)
}

fn sns(roots: &str, files: &Files) -> Sns {
    Sns::new([TOPIC], roots.as_bytes(), Arc::new(files.clone())).unwrap()
}

#[tokio::test]
async fn a_message_is_verified_up_to_a_root_that_is_trusted() {
    let chain = Chain::for_name("sns.amazonaws.com");
    let message = signed(notification());
    let with_between = Files::with(format!("{}{}", chain.signing, chain.between));
    let found = verified(&sns(&chain.root, &with_between), &message, SENT_MS).await;
    assert_eq!(found, Ok(Verified::default()));
    // What SNS serves is the signing one alone: those between come from whoever sets it up.
    let alone = Files::with(chain.signing.clone());
    let found = verified(&sns(&chain.between, &alone), &message, SENT_MS).await;
    assert_eq!(found, Ok(Verified::default()));
    let found = verified(&sns(&chain.root, &alone), &message, SENT_MS).await;
    assert_eq!(found, Err(Refusal::Untrusted), "nothing leads to the root");
    let stranger = Chain::for_name("sns.amazonaws.com");
    let found = verified(&sns(&stranger.root, &with_between), &message, SENT_MS).await;
    assert_eq!(found, Err(Refusal::Untrusted), "another root");
}

#[tokio::test]
async fn a_certificate_for_another_name_or_another_time_is_refused() {
    let message = signed(notification());
    for (name, year, trusted) in [
        ("sns.amazonaws.com", 2100, true),
        ("sns.eu-west-1.amazonaws.com", 2100, true),
        ("sns.us-east-1.amazonaws.com", 2100, false),
        ("example.com", 2100, false),
        ("sns.amazonaws.com", 2024, false),
    ] {
        let chain = Chain::until(name, year);
        let files = Files::with(format!("{}{}", chain.signing, chain.between));
        let found = verified(&sns(&chain.root, &files), &message, SENT_MS).await;
        assert_eq!(found.is_ok(), trusted, "{name} until {year}: {found:?}");
    }
}

#[tokio::test]
async fn both_versions_of_the_signature_are_known_and_no_other() {
    let chain = Chain::for_name("sns.amazonaws.com");
    let files = Files::with(format!("{}{}", chain.signing, chain.between));
    let sns = sns(&chain.root, &files);
    let mut first = notification();
    first["SignatureVersion"] = "1".into();
    first["Signature"] = SHA1.trim().into();
    assert!(verified(&sns, &first, SENT_MS).await.is_ok());
    first["Message"] = "hellp".into();
    assert_eq!(verified(&sns, &first, SENT_MS).await, Err(Refusal::Mismatch));
    let mut second = signed(notification());
    for version in ["1", "3", ""] {
        second["SignatureVersion"] = version.into();
        assert!(verified(&sns, &second, SENT_MS).await.is_err(), "{version:?}");
    }
    assert_eq!(files.asked(), 1, "the certificate is got once");
}

#[tokio::test]
async fn any_changed_byte_of_what_is_signed_is_refused() {
    let chain = Chain::for_name("sns.amazonaws.com");
    let sns = sns(&chain.root, &Files::with(format!("{}{}", chain.signing, chain.between)));
    let mut message = notification();
    message["Subject"] = "news".into();
    for message in [signed(message), signed(confirmation(CONFIRM))] {
        assert!(verified(&sns, &message, SENT_MS).await.is_ok());
        let names: Vec<String> = message.as_object().unwrap().keys().cloned().collect();
        for name in names.iter().filter(|name| *name != "UnsubscribeURL") {
            let value = message[name].as_str().unwrap().to_owned();
            for place in 0..value.len() {
                let mut bytes = value.clone().into_bytes();
                bytes[place] ^= 1;
                let mut forged = message.clone();
                forged[name] = String::from_utf8(bytes).unwrap().into();
                let found = verified(&sns, &forged, SENT_MS).await;
                assert!(found.is_err(), "{name}, byte {place}");
            }
            let mut without = message.clone();
            without.as_object_mut().unwrap().remove(name);
            assert!(verified(&sns, &without, SENT_MS).await.is_err(), "without {name}");
        }
    }
}

#[tokio::test]
async fn no_certificate_is_fetched_from_another_host_or_for_another_topic() {
    let chain = Chain::for_name("sns.amazonaws.com");
    let files = Files::with(format!("{}{}", chain.signing, chain.between));
    let sns = sns(&chain.root, &files);
    let host = "sns.eu-west-1.amazonaws.com";
    for url in [
        format!("http://{host}/a.pem"),
        format!("https://{host}.evil.example/a.pem"),
        format!("https://{host}@evil.example/a.pem"),
        format!("https://evil.example/{host}/a.pem"),
        format!("https://{host}:8443/a.pem"),
        format!("https://user@{host}/a.pem"),
        format!("https://{host}/../a.pem"),
        format!("https://{host}/a.pem?x=.pem"),
        format!("https://{host}/a%2e.pem"),
        format!("https://{host}/.pem"),
        format!("https://{host}/a.txt"),
        "https://sns.us-east-1.amazonaws.com/a.pem".into(),
        "https://s3.eu-west-1.amazonaws.com/a.pem".into(),
        String::new(),
    ] {
        let mut message = signed(notification());
        message["SigningCertURL"] = url.clone().into();
        let found = verified(&sns, &message, SENT_MS).await;
        assert_eq!(found, Err(Refusal::Untrusted), "{url}");
    }
    for topic in ["arn:aws:sns:eu-west-1:123456789012:other", "arn", ""] {
        let mut message = notification();
        message["TopicArn"] = topic.into();
        let found = verified(&sns, &signed(message), SENT_MS).await;
        assert_eq!(found, Err(Refusal::Untrusted), "{topic}");
    }
    assert_eq!(files.asked(), 0);
}

#[tokio::test]
async fn whoever_asks_for_certificates_without_end_gets_30_in_a_minute() {
    let chain = Chain::for_name("sns.amazonaws.com");
    let files = Files::default();
    let sns = sns(&chain.root, &files);
    let (headers, limits) = (Headers::default(), JsonLimits::default());
    let fetches = async |number: usize, now_ms: i64| {
        let mut message = signed(notification());
        message["SigningCertURL"] =
            format!("https://sns.eu-west-1.amazonaws.com/{number}.pem").into();
        let body = Bytes::from(message.to_string());
        let (window, now) = (Window::default(), Timestamp(now_ms));
        let delivery = Delivery { headers: &headers, body: &body, limits: &limits, window, now };
        // There is none at any of these addresses.
        assert!(matches!(
            sns.prepare(delivery).await,
            Err(InboxError::CertificateUnavailable { .. })
        ));
    };
    for number in 0..40 {
        fetches(number, SENT_MS).await;
    }
    assert_eq!(files.asked(), 30);
    fetches(41, SENT_MS + 60_000).await;
    assert_eq!(files.asked(), 31, "a minute later, one more");
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_never_comes_is_given_up() {
    struct Hangs;
    impl Certificates for Hangs {
        fn fetch(&self, _: CertificateUrl) -> BoxFuture<'static, Result<Bytes, FetchFailed>> {
            Box::pin(std::future::pending())
        }
    }
    let chain = Chain::for_name("sns.amazonaws.com");
    let sns = Sns::new([TOPIC], chain.root.as_bytes(), Arc::new(Hangs)).unwrap();
    let body = Bytes::from(signed(notification()).to_string());
    let (headers, limits) = (Headers::default(), JsonLimits::default());
    let (window, now) = (Window::default(), Timestamp(SENT_MS));
    let delivery = Delivery { headers: &headers, body: &body, limits: &limits, window, now };
    let both = tokio::join!(sns.prepare(delivery), sns.prepare(delivery));
    for found in [both.0, both.1] {
        assert!(matches!(found, Err(InboxError::CertificateUnavailable { .. })), "{found:?}");
    }
}

#[actix::test]
async fn a_subscription_is_given_to_the_caller_to_confirm_and_nothing_is_fetched() {
    let chain = Chain::for_name("sns.amazonaws.com");
    let files = Files::with(format!("{}{}", chain.signing, chain.between));
    let (clock, _hand) = WallClock::manual(Timestamp(SENT_MS));
    let source = || {
        let files = Arc::new(files.clone());
        Source::sns("mails", [TOPIC], chain.root.as_bytes(), files).unwrap()
    };
    let bench =
        Base::sqlite().bench_with(|jobs| jobs.clock(clock), |inbox| inbox.source(source())).await;
    let receive = async |message: Value| {
        // It comes as text/plain, whatever it is.
        let headers = [("content-type", "text/plain; charset=UTF-8")].into_iter().collect();
        bench.inbox.receive("mails", &headers, message.to_string().into()).await
    };
    let receipt = receive(signed(confirmation(CONFIRM))).await.unwrap();
    let confirmation_found = receipt.confirmation.unwrap();
    assert_eq!((confirmation_found.url(), confirmation_found.topic()), (CONFIRM, TOPIC));
    assert!(!format!("{confirmation_found:?}").contains("hush"));
    let info = bench.info(receipt.events[0].id).await;
    assert_eq!(info.event_type.as_deref(), Some("SubscriptionConfirmation"));
    for url in [
        "https://evil.example/?Action=ConfirmSubscription",
        "http://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription",
        "https://sns.us-east-1.amazonaws.com/?Action=ConfirmSubscription",
        "https://sns.eu-west-1.amazonaws.com/?Action=DeleteTopic",
        "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&Action=DeleteTopic",
        "https://sns.eu-west-1.amazonaws.com/x?Action=ConfirmSubscription",
    ] {
        let refused = receive(signed(confirmation(url))).await;
        assert!(matches!(refused, Err(InboxError::Unverified)), "{url}");
    }
    let receipt = receive(signed(notification())).await.unwrap();
    assert_eq!(receipt.confirmation, None);
    assert_eq!(&*receipt.events[0].event_id, "m1");
    assert_eq!(files.asked(), 1, "the certificate and nothing else");
    bench.stop().await;
}

#[test]
fn topics_and_roots_that_cannot_be_meant_are_refused() {
    let chain = Chain::for_name("sns.amazonaws.com");
    let new = |topics: &[&str], roots: &str| {
        Sns::new(topics, roots.as_bytes(), Arc::new(Files::default())).is_ok()
    };
    assert!(new(&[TOPIC], &chain.root));
    assert!(!new(&[], &chain.root));
    assert!(new(&[TOPIC; 100], &chain.root));
    assert!(!new(&[TOPIC; 101], &chain.root));
    for topic in
        ["", "arn:aws:sqs:eu-west-1:1:a", "arn:aws:sns:evil.example/:1:a", "arn:aws:sns:r:1"]
    {
        assert!(!new(&[topic], &chain.root), "{topic}");
    }
    assert!(!new(&[TOPIC], ""));
    assert!(!new(&[TOPIC], "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"));
}

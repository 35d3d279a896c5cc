//! Each scheme: its vectors, every flipped byte, its window, its keys.

use ring::rand::SystemRandom;
use ring::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair};

use super::*;
use crate::store::{Timestamp, WallClock};

const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const OTHER: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const SENT: i64 = 1_649_367_553;
const EVENT: &str = r#"{"email":"test@example.com","username":"test_user"}"#;

/// A delivery: headers and body.
#[derive(Debug, Clone)]
struct Post {
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Post {
    fn verified(&self, verifier: &dyn Verifier, now_ms: i64) -> Result<Verified, Refusal> {
        let headers: Headers = self.headers.iter().map(|(name, value)| (name, value)).collect();
        let body = Bytes::from(self.body.clone());
        let limits = JsonLimits::default();
        let (window, now) = (Window::default(), Timestamp(now_ms));
        let delivery = Delivery { headers: &headers, body: &body, limits: &limits, window, now };
        verifier.verify(&delivery)
    }

    fn value(&mut self, name: &str) -> &mut String {
        let found = self.headers.iter_mut().find(|(known, _)| *known == name);
        &mut found.expect("the header is there").1
    }
}

/// A scheme, and a delivery that it takes at [`SENT`].
struct Scheme {
    name: &'static str,
    verifier: Box<dyn Verifier>,
    post: Post,
    /// The headers of which every byte counts.
    signed: &'static [&'static str],
    /// The part of the body of which every byte counts.
    signed_body: std::ops::Range<usize>,
    has_time: bool,
}

fn schemes() -> Vec<Scheme> {
    vec![standard_webhooks(), standard_webhooks_public(), stripe(), github(), sendgrid(), mailgun()]
}

fn standard_post(signature: String) -> Post {
    let headers = vec![
        ("webhook-id", "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk".into()),
        ("webhook-timestamp", SENT.to_string()),
        ("webhook-signature", signature),
    ];
    Post { headers, body: EVENT.into() }
}

fn standard_webhooks() -> Scheme {
    Scheme {
        name: "Standard Webhooks",
        verifier: Box::new(StandardWebhooks::new([SECRET]).unwrap()),
        post: standard_post("v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=".into()),
        signed: &["webhook-id", "webhook-timestamp", "webhook-signature"],
        signed_body: 0..EVENT.len(),
        has_time: true,
    }
}

fn standard_webhooks_public() -> Scheme {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let signed = format!("msg_27UH4WbU6Z5A5EzD8u03UvzRbpk.{SENT}.{EVENT}");
    let signature = sign::base64(pair.sign(signed.as_bytes()).as_ref());
    let key = format!("whpk_{}", sign::base64(pair.public_key().as_ref()));
    Scheme {
        name: "Standard Webhooks, ed25519",
        verifier: Box::new(StandardWebhooks::new([key]).unwrap()),
        post: standard_post(format!("v1a,{signature}")),
        ..standard_webhooks()
    }
}

fn stripe_tag(secret: &str, time: i64) -> String {
    let time = time.to_string();
    sign::hex(&sign::hmac(secret.as_bytes(), &[time.as_bytes(), b".", EVENT.as_bytes()]))
}

fn stripe() -> Scheme {
    let header = format!("t={SENT},v1={}", stripe_tag("whsec_stripe", SENT));
    Scheme {
        name: "Stripe",
        verifier: Box::new(Stripe::new(["whsec_stripe"]).unwrap()),
        post: Post { headers: vec![("stripe-signature", header)], body: EVENT.into() },
        signed: &["stripe-signature"],
        signed_body: 0..EVENT.len(),
        has_time: true,
    }
}

fn github() -> Scheme {
    let tag = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let headers = vec![("x-hub-signature-256", format!("sha256={tag}"))];
    Scheme {
        name: "GitHub",
        verifier: Box::new(GitHub::new(["It's a Secret to Everybody"]).unwrap()),
        post: Post { headers, body: b"Hello, World!".to_vec() },
        signed: &["x-hub-signature-256"],
        signed_body: 0..13,
        has_time: false,
    }
}

fn sendgrid() -> Scheme {
    let random = SystemRandom::new();
    let algorithm = &signature::ECDSA_P256_SHA256_ASN1_SIGNING;
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap();
    let prefix = sign::unbase64("MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAA");
    let key = [&prefix[..26], pair.public_key().as_ref()].concat();
    let signed = format!("{SENT}{EVENT}");
    let signature = pair.sign(&random, signed.as_bytes()).unwrap();
    let headers = vec![
        ("x-twilio-email-event-webhook-signature", sign::base64(signature.as_ref())),
        ("x-twilio-email-event-webhook-timestamp", SENT.to_string()),
    ];
    Scheme {
        name: "SendGrid",
        verifier: Box::new(SendGrid::new([sign::base64(&key)]).unwrap()),
        post: Post { headers, body: EVENT.into() },
        signed: &[
            "x-twilio-email-event-webhook-signature",
            "x-twilio-email-event-webhook-timestamp",
        ],
        signed_body: 0..EVENT.len(),
        has_time: true,
    }
}

fn mailgun() -> Scheme {
    let token = "0123456789abcdef0123456789abcdef0123456789abcdef01";
    let time = SENT.to_string();
    let tag = sign::hex(&sign::hmac(b"mailgun key", &[time.as_bytes(), token.as_bytes()]));
    let signature = format!(r#""timestamp":"{time}","token":"{token}","signature":"{tag}""#);
    let body = format!(r#"{{"signature":{{{signature}}},"event-data":{{"event":"opened"}}}}"#);
    let end = 14 + signature.len();
    Scheme {
        name: "Mailgun",
        verifier: Box::new(Mailgun::new(["mailgun key"]).unwrap()),
        post: Post { headers: Vec::new(), body: body.into() },
        signed: &[],
        // What it says of the event is not signed: Mailgun has it so.
        signed_body: 0..end,
        has_time: true,
    }
}

const NOW: i64 = SENT * 1_000;

#[test]
fn each_scheme_takes_what_its_sender_signed() {
    for scheme in schemes() {
        let found = scheme.post.verified(&*scheme.verifier, NOW);
        assert_eq!(found, Ok(Verified::by(0)), "{}", scheme.name);
    }
}

#[test]
fn one_flipped_bit_anywhere_is_refused() {
    for scheme in schemes() {
        let Scheme { name, verifier, post, signed, signed_body, .. } = scheme;
        for bit in [0x01, 0x20, 0x40] {
            for place in signed_body.clone() {
                let mut forged = post.clone();
                forged.body[place] ^= bit;
                let found = forged.verified(&*verifier, NOW);
                assert!(found.is_err(), "{name}: body, byte {place} ^ {bit:#x}");
            }
            for header in signed {
                for place in 0..post.clone().value(header).len() {
                    let mut forged = post.clone();
                    let value = forged.value(header);
                    let mut bytes = std::mem::take(value).into_bytes();
                    bytes[place] ^= bit;
                    *value = String::from_utf8(bytes).expect("7 bits each");
                    let found = forged.verified(&*verifier, NOW);
                    assert!(found.is_err(), "{name}: {header}, byte {place} ^ {bit:#x}");
                }
            }
        }
    }
}

#[test]
fn what_proves_nothing_is_refused() {
    for Scheme { name, verifier, post, signed, .. } in schemes() {
        for header in signed {
            let mut forged = post.clone();
            forged.headers.retain(|(known, _)| known != header);
            let found = forged.verified(&*verifier, NOW);
            assert_eq!(found, Err(Refusal::Missing), "{name} without {header}");
            // Of two, nobody knows which one is meant.
            let mut forged = post.clone();
            let value = forged.value(header).clone();
            forged.headers.push((header, value));
            assert!(forged.verified(&*verifier, NOW).is_err(), "{name}: two of {header}");
            for junk in ["", " ", ",", "=", "v1,", "t=1", "sha256=", "\u{e9}"] {
                let mut forged = post.clone();
                *forged.value(header) = junk.into();
                assert!(forged.verified(&*verifier, NOW).is_err(), "{name}: {header} is {junk:?}");
            }
        }
    }
}

#[test]
fn the_window_ends_after_300_seconds_on_either_side() {
    for Scheme { name, verifier, post, has_time, .. } in schemes() {
        for (seconds, fresh) in
            [(-301, false), (-300, true), (-299, true), (299, true), (300, true), (301, false)]
        {
            let found = post.verified(&*verifier, NOW + seconds * 1_000);
            let expected =
                if fresh || !has_time { Ok(Verified::by(0)) } else { Err(Refusal::Stale) };
            assert_eq!(found, expected, "{name}: {seconds} s");
        }
    }
}

#[test]
fn any_of_the_active_keys_fits_and_is_told_apart() {
    let post = standard_webhooks().post;
    let found = |keys: &[&str]| post.verified(&StandardWebhooks::new(keys).unwrap(), NOW);
    assert_eq!(found(&[OTHER, SECRET]), Ok(Verified::by(1)));
    assert_eq!(found(&[SECRET, OTHER]), Ok(Verified::by(0)));
    assert_eq!(found(&[OTHER]), Err(Refusal::Mismatch));
}

#[test]
fn any_of_the_signatures_fits_while_the_sender_rotates() {
    let right = "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=";
    let wrong = format!("v1,{}", sign::base64(&[0; 32]));
    let found = |text: String| standard_post(text).verified(&*standard_webhooks().verifier, NOW);
    assert!(found(format!("{wrong} {right}")).is_ok());
    assert!(found(format!("v2,anything {right} {wrong}")).is_ok());
    assert!(found(format!("{wrong} v1a,{}", &right[3..])).is_err());
    let many = |count: usize| format!("{}{right}", format!("{wrong} ").repeat(count));
    assert!(found(many(15)).is_ok(), "16 of them");
    assert_eq!(found(many(16)), Err(Refusal::Malformed), "17 of them");
}

#[test]
fn stripe_takes_either_of_two_v1_and_either_of_two_secrets() {
    let (old, new) = (stripe_tag("old", SENT), stripe_tag("new", SENT));
    let post =
        |header: String| Post { headers: vec![("stripe-signature", header)], body: EVENT.into() };
    let both = Stripe::new(["new", "old"]).unwrap();
    let only_new = Stripe::new(["new"]).unwrap();
    let header = format!("t={SENT},v1={old},v1={new},v0=aa");
    assert_eq!(post(header.clone()).verified(&both, NOW), Ok(Verified::by(0)));
    assert_eq!(post(header).verified(&only_new, NOW), Ok(Verified::by(0)));
    let header = format!("t={SENT},v1={old}");
    assert_eq!(post(header.clone()).verified(&both, NOW), Ok(Verified::by(1)));
    assert_eq!(post(header).verified(&only_new, NOW), Err(Refusal::Mismatch));
    // The time that is checked is the one that was signed.
    let later = SENT + 400;
    let header = format!("t={later},t={SENT},v1={new}");
    assert_eq!(post(header).verified(&both, NOW), Err(Refusal::Malformed));
    // `v0` proves nothing.
    assert!(post(format!("t={SENT},v0={new}")).verified(&both, NOW).is_err());
}

#[test]
fn an_id_with_a_dot_is_refused_because_it_could_stand_for_another_body() {
    // One signature, two readings: id `a`, body `1649367553.x`, or id `a.1649367553`, body `x`.
    let body = format!("{SENT}.1");
    let key = sign::unbase64(&SECRET[6..]);
    let signed = format!("a.{SENT}.{body}");
    let tag = sign::base64(&sign::hmac(&key, &[signed.as_bytes()]));
    let post = |id: String, body: &str| Post {
        headers: vec![
            ("webhook-id", id),
            ("webhook-timestamp", SENT.to_string()),
            ("webhook-signature", format!("v1,{tag}")),
        ],
        body: body.into(),
    };
    let verifier = standard_webhooks().verifier;
    assert!(post("a".into(), &body).verified(&*verifier, NOW).is_ok());
    assert_eq!(post(format!("a.{SENT}"), "1").verified(&*verifier, NOW), Err(Refusal::Malformed));
}

#[test]
fn svix_headers_are_read_where_they_are_expected() {
    let post = |prefix: [&'static str; 3]| {
        let Post { headers, body } = standard_webhooks().post;
        let named = headers.into_iter().zip(prefix).map(|((_, value), name)| (name, value));
        Post { headers: named.collect(), body }
    };
    let svix = StandardWebhooks::new([SECRET]).unwrap().svix();
    let headers = ["svix-id", "svix-timestamp", "svix-signature"];
    assert!(post(headers).verified(&svix, NOW).is_ok());
    assert_eq!(standard_webhooks().post.verified(&svix, NOW), Err(Refusal::Missing));
}

#[test]
fn basic_takes_any_of_its_users_and_nobody_else() {
    let basic = Basic::new([("ada", "first"), ("ada", "se:cond")]).unwrap();
    let found = |header: &str| {
        let headers = vec![("authorization", header.to_owned())];
        Post { headers, body: Vec::new() }.verified(&basic, NOW)
    };
    let encoded = |text: &str| format!("Basic {}", sign::base64(text.as_bytes()));
    assert_eq!(found(&encoded("ada:first")), Ok(Verified::by(0)));
    assert_eq!(found(&encoded("ada:se:cond")).map(|found| found.key), Ok(Some(1)));
    assert_eq!(found(&encoded("ada:second")), Err(Refusal::Mismatch));
    assert_eq!(found(&encoded("")), Err(Refusal::Mismatch));
    assert_eq!(found("Bearer YWRhOmZpcnN0"), Err(Refusal::Malformed));
    assert_eq!(found("Basic"), Err(Refusal::Malformed));
    let nothing = Post { headers: Vec::new(), body: Vec::new() };
    assert_eq!(nothing.verified(&basic, NOW), Err(Refusal::Missing));
}

#[test]
fn keys_that_cannot_be_meant_are_refused() {
    let short = format!("whsec_{}", sign::base64(&[1; 23]));
    let long = format!("whsec_{}", sign::base64(&[1; 65]));
    for key in [short.as_str(), &long, "whsec_", "", "whpk_AAAA", "whsec_!"] {
        assert!(StandardWebhooks::new([key]).is_err(), "{key}");
    }
    for length in [24, 64] {
        let key = format!("whsec_{}", sign::base64(&vec![1; length]));
        assert!(StandardWebhooks::new([key]).is_ok());
    }
    assert!(Stripe::new([""; 1]).is_err());
    assert!(Stripe::new([""; 0]).is_err());
    assert!(Stripe::new(["a"; 8]).is_ok());
    assert!(Stripe::new(["a"; 9]).is_err());
    assert!(SendGrid::new(["MFkw"]).is_err());
    assert!(Basic::new([("a:b", "c")]).is_err());
    assert!(Basic::new([("", "")]).is_err());
}

#[actix::test]
async fn what_is_not_verified_is_counted_and_not_stored() {
    let (clock, hand) = WallClock::manual(Timestamp(NOW));
    let bench = Base::sqlite()
        .bench_with(
            |jobs| jobs.clock(clock),
            |inbox| inbox.source(Source::standard_webhooks("hooks", [SECRET]).unwrap()),
        )
        .await;
    let post = standard_webhooks().post;
    let receive = async |post: &Post| {
        let headers: Headers = post.headers.iter().map(|(name, value)| (name, value)).collect();
        bench.inbox.receive("hooks", &headers, post.body.clone().into()).await
    };
    let mut refused = 0;
    for place in 0..post.body.len() {
        let mut forged = post.clone();
        forged.body[place] ^= 1;
        let found = receive(&forged).await.unwrap_err();
        assert_eq!(found.to_string(), "the delivery is not verified", "no word of why");
        refused += 1;
    }
    for seconds in [-301_i64, 301] {
        hand.set(Timestamp(NOW + seconds * 1_000));
        assert!(matches!(receive(&post).await, Err(InboxError::Unverified)), "{seconds} s");
    }
    let counts = bench.inbox.counts().sources["hooks"];
    assert_eq!((counts.unverified.mismatch, counts.unverified.stale), (refused, 2));
    assert_eq!(bench.inbox.states().await.unwrap().len(), 0, "nothing is stored");
    for seconds in [-299_i64, 299] {
        hand.set(Timestamp(NOW + seconds * 1_000));
        assert!(receive(&post).await.is_ok(), "{seconds} s");
    }
    assert_eq!(bench.inbox.states().await.unwrap().into_values().sum::<u64>(), 1);
    let unknown = bench.inbox.receive("nobody", &Headers::default(), Bytes::new()).await;
    assert!(matches!(unknown, Err(InboxError::UnknownSource)));
    assert_eq!(bench.inbox.counts().unknown_source, 1);
    bench.stop().await;
}

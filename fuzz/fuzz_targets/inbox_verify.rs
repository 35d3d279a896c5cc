//! What every verifier reads before it knows whom it hears. Nobody here has a key: whatever is
//! believed was forged.
#![no_main]

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use libfuzzer_sys::fuzz_target;
use steadfast_actors::inbox::{
    Basic, CertificateUrl, Certificates, FetchFailed, GitHub, Headers, Mailgun, SendGrid, Sns,
    StandardWebhooks, Stripe, Verifier, fuzzing,
};
use steadfast_actors::store::Timestamp;
use steadfast_fuzz::Input;

/// Seeds are signed then.
const NOW: Timestamp = Timestamp(1_700_000_000_000);
const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const P256: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==";
const TOPIC: &str = "arn:aws:sns:us-east-1:123456789012:mail";
const ROOT: &[u8] = include_bytes!("../sns_root.pem");

#[derive(Debug)]
struct NoCertificates;

impl Certificates for NoCertificates {
    fn fetch(&self, _: CertificateUrl) -> BoxFuture<'static, Result<Bytes, FetchFailed>> {
        Box::pin(std::future::ready(Err(FetchFailed::new("there is no network"))))
    }
}

fn verifiers() -> &'static [Box<dyn Verifier>] {
    static VERIFIERS: OnceLock<Vec<Box<dyn Verifier>>> = OnceLock::new();
    VERIFIERS.get_or_init(|| {
        let public = format!("whpk_{}", "C2FVsBQIhrscChlQIMV+b5sSYspob7oDC2FVsBQIhrs=");
        vec![
            Box::new(StandardWebhooks::new([SECRET, &public]).unwrap()),
            Box::new(StandardWebhooks::new([SECRET]).unwrap().svix()),
            Box::new(Stripe::new([SECRET]).unwrap()),
            Box::new(GitHub::new([SECRET]).unwrap()),
            Box::new(SendGrid::new([P256]).unwrap()),
            Box::new(Mailgun::new([SECRET]).unwrap()),
            Box::new(Basic::new([("mail", SECRET)]).unwrap()),
            Box::new(Sns::new([TOPIC], ROOT, Arc::new(NoCertificates)).unwrap()),
        ]
    })
}

fuzz_target!(|bytes: &[u8]| {
    let Some(input) = Input::read(bytes) else { return };
    let Some(verifier) = verifiers().get(input.which) else { return };
    let headers: Headers = input.headers.into_iter().collect();
    let body = Bytes::copy_from_slice(input.body);
    let verdict = fuzzing::verify(&**verifier, &headers, &body, NOW);
    assert!(verdict.is_err(), "believed without a key");
});

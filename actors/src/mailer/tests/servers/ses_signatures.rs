//! SES with a server that checks signatures.

use std::time::Duration;

use super::*;
use crate::mailer::provider::{
    HttpApi as _, HttpProvider, MailProvider as _, Outcome, Ses, SesCredentials, SesKeys,
};
use crate::store::WallClock;

const PATIENCE: Duration = Duration::from_secs(30);
const SERVER: [&str; 3] =
    ["STEADFAST_TEST_SES", "STEADFAST_TEST_SES_KEY", "STEADFAST_TEST_SES_SECRET"];

fn ses(url: &str, keys: impl Into<SesKeys>) -> Ses {
    Ses::new("us-east-1", keys).unwrap().base_url(url).unwrap()
}

#[tokio::test]
async fn a_server_that_checks_signatures_takes_ours_and_none_with_another_key() {
    let Some([url, key, secret]) = settings(SERVER) else { return };
    let credentials = |secret: &str| SesCredentials::new(key.as_str(), secret).unwrap();
    let keys = SesKeys::new(credentials(&secret));
    let provider = HttpProvider::new(ses(&url, keys.clone()), HttpTransport::new().unwrap());
    let request = provider.encode(MailId::fresh(), &rich().build().unwrap()).unwrap();
    let send = || provider.send(&request, PATIENCE);
    let outcome = send().await.unwrap().outcome;
    assert!(matches!(outcome, Outcome::Accepted { provider_id: Some(_), .. }), "{outcome:?}");
    keys.replace(credentials(&format!("{secret}x")));
    let answer = send().await.unwrap();
    assert_eq!(answer.outcome, Outcome::Misconfigured);
    assert_eq!(answer.http_status, Some(403));
}

#[tokio::test]
async fn one_flipped_byte_of_a_signed_request_is_refused() {
    let Some([url, key, secret]) = settings(SERVER) else { return };
    let api = ses(&url, SesCredentials::new(key, secret).unwrap());
    let signed = api.encode(MailId::fresh(), &rich().build().unwrap()).unwrap();
    let now = WallClock::system().now();
    let secrets = api.authorize(&signed, now);
    let mut flipped = signed.clone();
    // A letter of the words: what is sent is a good mail all the same.
    let place = signed.body.windows(4).position(|bytes| bytes == b"llo\\").unwrap();
    flipped.body[place] = b'm';
    let transport = HttpTransport::new().unwrap();
    let refused = transport.post(&flipped, &secrets, PATIENCE).await.unwrap();
    let answer = api.decode(&refused, now);
    assert_eq!((answer.outcome, answer.http_status), (Outcome::Misconfigured, Some(403)));
    let words = String::from_utf8_lossy(&refused.body);
    assert!(words.contains("SignatureDoesNotMatch"), "{words}");
    let taken = transport.post(&signed, &secrets, PATIENCE).await.unwrap();
    assert_eq!(taken.status, 200, "and it was the byte");
}

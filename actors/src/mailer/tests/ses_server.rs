//! SES with a server that checks signatures: moto 5, started with `INITIAL_NO_AUTH_ACTION_COUNT`.
//!
//! `STEADFAST_TEST_SES` is its address, `STEADFAST_TEST_SES_KEY` and `STEADFAST_TEST_SES_SECRET`
//! are a key that may do `ses:*`; `a@example.com` is a verified identity there.

use std::time::Duration;

use super::*;
use crate::mailer::provider::{
    HttpProvider, MailProvider as _, Outcome, Ses, SesCredentials, SesKeys,
};

#[tokio::test]
async fn a_server_that_checks_signatures_takes_ours_and_none_with_another_key() {
    let setting = |name: &str| std::env::var(format!("STEADFAST_TEST_SES{name}"));
    let (Ok(url), Ok(key), Ok(secret)) = (setting(""), setting("_KEY"), setting("_SECRET")) else {
        eprintln!("STEADFAST_TEST_SES is not set: not tried with a server");
        return;
    };
    let credentials = |secret: &str| SesCredentials::new(key.as_str(), secret).unwrap();
    let keys = SesKeys::new(credentials(&secret));
    let api = Ses::new("us-east-1", keys.clone()).unwrap().base_url(&url).unwrap();
    let provider = HttpProvider::new(api, HttpTransport::new().unwrap());
    let mail = plain().subject(text("Grüße")).html("<p>Hällo</p>").tag("t").metadata("a", "b");
    let request = provider.encode(MailId::fresh(), &mail.build().unwrap()).unwrap();
    let send = || provider.send(&request, Duration::from_secs(30));
    let outcome = send().await.unwrap().outcome;
    assert!(matches!(outcome, Outcome::Accepted { provider_id: Some(_), .. }), "{outcome:?}");
    keys.replace(credentials(&format!("{secret}x")));
    let answer = send().await.unwrap();
    assert_eq!(answer.outcome, Outcome::Misconfigured);
    assert_eq!(answer.http_status, Some(403));
}

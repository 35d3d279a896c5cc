//! What providers answer. A mail is accepted only by a success, and nothing that cannot be kept
//! comes out.
#![no_main]

use std::sync::OnceLock;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use steadfast_actors::mailer::provider::{
    HttpApi, HttpResponse, Mailgun, Outcome, Postmark, Resend, SendGrid, Ses, SesCredentials,
};
use steadfast_actors::store::Timestamp;
use steadfast_fuzz::Input;

const NOW: Timestamp = Timestamp(1_700_000_000_000);
const MONTH: Duration = Duration::from_secs(31 * 24 * 60 * 60);

fn apis() -> &'static [Box<dyn HttpApi>] {
    static APIS: OnceLock<Vec<Box<dyn HttpApi>>> = OnceLock::new();
    APIS.get_or_init(|| {
        let keys = SesCredentials::new("key", "secret").unwrap();
        vec![
            Box::new(Postmark::new("token").unwrap()),
            Box::new(SendGrid::new("key").unwrap()),
            Box::new(Mailgun::new("example.com", "key").unwrap()),
            Box::new(Resend::new("key").unwrap()),
            Box::new(Ses::new("us-east-1", keys).unwrap()),
        ]
    })
}

fn is_word(text: &str, limit: usize) -> bool {
    (1..=limit).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fuzz_target!(|bytes: &[u8]| {
    let Some(input) = Input::read(bytes) else { return };
    let Some(api) = apis().get(input.which) else { return };
    let text = |(name, value): (&str, &[u8])| {
        Some((name.to_ascii_lowercase(), std::str::from_utf8(value).ok()?.to_owned()))
    };
    let headers = input.headers.into_iter().filter_map(text).collect();
    let response = HttpResponse { status: input.status, headers, body: input.body.to_vec() };
    let answer = api.decode(&response, NOW);
    assert_eq!(answer.http_status, Some(response.status));
    assert!(answer.code.as_deref().is_none_or(|code| is_word(code, 100)));
    match answer.outcome {
        Outcome::Accepted { provider_id, .. } => {
            assert!(response.is_success(), "accepted with {}", response.status);
            assert!(provider_id.as_deref().is_none_or(|id| is_word(id, 256)));
        }
        Outcome::Throttled { retry_after, .. } | Outcome::Unavailable { retry_after } => {
            assert!(retry_after.is_none_or(|wait| wait <= MONTH));
        }
        _ => {}
    }
});

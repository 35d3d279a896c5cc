//! What each API's answers mean, with the answers that its users have met.

use std::time::Duration;

use super::golden::{TOKEN, apis, ses};
use super::*;
use crate::mailer::provider::{
    AmbiguousCause, HttpApi, HttpResponse, Mailgun, Outcome, Postmark, RateHint, RecipientOutcome,
    RecipientStatus, Resend, SendGrid, ThrottleScope,
};
use crate::store::Timestamp;

/// Sun, 06 Nov 1994 08:49:37 GMT, the example date of RFC 9110.
const NOW: Timestamp = Timestamp(784_111_777_000);

fn response(status: u16, headers: &[(&str, &str)], body: &str) -> HttpResponse {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    HttpResponse { status, headers: headers.iter().map(own).collect(), body: body.into() }
}

/// One answer: its status, headers and body; what it means, and the provider's code.
type Case<'a> = (u16, &'a [(&'a str, &'a str)], &'a str, Outcome, Option<&'a str>);

#[track_caller]
fn check(api: &dyn HttpApi, cases: &[Case<'_>]) {
    for (status, headers, body, outcome, code) in cases {
        let answer = api.decode(&response(*status, headers, body), NOW);
        assert_eq!(answer.outcome, *outcome, "{status} {body}");
        assert_eq!(answer.code.as_deref(), *code, "{status} {body}");
        assert_eq!(answer.http_status, Some(*status));
    }
}

fn accepted(id: &str) -> Outcome {
    Outcome::Accepted { provider_id: Some(id.into()), recipients: Vec::new() }
}

fn rejected(recipients: &[(&str, RecipientStatus)], suppress: bool) -> Outcome {
    Outcome::RecipientRejected { recipients: outcomes(recipients), suppress }
}

fn outcomes(recipients: &[(&str, RecipientStatus)]) -> Vec<RecipientOutcome> {
    let outcome = |(address, status): &(&str, RecipientStatus)| RecipientOutcome {
        address: EmailAddress::parse(address).unwrap(),
        status: *status,
    };
    recipients.iter().map(outcome).collect()
}

const fn rate(seconds: Option<u64>) -> Outcome {
    throttled(ThrottleScope::Rate, seconds)
}

const fn quota(seconds: Option<u64>) -> Outcome {
    throttled(ThrottleScope::Quota, seconds)
}

const fn throttled(scope: ThrottleScope, seconds: Option<u64>) -> Outcome {
    Outcome::Throttled { retry_after: wait(seconds), scope }
}

const fn unavailable(seconds: Option<u64>) -> Outcome {
    Outcome::Unavailable { retry_after: wait(seconds) }
}

const fn wait(seconds: Option<u64>) -> Option<Duration> {
    match seconds {
        Some(seconds) => Some(Duration::from_secs(seconds)),
        None => None,
    }
}

const BAD_ANSWER: Outcome = Outcome::Ambiguous(AmbiguousCause::BadAnswer);
const SERVER_ERROR: Outcome = Outcome::Ambiguous(AmbiguousCause::ServerError);

#[test]
fn what_has_no_meaning_of_its_own_means_the_same_everywhere() {
    let seconds: &[(&str, &str)] = &[("retry-after", "120")];
    let later: &[(&str, &str)] = &[("retry-after", "Sun, 06 Nov 1994 08:50:37 GMT")];
    let past: &[(&str, &str)] = &[("retry-after", "Sun, 06 Nov 1994 08:49:36 GMT")];
    let junk: &[(&str, &str)] = &[("retry-after", "soon")];
    let negative: &[(&str, &str)] = &[("retry-after", "-5")];
    let endless: &[(&str, &str)] = &[("retry-after", "18446744073709551615")];
    for api in apis() {
        check(
            &*api,
            &[
                (200, &[], "<html>Please log in</html>", BAD_ANSWER, None),
                (200, &[], "{\"id\": 7}", BAD_ANSWER, None),
                (200, &[], "[]", BAD_ANSWER, None),
                (204, &[], "", BAD_ANSWER, None),
                (301, &[("location", "https://example.com/")], "", Outcome::Misconfigured, None),
                (307, &[("location", "https://example.com/")], "", Outcome::Misconfigured, None),
                (401, &[], "", Outcome::Misconfigured, None),
                (403, &[], "<xml/>", Outcome::Misconfigured, None),
                (404, &[], "", Outcome::Misconfigured, None),
                (405, &[], "", Outcome::Misconfigured, None),
                (406, &[], "", Outcome::Misconfigured, None),
                (408, &[], "", unavailable(None), None),
                (400, &[], "", Outcome::RequestRejected, None),
                (413, &[], "", Outcome::RequestRejected, None),
                (422, &[], "", Outcome::RequestRejected, None),
                (429, &[], "", rate(None), None),
                (429, seconds, "", rate(Some(120)), None),
                (429, later, "", rate(Some(60)), None),
                (429, past, "", rate(Some(0)), None),
                (429, junk, "", rate(None), None),
                (429, negative, "", rate(None), None),
                (429, endless, "", rate(Some(31 * 24 * 60 * 60)), None),
                (503, later, "", unavailable(Some(60)), None),
                (500, &[], "", SERVER_ERROR, None),
                (502, &[], "", SERVER_ERROR, None),
                (504, &[], "", SERVER_ERROR, None),
                (524, &[], "", SERVER_ERROR, None),
                (101, &[], "", BAD_ANSWER, None),
                (999, &[], "", BAD_ANSWER, None),
            ],
        );
    }
}

#[test]
fn postmark_is_understood_when_it_accepts() {
    let inactive = RecipientStatus::Inactive;
    let ok = r#"{"To":"b@example.com","SubmittedAt":"2026-01-01T00:00:00Z",
        "MessageID":"7c2f2a1e-0000-4000-8000-000000000000","ErrorCode":0,"Message":"OK"}"#;
    let delayed = r#"{"To":"b@example.com","MessageID":"7c2f2a1e",
        "Message":"Message accepted, but delivery may be delayed."}"#;
    let partial = r#"{"MessageID":"7c2f2a1e","ErrorCode":0,"Message":"Message OK, but will not
        deliver to these inactive addresses: x@example.com, y@example.com. Inactive recipients are
        ones that have generated a hard bounce or a spam complaint."}"#
        .replace('\n', " ");
    check(
        &Postmark::new(TOKEN).unwrap(),
        &[
            (200, &[], ok, accepted("7c2f2a1e-0000-4000-8000-000000000000"), None),
            (200, &[], delayed, accepted("7c2f2a1e"), None),
            (
                200,
                &[],
                &partial,
                Outcome::Accepted {
                    provider_id: Some("7c2f2a1e".into()),
                    recipients: outcomes(&[
                        ("x@example.com", inactive),
                        ("y@example.com", inactive),
                    ]),
                },
                None,
            ),
            (200, &[], r#"{"ErrorCode":0,"Message":"OK"}"#, BAD_ANSWER, None),
        ],
    );
}

#[test]
fn postmark_is_understood_when_it_refuses() {
    let inactive = RecipientStatus::Inactive;
    let all_inactive =
        r#"{"ErrorCode":406,"Message":"You tried to send to a recipient that has been
        marked as inactive.\nFound inactive addresses: x@example.com.\nInactive recipients are ones
        that have generated a hard bounce, a spam complaint, or a manual suppression."}"#
            .replace("\n ", " ");
    let error =
        |code: u16, message: &str| format!(r#"{{"ErrorCode":{code},"Message":"{message}"}}"#);
    let invalid_to = error(300, "Invalid 'To' address: 'x@example'.");
    let parsing_cc = error(300, "Error parsing 'Cc': Illegal email address 'nobody'.");
    check(
        &Postmark::new(TOKEN).unwrap(),
        &[
            (200, &[], &error(451, "Other"), Outcome::RequestRejected, Some("postmark.451")),
            (
                422,
                &[],
                &all_inactive,
                rejected(&[("x@example.com", inactive)], true),
                Some("postmark.406"),
            ),
            (200, &[], &error(406, "Changed words"), rejected(&[], true), Some("postmark.406")),
            (
                422,
                &[],
                &invalid_to,
                rejected(&[("x@example", RecipientStatus::Invalid)], false),
                Some("postmark.300"),
            ),
            (422, &[], &parsing_cc, rejected(&[], false), Some("postmark.300")),
            (
                422,
                &[],
                &error(300, "Invalid 'From' address: 'x@example.com'."),
                Outcome::RequestRejected,
                Some("postmark.300"),
            ),
            (
                422,
                &[],
                &error(300, "Error parsing 'Reply-To': Illegal email domain 'x'."),
                Outcome::RequestRejected,
                Some("postmark.300"),
            ),
            (401, &[], &error(10, "No token"), Outcome::Misconfigured, Some("postmark.10")),
            (422, &[], &error(400, "No signature"), Outcome::Misconfigured, Some("postmark.400")),
            (422, &[], &error(412, "Pending"), Outcome::Misconfigured, Some("postmark.412")),
            (422, &[], &error(405, "No credits"), quota(None), Some("postmark.405")),
            (422, &[], &error(100, "Maintenance"), unavailable(None), Some("postmark.100")),
            (500, &[], &error(0, "Internal"), SERVER_ERROR, None),
            (503, &[], &error(100, "Maintenance"), unavailable(None), Some("postmark.100")),
        ],
    );
}

#[test]
fn sendgrid_is_understood() {
    let error = |field: &str, message: &str| {
        format!(r#"{{"errors":[{{"message":"{message}","field":{field},"help":null}}]}}"#)
    };
    let id: &[(&str, &str)] = &[("x-message-id", "14c5d75ce93.dfd.64b469")];
    // A minute from now, in seconds since 1970.
    let reset: &[(&str, &str)] = &[("x-ratelimit-reset", "784111837"), ("retry-after", "1")];
    let over: &[(&str, &str)] = &[("x-ratelimit-reset", "784111000")];
    let blocked = "Your account is temporarily blocked for repeated bad requests";
    check(
        &SendGrid::new(TOKEN).unwrap(),
        &[
            (202, id, "", accepted("14c5d75ce93.dfd.64b469"), None),
            (202, &[], "", Outcome::Accepted { provider_id: None, recipients: Vec::new() }, None),
            (200, id, "", accepted("14c5d75ce93.dfd.64b469"), None),
            (202, &[], "<html>", BAD_ANSWER, None),
            (401, &[], &error("null", "Maximum credits exceeded"), quota(None), None),
            (401, &[], &error("null", "authorization required"), Outcome::Misconfigured, None),
            (403, &[], &error("null", blocked), unavailable(None), None),
            (
                403,
                &[],
                &error("\"from\"", "The from address does not match a verified Sender Identity."),
                Outcome::Misconfigured,
                None,
            ),
            (
                400,
                &[],
                &error("\"personalizations.0.to.0.email\"", "Does not contain a valid address."),
                rejected(&[], false),
                None,
            ),
            (
                400,
                &[],
                &error("\"personalizations.0.to\"", "The to array is required."),
                Outcome::RequestRejected,
                None,
            ),
            (400, &[], &error("null", "Bad Request"), Outcome::RequestRejected, None),
            (429, reset, &error("null", "too many requests"), rate(Some(60)), None),
            (429, over, "", rate(Some(0)), None),
        ],
    );
}

#[test]
fn mailgun_is_understood() {
    let message = |message: &str| format!(r#"{{"message":"{message}"}}"#);
    let queued = r#"{"id":"<20260101.1@mg.example.com>","message":"Queued. Thank you."}"#;
    let invalid = |field: &str| {
        message(&format!("'{field}' parameter is not a valid address. please check documentation"))
    };
    check(
        &Mailgun::new("mg.example.com", TOKEN).unwrap(),
        &[
            (200, &[], queued, accepted("20260101.1@mg.example.com"), None),
            (200, &[], "Mailgun Magnificent API", Outcome::Misconfigured, None),
            (200, &[], "\"Mailgun Magnificent API\"\n", Outcome::Misconfigured, None),
            (200, &[], &message("Queued. Thank you."), BAD_ANSWER, None),
            (400, &[], &invalid("to"), rejected(&[], false), None),
            (400, &[], &invalid("from"), Outcome::RequestRejected, None),
            (401, &[], "Forbidden", Outcome::Misconfigured, None),
            (404, &[], &message("Domain not found: mg.example.com"), unavailable(None), None),
            (404, &[], &message("Not Found"), Outcome::Misconfigured, None),
            (500, &[], &message("Internal Server Error"), SERVER_ERROR, None),
        ],
    );
}

#[test]
fn resend_is_understood() {
    let error = |status: u16, name: &str, message: &str| {
        format!(r#"{{"statusCode":{status},"name":"{name}","message":"{message}"}}"#)
    };
    let busy = error(409, "concurrent_idempotent_requests", "Same key.");
    let other = error(409, "invalid_idempotent_request", "Same key, other payload.");
    let fast = error(429, "rate_limit_exceeded", "Too many requests.");
    let daily = error(429, "daily_quota_exceeded", "Daily.");
    let monthly = error(429, "monthly_quota_exceeded", "Monthly.");
    let to = error(422, "validation_error", "Invalid `to` field. The email address is wrong.");
    let from = error(422, "validation_error", "Invalid `from` field.");
    let domain = error(403, "validation_error", "The example.com domain is not verified.");
    let restricted = error(401, "restricted_api_key", "Restricted.");
    let internal = error(500, "internal_server_error", "Oops.");
    let reset: &[(&str, &str)] = &[("ratelimit-reset", "1")];
    let both: &[(&str, &str)] = &[("ratelimit-reset", "1"), ("retry-after", "2")];
    check(
        &Resend::new(TOKEN).unwrap(),
        &[
            (200, &[], r#"{"id":"49a3999c-0ce1"}"#, accepted("49a3999c-0ce1"), None),
            (200, &[], r#"{"id":""}"#, BAD_ANSWER, None),
            (409, &[], &busy, Outcome::KeyBusy, Some("resend.concurrent_idempotent_requests")),
            (409, &[], &other, Outcome::RequestRejected, Some("resend.invalid_idempotent_request")),
            (429, reset, &fast, rate(Some(1)), Some("resend.rate_limit_exceeded")),
            (429, both, &fast, rate(Some(2)), Some("resend.rate_limit_exceeded")),
            (429, both, &daily, quota(None), Some("resend.daily_quota_exceeded")),
            (429, &[], &monthly, quota(None), Some("resend.monthly_quota_exceeded")),
            (422, &[], &to, rejected(&[], false), Some("resend.validation_error")),
            (422, &[], &from, Outcome::RequestRejected, Some("resend.validation_error")),
            (403, &[], &domain, Outcome::Misconfigured, Some("resend.validation_error")),
            (401, &[], &restricted, Outcome::Misconfigured, Some("resend.restricted_api_key")),
            (500, &[], &internal, SERVER_ERROR, Some("resend.internal_server_error")),
        ],
    );
}

#[test]
fn ses_is_understood_by_type_and_words() {
    let message = |message: &str| format!(r#"{{"message":"{message}"}}"#);
    let fast = message("Maximum sending rate exceeded.");
    let daily = message("Daily message quota exceeded.");
    let unverified = message("Email address is not verified. The following identities failed");
    let kind = |kind: &'static str| [("x-amzn-errortype", kind)];
    let throttling = kind("ThrottlingException");
    let suffixed = kind("ThrottlingException:http://internal.amazon.com/coral/com.amazon.coral/");
    let many = kind("TooManyRequestsException");
    let limit = kind("LimitExceededException");
    let rejected = kind("MessageRejected");
    let paused = kind("SendingPausedException");
    let suspended = kind("AccountSuspendedException");
    let domain = kind("MailFromDomainNotVerifiedException:");
    let bad = kind("BadRequestException");
    let signature = kind("InvalidSignatureException");
    let internal = kind("InternalServiceErrorException");
    let capital = r#"{"__type":"com.amazonaws.sesv2#ThrottlingException","Message":"Daily message
        quota exceeded"}"#
        .replace('\n', " ");
    let throttled = Some("ses.ThrottlingException");
    check(
        &ses(),
        &[
            (
                200,
                &[("content-type", "text/html")],
                r#"{"MessageId":"0102"}"#,
                accepted("0102"),
                None,
            ),
            (400, &throttling, &fast, rate(None), throttled),
            (400, &suffixed, &fast, rate(None), throttled),
            (400, &throttling, &daily, quota(None), throttled),
            (400, &[], &capital, quota(None), throttled),
            (429, &many, "", rate(None), Some("ses.TooManyRequestsException")),
            (400, &limit, "", quota(None), Some("ses.LimitExceededException")),
            (400, &rejected, &unverified, Outcome::Misconfigured, Some("ses.MessageRejected")),
            (400, &rejected, "", Outcome::RequestRejected, Some("ses.MessageRejected")),
            (400, &paused, "", Outcome::Misconfigured, Some("ses.SendingPausedException")),
            (400, &suspended, "", Outcome::Misconfigured, Some("ses.AccountSuspendedException")),
            (
                400,
                &domain,
                "",
                Outcome::Misconfigured,
                Some("ses.MailFromDomainNotVerifiedException"),
            ),
            (400, &bad, "", Outcome::RequestRejected, Some("ses.BadRequestException")),
            (403, &signature, "", Outcome::Misconfigured, Some("ses.InvalidSignatureException")),
            (500, &internal, "", SERVER_ERROR, Some("ses.InternalServiceErrorException")),
        ],
    );
}

#[test]
fn rates_are_told_where_a_provider_says_them() {
    let decode = |api: &dyn HttpApi, headers: &[(&str, &str)]| {
        api.decode(&response(429, headers, ""), NOW).rate
    };
    let hint =
        |seconds| RateHint { limit: Some(10), remaining: Some(3), reset_after: wait(seconds) };
    let resend: &[_] =
        &[("ratelimit-limit", "10"), ("ratelimit-remaining", "3"), ("ratelimit-reset", "1")];
    assert_eq!(decode(&Resend::new(TOKEN).unwrap(), resend), Some(hint(Some(1))));
    let epoch: &[_] = &[
        ("x-ratelimit-limit", "10"),
        ("x-ratelimit-remaining", "3"),
        ("x-ratelimit-reset", "784111837"),
    ];
    assert_eq!(decode(&SendGrid::new(TOKEN).unwrap(), epoch), Some(hint(Some(60))));
    assert_eq!(decode(&SendGrid::new(TOKEN).unwrap(), &[]), None);
    assert_eq!(decode(&Postmark::new(TOKEN).unwrap(), epoch), None);
}

#[test]
fn a_code_is_never_what_a_provider_says_in_words() {
    let named = r#"{"name":"no mail to jane@example.com","message":"x"}"#;
    let answer = Resend::new(TOKEN).unwrap().decode(&response(422, &[], named), NOW);
    assert_eq!(answer.code, None);
    let long = format!(r#"{{"name":"{}"}}"#, "n".repeat(65));
    let answer = Resend::new(TOKEN).unwrap().decode(&response(422, &[], &long), NOW);
    assert_eq!(answer.code, None);
}

proptest::proptest! {
    #[test]
    fn no_answer_makes_a_decoder_panic(
        status in 0_u16..1_000,
        name in "(retry-after|x-ratelimit-reset|ratelimit-reset|x-amzn-errortype|x-message-id)",
        value in "\\PC{0,40}",
        body in proptest::prelude::any::<Vec<u8>>(),
        now in proptest::prelude::any::<i64>(),
    ) {
        for api in apis() {
            let headers = vec![(name.clone(), value.clone())];
            let response = HttpResponse { status, headers, body: body.clone() };
            let answer = api.decode(&response, Timestamp(now));
            proptest::prop_assert_eq!(answer.http_status, Some(status));
        }
    }

    #[test]
    fn no_words_of_an_answer_make_a_decoder_panic(
        message in "(Invalid '|inactive addresses:|Error parsing|'to'|,|\\.|'|@|`|é|a){0,12}",
        code in 0..500,
    ) {
        let body = serde_json::json!({
            "ErrorCode": code, "MessageID": "1", "Message": message, "message": message,
            "errors": [{"message": message, "field": message}],
        });
        for api in apis() {
            for status in [200, 400, 401, 404, 422] {
                let _decoded = api.decode(&response(status, &[], &body.to_string()), NOW);
            }
        }
    }
}

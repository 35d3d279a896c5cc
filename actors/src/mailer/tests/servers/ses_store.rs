//! SES with a server that shows all of a mail.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::*;
use crate::mailer::provider::{HttpProvider, MailProvider as _, Outcome, Ses, SesCredentials};

#[tokio::test]
async fn a_server_has_the_mail_as_it_was_written() {
    let Some([url]) = settings(["STEADFAST_TEST_SES_STORE"]) else { return };
    let api = Ses::new("us-east-1", SesCredentials::new("key", "secret").unwrap()).unwrap();
    let api = api.base_url(&url).unwrap();
    let provider = HttpProvider::new(api, HttpTransport::new().unwrap());
    let mail = rich().build().unwrap();
    let request = provider.encode(MailId::fresh(), &mail).unwrap();
    let answer = provider.send(&request, Duration::from_secs(30)).await.unwrap();
    let Outcome::Accepted { provider_id: Some(id), .. } = answer.outcome else {
        panic!("{answer:?}");
    };
    let store = shown(&format!("{url}/store")).await;
    let emails = store["emails"].as_array().unwrap();
    let kept = emails.iter().find(|email| email["messageId"] == *id).unwrap();
    assert_eq!(kept["subject"], "Grüße, №1");
    assert_eq!(kept["body"]["text"], mail.text().unwrap());
    assert_eq!(kept["body"]["html"], mail.html().unwrap());
    let jane = r#""Doe, Jane" <jane@example.com>"#;
    let destination = &kept["destination"];
    assert_eq!(destination["to"][0], jane);
    assert_eq!(destination["to"].as_array().unwrap().len(), 2);
    assert_eq!(destination["cc"], json!(["copy@example.com"]));
    assert_eq!(destination["bcc"], json!(["hidden@example.net"]));
    let files = kept["attachments"].as_array().unwrap();
    let bytes = |file: &Value| STANDARD.decode(file["content"].as_str().unwrap()).unwrap();
    let [report, logo] = &files[..] else { panic!("{files:?}") };
    assert_eq!(bytes(report), b"%PDF\x00\xff");
    assert_eq!(
        (&report["filename"], &report["contentType"]),
        (&json!("repört.pdf"), &json!("application/pdf"))
    );
    assert_eq!(bytes(logo), b"\x89PNG\r\n");
    assert_eq!((&logo["filename"], &logo["contentId"]), (&json!("logo.png"), &json!("logo@shop")));
    assert_eq!(
        (&report["contentDisposition"], &logo["contentDisposition"]),
        (&json!("ATTACHMENT"), &json!("INLINE"))
    );
    let headers = kept["headers"].as_array().unwrap();
    assert!(
        headers.contains(&json!({"name": "X-Metadata", "value": r#"{"order":"7"}"#})),
        "{headers:?}"
    );
}

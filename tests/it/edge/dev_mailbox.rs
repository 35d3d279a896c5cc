//! Mails in a browser: all of them, and nothing of them that does anything.

use std::sync::LazyLock;
use std::time::Duration;

use actix_web::web::ServiceConfig;
use serde_json::Value;
use steadfast::edge::dev_mailbox;
use steadfast::mailer::provider::{DevMailbox, MailProvider};
use steadfast::mailer::{
    Attachment, EmailAddress, HeaderName, HeaderText, Mail, MailBuilder, MailId, Mailbox,
};

use super::support::{Answer, Request, Served};

const SCRIPT: &str = "<script>alert(1)</script>\"'&";

/// Each test has a mailbox of its own, as the routes of a server are a plain function.
macro_rules! mailbox {
    ($mailbox:ident, $routes:ident) => {
        static $mailbox: LazyLock<DevMailbox> = LazyLock::new(DevMailbox::new);

        fn $routes(app: &mut ServiceConfig) {
            app.configure(dev_mailbox($mailbox.clone()));
        }
    };
}

fn text(text: &str) -> HeaderText {
    HeaderText::new(text).unwrap()
}

fn named(name: &str, address: &str) -> Mailbox {
    Mailbox::named(name, EmailAddress::parse(address).unwrap()).unwrap()
}

fn plain(subject: &str) -> MailBuilder {
    Mail::builder(named("Shop", "shop@example.com"), [named("Jane", "jane@example.com")])
        .subject(text(subject))
        .text("Hello")
}

async fn send(mailbox: &DevMailbox, mail: &Mail) -> MailId {
    let id = MailId::fresh();
    let request = mailbox.encode(id, mail).unwrap();
    mailbox.send(&request, Duration::from_secs(1)).await.unwrap();
    id
}

fn page(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("content-type"), "text/html; charset=utf-8");
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    String::from_utf8(answer.body.clone()).unwrap()
}

fn json(path: &str) -> Request {
    Request::get(path).header("accept", "application/json")
}

mailbox!(LISTED, listed);

#[tokio::test]
async fn the_newest_mails_are_listed_first_and_no_more_than_the_limit() {
    let server = Served::start(listed);
    let empty = server.ask(json("/dev/mailbox")).await;
    assert_eq!((empty.status, empty.json()), (200, Value::Array(Vec::new())));
    for number in 0..201 {
        send(&LISTED, &plain(&format!("Order {number}.")).build().unwrap()).await;
    }
    let html = page(&server.ask(Request::get("/dev/mailbox")).await);
    assert!(html.contains("200 of 201 mails"), "{html}");
    assert!(html.find("Order 200.").unwrap() < html.find("Order 199.").unwrap());
    assert!(html.contains("Order 1.") && !html.contains("Order 0."));
    let list = server.ask(json("/dev/mailbox")).await;
    assert_eq!(list.header("vary"), "accept");
    let list = list.json();
    assert_eq!(list.as_array().unwrap().len(), 200);
    assert_eq!(list[0]["subject"], "Order 200.");
    assert_eq!(list[0]["to"][0], "Jane <jane@example.com>");
    assert_eq!(list[0].get("text"), None);
}

mailbox!(EVIL, evil);

#[tokio::test]
async fn whatever_is_in_a_mail_is_shown_and_does_nothing() {
    let server = Served::start(evil);
    let name = "<img src=x onerror=alert(1)>\u{202e}.html";
    let file = Attachment::new(name, "text/html", *b"<script>alert(2)</script>").unwrap();
    let mail = plain(SCRIPT)
        .cc(named(SCRIPT, "copy@example.com"))
        .header(HeaderName::new("X-Order").unwrap(), text(SCRIPT))
        .metadata("order", "<b>7</b>")
        .text(SCRIPT)
        .html("<p onclick=alert(3)>Hello<script>alert(4)</script></p>")
        .attach(file)
        .build()
        .unwrap();
    let id = send(&EVIL, &mail).await;
    for path in ["/dev/mailbox".to_owned(), format!("/dev/mailbox/{id}")] {
        let answer = server.ask(Request::get(&path)).await;
        let html = page(&answer);
        for alive in ["<script", "<img", "<b>7", "onclick", "alert(4)"] {
            assert!(!html.contains(alive), "{alive} in {html}");
        }
        assert!(html.contains("&lt;script&gt;alert(1)"), "{html}");
        let policy = answer.header("content-security-policy");
        assert!(policy.contains("default-src 'none'") && !policy.contains("script-src"));
    }
    let html = page(&server.ask(Request::get(&format!("/dev/mailbox/{id}"))).await);
    let html = html.replace("&#x2f;", "/");
    let frame = format!(
        "<iframe sandbox=\"\" referrerpolicy=\"no-referrer\" title=\"HTML\" src=\"/dev/mailbox/{id}/html\">"
    );
    assert!(html.contains(&frame), "{html}");

    // The HTML is as it was sent: it is the policy that holds it.
    let answer = server.ask(Request::get(&format!("/dev/mailbox/{id}/html"))).await;
    assert_eq!(page(&answer), mail.html().unwrap());
    let policy = answer.header("content-security-policy");
    assert!(policy.starts_with("sandbox; default-src 'none';"), "{policy}");
    assert!(!policy.contains("allow-") && !policy.contains("script-src"), "{policy}");

    let answer = server.ask(Request::get(&format!("/dev/mailbox/{id}/attachments/0"))).await;
    assert_eq!((answer.status, &answer.body[..]), (200, b"<script>alert(2)</script>".as_slice()));
    assert_eq!(answer.header("content-type"), "application/octet-stream");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    let disposition = answer.header("content-disposition");
    assert!(
        disposition.starts_with("attachment; filename=\"_img src_x onerror_alert_1___.html\";")
    );
    assert!(disposition.ends_with("%3E%E2%80%AE.html"), "{disposition}");
}

mailbox!(WHOLE, whole);

#[tokio::test]
async fn a_mail_is_whole_in_json_and_shows_the_pictures_that_it_carries() {
    let server = Served::start(whole);
    let picture = |name: &str| Attachment::new(name, "image/png", name.as_bytes()).unwrap();
    let mail = plain("Hi")
        .bcc(named("Zoë", "hidden@example.net"))
        .html("<img src=\"cid:logo\"><img src=\"cid:logo2\">")
        .attach(picture("a.png").inline("logo").unwrap())
        .attach(picture("b.png").inline("logo2").unwrap())
        .tag("welcome")
        .metadata("order", "7")
        .build()
        .unwrap();
    let id = send(&WHOLE, &mail).await;
    let shown = server.ask(json(&format!("/dev/mailbox/{id}"))).await.json();
    assert_eq!(shown["id"], id.to_string());
    assert_eq!(shown["recipients"][2], serde_json::json!(["Bcc", ["Zoë <hidden@example.net>"]]));
    assert_eq!((&shown["text"], &shown["tag"]), (&"Hello".into(), &"welcome".into()));
    assert_eq!(shown["metadata"][0], serde_json::json!(["order", "7"]));
    assert_eq!(shown["attachments"][1]["content_id"], "logo2");
    assert_eq!(shown["html"], mail.html().unwrap());
    for number in 0..2 {
        let path = format!("/dev/mailbox/{id}/attachments/{number}");
        assert_eq!(shown["attachments"][number]["href"], path);
        let answer = server.ask(Request::get(&path)).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, "image/png"));
    }
    let html = page(&server.ask(Request::get(&format!("/dev/mailbox/{id}/html"))).await);
    let place = format!("/dev/mailbox/{id}/attachments");
    assert_eq!(html, format!("<img src=\"{place}/0\"><img src=\"{place}/1\">"));
}

mailbox!(LOST, lost);

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let server = Served::start(lost);
    let id = send(&LOST, &plain("Hi").build().unwrap()).await;
    let other = MailId::fresh();
    for path in [
        format!("/{other}"),
        "/nonsense".into(),
        format!("/{other}/html"),
        format!("/{id}/html"),
        format!("/{id}/attachments/0"),
        format!("/{id}/attachments/-1"),
        format!("/{id}/attachments/99999999999999999999999"),
        format!("/{id}/attachments/..%2f..%2fetc%2fpasswd"),
    ] {
        let answer = server.ask(Request::get(&format!("/dev/mailbox{path}"))).await;
        answer.expect(404, "http.not_found");
    }
    let answer = server.ask(Request::new("DELETE", &format!("/dev/mailbox/{id}"))).await;
    assert_eq!(answer.status, 405);
    let head = server.ask(Request::new("HEAD", &format!("/dev/mailbox/{id}"))).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
}

//! Bodies that are kept as they came, by an extractor and by the inbox.

use std::sync::OnceLock;
use std::time::Duration;

use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::value::RawValue;
use steadfast::edge::{RawJson, receive};
use steadfast::inbox::{Envelope, Inbox, JsonLimits, Source};
use steadfast::jobs::Jobs;
use steadfast::kernel::Tree;
use steadfast::problem::Problem;
use steadfast::store::{SqliteOptions, SqliteStore, Store};

use super::support::{Request, Served};

static INBOX: OnceLock<Inbox> = OnceLock::new();

fn routes(app: &mut ServiceConfig) {
    app.app_data(JsonLimits::default().bytes(64).depth(3).tokens(8));
    app.route("/raw", web::post().to(raw)).route("/hooks/{source}", web::post().to(hook));
}

#[derive(serde::Deserialize)]
struct Note<'a> {
    #[serde(borrow)]
    data: &'a RawValue,
}

async fn raw(RawJson(body): RawJson) -> Result<Vec<u8>, Problem> {
    let note: Note<'_> = body.decode()?;
    Ok(body.slice_of(note.data).to_vec())
}

async fn hook(
    source: web::Path<String>,
    request: HttpRequest,
    body: web::Payload,
) -> Result<HttpResponse, Problem> {
    let inbox = INBOX.get().expect("the test has started it");
    receive(inbox, &source, &request, body).await?;
    Ok(HttpResponse::Accepted().finish())
}

#[tokio::test]
async fn raw_json_gives_the_handler_the_bytes_as_they_came() {
    let server = Served::start(routes);
    let post = Request::new("POST", "/raw");
    let answer = server.ask(post.body("text/plain", r#"{"data": { "n":1E400, "n" : 2 } }"#)).await;
    assert_eq!((answer.status, &answer.body[..]), (200, br#"{ "n":1E400, "n" : 2 }"#.as_slice()));
}

#[tokio::test]
async fn raw_json_refuses_what_is_too_much_before_it_is_read() {
    let server = Served::start(routes);
    for (body, status, code) in [
        (format!("{{\"data\":\"{}\"}}", "x".repeat(54)), 413, "body.too_large"),
        (r#"{"data":[[[]]]}"#.into(), 422, "json.too_deep"),
        (r#"{"data":[1,2,3,4,5,6]}"#.into(), 422, "json.too_many_tokens"),
        (r#"{"data":1,"d\u0061ta":2}"#.into(), 422, "json.duplicate_name"),
        (r#"{"data":1"#.into(), 400, "json.syntax"),
        (r#"{"else":1}"#.into(), 422, "json.invalid"),
    ] {
        let answer = server.ask(Request::new("POST", "/raw").json(&body)).await;
        answer.expect(status, code);
    }
    for fits in [format!("{{\"data\":\"{}\"}}", "x".repeat(53)), r#"{"data":[1,2,3,4,5]}"#.into()] {
        assert_eq!(server.ask(Request::new("POST", "/raw").json(&fits)).await.status, 200);
    }
    let packed = Request::new("POST", "/raw").header("content-encoding", "gzip").json("{}");
    server.ask(packed).await.expect(415, "body.unsupported_encoding");
    let (answer, sent) =
        server.connect().await.ask_without_end(&Request::new("POST", "/raw")).await;
    answer.expect(413, "body.too_large");
    assert!(sent < 64 << 20, "{sent} bytes were sent");
}

#[actix_web::test]
async fn a_delivery_is_answered_by_what_became_of_it() {
    let store = Store::from(SqliteStore::open(SqliteOptions::memory()).await.unwrap());
    let tree = Tree::new();
    let inbox = Inbox::builder(&store)
        .source(Source::unverified("shop", Envelope::common()).body_max(1024))
        .source(Source::github("github", ["It's a Secret to Everybody"]).unwrap());
    let (inbox, jobs) = inbox.register(Jobs::builder(&store)).unwrap();
    let jobs = jobs.start(&tree).await.unwrap();
    let inbox = INBOX.get_or_init(|| inbox.start(&tree, &jobs));
    let server = Served::start(routes);
    let post = |source: &str| Request::new("POST", &format!("/hooks/{source}"));

    let event = r#"{"id":"e1","type":"paid", "x":1E400}"#;
    for _ in 0..2 {
        let answer = server.ask(post("shop").body("text/plain", event)).await;
        assert_eq!(answer.status, 202, "new, and again");
    }
    let id = inbox.find_by_event_id("shop", "e1").await.unwrap().expect("it is stored");
    assert_eq!(inbox.raw(id).await.unwrap().as_deref(), Some(event.as_bytes()));

    let signed = |tag: &str| {
        let post = post("github").header("x-github-event", "push").header("x-github-delivery", "d");
        post.header("x-hub-signature-256", &format!("sha256={tag}"))
            .body("text/plain", "Hello, World!")
    };
    let tag = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    assert_eq!(server.ask(signed(tag)).await.status, 202, "verified, and no JSON");
    let forged = server.ask(signed(&tag.replace('7', "8"))).await.expect(401, "inbox.unverified");
    assert_eq!(forged.get("detail"), None, "no word of why");
    server.ask(post("github").json("{}")).await.expect(401, "inbox.unverified");
    server.ask(post("nobody").json("{}")).await.expect(404, "inbox.unknown_source");

    let fits = format!("{:<1024}", r#"{"id":"e2","type":"paid"}"#);
    assert_eq!(server.ask(post("shop").json(&fits)).await.status, 202);
    server.ask(post("shop").json(&(fits + " "))).await.expect(413, "inbox.too_large");
    let (answer, sent) = server.connect().await.ask_without_end(&post("shop")).await;
    answer.expect(413, "inbox.too_large");
    assert!(sent < 64 << 20, "{sent} bytes were sent");
    assert_eq!(inbox.counts().sources["shop"].too_large, 2);

    store.close().await;
    server.ask(post("shop").json(event)).await.expect(503, "store.closed");
    drop(server);
    jobs.drain(Duration::ZERO).await;
    tree.stop(Duration::from_secs(1)).await;
}

//! Each error a client can make or meet, as a problem document.

use actix_web::error::{ErrorBadRequest, ErrorInternalServerError, InternalError};
use actix_web::middleware::from_fn;
use actix_web::web::{self, ServiceConfig};
use actix_web::{Error, HttpResponse, get, http::StatusCode, post};
use serde::Deserialize;
use std::time::Duration;
use steadfast::edge::{Edge, Json, JsonLimit, Normalise};
use steadfast::kernel::{CallError, Code, Refused, Stopped};
use steadfast::problem::Problem;

use super::support::{Request, Served};

#[derive(Debug, Deserialize)]
struct SecretType {
    name: String,
    count: u32,
}

impl SecretType {
    fn answer(&self) -> String {
        format!("{} {}", self.name, self.count)
    }
}

#[get("/item/{id}")]
async fn item(id: web::Path<u32>) -> String {
    format!("item {id}")
}

#[get("/macro")]
async fn macro_get() -> &'static str {
    "got"
}

#[post("/macro")]
async fn macro_post() -> HttpResponse {
    HttpResponse::NotFound().finish()
}

#[get("")]
async fn scope_root() -> &'static str {
    "root"
}

async fn status(status: web::Path<u16>) -> HttpResponse {
    HttpResponse::build(StatusCode::from_u16(*status).unwrap())
        .insert_header(("www-authenticate", "Bearer"))
        .insert_header(("access-control-allow-origin", "*"))
        .append_header(("set-cookie", "a=1"))
        .finish()
}

async fn call(kind: web::Path<String>) -> Result<String, Problem> {
    Err(match kind.as_str() {
        "overloaded" => CallError::Overloaded.into(),
        "expired" => CallError::Expired.into(),
        "quarantined" => {
            let retry_after = Duration::from_millis(2_001);
            CallError::Quarantined { retry_after }.into()
        }
        "panicked" => CallError::Panicked { message: "boom SELECT".into(), generation: 3 }.into(),
        "refused" => Refused::Stopped.into(),
        "deadline" => Stopped::Deadline.into(),
        "mailbox" => actix::MailboxError::Closed.into(),
        _ => Problem::new(Code::new("shop.closed"), StatusCode::CONFLICT, "Shop closed")
            .with_detail("comes back at nine")
            .with("opens_at", 9)
            .caused_by("SELECT boom FROM secrets"),
    })
}

fn routes(app: &mut ServiceConfig) {
    let query = |query: web::Query<SecretType>| async move { query.answer() };
    let stock = |body: web::Json<SecretType>| async move { body.answer() };
    let own = |body: Json<SecretType>| async move { body.answer() };
    let form = |body: web::Form<SecretType>| async move { body.answer() };
    let bytes = |body: web::Bytes| async move { body.len().to_string() };
    let small = web::PayloadConfig::new(8);
    app.service(item)
        .service(macro_get)
        .service(macro_post)
        .service(web::scope("/scope").service(scope_root).route("/deep", web::put().to(scope_deep)))
        .service(web::resource("/resource").get(scope_deep).put(scope_deep))
        .route("/repeated", web::get().to(scope_deep))
        .route("/repeated", web::delete().to(scope_deep))
        .route("/query", web::get().to(query))
        .service(web::resource("/stock").app_data(web::JsonConfig::default().limit(64)).post(stock))
        .service(web::resource("/own").app_data(JsonLimit::bytes(64)).post(own))
        .service(web::resource("/form").app_data(web::FormConfig::default().limit(64)).post(form))
        .service(web::resource("/bytes").app_data(small).post(bytes))
        .route("/status/{status}", web::get().to(status))
        .route("/call/{kind}", web::get().to(call))
        .route("/sql", web::get().to(sql))
        .route("/literal", web::get().to(literal))
        .route("/rendered", web::get().to(rendered))
        .route("/written", web::get().to(written))
        .route("/block", web::get().to(block))
        .service(web::scope("/inside").wrap(from_fn(refuse)).route("", web::get().to(scope_deep)));
}

async fn scope_deep() -> &'static str {
    "deep"
}

async fn sql() -> Result<String, Error> {
    Err(ErrorInternalServerError("SELECT boom FROM shop::orders".to_owned()))
}

async fn literal() -> Result<String, Error> {
    Err(ErrorBadRequest("a name has at most 80 letters"))
}

async fn rendered() -> Result<String, Error> {
    let json = HttpResponse::Conflict().json(serde_json::json!({ "mine": true }));
    Err(InternalError::from_response("taken", json).into())
}

async fn written() -> HttpResponse {
    HttpResponse::ServiceUnavailable().content_type("text/plain").body("[-]db failed\n")
}

#[expect(clippy::panic, reason = "the panic that is looked for")]
async fn block() -> Result<String, Error> {
    Ok(web::block(|| -> String { panic!("boom in the pool") }).await?)
}

async fn refuse(
    _: actix_web::dev::ServiceRequest,
    _: actix_web::middleware::Next<impl actix_web::body::MessageBody>,
) -> Result<actix_web::dev::ServiceResponse<actix_web::body::BoxBody>, Error> {
    let mut response = HttpResponse::Unauthorized();
    let response = response.insert_header(("www-authenticate", "Bearer realm=x")).body("SELECT");
    Err(InternalError::from_response("boom".to_owned(), response).into())
}

#[tokio::test]
async fn every_mistake_of_a_client_has_its_status_and_code() {
    let server = Served::start(routes);
    let long = format!(r#"{{"name":"{}","count":1}}"#, "x".repeat(64));
    let post = |path: &str| Request::new("POST", path);
    for (request, status, code) in [
        (Request::get("/nowhere"), 404, "route.not_found"),
        (Request::get("/item/1/2"), 404, "route.not_found"),
        (Request::get("/scope/nowhere"), 404, "route.not_found"),
        (Request::get("/item/abc"), 404, "path.invalid"),
        (Request::get("/item/-1"), 404, "path.invalid"),
        (Request::get("/query?name=a&count=x"), 400, "query.invalid"),
        (Request::get("/query"), 400, "query.invalid"),
        (post("/stock").body("text/plain", "{}"), 415, "body.unsupported_type"),
        (post("/stock").json("{"), 400, "json.syntax"),
        (post("/stock").json(r#"{"name":1}"#), 422, "json.invalid"),
        (post("/stock").json(&long), 413, "body.too_large"),
        (post("/own").body("text/plain", "{}"), 415, "body.unsupported_type"),
        (post("/own"), 415, "body.unsupported_type"),
        (
            post("/own").header("content-encoding", "gzip").json("{}"),
            415,
            "body.unsupported_encoding",
        ),
        (post("/own").json(""), 400, "json.syntax"),
        (post("/own").json(r#"{"name":"a","count":1} x"#), 400, "json.syntax"),
        (post("/own").json(r#"{"name":"a","count":"1"}"#), 422, "json.invalid"),
        (post("/own").json(&long), 413, "body.too_large"),
        (post("/form").body("text/plain", "a=b"), 415, "body.unsupported_type"),
        (post("/form").body("application/x-www-form-urlencoded", "name=a"), 422, "form.invalid"),
        (post("/form").body("application/x-www-form-urlencoded", &long), 413, "body.too_large"),
        (post("/bytes").body("text/plain", "123456789"), 413, "body.too_large"),
    ] {
        let answer = server.ask(request.clone()).await;
        assert_eq!(answer.status, status, "for {request:?}: {answer:?}");
        answer.expect(status, code);
    }
    let fits = post("/own").json(&format!(r#"{{"name":"{}","count":1}}"#, "x".repeat(41)));
    assert_eq!(server.ask(fits).await.status, 200, "64 bytes are within the limit");
}

#[tokio::test]
async fn a_wrong_member_is_named_by_its_pointer() {
    let server = Served::start(routes);
    let request = Request::new("POST", "/own").json(r#"{"name":"a","count":-7}"#);
    let problem = server.ask(request).await.expect(422, "json.invalid");
    assert_eq!(problem["errors"][0]["pointer"], "/count");
    assert_eq!(problem["errors"][0]["code"], "value");
    let broken = Request::new("POST", "/own").json("{\n  \"name\": oops }");
    let problem = server.ask(broken).await.expect(400, "json.syntax");
    assert_eq!((&problem["line"], &problem["column"]), (&2.into(), &11.into()));
}

#[tokio::test]
async fn a_wrong_method_is_told_which_are_right() {
    let server = Served::start(routes);
    for (method, path, allowed) in [
        ("DELETE", "/macro", "GET, POST"),
        ("POST", "/item/1", "GET"),
        ("GET", "/scope/deep", "PUT"),
        ("POST", "/scope", "GET"),
        ("POST", "/resource", "GET, PUT"),
        ("PUT", "/repeated", "DELETE, GET"),
        ("OPTIONS", "/macro", "GET, POST"),
    ] {
        let answer = server.ask(Request::new(method, path)).await;
        let mut methods: Vec<&str> = answer.header("allow").split(", ").collect();
        methods.sort_unstable();
        assert_eq!(methods.join(", "), allowed, "{method} {path}: {answer:?}");
        answer.expect(405, "route.method_not_allowed");
    }
}

#[tokio::test]
async fn a_handlers_own_404_is_not_taken_for_a_missing_route() {
    let server = Served::start(routes);
    let answer = server.ask(Request::new("POST", "/macro")).await;
    answer.expect(404, "http.not_found");
    assert_eq!(answer.header("allow"), "");
    server.ask(Request::get("/status/404")).await.expect(404, "http.not_found");
}

#[tokio::test]
async fn an_empty_error_is_filled_and_keeps_its_headers() {
    let server = Served::start(routes);
    for (status, code) in [
        (401, "http.unauthorized"),
        (403, "http.forbidden"),
        (409, "http.conflict"),
        (418, "http.client_error"),
        (429, "http.too_many_requests"),
        (500, "http.internal_server_error"),
        (503, "http.service_unavailable"),
        (599, "http.server_error"),
    ] {
        let answer = server.ask(Request::get(&format!("/status/{status}"))).await;
        answer.expect(status, code);
        assert_eq!(answer.header("www-authenticate"), "Bearer");
        assert_eq!(answer.header("access-control-allow-origin"), "*");
        assert_eq!(answer.header("set-cookie"), "a=1");
    }
    for status in [200, 204, 304] {
        let answer = server.ask(Request::get(&format!("/status/{status}"))).await;
        assert_eq!((answer.status, answer.body.len()), (status, 0));
        assert_ne!(answer.header("x-request-id"), "");
    }
}

#[tokio::test]
async fn faults_of_actors_have_their_status_wait_and_retry_contract() {
    let server = Served::start(routes);
    for (kind, status, code, retryable, wait) in [
        ("overloaded", 503, "actor.overloaded", Some(true), "1"),
        ("expired", 503, "actor.expired", Some(true), "1"),
        ("quarantined", 503, "actor.quarantined", Some(true), "3"),
        ("panicked", 500, "actor.panicked", Some(false), ""),
        ("refused", 503, "actor.stopped", Some(true), "1"),
        ("deadline", 504, "request.deadline_exceeded", None, ""),
        ("mailbox", 503, "actor.stopped", Some(true), "1"),
    ] {
        let answer = server.ask(Request::get(&format!("/call/{kind}"))).await;
        let problem = answer.expect(status, code);
        assert_eq!(problem["retryable"].as_bool(), retryable, "{kind}");
        assert_eq!(answer.header("retry-after"), wait, "{kind}");
    }
}

#[tokio::test]
async fn an_applications_own_problem_says_what_it_was_given() {
    let server = Served::start(routes);
    let request = Request::get("/call/closed").header("x-request-id", "own");
    let problem = server.ask(request).await.expect(409, "shop.closed");
    assert_eq!(problem["detail"], "comes back at nine");
    assert_eq!(problem["opens_at"], 9);
    let log = server.log();
    let told = log.iter().find(|line| line["message"] == "http.refused").unwrap();
    let reason = told["fields"]["reason"].as_str().unwrap();
    assert!(reason.contains("SELECT boom"), "the source is for the log: {told}");
    assert_eq!(told["request_id"], "own");
}

#[tokio::test]
async fn an_unknown_errors_text_is_for_the_log_only() {
    let server = Served::start(routes);
    server.ask(Request::get("/sql")).await.expect(500, "http.internal_server_error");
    let told = server.log().into_iter().find(|line| line["message"] == "http.failed").unwrap();
    assert!(told["fields"]["reason"].as_str().unwrap().contains("SELECT boom"), "{told}");
    server.ask(Request::get("/block")).await.expect(500, "internal.panic");
}

#[tokio::test]
async fn a_text_that_stands_in_the_program_is_the_detail_of_a_4xx() {
    let server = Served::start(routes);
    let problem = server.ask(Request::get("/literal")).await.expect(400, "http.bad_request");
    assert_eq!(problem["detail"], "a name has at most 80 letters");
}

#[tokio::test]
async fn what_somebody_wrote_on_purpose_is_left_alone() {
    let server = Served::start(routes);
    let answer = server.ask(Request::get("/rendered")).await;
    assert_eq!((answer.status, answer.json()), (409, serde_json::json!({ "mine": true })));
    let answer = server.ask(Request::get("/written")).await;
    assert_eq!((answer.status, &answer.body[..]), (503, &b"[-]db failed\n"[..]));
    assert_ne!(answer.header("x-request-id"), "");
}

#[tokio::test]
async fn an_error_of_an_inner_middleware_has_the_id_and_keeps_its_headers() {
    let server = Served::start(routes);
    let request = Request::get("/inside").header("x-request-id", "in-7");
    let answer = server.ask(request).await;
    answer.expect(401, "http.unauthorized");
    assert_eq!(answer.header("x-request-id"), "in-7");
    assert_eq!(answer.header("www-authenticate"), "Bearer realm=x");
    assert_eq!(server.record("in-7").await["fields"]["status"], 401);
}

#[tokio::test]
async fn text_is_for_those_who_accept_nothing_else() {
    let server = Served::start(routes);
    for path in ["/nowhere", "/item/x", "/call/expired", "/sql", "/inside"] {
        let answer = server.ask(Request::get(path).header("accept", "text/plain")).await;
        assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8", "{path}");
        let text = String::from_utf8(answer.body.clone()).unwrap();
        assert!(
            text.contains("\ncode: ") && text.contains(answer.header("x-request-id")),
            "{text}"
        );
        answer.expect_no_leak();
    }
}

#[tokio::test]
async fn head_keeps_the_headers_and_has_no_body() {
    let server = Served::start(routes);
    let mut wire = server.connect().await;
    let answer = wire.ask(Request::new("HEAD", "/nowhere")).await.unwrap();
    assert_eq!((answer.status, answer.header("content-type")), (404, "application/problem+json"));
    assert_ne!(answer.header("x-request-id"), "");
    let next = wire.ask(Request::get("/macro")).await.unwrap();
    assert_eq!((next.status, &next.body[..]), (200, &b"got"[..]), "no byte of a body came before");
}

#[tokio::test]
async fn an_application_can_say_what_foreign_errors_mean_and_where_types_live() {
    let normalise = Normalise::new().type_base("https://example.org/errors/").map(|error| {
        let conflict = error.to_string().contains("SELECT");
        conflict.then(|| Problem::new(Code::new("shop.sold"), StatusCode::GONE, "Sold out"))
    });
    let server = Served::with(Edge::new().normalise(normalise), routes);
    let answer = server.ask(Request::get("/sql")).await;
    assert_eq!((answer.status, &answer.json()["code"]), (410, &"shop.sold".into()));
    assert_eq!(answer.json()["type"], "https://example.org/errors/shop.sold");
    answer.expect_no_leak();
}
